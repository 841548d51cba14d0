"""Which verified pages wait for the disk, and when waiting for it is given up.

A page that was fetched is written to the second tier after its readers have it. While the disk
keeps up, or is merely slow, pages queue and hold their buffers, so the room for buffers slows the
fetching down to what the disk takes. A disk that has not finished a single write for
``stall_seconds`` is another matter: waiting for it would stall reads, so what queues is let go
and new pages are not queued until a write ends. A page that was fetched again while its first
copy still waits is written once.

At the end (``Closing``) nothing is queued any more, and what is there already has until a given time; then
it is let go of as well.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias, assert_never

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick, advance
from seekfs_core.pages import PageKey

WRITERS = 2
"""Pages written to disk at once: one keeps most disks busy, two hide the index's share."""

STALL_SECONDS_DEFAULT = 5.0


@frozen
class PageVerified:
    """A page of ``length`` bytes is right and could be kept."""

    key: PageKey
    length: int


@frozen
class WriteEnded:
    """The write of a page has ended, however."""

    key: PageKey


@frozen
class Closing:
    """The process ends. ``until`` (monotonic seconds) is how long pages may be written."""

    until: float


@frozen
class WritePage:
    """Write this page now."""

    key: PageKey


@frozen
class SkipPage:
    """Do not write this page; let go of its buffer."""

    key: PageKey


@frozen
class SkipCopy:
    """Let go of the buffer that was offered: another copy of the page waits or is being written, or the
    process ends."""

    key: PageKey


WriteEvent: TypeAlias = PageVerified | WriteEnded | Closing | Tick
WriteAction: TypeAlias = WritePage | SkipPage | SkipCopy


@define
class WriteBehind:
    """At most ``writers`` writes at once; the queue behind them is as long as the room allows."""

    writers: int
    stall_seconds: float = STALL_SECONDS_DEFAULT
    _queue: deque[PageKey] = field(factory=deque, init=False)
    _lengths: dict[PageKey, int] = field(factory=dict, init=False)
    _writing: set[PageKey] = field(factory=set, init=False)
    _progress_at: float = field(default=float("-inf"), init=False)
    _closing_until: float | None = field(default=None, init=False)
    _now: float = field(default=float("-inf"), init=False)

    @property
    def bytes_waiting(self) -> int:
        """Bytes of the pages that are queued or being written."""
        return sum(self._lengths.values())

    def __contains__(self, key: PageKey) -> bool:
        """Whether a page waits, or is being written."""
        return key in self._lengths

    @property
    def is_flushed(self) -> bool:
        """After ``Closing``: nothing waits any more, and what is still being written has had its time."""
        if self._closing_until is None or self._queue:
            return False
        return not self._writing or self._now >= self._closing_until

    def feed(self, event: WriteEvent, now: float) -> tuple[WriteAction, ...]:
        """One event in, the actions it calls for out; see ``seekfs_core.machine``."""
        now = advance(self._now, now)
        actions: list[WriteAction] = []
        match event:
            case PageVerified(key, length):
                self._now = now
                if key in self._lengths or self._closing_until is not None:
                    actions.append(SkipCopy(key))
                else:
                    self._lengths[key] = length
                    self._queue.append(key)
            case WriteEnded(key):
                if key not in self._writing:
                    raise ContractViolation("the write of a page ended that had not begun")
                self._now = now
                self._writing.remove(key)
                del self._lengths[key]
                self._progress_at = now
            case Closing(until):
                self._now = now
                self._closing_until = until
            case Tick():
                self._now = now
            case _:
                assert_never(event)
        if self._stalled(now) or (self._closing_until is not None and now >= self._closing_until):
            for key in self._queue:
                del self._lengths[key]
                actions.append(SkipPage(key))
            self._queue.clear()
        while self._queue and len(self._writing) < self.writers:
            key = self._queue.popleft()
            if not self._writing:
                self._progress_at = now
            self._writing.add(key)
            actions.append(WritePage(key))
        return tuple(actions)

    def next_deadline(self) -> float | None:
        """When the disk counts as stalled, where pages wait behind it; or when the end is over."""
        stalled_at = self._progress_at + self.stall_seconds if self._queue else float("inf")
        over_at = float("inf") if self._closing_until is None or not self._lengths else self._closing_until
        due = min(stalled_at, over_at)
        return None if due == float("inf") or due <= self._now else due

    def _stalled(self, now: float) -> bool:
        return bool(self._writing) and now >= self._progress_at + self.stall_seconds
