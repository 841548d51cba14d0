"""Putting an object where there is none: every pair of state and event, and a store that loses answers."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.creation import (
    CREATION_TRANSITIONS,
    Begin,
    Conditions,
    Created,
    CreationEvent,
    CreationState,
    DoWrite,
    Found,
    GiveUp,
    Look,
    Looked,
    ObjectCreation,
    Write,
    WriteFailed,
    Written,
)
from seekfs_core.errors import ContractViolation, FailureKind, StoreFailure
from seekfs_core.machine import Tick
from seekfs_core.retry import RetryPolicy

POLICY = RetryPolicy(attempts_max=3, backoff_seconds_initial=1.0)
TAKEN = StoreFailure(kind=FailureKind.PRECONDITION, detail="taken")
BUSY = StoreFailure(kind=FailureKind.BUSY, detail="busy")
GONE = StoreFailure(kind=FailureKind.MISSING, detail="no such upload")
UNWANTED = StoreFailure(kind=FailureKind.BAD_ANSWER, detail="not implemented", status=501)
DENIED = StoreFailure(kind=FailureKind.DENIED, detail="denied")

EVENTS: tuple[CreationEvent, ...] = (
    Begin(),
    Written(),
    *(WriteFailed(failure) for failure in (TAKEN, BUSY, GONE, UNWANTED, DENIED)),
    Looked(True),
    Looked(False),
    Tick(),
)

WAY_TO: dict[CreationState, tuple[Conditions, tuple[CreationEvent, ...]]] = {
    CreationState.NEW: (Conditions.TRIED, ()),
    CreationState.LOOKING: (Conditions.REFUSED, (Begin(),)),
    CreationState.WRITING: (Conditions.TRIED, (Begin(),)),
    CreationState.DOUBTING: (Conditions.TRIED, (Begin(), WriteFailed(TAKEN))),
    CreationState.WAITING: (Conditions.TRIED, (Begin(), WriteFailed(BUSY))),
    CreationState.OVER: (Conditions.TRIED, (Begin(), Written())),
}

CREATE, PUT = DoWrite(create_only=True), DoWrite(create_only=False)


def creation(write: Write = Write.PUT, conditions: Conditions = Conditions.KEPT) -> ObjectCreation:
    return ObjectCreation(write, conditions, POLICY, random.Random(1))


def creation_in(state: CreationState, write: Write) -> ObjectCreation:
    conditions, way = WAY_TO[state]
    made = creation(write, conditions)
    for event in way:
        made.feed(event, 0.0)
    assert made.state is state
    return made


@pytest.mark.parametrize(("state", "event", "write"), [*itertools.product(CreationState, EVENTS, Write)])
def test_every_event_lands_where_the_table_says_or_is_refused(
    state: CreationState, event: CreationEvent, write: Write
) -> None:
    for now in (0.0, 100.0):
        made = creation_in(state, write)
        landings = CREATION_TRANSITIONS.get((state, type(event)))
        if landings is None:
            before = repr(made)
            with pytest.raises(ContractViolation):
                made.feed(event, now)
            assert repr(made) == before
        else:
            made.feed(event, now)
            assert made.state in landings
            assert (made.next_deadline() is None) is (made.state is not CreationState.WAITING)


def test_what_a_refused_write_finds_is_what_was_to_be_written() -> None:
    for write, failure in ((Write.PUT, TAKEN), (Write.JOIN, TAKEN), (Write.JOIN, GONE)):
        made = creation(write)
        assert made.feed(Begin(), 0) == (CREATE,)
        assert made.feed(WriteFailed(failure), 0) == (Look(),)
        assert made.feed(Looked(True), 0) == (Found(Conditions.KEPT),)


def test_a_put_that_was_refused_for_nothing_is_made_again_as_often_as_allowed() -> None:
    made, now = creation(), 0.0
    actions = made.feed(Begin(), now)
    for _ in range(POLICY.attempts_max - 1):
        assert actions == (CREATE,)
        made.feed(WriteFailed(TAKEN), now)
        assert made.feed(Looked(False), now) == ()
        due = made.next_deadline()
        assert due is not None
        assert made.feed(Tick(), due - 0.01) == ()
        actions, now = made.feed(Tick(), due), due
    made.feed(WriteFailed(TAKEN), now)
    assert made.feed(Looked(False), now) == (GiveUp(TAKEN),)


def test_parts_that_are_gone_without_their_object_are_not_joined_again() -> None:
    made = creation(Write.JOIN)
    made.feed(Begin(), 0)
    made.feed(WriteFailed(GONE), 0)
    assert made.feed(Looked(False), 0) == (GiveUp(GONE),)


def test_a_bucket_that_is_missing_is_no_doubt_about_a_put() -> None:
    made = creation()
    made.feed(Begin(), 0)
    assert made.feed(WriteFailed(GONE), 0) == (GiveUp(GONE),)


def test_without_conditions_it_looks_before_it_writes() -> None:
    made = creation(conditions=Conditions.REFUSED)
    assert made.feed(Begin(), 0) == (Look(),)
    assert made.feed(Looked(True), 0) == (Found(Conditions.REFUSED),)
    made = creation(conditions=Conditions.REFUSED)
    made.feed(Begin(), 0)
    assert made.feed(Looked(False), 0) == (PUT,)
    assert made.feed(Written(), 0) == (Created(Conditions.REFUSED),)


@pytest.mark.parametrize("write", Write)
def test_a_single_writer_does_without_conditions_once_they_are_refused(write: Write) -> None:
    made = creation(write, Conditions.TRIED)
    assert made.feed(Begin(), 0) == (CREATE,)
    assert made.feed(WriteFailed(UNWANTED), 0) == (Look(),)
    assert made.feed(Looked(False), 0) == (PUT,)
    # Which has attempts of its own, and no other way out.
    now = 0.0
    for _ in range(POLICY.attempts_max - 1):
        assert made.feed(WriteFailed(UNWANTED), now) == ()
        due = made.next_deadline()
        assert due is not None
        assert made.feed(Tick(), due) == (PUT,)
        now = due
    assert made.feed(WriteFailed(UNWANTED), now) == (GiveUp(UNWANTED),)


def test_what_is_there_is_left_alone_where_conditions_are_refused() -> None:
    made = creation(conditions=Conditions.TRIED)
    made.feed(Begin(), 0)
    made.feed(WriteFailed(UNWANTED), 0)
    assert made.feed(Looked(True), 0) == (Found(Conditions.REFUSED),)


def test_a_store_that_takes_conditions_keeps_them_for_a_single_writer() -> None:
    made = creation(conditions=Conditions.TRIED)
    assert made.feed(Begin(), 0) == (CREATE,)
    assert made.feed(Written(), 0) == (Created(Conditions.TRIED),)


def test_others_never_do_without_conditions() -> None:
    made = creation()
    made.feed(Begin(), 0)
    assert made.feed(WriteFailed(UNWANTED), 0) == ()
    due = made.next_deadline()
    assert due is not None
    assert made.feed(Tick(), due) == (CREATE,)


@given(
    troubles=st.lists(st.sampled_from(["lost", "busy", "met", "works"]), max_size=8),
    write=st.sampled_from(Write),
    rival_at=st.integers(min_value=0, max_value=8),
    conditions=st.sampled_from(Conditions),
    takes_conditions=st.booleans(),
)
def test_whatever_happens_it_ends_and_says_what_is_true(
    troubles: list[str], write: Write, rival_at: int, conditions: Conditions, takes_conditions: bool
) -> None:
    """Against a store in a few lines: at most one object, made by us, by a rival, or not at all. Where
    there is one writer, the rival was there before."""
    made = creation(write, conditions)
    is_alone = conditions is not Conditions.KEPT
    owner = "rival" if is_alone and rival_at == 0 else None
    was_ever_ours = False
    writes: list[DoWrite] = []
    now = 0.0
    event: CreationEvent = Begin()
    while True:
        actions = made.feed(event, now)
        if not actions:
            now = made.next_deadline() or now
            event = Tick()
            continue
        (action,) = actions
        if isinstance(action, DoWrite):
            if len(writes) == rival_at and owner is None and not is_alone:
                owner = "rival"
            trouble = troubles[len(writes)] if len(writes) < len(troubles) else "works"
            writes.append(action)
            assert action.create_only or owner != "rival"
            if action.create_only and not takes_conditions:
                event = WriteFailed(UNWANTED)
            elif trouble == "busy":
                event = WriteFailed(BUSY)
            elif write is Write.JOIN and was_ever_ours:
                event = WriteFailed(GONE)
            elif action.create_only and (owner is not None or trouble == "met"):
                event = WriteFailed(TAKEN)
            else:
                owner, was_ever_ours = "us", True
                event = WriteFailed(BUSY) if trouble == "lost" else Written()
        elif isinstance(action, Look):
            event = Looked(owner is not None)
        else:
            break
    assert max(writes.count(CREATE), writes.count(PUT)) <= POLICY.attempts_max
    if conditions is Conditions.KEPT:
        assert PUT not in writes
    if takes_conditions and conditions is not Conditions.REFUSED:
        assert PUT not in writes
    match action:
        case Created(known):
            assert owner == "us"
            assert known is (Conditions.REFUSED if PUT in writes else conditions)
        case Found():
            assert owner is not None
        case GiveUp():
            assert owner is None or was_ever_ours or len(writes) >= POLICY.attempts_max


@pytest.mark.parametrize(
    ("failure", "refuses"),
    [
        (StoreFailure(kind=FailureKind.BAD_ANSWER, detail="", status=400), True),
        (StoreFailure(kind=FailureKind.BUSY, detail="", status=501), True),
        (StoreFailure(kind=FailureKind.PRECONDITION, detail="", status=412), False),
        (StoreFailure(kind=FailureKind.TIMED_OUT, detail=""), False),
    ],
)
def test_only_a_single_writer_does_without_conditions_and_only_where_they_are_refused(
    failure: StoreFailure, refuses: bool
) -> None:
    alone, others = Conditions.of(single_writer=True), Conditions.of(single_writer=False)
    assert (alone, others) == (Conditions.TRIED, Conditions.KEPT)
    assert alone.after(failure) is (Conditions.REFUSED if refuses else Conditions.TRIED)
    assert others.after(failure) is Conditions.KEPT
    assert Conditions.REFUSED.after(failure) is Conditions.REFUSED
