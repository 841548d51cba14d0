"""The oracles of the simulator find what they are there for, and nothing else."""

from __future__ import annotations

import pytest

from seekfs_core.fetch_messages import FetchLimits
from tests.sim.oracles import Budget, ProcessOracle, Violation


def oracle() -> ProcessOracle:
    limits = FetchLimits(
        inflight_gets_max=8, room_bytes_max=1 << 20, coalesce_bytes=1 << 18, page_seconds_max=10.0
    )
    return ProcessOracle("a process", limits, rate=1000.0, burst=100)


def test_bytes_on_the_wire_twice_are_found() -> None:
    judge = oracle()
    judge.request_began(0.0, "ns0", (1, "key", 0, 200, None))
    judge.request_began(0.0, "ns0", (2, "key", 200, 300, None))
    judge.request_began(0.0, "ns0", (3, "another", 0, 200, None))
    with pytest.raises(Violation, match="on the wire twice"):
        judge.request_began(0.0, "ns0", (4, "key", 100, 150, None))


def test_what_is_left_of_a_get_is_on_the_wire_still() -> None:
    judge = oracle()
    judge.request_began(0.0, "ns0", (1, "key", 0, 200, None))
    judge.page_came(1, 100)
    judge.request_began(0.0, "ns0", (2, "key", 0, 100, None))
    with pytest.raises(Violation, match="on the wire twice"):
        judge.request_began(0.0, "ns0", (3, "key", 100, 101, None))


def test_a_get_whose_pages_have_come_is_in_nobodys_way() -> None:
    judge = oracle()
    judge.request_began(0.0, "ns0", (1, "key", 0, 100, None))
    judge.page_came(1, 100)
    judge.request_began(0.0, "ns0", (2, "key", 0, 200, None))


def test_a_hedge_may_ask_once_more_and_nobody_a_third_time() -> None:
    judge = oracle()
    judge.request_began(0.0, "ns0", (1, "key", 0, 100, None))
    judge.request_began(0.0, "ns0", (2, "key", 0, 100, 1))
    with pytest.raises(Violation, match="a third GET"):
        judge.request_began(0.0, "ns0", (3, "key", 0, 100, 1))


def test_more_requests_than_may_be_in_flight_are_found() -> None:
    judge = oracle()
    for _ in range(8):
        judge.request_began(0.0, "ns0", None)
    with pytest.raises(Violation, match="in flight"):
        judge.request_began(0.0, "ns0", None)


def test_a_budget_is_held_in_every_window() -> None:
    budget = Budget(rate=10.0, burst=5, what="the budget")
    for _ in range(5):
        budget.spend(1.0)
    budget.spend(1.1)
    with pytest.raises(Violation, match="faster"):
        budget.spend(1.15)
