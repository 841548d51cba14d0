"""What one read did: which pages it touched and where they were, which GETs brought them, what it waited for.

A read takes notes as it goes (``ReadNotes``), which cost a warm one next to nothing; they become an
explanation for people when somebody asks for it. ``SlowReads`` keeps the notes of the reads that waited
longest, and of the latest ones that failed.

All times are monotonic seconds, as elsewhere in the core; in an explanation they are seconds since the read
began.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from typing import Any

from attrs import define, field, frozen

from seekfs_core.errors import FailureKind, SeekfsError
from seekfs_core.fetch_messages import GetReason, StartGet

NOTED_MAX = 128
"""Pages and GETs that a read notes by default: enough to see what a slow one was at."""

EXPLAINED_MAX = 65_536
"""Pages and GETs of a read that is to be explained: as many as a batch has ranges."""


class WaitCause(enum.Enum):
    """What a read waits for."""

    MANIFEST = "manifest"
    """To know which version answers."""

    BUDGET = "budget"
    """Until the GET that it asked for could start: for a budget, a slot, room for its pages, or the
    breaker."""

    STORE = "store"
    """For the store to answer that GET, retries and their pauses included."""

    SINGLE_FLIGHT = "single_flight"
    """For a GET that another read had asked for already, whatever that waits for."""

    ROOM = "room"
    """For room to read a page back from disk."""

    DISK = "disk"


@frozen(kw_only=True)
class GetNote:
    """A GET that brought pages to a read. ``start`` and ``stop`` are bytes of the object ``key``."""

    get: int
    key: str
    start: int
    stop: int
    attempt: int
    reason: GetReason
    hedge_of: int | None
    is_own: bool
    """Whether this read asked for it, and not another one before."""
    wanted_at: float
    first_at: float
    """When the first GET for the same was started."""


def note_of(start: StartGet, read: int) -> GetNote:
    """A GET, as read ``read`` sees it."""
    return GetNote(
        get=start.get,
        key=start.source.file.storage_key,
        start=start.start,
        stop=start.stop,
        attempt=start.attempt,
        reason=start.reason,
        hedge_of=start.hedge_of,
        is_own=start.read == read,
        wanted_at=start.wanted_at,
        first_at=start.first_at,
    )


def causes_of(note: GetNote, since: float, until: float) -> dict[WaitCause, float]:
    """What a read waited for that waited for a page of this GET, in seconds by cause."""
    if not note.is_own:
        return {WaitCause.SINGLE_FLIGHT: until - since}
    turn = min(max(note.first_at, since), until)
    return {WaitCause.BUDGET: turn - since, WaitCause.STORE: until - turn}


def cause_of_failure(kind: FailureKind) -> WaitCause:
    """What a read waited for that was told that its page failed."""
    is_unasked = kind in (FailureKind.BREAKER_OPEN, FailureKind.OVER_BUDGET)
    return WaitCause.BUDGET if is_unasked else WaitCause.STORE


@define(eq=False)
class ReadNotes:
    """What a read has done so far. ``label`` is its caller's name for it, such as a request's id."""

    ns: str
    version: int
    began_at: float
    label: str = ""
    noted_max: int = NOTED_MAX
    failures: list[dict[str, Any]] = field(factory=list, init=False)
    """What failed, as JSON values: an error that was raised would keep all that its traceback refers to."""
    _pages: list[tuple[str, int, str]] = field(factory=list, init=False)
    _pages_count: int = field(default=0, init=False)
    _gets: dict[int, GetNote] = field(factory=dict, init=False)
    _gets_left_out: int = field(default=0, init=False)
    _failed_count: int = field(default=0, init=False)
    _waited: dict[WaitCause, float] = field(factory=dict, init=False)
    _ended_at: float | None = field(default=None, init=False)
    _bytes_read: int = field(default=0, init=False)

    @property
    def is_remembered(self) -> bool:
        """Whether it is of interest to ``SlowReads``: it waited, or failed."""
        return bool(self._waited or self.failures)

    @property
    def seconds_waited(self) -> float:
        """How long it waited for anything but its client."""
        return sum(self._waited.values())

    def page(self, path: str, page_id: int, tier: str) -> None:
        """A page was found in a tier."""
        self._pages_count += 1
        if len(self._pages) < self.noted_max:
            self._pages.append((path, page_id, tier))

    def came(self, start: StartGet, read: int) -> GetNote:
        """A GET brought a page that this read wanted."""
        note = self._gets.get(start.get)
        if note is None or note.attempt != start.attempt:
            note = note_of(start, read)
            if len(self._gets) < self.noted_max or start.get in self._gets:
                self._gets[start.get] = note
            else:
                self._gets_left_out += 1
        return note

    def waited(self, cause: WaitCause, seconds: float) -> None:
        self._waited[cause] = self._waited.get(cause, 0.0) + seconds

    def waited_for(self, note: GetNote, since: float, until: float) -> None:
        """It waited for a page that this GET brought."""
        for cause, seconds in causes_of(note, since, until).items():
            self.waited(cause, seconds)

    def failed(self, error: SeekfsError) -> None:
        """It, or one of its items, has failed."""
        self._failed_count += 1
        if len(self.failures) < self.noted_max:
            told = {"status": error.status, "problem": error.slug, "detail": error.detail}
            self.failures.append(error.context | told)

    def ended(self, now: float, bytes_read: int) -> None:
        """It is over, and has handed out so many bytes."""
        self._ended_at, self._bytes_read = now, bytes_read

    def explanation(self, now: float) -> dict[str, Any]:
        """All of it, as JSON values."""
        ended_at = now if self._ended_at is None else self._ended_at
        return {
            "request_id": self.label,
            "ns": self.ns,
            "version": self.version,
            "bytes": self._bytes_read,
            "seconds": round(ended_at - self.began_at, 6),
            "waited": {cause.value: round(self._waited.get(cause, 0.0), 6) for cause in WaitCause},
            "pages": [
                {"path": path, "page_id": page_id, "tier": tier} for path, page_id, tier in self._pages
            ],
            "pages_left_out": self._pages_count - len(self._pages),
            "gets": [self._get(note) for _, note in sorted(self._gets.items())],
            "gets_left_out": self._gets_left_out,
            "failed": self.failures,
            "failed_left_out": self._failed_count - len(self.failures),
        }

    def _get(self, note: GetNote) -> dict[str, Any]:
        return {
            "get": note.get,
            "key": note.key,
            "start": note.start,
            "stop": note.stop,
            "attempt": note.attempt,
            "reason": note.reason.value,
            "hedge_of": note.hedge_of,
            "asked_by_this_read": note.is_own,
            "wanted_at": round(note.wanted_at - self.began_at, 6),
            "started_at": round(note.first_at - self.began_at, 6),
        }


SLOWEST_MAX = 32
FAILED_MAX = 32
KEPT_SECONDS = 3600.0
"""A read that was slow an hour ago is no reason to miss one that is slow now."""


@define
class SlowReads:
    """The notes of the reads that waited longest within ``KEPT_SECONDS``, and of the last that failed."""

    _slowest: list[tuple[float, int, ReadNotes]] = field(factory=list, init=False)
    _failed: deque[ReadNotes] = field(factory=lambda: deque(maxlen=FAILED_MAX), init=False)
    _count: int = field(default=0, init=False)

    def ended(self, notes: ReadNotes, now: float) -> None:
        """A read has ended. One that neither waited nor failed is of no interest."""
        if notes.failures:
            self._failed.append(notes)
        seconds = notes.seconds_waited
        if not seconds:
            return
        self._count += 1
        if len(self._slowest) >= SLOWEST_MAX and seconds <= self._slowest[0][0]:
            self._forget_old(now)
            if len(self._slowest) >= SLOWEST_MAX:
                return
        heapq.heappush(self._slowest, (seconds, self._count, notes))
        if len(self._slowest) > SLOWEST_MAX:
            self._forget_old(now)
        if len(self._slowest) > SLOWEST_MAX:
            heapq.heappop(self._slowest)

    def slowest(self, now: float) -> list[ReadNotes]:
        """Longest first."""
        self._forget_old(now)
        return [notes for _, _, notes in sorted(self._slowest, key=lambda each: (-each[0], each[1]))]

    def failed(self) -> list[ReadNotes]:
        """Latest first."""
        return list(reversed(self._failed))

    def _forget_old(self, now: float) -> None:
        kept = [each for each in self._slowest if each[2].began_at > now - KEPT_SECONDS]
        if len(kept) < len(self._slowest):
            heapq.heapify(kept)
            self._slowest = kept
