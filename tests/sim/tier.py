"""The pages on disk: ``seekfs_io.pages.segmentstore``, in virtual time, on a disk that outlives it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from attrs import define, field

from seekfs_core.pages import PageKey
from seekfs_core.readback import corruption, disagreement, loss_in_reading
from seekfs_core.restoring import (
    IndexEntry,
    RecordHeader,
    believed_record,
    doubt_of_index,
    entries_of,
    restored_from,
)
from seekfs_core.retention import HitsSeen, Refusal, Refuse
from seekfs_core.segment_messages import (
    CopyPage,
    DropEntries,
    EntriesKept,
    LogAction,
    LogEvent,
    OpenFailed,
    OpenSegment,
    PageDropped,
    PageOffered,
    PagePublished,
    PageWritten,
    Publish,
    RetireSegment,
    Reveal,
    SegmentDrained,
    SegmentHeld,
    SegmentUnlinked,
    UnlinkFailed,
    UnlinkSegment,
    WriteFailed,
    WritePage,
)
from seekfs_core.segments import SegmentLog
from seekfs_core.tier import Operation, Outcome
from tests.sim.content import Piece
from tests.sim.disk import DiskError, Record
from tests.sim.diskcalls import DiskHangs, SimDiskCalls
from tests.sim.tasks import Signal, Steps

if TYPE_CHECKING:
    from tests.sim.process import Process

STORE_ID = b"the-store"


@define(eq=False)
class Segment:
    """A segment, and who is in it. ``made`` is None until its file was made, or could not be."""

    number: int
    capacity: int
    made: bool | None = None
    leases: int = 0
    is_retired: bool = False
    settled: list[Signal] = field(factory=list)

    def enter(self) -> bool:
        if self.is_retired:
            return False
        self.leases += 1
        return True

    def settle(self, *, made: bool) -> None:
        self.made = made
        for signal in self.settled:
            signal.send()


@define(eq=False)
class Place:
    """Where a page is."""

    segment: Segment
    offset: int
    length: int
    crc: int
    is_verified: bool = False


@define(eq=False)
class Lease:
    """A page that can be read."""

    tier: SimTier
    key: PageKey
    place: Place
    is_probe: bool
    keeps_view: bool = False

    @property
    def length(self) -> int:
        return self.place.length

    @property
    def crc(self) -> int:
        return self.place.crc

    @property
    def verified(self) -> bool:
        return self.place.is_verified

    def read(self, stays: Callable[[], None] = lambda: None) -> Generator[float | Signal, None, Piece | None]:
        """The page's bytes, or None on a fault."""
        self.is_probe = False
        try:
            piece: Piece | None = yield from self.tier.read(self.key, self.place, stays)
            return piece
        except DiskHangs as hangs:
            self.keeps_view = hangs.is_tried
            return None

    def mark_verified(self) -> None:
        self.place.is_verified = True

    def condemn(self) -> None:
        self.tier.forget(self.key, self.place)

    def release(self) -> None:
        self.tier.leave(self.place.segment)
        if self.is_probe:
            self.tier.calls.abandoned(self.tier.calls.reading)


@define(eq=False)
class SimTier:
    """See the module's text."""

    process: Process
    calls: SimDiskCalls
    log: SegmentLog
    pages: dict[PageKey, Place] = field(factory=dict)
    segments: dict[int, Segment] = field(factory=dict)
    is_closed: bool = False
    _placed: dict[PageKey, Place] = field(factory=dict)
    _backlog: deque[LogAction] = field(factory=deque)
    _hits: deque[PageKey] = field(factory=deque)
    _feed_log: Callable[..., tuple[LogAction, ...]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._feed_log = self.process.watch("segments", self.log)

    # --- readers ----------------------------------------------------------------------------

    def __contains__(self, key: PageKey) -> bool:
        return key in self.pages and self.calls.reading.would_let_through()

    def lease(self, key: PageKey, length: int, crc: int) -> Lease | None:
        place = self.pages.get(key)
        if place is None:
            return None
        if disagreement((place.length, place.crc), (length, crc)) is not None:
            self.forget(key, place)
            return None
        if not place.segment.enter():
            return None
        is_let_through, is_probe = self.calls.reading.ask()
        if not is_let_through:
            self.leave(place.segment)
            return None
        if not self._hits:
            self.process.later(self._tell_hits_soon, 1.0)
        self._hits.append(key)
        return Lease(self, key, place, is_probe)

    def read(self, key: PageKey, place: Place, stays: Callable[[], None]) -> Steps:
        """``DiskHangs`` is passed on."""
        segment = place.segment

        def do() -> Record | None:
            return self.process.world.disk.read(segment.number, place.offset)

        def hangs() -> None:
            segment.leases += 1  # The disk is in it, until it comes back.
            stays()

        try:
            record = yield from self.calls.wait_for(Operation.READ, do, hangs, lambda: self.leave(segment))
        except DiskHangs as error:
            self._lose(key, place, error.outcome)
            raise
        except DiskError as error:
            self._lose(key, place, error.outcome)
            self.calls.went(Operation.READ, error.outcome)
            return None
        outcome = Outcome.DONE if self._is_its(record, key, place) else Outcome.DAMAGED
        self._lose(key, place, outcome)
        self.calls.went(Operation.READ, outcome)
        return record.piece if outcome is Outcome.DONE else None

    def _is_its(self, record: Record | None, key: PageKey, place: Place) -> bool:
        return record is not None and record.header == self._header(key, place)

    def _header(self, key: PageKey, place: Place) -> RecordHeader:
        return RecordHeader(
            store_id=STORE_ID,
            segment=place.segment.number,
            offset=place.offset,
            key=key,
            length=place.length,
            crc32c=place.crc,
        )

    def _lose(self, key: PageKey, place: Place, outcome: Outcome) -> None:
        if loss_in_reading(outcome) is not None:
            self.forget(key, place)

    def forget(self, key: PageKey, place: Place) -> None:
        """Let nobody find a page any more."""
        if self.pages.get(key) is place:
            del self.pages[key]
            self._backlog.extend(self._feed(PageDropped(key)))

    def leave(self, segment: Segment) -> None:
        segment.leases -= 1
        if segment.is_retired and not segment.leases:
            self._backlog.extend(self._feed(SegmentDrained(segment.number)))

    # --- writers ----------------------------------------------------------------------------

    def store(self, key: PageKey, piece: Piece, crc: int) -> Steps:
        """Keep a verified page, if it is admitted and can be written."""
        held = self.pages.get(key)
        if held is not None:
            if disagreement((held.length, held.crc), (piece.length, crc)) is None:
                return
            self.forget(key, held)
        if self.is_closed:
            return
        self.tell_hits()
        is_let_through, is_probe = self.calls.writing.ask()
        if not is_let_through:
            self.process.world.seen[f"page refused: {Refusal.OFF.name}"] += 1
            return
        backlog = list(self._backlog)
        self._backlog.clear()
        yield from self._carry_out(backlog)
        leased = frozenset(number for number, segment in self.segments.items() if segment.leases)
        actions = self._feed(PageOffered(key, piece.length, leased, is_probe=is_probe))
        yield from self._carry_out(actions, piece, crc)
        if is_probe:
            self.calls.abandoned(self.calls.writing)

    def _tell_hits_soon(self) -> None:
        if self.process.life.is_alive:
            self.tell_hits()

    def tell_hits(self) -> None:
        if self._hits:
            keys = tuple(self._hits)
            self._hits.clear()
            self._feed(HitsSeen(keys))

    def _carry_out(
        self, actions: Iterable[LogAction], piece: Piece | None = None, crc: int | None = None
    ) -> Steps:
        todo = deque(actions)
        while todo:
            event = yield from self._do(todo.popleft(), piece, crc)
            if event is not None:
                todo.extendleft(reversed(self._feed(event)))

    def _do(self, action: LogAction, piece: Piece | None, crc: int | None) -> Steps:
        match action:
            case OpenSegment():
                return (yield from self._make(action))
            case WritePage(key, number, offset):
                assert piece is not None
                assert crc is not None
                place = Place(self.segments[number], offset, piece.length, crc)
                return (yield from self._place(key, place, piece))
            case CopyPage():
                return (yield from self._copy(action))
            case Publish(key, number, offset, nbytes):
                entry = IndexEntry(number, offset, nbytes, self._placed[key].crc)
                return (yield from self._publish(action, entry))
            case DropEntries(entries):
                return (yield from self._drop(entries))
            case UnlinkSegment(number):
                return (yield from self._unlink(number))
            case _:
                return None

    def _make(self, action: OpenSegment) -> Steps:
        disk = self.process.world.disk
        segment = self.segments[action.segment]
        try:
            yield from self.calls.under_way(
                Operation.MAKE, lambda: disk.make(action.segment, action.capacity)
            )
        except DiskError as error:
            self.calls.went(Operation.MAKE, error.outcome)
            segment.settle(made=False)
            return OpenFailed(action.segment)
        segment.settle(made=True)
        return None

    def _place(self, key: PageKey, place: Place, piece: Piece) -> Steps:
        """Write a record, into a segment that another thread may still be making."""
        number, segment = place.segment.number, place.segment
        if segment.made is None:
            signal = Signal()
            segment.settled.append(signal)
            yield signal
        if not segment.made or not segment.enter():
            return WriteFailed(key, number)
        disk = self.process.world.disk
        record = Record(self._header(key, place), piece)
        half = Record(record.header, piece.damaged(9))
        is_torn = "torn" in self.process.world.options.faults
        try:
            yield from self.calls.under_way(
                Operation.WRITE, lambda: disk.write(record), (lambda: disk.write(half)) if is_torn else None
            )
        except DiskError as error:
            self.calls.went(Operation.WRITE, error.outcome)
            return WriteFailed(key, number)
        finally:
            self.leave(segment)
        self._placed[key] = place
        return PageWritten(key, number)

    def _copy(self, action: CopyPage) -> Steps:
        key = action.key
        old = self.pages.get(key)
        if old is None or old.segment.number != action.source or not old.segment.enter():
            return WriteFailed(key, action.segment)
        is_let_through, is_probe = self.calls.reading.ask()
        piece: Piece | None = None
        if is_let_through:
            try:
                piece = yield from self.read(key, old, lambda: None)
            except DiskHangs:
                piece = None
            if is_probe:
                self.calls.abandoned(self.calls.reading)
        event: Any = WriteFailed(key, action.segment)
        if piece is not None and corruption(piece.crc, old.crc) is not None:
            self.forget(key, old)
        elif piece is not None:
            place = Place(self.segments[action.segment], action.offset, old.length, old.crc)
            event = yield from self._place(key, place, piece)
        self.leave(old.segment)
        return event

    def _publish(self, action: Publish, entry: IndexEntry) -> Steps:
        index = self.process.world.disk.index

        def put() -> None:
            index[action.key] = entry

        try:
            yield from self.calls.under_way(Operation.INDEX, put, put)
        except DiskError as error:
            self.calls.went(Operation.INDEX, error.outcome)
            return WriteFailed(action.key, action.segment)
        self.calls.went(Operation.INDEX, Outcome.DONE)
        return PagePublished(action.key, action.segment)

    def _drop(self, entries: tuple[tuple[PageKey, int, int], ...]) -> Steps:
        index = self.process.world.disk.index

        def drop() -> None:
            for key, number, offset in entries:
                entry = index.get(key)
                if entry is not None and (entry.segment, entry.offset) == (number, offset):
                    del index[key]

        try:
            yield from self.calls.under_way(Operation.UNINDEX, drop)
        except DiskError as error:
            self.calls.went(Operation.UNINDEX, error.outcome)
            return EntriesKept(entries)
        return None

    def _unlink(self, number: int) -> Steps:
        disk = self.process.world.disk
        try:
            yield from self.calls.under_way(Operation.UNLINK, lambda: disk.segments.pop(number, None))
        except DiskError as error:
            self.calls.went(Operation.UNLINK, error.outcome)
            return UnlinkFailed(number)
        del self.segments[number]
        return SegmentUnlinked(number)

    def _feed(self, event: LogEvent) -> list[LogAction]:
        """Feed the log; reveal and retire at once, and return what needs the disk."""
        now = self.process.world.clock.now
        rest: list[LogAction] = []
        todo = deque(self._feed_log(event, now))
        while todo:
            action = todo.popleft()
            match action:
                case Reveal(key):
                    self.pages[key] = self._placed[key]
                case Refuse():
                    pass
                case RetireSegment(number, pages):
                    for page in pages:
                        self.pages.pop(page.key, None)
                    segment = self.segments[number]
                    segment.is_retired = True
                    follow = SegmentHeld(number) if segment.leases else SegmentDrained(number)
                    todo.extend(self._feed_log(follow, now))
                case OpenSegment(number, capacity):
                    self.segments[number] = Segment(number, capacity)
                    rest.append(action)
                case _:
                    rest.append(action)
        if isinstance(event, PagePublished | WriteFailed):
            self._placed.pop(event.key, None)
        return rest

    # --- start and end ----------------------------------------------------------------------

    def restore(self) -> None:
        """Take over what is on the disk."""
        disk = self.process.world.disk
        lengths = {number: file.capacity for number, file in sorted(disk.segments.items())}
        if doubt_of_index(disk.index_boot, disk.boot) is None:
            found = restored_from(disk.index.items(), lengths)  # type: ignore[arg-type]
            for key, _, _ in found.lost:
                disk.index.pop(key, None)
        else:
            disk.index.clear()
            found = restored_from(self._walk(lengths), lengths)
        for number, capacity in lengths.items():
            self.segments[number] = Segment(number, capacity, made=True)
        for key, entry in found.entries.items():
            self.pages[key] = Place(self.segments[entry.segment], entry.offset, entry.length, entry.crc32c)
        self._backlog.extend(self._feed(found.event))
        disk.index.update((key, entry) for key, entry in found.entries.items() if key in self.pages)
        disk.index_boot = disk.boot

    def _walk(self, lengths: dict[int, int]) -> Iterable[tuple[PageKey, IndexEntry]]:
        for number, length in lengths.items():
            believed = []
            for header in self.process.world.disk.walk(number):
                seen = believed_record(
                    header, store_id=STORE_ID, segment=number, offset=header.offset, segment_bytes=length
                )
                if seen is None:
                    break
                believed.append(seen)
            yield from entries_of(believed)

    def close(self) -> None:
        """Nobody writes any more, and nobody finds anything."""
        self.is_closed = True
        self.pages.clear()
