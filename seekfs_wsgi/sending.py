"""The way of a streamed body to the client.

Under gunicorn, on a plain socket, pieces go from the page they lie in straight into the socket:
``write = start_response(...)``, ``write(b"")`` for the head, then ``sendall`` on ``gunicorn.socket``.
WSGI's own way wants ``bytes``, one copy more of every page. Every other server gets that.

An answer that has begun can only be cut off: whoever makes the pieces raises ``Disconnected``, whose errno
makes gunicorn close the connection without a word, and without the last chunk of a chunked body. So a client
sees a short read, and never a kept-alive connection that is out of step.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from seekfs_wsgi.problems import Headers

Piece = memoryview | bytes
Write = Callable[[bytes], object]


class Disconnected(ConnectionResetError):
    """The connection is to be closed now: the client has gone, or its answer cannot be gone on with."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ECONNRESET, reason)


class CutOff(Disconnected):
    """The daemon itself ends the connection; whoever knows the request tells the log the ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StreamedBody:
    """A WSGI iterable for servers whose socket is not at hand. ``finish`` is called once, at the end."""

    __slots__ = ("_finish", "_pieces")

    def __init__(self, pieces: Iterator[Piece], finish: Callable[[], None]) -> None:
        self._pieces = pieces
        self._finish = finish

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return bytes(next(self._pieces))

    def close(self) -> None:
        self._finish()


def deliver(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: str,
    headers: Headers,
    pieces: Iterator[Piece],
    finish: Callable[[], None],
) -> StreamedBody | tuple[()]:
    """Begin the answer and send ``pieces``, here or when the server asks. ``finish`` is always called."""
    is_left_to_server = False
    try:
        write = start_response(status, headers)
        connection = plain_socket(environ)
        if connection is not None:
            framing = _framing(write, headers)
            if framing is not None:
                write(b"")
                framing(connection, pieces)
                return ()
        is_left_to_server = True
        return StreamedBody(pieces, finish)
    finally:
        if not is_left_to_server:
            finish()


def plain_socket(environ: WSGIEnvironment) -> socket.socket | None:
    """The socket of the client where the server hands it out and bytes on it are bytes of HTTP/1."""
    connection = environ.get("gunicorn.socket")
    if isinstance(connection, socket.socket) and not isinstance(connection, ssl.SSLSocket):
        return connection
    return None


def _framing(write: Write, headers: Headers) -> Callable[[socket.socket, Iterator[Piece]], None] | None:
    """How the body is framed on the wire, or None where that is not certain."""
    if any(name == "Content-Length" for name, _ in headers):
        return _send_plain
    # gunicorn decides on chunks when it sees the headers, and ends them itself when the body has ended.
    chunked = getattr(getattr(write, "__self__", None), "chunked", None)
    return _send_chunked if chunked is True else None


def _send_plain(connection: socket.socket, pieces: Iterator[Piece]) -> None:
    for piece in pieces:
        connection.sendall(piece)


def _send_chunked(connection: socket.socket, pieces: Iterator[Piece]) -> None:
    # A chunk's closing CRLF goes out with the size of the next: two system calls a chunk, no copy.
    crlf = b""
    for piece in pieces:
        connection.sendall(b"%s%X\r\n" % (crlf, len(piece)))
        connection.sendall(piece)
        crlf = b"\r\n"
    if crlf:
        connection.sendall(crlf)
