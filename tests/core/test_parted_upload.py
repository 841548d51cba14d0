"""A multipart upload: every pair of state and event, and that parts never stay behind unsaid, or lie."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation, FailureKind, StoreFailure
from seekfs_core.machine import Tick
from seekfs_core.parted_upload import (
    LANDING_SECONDS,
    PARTED_TRANSITIONS,
    Abort,
    Aborted,
    AbortFailed,
    AwaitLanding,
    AwaitParts,
    Begin,
    BeginUpload,
    CalledOff,
    CallOff,
    Finish,
    Interrupted,
    Join,
    Joined,
    Landed,
    PartedAction,
    PartedEnding,
    PartedEvent,
    PartedState,
    PartedUpload,
    PartsSent,
    PartTaken,
    RaiseChanged,
    RaiseFailure,
    StepFailed,
    Sum,
    Summed,
    TakePart,
    TellLeft,
    Told,
    UploadBegun,
)
from seekfs_core.retry import RetryPolicy

SAME, OTHER = bytes(32), b"1" * 32
ETAGS = ("1", "2", "3")
BUSY = StoreFailure(kind=FailureKind.BUSY, detail="busy", status=503)
DENIED = StoreFailure(kind=FailureKind.DENIED, detail="denied", status=403)
ABORTS_MAX = 3

EVENTS: tuple[PartedEvent, ...] = (
    Begin(),
    UploadBegun("u"),
    PartTaken(),
    Summed(SAME),
    Summed(OTHER),
    PartsSent(ETAGS),
    Joined(True),
    Joined(False),
    CalledOff("u", True),
    CalledOff("u", False),
    CalledOff(None, True),
    CalledOff(None, False),
    Landed("u"),
    Landed(None),
    Aborted(),
    AbortFailed(BUSY),
    AbortFailed(DENIED),
    Told(),
    StepFailed(),
    Interrupted(),
    Tick(),
)

TAKEN: tuple[PartedEvent, ...] = (Begin(), UploadBegun("u"), PartTaken(), PartTaken(), PartTaken())
CALLED_OFF: tuple[PartedEvent, ...] = (*TAKEN, StepFailed())
ABORTING: tuple[PartedEvent, ...] = (*CALLED_OFF, CalledOff("u", False))
WAY_TO: dict[PartedState, tuple[PartedEvent, ...]] = {
    PartedState.NEW: (),
    PartedState.OPENING: TAKEN[:1],
    PartedState.TAKING: TAKEN[:4],
    PartedState.SUMMING: TAKEN,
    PartedState.AWAITING: (*TAKEN, Summed(SAME)),
    PartedState.JOINING: (*TAKEN, Summed(SAME), PartsSent(ETAGS)),
    PartedState.CALLING_OFF: CALLED_OFF,
    PartedState.LANDING: (*CALLED_OFF, CalledOff("u", True)),
    PartedState.ABORTING: ABORTING,
    PartedState.BACKING_OFF: (*ABORTING, AbortFailed(BUSY)),
    PartedState.TELLING: (*ABORTING, AbortFailed(DENIED)),
    PartedState.OVER: (*ABORTING, Aborted()),
}


def new_upload(size: int = 25, part_bytes: int = 10) -> PartedUpload:
    return PartedUpload(
        size=size,
        part_bytes=part_bytes,
        sha256=SAME,
        policy=RetryPolicy(attempts_max=ABORTS_MAX, backoff_seconds_initial=1.0),
        rng=random.Random(1),
    )


def upload_in(state: PartedState) -> PartedUpload:
    upload = new_upload()
    for event in WAY_TO[state]:
        upload.feed(event, 0.0)
    assert upload.state is state
    return upload


@pytest.mark.parametrize(("state", "event"), [*itertools.product(PartedState, EVENTS)])
def test_every_event_lands_where_the_table_says_or_is_refused(state: PartedState, event: PartedEvent) -> None:
    upload = upload_in(state)
    landings = PARTED_TRANSITIONS.get((state, type(event)))
    if landings is None:
        before = repr(upload)
        with pytest.raises(ContractViolation):
            upload.feed(event, 100.0)
        assert repr(upload) == before
    else:
        upload.feed(event, 100.0)
        assert upload.state in landings


# --- a bucket, and a driver that follows -------------------------------------------------------------


@define
class Bucket:
    """What a store holds of one upload, whose parts are sent by nobody in particular: those on their way
    arrive when they are waited for, or at random."""

    sha256: bytes = SAME
    created: bool = True
    abort_failures: list[StoreFailure] = field(factory=list)
    """Of the aborts that come next."""
    arrive: Callable[[], bool] = lambda: True
    """Whether a part has arrived by the end of the step after the one that sent it."""
    begun: bool = False
    object: bool = False
    held: set[int] = field(factory=set)
    on_their_way: list[int] = field(factory=list)
    waits_seconds: float = LANDING_SECONDS + 1
    """How long parts take when they are waited for."""
    is_closed: bool = False

    def land(self) -> None:
        self.held.update(self.on_their_way)
        self.on_their_way.clear()

    def carry_out(self, action: PartedAction, now: float, due: float | None) -> tuple[PartedEvent, float]:
        """What comes of it, and when."""
        if self.arrive():
            self.land()
        match action:
            case BeginUpload():
                self.begun = True
                return UploadBegun("u"), now
            case TakePart(number):
                assert not self.is_closed
                self.on_their_way.append(number)
                return PartTaken(), now
            case Sum():
                return Summed(self.sha256), now
            case AwaitParts():
                self.land()
                return PartsSent(tuple(map(str, sorted(self.held)))), now
            case Join():
                self.object = self.created
                if self.created:
                    self.held.clear()
                return Joined(self.created), now
            case CallOff():
                self.is_closed = True
                return CalledOff("u" if self.begun else None, bool(self.on_their_way)), now
            case AwaitLanding():
                if self.on_their_way and due is not None and due < now + self.waits_seconds:
                    return Tick(), due
                self.land()
                return Landed("u" if self.begun else None), now + self.waits_seconds
            case Abort():
                if self.abort_failures:
                    return AbortFailed(self.abort_failures.pop(0)), now
                self.held.clear()
                return Aborted(), now
            case TellLeft():
                return Told(), now
            case Finish() | RaiseChanged() | RaiseFailure():
                raise AssertionError(action)


def run(
    upload: PartedUpload,
    bucket: Bucket,
    *,
    fails_at: int | None = None,
    interrupted_at: tuple[int, ...] = (),
    is_done: bool = False,
) -> list[PartedAction]:
    """Every action until the last, where the ``fails_at``-th (from 0) fails, and others are interrupted:
    before they are carried out, or when they are done (``is_done``) and nobody hears of it."""
    actions: list[PartedAction] = []
    event: PartedEvent = Begin()
    now = 0.0
    while True:
        out = upload.feed(event, now)
        if not out:
            due = upload.next_deadline()
            assert due is not None
            event, now = Tick(), max(now, due)
            continue
        (action,) = out
        actions.append(action)
        if isinstance(action, PartedEnding):
            return actions
        index = len(actions) - 1
        if index in interrupted_at:
            if is_done:
                bucket.carry_out(action, now, upload.next_deadline())
            event = Interrupted()
        elif index == fails_at:
            event = StepFailed()
        else:
            event, now = bucket.carry_out(action, now, upload.next_deadline())


def test_a_file_goes_part_by_part_and_is_joined_when_both_hashes_agree() -> None:
    bucket = Bucket()
    assert run(new_upload(), bucket) == [
        BeginUpload(),
        TakePart(1, 10),
        TakePart(2, 10),
        TakePart(3, 5),
        Sum(),
        AwaitParts(),
        Join(ETAGS),
        Finish(created=True),
    ]
    assert bucket.object


def test_a_file_that_changed_between_the_passes_is_never_joined() -> None:
    actions = run(new_upload(), Bucket(sha256=OTHER))
    assert actions[-4:] == [Sum(), CallOff(), Abort("u"), RaiseChanged()]


def test_parts_that_were_not_needed_are_forgotten_and_nothing_else_is_called_off() -> None:
    actions = run(new_upload(), Bucket(created=False))
    assert actions[-3:] == [Join(ETAGS), Abort("u"), Finish(created=False)]


# --- parts on their way -------------------------------------------------------------------------------


def test_an_abort_waits_a_moment_for_parts_on_their_way() -> None:
    bucket = Bucket(sha256=OTHER, arrive=lambda: False, waits_seconds=LANDING_SECONDS - 1)
    actions = run(new_upload(), bucket)
    assert actions[-4:] == [CallOff(), AwaitLanding(), Abort("u"), RaiseChanged()]
    assert not bucket.held


def test_an_abort_that_came_before_parts_is_made_again_when_they_have_arrived() -> None:
    bucket = Bucket(sha256=OTHER, arrive=lambda: False)
    actions = run(new_upload(), bucket)
    assert actions[-6:] == [
        CallOff(),
        AwaitLanding(),
        Abort("u"),
        AwaitLanding(),
        Abort("u"),
        RaiseChanged(),
    ]
    assert not bucket.held


def test_the_last_parts_are_waited_for_without_end() -> None:
    upload = upload_in(PartedState.LANDING)
    assert upload.next_deadline() == LANDING_SECONDS
    assert upload.feed(Tick(), LANDING_SECONDS - 1) == (AwaitLanding(),)
    assert upload.feed(Tick(), LANDING_SECONDS) == (Abort("u"),)
    assert upload.feed(Aborted(), LANDING_SECONDS) == (AwaitLanding(),)
    assert upload.next_deadline() is None


# --- an abort that fails ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sha256", "created", "ending"), [(SAME, False, Finish(created=False)), (OTHER, True, RaiseChanged())]
)
@pytest.mark.parametrize("failures", range(ABORTS_MAX + 1))
def test_an_abort_that_fails_in_passing_is_made_again_as_often_as_allowed_and_then_told_of(
    failures: int, sha256: bytes, created: bool, ending: PartedAction
) -> None:
    bucket = Bucket(sha256=sha256, created=created, abort_failures=[BUSY] * failures)
    actions = run(new_upload(), bucket)
    assert actions.count(Abort("u")) == min(failures + 1, ABORTS_MAX)
    if failures < ABORTS_MAX:
        assert actions[-2:] == [Abort("u"), ending]
        assert not bucket.held
    else:
        assert actions[-3:] == [Abort("u"), TellLeft("u", BUSY), ending]


def test_an_abort_is_made_again_after_a_while() -> None:
    upload = upload_in(PartedState.BACKING_OFF)
    due = upload.next_deadline()
    assert due is not None
    assert 0.5 <= due <= 1
    assert upload.feed(Tick(), due / 2) == ()
    assert upload.feed(Tick(), due) == (Abort("u"),)
    assert upload.next_deadline() is None


def test_an_abort_that_is_refused_is_told_of_at_once() -> None:
    actions = run(new_upload(), Bucket(sha256=OTHER, abort_failures=[DENIED]))
    assert actions[-3:] == [Abort("u"), TellLeft("u", DENIED), RaiseChanged()]


def test_only_the_last_abort_counts() -> None:
    """One that is made again anyway, when parts have arrived, and succeeds then has left nothing."""
    bucket = Bucket(sha256=OTHER, arrive=lambda: False, abort_failures=[BUSY] * (ABORTS_MAX + 1))
    actions = run(new_upload(), bucket)
    assert actions[-4:] == [AwaitLanding(), Abort("u"), Abort("u"), RaiseChanged()]
    assert actions.count(Abort("u")) == ABORTS_MAX + 2
    bucket = Bucket(sha256=OTHER, arrive=lambda: False, abort_failures=[DENIED] * 2)
    assert run(new_upload(), bucket)[-4:] == [
        AwaitLanding(),
        Abort("u"),
        TellLeft("u", DENIED),
        RaiseChanged(),
    ]


# --- interruptions ------------------------------------------------------------------------------------


def test_an_upload_that_was_being_begun_is_waited_for_and_aborted() -> None:
    upload = upload_in(PartedState.OPENING)
    assert upload.feed(Interrupted(), 1.0) == (CallOff(),)
    assert upload.feed(CalledOff(None, True), 1.0) == (AwaitLanding(),)
    assert upload.next_deadline() is None  # There is nothing to abort before.
    assert upload.feed(Landed("u"), 1.0) == (Abort("u"),)
    assert upload.feed(Aborted(), 1.0) == (RaiseFailure(),)


def test_an_upload_that_was_never_begun_is_not_aborted() -> None:
    upload = upload_in(PartedState.OPENING)
    upload.feed(Interrupted(), 1.0)
    assert upload.feed(CalledOff(None, False), 1.0) == (RaiseFailure(),)


@pytest.mark.parametrize(
    "state",
    [each for each in PartedState if each not in {PartedState.NEW, PartedState.OPENING, PartedState.OVER}],
)
def test_a_second_interruption_ends_the_undoing_and_says_so(state: PartedState) -> None:
    upload = upload_in(state)
    upload.feed(Interrupted(), 1.0)
    if upload.state is PartedState.TELLING:
        assert upload.feed(Interrupted(), 1.0) == (TellLeft("u", DENIED),)
    else:
        assert upload.feed(Interrupted(), 1.0) == (TellLeft("u", None),)
    assert upload.next_deadline() is None
    assert upload.feed(Told(), 1.0) == (RaiseFailure(),)


@pytest.mark.parametrize("state", [PartedState.CALLING_OFF, PartedState.LANDING, PartedState.ABORTING])
def test_undoing_that_cannot_be_done_is_told_of(state: PartedState) -> None:
    upload = upload_in(state)
    assert upload.feed(StepFailed(), 1.0) == (TellLeft("u", None),)
    assert upload.feed(Told(), 1.0) == (RaiseFailure(),)


def test_an_interruption_that_comes_too_late_is_raised_all_the_same() -> None:
    upload = upload_in(PartedState.JOINING)
    assert upload.feed(Joined(True), 1.0) == (Finish(created=True),)
    assert upload.feed(Interrupted(), 1.0) == (RaiseFailure(),)


def test_etags_of_other_parts_than_there_are_are_refused() -> None:
    upload = upload_in(PartedState.AWAITING)
    before = repr(upload)
    with pytest.raises(ContractViolation, match="2 parts were sent of 3"):
        upload.feed(PartsSent(ETAGS[:2]), 1.0)
    assert repr(upload) == before


# --- whatever happens ---------------------------------------------------------------------------------


@given(
    size=st.integers(1, 200),
    part_bytes=st.integers(10, 200),
    fails_at=st.none() | st.integers(0, 25),
    interrupted_at=st.lists(st.integers(0, 25), max_size=2, unique=True),
    is_done=st.booleans(),
    is_same=st.booleans(),
    created=st.booleans(),
    abort_failures=st.lists(st.sampled_from([BUSY, DENIED]), max_size=8),
    waits_seconds=st.sampled_from([0.0, LANDING_SECONDS * 2]),
    seed=st.integers(0, 1000),
)
def test_whatever_happens_parts_become_the_object_or_are_forgotten_or_are_told_of(
    size: int,
    part_bytes: int,
    fails_at: int | None,
    interrupted_at: list[int],
    is_done: bool,
    is_same: bool,
    created: bool,
    abort_failures: list[StoreFailure],
    waits_seconds: float,
    seed: int,
) -> None:
    chance = random.Random(seed)
    bucket = Bucket(
        sha256=SAME if is_same else OTHER,
        created=created,
        abort_failures=abort_failures,
        arrive=lambda: chance.random() < 0.5,
        waits_seconds=waits_seconds,
    )
    actions = run(
        new_upload(size, part_bytes),
        bucket,
        fails_at=fails_at,
        interrupted_at=tuple(interrupted_at),
        is_done=is_done,
    )
    *done, ending = actions
    taken = [each for each in done if isinstance(each, TakePart)]
    assert [each.number for each in taken] == list(range(1, len(taken) + 1))
    if any(isinstance(each, Join) for each in done):
        assert is_same
        assert sum(each.length for each in taken) == size
        assert all(each.length == part_bytes for each in taken[:-1])
    told = any(isinstance(each, TellLeft) for each in done)
    assert told or not (bucket.held or bucket.on_their_way)
    happened = [at for at in (fails_at, *interrupted_at) if at is not None and at < len(done)]
    if not happened:
        assert ending == (Finish(created) if is_same else RaiseChanged())
        assert bucket.object is (is_same and created)
    if any(at < len(done) for at in interrupted_at):
        assert ending == RaiseFailure()
