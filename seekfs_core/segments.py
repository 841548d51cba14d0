"""Where pages go on disk, and what is given up for them: the segment log.

Pages are *records* in *segments*, whole files that are allocated when they are opened, filled
from the front, never renamed or truncated, and given up whole by unlinking. Rules of this file:

* **Claimed <= ceiling at every step.** A segment is claimed, with all of its capacity, from
  the moment it may be opened until its file is known to be gone; so are, from the start, the
  index, the shelf of manifests and the fixed files (``shares_of``). A reader that still has a
  segment open therefore keeps it claimed.
* **A page is visible only when whole**: written, then in the index, then shown. Until then its
  segment is not given up.
* **Every placement gets exactly one outcome**: ``PagePublished`` or ``WriteFailed``.
* **Every offer gets exactly one answer**, at once or later: ``Reveal`` or ``Refuse``.
* **Nothing is read from under a reader.** A retired segment lets nobody in and is unlinked when
  the last reader has left it.

What becomes of one segment (``LANDINGS`` in ``segment_work`` has it as a table)::

    OPEN ──full──► SEALED ──chosen──► RETIRED ──SegmentDrained──► LEAVING ──SegmentUnlinked──► gone
      │ OpenFailed                                                 ▲  ▲ │ UnlinkFailed
      ▼                                                            │  │ ▼
    FAILED ──the last placement reported───────────────────────────┘ STUCK  (tried again at every offer)

Which page is admitted and which segment is chosen is ``DiskRetention``'s to say. Where a segment
holds several pages, room for one more segment is kept free, so that the pages worth keeping can
be carried over before the old file goes. The driver executes actions in the order given, and
``RetireSegment`` and ``Reveal`` in the same critical section as the ``feed`` that returned them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from attrs import define, field

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick, advance
from seekfs_core.pages import PageKey
from seekfs_core.retention import DiskRetention, HitsSeen, Refusal, Refuse
from seekfs_core.segment_layout import SEGMENT_OVERHEAD_BYTES, Shares, record_length
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
    Restored,
    RestoredPage,
    RestoredSegment,
    RetireSegment,
    Reveal,
    SegmentDrained,
    SegmentEvent,
    SegmentHeld,
    SegmentUnlinked,
    UnlinkFailed,
    UnlinkSegment,
    WriteFailed,
    WritePage,
)
from seekfs_core.segment_work import LANDINGS, Placement, Segment, SegmentState, Waiting


@define
class SegmentLog:
    """The machine; see the module's text."""

    shares: Shares = field()
    claimed_bytes: int = field(init=False)
    """Upper bound of what everything under the directory takes on disk, open files included."""
    held_bytes: int = field(default=0, init=False)
    """Bytes of the pages that can be read."""

    _retention: DiskRetention = field(factory=DiskRetention, init=False)
    _segments: dict[int, Segment] = field(factory=dict, init=False)
    _homes: dict[PageKey, int] = field(factory=dict, init=False)
    _placements: dict[PageKey, Placement] = field(factory=dict, init=False)
    _waiting: list[Waiting] = field(factory=list, init=False)
    _stuck: list[int] = field(factory=list, init=False)
    _undropped: list[tuple[PageKey, int, int]] = field(factory=list, init=False)
    """Entries that the index has kept, tried again at every offer as segments are."""
    _open: int | None = field(default=None, init=False)
    _next: int = field(default=1, init=False)
    _now: float = field(default=float("-inf"), init=False)

    def __attrs_post_init__(self) -> None:
        self.claimed_bytes = self.shares.reserved_bytes

    def __len__(self) -> int:
        """How many pages can be read."""
        return len(self._homes)

    def __contains__(self, key: PageKey) -> bool:
        return key in self._homes

    def next_deadline(self) -> float | None:
        """Nothing here depends on the time."""
        return None

    def feed(self, event: LogEvent, now: float) -> tuple[LogAction, ...]:
        """What to do because of ``event``; ``now`` in monotonic seconds."""
        later = advance(self._now, now)
        claimed_before = self.claimed_bytes
        actions: list[LogAction] = []
        match event:
            case PageOffered():
                self._offered(event, actions)
            case HitsSeen(keys):
                for key in keys:
                    self._retention.hit(key)
            case PageDropped(key):
                self._dropped(key, actions)
            case EntriesKept(entries):
                self._undropped.extend(entries)
            case Restored(segments):
                self._restored(segments, actions)
            case Tick():
                pass
            case (
                PageWritten()
                | PagePublished()
                | WriteFailed()
                | OpenFailed()
                | SegmentHeld()
                | SegmentDrained()
                | SegmentUnlinked()
                | UnlinkFailed()
            ):
                self._segment_event(event, actions)
            case _:
                assert_never(event)
        # Only what was found at start may exceed the ceiling, and then nothing is added to it.
        assert self.claimed_bytes <= max(self.shares.ceiling_bytes, claimed_before) or isinstance(
            event, Restored
        )
        self._now = later
        return tuple(actions)

    # One segment's life

    def _segment_event(self, event: SegmentEvent, actions: list[LogAction]) -> None:
        segment = self._segments.get(event.segment)
        if segment is None:
            raise ContractViolation(f"{type(event).__name__} of segment {event.segment}, which is not there")
        landings = LANDINGS.get((segment.state, type(event)))
        if landings is None:
            raise ContractViolation(f"{type(event).__name__} of a segment that is {segment.state.value}")
        match event:
            case PageWritten(key):
                self._written(key, segment, actions)
            case PagePublished(key):
                self._published(key, segment, actions)
            case WriteFailed(key):
                self._write_failed(key, segment, actions)
            case OpenFailed():
                self._close(segment)
                segment.state = SegmentState.FAILED
            case SegmentHeld(number):
                self._refuse_those_waiting_for(number, actions)
            case SegmentDrained():
                self._unlink(segment, actions)
            case SegmentUnlinked():
                self._unlinked(segment, actions)
            case UnlinkFailed(number):
                segment.state = SegmentState.STUCK
                self._stuck.append(number)
                self._refuse_those_waiting_for(number, actions)
            case _:
                assert_never(event)
        assert segment.state in landings, (event, segment.state)

    def _placement(self, key: PageKey, segment: Segment, *, written: bool | None) -> Placement:
        placement = self._placements.get(key)
        if placement is None or placement.segment != segment.number:
            raise ContractViolation("an outcome of a page that is not placed in this segment")
        if written is not None and placement.written is not written:
            raise ContractViolation("an outcome out of order")
        return placement

    def _written(self, key: PageKey, segment: Segment, actions: list[LogAction]) -> None:
        placement = self._placement(key, segment, written=False)
        placement.written = True
        actions.append(Publish(key, segment.number, placement.offset, placement.nbytes))

    def _published(self, key: PageKey, segment: Segment, actions: list[LogAction]) -> None:
        placement = self._placement(key, segment, written=True)
        del self._placements[key]
        segment.placements -= 1
        if placement.source is None:
            self._retention.admitted(key, segment.number)
            self.held_bytes += placement.nbytes
            self._show(key, segment, placement, actions)
            return
        if self._homes.get(key) == placement.source:
            del self._segments[placement.source].pages[key]
            self._retention.moved(key, segment.number)
            self._show(key, segment, placement, actions)
        else:  # It was found to be wrong while it was being carried over.
            actions.append(DropEntries(((key, segment.number, placement.offset),)))
        self._copy_done(placement.source, actions)

    def _show(self, key: PageKey, segment: Segment, placement: Placement, actions: list[LogAction]) -> None:
        segment.pages[key] = (placement.offset, placement.nbytes)
        self._homes[key] = segment.number
        actions.append(Reveal(key, segment.number, placement.offset, placement.nbytes))

    def _write_failed(self, key: PageKey, segment: Segment, actions: list[LogAction]) -> None:
        placement = self._placement(key, segment, written=None)
        del self._placements[key]
        segment.placements -= 1
        if segment.state is not SegmentState.FAILED:
            # Sealed, so that the hole is the last thing that a walk over its records meets.
            self._close(segment)
        if placement.source is None:
            actions.append(Refuse(key, Refusal.FAILED))
        else:
            self._copy_done(placement.source, actions)
        if segment.state is SegmentState.FAILED and not segment.placements:
            self._unlink(segment, actions)

    def _copy_done(self, number: int, actions: list[LogAction]) -> None:
        source = self._segments[number]
        source.copies -= 1
        if not source.copies:
            self._retire(source, actions)

    def _close(self, segment: Segment) -> None:
        segment.state = SegmentState.SEALED
        if self._open == segment.number:
            self._open = None

    def _retire(self, segment: Segment, actions: list[LogAction]) -> None:
        self._close(segment)
        segment.state = SegmentState.RETIRED
        pages = tuple(RestoredPage(key, offset, nbytes) for key, (offset, nbytes) in segment.pages.items())
        for page in pages:
            self._forget(page.key, segment)
        actions.append(RetireSegment(segment.number, pages))
        if pages:
            actions.append(DropEntries(tuple((page.key, segment.number, page.offset) for page in pages)))

    def _forget(self, key: PageKey, segment: Segment) -> int:
        offset, nbytes = segment.pages.pop(key)
        del self._homes[key]
        self._retention.left(key)
        self.held_bytes -= nbytes
        return offset

    def _unlink(self, segment: Segment, actions: list[LogAction]) -> None:
        segment.state = SegmentState.LEAVING
        actions.append(UnlinkSegment(segment.number))

    def _unlinked(self, segment: Segment, actions: list[LogAction]) -> None:
        segment.state = SegmentState.GONE
        del self._segments[segment.number]
        self._retention.forget_segment(segment.number)
        self.claimed_bytes -= segment.cost
        for waiting in tuple(self._waiting):
            waiting.segments.discard(segment.number)
            if not waiting.segments:
                self._waiting.remove(waiting)
                self._place_after_reclaim(waiting, actions)

    def _refuse_those_waiting_for(self, number: int, actions: list[LogAction]) -> None:
        for waiting in tuple(self._waiting):
            if number in waiting.segments:
                self._waiting.remove(waiting)
                actions.append(Refuse(waiting.key, Refusal.BUSY))

    # A page is offered

    def _offered(self, offer: PageOffered, actions: list[LogAction]) -> None:
        key, nbytes, leased = offer.key, offer.nbytes, offer.leased
        if nbytes < 1:
            raise ContractViolation(f"a page of {nbytes} bytes")
        while self._stuck:
            self._unlink(self._segments[self._stuck.pop()], actions)
        if self._undropped:
            actions.append(DropEntries(tuple(self._undropped)))
            self._undropped.clear()
        if key in self._homes or key in self._placements or any(key == w.key for w in self._waiting):
            actions.append(Refuse(key, Refusal.HELD))
            return
        interval = self._retention.missed(key)
        is_worth_it = offer.is_probe or self._retention.worth(interval)
        if not self.shares.has_room_for(nbytes):
            actions.append(Refuse(key, Refusal.TOO_LARGE))
            return
        record = record_length(nbytes)
        segment_open = None if self._open is None else self._segments[self._open]
        if segment_open is not None and segment_open.room >= record and self._entries_free > 0:
            if segment_open.gated and not is_worth_it:
                actions.append(Refuse(key, Refusal.NOT_WORTH_IT))
            else:
                self._place(key, nbytes, segment_open, actions)
            return
        capacity = self._capacity_for(record)
        cost = capacity + SEGMENT_OVERHEAD_BYTES
        if self._entries_free > 0 and cost + self._spare_for(record) <= self._free_bytes:
            segment = self._start(capacity, gated=False, actions=actions)
            self._place(key, nbytes, segment, actions)
        elif not is_worth_it:
            actions.append(Refuse(key, Refusal.NOT_WORTH_IT))
        elif self._entries_free > 0 and self._spare_for(record) and cost <= self._free_bytes:
            segment = self._start(capacity, gated=True, actions=actions)
            self._place(key, nbytes, segment, actions)
            self._give_up_with_carry(segment, self._spare_for(record), leased, actions)
        else:
            self._give_up_for(key, nbytes, cost, leased, actions)

    @property
    def _free_bytes(self) -> int:
        return self.shares.ceiling_bytes - self.claimed_bytes

    @property
    def _entries_free(self) -> int:
        return self.shares.entries_max - len(self._homes) - len(self._placements)

    def _capacity_for(self, record: int) -> int:
        """A whole number of records, so that pages of one length leave no gap at the end."""
        return max(1, self.shares.segment_length_max // record) * record

    def _spare_for(self, record: int) -> int:
        """Bytes kept free for carrying over; nothing where a segment holds a single page, which
        can never be kept by half."""
        if self.shares.segment_length_max < 2 * record:
            return 0
        return self.shares.segment_length_max + SEGMENT_OVERHEAD_BYTES

    def _start(self, capacity: int, *, gated: bool, actions: list[LogAction]) -> Segment:
        if self._open is not None:
            self._close(self._segments[self._open])
        segment = Segment(self._next, capacity, gated)
        self._next += 1
        self._segments[segment.number] = segment
        self._open = segment.number
        self.claimed_bytes += segment.cost
        actions.append(OpenSegment(segment.number, capacity))
        return segment

    def _claim(self, segment: Segment, nbytes: int) -> int:
        offset = segment.used
        segment.used += record_length(nbytes)
        segment.placements += 1
        assert segment.used <= segment.capacity
        return offset

    def _place(self, key: PageKey, nbytes: int, segment: Segment, actions: list[LogAction]) -> None:
        offset = self._claim(segment, nbytes)
        self._placements[key] = Placement(segment.number, offset, nbytes)
        actions.append(WritePage(key, segment.number, offset))

    def _place_after_reclaim(self, waiting: Waiting, actions: list[LogAction]) -> None:
        record = record_length(waiting.nbytes)
        capacity = self._capacity_for(record)
        # Other offers may have taken the space meanwhile, or opened a segment that will do.
        if self._entries_free < 1:
            actions.append(Refuse(waiting.key, Refusal.BUSY))
        elif self._open is not None and self._segments[self._open].room >= record:
            self._place(waiting.key, waiting.nbytes, self._segments[self._open], actions)
        elif capacity + SEGMENT_OVERHEAD_BYTES <= self._free_bytes:
            segment = self._start(capacity, gated=True, actions=actions)
            self._place(waiting.key, waiting.nbytes, segment, actions)
        else:
            actions.append(Refuse(waiting.key, Refusal.BUSY))

    # A segment is given up

    def _candidates(self, leased: frozenset[int]) -> Iterator[Segment]:
        """Segments that can be given up, the least worth keeping first; the open one last."""
        idle = [
            segment
            for segment in self._segments.values()
            if segment.state in (SegmentState.OPEN, SegmentState.SEALED)
            and not segment.placements
            and not segment.copies
            and segment.number not in leased
        ]
        idle.sort(key=lambda s: (s.number == self._open, *self._retention.score(s.number), s.number))
        return iter(idle)

    @property
    def _leaving_bytes(self) -> int:
        """What is sure to come back soon without anything more being given up."""
        return sum(
            segment.cost
            for segment in self._segments.values()
            if segment.copies or segment.state is SegmentState.LEAVING
        )

    def _give_up_with_carry(
        self, target: Segment, spare: int, leased: frozenset[int], actions: list[LogAction]
    ) -> None:
        missing = spare - self._free_bytes - self._leaving_bytes
        retired: list[Segment] = []
        for victim in self._candidates(leased):
            if missing <= 0:
                break
            missing -= victim.cost
            self._carry(victim, target, actions)
            if not victim.copies:
                retired.append(victim)
        for victim in retired:
            self._retire(victim, actions)

    def _carry(self, victim: Segment, target: Segment, actions: list[LogAction]) -> None:
        """Copy the pages worth keeping into ``target``, at most half a segment of them."""
        budget = min(victim.capacity // 2, target.room)
        for key in self._retention.warm(victim.pages):
            source_offset, nbytes = victim.pages[key]
            record = record_length(nbytes)
            if record > budget or self._entries_free < 1:
                continue
            budget -= record
            offset = self._claim(target, nbytes)
            self._placements[key] = Placement(target.number, offset, nbytes, source=victim.number)
            victim.copies += 1
            actions.append(CopyPage(key, victim.number, source_offset, target.number, offset, nbytes))

    def _give_up_for(
        self, key: PageKey, nbytes: int, cost: int, leased: frozenset[int], actions: list[LogAction]
    ) -> None:
        """Retire what must go before a segment can be opened; the page waits for it."""
        missing_bytes = cost - self._free_bytes
        missing_entries = 1 - self._entries_free
        victims: list[Segment] = []
        if missing_bytes <= self._leaving_bytes and missing_entries <= 0:
            # What is on its way out will do; the page after this one will find it gone.
            actions.append(Refuse(key, Refusal.BUSY))
            return
        for victim in self._candidates(leased):
            if missing_bytes <= 0 and missing_entries <= 0:
                break
            missing_bytes -= victim.cost
            missing_entries -= len(victim.pages)
            victims.append(victim)
        if missing_bytes > 0 or missing_entries > 0:
            actions.append(Refuse(key, Refusal.BUSY))
            return
        self._waiting.append(Waiting(key, nbytes, {victim.number for victim in victims}))
        for victim in victims:
            self._retire(victim, actions)

    # The rest

    def _dropped(self, key: PageKey, actions: list[LogAction]) -> None:
        number = self._homes.get(key)
        if number is None:
            return
        offset = self._forget(key, self._segments[number])
        actions.append(DropEntries(((key, number, offset),)))

    def _restored(self, found: tuple[RestoredSegment, ...], actions: list[LogAction]) -> None:
        if self._next != 1:
            raise ContractViolation("segments were restored into a log that is in use")
        keys = [page.key for restored in found for page in restored.pages]
        if len(set(keys)) != len(keys) or len({restored.segment for restored in found}) != len(found):
            raise ContractViolation("a page or a segment was restored twice")
        for restored in sorted(found, key=lambda restored: restored.segment):
            segment = Segment(restored.segment, restored.capacity, gated=False, state=SegmentState.SEALED)
            self._segments[segment.number] = segment
            self._next = segment.number + 1
            self.claimed_bytes += segment.cost
            for page in restored.pages:
                segment.pages[page.key] = (page.offset, page.nbytes)
                segment.used = max(segment.used, page.offset + record_length(page.nbytes))
                self._homes[page.key] = segment.number
                self._retention.admitted(page.key, segment.number)
                self.held_bytes += page.nbytes
        self._shrink_to_the_ceiling(actions)
        # Whoever was killed left a segment half filled: go on behind its last page.
        sealed = [s for s in self._segments.values() if s.state is SegmentState.SEALED]
        fullest = max(sealed, key=lambda s: (s.room, s.number), default=None)
        if fullest is not None and fullest.room:
            fullest.state = SegmentState.OPEN
            self._open = fullest.number

    def _shrink_to_the_ceiling(self, actions: list[LogAction]) -> None:
        """Give up what holds nothing, and the oldest segments of what is too much."""
        over_bytes = self.claimed_bytes - self.shares.ceiling_bytes
        over_entries = len(self._homes) - self.shares.entries_max
        for segment in sorted(self._segments.values(), key=lambda s: (bool(s.pages), s.number)):
            if segment.pages and over_bytes <= 0 and over_entries <= 0:
                break
            over_bytes -= segment.cost
            over_entries -= len(segment.pages)
            self._retire(segment, actions)
