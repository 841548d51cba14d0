"""Clients that read through a daemon in every way there is, compare every byte as it comes, and tell apart
what may happen from what may not.

A body is never held: files here may be larger than what a test may hold 64 times over.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import crc32c
from attrs import define, field, frozen

TIMEOUT_SECONDS: Final = 100.0
PIECE_BYTES: Final = 256 << 10
SLOW_PIECE_BYTES: Final = 16 << 10
SLOW_PIECES: Final = 40
SLOW_SECONDS: Final = 0.02
WRONG_MAX: Final = 20
"""Of which the text is kept; they are all counted."""

_FRAMES: Final = "application/x-seekfs-frames"
_FRAME: Final = struct.Struct("<IIQ")


class Library(Protocol):
    """What the files are."""

    def content(self, path: str, version: int) -> memoryview:
        """All bytes of a file at a version."""
        ...


class Way(enum.Enum):
    BLOB = "blob"
    READV = "readv"
    FRAMES = "readv framed"


class Manner(enum.Enum):
    """How a client takes an answer."""

    PROMPT = "prompt"
    SLOW = "slow"
    LEAVES = "leaves"
    """After some of it, without a word."""


@frozen(kw_only=True)
class Request:
    """``ranges`` are path, offset and length; one of them for ``BLOB``. None of them reaches past the end."""

    ns: str
    way: Way
    manner: Manner
    ranges: tuple[tuple[str, int, int], ...]
    version: int | None = None

    @property
    def target(self) -> str:
        version = "" if self.version is None else f"&version={self.version}"
        if self.way is not Way.BLOB:
            return f"/readv?ns={self.ns}{version}"
        ((path, off, length),) = self.ranges
        return f"/blob?ns={self.ns}&path={path}&off={off}&len={length}{version}"

    @property
    def body(self) -> bytes | None:
        if self.way is Way.BLOB:
            return None
        return json.dumps(
            [{"path": path, "off": off, "len": length} for path, off, length in self.ranges]
        ).encode()


@frozen
class Refusal:
    """A problem document instead of bytes: of a whole request, or of one item of a framed one."""

    status: int
    document: dict[str, Any]

    @property
    def detail(self) -> str:
        return str(self.document.get("detail"))


MayRefuse = Callable[[Request, Refusal], bool]
"""Whether a request may be refused like this."""


class Outcome(enum.Enum):
    WHOLE = "whole"
    REFUSED = "refused"
    CUT = "broke off"
    """After good bytes, before its end."""
    LEFT = "left"
    UNREACHABLE = "unreachable"
    """Nobody was there, or went before the answer had begun."""
    WRONG = "wrong"


class _Ends(Exception):
    """A reading is over before the end of its answer."""

    def __init__(self, outcome: Outcome, text: str = "") -> None:
        super().__init__(text)
        self.outcome = outcome


@define(eq=False)
class Tally:
    """What became of the requests of many threads. ``refusals`` and ``item_refusals`` count by status."""

    may_refuse: MayRefuse
    outcomes: Counter[Outcome] = field(factory=Counter)
    refusals: Counter[int] = field(factory=Counter)
    item_refusals: Counter[int] = field(factory=Counter)
    bytes_compared: int = 0
    stale: int = 0
    wrong: list[str] = field(factory=list)
    """What was wrong, of the first ``WRONG_MAX``."""
    longest_seconds: float = 0.0
    """Of requests of clients that are not slow themselves."""
    longest: str = ""
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def asked(self) -> int:
        return sum(self.outcomes.values())

    def read(self, port: int, request: Request, library: Library) -> Outcome:
        """Make one request, to its end."""
        reading = _Reading(request, library)
        started = time.monotonic()
        outcome, text = reading.run(port)
        seconds = time.monotonic() - started
        for refusal in reading.refusals:
            if not self.may_refuse(request, refusal):
                outcome, text = Outcome.WRONG, f"refused: {refusal}"
        with self._lock:
            self.outcomes[outcome] += 1
            self.bytes_compared += reading.bytes_compared
            self.stale += reading.is_stale
            counts = self.refusals if outcome is Outcome.REFUSED else self.item_refusals
            counts.update(refusal.status for refusal in reading.refusals)
            if outcome is Outcome.WRONG and len(self.wrong) < WRONG_MAX:
                self.wrong.append(f"{request}: {text}")
            if request.manner is not Manner.SLOW and seconds > self.longest_seconds:
                self.longest_seconds, self.longest = seconds, str(request)
        return outcome


class _Reading:
    """One request and its answer."""

    def __init__(self, request: Request, library: Library) -> None:
        self.refusals: list[Refusal] = []
        self.bytes_compared = 0
        self.is_stale = False
        self._request = request
        self._library = library
        self._has_begun = False
        self._pieces = 0
        self._piece = memoryview(
            bytearray(SLOW_PIECE_BYTES if request.manner is Manner.SLOW else PIECE_BYTES)
        )

    def run(self, port: int) -> tuple[Outcome, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        try:
            with contextlib.closing(connection):
                self._make(connection)
        except _Ends as end:
            return end.outcome, str(end)
        except TimeoutError:
            return Outcome.WRONG, f"no byte for {TIMEOUT_SECONDS:g} s"
        except (OSError, http.client.HTTPException):
            return (Outcome.CUT if self._has_begun else Outcome.UNREACHABLE), ""
        return Outcome.WHOLE, ""

    def _make(self, connection: http.client.HTTPConnection) -> None:
        request = self._request
        connection.connect()
        if request.manner is Manner.SLOW:
            # Else the kernels between would take megabytes for it.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        headers = {"Accept": _FRAMES} if request.way is Way.FRAMES else {}
        method = "GET" if request.way is Way.BLOB else "POST"
        connection.request(method, request.target, request.body, headers)
        response = connection.getresponse()
        self._has_begun = True
        self.is_stale = response.headers.get("X-Seekfs-Stale") == "1"
        if response.status != 200:
            self.refusals.append(_refusal_of(response.status, response.read()))
            raise _Ends(Outcome.REFUSED)
        version = int(response.headers["X-Seekfs-Version"])
        if request.version not in (None, version):
            raise _Ends(Outcome.WRONG, f"version {version}")
        wanted = [
            self._library.content(path, version)[off : off + length] for path, off, length in request.ranges
        ]
        if request.way is Way.FRAMES:
            for each in wanted:
                self._take_item(response, each)
        else:
            for each in wanted:
                self._take(response, each)
        if response.read(1):
            raise _Ends(Outcome.WRONG, "it goes on behind its end")

    def _take(self, response: http.client.HTTPResponse, wanted: memoryview) -> int:
        """Bytes that have to be these; their CRC-32C."""
        at = crc = 0
        while at < len(wanted):
            count = response.readinto(self._piece[: len(wanted) - at])
            got = self._piece[:count]
            if not count:
                raise _Ends(Outcome.CUT)
            if got != wanted[at : at + count]:
                raise _Ends(Outcome.WRONG, f"other bytes near {at} of {len(wanted)}")
            crc = crc32c.crc32c(got, crc)
            at += count
            self.bytes_compared += count
            self._pause()
        return crc

    def _pause(self) -> None:
        self._pieces += 1
        if self._request.manner is Manner.LEAVES:
            raise _Ends(Outcome.LEFT)
        if self._request.manner is Manner.SLOW and self._pieces <= SLOW_PIECES:
            time.sleep(SLOW_SECONDS)

    def _take_item(self, response: http.client.HTTPResponse, wanted: memoryview) -> None:
        at = 0
        while True:
            status, crc, length = _FRAME.unpack(_exactly(response, _FRAME.size))
            if status not in (200, 206):
                self.refusals.append(_refusal_of(status, _exactly(response, length)))
                return
            if at + length > len(wanted):
                raise _Ends(Outcome.WRONG, f"{at + length} bytes of an item of {len(wanted)}")
            if self._take(response, wanted[at : at + length]) != crc:
                raise _Ends(Outcome.WRONG, "a frame's CRC is another")
            at += length
            if status == 200:
                if at < len(wanted):
                    raise _Ends(Outcome.WRONG, f"{at} bytes of an item of {len(wanted)}")
                return


def _exactly(response: http.client.HTTPResponse, length: int) -> bytes:
    taken = bytearray()
    while len(taken) < length:
        more = response.read(length - len(taken))
        if not more:
            raise _Ends(Outcome.CUT)
        taken += more
    return bytes(taken)


def _refusal_of(status: int, body: bytes) -> Refusal:
    try:
        document = json.loads(body)
        assert document["status"] == status
        assert document["detail"]
    except (ValueError, KeyError, AssertionError, TypeError):
        raise _Ends(Outcome.WRONG, f"{status} without a problem document: {body[:200]!r}") from None
    return Refusal(status, document)


def some_request(
    chance: random.Random,
    ns: str,
    lengths: Mapping[str, int],
    *,
    range_bytes_max: int,
    version: int | None = None,
) -> Request:
    """Anything that may be asked of files of these ``lengths``."""
    way = chance.choice(tuple(Way))
    manner = chance.choices(tuple(Manner), (8, 1, 1))[0]
    ranges = []
    for _ in range(1 if way is Way.BLOB else chance.choice((1, 3, 8))):
        path = chance.choice(sorted(lengths))
        off = chance.randrange(lengths[path])
        most = min(lengths[path] - off, range_bytes_max)
        ranges.append((path, off, chance.choice((most, chance.randint(1, most), min(most, 1000)))))
    return Request(ns=ns, way=way, manner=manner, ranges=tuple(ranges), version=version)
