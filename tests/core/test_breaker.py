"""The circuit breaker: by itself, state by state, and in the scheduler, where everybody hears of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from seekfs_core.breaker import BREAKER_TRANSITIONS, Breaker, BreakerPolicy, BreakerState, Verdict, verdict_of
from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.fetch_messages import (
    CallEnded,
    CallFailed,
    CallNotMade,
    CallWanted,
    FailCall,
    FailPage,
    GetEnded,
    GetFailed,
    PageArrived,
    PagesWanted,
    ReadLeft,
    StartCall,
)
from seekfs_core.machine import Tick
from tests.core.model_fetch import Watched
from tests.core.test_fetch import failure, gets, source_of

DOWN = failure(FailureKind.UNREACHABLE, "connection refused")
GONE = failure(FailureKind.MISSING)
CUT = failure(FailureKind.CUT_SHORT)
POLICY = BreakerPolicy(failures_max=3, probe_seconds_initial=1.0, probe_seconds_max=3.0)


def opened(policy: BreakerPolicy = POLICY, now: float = 10.0) -> Breaker:
    breaker = Breaker(policy)
    for _ in range(policy.failures_max):
        assert not breaker.ended(DOWN, now, 0)
    return breaker


def probing() -> Breaker:
    breaker = opened()
    assert breaker.started() == 1
    return breaker


# --- by itself ------------------------------------------------------------------------------


def test_so_many_failures_in_a_row_open_it_and_any_answer_begins_the_count_anew() -> None:
    breaker = Breaker(POLICY)
    for end in (DOWN, DOWN, GONE, DOWN, DOWN, None, DOWN, CUT, DOWN):
        assert not breaker.ended(end, 10.0, 0)
        assert (breaker.state, breaker.ready_at()) == (BreakerState.CLOSED, float("-inf"))
    breaker.ended(DOWN, 10.0, 0)  # The third: a body that was cut short says nothing either way.
    assert (breaker.state, breaker.ready_at(), breaker.opened_count) == (BreakerState.OPEN, 11.0, 1)


def test_with_no_limit_it_never_opens() -> None:
    breaker = Breaker(BreakerPolicy(failures_max=0))
    for _ in range(1000):
        breaker.ended(DOWN, 10.0, 0)
    assert breaker.state is BreakerState.CLOSED


def test_only_when_a_probe_has_failed_is_anybody_refused_and_each_one_doubles_the_time() -> None:
    breaker = opened()
    assert not breaker.is_refusing(10.5)
    now = 11.0
    for number, seconds in enumerate((2.0, 3.0, 3.0), 1):
        assert breaker.started() == number
        assert breaker.ready_at() == float("inf")
        assert not breaker.is_refusing(now)
        assert breaker.ended(DOWN, now, number)
        assert breaker.is_refusing(now + seconds - 0.1)
        assert not breaker.is_refusing(now + seconds)
        assert breaker.refusal(now).retry_after_seconds == seconds
        now += seconds
    assert "6 requests in a row have failed, the last with: connection refused" in breaker.refusal(now).detail
    breaker.started()
    assert not breaker.ended(None, now, 4)
    assert breaker.state is BreakerState.CLOSED
    # The next time it is as if it had never been.
    for _ in range(3):
        breaker.ended(DOWN, now, 0)
    assert (breaker.ready_at(), breaker.is_refusing(now)) == (now + 1.0, False)


def test_a_probe_that_says_nothing_is_followed_by_another_one() -> None:
    for is_made in (False, True):
        breaker = probing()
        if is_made:
            assert not breaker.ended(CUT, 12.0, 1)
        else:
            breaker.not_made(12.0, 1)
        assert (breaker.state, breaker.ready_at()) == (BreakerState.OPEN, 12.0)
        assert breaker.started() == 2


def test_what_becomes_of_other_requests_meanwhile_is_no_word_of_the_probe() -> None:
    breaker = probing()
    assert not breaker.ended(DOWN, 12.0, 0)
    breaker.not_made(12.0, 0)
    assert breaker.ready_at() == float("inf")
    # But an answer is an answer; and then the probe is no probe any more.
    breaker.ended(None, 12.0, 0)
    assert not breaker.ended(DOWN, 12.0, 1)
    assert breaker.state is BreakerState.CLOSED


def test_an_old_probe_is_not_taken_for_the_new_one() -> None:
    breaker = probing()
    breaker.ended(None, 12.0, 0)
    for _ in range(3):
        breaker.ended(DOWN, 13.0, 0)
    assert breaker.started() == 2
    assert not breaker.ended(DOWN, 14.0, 1)
    assert breaker.state is BreakerState.PROBING
    assert breaker.ended(DOWN, 14.0, 2)


HAPPENINGS: dict[str, Callable[[Breaker], object]] = {
    "failed": lambda breaker: breaker.ended(DOWN, 20.0, 0),
    "answered": lambda breaker: breaker.ended(None, 20.0, 0),
    "probe": lambda breaker: breaker.started(),
    "probe failed": lambda breaker: breaker.ended(DOWN, 20.0, 1),
    "probe said nothing": lambda breaker: breaker.not_made(20.0, 1),
}


def test_every_row_of_the_table_is_walked_and_nothing_beside_it() -> None:
    def nearly_open() -> Breaker:
        breaker = Breaker(POLICY)
        breaker.ended(DOWN, 10.0, 0)
        breaker.ended(DOWN, 10.0, 0)
        return breaker

    walked = set()
    makers: list[Callable[[], Breaker]] = [lambda: Breaker(POLICY), nearly_open, opened, probing]
    for make in makers:
        for what, happen in HAPPENINGS.items():
            breaker = make()
            before = breaker.state
            if (before, what) in BREAKER_TRANSITIONS:
                happen(breaker)
                walked.add((before, what, breaker.state))
    assert walked == {
        (state, what, landing)
        for (state, what), landings in BREAKER_TRANSITIONS.items()
        for landing in landings
    }
    assert {what for _, what in BREAKER_TRANSITIONS} == set(HAPPENINGS)


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_has_its_verdict(kind: FailureKind) -> None:
    down = {FailureKind.UNREACHABLE, FailureKind.TIMED_OUT, FailureKind.BUSY}
    nothing = {
        FailureKind.CUT_SHORT,
        FailureKind.BAD_CHECKSUM,
        FailureKind.CLOSING,
        FailureKind.INTERNAL,
        FailureKind.OVERTAKEN,
        FailureKind.BREAKER_OPEN,
        FailureKind.OVER_BUDGET,
    }
    expected = Verdict.FAILED if kind in down else Verdict.NOTHING if kind in nothing else Verdict.ANSWERED
    assert verdict_of(failure(kind)) is expected


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (429, Verdict.ANSWERED),
        (500, Verdict.FAILED),
        (502, Verdict.FAILED),
        (503, Verdict.ANSWERED),
        (504, Verdict.FAILED),
    ],
)
def test_a_store_that_refuses_is_not_down(status: int, verdict: Verdict) -> None:
    assert verdict_of(StoreFailure(kind=FailureKind.BUSY, detail="", status=status)) is verdict


# --- in the scheduler -----------------------------------------------------------------------


def watched_with(failures: int, attempts: int = 1) -> Watched:
    policy = BreakerPolicy(failures_max=failures, probe_seconds_initial=1.0)
    return Watched.make(breaker=policy, coalesce=10, attempts=attempts, backoff=0.2, now=0.0)


def test_what_waits_when_it_opens_is_saved_by_a_probe_that_is_answered() -> None:
    watched = watched_with(2, attempts=3)
    source = source_of(4)
    for get in gets(watched.feed(PagesWanted(1, source, (0, 1)), 1.0)):
        watched.feed(GetFailed(get.get, DOWN))
    assert watched.feed(PagesWanted(2, source, (2,)), 1.5) == ()
    assert watched.feed(CallWanted(7)) == ()
    # Retries are due long before that, and wait as well. Calls go first, so the probe is one.
    assert watched.feed(Tick(), 1.9) == ()
    assert watched.scheduler.next_deadline() == 2.0
    assert watched.feed(Tick(), 2.0) == (StartCall(7, 1),)
    assert watched.scheduler.statistics().is_breaker_open
    assert watched.feed(Tick(), 2.4) == ()
    assert len(gets(watched.feed(CallEnded(7), 2.5))) == 3
    statistics = watched.scheduler.statistics()
    assert (statistics.breaker_opened, statistics.is_breaker_open) == (1, False)


def test_a_probe_that_fails_tells_everybody_at_once_and_who_asks_later_is_told_when_to_come_back() -> None:
    watched = watched_with(1, attempts=3)
    source = source_of(9)
    first, second = gets(watched.feed(PagesWanted(1, source, (0, 1)), 1.0))
    watched.feed(GetFailed(first.get, DOWN))
    watched.feed(PagesWanted(2, source, (0, 2)), 1.1)
    watched.feed(CallWanted(7))
    probe = watched.feed(Tick(), 2.0)
    assert probe == (StartCall(7, 1),)
    told = watched.feed(CallFailed(7, DOWN), 2.5)
    failed = {(action.page_id, action.reads) for action in told if isinstance(action, FailPage)}
    assert failed == {(0, (1, 2)), (2, (2,))}
    assert [action.call for action in told if isinstance(action, FailCall)] == [7]
    kinds = {action.failure.kind for action in told if isinstance(action, FailPage | FailCall)}
    assert kinds == {FailureKind.BREAKER_OPEN}
    # Who asks now is told, but may join what is in flight.
    assert watched.scheduler.statistics().queued == 0
    (refused,) = watched.feed(PagesWanted(3, source, (1, 3)), 3.5)
    assert isinstance(refused, FailPage)
    assert (refused.page_id, refused.reads) == (3, (3,))
    assert refused.failure.retry_after_seconds == pytest.approx(1.0)
    (call_refused,) = watched.feed(CallWanted(8))
    assert isinstance(call_refused, FailCall)
    assert call_refused.failure.kind is FailureKind.BREAKER_OPEN
    # One that was in flight all the time is answered: the store is up.
    watched.feed(PageArrived(second.get, 1, 1))
    watched.feed(GetEnded(second.get))
    assert len(gets(watched.feed(PagesWanted(3, source, (3,))))) == 1


def test_the_next_probe_is_a_request_that_somebody_wants() -> None:
    watched = watched_with(1)
    source = source_of(9)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0,)), 1.0))
    watched.feed(GetFailed(get.get, DOWN))
    (probe,) = gets(watched.feed(PagesWanted(1, source, (1,)), 2.0))
    watched.feed(GetFailed(probe.get, DOWN))
    assert watched.feed(Tick(), 100.0) == ()
    (probe,) = gets(watched.feed(PagesWanted(1, source, (2, 3))))
    assert watched.feed(ReadLeft(1)) == ()
    # Half open, one more waits for it, and is not refused.
    assert watched.feed(PagesWanted(2, source, (4,))) == ()
    watched.feed(PageArrived(probe.get, 2, 2))
    (other,) = gets(watched.feed(GetEnded(probe.get)))
    assert other.page_start == 4


def test_a_request_in_flight_that_fails_while_the_store_is_known_to_be_down_is_not_made_again() -> None:
    watched = watched_with(1, attempts=3)
    first, second, third = gets(watched.feed(PagesWanted(1, source_of(3), (0, 1, 2)), 1.0))
    watched.feed(CallWanted(7))
    watched.feed(GetFailed(first.get, DOWN))
    watched.feed(GetFailed(second.get, DOWN))
    (probe,) = gets(watched.feed(Tick(), 2.0))
    watched.feed(GetFailed(probe.get, DOWN))
    (failed,) = watched.feed(GetFailed(third.get, DOWN))
    assert isinstance(failed, FailPage)
    assert failed.failure.kind is FailureKind.UNREACHABLE
    (call_failed,) = watched.feed(CallFailed(7, DOWN))
    assert isinstance(call_failed, FailCall)
    assert call_failed.failure.kind is FailureKind.UNREACHABLE


def test_a_probe_that_was_not_made_is_followed_by_the_next_in_line() -> None:
    watched = watched_with(1)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(3), (0,)), 1.0))
    watched.feed(GetFailed(get.get, DOWN))
    watched.feed(CallWanted(7))
    watched.feed(PagesWanted(1, source_of(3), (1,)))
    assert watched.feed(Tick(), 2.0) == (StartCall(7, 1),)
    assert len(gets(watched.feed(CallNotMade(7)))) == 1


def test_a_retry_that_waits_for_the_store_gives_its_room_back_when_that_is_down() -> None:
    watched = watched_with(1, attempts=3)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(3), (0,)), 1.0))
    watched.feed(GetFailed(get.get, DOWN))
    watched.feed(CallWanted(7))
    watched.feed(Tick(), 2.0)
    watched.feed(CallFailed(7, DOWN))
    assert watched.scheduler.statistics().room_bytes_used == 0
    assert watched.is_idle
