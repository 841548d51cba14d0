"""What a daemon answers, read with care: bodies that are counted, frames that are checked, problems.

The rules of this file:

* **Never fewer bytes than announced, never silently.** Every body is counted against what the
  daemon announced, and every frame against its CRC-32C. A body that ends early is ``ShortRead``;
  nothing is ever padded, resumed or guessed.
* **Whose fault it was is in the type.** The daemon understood and said no: ``DaemonError``, with
  the status, detail and request id of its problem document. Nobody answers: ``DaemonUnreachable``,
  naming the URL. The answer broke off: ``ShortRead``. Somebody answers, and not like seekfs:
  ``BadAnswer``. All of them can be pickled.
* **A length that came from outside is checked before anything is allocated for it.**
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

import crc32c
import msgspec
import requests
import urllib3.exceptions
from attrs import frozen

from seekfs_core import frame_format
from seekfs_core.errors import BadRequest, SeekfsError, StoreAnswered, StoreUnavailable

PROBLEM_BYTES_MAX: Final = 2**20
"""As much of an error's body as is read: a problem document is a few hundred bytes."""

CHUNK_SIZE_BYTES: Final = 2**20


class DaemonError(SeekfsError):
    """The daemon refused, or failed; it answered with a problem document (RFC 9457).

    ``status`` is the answer's, ``slug`` names the kind of problem, ``request_id`` is the one that the
    daemon's log has. ``context`` holds these and every further field of the document.
    """

    status: int  # type: ignore[misc]  # here it is what was answered, not a constant of the class

    def __init__(self, detail: str, /, **context: Any) -> None:
        super().__init__(detail, **context)
        self.status = int(context.get("status", 500))
        self.request_id: str | None = context.get("request_id")
        self.problem: str = str(context.get("slug", "about:blank"))

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.detail} (status {self.status}{request})"


class DaemonUnreachable(StoreUnavailable):
    """No answer: nobody listens there, or the connection failed or timed out before one came."""

    slug, title = "daemon-unreachable", "The daemon cannot be reached"


class ShortRead(StoreAnswered):
    """The body ended before its announced length; ``context`` holds ``received`` and ``expected``."""

    slug, title = "short-read", "The answer broke off"


class BadAnswer(StoreAnswered):
    """What came is not an answer of a seekfs daemon, or not the one to this question."""

    slug, title = "bad-answer", "Not an answer of a seekfs daemon"


@frozen(kw_only=True)
class Frame:
    """One verified frame: ``status`` 206 (more of item ``index`` follows), 200 (its last), or its failure."""

    index: int
    status: int
    payload: bytes


class Body:
    """The open body of one answer. Belongs to one thread; close it, or use it in ``with``.

    ``length`` is what was announced, in bytes, or None for a framed answer, whose frames say where it
    ends. Closing before the end closes the connection: nobody reads the remainder as the next answer.
    """

    def __init__(self, response: requests.Response, url: str, length: int | None) -> None:
        self._response = response
        self._url = url
        self.length = length
        self.received = 0

    @property
    def hash(self) -> str:
        """The SHA-256 of the whole file, ``sha256:<hex>``."""
        return str(self._response.headers.get("ETag", "")).strip('"')

    @property
    def version(self) -> int:
        """The version that was read."""
        told = self._response.headers.get("X-Seekfs-Version", "")
        if not (told.isascii() and told.isdigit()):
            raise BadAnswer(f"{self._url} named no version: is it a seekfs daemon?", url=self._url)
        return int(told)

    @property
    def stale(self) -> bool:
        """Whether the daemon could not read HEAD, and served the last version that it knew."""
        return self._response.headers.get("X-Seekfs-Stale") == "1"

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, all that are left when it is negative; ``b""`` at the announced end.

        Fewer than asked for only at the end. Raises ``ShortRead`` when the body ends before it.
        """
        pieces: list[bytes] = []
        wanted = size
        if self.length is not None:
            left = self.length - self.received
            wanted = left if size < 0 else min(size, left)
        elif size < 0:
            raise BadRequest("a framed body is read frame by frame")
        while wanted > 0:
            piece = self._next(wanted)
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_exactly(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or ``ShortRead``."""
        data = self.read(size)
        if len(data) < size:
            raise self._short(self.received - len(data) + size)
        return data

    def readinto(self, view: bytearray | memoryview) -> int:
        """Fill the front of ``view``; how many bytes, fewer than its length only at the end."""
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in pieces of at most 1 MiB."""
        while piece := self.read(CHUNK_SIZE_BYTES):
            yield piece

    def _next(self, size: int) -> bytes:
        try:
            piece: bytes = self._response.raw.read(size, decode_content=False)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise DaemonUnreachable(
                f"{self._url} stopped sending after {self.received} bytes", url=self._url
            ) from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise self._short(self.length) from error
        if not piece and self.length is not None:
            raise self._short(self.length)
        self.received += len(piece)
        return piece

    def _short(self, expected: int | None) -> ShortRead:
        announced = "" if expected is None else f" of {expected}"
        return ShortRead(
            f"{self._url} broke off after {self.received}{announced} bytes: the daemon met an error after it"
            " had begun to answer, or went away",
            url=self._url,
            received=self.received,
            expected=expected,
        )

    def close(self) -> None:
        """Let go of the answer. Read to its end, the connection is kept for the next one."""
        if self.length is not None and self.received == self.length:
            # An empty body is at its end before it was ever read; urllib3 keeps the connection only
            # once it has seen that end.
            with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, ValueError):
                self._response.raw.read(1, decode_content=False)
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def media_type(response: requests.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def decode_document(data: bytes, url: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = None
    if not isinstance(document, dict):
        raise BadAnswer(f"{url} answered something else than a JSON object: is it a seekfs daemon?", url=url)
    return document


def body_of(response: requests.Response, url: str) -> Body:
    """The body of an answer that announced its length, as every answer but a framed one does."""
    announced = response.headers.get("Content-Length", "")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity" or not (announced.isascii() and announced.isdigit()):
        response.close()
        raise BadAnswer(
            f"{url} announced no length of its plain bytes: they cannot be told whole from broken off",
            url=url,
        )
    return Body(response, url, int(announced))


def read_frame(body: Body, index: int, url: str) -> Frame:
    """The next frame of item ``index``, its payload verified."""
    status, crc, length = frame_format.HEADER.unpack(body.read_exactly(frame_format.HEADER.size))
    known = status == frame_format.MORE or frame_format.ends_item(status)
    if not known or length > frame_format.PAYLOAD_BYTES_MAX:
        raise BadAnswer(
            f"{url} sent a frame of status {status} and {length} bytes for item {index}", item=index, url=url
        )
    payload = body.read_exactly(length)
    found = crc32c.crc32c(payload)
    if found != crc:
        raise BadAnswer(
            f"{url} sent a frame for item {index} whose CRC-32C is {found:#010x}, not {crc:#010x}:"
            " it was changed on the way",
            item=index,
            url=url,
        )
    return Frame(index=index, status=status, payload=payload)


def refusal(response: requests.Response, url: str) -> SeekfsError:
    """What a status that nobody asked for becomes."""
    with response:
        try:
            data = response.raw.read(PROBLEM_BYTES_MAX, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            data = b""
    if response.status_code >= 400:
        return problem_error(data, response.status_code, url, response.headers.get("X-Request-Id"))
    return BadAnswer(f"{url} answered {response.status_code}: is it a seekfs daemon?", url=url)


def problem_error(data: bytes, status: int, url: str, request_id: str | None) -> DaemonError:
    """The problem document in ``data`` as an exception; also where it is none (a proxy's page, a HEAD)."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = {}
    if not isinstance(document, dict):
        document = {}
    fields = {str(name): value for name, value in document.items()}
    detail = fields.pop("detail", None) or fields.get("title") or f"{url} answered {status}"
    kind = str(fields.pop("type", "about:blank"))
    facts = {
        **fields,
        "status": status,
        "slug": kind.replace(":", "/").rpartition("/")[2],
        "request_id": fields.get("request_id", request_id),
        "url": url,
    }
    return DaemonError(str(detail), **facts)


def reason_of(error: BaseException) -> str:
    """The innermost reason of a failed request, in a few words: ``Connection refused``.

    What requests and urllib3 raise is wrapped three deep, with addresses of objects in the text.
    """
    for inner in _chain(error):
        if isinstance(inner, OSError) and inner.strerror:
            return str(inner.strerror)
    for inner in _chain(error):
        if isinstance(inner, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
            return "timed out"
        if isinstance(inner, urllib3.exceptions.ProtocolError):
            return "the connection was closed without an answer"
    return str(error) or type(error).__name__


def _chain(error: BaseException) -> list[BaseException]:
    """Every exception inside ``error``, innermost first."""
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        inner = queue.pop()
        if isinstance(inner, BaseException) and not any(inner is one for one in seen):
            seen.append(inner)
            queue += [inner.__cause__, inner.__context__, getattr(inner, "reason", None), *inner.args]
    return seen[::-1]
