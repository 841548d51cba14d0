"""A tier that turns itself off and finds its way back: every pair of state and event, and the story."""

from __future__ import annotations

from itertools import product

import pytest

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick
from seekfs_core.tier import (
    LANDINGS,
    PROBE_DELAY_SECONDS_MAX,
    Abandoned,
    Asked,
    CameBack,
    Failed,
    Go,
    Hung,
    Operation,
    Outcome,
    Skip,
    TierEvent,
    TierHealth,
    TierState,
    TurnedOff,
    TurnedOn,
    Use,
    Vanished,
    Worked,
    verdict,
)

EVENTS: tuple[TierEvent, ...] = (
    Asked(),
    Worked(),
    Failed("again"),
    Abandoned(),
    Vanished(),
    Hung("no answer"),
    CameBack(),
    Tick(),
)


def health_in(state: TierState) -> TierHealth:
    health = TierHealth()
    if state is not TierState.ON:
        health.feed(Failed("full"), 0)
    if state is TierState.PROBING:
        health.feed(Asked(), 1)
    return health


@pytest.mark.parametrize(("state", "event"), [*product(TierState, EVENTS)])
def test_every_event_lands_where_the_table_says(state: TierState, event: TierEvent) -> None:
    for now in (1.0, 100.0):
        health = health_in(state)
        if event == CameBack():
            if (state, CameBack) not in LANDINGS:
                with pytest.raises(ContractViolation, match="nothing that hangs"):
                    health.feed(event, now)
                continue
            health.feed(Hung("no answer"), now)
        health.feed(event, now)
        assert health.state in LANDINGS[state, type(event)]
        assert (health.off_because is None) is (health.state is TierState.ON)


def test_one_failure_turns_it_off_and_one_probe_brings_it_back() -> None:
    health = TierHealth()
    assert health.steady
    assert health.feed(Asked(), 0) == (Go(),)
    assert health.feed(Failed("no space"), 0) == (TurnedOff("no space", 1.0),)
    assert "space" in str(health.off_because)
    assert health.next_deadline() == 1.0
    assert health.feed(Asked(), 0.9) == (Skip(),)
    assert health.feed(Asked(), 1.0) == (Go(),)
    assert health.feed(Asked(), 1.1) == (Skip(),)
    assert health.feed(Worked(), 1.2) == (TurnedOn(),)
    assert health.off_because is None
    assert health.next_deadline() is None
    assert health.feed(Asked(), 1.2) == (Go(),)


def test_probes_become_rarer_until_one_works() -> None:
    health, now, delays = TierHealth(), 0.0, []
    for _ in range(9):
        (off,) = health.feed(Failed("still"), now)
        assert isinstance(off, TurnedOff)
        delays.append(off.probe_in_seconds)
        now += off.probe_in_seconds
        assert health.feed(Asked(), now) == (Go(),)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, PROBE_DELAY_SECONDS_MAX]
    assert health.feed(Worked(), now) == (TurnedOn(),)
    assert health.feed(Failed("anew"), now) == (TurnedOff("anew", 1.0),)


def test_failures_count_only_in_a_row() -> None:
    health = TierHealth(faults_max=3)
    for _ in range(5):
        assert health.feed(Failed("a"), 0) == ()
        assert health.feed(Failed("b"), 0) == ()
        assert not health.steady
        assert health.feed(Worked(), 0) == ()
        assert health.steady
    health.feed(Failed("a"), 0)
    health.feed(Failed("b"), 0)
    assert health.feed(Failed("c"), 0) == (TurnedOff("c", 1.0),)


def test_a_probe_that_was_not_used_may_be_made_by_the_next() -> None:
    health = health_in(TierState.PROBING)
    assert health.feed(Abandoned(), 1) == ()
    assert health.feed(Asked(), 1) == (Go(),)


def test_a_file_that_somebody_deleted_says_nothing_about_the_disk() -> None:
    health = TierHealth()
    for _ in range(10):
        assert health.feed(Vanished(), 0) == ()
    assert health.steady
    health = health_in(TierState.PROBING)
    assert health.feed(Vanished(), 1) == ()
    assert health.feed(Asked(), 1) == (Go(),)


def test_one_that_hangs_turns_it_off_at_once_and_is_itself_the_probe() -> None:
    health = TierHealth(4)
    assert health.feed(Hung("no answer"), 0) == (TurnedOff("no answer", 1.0),)
    assert health.feed(Hung("nor here"), 0) == ()
    assert health.off_because == "no answer"
    for now in (1.0, 1000.0):
        assert health.next_deadline() is None
        assert not health.would_let_through(now)
        assert health.feed(Asked(), now) == (Skip(),)
        assert health.feed(Worked(), now) == ()
    assert health.feed(CameBack(), 2000.0) == ()
    assert health.feed(Asked(), 2000.0) == (Skip(),)
    assert health.feed(CameBack(), 2000.0) == ()
    assert health.feed(Asked(), 2000.0) == (Go(),)
    assert health.feed(Hung("again"), 2000.0) == (TurnedOff("again", 2.0),)
    assert health.feed(CameBack(), 2001.0) == ()
    assert health.feed(Asked(), 2001.9) == (Skip(),)
    assert health.feed(Asked(), 2002.0) == (Go(),)
    assert health.feed(Worked(), 2002.0) == (TurnedOn(),)


def test_uses_that_began_before_it_went_off_change_nothing() -> None:
    health = health_in(TierState.OFF)
    assert health.feed(Worked(), 0.5) == ()
    assert health.feed(Failed("late"), 0.5) == ()
    assert health.off_because == "full"
    assert health.next_deadline() == 1.0


def test_what_it_refuses() -> None:
    with pytest.raises(ContractViolation):
        TierHealth(0)
    health = health_in(TierState.PROBING)
    with pytest.raises(ContractViolation):
        health.feed(Worked(), 0)
    assert health.state is TierState.PROBING
    with pytest.raises(ContractViolation, match="nothing that hangs"):
        health_in(TierState.OFF).feed(CameBack(), 1)


@pytest.mark.parametrize(
    ("state", "now"),
    [
        (TierState.ON, 1.0),
        (TierState.OFF, 0.9),
        (TierState.OFF, 1.0),
        (TierState.PROBING, 1.0),
        (TierState.PROBING, 9.0),
    ],
)
def test_whether_one_would_be_let_through_is_said_without_letting_anyone_through(
    state: TierState, now: float
) -> None:
    health = health_in(state)
    before = (health.state, health.next_deadline())
    would = health.would_let_through(now)
    assert (health.state, health.next_deadline()) == before
    assert health.feed(Asked(), now) == ((Go(),) if would else (Skip(),))


def test_what_a_use_of_the_disk_says_about_it() -> None:
    said = {
        (operation, outcome): verdict(operation, outcome, "no space")
        for operation in Operation
        for outcome in (Outcome.DONE, Outcome.REFUSED)
    }
    assert [each for each, event in said.items() if event == Worked()] == [
        (Operation.READ, Outcome.DONE),
        (Operation.INDEX, Outcome.DONE),
    ]
    for operation in Operation:
        assert said[operation, Outcome.REFUSED] == Failed(f"{operation.value}: no space")
    # Rot and deleted files are the page's misfortune; a directory that is gone is the next page's, too.
    assert verdict(Operation.READ, Outcome.DAMAGED) == Worked()
    assert (
        verdict(Operation.READ, Outcome.VANISHED) == verdict(Operation.WRITE, Outcome.VANISHED) == Vanished()
    )
    assert verdict(Operation.MAKE, Outcome.VANISHED, "gone") == Failed("making a segment: gone")
    for operation in Operation:
        assert verdict(operation, Outcome.HUNG, "late") == Hung(f"{operation.value}: late")
        assert verdict(operation, Outcome.CAME_BACK) == CameBack()
        assert verdict(operation, Outcome.STARVED, "too many open files") == Abandoned()
        assert verdict(operation, Outcome.UNTRIED) == Abandoned()
    assert [operation for operation in Operation if operation.use is Use.READING] == [Operation.READ]


def test_an_outcome_that_an_operation_cannot_have_is_refused() -> None:
    for operation in Operation:
        if operation is not Operation.READ:
            with pytest.raises(ContractViolation, match="cannot come of"):
                verdict(operation, Outcome.DAMAGED)
