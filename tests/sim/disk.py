"""The disk of a node: what outlives its processes, and what a bad disk does with it.

Whatever takes time on it may be caught half done by a kill: it is then done, or not, or half.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from attrs import define, field

from seekfs_core.restoring import IndexEntry, RecordHeader
from seekfs_core.segment_layout import SEGMENT_OVERHEAD_BYTES, Shares, record_length
from seekfs_core.testing import Chance, VirtualClock
from seekfs_core.tier import Operation, Outcome
from tests.sim.content import Piece
from tests.sim.options import Options
from tests.sim.oracles import Violation
from tests.sim.tasks import Life, Steps

HANG_SECONDS = 30.0


class DiskError(Exception):
    """The disk did not do what it was asked."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


@define(eq=False)
class Record:
    """A page in a segment's file, with what is written before it."""

    header: RecordHeader
    piece: Piece


@define(eq=False)
class SegmentFile:
    """A segment's file: allocated whole when it is made."""

    capacity: int
    records: dict[int, Record] = field(factory=dict)


@define(eq=False)
class _Pending:
    """What the disk is at. ``half_do`` is what a kill may leave of it."""

    owner: Life
    do: Callable[[], object]
    half_do: Callable[[], object] | None


@define(eq=False)
class SimDisk:
    """See the module's text. ``owner`` is the process that has locked the directory."""

    clock: VirtualClock
    chance: Chance
    options: Options
    shares: Shares
    owner: Life | None = None
    segments: dict[int, SegmentFile] = field(factory=dict)
    index: dict[bytes, IndexEntry] = field(factory=dict)
    index_boot: bytes | None = None
    boot: bytes = b"boot-1"
    manifests: dict[tuple[str, int], bytes] = field(factory=dict)
    """Oldest use first."""
    heads: dict[str, int] = field(factory=dict)
    is_healed: bool = False
    _pending: dict[int, _Pending] = field(factory=dict)
    _operations: int = 0
    _full_until: float = -1.0
    _unreadable_until: float = -1.0

    def heal(self) -> None:
        self.is_healed = True
        self._full_until = self._unreadable_until = -1.0

    def operate(
        self,
        owner: Life,
        operation: Operation,
        do: Callable[[], Any],
        half_do: Callable[[], object] | None = None,
    ) -> Steps:
        """Have something done, which takes a while; ``DiskError`` where it is not."""
        outcome, seconds = self._fate(operation)
        number = self._operations = self._operations + 1
        self._pending[number] = _Pending(owner, do if outcome is Outcome.DONE else lambda: None, half_do)
        yield seconds
        del self._pending[number]
        if outcome is not Outcome.DONE:
            raise DiskError(outcome)
        return do()

    def killed(self, owner: Life) -> None:
        """A process is gone: what it had asked for is done, half done, or not."""
        for number, pending in list(self._pending.items()):
            if pending.owner is owner:
                del self._pending[number]
                with contextlib.suppress(DiskError):  # Nobody is left to be told.
                    if self.chance.happens(0.5):
                        pending.do()
                    elif pending.half_do is not None and self.chance.happens(0.5):
                        pending.half_do()
        if self.owner is owner:
            self.owner = None
            self._rot()

    def let_go(self, owner: Life) -> None:
        """A process has unlocked the directory."""
        if self.owner is owner:
            self.owner = None
            self._rot()

    def _rot(self) -> None:
        """What happens to files that nobody looks at."""
        if self.is_healed:
            return
        records = [record for file in self.segments.values() for record in file.records.values()]
        if "rotten" in self.options.faults:
            for record in records:
                if self.chance.happens(0.1):
                    record.piece = record.piece.damaged(7)
        if "vanished" in self.options.faults and self.segments and self.chance.happens(0.3):
            del self.segments[self.chance.choice(sorted(self.segments))]
        if "reboot" in self.options.faults and self.chance.happens(0.3):
            self.boot = b"boot-%d" % self._operations
            for record in records:
                if self.chance.happens(0.05):  # It had not come to the platters.
                    record.piece = record.piece.damaged(8)

    # --- files ------------------------------------------------------------------------------

    def make(self, number: int, capacity: int) -> None:
        """A segment's file, with all of its blocks."""
        if number in self.segments:
            raise Violation(f"segment {number} is made twice")
        self.segments[number] = SegmentFile(capacity)
        used = sum(file.capacity + SEGMENT_OVERHEAD_BYTES for file in self.segments.values())
        if used + self.shares.reserved_bytes > self.shares.ceiling_bytes:
            raise Violation(f"{used} bytes of segments, and {self.shares.reserved_bytes} more")

    def write(self, record: Record) -> None:
        """A record, over whatever is there."""
        file = self.segments.get(record.header.segment)
        if file is None:
            raise DiskError(Outcome.VANISHED)
        stop = record.header.offset + record_length(record.header.length)
        if stop > file.capacity:
            raise Violation(f"a record is written up to {stop} of a segment of {file.capacity}")
        for offset, other in list(file.records.items()):
            end = offset + record_length(other.header.length)
            if offset < stop and record.header.offset < end:
                del file.records[offset]
        file.records[record.header.offset] = record

    def read(self, segment: int, offset: int) -> Record | None:
        """What is at this place, or None: nothing that is a record."""
        file = self.segments.get(segment)
        if file is None:
            raise DiskError(Outcome.VANISHED)
        return file.records.get(offset)

    def walk(self, segment: int) -> list[RecordHeader]:
        """The headers of a segment's records, one behind the other, up to the first gap."""
        found: list[RecordHeader] = []
        at = 0
        records = self.segments[segment].records
        while (record := records.get(at)) is not None:
            found.append(record.header)
            at += record_length(record.header.length)
        return found

    # --- chance -----------------------------------------------------------------------------

    def _fate(self, operation: Operation) -> tuple[Outcome, float]:
        seconds = self.options.disk_seconds and self.chance.exponential(self.options.disk_seconds)
        if self.is_healed:
            return Outcome.DONE, seconds
        now, faults = self.clock.now, self.options.faults
        is_struck = self.chance.happens(self.options.fault_share)
        if is_struck and "vanished" in faults and self.segments and self.chance.happens(0.3):
            del self.segments[self.chance.choice(sorted(self.segments))]  # Under the feet of its owner.
        if operation is Operation.READ:
            if is_struck and "unreadable" in faults:
                self._unreadable_until = now + self.chance.exponential(0.3)
            if now < self._unreadable_until:
                return Outcome.REFUSED, seconds
        elif operation in (Operation.MAKE, Operation.WRITE, Operation.INDEX, Operation.UNINDEX):
            if is_struck and "full" in faults:
                self._full_until = now + self.chance.exponential(1.0)
            if now < self._full_until:
                return Outcome.REFUSED, seconds
        elif is_struck and "full" in faults:
            return Outcome.REFUSED, seconds
        if is_struck and "starved" in faults and self.chance.happens(0.5):
            return Outcome.STARVED, seconds
        if is_struck and "hangs" in faults:
            return Outcome.DONE, HANG_SECONDS
        if is_struck and "slow" in faults:
            return Outcome.DONE, seconds + self.chance.exponential(0.5)
        return Outcome.DONE, seconds
