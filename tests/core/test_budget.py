"""The budget against counting: never more than rate·t + burst starts in any window of t seconds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.budget import BudgetState, GetBudget, RequestKind, is_charged
from tests.core.strategies import long_lists

ROUNDING = 1e-4
"""Requests: what adding up intervals may be off by. At 4e6 seconds a float has steps of 5e-10 s, which at
10,000 requests a second is 5e-6 of one each time."""

budgets = st.builds(
    GetBudget,
    st.one_of(st.sampled_from([0.1, 1.0, 3.0, 7.0, 200.0]), st.floats(0.01, 10_000)),
    st.integers(1, 30),
)
starts_of_time = st.sampled_from([0.0, 0.1, 12345.678, 4e6])


def most_over_the_limit(budget: GetBudget, starts: list[float]) -> float:
    """By how many requests the worst of all windows is over rate·t + burst; at most 0 is right."""
    worst = -math.inf
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            allowed = budget.rate_per_second * (starts[last] - starts[first]) + budget.burst
            worst = max(worst, last - first + 1 - allowed)
    return worst


@given(budgets, starts_of_time, long_lists(st.tuples(st.floats(0, 3), st.integers(0, 5), st.booleans()), 30))
def test_no_window_has_more_than_rate_times_t_plus_burst_also_over_restarts(
    budget: GetBudget, now: float, steps: list[tuple[float, int, bool]]
) -> None:
    state = budget.empty(now)
    starts: list[float] = []
    for intervals, eager, restart in steps:
        now += intervals * budget.interval_seconds * budget.burst
        if restart:
            state = budget.empty(now)
        for _ in range(eager):
            if budget.ready_at(state) <= now:
                state, start_at = budget.take(state, now)
                assert start_at == now
                starts.append(start_at)
    assert most_over_the_limit(budget, starts) <= ROUNDING


@given(budgets, starts_of_time, long_lists(st.floats(0, 3), 40))
def test_places_in_line_keep_the_bound_too(budget: GetBudget, now: float, waits: list[float]) -> None:
    state = budget.empty(now)
    starts: list[float] = []
    for intervals in waits:
        now += intervals * budget.interval_seconds
        ready = budget.ready_at(state)
        state, start_at = budget.take(state, now)
        assert start_at == max(now, ready)
        starts.append(start_at)
    assert starts == sorted(starts)
    assert most_over_the_limit(budget, starts) <= ROUNDING


@given(budgets, long_lists(st.floats(0, 3), 24))
def test_nothing_that_the_bound_allows_is_kept_back(budget: GetBudget, waits: list[float]) -> None:
    """As many start as could: one more at any moment would be one too many, or too early after the start."""
    now = 0.0
    state = budget.empty(now)
    # A budget begins as if its burst had been spent just then.
    starts = [0.0] * budget.burst
    for intervals in waits:
        now += intervals * budget.interval_seconds
        if budget.ready_at(state) > now:
            assert most_over_the_limit(budget, [*starts, now]) > -ROUNDING
        else:
            state, start_at = budget.take(state, now)
            starts.append(start_at)


def test_a_restart_does_not_refill_the_burst() -> None:
    budget = GetBudget(10, 5)
    state = budget.empty(100.0)
    assert budget.ready_at(state) == pytest.approx(100.1)
    starts = []
    for _ in range(5):
        state, start_at = budget.take(state, 100.0)
        starts.append(start_at)
    assert starts == pytest.approx([100.1, 100.2, 100.3, 100.4, 100.5])


def test_the_burst_comes_back_with_time_and_no_more_than_it() -> None:
    budget = GetBudget(10, 5)
    state = budget.empty(0.0)
    starts = []
    for _ in range(7):
        state, start_at = budget.take(state, 1000.0)
        starts.append(start_at)
    assert starts == pytest.approx([1000.0] * 5 + [1000.1, 1000.2])


def test_permits_are_not_given_back() -> None:
    """It limits a rate, not how many are under way: nothing can be returned to it."""
    budget = GetBudget(1, 1)
    state: BudgetState = budget.empty(0.0)
    state, first = budget.take(state, 1.0)
    assert first == 1.0
    assert budget.ready_at(state) == 2.0
    assert not hasattr(budget, "give_back")


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (math.nan, 1), (1, 0), (1, -3)])
def test_a_budget_that_lets_nothing_start_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        GetBudget(rate, burst)


def test_what_reads_is_paid_for() -> None:
    paid = {kind for kind in RequestKind if is_charged(kind)}
    assert paid == {RequestKind.GET, RequestKind.HEAD, RequestKind.LIST}
