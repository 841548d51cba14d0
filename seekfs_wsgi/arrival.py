"""Whether a request has come in whole, told from its bytes alone: nothing here reads, waits or answers.

A thread is for answering, so a request gets one when nothing more of it has to be waited for. ``Arrival`` is
fed whatever comes, in pieces of any length, and says how far it has got (``Stage``).

It is no parser. What it does not understand of a head is ``READY`` at once: the server's parser refuses that
without another byte. Of a body it follows the framing only, and finds what will never be a body as soon
as that can be known: a chunk that announces too much, a size that is none, an end that came too early.
"""

from __future__ import annotations

import enum
import re
from typing import assert_never

from attrs import Factory, define, field, frozen
from werkzeug.exceptions import HTTPException, RequestHeaderFieldsTooLarge, RequestTimeout

from seekfs_core.errors import BadRequest, SeekfsError
from seekfs_wsgi.bodies import too_large

Refusal = SeekfsError | HTTPException

CHUNK_LINE_BYTES_MAX = 8190
"""A size and its extensions, and the whole of a trailer."""

_CRLF = b"\r\n"
_HEAD_END = b"\r\n\r\n"
_SHOWN_BYTES_MAX = 40

# Also with the one empty line before it that a server is to overlook (RFC 9112, 2.2).
_REQUEST_LINE = re.compile(rb"(?:\r\n)?[^ \r\n]+ ([^ \r\n?]+)[^ \r\n]* HTTP/(\d\.\d)\r\n")
_FRAMING = re.compile(
    rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE
)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_SIZE_BEGUN = re.compile(rb"[0-9a-fA-F]*")
_SIZE_LINE = re.compile(rb"[0-9a-fA-F]+(?:[ \t]*;[^\r\n]*)?\r\n")


class Stage(enum.Enum):
    """How far a request has got."""

    SILENT = enum.auto()
    """Nothing of it has come."""

    HEAD = enum.auto()
    """A part of its head has."""

    BODY = enum.auto()
    """Its head has, and its body is small enough to be waited for without a thread."""

    LARGE = enum.auto()
    """Its head has; its body is for a thread to read: it is too large to keep, or waits to be asked for."""

    READY = enum.auto()
    """Nothing more has to come for it to be answered."""

    REFUSED = enum.auto()
    """It will never be a request; ``Arrival.refusal`` says why."""


@frozen(kw_only=True)
class Limits:
    """Of one request. ``held_bytes_max`` bounds what is kept of it, head and body, till a thread has it."""

    request_line_bytes_max: int
    held_bytes_max: int
    body_bytes_max: int
    head_seconds_max: float
    body_seconds_max: float


@define
class _Sized:
    """A body of known length."""

    length: int
    _come: int = 0

    def feed(self, data: bytes) -> bool:
        self._come += len(data)
        return self._come >= self.length

    def ended(self) -> str:
        return f"the body ended after {self._come} of {self.length} bytes"


class _Part(enum.Enum):
    """What the next line of a chunked body is."""

    SIZE = enum.auto()
    PAYLOAD_END = enum.auto()
    TRAILER = enum.auto()


@define
class _Chunked:
    """A body in chunks (RFC 9112, 7.1)."""

    bytes_max: int
    _announced: int = 0
    _payload_left: int = 0
    _part: _Part = _Part.SIZE
    _line: bytearray = Factory(bytearray)
    _trailer_bytes: int = 0

    def feed(self, data: bytes) -> bool:
        start = 0
        while start < len(data):
            if self._payload_left:
                step = min(self._payload_left, len(data) - start)
                self._payload_left -= step
                start += step
                continue
            stop = data.find(b"\n", start) + 1
            self._line += data[start:stop] if stop else data[start:]
            self._check_line()
            if not stop:
                return False
            start = stop
            if self._take_line():
                return True
            self._line.clear()
        return False

    def ended(self) -> str:
        return "the body ended before its last chunk"

    def _check_line(self) -> None:
        """Refuse a line, whole or not, that can be known to be wrong already."""
        line = self._line
        match self._part:
            case _Part.SIZE:
                begun = _SIZE_BEGUN.match(line)
                digits = begun[0] if begun else b""
                if not digits:
                    raise _malformed(line, "no size of a chunk")
                if self._announced + int(digits, 16) > self.bytes_max:
                    raise too_large("more", self.bytes_max)
                if len(line) > CHUNK_LINE_BYTES_MAX:
                    raise _malformed(line, "the beginning of a line that is too long for a chunk's size")
            case _Part.PAYLOAD_END:
                if not _CRLF.startswith(line):
                    raise _malformed(line, "not the end of a chunk")
            case _Part.TRAILER:
                if self._trailer_bytes + len(line) > CHUNK_LINE_BYTES_MAX:
                    raise RequestHeaderFieldsTooLarge(f"a trailer of more than {CHUNK_LINE_BYTES_MAX} bytes")
            case _:
                assert_never(self._part)

    def _take_line(self) -> bool:
        """Go on behind a line; True where it was the body's last."""
        line = self._line
        if not line.endswith(_CRLF):
            raise _malformed(line, "ended by a bare line feed")
        match self._part:
            case _Part.SIZE:
                if not _SIZE_LINE.fullmatch(line):
                    raise _malformed(line, "no size of a chunk")
                size = int(_SIZE_BEGUN.match(line)[0], 16)  # type: ignore[index]  # it has a digit
                self._announced += size
                self._payload_left = size
                self._part = _Part.PAYLOAD_END if size else _Part.TRAILER
            case _Part.PAYLOAD_END:
                self._part = _Part.SIZE
            case _Part.TRAILER:
                self._trailer_bytes += len(line)
                return line == _CRLF
            case _:
                assert_never(self._part)
        return False


@define
class Arrival:
    """One request on its way in.

    ``path`` is its target up to the query, as it came, once the head has come. ``is_head`` says that its
    method is HEAD, and ``is_whole`` that its end was seen, so that what comes next is another request.
    """

    limits: Limits
    stage: Stage = Stage.SILENT
    refusal: Refusal | None = None
    path: bytes = b""
    is_head: bool = False
    is_whole: bool = False
    _bytes: int = 0
    _head: bytearray = field(factory=bytearray, repr=False)
    _body: _Sized | _Chunked | None = None

    def feed(self, data: bytes) -> None:
        """More has come; what comes after the request's end counts for nothing."""
        self._bytes += len(data)
        try:
            match self.stage:
                case Stage.SILENT | Stage.HEAD:
                    self._feed_head(data)
                case Stage.BODY | Stage.LARGE:
                    self._feed_body(data)
                case Stage.READY | Stage.REFUSED:
                    pass
                case _:
                    assert_never(self.stage)
        except (SeekfsError, HTTPException) as error:
            self._refuse(error)

    def end(self) -> None:
        """The client will send nothing more."""
        match self.stage:
            case Stage.HEAD:
                self._refuse(BadRequest("the request ended inside its head"))
            case Stage.BODY | Stage.LARGE:
                assert self._body is not None
                self._refuse(BadRequest(self._body.ended()))
            case Stage.SILENT | Stage.READY | Stage.REFUSED:
                pass
            case _:
                assert_never(self.stage)

    def run_out(self) -> None:
        """It was waited for as long as it may be."""
        if self.stage is Stage.HEAD:
            what, seconds, key = "head", self.limits.head_seconds_max, "api.send_timeout_sec"
        else:
            what, seconds, key = "body", self.limits.body_seconds_max, "api.request_deadline_sec"
        self._refuse(RequestTimeout(f"the {what} did not come within {seconds:g} seconds ({key})"))

    def _refuse(self, error: Refusal) -> None:
        self.refusal = error
        self.stage = Stage.REFUSED

    def _feed_head(self, data: bytes) -> None:
        head = self._head
        # Only the last three bytes can begin an end that these complete.
        searched = max(len(head) - 3, 0)
        head += data
        self.is_head = head.startswith((b"HEAD ", b"\r\nHEAD "))
        stop = head.find(_HEAD_END, searched)
        if stop < 0:
            self._look_at_part(head)
            return
        self._head = bytearray()
        # With the CRLF of its last line.
        self._look_at_head(bytes(head[: stop + 2]), stop + len(_HEAD_END))
        if self.stage in (Stage.BODY, Stage.LARGE):
            self._feed_body(bytes(head[stop + len(_HEAD_END) :]))

    def _look_at_part(self, head: bytearray) -> None:
        if head in (b"\r", _CRLF):
            # Some clients send an empty line behind a body; no request need follow it.
            return
        self.stage = Stage.HEAD
        has_line = head.find(_CRLF, len(_CRLF)) >= 0
        if (
            head.count(b"\n") != head.count(_CRLF)
            or (not has_line and len(head) > self.limits.request_line_bytes_max + len(_HEAD_END))
            or (has_line and not _REQUEST_LINE.match(head))
        ):
            # The parser refuses it for what is there, and need not wait for the rest.
            self.stage = Stage.READY
        elif len(head) >= self.limits.held_bytes_max:
            raise RequestHeaderFieldsTooLarge(f"a head of more than {self.limits.held_bytes_max} bytes")

    def _look_at_head(self, head: bytes, head_bytes: int) -> None:
        """Find out what comes behind it, or leave it to the parser where that is not certain."""
        line = _REQUEST_LINE.match(head)
        self.path, version = line.groups() if line else (b"", b"")
        framing = [(name.lower(), value) for name, value in _FRAMING.findall(head)]
        if not framing:
            self.stage, self.is_whole = Stage.READY, True
            return
        lengths = [value for name, value in framing if name == b"content-length"]
        codings = b",".join(value for name, value in framing if name == b"transfer-encoding")
        is_expecting = any(name == b"expect" for name, _ in framing)
        self._body, is_small = self._body_of(version, lengths, codings.lower(), head_bytes)
        if self._body is None:
            self.stage, self.is_whole = Stage.READY, not lengths and not codings
        else:
            self.stage = Stage.BODY if is_small and not is_expecting else Stage.LARGE

    def _body_of(
        self, version: bytes, lengths: list[bytes], codings: bytes, head_bytes: int
    ) -> tuple[_Sized | _Chunked | None, bool]:
        """How the body is framed and whether it may be small; None where there is none to wait for."""
        if codings and not lengths:
            if codings == b"chunked" and version != b"1.0":
                return _Chunked(self.limits.body_bytes_max), True
        elif len(lengths) == 1 and not codings and _LENGTH.fullmatch(lengths[0]):
            length = int(lengths[0])
            # A body that announces too much is refused by whoever would read it, unread.
            if length <= self.limits.body_bytes_max:
                return _Sized(length), head_bytes + length <= self.limits.held_bytes_max
        return None, False

    def _feed_body(self, data: bytes) -> None:
        assert self._body is not None
        if self._body.feed(data):
            self.stage, self.is_whole = Stage.READY, True
        elif self._bytes >= self.limits.held_bytes_max:
            self.stage = Stage.LARGE


def _malformed(line: bytearray, what: str) -> BadRequest:
    return BadRequest(f"the body is malformed: {ascii(bytes(line[:_SHOWN_BYTES_MAX]))[1:]} is {what}")
