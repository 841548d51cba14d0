"""The in-memory L2, for development and for machines without a disk: same promises, no restart.

``seekfs_core.retention.RamRetention`` decides. A page that is leased is pinned, so that what is
held and what is lent together stay under the ceiling.

The machine's memory may end before the ceiling does. A page for which there is none is refused, like
one for which there is no room.
"""

from __future__ import annotations

import logging
import mmap
import threading
import time
from collections import Counter
from collections.abc import Callable

from seekfs_core.pages import PageKey
from seekfs_core.readback import PageLoss, disagreement
from seekfs_core.retention import (
    Admit,
    Evict,
    PageDropped,
    PageOffered,
    PagePinned,
    PageUnpinned,
    RamEvent,
    RamRetention,
    Refusal,
    Refuse,
    ram_charge,
)
from seekfs_io.pages.base import CLOSE_SECONDS_DEFAULT, TierStatistics
from seekfs_io.tracing import NO_TRACE, NoTrace

log = logging.getLogger("seekfs.cache")


class _Page:
    __slots__ = ("crc32c", "length", "memory")

    def __init__(self, page: memoryview, crc32c: int) -> None:
        self.length = len(page)
        self.crc32c = crc32c
        # Not from the allocator, which keeps freed blocks: a ceiling on memory has to be one.
        self.memory = mmap.mmap(-1, self.length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.memory[:] = page


class MemoryLease:
    """A page in memory; see ``PageLease``. It was verified before it came, and RAM is trusted."""

    __slots__ = ("_key", "_page", "_store", "crc32c", "keeps_view", "length", "verified")

    def __init__(self, store: MemoryPageStore, key: PageKey, page: _Page) -> None:
        self.length = page.length
        self.crc32c = page.crc32c
        self.verified = True
        self.keeps_view = False
        self._store = store
        self._key = key
        self._page = page

    def readinto(self, view: memoryview, offset: int) -> bool:
        stop = offset + len(view)
        if offset < 0 or stop > self.length:
            raise ValueError(f"bytes {offset} to {stop} of a page of {self.length}")
        with memoryview(self._page.memory) as memory, memory[offset:stop] as part:
            view[:] = part
        return True

    def mark_verified(self) -> None:
        """It is."""

    def condemn(self) -> None:
        self._store._condemn(self._key, self._page)

    def release(self) -> None:
        self._store._release(self._key)


class MemoryPageStore:
    """Pages in anonymous memory under ``ceiling_bytes``. Thread-safe; one short lock."""

    name = "mem"

    def __init__(
        self,
        ceiling_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        tracer: NoTrace = NO_TRACE,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._retention = RamRetention(ceiling_bytes)
        self._feed_retention = tracer.watch("l2", self._retention)
        self._pages: dict[PageKey, _Page] = {}
        self._held_bytes = 0
        self._now = clock()
        self._closed = False
        self._written = self._evicted = 0
        self._refusals: Counter[Refusal] = Counter()
        self._crc_failures = self._faults = 0

    def __contains__(self, key: PageKey) -> bool:
        return key in self._pages

    def lease(self, key: PageKey, length: int, crc32c: int) -> MemoryLease | None:
        """Hold a page for reading; None on a miss. ``length`` and ``crc32c`` are the manifest's."""
        with self._lock:
            page, loss = self._agreeing(key, length, crc32c)
            if page is not None:
                self._feed(PagePinned(key))
        _say(key, loss)
        return None if page is None else MemoryLease(self, key, page)

    def store(self, key: PageKey, page: memoryview, crc32c: int) -> bool:
        """Keep a copy of a verified page; False when there is no room for it."""
        failure: OSError | MemoryError | None = None
        with self._lock:
            if self._closed:
                return False
            held, loss = self._agreeing(key, len(page), crc32c)
            if held is not None:
                return True
            # Others leave before memory is asked for: what is held and this page never exceed the ceiling.
            kept = self._feed(PageOffered(key, ram_charge(len(page))))
            if kept:
                try:
                    self._pages[key] = _Page(page, crc32c)
                    self._held_bytes += len(page)
                    self._written += 1
                except (OSError, MemoryError) as error:
                    self._feed(PageDropped(key))
                    self._refusals[Refusal.FAILED] += 1
                    kept, failure = False, error
        _say(key, loss)
        if failure is not None:
            log.warning("a page of %d bytes is not kept: %s", len(page), failure)
        return kept

    def tell_hits(self) -> None:
        """There are none to tell of: here a lease is a pin, which says more."""

    def statistics(self) -> TierStatistics:
        with self._lock:
            return TierStatistics(
                name=self.name,
                bytes_held=self._held_bytes,
                bytes_ceiling=self._retention.ceiling_bytes,
                pages_held=len(self._pages),
                pages_written=self._written,
                refusals=dict(self._refusals),
                pages_evicted=self._evicted,
                crc_failures=self._crc_failures,
                faults=self._faults,
            )

    def close(self, timeout_seconds: float = CLOSE_SECONDS_DEFAULT) -> None:
        """Forget everything, at once; what is leased can still be read."""
        with self._lock:
            self._closed = True
            for key in list(self._pages):
                self._drop(key)

    def _condemn(self, key: PageKey, page: _Page) -> None:
        with self._lock:
            self._lose(key, page, PageLoss.WRONG_CRC)
        _say(key, PageLoss.WRONG_CRC)

    def _release(self, key: PageKey) -> None:
        with self._lock:
            self._feed(PageUnpinned(key))

    # Under the lock

    def _agreeing(self, key: PageKey, length: int, crc32c: int) -> tuple[_Page | None, PageLoss | None]:
        """The page that is held, if it is the one that the manifest means. Another one is dropped, for the
        reason given."""
        page = self._pages.get(key)
        if page is None:
            return None, None
        loss = disagreement((page.length, page.crc32c), (length, crc32c))
        if loss is None:
            return page, None
        self._lose(key, page, loss)
        return None, loss

    def _lose(self, key: PageKey, page: _Page, loss: PageLoss) -> None:
        self._faults += loss.is_fault
        self._crc_failures += not loss.is_fault
        if self._pages.get(key) is page:
            self._drop(key)

    def _drop(self, key: PageKey) -> None:
        self._feed(PageDropped(key))
        self._held_bytes -= self._pages.pop(key).length

    def _feed(self, event: RamEvent) -> bool:
        """Feed the policy; whether it admitted what was offered."""
        self._now = max(self._now, self._clock())
        admitted = False
        for action in self._feed_retention(event, self._now):
            match action:
                case Evict(key):
                    self._held_bytes -= self._pages.pop(key).length
                    self._evicted += 1
                case Admit():
                    admitted = True
                case Refuse(_, reason):
                    self._refusals[reason] += 1
        return admitted


def _say(key: PageKey, loss: PageLoss | None) -> None:
    """Tell the log of a page that was dropped. Not under the lock: the log may be slow."""
    if loss is not None:
        log.warning("page %s in memory is dropped: %s", key.hex()[-16:], loss.value)
