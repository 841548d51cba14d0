"""Whose turn it is among GETs that wait, and how long anybody waits."""

from __future__ import annotations

import pytest

from seekfs_core.fetch_messages import (
    CallEnded,
    CallWanted,
    FetchEvent,
    GetEnded,
    GetFailed,
    GetReason,
    PageArrived,
    PagesWanted,
    ReadLeft,
    ReadWaits,
    RoomWanted,
    StartCall,
    WaitExpired,
)
from seekfs_core.machine import Tick
from seekfs_core.pages import page_key
from tests.core.model_fetch import Watched
from tests.core.test_fetch import bring, failure, gets, source_of

SOURCE = source_of(100)


def busy(*, room: int = 1 << 40, attempts: int = 3) -> Watched:
    """One slot, taken by call 1."""
    watched = Watched.make(inflight=1, coalesce=10, room=room, attempts=attempts, backoff=0.1)
    assert watched.feed(CallWanted(1), 10.0) == (StartCall(1, 1),)
    return watched


def order_of(watched: Watched, free: FetchEvent) -> list[int]:
    """The pages that are fetched one after the other from when the slot is free."""
    pages, actions = [], watched.feed(free)
    while started := gets(actions):
        (get,) = started
        pages.append(get.page_start)
        watched.feed(PageArrived(get.get, get.page_start, get.page_start))
        actions = watched.feed(GetEnded(get.get))
    return pages


def test_what_is_needed_goes_before_what_is_read_ahead_and_each_in_the_order_it_was_asked_for() -> None:
    watched = busy()
    watched.feed(PagesWanted(1, SOURCE, (0, 1), is_ahead=True))
    watched.feed(PagesWanted(2, SOURCE, (2, 3)))
    watched.feed(PagesWanted(1, SOURCE, (4,), is_ahead=True))
    watched.feed(PagesWanted(3, SOURCE, (5,)))
    assert order_of(watched, CallEnded(1)) == [2, 3, 5, 0, 1, 4]


@pytest.mark.parametrize("how", ["wait", "want"])
def test_what_is_read_ahead_is_needed_from_when_somebody_waits_for_it_or_wants_it(how: str) -> None:
    watched = busy()
    watched.feed(PagesWanted(1, SOURCE, (0,), is_ahead=True))
    watched.feed(PagesWanted(1, SOURCE, (1,), is_ahead=True))
    watched.feed(PagesWanted(2, SOURCE, (2,)))
    # Needed since later, but asked for earlier than page 2.
    needs = ReadWaits(1, page_key(SOURCE.key, 1)) if how == "wait" else PagesWanted(3, SOURCE, (1,))
    watched.feed(needs)
    assert order_of(watched, CallEnded(1)) == [1, 2, 0]


def test_wanting_ahead_what_another_needs_takes_nothing_from_it() -> None:
    watched = busy()
    watched.feed(PagesWanted(1, SOURCE, (0,), is_ahead=True))
    watched.feed(PagesWanted(2, SOURCE, (1,)))
    watched.feed(PagesWanted(1, SOURCE, (1,), is_ahead=True))
    assert order_of(watched, CallEnded(1)) == [1, 0]


def test_what_is_made_again_for_somebody_who_needs_it_goes_first_and_otherwise_after_what_is_needed() -> None:
    watched = Watched.make(inflight=1, coalesce=10, backoff=0.0)
    (get,) = gets(watched.feed(PagesWanted(1, SOURCE, (0,), is_ahead=True), 10.0))
    watched.feed(PagesWanted(2, SOURCE, (1,)))
    assert get.reason is GetReason.AHEAD
    (needed,) = gets(watched.feed(GetFailed(get.get, failure()), 11.0))
    assert (needed.page_start, needed.reason) == (1, GetReason.NEEDED)
    watched.feed(PagesWanted(2, SOURCE, (2,)))
    (again,) = gets(watched.feed(GetFailed(needed.get, failure())))
    assert (again.page_start, again.reason) == (1, GetReason.RETRY)


def test_room_is_kept_for_what_is_needed_and_what_has_its_room_goes_on() -> None:
    watched = Watched.make(room=40, coalesce=20, backoff=0.0, inflight=3)
    (ahead,) = gets(watched.feed(PagesWanted(1, SOURCE, (0, 1), is_ahead=True), 10.0))
    assert gets(watched.feed(PagesWanted(2, SOURCE, (2, 3)))) == []
    # Less would fit, but somebody needs more first.
    assert gets(watched.feed(PagesWanted(1, SOURCE, (5,), is_ahead=True))) == []
    (again,) = gets(watched.feed(GetFailed(ahead.get, failure())))
    assert (again.page_start, again.page_stop) == (0, 2)


def test_a_wait_ends_when_it_is_too_long_and_the_page_may_come_all_the_same() -> None:
    watched = Watched.make(coalesce=10)
    (get,) = gets(watched.feed(PagesWanted(1, SOURCE, (0,)), 10.0))
    key = page_key(SOURCE.key, 0)
    watched.feed(ReadWaits(1, key, 12.0))
    assert watched.scheduler.next_deadline() == 12.0
    assert watched.feed(Tick(), 11.9) == ()
    assert watched.feed(Tick(), 12.0) == (WaitExpired(1, key, is_asked=True),)
    assert watched.feed(Tick(), 13.0) == ()
    # It may wait anew, for as long as it says then; or for no time at all.
    assert watched.feed(ReadWaits(1, key, 13.0)) == (WaitExpired(1, key, is_asked=True),)
    watched.feed(ReadWaits(1, key, 20.0))
    bring(watched, get)
    assert watched.scheduler.next_deadline() is None


def test_a_wait_for_room_ends_too_and_one_that_left_is_told_nothing() -> None:
    watched = Watched.make(room=10)
    watched.feed(RoomWanted(1, 10), 10.0)
    watched.feed(RoomWanted(2, 10))
    watched.feed(RoomWanted(3, 10))
    watched.feed(ReadWaits(2, None, 12.0))
    watched.feed(ReadWaits(3, None, 12.0))
    watched.feed(ReadLeft(3))
    assert WaitExpired(2, None) in watched.feed(Tick(), 12.0)


def test_a_wait_for_what_has_come_never_expires() -> None:
    watched = Watched.make(coalesce=10)
    (get,) = gets(watched.feed(PagesWanted(1, SOURCE, (0,)), 10.0))
    bring(watched, get)
    watched.feed(ReadWaits(1, page_key(SOURCE.key, 0), 11.0))
    assert watched.scheduler.next_deadline() is None


def test_a_get_says_who_wanted_it_since_when_and_why() -> None:
    watched = busy()
    watched.feed(PagesWanted(7, SOURCE, (0,), is_ahead=True), 11.0)
    watched.feed(PagesWanted(8, SOURCE, (0,)), 12.0)
    (get,) = gets(watched.feed(CallEnded(1), 13.0))
    assert (get.read, get.wanted_at, get.reason, get.hedge_of) == (7, 11.0, GetReason.NEEDED, None)
