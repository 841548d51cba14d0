"""The segment log against a model of a disk that does what it is told, late, in any order, or not.

The model knows nothing of segments' states or of retention. It holds files, bytes and readers,
and says at every step what must never be: more space than the ceiling, a page that is found but
not whole, a file that goes from under a reader, a page placed twice, an outcome forgotten.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import get_args

import pytest
from attrs import define, field, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick
from seekfs_core.pages import PageKey
from seekfs_core.retention import HitsSeen, Refusal, Refuse
from seekfs_core.segment_layout import (
    FIXED_BYTES,
    RECORD_HEADER_LENGTH,
    SEGMENT_LENGTH_MAX,
    SEGMENT_OVERHEAD_BYTES,
    Shares,
    record_length,
    shares_of,
)
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
    outcome_of_failure,
)
from seekfs_core.segment_work import LANDINGS, SegmentState
from seekfs_core.segments import SegmentLog

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


# Sizes


@pytest.mark.parametrize(
    ("page", "record"),
    [(1, 4096), (4000, 4096), (4001, 8192), (64 * KIB, 68 * KIB), (8 * MIB, 8 * MIB + 4096)],
)
def test_a_record_is_its_header_and_its_page_in_whole_blocks(page: int, record: int) -> None:
    assert record_length(page) == record
    assert record_length(record - RECORD_HEADER_LENGTH) == record


@pytest.mark.parametrize("ceiling", [32 * MIB, 64 * MIB, 100 * MIB + 1, GIB, 512 * GIB, 4096 * GIB])
def test_a_ceiling_is_divided_without_a_rest(ceiling: int) -> None:
    shares = shares_of(ceiling)
    assert shares.index_bytes == max(MIB, ceiling // 128 // 4096 * 4096)
    assert shares.shelf_bytes == ceiling // 16
    assert shares.segment_length_max == min(SEGMENT_LENGTH_MAX, ceiling // 80)
    assert shares.reserved_bytes == shares.index_bytes + shares.shelf_bytes + FIXED_BYTES
    largest = record_length(shares.page_length_max) + SEGMENT_OVERHEAD_BYTES
    assert ceiling - 4096 < shares.reserved_bytes + largest <= ceiling
    # As many pages of 64 KiB as there is room for can be in the index.
    room = ceiling - shares.reserved_bytes
    assert shares.entries_max >= 0.95 * room / record_length(64 * KIB)


def test_a_ceiling_too_small_for_anything_has_no_page_that_fits() -> None:
    assert shares_of(MIB).page_length_max < 1


# The disk that obeys, for single cases

PAGE = 60_000
RECORD = record_length(PAGE)


def small_shares(segments: int, pages_per_segment: int, *, entries_max: int = 1 << 20) -> Shares:
    segment = pages_per_segment * RECORD
    return Shares(
        ceiling_bytes=segments * (segment + SEGMENT_OVERHEAD_BYTES),
        index_bytes=0,
        shelf_bytes=0,
        fixed_bytes=0,
        segment_length_max=segment,
        entries_max=entries_max,
    )


def obey(log: SegmentLog, actions: tuple[LogAction, ...]) -> list[LogAction]:
    """Carry everything out, successfully and in order; all actions, in the order they were handed out."""
    seen, todo = [], list(actions)
    while todo:
        action = todo.pop(0)
        seen.append(action)
        more: tuple[LogAction, ...] = ()
        match action:
            case WritePage() | CopyPage():
                more = log.feed(PageWritten(action.key, action.segment), 0)
            case Publish():
                more = log.feed(PagePublished(action.key, action.segment), 0)
            case RetireSegment(segment):
                more = log.feed(SegmentDrained(segment), 0)
            case UnlinkSegment(segment):
                more = log.feed(SegmentUnlinked(segment), 0)
        todo.extend(more)
    return seen


def fill(log: SegmentLog, pages: range) -> None:
    for n in pages:
        obey(log, log.feed(PageOffered(key(n), PAGE), 0))
        assert key(n) in log


def make_worth(log: SegmentLog, n: int, others: range, *, nbytes: int = PAGE) -> None:
    """Ask for a page that is not held twice in a row, after the others have idled for long."""
    for _ in range(2):
        for other in others:
            log.feed(HitsSeen((key(other),)), 0)
    assert log.feed(PageOffered(key(n), nbytes), 0) == (Refuse(key(n), Refusal.NOT_WORTH_IT),)


def test_pages_are_laid_one_behind_the_other_into_segments_of_whole_records() -> None:
    log = SegmentLog(small_shares(4, 2))
    assert log.feed(PageOffered(key(0), PAGE), 0) == (OpenSegment(1, 2 * RECORD), WritePage(key(0), 1, 0))
    assert log.feed(PageOffered(key(1), PAGE - 1), 0) == (WritePage(key(1), 1, RECORD),)
    assert log.feed(PageOffered(key(2), PAGE), 0) == (OpenSegment(2, 2 * RECORD), WritePage(key(2), 2, 0))
    assert log.claimed_bytes == 2 * (2 * RECORD + SEGMENT_OVERHEAD_BYTES)


def test_a_page_can_be_found_only_when_it_is_written_and_in_the_index() -> None:
    log = SegmentLog(small_shares(4, 2))
    log.feed(PageOffered(key(0), PAGE), 0)
    assert key(0) not in log
    assert log.feed(PageOffered(key(0), PAGE), 0) == (Refuse(key(0), Refusal.HELD),)
    with pytest.raises(ContractViolation):
        log.feed(PagePublished(key(0), 1), 0)
    assert log.feed(PageWritten(key(0), 1), 0) == (Publish(key(0), 1, 0, PAGE),)
    assert key(0) not in log
    assert log.feed(PagePublished(key(0), 1), 0) == (Reveal(key(0), 1, 0, PAGE),)
    assert (key(0) in log, len(log), log.held_bytes) == (True, 1, PAGE)
    assert log.feed(PageOffered(key(0), PAGE), 0) == (Refuse(key(0), Refusal.HELD),)


def test_a_page_longer_than_the_ceiling_has_room_for_is_refused() -> None:
    log = SegmentLog(small_shares(1, 1))
    largest = log.shares.page_length_max
    assert log.feed(PageOffered(key(0), largest + 1), 0) == (Refuse(key(0), Refusal.TOO_LARGE),)
    assert log.feed(PageOffered(key(0), largest), 0)[0] == OpenSegment(1, record_length(largest))


def test_a_page_longer_than_a_segment_gets_one_of_its_own() -> None:
    log = SegmentLog(small_shares(8, 1))
    actions = log.feed(PageOffered(key(0), 3 * PAGE), 0)
    assert actions[0] == OpenSegment(1, record_length(3 * PAGE))


def test_a_full_log_refuses_what_it_has_never_seen() -> None:
    log = SegmentLog(small_shares(3, 1))
    fill(log, range(3))
    assert log.feed(PageOffered(key(3), PAGE), 0) == (Refuse(key(3), Refusal.NOT_WORTH_IT),)


def test_a_full_log_makes_room_for_a_page_that_is_a_probe() -> None:
    """Else a cache that was full when its disk failed would never find out that it is well again."""
    log = SegmentLog(small_shares(3, 1))
    fill(log, range(3))
    offer = PageOffered(key(3), PAGE, is_probe=True)
    assert [type(each) for each in log.feed(offer, 0)] == [RetireSegment, DropEntries]

    two_in_a_segment = SegmentLog(small_shares(3, 2))
    fill(two_in_a_segment, range(4))
    obey(two_in_a_segment, two_in_a_segment.feed(offer, 0))
    obey(two_in_a_segment, two_in_a_segment.feed(PageOffered(key(5), PAGE, is_probe=True), 0))
    assert key(5) in two_in_a_segment


def test_what_is_too_large_or_held_is_refused_to_a_probe_too() -> None:
    log = SegmentLog(small_shares(1, 1))
    too_large = PageOffered(key(0), log.shares.page_length_max + 1, is_probe=True)
    assert log.feed(too_large, 0) == (Refuse(key(0), Refusal.TOO_LARGE),)
    fill(log, range(1))
    assert log.feed(PageOffered(key(0), PAGE, is_probe=True), 0) == (Refuse(key(0), Refusal.HELD),)


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (OpenSegment(1, RECORD), OpenFailed(1)),
        (WritePage(key(0), 1, 0), WriteFailed(key(0), 1)),
        (CopyPage(key(0), 2, 0, 1, 0, PAGE), WriteFailed(key(0), 1)),
        (Publish(key(0), 1, 0, PAGE), WriteFailed(key(0), 1)),
        (UnlinkSegment(1), UnlinkFailed(1)),
        (Reveal(key(0), 1, 0, PAGE), None),
        (Refuse(key(0), Refusal.HELD), None),
        (RetireSegment(1, ()), None),
        (DropEntries(((key(0), 1, 0),)), EntriesKept(((key(0), 1, 0),))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_action_that_came_to_nothing_has_an_outcome(action: LogAction, outcome: LogEvent | None) -> None:
    assert outcome_of_failure(action) == outcome


def test_entries_that_the_index_has_kept_are_dropped_with_the_next_offer() -> None:
    log = SegmentLog(small_shares(4, 1))
    fill(log, range(1))
    (drop,) = log.feed(PageDropped(key(0)), 0)
    assert isinstance(drop, DropEntries)
    assert log.feed(EntriesKept(drop.entries), 0) == ()
    offered = log.feed(PageOffered(key(1), PAGE), 0)
    assert offered[0] == drop
    assert WritePage(key(1), 2, 0) in offered
    assert drop not in log.feed(PageOffered(key(2), PAGE), 0)


def test_room_comes_back_before_it_is_used_again() -> None:
    log = SegmentLog(small_shares(2, 1))
    fill(log, range(2))
    make_worth(log, 2, range(2))
    retire, drop = log.feed(PageOffered(key(2), PAGE), 0)
    assert retire == RetireSegment(1, (RestoredPage(key(0), 0, PAGE),))
    assert drop == DropEntries(((key(0), 1, 0),))
    assert key(0) not in log
    assert log.claimed_bytes == log.shares.ceiling_bytes
    assert log.feed(SegmentDrained(1), 0) == (UnlinkSegment(1),)
    assert log.claimed_bytes == log.shares.ceiling_bytes
    assert log.feed(SegmentUnlinked(1), 0) == (OpenSegment(3, RECORD), WritePage(key(2), 3, 0))


def test_a_segment_with_readers_stays_claimed_and_its_newcomer_is_refused() -> None:
    log = SegmentLog(small_shares(2, 1))
    fill(log, range(2))
    make_worth(log, 2, range(2))
    log.feed(PageOffered(key(2), PAGE), 0)
    assert log.feed(SegmentHeld(1), 0) == (Refuse(key(2), Refusal.BUSY),)
    assert log.claimed_bytes == log.shares.ceiling_bytes
    assert log.feed(SegmentDrained(1), 0) == (UnlinkSegment(1),)
    assert log.feed(SegmentUnlinked(1), 0) == ()
    assert log.feed(PageOffered(key(3), PAGE), 0)[0] == OpenSegment(3, RECORD)


def test_only_those_are_refused_that_waited_for_the_segment_that_is_held() -> None:
    log = SegmentLog(small_shares(3, 1))
    fill(log, range(3))
    retired = {}
    for n in (3, 4):
        make_worth(log, n, range(3))
        (retire,) = (
            each for each in log.feed(PageOffered(key(n), PAGE), 0) if isinstance(each, RetireSegment)
        )
        retired[n] = retire.segment
    assert retired[3] != retired[4]
    assert log.feed(SegmentHeld(retired[3]), 0) == (Refuse(key(3), Refusal.BUSY),)
    assert log.feed(SegmentDrained(retired[4]), 0) == (UnlinkSegment(retired[4]),)
    opened, written = log.feed(SegmentUnlinked(retired[4]), 0)
    assert isinstance(opened, OpenSegment)
    assert written == WritePage(key(4), opened.segment, 0)


def test_leased_segments_are_not_given_up() -> None:
    log = SegmentLog(small_shares(2, 1))
    fill(log, range(2))
    make_worth(log, 2, range(2))
    assert log.feed(PageOffered(key(2), PAGE, frozenset({1, 2})), 0) == (Refuse(key(2), Refusal.BUSY),)
    (retire, _) = log.feed(PageOffered(key(2), PAGE, frozenset({1})), 0)
    assert isinstance(retire, RetireSegment)
    assert retire.segment == 2


def test_pages_worth_keeping_are_carried_over_before_their_segment_goes() -> None:
    log = SegmentLog(small_shares(4, 4))
    fill(log, range(12))
    # Of every segment all pages but the first two are hit often, of the second one only one is.
    for _ in range(4):
        log.feed(HitsSeen(tuple(key(n) for n in (2, 3, 1, 6, 9, 10, 11))), 0)
    newcomer = key(99)
    log.feed(PageOffered(newcomer, PAGE), 0)
    first = log.feed(PageOffered(newcomer, PAGE), 0)
    assert first == (
        OpenSegment(4, 4 * RECORD),
        WritePage(newcomer, 4, 0),
        CopyPage(key(6), 2, 2 * RECORD, 4, RECORD, PAGE),
    )
    everything = obey(log, first)
    assert log.claimed_bytes < log.shares.ceiling_bytes
    assert Reveal(key(6), 4, RECORD, PAGE) in everything
    retired = [action for action in everything if isinstance(action, RetireSegment)]
    assert [(r.segment, {page.key for page in r.pages}) for r in retired] == [(2, {key(4), key(5), key(7)})]
    assert everything.index(Reveal(key(6), 4, RECORD, PAGE)) < everything.index(retired[0])
    assert {n for n in range(12) if key(n) in log} == set(range(12)) - {4, 5, 7}


def test_at_most_half_a_segment_is_carried_over() -> None:
    log = SegmentLog(small_shares(2, 4))
    fill(log, range(4))
    for _ in range(3):
        log.feed(HitsSeen(tuple(key(n) for n in range(4))), 0)
    log.feed(PageOffered(key(9), PAGE), 0)
    actions = log.feed(PageOffered(key(9), PAGE), 0)
    assert sum(isinstance(action, CopyPage) for action in actions) == 2


def test_what_is_dropped_while_it_is_carried_over_does_not_come_back() -> None:
    log = SegmentLog(small_shares(2, 4))
    fill(log, range(4))
    for _ in range(3):
        log.feed(HitsSeen((key(0), key(1))), 0)
    log.feed(PageOffered(key(9), PAGE), 0)
    copies = [a for a in log.feed(PageOffered(key(9), PAGE), 0) if isinstance(a, CopyPage)]
    assert len(copies) == 2
    one, other = copies
    log.feed(PageWritten(one.key, 2), 0)
    assert log.feed(PageDropped(one.key), 0) == (DropEntries(((one.key, 1, one.source_offset),)),)
    assert log.feed(PagePublished(one.key, 2), 0) == (DropEntries(((one.key, 2, one.offset),)),)
    assert one.key not in log
    (retire, _) = log.feed(WriteFailed(other.key, 2), 0)  # Nobody offered it, so nobody is answered.
    assert isinstance(retire, RetireSegment)
    assert other.key not in log


def test_a_segment_that_is_being_written_or_carried_over_is_not_given_up() -> None:
    log = SegmentLog(small_shares(2, 4))
    fill(log, range(4))
    for _ in range(3):
        log.feed(HitsSeen((key(0),)), 0)
    log.feed(PageOffered(key(9), PAGE), 0)
    log.feed(PageOffered(key(9), PAGE), 0)  # Opens 2, and carries page 0 over from 1.
    large = log.shares.page_length_max
    log.feed(PageOffered(key(8), large), 0)
    assert log.feed(PageOffered(key(8), large), 0) == (Refuse(key(8), Refusal.BUSY),)


def test_space_that_somebody_else_took_meanwhile_is_not_used_twice() -> None:
    log = SegmentLog(small_shares(2, 1))
    fill(log, range(2))
    make_worth(log, 2, range(2))
    log.feed(PageOffered(key(2), PAGE), 0)
    assert log.feed(PageOffered(key(2), PAGE), 0) == (Refuse(key(2), Refusal.HELD),)
    log.feed(SegmentDrained(1), 0)
    # Page 2 waits for one segment; page 3, admitted now, must not wait for another one.
    log.feed(PageOffered(key(3), PAGE), 0)
    assert log.feed(PageOffered(key(3), PAGE), 0) == (Refuse(key(3), Refusal.BUSY),)
    assert key(1) in log
    assert log.feed(SegmentUnlinked(1), 0) == (OpenSegment(3, RECORD), WritePage(key(2), 3, 0))
    assert log.claimed_bytes == log.shares.ceiling_bytes


def test_entries_that_somebody_else_took_meanwhile_are_not_used_twice() -> None:
    log = SegmentLog(small_shares(4, 2, entries_max=4))
    fill(log, range(4))
    (retire, _) = log.feed(PageOffered(key(4), PAGE, is_probe=True), 0)  # There is room, and no entry.
    assert isinstance(retire, RetireSegment)
    for n in (5, 6):
        assert log.feed(PageOffered(key(n), PAGE), 0)[-1] == WritePage(key(n), 3, (n - 5) * RECORD)
    assert log.feed(SegmentDrained(1), 0) == (UnlinkSegment(1),)
    assert log.feed(SegmentUnlinked(1), 0) == (Refuse(key(4), Refusal.BUSY),)


def test_half_of_what_a_long_page_waits_for_is_not_kept_for_it() -> None:
    log = SegmentLog(small_shares(4, 1))
    fill(log, range(4))
    first, _, second, _ = log.feed(PageOffered(key(9), 2 * PAGE, is_probe=True), 0)
    assert isinstance(first, RetireSegment)
    assert isinstance(second, RetireSegment)
    for number in (first.segment, second.segment):
        assert log.feed(SegmentDrained(number), 0) == (UnlinkSegment(number),)
    assert log.feed(SegmentUnlinked(first.segment), 0) == ()
    assert log.feed(PageOffered(key(8), PAGE, is_probe=True), 0)[-1] == WritePage(key(8), 5, 0)
    assert log.feed(SegmentUnlinked(second.segment), 0) == (Refuse(key(9), Refusal.BUSY),)


def test_the_index_is_never_asked_for_more_entries_than_it_has() -> None:
    log = SegmentLog(small_shares(10, 4, entries_max=6))
    fill(log, range(6))
    make_worth(log, 6, range(6))
    actions = obey(log, log.feed(PageOffered(key(6), PAGE), 0))
    assert any(isinstance(action, RetireSegment) for action in actions)
    assert key(6) in log
    assert len(log) <= 6


def test_a_segment_that_cannot_be_made_is_given_up_when_all_its_pages_are_reported() -> None:
    log = SegmentLog(small_shares(4, 2))
    log.feed(PageOffered(key(0), PAGE), 0)
    log.feed(PageOffered(key(1), PAGE), 0)
    assert log.feed(OpenFailed(1), 0) == ()
    assert log.feed(PageOffered(key(2), PAGE), 0)[0] == OpenSegment(2, 2 * RECORD)
    assert log.feed(WriteFailed(key(1), 1), 0) == (Refuse(key(1), Refusal.FAILED),)
    assert log.feed(WriteFailed(key(0), 1), 0) == (Refuse(key(0), Refusal.FAILED), UnlinkSegment(1))
    claimed = log.claimed_bytes
    assert log.feed(UnlinkFailed(1), 0) == ()
    assert log.claimed_bytes == claimed
    assert log.feed(PageOffered(key(0), PAGE), 0) == (UnlinkSegment(1), WritePage(key(0), 2, RECORD))
    log.feed(SegmentUnlinked(1), 0)
    assert log.claimed_bytes < claimed


def test_nothing_is_written_behind_a_hole() -> None:
    log = SegmentLog(small_shares(4, 3))
    log.feed(PageOffered(key(0), PAGE), 0)
    assert log.feed(WriteFailed(key(0), 1), 0) == (Refuse(key(0), Refusal.FAILED),)
    assert log.feed(PageOffered(key(0), PAGE), 0) == (OpenSegment(2, 3 * RECORD), WritePage(key(0), 2, 0))


def restored(number: int, capacity: int, *pages: int, first: int = 0) -> RestoredSegment:
    homes = tuple(RestoredPage(key(n), (first + i) * RECORD, PAGE) for i, n in enumerate(pages))
    return RestoredSegment(number, capacity, homes)


def test_a_log_goes_on_where_it_was_left() -> None:
    log = SegmentLog(small_shares(4, 3))
    found = Restored((restored(7, 3 * RECORD, 0, 1, 2), restored(9, 3 * RECORD, 3), restored(8, 3 * RECORD)))
    retire, *_ = log.feed(found, 0)
    assert retire == RetireSegment(8, ())
    assert log.feed(SegmentDrained(8), 0) == (UnlinkSegment(8),)
    log.feed(SegmentUnlinked(8), 0)
    assert {n for n in range(5) if key(n) in log} == {0, 1, 2, 3}
    assert log.feed(PageOffered(key(4), PAGE), 0) == (WritePage(key(4), 9, RECORD),)
    log.feed(PageOffered(key(5), PAGE), 0)
    assert log.feed(PageOffered(key(6), PAGE), 0)[0] == OpenSegment(10, 3 * RECORD)


def test_a_log_that_was_larger_gives_up_its_oldest_segments_first() -> None:
    log = SegmentLog(small_shares(2, 1))
    found = Restored(tuple(restored(n, RECORD, n) for n in range(1, 6)))
    actions = obey(log, log.feed(found, 0))
    assert [a.segment for a in actions if isinstance(a, RetireSegment)] == [1, 2, 3]
    assert {n for n in range(1, 6) if key(n) in log} == {4, 5}
    assert log.claimed_bytes == log.shares.ceiling_bytes


def test_what_a_driver_must_not_do() -> None:
    log = SegmentLog(small_shares(2, 1))
    log.feed(PageOffered(key(0), PAGE), 1)
    wrong: tuple[LogEvent, ...] = (
        PageOffered(key(1), 0),
        PageWritten(key(1), 1),
        WriteFailed(key(0), 2),
        Restored(()),
        SegmentUnlinked(1),
    )
    for event in wrong:
        with pytest.raises(ContractViolation):
            log.feed(event, 1)
    with pytest.raises(ContractViolation):
        log.feed(Tick(), 0)
    assert log.feed(Tick(), 1) == ()
    assert log.next_deadline() is None
    for twice in ((restored(1, RECORD, 0), restored(2, RECORD, 0)), (restored(1, RECORD),) * 2):
        with pytest.raises(ContractViolation):
            SegmentLog(small_shares(2, 1)).feed(Restored(twice), 0)


def test_the_table_of_landings_names_every_state_but_the_last_two() -> None:
    """What is stuck is left by an offer, what is gone by nothing."""
    assert {state for state, _ in LANDINGS} == set(SegmentState) - {SegmentState.STUCK, SegmentState.GONE}
    assert {event for _, event in LANDINGS} == set(get_args(SegmentEvent))
    assert all(landings for landings in LANDINGS.values())


def log_with_segment_in(state: SegmentState) -> SegmentLog:
    """A log whose segment 1 is in ``state``, and holds or awaits page 0."""
    log = SegmentLog(small_shares(4, 2))
    log.feed(PageOffered(key(0), PAGE), 0)
    if state is SegmentState.SEALED:
        log.feed(PageOffered(key(1), PAGE), 0)
        log.feed(WriteFailed(key(1), 1), 0)
    elif state is SegmentState.FAILED:
        log.feed(OpenFailed(1), 0)
    elif state in (SegmentState.RETIRED, SegmentState.LEAVING, SegmentState.STUCK, SegmentState.GONE):
        log = SegmentLog(small_shares(1, 1))
        log.feed(Restored((restored(1, RECORD),)), 0)
        if state is not SegmentState.RETIRED:
            log.feed(SegmentDrained(1), 0)
        if state is SegmentState.STUCK:
            log.feed(UnlinkFailed(1), 0)
        elif state is SegmentState.GONE:
            log.feed(SegmentUnlinked(1), 0)
    return log


EVENTS: tuple[SegmentEvent, ...] = (
    PageWritten(key(0), 1),
    PagePublished(key(0), 1),
    WriteFailed(key(0), 1),
    OpenFailed(1),
    SegmentHeld(1),
    SegmentDrained(1),
    SegmentUnlinked(1),
    UnlinkFailed(1),
)


@pytest.mark.parametrize(("state", "event"), [*product(SegmentState, EVENTS)])
def test_an_event_is_taken_exactly_where_the_table_has_it(state: SegmentState, event: SegmentEvent) -> None:
    log = log_with_segment_in(state)
    if isinstance(event, PagePublished) and state in (SegmentState.OPEN, SegmentState.SEALED):
        log.feed(PageWritten(key(0), 1), 0)
    before = (log.claimed_bytes, len(log), log.held_bytes)
    if (state, type(event)) in LANDINGS:
        log.feed(event, 0)
    else:
        with pytest.raises(ContractViolation):
            log.feed(event, 0)
        assert (log.claimed_bytes, len(log), log.held_bytes) == before


# The disk that does not


@frozen
class Record:
    key: PageKey
    offset: int
    nbytes: int


@define
class File:
    capacity: int
    placed: list[tuple[int, int]] = field(factory=list)
    whole: set[Record] = field(factory=set)
    """Records with all their bytes: what a read there would find."""
    readers: int = 0
    retired: bool = False


KEYS = 24


class AnyDisk(RuleBasedStateMachine):
    """Threads that store pages, each with actions of its own to carry out, interleaved at will."""

    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[int, File] = {}
        self.found: dict[PageKey, tuple[int, Record]] = {}  # what readers find
        self.indexed: dict[PageKey, tuple[int, int]] = {}
        self.unmade: set[int] = set()
        self.sizes: dict[PageKey, int] = {}
        self.stopped: list[list[LogAction]] = []
        self.carried: list[PageKey] = []
        self.unanswered: Counter[PageKey] = Counter()

    @initialize(
        segments=st.integers(1, 5),
        pages=st.sampled_from([1, 2, 3, 4, 4]),
        entries=st.sampled_from([3, 6, 100, 100]),
        restart=st.sampled_from([True, True, False]),
        hits=st.lists(st.integers(0, KEYS - 1), min_size=20, max_size=60),
    )
    def start(self, segments: int, pages: int, entries: int, restart: bool, hits: list[int]) -> None:
        self.log = SegmentLog(small_shares(segments, pages, entries_max=entries))
        if not restart:
            return
        # Nearly full: what is interesting happens at the ceiling.
        numbers = iter(range(2 * KEYS // 3))
        found = []
        for segment in range(1, segments):
            file = self.files[segment] = File(pages * RECORD)
            homes = []
            for index, n in zip(range(pages), numbers, strict=False):
                record = Record(key(n), index * RECORD, PAGE)
                file.placed.append((record.offset, record.offset + RECORD))
                file.whole.add(record)
                self.found[record.key] = (segment, record)
                self.indexed[record.key] = (segment, record.offset)
                homes.append(RestoredPage(record.key, record.offset, PAGE))
            found.append(RestoredSegment(segment, file.capacity, tuple(homes)))
        self.finish(self.feed(Restored(tuple(found))))
        # And used: what was hit lately is carried over, and what was not lets newcomers in.
        self.hit(hits)

    def feed(self, event: LogEvent) -> list[LogAction]:
        """As the driver does: what is revealed or retired is so in the same critical section."""
        rest: list[LogAction] = []
        if isinstance(event, PageOffered):
            self.unanswered[event.key] += 1
        todo = list(self.log.feed(event, 0))
        while todo:
            match todo.pop(0):
                case Refuse(page) as action:
                    self.unanswered[page] -= 1
                    rest.append(action)
                case Reveal(page, segment, offset, nbytes):
                    self.unanswered[page] -= page not in self.found  # Else it was carried over.
                    record = Record(page, offset, nbytes)
                    assert record in self.files[segment].whole, "found before it was whole"
                    assert self.indexed[page] == (segment, offset), "found before it was in the index"
                    assert not self.files[segment].retired
                    self.found[page] = (segment, record)
                case RetireSegment(segment, pages):
                    file = self.files[segment]
                    file.retired = True
                    for home in pages:
                        assert self.found.pop(home.key)[0] == segment
                    assert segment not in {number for number, _ in self.found.values()}
                    todo += self.log.feed(
                        SegmentHeld(segment) if file.readers else SegmentDrained(segment), 0
                    )
                case action:
                    if isinstance(action, OpenSegment):
                        self.unmade.add(action.segment)
                    if isinstance(action, CopyPage):
                        self.carried.append(action.key)
                    rest.append(action)
        return rest

    @rule(
        target=jobs,
        offers=st.lists(
            st.tuples(
                st.integers(0, KEYS - 1),
                st.sampled_from([1, PAGE // 2, PAGE, PAGE, PAGE, 3 * PAGE]),
                st.integers(1, 3),
                st.booleans(),
                st.booleans(),
            ),
            min_size=3,
            max_size=9,
        ),
    )
    def offer(self, offers: list[tuple[int, int, int, bool, bool]]) -> object:
        """By as many threads, of which some have done everything before the next one comes."""
        left = []
        for n, nbytes, times, is_probe, is_done_at_once in offers:
            job = self.offer_one(n, nbytes, times, is_probe)
            if is_done_at_once:
                self.finish(job)
            else:
                left.append(job)
        return multiple(*left)

    def offer_one(self, n: int, nbytes: int, times: int, is_probe: bool) -> list[LogAction]:
        """Ask for a page, and again if it was not worth it: that is how a newcomer gets in."""
        leased = frozenset(number for number, file in self.files.items() if file.readers)
        page = key(n)
        todo: list[LogAction] = []
        for _ in range(times):
            is_unanswered = self.unanswered[page]
            todo += self.feed(PageOffered(page, nbytes, leased, is_probe))
            assert not is_unanswered or todo[-1:] == [Refuse(page, Refusal.HELD)], "an answer was forgotten"
            if Refuse(page, Refusal.HELD) not in todo:
                self.sizes[page] = nbytes
            if Refuse(page, Refusal.NOT_WORTH_IT) not in todo[-1:]:
                break
            assert not is_probe
        return todo

    @rule(target=jobs, job=consumes(jobs), works=st.sampled_from([True, True, True, False]))
    def step(self, job: list[LogAction], works: bool) -> object:
        """A thread carries out its next action, or fails at it."""
        if not job:
            return multiple()
        # Like the driver, a thread does not write into a file that another one is still making.
        first = job[0]
        if isinstance(first, WritePage | CopyPage) and first.segment in self.unmade:
            return job
        return self.do(first, works) + job[1:]

    def do(self, action: LogAction, works: bool) -> list[LogAction]:
        match action:
            case OpenSegment(segment, capacity):
                assert segment not in self.files
                if not works:
                    self.unmade.discard(segment)
                    return self.feed(OpenFailed(segment))
                self.files[segment] = File(capacity)
                self.unmade.discard(segment)
            case WritePage(page, segment, offset):
                return self.write(page, segment, offset, self.sizes[page], works)
            case CopyPage(page, source, source_offset, segment, offset, nbytes):
                self.carried.remove(page)
                there = self.found.get(page)
                if there is not None and there[0] == source:
                    assert there[1] == Record(page, source_offset, nbytes)
                works = works and there is not None and there[0] == source
                return self.write(page, segment, offset, nbytes, works)
            case Publish(page, segment, offset, nbytes):
                assert Record(page, offset, nbytes) in self.files[segment].whole
                if not works:
                    return self.feed(WriteFailed(page, segment))
                self.indexed[page] = (segment, offset)
                assert len(self.indexed) <= self.log.shares.entries_max + len(self.stale_entries())
                return self.feed(PagePublished(page, segment))
            case DropEntries(entries):
                if not works:
                    return self.feed(EntriesKept(entries))
                for page, segment, offset in entries:
                    if self.indexed.get(page) == (segment, offset):
                        del self.indexed[page]
            case UnlinkSegment(segment):
                file = self.files.get(segment)
                assert file is None or not file.readers, "gone from under a reader"
                assert segment not in {number for number, _ in self.found.values()}
                if not works:
                    return self.feed(UnlinkFailed(segment))
                self.files.pop(segment, None)
                return self.feed(SegmentUnlinked(segment))
        return []

    @rule(job=consumes(jobs))
    def finish(self, job: list[LogAction]) -> None:
        """A thread gets everything done at once, unless it has to wait for another one."""
        while job:
            first = job[0]
            if isinstance(first, WritePage | CopyPage) and first.segment in self.unmade:
                self.stopped.append(job)
                return
            job = self.do(first, True) + job[1:]

    @rule(target=jobs)
    def wake(self) -> object:
        return self.stopped.pop() if self.stopped else multiple()

    def stale_entries(self) -> set[PageKey]:
        """Entries that a thread has yet to drop."""
        return {page for page in self.indexed if page not in self.log}

    def write(self, page: PageKey, segment: int, offset: int, nbytes: int, works: bool) -> list[LogAction]:
        file = self.files.get(segment)
        if file is None:
            return self.feed(WriteFailed(page, segment))
        extent = (offset, offset + record_length(nbytes))
        assert extent[1] <= file.capacity
        assert all(extent[1] <= start or stop <= extent[0] for start, stop in file.placed), "overlap"
        file.placed.append(extent)
        if not works:
            return self.feed(WriteFailed(page, segment))
        file.whole.add(Record(page, offset, nbytes))
        return self.feed(PageWritten(page, segment))

    @rule(numbers=st.lists(st.integers(0, KEYS - 1), min_size=6, max_size=12))
    def hit(self, numbers: list[int]) -> None:
        assert self.feed(HitsSeen(tuple(map(key, numbers)))) == []

    @rule(target=jobs, n=st.integers(0, KEYS - 1))
    def drop(self, n: int) -> object:
        self.found.pop(key(n), None)
        return self.feed(PageDropped(key(n)))

    @rule(target=jobs)
    def drop_what_is_carried_over(self) -> object:
        """What is rare otherwise: a page is found to be wrong while it is copied."""
        carried = [page for page in self.carried if page in self.found]
        return self.drop(int.from_bytes(carried[0], "big")) if carried else multiple()

    @rule(target=leases, n=st.integers(0, KEYS - 1))
    def lease(self, n: int) -> object:
        if key(n) not in self.found:
            return multiple()
        segment, record = self.found[key(n)]
        self.files[segment].readers += 1
        return segment, record

    @rule(target=jobs, lease=consumes(leases))
    def release(self, lease: tuple[int, Record]) -> object:
        segment, record = lease
        file = self.files[segment]
        assert record in file.whole
        file.readers -= 1
        if file.retired and not file.readers:
            return self.feed(SegmentDrained(segment))
        return multiple()

    @invariant()
    def no_offer_is_answered_twice(self) -> None:
        assert set(self.unanswered.values()) <= {0, 1}

    @invariant()
    def never_more_than_the_ceiling(self) -> None:
        if hasattr(self, "log"):
            on_disk = sum(file.capacity + SEGMENT_OVERHEAD_BYTES for file in self.files.values())
            assert on_disk <= self.log.claimed_bytes <= self.log.shares.ceiling_bytes

    @invariant()
    def what_is_found_is_what_the_log_says(self) -> None:
        if hasattr(self, "log"):
            assert {n for n in range(KEYS) if key(n) in self.log} == {
                n for n in range(KEYS) if key(n) in self.found
            }
            assert len(self.found) == len(self.log) <= self.log.shares.entries_max
            assert self.log.held_bytes == sum(record.nbytes for _, record in self.found.values())


AnyDisk.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
test_any_disk = AnyDisk.TestCase
