"""Write-behind against a model that counts: what waits, what is written, and what is let go when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick
from seekfs_core.pages import PageKey
from seekfs_core.writebehind import (
    STALL_SECONDS_DEFAULT,
    Closing,
    PageVerified,
    SkipCopy,
    SkipPage,
    WriteAction,
    WriteBehind,
    WriteEnded,
    WritePage,
)
from tests.core.strategies import long_lists


def key(number: int) -> PageKey:
    return PageKey(number.to_bytes(36, "big"))


A, B, C, D = (key(number) for number in range(4))


def test_as_many_are_written_at_once_as_there_are_writers_and_the_rest_waits_in_order() -> None:
    behind = WriteBehind(2)
    assert behind.feed(PageVerified(A, 10), 0) == (WritePage(A),)
    assert behind.feed(PageVerified(B, 20), 0) == (WritePage(B),)
    assert behind.feed(PageVerified(C, 30), 0) == ()
    assert behind.feed(PageVerified(D, 40), 0) == ()
    assert behind.bytes_waiting == 100
    assert behind.feed(WriteEnded(B), 1) == (WritePage(C),)
    assert behind.feed(WriteEnded(A), 1) == (WritePage(D),)
    assert behind.feed(WriteEnded(D), 2) == ()
    assert behind.bytes_waiting == 30
    assert behind.feed(WriteEnded(C), 2) == ()
    assert behind.bytes_waiting == 0


def test_a_page_is_under_way_until_its_write_has_ended() -> None:
    behind = WriteBehind(1)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(PageVerified(B, 10), 0)
    assert (A in behind, B in behind, C in behind) == (True, True, False)
    behind.feed(WriteEnded(A), 1)
    assert (A in behind, B in behind) == (False, True)


def test_a_slow_disk_is_waited_for() -> None:
    behind = WriteBehind(1, stall_seconds=5)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(PageVerified(B, 10), 0)
    for now, (done, following) in enumerate([(A, B), (B, C), (C, D)], 1):
        if following is not B:
            behind.feed(PageVerified(following, 10), 4.9 * now)
        assert behind.next_deadline() == 4.9 * (now - 1) + 5
        assert behind.feed(WriteEnded(done), 4.9 * now) == (WritePage(following),)


def test_a_disk_that_hangs_keeps_nobody_waiting_and_is_tried_again_when_it_moves() -> None:
    behind = WriteBehind(1, stall_seconds=5)
    assert behind.feed(PageVerified(A, 10), 0) == (WritePage(A),)
    assert behind.next_deadline() is None  # Nothing waits behind it.
    behind.feed(PageVerified(B, 10), 1)
    behind.feed(PageVerified(C, 10), 4)
    assert behind.next_deadline() == 5
    assert behind.feed(Tick(), 4.9) == ()
    assert behind.feed(Tick(), 5) == (SkipPage(B), SkipPage(C))
    assert behind.next_deadline() is None
    assert behind.bytes_waiting == 10
    assert behind.feed(PageVerified(D, 10), 60) == (SkipPage(D),)
    assert behind.feed(WriteEnded(A), 70) == ()
    assert behind.feed(PageVerified(B, 10), 70) == (WritePage(B),)


def test_a_disk_that_was_idle_is_not_stalled() -> None:
    behind = WriteBehind(1, stall_seconds=5)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(WriteEnded(A), 1)
    assert behind.feed(PageVerified(B, 10), 1000) == (WritePage(B),)
    assert behind.feed(PageVerified(C, 10), 1004) == ()
    assert behind.next_deadline() == 1005


def test_a_write_that_ends_too_late_still_frees_its_writer() -> None:
    behind = WriteBehind(2, stall_seconds=5)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(PageVerified(B, 10), 1)
    behind.feed(PageVerified(C, 10), 2)
    assert behind.feed(WriteEnded(B), 9) == (WritePage(C),)
    assert behind.feed(PageVerified(D, 10), 10) == ()
    assert behind.feed(WriteEnded(A), 11) == (WritePage(D),)


def test_a_page_may_come_again_when_it_was_written_or_let_go() -> None:
    behind = WriteBehind(1)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(PageVerified(B, 10), 0)
    assert behind.feed(Tick(), STALL_SECONDS_DEFAULT) == (SkipPage(B),)
    assert behind.feed(PageVerified(B, 10), STALL_SECONDS_DEFAULT) == (SkipPage(B),)
    behind.feed(WriteEnded(A), 6)
    assert behind.feed(PageVerified(A, 10), 6) == (WritePage(A),)


def test_of_a_page_that_comes_again_while_it_waits_one_copy_is_written() -> None:
    behind = WriteBehind(1)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(PageVerified(B, 20), 0)
    assert behind.feed(PageVerified(A, 10), 1) == (SkipCopy(A),)
    assert behind.feed(PageVerified(B, 20), 1) == (SkipCopy(B),)
    assert behind.bytes_waiting == 30
    assert behind.feed(WriteEnded(A), 2) == (WritePage(B),)
    assert behind.feed(WriteEnded(B), 2) == ()
    assert behind.bytes_waiting == 0


def test_at_the_end_what_waits_is_still_written_and_nothing_else() -> None:
    behind = WriteBehind(1)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(PageVerified(B, 20), 0)
    assert not behind.is_flushed  # Nobody has asked for it.
    assert behind.feed(Closing(4), 1) == ()
    assert behind.feed(PageVerified(C, 30), 1) == (SkipCopy(C),)
    assert behind.feed(WriteEnded(A), 2) == (WritePage(B),)
    assert not behind.is_flushed
    assert behind.next_deadline() == 4
    assert behind.feed(WriteEnded(B), 3) == ()
    assert behind.bytes_waiting == 0
    assert behind.next_deadline() is None


def test_what_waits_at_the_end_is_let_go_of_when_the_time_is_over() -> None:
    behind = WriteBehind(1, stall_seconds=5)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(PageVerified(B, 20), 0)
    behind.feed(Closing(3), 1)
    assert behind.next_deadline() == 3
    assert behind.feed(Tick(), 2.9) == ()
    assert behind.feed(Tick(), 3) == (SkipPage(B),)
    assert behind.is_flushed  # Page A is still being written: that has had its time.
    assert behind.bytes_waiting == 10
    assert behind.next_deadline() is None
    assert behind.feed(WriteEnded(A), 9) == ()


def test_a_disk_that_hangs_at_the_end_is_given_up_sooner() -> None:
    behind = WriteBehind(1, stall_seconds=5)
    behind.feed(PageVerified(A, 10), 0)
    behind.feed(PageVerified(B, 20), 0)
    behind.feed(Closing(60), 1)
    assert behind.next_deadline() == 5
    assert behind.feed(Tick(), 5) == (SkipPage(B),)
    assert not behind.is_flushed
    assert behind.next_deadline() == 60


def test_without_pages_the_end_takes_no_time() -> None:
    behind = WriteBehind(1)
    behind.feed(Closing(60), 1)
    assert behind.is_flushed
    assert behind.next_deadline() is None


@pytest.mark.parametrize("ended", [A, B, D])
def test_a_write_that_had_not_begun_cannot_end(ended: PageKey) -> None:
    behind = WriteBehind(1)
    behind.feed(PageVerified(C, 10), 0)
    behind.feed(PageVerified(B, 10), 0)
    with pytest.raises(ContractViolation, match="had not begun"):
        behind.feed(WriteEnded(ended), 1)
    assert behind.bytes_waiting == 20


@given(
    st.integers(1, 3),
    long_lists(
        st.tuples(
            st.sampled_from([*["page", "page", "end", "end", "tick"] * 4, "close"]),
            st.integers(0, 7),
            st.floats(0, 3),
        ),
        40,
    ),
)
def test_every_page_is_written_or_let_go_exactly_once(
    writers: int, steps: list[tuple[str, int, float]]
) -> None:
    behind = WriteBehind(writers, stall_seconds=5)
    waiting: list[PageKey] = []
    writing: list[PageKey] = []
    now = moved_at = 0.0
    closing_until: float | None = None
    for what, number, seconds in steps:
        now += seconds
        page = key(number)
        stalled = bool(writing) and now >= moved_at + 5
        expected: list[WriteAction] = []
        if what == "page":
            actions = list(behind.feed(PageVerified(page, 1), now))
            if page in waiting + writing or closing_until is not None:
                expected.append(SkipCopy(page))
            else:
                waiting.append(page)
        elif what == "end" and writing:
            done = writing.pop(number % len(writing))
            actions = list(behind.feed(WriteEnded(done), now))
            moved_at, stalled = now, False
        elif what == "close":
            closing_until = now + number
            actions = list(behind.feed(Closing(closing_until), now))
        else:
            actions = list(behind.feed(Tick(), now))
        is_over = closing_until is not None and now >= closing_until
        if stalled or is_over:
            expected += [SkipPage(each) for each in waiting]
            waiting.clear()
        while waiting and len(writing) < writers:
            moved_at = now if not writing else moved_at
            writing.append(waiting.pop(0))
            expected.append(WritePage(writing[-1]))
        assert actions == expected
        assert behind.bytes_waiting == len(waiting) + len(writing)
        assert behind.is_flushed is (closing_until is not None and not waiting and (is_over or not writing))
        due = behind.next_deadline()
        dues = [moved_at + 5] if waiting else []
        if closing_until is not None and (waiting or writing) and not is_over:
            dues.append(closing_until)
        assert due == min(dues, default=None)
        assert due is None or due > now
