"""Retrying: which failures, how often, and how long after."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.retry import RETRY_AFTER_SECONDS_MAX, RetryPolicy, as_busy, is_begun_again, is_passing

PASSING = {
    FailureKind.UNREACHABLE,
    FailureKind.TIMED_OUT,
    FailureKind.BUSY,
    FailureKind.BAD_ANSWER,
    FailureKind.CUT_SHORT,
    FailureKind.STALE_SIGNATURE,
    FailureKind.OVERTAKEN,
    FailureKind.BREAKER_OPEN,
    FailureKind.OVER_BUDGET,
}
FINAL = {
    FailureKind.DENIED,
    FailureKind.MISSING,
    FailureKind.REDIRECTED,
    FailureKind.PRECONDITION,
    FailureKind.BAD_CHECKSUM,
    FailureKind.CLOSING,
    FailureKind.INTERNAL,
}

POLICY = RetryPolicy(attempts_max=3, backoff_seconds_initial=0.1)


def failure(kind: FailureKind = FailureKind.BUSY, retry_after: float | None = None) -> StoreFailure:
    return StoreFailure(kind=kind, detail="so it went", retry_after_seconds=retry_after)


@pytest.mark.parametrize("kind", FailureKind)
def test_final_answers_are_not_asked_for_again(kind: FailureKind) -> None:
    assert set(FailureKind) == PASSING | FINAL
    assert is_passing(kind) is (kind in PASSING)
    again = POLICY.delay(failure(kind), 1, random.Random(1))
    assert (again is not None) is (kind in PASSING)


@given(st.integers(1, 12), st.integers(1, 20), st.integers(0))
def test_attempts_in_all_never_pass_the_maximum(attempts_max: int, attempt: int, seed: int) -> None:
    policy = RetryPolicy(attempts_max=attempts_max, backoff_seconds_initial=0.1)
    delay = policy.delay(failure(), attempt, random.Random(seed))
    assert (delay is None) is (attempt >= attempts_max)


@given(st.integers(1, 5000), st.just(0.0) | st.floats(1e-6, 100), st.floats(0, 100), st.integers(0))
def test_the_backoff_doubles_up_to_its_maximum_and_is_jittered_over_its_upper_half(
    attempt: int, initial: float, maximum: float, seed: int
) -> None:
    policy = RetryPolicy(attempts_max=10_000, backoff_seconds_initial=initial, backoff_seconds_max=maximum)
    delay = policy.delay(failure(), attempt, random.Random(seed))
    full = initial
    for _ in range(min(attempt - 1, 200)):
        full = min(2 * full, maximum)
    full = min(full, maximum)
    assert delay is not None
    assert full / 2 <= delay <= full


def test_clients_that_failed_together_do_not_come_back_together() -> None:
    rng = random.Random(1)
    delays = {POLICY.delay(failure(), 1, rng) for _ in range(50)}
    assert len(delays) == 50


def test_the_same_seed_gives_the_same_delays() -> None:
    runs = [
        [POLICY.delay(failure(), attempt, rng) for attempt in (1, 2, 3)]
        for rng in (random.Random(7), random.Random(7))
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("retry_after", "floor"),
    [(None, 0.05), (0.0, 0.05), (-5.0, 0.05), (2.5, 2.5), (29.0, 29.0), (3600.0, RETRY_AFTER_SECONDS_MAX)],
)
def test_the_store_says_how_long_it_wants_to_be_left_alone_within_reason(
    retry_after: float | None, floor: float
) -> None:
    delay = POLICY.delay(failure(retry_after=retry_after), 1, random.Random(3))
    assert delay is not None
    assert floor <= delay <= max(floor, 0.1)


def test_a_stale_signature_is_replaced_at_once() -> None:
    stale = failure(FailureKind.STALE_SIGNATURE)
    assert POLICY.delay(stale, 1, random.Random(1)) == 0.0
    assert POLICY.delay(stale, 2, random.Random(1)) == 0.0
    assert POLICY.delay(stale, 3, random.Random(1)) is None


def test_retry_after_does_not_shorten_a_backoff() -> None:
    policy = RetryPolicy(attempts_max=9, backoff_seconds_initial=8)
    delay = policy.delay(failure(retry_after=1), 1, random.Random(3))
    assert delay is not None
    assert delay >= 4


@pytest.mark.parametrize("fields", [{"attempts_max": 0}, {"backoff_seconds_initial": -1.0}])
def test_a_policy_that_makes_no_sense_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RetryPolicy(**{"attempts_max": 3, "backoff_seconds_initial": 0.1, **fields})  # type: ignore[arg-type]


def test_a_race_that_nobody_won_is_run_again() -> None:
    refused = failure(FailureKind.PRECONDITION)
    assert POLICY.delay(refused, 1, random.Random(1)) is None
    assert POLICY.delay(as_busy(refused), 1, random.Random(1)) is not None
    assert as_busy(refused).detail == refused.detail


def test_an_object_that_changes_is_begun_again_once() -> None:
    assert [is_begun_again(reads) for reads in range(4)] == [True, True, False, False]
