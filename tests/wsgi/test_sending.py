"""seekfs_wsgi.sending: the same bytes on a socket, in chunks, and as WSGI has it; one end, told once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from seekfs_wsgi.sending import Disconnected, StreamedBody, deliver

PIECES = [b"head", b"x" * 100_000, b"tail"]


class Server:
    """As much of a server's start_response as ``deliver`` meets; ``chunked`` is gunicorn's."""

    def __init__(self, *, chunked: bool | None = None) -> None:
        self.started: list[str] = []
        self.written: list[bytes] = []
        self.finished = 0
        if chunked is not None:
            self.chunked = chunked

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.started.append(status)
        return self.write

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with ours, theirs:
        yield ours, theirs


def received(pair: tuple[socket.socket, socket.socket]) -> bytes:
    pair[0].shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: pair[1].recv(1 << 16), b""))


def views() -> Iterator[memoryview]:
    for piece in PIECES:
        yield memoryview(piece)


def test_a_known_length_goes_straight_into_the_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    server = Server(chunked=False)
    headers = [("Content-Length", str(sum(map(len, PIECES))))]
    body = deliver(
        {"gunicorn.socket": pair[0]}, server.start_response, "200 OK", headers, views(), server.finish
    )
    assert body == ()
    assert server.written == [b""], "the head goes out before the first piece"
    assert received(pair) == b"".join(PIECES)
    assert server.finished == 1


def test_an_unknown_length_goes_in_chunks_that_the_server_ends(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server = Server(chunked=True)
    deliver({"gunicorn.socket": pair[0]}, server.start_response, "200 OK", [], views(), server.finish)
    expected = b"".join(b"%X\r\n%s\r\n" % (len(piece), piece) for piece in PIECES)
    assert received(pair) == expected
    assert server.finished == 1


def test_no_pieces_are_no_chunks(pair: tuple[socket.socket, socket.socket]) -> None:
    server = Server(chunked=True)
    deliver({"gunicorn.socket": pair[0]}, server.start_response, "200 OK", [], iter(()), server.finish)
    assert received(pair) == b""


@pytest.mark.parametrize("chunked", [None, False])
def test_where_the_framing_is_not_certain_the_server_does_it(
    pair: tuple[socket.socket, socket.socket], chunked: bool | None
) -> None:
    server = Server(chunked=chunked)
    body = deliver({"gunicorn.socket": pair[0]}, server.start_response, "200 OK", [], views(), server.finish)
    assert isinstance(body, StreamedBody)
    assert server.finished == 0
    assert list(body) == PIECES
    assert received(pair) == b""
    body.close()
    assert server.finished == 1


@pytest.mark.parametrize("connection", [None, object()])
def test_other_servers_get_bytes(connection: object) -> None:
    server = Server()
    environ = {} if connection is None else {"gunicorn.socket": connection}
    headers = [("Content-Length", "1")]
    body = deliver(environ, server.start_response, "200 OK", headers, views(), server.finish)
    assert [type(piece) for piece in body] == [bytes] * 3
    assert server.written == []


def failing() -> Iterator[memoryview]:
    yield memoryview(b"good")
    raise Disconnected("no more")


def test_a_body_that_is_cut_off_ends_without_its_last_chunk(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server = Server(chunked=True)
    with pytest.raises(Disconnected) as cut:
        deliver({"gunicorn.socket": pair[0]}, server.start_response, "200 OK", [], failing(), server.finish)
    assert cut.value.errno == errno.ECONNRESET, "what gunicorn closes the connection for without a word"
    assert received(pair) == b"4\r\ngood"
    assert server.finished == 1


def test_a_client_that_has_left_ends_it_too(pair: tuple[socket.socket, socket.socket]) -> None:
    server = Server(chunked=False)
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        deliver(
            {"gunicorn.socket": pair[0]},
            server.start_response,
            "200 OK",
            [("Content-Length", "1")],
            views(),
            server.finish,
        )
    assert server.finished == 1
