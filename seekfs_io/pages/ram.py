"""Pages in memory: every page buffer of the process, and the first tier (L1) among them.

A ``PageBuffer`` lives while somebody holds it (the GET that fills it, readers, write-behind) or
L1 keeps it. It is charged to exactly one ceiling at any time: to L1 while L1 keeps it, else to
the *room* that ``seekfs_core.fetch`` hands out. L1 does not let go of a page that is held, so a
byte never slips out of both accounts.

A verified buffer can be found by its key for as long as it lives, even if L1 never admitted it:
a reader that comes late shares it with those who hold it.

Buffers are anonymous memory maps, because the C allocator keeps freed blocks of this size to
itself and a ceiling on memory has to be one. Free ones are kept for reuse as far as the room
allows: touching fresh pages of memory costs more than reading a page from a local store.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import deque
from collections.abc import Callable

from seekfs_core.pages import PageKey
from seekfs_core.retention import (
    Admit,
    Evict,
    PageOffered,
    PagePinned,
    PagesHit,
    PageUnpinned,
    RamRetention,
)
from seekfs_io.pages.base import TierStatistics

SMALL_BYTES_MAX = 64 * 1024
"""Smaller pages come from the ordinary allocator: a map of its own costs a system call and 4 KiB."""

OVERHEAD_BYTES = 1024
"""What keeping a page costs beside its bytes; charged to L1, so that a million one-byte pages count."""

HITS_NOTED_MAX = 65_536


class PageBuffer:
    """The memory of one page. Holders are counted by ``RamPages``; nobody else touches the fields."""

    __slots__ = ("_memory", "crc32c", "holders", "in_ram", "key", "length", "view")

    def __init__(self, length: int, memory: mmap.mmap | bytearray) -> None:
        self.length = length
        self.view = memoryview(memory)
        self.key: PageKey | None = None
        self.crc32c = 0
        self.holders = 1
        self.in_ram = False
        self._memory = memory

    @property
    def memory(self) -> mmap.mmap | bytearray:
        return self._memory


class RamPages:
    """All page buffers, and L1 under ``ceiling_bytes``. Thread-safe; one short lock."""

    def __init__(self, ceiling_bytes: int, room_bytes_max: int, clock: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._retention = RamRetention(ceiling_bytes)
        self._room_bytes_max = room_bytes_max
        self._clock = clock
        self._found: dict[PageKey, PageBuffer] = {}
        self._pinned: set[PageKey] = set()
        self._held: dict[PageKey, PageBuffer] = {}
        self._hits: deque[PageKey] = deque(maxlen=HITS_NOTED_MAX)
        self._free: dict[int, list[mmap.mmap]] = {}
        self._free_bytes = 0
        self._room_bytes = 0
        self._admitted = 0
        self._refused = 0
        self._evicted = 0

    def __contains__(self, key: PageKey) -> bool:
        return key in self._found

    def take(self, length: int) -> PageBuffer:
        """A buffer of ``length`` bytes, held once by the caller, whose room was granted before."""
        with self._lock:
            self._room_bytes += length
            stock = self._free.get(length)
            if stock:
                self._free_bytes -= length
                return PageBuffer(length, stock.pop())
            self._trim_free()
        try:
            return PageBuffer(length, _allocate(length))
        except BaseException:
            # No memory: what the caller may have is not what it has.
            with self._lock:
                self._room_bytes -= length
            raise

    def keep(self, buffer: PageBuffer, key: PageKey, crc32c: int, holders: int) -> int:
        """A buffer holds a verified page: let it be found, add holders, offer it to L1.

        The room that this gives back, in bytes, because L1 has taken the page over; or 0.
        """
        with self._lock:
            buffer.key = key
            buffer.crc32c = crc32c
            buffer.holders += holders
            if key in self._found:
                # Somebody read the same page back from disk meanwhile: this copy serves its holders only.
                buffer.key = None
                return 0
            self._found[key] = buffer
            self._held[key] = buffer
            self._offer(buffer, key)
            if not buffer.in_ram:
                return 0
            self._room_bytes -= buffer.length
            return buffer.length

    def hold(self, key: PageKey) -> PageBuffer | None:
        """The verified page, held once more, or None. A hit, for the policy of L1."""
        with self._lock:
            buffer = self._found.get(key)
            if buffer is not None:
                buffer.holders += 1
                if buffer.holders == 1:
                    self._held[key] = buffer
                self._hits.append(key)
            return buffer

    def release(self, buffer: PageBuffer) -> int:
        """Hold a buffer once less. The room that this gives back, in bytes."""
        with self._lock:
            buffer.holders -= 1
            if buffer.holders:
                return 0
            if buffer.key is not None:
                self._held.pop(buffer.key, None)
                if buffer.in_ram:
                    return 0
                del self._found[buffer.key]
            self._room_bytes -= buffer.length
            self._retire(buffer)
            return buffer.length

    def statistics(self) -> TierStatistics:
        with self._lock:
            return TierStatistics(
                name="l1",
                bytes_held=self._retention.charged_bytes,
                bytes_ceiling=self._retention.ceiling_bytes,
                pages_held=len(self._retention),
                pages_written=self._admitted,
                pages_refused=self._refused,
                pages_evicted=self._evicted,
            )

    def _offer(self, buffer: PageBuffer, key: PageKey) -> None:
        now = self._clock()
        self._retention.feed(PagesHit(tuple(self._hits)), now)
        self._hits.clear()
        # The policy is told who is held only now, when it matters: a hit pays for a count, not for an event.
        for held in [held for held, page in self._held.items() if page.in_ram and held not in self._pinned]:
            self._retention.feed(PagePinned(held), now)
            self._pinned.add(held)
        for idle in [idle for idle in self._pinned if idle not in self._held]:
            self._retention.feed(PageUnpinned(idle), now)
            self._pinned.remove(idle)
        for action in self._retention.feed(PageOffered(key, buffer.length + OVERHEAD_BYTES), now):
            match action:
                case Evict(victim):
                    self._evicted += 1
                    self._retire(self._found.pop(victim))
                case Admit():
                    self._admitted += 1
                    buffer.in_ram = True
                case _:
                    self._refused += 1

    def _retire(self, buffer: PageBuffer) -> None:
        """Nobody holds or keeps the buffer: its memory is reused, as far as the room allows, or freed."""
        buffer.view.release()
        memory = buffer.memory
        if isinstance(memory, bytearray):
            return
        if self._room_bytes + self._free_bytes + buffer.length <= self._room_bytes_max:
            self._free.setdefault(buffer.length, []).append(memory)
            self._free_bytes += buffer.length
        else:
            memory.close()

    def _trim_free(self) -> None:
        """Free memory of other lengths makes way for what is used."""
        for stock in self._free.values():
            while stock and self._room_bytes + self._free_bytes > self._room_bytes_max:
                memory = stock.pop()
                self._free_bytes -= len(memory)
                # One that is still looked at goes when the last view of it does.
                with contextlib.suppress(BufferError):
                    memory.close()


def _allocate(length: int) -> mmap.mmap | bytearray:
    if length < SMALL_BYTES_MAX:
        return bytearray(length)
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
