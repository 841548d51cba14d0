"""Hedged GETs: when a first byte is late, by a naive reading of percentiles; and what the scheduler does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core.budget import GetBudget
from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.fetch_messages import (
    BreakOffGet,
    Closing,
    DeliverPage,
    DiscardPage,
    GetEnded,
    GetFailed,
    GetOpened,
    GetReason,
    PageArrived,
    PagesWanted,
    ReadLeft,
    ReadWaits,
    RoomReturned,
    StartGet,
)
from seekfs_core.hedge import SAMPLES, FirstBytes, HedgePolicy, is_affordable
from seekfs_core.machine import Tick
from seekfs_core.namespace_budgets import NamespaceBudget
from seekfs_core.pages import page_key
from tests.core.model_fetch import Watched
from tests.core.strategies import long_lists
from tests.core.test_fetch import bring, failure, gets, source_of

LATE = 0.2
SOURCE = source_of(1000)


# --- when it is late ------------------------------------------------------------------------


@settings(max_examples=25)
@given(long_lists(st.floats(0, 1000), 600).filter(bool), st.floats(0, 2))
def test_late_is_between_the_95th_and_the_99th_percentile_of_the_latest(
    times: list[float], seconds_min: float
) -> None:
    first_bytes = FirstBytes(HedgePolicy(samples_min=1, seconds_min=seconds_min))
    for time in times:
        first_bytes.took(time)
    latest = sorted(times[-SAMPLES:])
    share_below = [sum(each < time for each in latest) / len(latest) for time in latest]
    low = max(time for time, share in zip(latest, share_below, strict=True) if share <= 0.95)
    high = max(time for time, share in zip(latest, share_below, strict=True) if share <= 0.99)
    median = max(time for time, share in zip(latest, share_below, strict=True) if share <= 0.5)
    expected = low if 2 * median < low else min(2 * median, high)
    assert first_bytes.late_after() == max(seconds_min, expected)


def test_of_few_answers_nothing_is_known_and_off_is_off() -> None:
    first_bytes, off = FirstBytes(HedgePolicy()), FirstBytes(HedgePolicy(is_on=False))
    for each in (first_bytes, off):
        for _ in range(99):
            each.took(0.1)
        assert each.late_after() == float("inf")
        each.took(0.1)
    assert first_bytes.late_after() == 0.1
    assert off.late_after() == float("inf")


def test_a_store_that_is_slow_for_one_get_in_a_hundred_is_asked_again_at_twice_its_median() -> None:
    first_bytes = FirstBytes(HedgePolicy(seconds_min=0.0))
    chance = random.Random(1)
    for at in range(1000):
        first_bytes.took(5.0 if at % 66 == 0 else 0.1 + 0.02 * chance.random())
    assert 0.2 <= first_bytes.late_after() < 0.25


def test_hedges_are_a_twentieth_of_all_gets_at_most() -> None:
    assert is_affordable(1, 0)
    assert not is_affordable(20, 1)
    assert is_affordable(21, 1)
    assert not is_affordable(1000, 50)


# --- in the scheduler -----------------------------------------------------------------------


def used_to_speed(
    *, attempts: int = 3, inflight: int = 100, namespaces: dict[str, NamespaceBudget] | None = None
) -> Watched:
    """At time 100, with a store that has always answered after a tenth of a second; late is at 0.2."""
    watched = Watched.make(
        hedge=HedgePolicy(samples_min=100, seconds_min=LATE),
        coalesce=10,
        attempts=attempts,
        inflight=inflight,
        namespaces=namespaces,
        backoff=1.0,
    )
    for page_id in range(100):
        (get,) = gets(watched.feed(PagesWanted(1, SOURCE, (page_id,)), 1.0 + page_id / 2))
        watched.feed(GetOpened(get.get, None, 10_000), watched.now + 0.1)
        bring(watched, get)
    watched.feed(ReadLeft(1), 100.0)
    return watched


def late_get(watched: Watched, pages: tuple[int, ...] = (500,), read: int = 2) -> tuple[StartGet, StartGet]:
    """A GET and its hedge."""
    (get,) = gets(watched.feed(PagesWanted(read, SOURCE, pages), 100.0))
    assert watched.feed(Tick(), 100.0 + LATE / 2) == ()
    assert watched.scheduler.next_deadline() == 100.0 + LATE
    (hedge,) = gets(watched.feed(Tick(), 100.0 + LATE))
    return get, hedge


def test_a_late_get_is_made_once_more_beside_the_first_and_once_only() -> None:
    watched = used_to_speed()
    get, hedge = late_get(watched)
    assert (hedge.hedge_of, hedge.reason, hedge.attempt) == (get.get, GetReason.HEDGE, 2)
    assert (hedge.start, hedge.stop, hedge.get != get.get) == (get.start, get.stop, True)
    assert watched.feed(Tick(), 200.0) == ()
    assert watched.scheduler.next_deadline() == pytest.approx(100 + 1e9)
    assert watched.scheduler.statistics().hedges_started == 1


def test_the_hedge_that_is_answered_first_brings_the_pages_and_the_first_is_broken_off() -> None:
    watched = used_to_speed()
    get, hedge = late_get(watched)
    (off,) = watched.feed(GetOpened(hedge.get, "e", 10_000))
    assert isinstance(off, BreakOffGet)
    assert (off.get, off.failure.kind) == (get.get, FailureKind.OVERTAKEN)
    assert watched.feed(GetOpened(get.get, "e", 10_000)) == ()  # It was on its way.
    assert watched.feed(PageArrived(hedge.get, 500, 500)) == (DeliverPage(hedge.get, SOURCE, 500, (2,)),)
    watched.feed(GetEnded(hedge.get))
    assert watched.feed(PageArrived(get.get, 500, 500)) == (DiscardPage(get.get, 500),)
    assert watched.scheduler.statistics().in_flight == 1
    assert watched.feed(GetFailed(get.get, off.failure)) == ()
    watched.feed(RoomReturned(10))
    statistics = watched.scheduler.statistics()
    assert (statistics.hedges_won, statistics.in_flight, statistics.outcomes["overtaken"]) == (1, 0, 1)


def test_the_first_that_is_answered_after_all_goes_on_and_the_hedge_is_broken_off() -> None:
    watched = used_to_speed()
    get, hedge = late_get(watched)
    (off,) = watched.feed(GetOpened(get.get, "e", 10_000))
    assert isinstance(off, BreakOffGet)
    assert off.get == hedge.get
    bring(watched, get)
    assert watched.feed(GetFailed(hedge.get, off.failure)) == ()
    assert watched.scheduler.statistics().hedges_won == 0


def test_one_that_came_too_late_to_be_broken_off_may_come_to_its_end() -> None:
    watched = used_to_speed()
    get, hedge = late_get(watched)
    watched.feed(GetOpened(get.get, "e", 10_000))
    watched.feed(PageArrived(hedge.get, 500, 500))
    assert watched.feed(GetEnded(hedge.get)) == ()


def test_where_one_of_the_two_fails_the_other_goes_on_and_nothing_is_made_again() -> None:
    for loser_at, winner_at in ((0, 1), (1, 0)):
        watched = used_to_speed()
        pair = late_get(watched)
        loser, winner = pair[loser_at], pair[winner_at]
        assert watched.feed(GetFailed(loser.get, failure())) == ()
        assert watched.feed(Tick(), 110.0) == ()
        assert watched.feed(PageArrived(winner.get, 500, 500)) == (
            DeliverPage(winner.get, SOURCE, 500, (2,)),
        )
        assert watched.feed(GetEnded(winner.get)) == ()


def test_where_both_fail_it_is_made_again_for_both_were_requests_of_it() -> None:
    watched = used_to_speed()
    get, hedge = late_get(watched)
    watched.feed(GetFailed(get.get, failure()))
    assert watched.feed(GetFailed(hedge.get, failure())) == ()
    (again,) = gets(watched.feed(Tick(), 110.0))
    assert (again.attempt, again.reason) == (3, GetReason.RETRY)


def test_the_last_request_of_a_get_is_not_hedged() -> None:
    watched = used_to_speed(attempts=1)
    watched.feed(PagesWanted(2, SOURCE, (500,)), 100.0)
    assert watched.feed(Tick(), 100.0 + LATE) == ()


def test_what_nobody_needs_yet_is_hedged_when_somebody_does() -> None:
    watched = used_to_speed()
    watched.feed(PagesWanted(2, SOURCE, (500,), is_ahead=True), 100.0)
    assert watched.scheduler.next_deadline() == 100.0 + 1e9
    assert watched.feed(Tick(), 105.0) == ()
    (hedge,) = gets(watched.feed(ReadWaits(2, page_key(SOURCE.key, 500)), 106.0))
    assert hedge.reason is GetReason.HEDGE


def test_what_nobody_waits_for_any_more_is_not_hedged() -> None:
    watched = used_to_speed()
    watched.feed(PagesWanted(2, SOURCE, (500,)), 100.0)
    watched.feed(ReadLeft(2))
    assert watched.feed(Tick(), 100.0 + LATE) == ()


def test_none_is_made_without_a_slot_for_it() -> None:
    watched = used_to_speed(inflight=1)
    watched.feed(PagesWanted(2, SOURCE, (500,)), 100.0)
    assert watched.feed(Tick(), 100.0 + LATE) == ()


def test_none_is_made_while_the_store_refuses_and_for_a_while_after() -> None:
    watched = used_to_speed()
    refusal = StoreFailure(kind=FailureKind.BUSY, detail="slow down", status=503)
    (get,) = gets(watched.feed(PagesWanted(3, SOURCE, (400,)), 100.0))
    watched.feed(GetFailed(get.get, refusal))
    watched.feed(ReadLeft(3))
    watched.feed(PagesWanted(2, SOURCE, (500,)), 109.0)
    assert watched.feed(Tick(), 109.0 + LATE) == ()
    (later,) = gets(watched.feed(PagesWanted(2, SOURCE, (501,)), 110.0))
    (hedge,) = gets(watched.feed(Tick(), 110.0 + LATE))
    assert hedge.hedge_of == later.get


def test_a_hedge_is_charged_to_the_namespaces_budget_and_not_made_beyond_it() -> None:
    own = NamespaceBudget(requests=GetBudget(2.0, 2))
    watched = used_to_speed(namespaces={"dev": own})
    late_get(watched, (500,))  # The burst is spent: it is 0.4 requests that flowed meanwhile.
    (get,) = gets(watched.feed(PagesWanted(3, SOURCE, (501,)), watched.now + 0.5))
    assert watched.feed(Tick(), watched.now + LATE) == ()
    assert get.get in watched.flights


def test_a_page_that_takes_too_long_is_broken_off_whichever_of_the_two_brings_it() -> None:
    watched = used_to_speed()
    get, hedge = late_get(watched)
    late = [action for action in watched.feed(Tick(), 100.0 + 2e9) if isinstance(action, BreakOffGet)]
    assert {action.get for action in late} == {get.get, hedge.get}
    assert {action.failure.kind for action in late} == {FailureKind.TIMED_OUT}


def test_at_the_end_both_requests_are_broken_off() -> None:
    watched = used_to_speed()
    get, hedge = late_get(watched)
    broken_off = {each.get for each in watched.feed(Closing(), watched.now) if isinstance(each, BreakOffGet)}
    assert broken_off == {get.get, hedge.get}
