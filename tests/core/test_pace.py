"""The pace beneath the budget: a store in trouble is asked less at once, and fully again afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

import pytest

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.pace import GROWTH_PER_SECOND, RATE_MIN, Pace

SLOW_DOWN = StoreFailure(kind=FailureKind.BUSY, detail="busy", status=503, code="SlowDown")
FAULT = StoreFailure(kind=FailureKind.BUSY, detail="fault", status=500)
GONE = StoreFailure(kind=FailureKind.UNREACHABLE, detail="no connection")

Store: TypeAlias = Callable[[float], StoreFailure | None]


def run(pace: Pace, store: Store, since: float, until: float) -> list[float]:
    """Ask whenever the pace allows it, as a node does that always has something to ask; when it asked."""
    starts: list[float] = []
    now = since
    while now < until:
        if pace.ready_at(now) <= now:
            pace.started(now)
            starts.append(now)
            pace.answered(store(now), now)
        now = max(now + 1 / pace.rate_max, pace.ready_at(now))
    return starts


def per_second(starts: list[float], since: float) -> int:
    return sum(since <= start < since + 1 for start in starts)


def test_without_trouble_it_holds_nobody_up() -> None:
    pace = Pace(200.0)
    assert len(run(pace, lambda now: None, 0.0, 4.999)) == 1000
    assert pace.rate(5.0) == 200.0


def test_half_a_minute_of_slow_down_then_fine() -> None:
    pace = Pace(200.0)
    starts = run(pace, lambda now: SLOW_DOWN if 10 <= now < 40 else None, 0.0, 70.0)
    assert per_second(starts, 8) == pytest.approx(200, abs=1)
    assert all(per_second(starts, second) <= 3 for second in range(12, 40)), "down at once"
    assert all(per_second(starts, second) >= 1 for second in range(10, 39)), "it still asks"
    # Fully back.
    assert per_second(starts, 52) == pytest.approx(200, abs=1)
    assert pace.rate(70.0) == 200.0


def test_what_was_really_answered_counts_and_not_what_might_have_been_asked() -> None:
    """A node that asks 10 times a second of 2,000 allowed is at about 7 a second when 3 were refused."""
    pace = Pace(2000.0)
    for at in range(10):
        pace.started(at / 10)
        pace.answered(None if at < 7 else SLOW_DOWN, at / 10)
    assert pace.rate(0.9) == pytest.approx(7 / 0.9)


def test_a_burst_is_not_taken_for_all_that_the_store_answers_in_a_second() -> None:
    pace = Pace(2000.0)
    for at in range(100):
        pace.started(at / 1000)
        pace.answered(SLOW_DOWN if at % 5 == 4 else None, at / 1000)
    assert pace.rate(0.1) > 100


def test_of_a_few_answers_nobody_knows_what_share_was_refused() -> None:
    pace = Pace(2000.0)
    for at in range(5):
        pace.started(at / 10)
        pace.answered(SLOW_DOWN if at in (1, 3) else None, at / 10)
    assert pace.rate(0.5) == 2000.0


def test_many_refusals_at_once_count_once() -> None:
    pace = Pace(100.0)
    for at in range(50):
        pace.started(at / 100)
        pace.answered(None if at < 40 else SLOW_DOWN, at / 100)
    first = pace.rate(0.5)
    for _ in range(50):
        pace.answered(SLOW_DOWN, 0.5)
    assert pace.rate(0.5) == first


def test_a_store_that_always_refuses_a_part_is_asked_nearly_as_often() -> None:
    """The share does not depend on how often it is asked: to ask less and less would not help."""
    pace, chance = Pace(100.0), random.Random(1)
    starts = run(pace, lambda now: SLOW_DOWN if chance.random() < 0.2 else None, 0.0, 60.0)
    assert len(starts) > 0.7 * 6000


def test_a_refusal_among_many_answers_changes_nothing() -> None:
    pace = Pace(100.0)
    chance = random.Random(1)
    starts = run(pace, lambda now: SLOW_DOWN if chance.random() < 0.02 else None, 0.0, 19.999)
    assert len(starts) == 2000


@pytest.mark.parametrize("failure", [FAULT, GONE])
def test_what_says_nothing_of_how_often_the_store_is_asked_changes_nothing(failure: StoreFailure) -> None:
    pace = Pace(100.0)
    assert len(run(pace, lambda now: failure, 0.0, 4.999)) == 500


def test_it_never_falls_below_what_hears_that_the_store_is_well() -> None:
    pace = Pace(100.0)
    run(pace, lambda now: SLOW_DOWN, 0.0, 30.0)
    assert RATE_MIN <= pace.rate(30.0) <= RATE_MIN * GROWTH_PER_SECOND
    slow = Pace(0.5)
    for at in range(10):
        slow.started(at / 10)
        slow.answered(SLOW_DOWN, at / 10)
    assert slow.rate(1.0) == 0.5


def test_years_later_it_is_what_it_was() -> None:
    pace = Pace(200.0)
    run(pace, lambda now: SLOW_DOWN, 0.0, 5.0)
    assert pace.rate(5.0) < 3
    assert pace.rate(1e9) == 200.0
    assert pace.ready_at(1e9) <= 1e9
