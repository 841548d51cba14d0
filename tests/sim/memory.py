"""The page buffers of a simulated process: ``seekfs_io.pages.ram``, with pieces in place of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field

from seekfs_core.buffers import BufferLedger, PageAccount
from seekfs_core.pages import PageKey
from seekfs_core.retention import HITS_SECONDS_MAX, HITS_SEEN_AT_ONCE, RamRetention
from tests.sim.content import Piece
from tests.sim.oracles import Violation


@define(eq=False)
class Buffer(PageAccount):
    """A page buffer, and what was read into it."""

    piece: Piece | None = field(default=None, init=False)
    crc: int = field(default=0, init=False)


@define(eq=False)
class SimRam:
    """Buffers that are made, held, kept and let go of. Books of its own say what all of them take."""

    l1_bytes_max: int
    room_bytes_max: int
    now: Callable[[], float]
    later: Callable[[Callable[[], object], float], None]
    watch: Callable[[RamRetention], Callable[..., tuple[object, ...]]]
    ledger: BufferLedger[Buffer] = field(init=False)
    live: dict[int, Buffer] = field(factory=dict)
    """Every buffer whose memory is there."""
    live_bytes: int = 0
    _hits: deque[PageKey] = field(factory=deque)
    _takes: int = 0

    def __attrs_post_init__(self) -> None:
        self.ledger = BufferLedger(self.l1_bytes_max, self.room_bytes_max, self.watch)  # type: ignore[arg-type]

    def __contains__(self, key: PageKey) -> bool:
        return key in self.ledger

    def take(self, length: int) -> Buffer:
        """A buffer for room that was granted."""
        self.ledger.take(length)
        buffer = Buffer(length)
        self.live[id(buffer)] = buffer
        self.live_bytes += length
        self._check()
        return buffer

    def keep(self, buffer: Buffer, key: PageKey, crc: int, holders: int) -> int:
        """A verified page; the room that L1 gives back for it."""
        self.tell_hits()
        buffer.crc = crc
        offer = self.ledger.offer(buffer, key, holders, self.now())
        for evicted in offer.evicted:
            self._free(evicted)
        return offer.room_bytes

    def hold(self, key: PageKey) -> Buffer | None:
        buffer = self.ledger.hold(key)
        if buffer is not None:
            if not self._hits:
                self.later(self.tell_hits, HITS_SECONDS_MAX)
            self._hits.append(key)
        return buffer

    def release(self, buffer: Buffer) -> int:
        """Hold it once less; the room that gives back."""
        if not self.ledger.release(buffer):
            return 0
        self._free(buffer)
        return buffer.length

    def tell_hits(self) -> None:
        hits = self._hits
        while hits:
            keys = tuple(hits.popleft() for _ in range(min(len(hits), HITS_SEEN_AT_ONCE)))
            self.ledger.hits_seen(keys, self.now())

    def _free(self, buffer: Buffer) -> None:
        if self.live.pop(id(buffer), None) is None:
            raise Violation("a buffer is let go of twice")
        self.live_bytes -= buffer.length
        buffer.piece = None  # Somebody else's bytes, from here on.

    def _check(self) -> None:
        """Neither ceiling is passed: by all memory together every time, by each part of it every few."""
        if self.live_bytes > self.room_bytes_max + self.l1_bytes_max:
            raise Violation(f"{self.live_bytes} bytes of buffers are there")
        self._takes += 1
        if self._takes % 8 == 0:
            room = sum(buffer.length for buffer in self.live.values() if not buffer.in_l1)
            if room > self.room_bytes_max:
                raise Violation(f"{room} bytes of buffers that L1 does not keep, of {self.room_bytes_max}")
            if self.live_bytes - room > self.l1_bytes_max:
                raise Violation(f"{self.live_bytes - room} bytes of buffers in L1, of {self.l1_bytes_max}")
