"""Pages in memory: every page buffer of the process, and the first tier (L1) among them.

``seekfs_core.buffers.BufferLedger`` says whose each buffer is and which leave; here are the memory and
the lock.

Buffers are anonymous memory maps, because the C allocator keeps freed blocks of this size to
itself and a ceiling on memory has to be one. Free ones are kept for reuse as far as the room
allows: touching fresh pages of memory costs more than reading a page from a local store.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Callable

from seekfs_core.buffers import BufferLedger, PageAccount
from seekfs_core.pages import PageKey
from seekfs_io.pages.base import TierStatistics
from seekfs_io.pages.hits import Hits
from seekfs_io.tracing import NO_TRACE, NoTrace

SMALL_BYTES_MAX = 64 * 1024
"""Smaller pages come from the ordinary allocator: a map of its own costs a system call and 4 KiB."""


class PageBuffer(PageAccount):
    """The memory of one page. Holders are counted by ``RamPages``; nobody else touches the fields."""

    __slots__ = ("_memory", "crc32c", "view")

    def __init__(self, length: int, memory: mmap.mmap | bytearray) -> None:
        super().__init__(length)
        self.view = memoryview(memory)
        self.crc32c = 0
        self._memory = memory

    @property
    def memory(self) -> mmap.mmap | bytearray:
        return self._memory


class RamPages:
    """All page buffers, and L1 under ``ceiling_bytes``. Thread-safe; one short lock."""

    def __init__(
        self,
        ceiling_bytes: int,
        room_bytes_max: int,
        clock: Callable[[], float],
        tracer: NoTrace = NO_TRACE,
    ) -> None:
        self._lock = threading.Lock()
        self._ledger: BufferLedger[PageBuffer] = BufferLedger(
            ceiling_bytes, room_bytes_max, watch=lambda policy: tracer.watch("l1", policy)
        )
        self._clock = clock
        self._hits = Hits()
        self._free: dict[int, list[mmap.mmap]] = {}

    def __contains__(self, key: PageKey) -> bool:
        return key in self._ledger

    def take(self, length: int) -> PageBuffer:
        """A buffer of ``length`` bytes, held once by the caller, whose room was granted before."""
        with self._lock:
            supply = self._ledger.take(length)
            for surplus in supply.surplus:
                memory = self._free[surplus].pop()
                # One that is still looked at goes when the last view of it does.
                with contextlib.suppress(BufferError):
                    memory.close()
            if supply.is_reused:
                return PageBuffer(length, self._free[length].pop())
        try:
            return PageBuffer(length, _allocate(length))
        except BaseException:
            with self._lock:
                self._ledger.not_taken(length)
            raise

    def keep(self, buffer: PageBuffer, key: PageKey, crc32c: int, holders: int) -> int:
        """A buffer holds a verified page: let it be found, add holders, offer it to L1.

        The room that this gives back, in bytes, because L1 has taken the page over; or 0.
        """
        self.tell_hits()
        with self._lock:
            buffer.crc32c = crc32c
            offer = self._ledger.offer(buffer, key, holders, self._clock())
            for evicted in offer.evicted:
                self._retire(evicted)
            return offer.room_bytes

    def hold(self, key: PageKey) -> PageBuffer | None:
        """The verified page, held once more, or None. A hit, for the policy of L1."""
        with self._lock:
            buffer = self._ledger.hold(key)
        if buffer is not None:
            self._hits.note(key)
        return buffer

    def tell_hits(self) -> None:
        """Have the policy of L1 hear of the hits."""
        for keys in self._hits.drain():
            with self._lock:
                self._ledger.hits_seen(keys, self._clock())

    def release(self, buffer: PageBuffer) -> int:
        """Hold a buffer once less. The room that this gives back, in bytes."""
        with self._lock:
            if not self._ledger.release(buffer):
                return 0
            self._retire(buffer)
            return buffer.length

    def leave(self, buffer: PageBuffer) -> int:
        """Give up a buffer that the caller alone holds, and that a disk which hangs may still write into. The
        room that this gives back, in bytes.

        Its memory goes back to the kernel at once and is nobody else's: it goes for good when the disk
        has answered.
        """
        with self._lock:
            is_gone = self._ledger.release(buffer)
        assert is_gone
        if isinstance(buffer.memory, mmap.mmap):
            buffer.memory.madvise(mmap.MADV_DONTNEED)
        return buffer.length

    def statistics(self) -> TierStatistics:
        with self._lock:
            ledger = self._ledger
            return TierStatistics(
                name="l1",
                bytes_held=ledger.l1_bytes,
                bytes_ceiling=ledger.l1_bytes_max,
                pages_held=ledger.l1_pages,
                pages_written=ledger.pages_admitted,
                refusals=dict(ledger.refusals),
                pages_evicted=ledger.pages_evicted,
            )

    def _retire(self, buffer: PageBuffer) -> None:
        """Nobody holds or keeps the buffer: its memory is reused, as far as the room allows, or freed."""
        buffer.view.release()
        memory = buffer.memory
        if isinstance(memory, bytearray):
            return
        if self._ledger.keeps_spare(buffer.length):
            self._free.setdefault(buffer.length, []).append(memory)
        else:
            memory.close()


def _allocate(length: int) -> mmap.mmap | bytearray:
    if length < SMALL_BYTES_MAX:
        return bytearray(length)
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
