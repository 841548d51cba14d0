"""HTTP/1.1 on a socket, as little of it as the pass-through needs: heads, and bodies in their framing."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator, Mapping

from attrs import evolve, field, frozen

HEAD_BYTES_MAX = 64 << 10
COPY_BYTES = 64 << 10


@frozen(kw_only=True)
class Head:
    """A request's or an answer's first line and headers, names as they were written."""

    line: str
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        for each, value in self.headers:
            if each.lower() == name.lower():
                return value
        return None

    def without(self, name: str) -> Head:
        return evolve(self, headers=tuple(pair for pair in self.headers if pair[0].lower() != name.lower()))

    def with_header(self, name: str, value: str) -> Head:
        return evolve(self.without(name), headers=(*self.without(name).headers, (name, value)))

    @property
    def status(self) -> int:
        return int(self.line.split(" ", 2)[1])

    def encode(self) -> bytes:
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@frozen(kw_only=True)
class Answer:
    """An answer that the pass-through gives by itself."""

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""

    @classmethod
    def error(cls, status: int, code: str, **headers: str) -> Answer:
        """As S3 says it; underscores in header names become dashes."""
        body = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status=status, headers={"Content-Type": "application/xml", **named}, body=body)


def expect(head: Head, client: socket.socket) -> None:
    if (head.get("expect") or "").lower() == "100-continue":
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def read_head(stream: io.BufferedReader) -> Head | None:
    """None at the end of the connection."""
    lines: list[str] = []
    size = 0
    while True:
        line = stream.readline(HEAD_BYTES_MAX)
        size += len(line)
        if not line.endswith(b"\r\n") or size > HEAD_BYTES_MAX:
            return None
        if line == b"\r\n":
            break
        lines.append(line[:-2].decode("latin-1"))
    headers = []
    for line_text in lines[1:]:
        name, _, value = line_text.partition(":")
        headers.append((name, value.strip()))
    return Head(line=lines[0], headers=tuple(headers))


def body(head: Head, stream: io.BufferedReader, *, to_end: bool) -> Iterator[tuple[bytes, int]]:
    """Raw bytes of a body and how many of them are payload (chunked framing is not). ``to_end``:
    a body without a length lasts until the connection ends."""
    if (head.get("transfer-encoding") or "").lower() == "chunked":
        yield from chunked(stream)
        return
    length = head.get("content-length")
    if length is None and not to_end:
        return
    left = None if length is None else int(length)
    while left is None or left > 0:
        data = stream.read1(COPY_BYTES if left is None else min(COPY_BYTES, left))
        if not data:
            if left is None:
                return
            raise ConnectionResetError("the body ended early")
        if left is not None:
            left -= len(data)
        yield data, len(data)


def chunked(stream: io.BufferedReader) -> Iterator[tuple[bytes, int]]:
    while True:
        line = stream.readline(HEAD_BYTES_MAX)
        size = int(line.partition(b";")[0], 16)
        yield line, 0
        left = size
        while left:
            data = stream.read1(min(COPY_BYTES, left))
            if not data:
                raise ConnectionResetError("the body ended early")
            left -= len(data)
            yield data, len(data)
        line = stream.readline(HEAD_BYTES_MAX)
        yield line, 0
        if size == 0:
            while line not in (b"\r\n", b""):
                line = stream.readline(HEAD_BYTES_MAX)
                yield line, 0
            return
