"""A multipart upload: every pair of state and event, and that parts never stay behind or lie."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation
from seekfs_core.parted_upload import (
    PARTED_TRANSITIONS,
    Abort,
    Aborted,
    AwaitParts,
    Begin,
    BeginUpload,
    Finish,
    Join,
    Joined,
    PartedAction,
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
    UploadBegun,
)

SAME, OTHER = bytes(32), b"1" * 32
ETAGS = ("1", "2", "3")

EVENTS: tuple[PartedEvent, ...] = (
    Begin(),
    UploadBegun(),
    PartTaken(),
    Summed(SAME),
    Summed(OTHER),
    PartsSent(ETAGS),
    Joined(True),
    Joined(False),
    Aborted(),
    StepFailed(),
)

TAKEN: tuple[PartedEvent, ...] = (Begin(), UploadBegun(), PartTaken(), PartTaken(), PartTaken())
WAY_TO: dict[PartedState, tuple[PartedEvent, ...]] = {
    PartedState.NEW: (),
    PartedState.OPENING: TAKEN[:1],
    PartedState.TAKING: TAKEN[:4],
    PartedState.SUMMING: TAKEN,
    PartedState.AWAITING: (*TAKEN, Summed(SAME)),
    PartedState.JOINING: (*TAKEN, Summed(SAME), PartsSent(ETAGS)),
    PartedState.ABORTING: (*TAKEN, Summed(OTHER)),
    PartedState.OVER: (*TAKEN, Summed(OTHER), Aborted()),
}


def upload_in(state: PartedState) -> PartedUpload:
    upload = PartedUpload(size=25, part_bytes=10, sha256=SAME)
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
            upload.feed(event, 1.0)
        assert repr(upload) == before
    else:
        upload.feed(event, 1.0)
        assert upload.state in landings


def run(
    upload: PartedUpload, *, fails_at: int | None = None, sha256: bytes = SAME, created: bool = True
) -> list[PartedAction]:
    """Every action until the last, where the ``fails_at``-th (from 0) fails."""
    actions: list[PartedAction] = []
    event: PartedEvent = Begin()
    while True:
        (action,) = upload.feed(event, float(len(actions)))
        actions.append(action)
        match action:
            case Finish() | RaiseChanged() | RaiseFailure():
                return actions
            case _ if len(actions) - 1 == fails_at:
                event = StepFailed()
            case BeginUpload():
                event = UploadBegun()
            case TakePart():
                event = PartTaken()
            case Sum():
                event = Summed(sha256)
            case AwaitParts():
                taken = [each.number for each in actions if isinstance(each, TakePart)]
                event = PartsSent(tuple(map(str, taken)))
            case Join():
                event = Joined(created)
            case Abort():
                event = Aborted()


def test_a_file_goes_part_by_part_and_is_joined_when_both_hashes_agree() -> None:
    assert run(PartedUpload(size=25, part_bytes=10, sha256=SAME)) == [
        BeginUpload(),
        TakePart(1, 10),
        TakePart(2, 10),
        TakePart(3, 5),
        Sum(),
        AwaitParts(),
        Join(ETAGS),
        Finish(created=True),
    ]


def test_a_file_that_changed_between_the_passes_is_never_joined() -> None:
    actions = run(PartedUpload(size=25, part_bytes=10, sha256=SAME), sha256=OTHER)
    assert actions[-3:] == [Sum(), Abort(), RaiseChanged()]


def test_parts_that_were_not_needed_are_forgotten() -> None:
    actions = run(PartedUpload(size=25, part_bytes=10, sha256=SAME), created=False)
    assert actions[-3:] == [Join(ETAGS), Abort(), Finish(created=False)]


@pytest.mark.parametrize(
    ("sha256", "created", "ending"), [(SAME, False, Finish(created=False)), (OTHER, True, RaiseChanged())]
)
def test_an_abort_that_fails_changes_nothing_of_what_is_told(
    sha256: bytes, created: bool, ending: PartedAction
) -> None:
    """``Aborted`` is fed then as well; ``StepFailed`` while aborting is an interruption."""
    actions = run(PartedUpload(size=5, part_bytes=10, sha256=SAME), sha256=sha256, created=created)
    assert actions[-2:] == [Abort(), ending]
    interrupted = run(
        PartedUpload(size=5, part_bytes=10, sha256=SAME),
        sha256=sha256,
        created=created,
        fails_at=len(actions) - 2,
    )
    assert interrupted[-2:] == [Abort(), RaiseFailure()]


def test_etags_of_other_parts_than_there_are_are_refused() -> None:
    upload = upload_in(PartedState.AWAITING)
    before = repr(upload)
    with pytest.raises(ContractViolation, match="2 parts were sent of 3"):
        upload.feed(PartsSent(ETAGS[:2]), 1.0)
    assert repr(upload) == before


@given(
    size=st.integers(1, 1000),
    part_bytes=st.integers(1, 1000),
    fails_at=st.none() | st.integers(0, 20),
    is_same=st.booleans(),
    created=st.booleans(),
)
def test_whatever_happens_parts_become_the_object_or_are_forgotten(
    size: int, part_bytes: int, fails_at: int | None, is_same: bool, created: bool
) -> None:
    upload = PartedUpload(size=size, part_bytes=part_bytes, sha256=SAME)
    actions = run(upload, fails_at=fails_at, sha256=SAME if is_same else OTHER, created=created)
    *done, ending = actions
    parts = [each for each in done if isinstance(each, TakePart)]
    assert [each.number for each in parts] == list(range(1, len(parts) + 1))
    failed = fails_at is not None and fails_at < len(done)
    assert (ending == RaiseFailure()) is failed
    assert (ending == RaiseChanged()) is (not is_same and not failed)
    begun = not (failed and fails_at == 0)
    assert (Abort() in done) is (begun and ending != Finish(created=True))
    if any(isinstance(each, Join) for each in done):
        assert is_same
        assert sum(each.length for each in parts) == size
        assert all(each.length == part_bytes for each in parts[:-1])
