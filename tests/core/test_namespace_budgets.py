"""Budgets of namespaces: none is exceeded, nobody is held up by another, who has no hope is told so."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.budget import GetBudget
from seekfs_core.errors import BudgetSpent, FailureKind, error_of, retry_after_of
from seekfs_core.fetch_messages import (
    CallWanted,
    FailPage,
    PageSource,
    PagesWanted,
    ReadWaits,
    StartCall,
    WaitExpired,
)
from seekfs_core.machine import Tick
from seekfs_core.namespace_budgets import NamespaceAccounts, NamespaceBudget
from seekfs_core.pages import page_key
from tests.core.model_fetch import Watched
from tests.core.strategies import long_lists
from tests.core.test_fetch import runs, source_of

SLOW = NamespaceBudget(requests=GetBudget(1.0, 1))


def of(ns: str, pages: int = 9) -> PageSource:
    return evolve(source_of(pages, path=f"in {ns}"), ns=ns)


def watched_with(budget: NamespaceBudget, coalesce: int = 10) -> Watched:
    return Watched.make(namespaces={"slow": budget}, coalesce=coalesce, now=0.0)


# --- the accounts ---------------------------------------------------------------------------


@given(
    long_lists(st.tuples(st.floats(0, 3), st.integers(0, 60)), 50),
    st.one_of(st.none(), st.tuples(st.sampled_from([0.5, 2.0]), st.integers(1, 4))),
    st.one_of(st.none(), st.tuples(st.sampled_from([5.0, 20.0]), st.integers(1, 50))),
)
def test_in_any_window_no_more_is_taken_than_flows_in_it_and_the_burst(
    steps: list[tuple[float, int]], requests: tuple[float, int] | None, nbytes: tuple[float, int] | None
) -> None:
    budget = NamespaceBudget(
        requests=None if requests is None else GetBudget(*requests),
        bytes=None if nbytes is None else GetBudget(*nbytes),
    )
    accounts = NamespaceAccounts({"a": budget}, 0.0)
    now, taken = 0.0, []
    for pause, length in steps:
        now += pause
        if accounts.ready_at("a", length) <= now:
            accounts.spend("a", length, now)
            taken.append((now, length))
    for first, (since, _) in enumerate(taken):
        for last in range(first, len(taken)):
            until, largest = taken[last]
            window = taken[first : last + 1]
            if requests is not None:
                assert len(window) <= requests[0] * (until - since) + requests[1] + 1e-6
            if nbytes is not None and largest:
                owed = sum(length for _, length in window) - max(0, largest - nbytes[1])
                assert owed <= nbytes[0] * (until - since) + nbytes[1] + 1e-6


def test_a_namespace_without_a_budget_has_no_bounds() -> None:
    accounts = NamespaceAccounts({"a": SLOW}, 0.0)
    for ns in ("b", None):
        assert not accounts.has_budget(ns)
        for _ in range(100):
            assert accounts.ready_at(ns, 1 << 40) == float("-inf")
            accounts.spend(ns, 1 << 40, 0.0)
    assert accounts.ready_at("a", 0) == 1.0


def test_a_get_of_more_than_the_burst_starts_on_a_full_budget_and_is_paid_for_afterwards() -> None:
    accounts = NamespaceAccounts({"a": NamespaceBudget(bytes=GetBudget(10.0, 20))}, 0.0)
    assert accounts.ready_at("a", 100) == 2.0
    accounts.spend("a", 100, 2.0)
    assert accounts.ready_at("a", 1) == pytest.approx(10.1)


# --- in the scheduler -----------------------------------------------------------------------


def test_a_namespace_that_has_spent_its_budget_waits_and_holds_up_no_other() -> None:
    watched = watched_with(SLOW)
    assert runs(watched.feed(PagesWanted(1, of("slow"), (0, 1, 2)), 10.0)) == [(0, 1)]
    assert runs(watched.feed(PagesWanted(2, of("fast"), (0, 1, 2)))) == [(0, 1), (1, 2), (2, 3)]
    assert watched.scheduler.next_deadline() == 11.0
    assert runs(watched.feed(Tick(), 11.0)) == [(1, 2)]
    assert runs(watched.feed(Tick(), 12.0)) == [(2, 3)]


def test_calls_are_charged_too_and_those_of_others_go_by() -> None:
    watched = watched_with(SLOW)
    assert watched.feed(CallWanted(1, "slow"), 10.0) == (StartCall(1, 1),)
    assert watched.feed(CallWanted(2, "slow")) == ()
    assert watched.feed(CallWanted(3, "fast")) == (StartCall(3, 1),)
    assert watched.feed(CallWanted(4)) == (StartCall(4, 1),)
    assert watched.feed(PagesWanted(1, of("slow"), (0,))) == ()
    assert watched.feed(Tick(), 11.0) == (StartCall(2, 1),)
    assert runs(watched.feed(Tick(), 12.0)) == [(0, 1)]


def test_bytes_are_budgeted_as_they_are_asked_for() -> None:
    watched = watched_with(NamespaceBudget(bytes=GetBudget(10.0, 40)), coalesce=40)
    assert runs(watched.feed(PagesWanted(1, of("slow"), tuple(range(9))), 4.0)) == [(0, 4)]
    assert runs(watched.feed(Tick(), 7.9)) == []
    assert runs(watched.feed(Tick(), 8.0)) == [(4, 8)]
    assert runs(watched.feed(Tick(), 9.0)) == [(8, 9)]


def test_who_would_wait_beyond_its_deadline_is_told_at_once_and_who_would_not_is_served() -> None:
    watched = watched_with(SLOW)
    source = of("slow")
    watched.feed(PagesWanted(1, source, (0, 1, 2)), 10.0)
    assert watched.feed(ReadWaits(1, page_key(source.key, 1), 11.0)) == ()
    watched.feed(PagesWanted(2, source, (2,)))
    (failed,) = watched.feed(ReadWaits(2, page_key(source.key, 2), 11.9))
    assert isinstance(failed, FailPage)
    assert (failed.page_id, failed.reads) == (2, (2,))
    assert failed.failure.kind is FailureKind.OVER_BUDGET
    assert failed.failure.retry_after_seconds == pytest.approx(2.0)
    error = error_of(failed.failure, key="k")
    assert isinstance(error, BudgetSpent)
    assert (error.status, retry_after_of(error)) == (429, 2)
    # It is the first reader's page still, which can wait.
    assert runs(watched.feed(Tick(), 11.0)) == [(1, 2)]
    assert runs(watched.feed(Tick(), 12.0)) == [(2, 3)]


def test_bytes_before_its_turn_count_as_well() -> None:
    watched = watched_with(NamespaceBudget(bytes=GetBudget(10.0, 10)), coalesce=10)
    source = of("slow")
    watched.feed(PagesWanted(1, source, (0, 1, 2)), 1.0)
    assert watched.feed(ReadWaits(1, page_key(source.key, 2), 3.0)) == ()
    (failed,) = watched.feed(ReadWaits(1, page_key(source.key, 2), 2.9))
    assert isinstance(failed, FailPage)


def test_what_is_in_flight_is_waited_for_whatever_the_budget() -> None:
    watched = watched_with(SLOW)
    source = of("slow")
    watched.feed(PagesWanted(1, source, (0,)), 10.0)
    assert watched.feed(ReadWaits(1, page_key(source.key, 0), 10.5)) == ()
    assert watched.feed(Tick(), 10.5) == (WaitExpired(1, page_key(source.key, 0), is_asked=True),)
