"""Virtual time: the order of callbacks, and a clock that only goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation
from seekfs_core.testing import VirtualClock


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.5]), st.integers(0, 2)), max_size=30))
def test_callbacks_come_by_time_then_turn_then_as_asked_for(asked: list[tuple[float, int]]) -> None:
    clock, called = VirtualClock(), []
    for number, (when, turn) in enumerate(asked):
        clock.call_at(when, lambda number=number: called.append((clock.now, number)), turn=turn)  # type: ignore[misc]
    assert clock.run_until_idle(limit=10.0)
    expected = sorted(range(len(asked)), key=lambda number: (*asked[number], number))
    assert called == [(asked[number][0], number) for number in expected]


def test_a_callback_may_ask_for_others_and_cancel_them() -> None:
    clock, called = VirtualClock(5.0), []
    later = clock.call_later(2.0, lambda: called.append("later"))

    def first() -> None:
        clock.call_later(0.0, lambda: called.append("at once"))
        later.cancel()

    clock.call_later(1.0, first)
    assert clock.next_at() == 6.0
    clock.run_until(6.0)
    assert (called, clock.now, clock.next_at(), later.is_over) == (["at once"], 6.0, None, True)
    assert not later.fire()
    assert not clock.run_next()


def test_time_stops_at_the_limit_and_does_not_go_back() -> None:
    clock = VirtualClock()
    clock.call_later(3.0, lambda: None)
    assert not clock.run_until_idle(limit=2.0)
    clock.run_until(2.0)
    assert clock.now == 2.0
    with pytest.raises(ContractViolation):
        clock.call_at(1.0, lambda: None)
    with pytest.raises(ContractViolation):
        clock.run_until(1.0)
    with pytest.raises(ContractViolation):
        clock.call_at(float("nan"), lambda: None)


def test_what_is_cancelled_is_passed_over() -> None:
    clock, said = VirtualClock(), list[str]()
    clock.call_at(1.0, lambda: said.append("no")).cancel()
    clock.call_at(2.0, lambda: said.append("yes"))
    assert clock.run_next()
    assert (said, clock.now) == (["yes"], 2.0)
    clock.call_at(3.0, lambda: said.append("no")).cancel()
    assert not clock.run_next()
