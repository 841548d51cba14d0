"""The pace beneath the budget: a store in trouble is asked less at once, and fully again afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.pace import CUT, GROWTH_PER_SECOND, RATE_MIN, Pace

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
        now = round(now + 1 / pace.rate_max, 6)  # The budget's, whatever the pace is.
    return starts


def per_second(starts: list[float], since: float) -> int:
    return sum(since <= start < since + 1 for start in starts)


def test_without_trouble_it_holds_nobody_up() -> None:
    pace = Pace(200.0)
    assert len(run(pace, lambda now: None, 0.0, 5.0)) == 1000
    assert pace.rate(5.0) == 200.0


def test_half_a_minute_of_slow_down_then_fine() -> None:
    pace = Pace(200.0)
    starts = run(pace, lambda now: SLOW_DOWN if 10 <= now < 40 else None, 0.0, 70.0)
    assert per_second(starts, 9) == 200
    # Down at once, and further for as long as it lasts.
    assert per_second(starts, 11) <= 100
    assert [per_second(starts, second) <= 8 for second in range(18, 40)] == [True] * 22
    assert all(per_second(starts, second) >= 1 for second in range(10, 40)), "it still asks"
    # Fully back.
    assert per_second(starts, 55) == 200
    assert pace.rate(70.0) == 200.0


def test_what_was_really_asked_counts_and_not_what_might_have_been() -> None:
    """A node that asks 10 times a second of 2,000 allowed is at 5 a second after the first refusals."""
    pace = Pace(2000.0)
    for at in range(10):
        pace.started(at / 10)
        pace.answered(None if at < 9 else SLOW_DOWN, at / 10)
    assert pace.rate(0.9) == 10 * CUT


def test_many_refusals_at_once_cut_once() -> None:
    pace = Pace(100.0)
    for at in range(50):
        pace.started(at / 100)
    for _ in range(50):
        pace.answered(SLOW_DOWN, 0.5)
    assert pace.rate(0.5) == 50 * CUT


def test_a_refusal_among_many_answers_changes_nothing() -> None:
    pace = Pace(100.0)
    starts = run(pace, lambda now: SLOW_DOWN if round(now * 100) % 50 == 0 and now else None, 0.0, 20.0)
    assert len(starts) == 2000


@pytest.mark.parametrize("failure", [FAULT, GONE])
def test_what_says_nothing_of_how_often_the_store_is_asked_changes_nothing(failure: StoreFailure) -> None:
    pace = Pace(100.0)
    assert len(run(pace, lambda now: failure, 0.0, 5.0)) == 500


def test_it_never_falls_below_what_hears_that_the_store_is_well() -> None:
    pace = Pace(100.0)
    run(pace, lambda now: SLOW_DOWN, 0.0, 30.0)
    assert pace.rate(30.0) <= RATE_MIN * GROWTH_PER_SECOND
    slow = Pace(0.5)
    slow.started(0.0)
    slow.answered(SLOW_DOWN, 0.0)
    assert slow.rate(0.0) == 0.5


def test_years_later_it_is_what_it_was() -> None:
    pace = Pace(200.0)
    pace.started(0.0)
    pace.answered(SLOW_DOWN, 0.0)
    assert pace.rate(1e9) == 200.0
    assert pace.ready_at(1e9) <= 1e9
