"""HTTP/1.1 as it is on the wire: targets and headers go out as given, answers come back as they are.

``requests`` would re-escape targets, follow, merge and decode; these tests are about exactly that.
"""

from __future__ import annotations

import abc
import contextlib
import http.client
import json
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import crc32c
from attrs import define, field, frozen

from tests.support.leaks import OUTPUTS

TIMEOUT_SECONDS = 60.0

_DATA = ("application/octet-stream", "application/x-seekfs-frames")
"""What is a file's: it is not looked through for secrets, but what a frame says of a failure is."""


@frozen
class Answer:
    """``headers`` by lower-case name; a name that comes twice is a failure. ``is_whole``: the body is as long
    as was announced."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")
    is_whole: bool = True

    def __attrs_post_init__(self) -> None:
        is_data = self.headers.get("content-type", "").startswith(_DATA)
        OUTPUTS.said(f"{self.headers}\n".encode() + (b"" if is_data else self.body), "an answer")

    def problem(self, status: int, slug: str = "[a-z]+(-[a-z]+)*") -> dict[str, Any]:
        """The problem document, after what all of them have in common was checked; ``slug`` is a pattern."""
        assert self.status == status, (self.status, self.body[:500])
        assert self.headers["content-type"] == "application/problem+json"
        document = json.loads(self.body)
        assert document["status"] == status
        assert re.fullmatch(f"urn:seekfs:problem:{slug}", document["type"]), document
        assert document["title"]
        assert document["detail"]
        assert document["request_id"] == self.headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", document["request_id"])
        return dict(document)


class Closed(abc.ABC):
    """Whatever is closed at the end of its block."""

    @abc.abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Wire(Closed):
    """One connection, kept alive from request to request: an answer out of step is noticed at the next."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)

    def ask(
        self, method: str, target: str, body: bytes | Iterator[bytes] | None = None, **headers: str
    ) -> Answer:
        """One request; underscores in names of headers become dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in named.items():
            self._connection.putheader(name, value)
        chunked = body is not None and not isinstance(body, bytes)
        if chunked:
            self._connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None:
            self._connection.putheader("Content-Length", str(len(body)))  # type: ignore[arg-type]
        self._connection.endheaders(body, encode_chunked=chunked)
        return read_answer(self._connection.getresponse())

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, None, **headers)

    def head(self, target: str, **headers: str) -> Answer:
        return self.ask("HEAD", target, None, **headers)

    def post(self, target: str, body: bytes | Iterator[bytes], **headers: str) -> Answer:
        return self.ask("POST", target, body, **headers)

    def close(self) -> None:
        self._connection.close()


def read_answer(response: http.client.HTTPResponse, *, may_be_cut: bool = False) -> Answer:
    """A body that breaks off is an ``http.client.IncompleteRead``, unless it ``may_be_cut``."""
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        assert name.lower() not in headers, f"{name} came twice"
        headers[name.lower()] = value
    try:
        return Answer(response.status, headers, response.read())
    except http.client.IncompleteRead as cut:
        if not may_be_cut:
            raise
        return Answer(response.status, headers, cut.partial, is_whole=False)


_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) [\x20-\x7e]+")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


@define
class RawWire(Closed):
    """One connection on which anything is sent, and answers are read as strictly as HTTP allows."""

    connection: socket.socket
    _received: bytearray = field(factory=bytearray, init=False, repr=False)

    @classmethod
    def to(cls, port: int) -> Self:
        connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connection)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def end(self) -> None:
        """Nothing more is sent."""
        self.connection.shutdown(socket.SHUT_WR)

    def answer(self, *, is_head: bool = False) -> Answer:
        """The next one that is final. AssertionError where it is malformed, or does not come."""
        status, headers = self._final_head()
        return Answer(status, headers, b"" if is_head or status == 304 else self._body(headers))

    def answers_to_the_end(self) -> list[Answer]:
        """All until the connection ends, whatever they answer: what has no body is told by what follows."""
        while self._receive():
            pass
        answers = []
        while self._received:
            status, headers = self._final_head()
            is_last = not self._received or self._received.startswith(b"HTTP/1.")
            answers.append(Answer(status, headers, b"" if is_last else self._body(headers)))
        return answers

    def has_ended(self) -> bool:
        """Whether there is nothing behind the last answer but the end of the connection."""
        return not self._received and not self._receive()

    def close(self) -> None:
        self.connection.close()

    def _final_head(self) -> tuple[int, dict[str, str]]:
        while True:
            status, headers = self._head()
            if status >= 200:
                return status, headers
            assert (status, headers) == (100, {}), (status, headers)

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "content-length" in headers:
            assert "transfer-encoding" not in headers
            return self._take(int(headers["content-length"]))
        assert headers["transfer-encoding"] == "chunked"
        return b"".join(self._chunks())

    def _head(self) -> tuple[int, dict[str, str]]:
        first, *lines = self._until(b"\r\n\r\n").split(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        assert status, first
        headers: dict[str, str] = {}
        for line in lines:
            header = _FIELD.fullmatch(line)
            assert header, line
            name, value = header[1].decode().lower(), header[2].decode()
            assert name not in headers, f"{name} came twice"
            headers[name] = value
        return int(status[1]), headers

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._until(b"\r\n")
            assert _CHUNK_SIZE.fullmatch(line), line
            size = int(line, 16)
            yield self._take(size)
            assert self._take(2) == b"\r\n"
            if not size:
                return

    def _until(self, end: bytes) -> bytes:
        while (stop := self._received.find(end)) < 0:
            assert self._receive(), f"it ends after {bytes(self._received[:500])!r}"
        return self._take(stop + len(end))[:stop]

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            assert self._receive(), f"it ends after {len(self._received)} of {size} bytes"
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _receive(self) -> bool:
        data = self.connection.recv(1 << 16)
        self._received += data
        return bool(data)


def get_whole_or_cut(port: int, target: str) -> Answer:
    """GET on a connection of its own; what came of an answer that broke off."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", target)
        return read_answer(connection.getresponse(), may_be_cut=True)


@contextlib.contextmanager
def raw_connection(port: int, sent: bytes = b"") -> Iterator[socket.socket]:
    """A plain socket, for requests that no client would make."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(sent)
        yield connection


def exchange(port: int, sent: bytes) -> bytes:
    """Everything that comes back until the daemon closes."""
    with raw_connection(port, sent) as connection:
        return b"".join(iter(lambda: connection.recv(1 << 20), b""))


def read_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Status and payload of each frame, every CRC checked. Written from the contract's text alone."""
    while data:
        status, crc, length = struct.unpack("<IIQ", data[:16])
        payload, data = data[16 : 16 + length], data[16 + length :]
        assert len(payload) == length, "a frame that is cut"
        assert crc32c.crc32c(payload) == crc, "a payload that is not what was sent"
        yield status, payload


def read_framed_items(data: bytes) -> list[bytes | dict[str, Any]]:
    """The items of a framed answer: their bytes, or their problem document."""
    items: list[bytes | dict[str, Any]] = []
    so_far = b""
    for status, payload in read_frames(data):
        if status == 206:
            so_far += payload
            continue
        if status == 200:
            items.append(so_far + payload)
        else:
            OUTPUTS.said(payload, "a frame")
            items.append(json.loads(payload))
        so_far = b""
    assert so_far == b"", "an item without its last frame"
    return items
