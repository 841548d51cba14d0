"""seekfs_core.errors: what a store's failure becomes, and that every error travels."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from seekfs_core import errors
from seekfs_core.errors import (
    BadRequest,
    BudgetSpent,
    FailureKind,
    PageCorrupt,
    Problem,
    SeekfsError,
    ShuttingDown,
    StoreAnswered,
    StoreFailure,
    StoreRefused,
    StoreTimeout,
    StoreUnavailable,
    bug_of,
    check_can_be_bound,
    error_of,
    is_absence,
    is_another_object,
    is_same_object,
    most_telling,
    refuses_conditions,
    retry_after_of,
)

MEANINGS: dict[FailureKind, tuple[type[SeekfsError], int]] = {
    FailureKind.UNREACHABLE: (StoreUnavailable, 503),
    FailureKind.BUSY: (StoreUnavailable, 503),
    FailureKind.TIMED_OUT: (StoreTimeout, 504),
    FailureKind.BAD_CHECKSUM: (PageCorrupt, 502),
    FailureKind.DENIED: (StoreRefused, 502),
    FailureKind.STALE_SIGNATURE: (StoreRefused, 502),
    FailureKind.MISSING: (StoreAnswered, 502),
    FailureKind.REDIRECTED: (StoreRefused, 502),
    FailureKind.PRECONDITION: (StoreAnswered, 502),
    FailureKind.BAD_ANSWER: (StoreAnswered, 502),
    FailureKind.CUT_SHORT: (StoreAnswered, 502),
    FailureKind.CLOSING: (ShuttingDown, 503),
    FailureKind.INTERNAL: (SeekfsError, 500),
    FailureKind.OVERTAKEN: (SeekfsError, 500),
    FailureKind.BREAKER_OPEN: (StoreUnavailable, 503),
    FailureKind.OVER_BUDGET: (BudgetSpent, 429),
}


@pytest.mark.parametrize("kind", FailureKind)
def test_what_a_failure_becomes(kind: FailureKind) -> None:
    error = error_of(StoreFailure(kind=kind, detail="so it went"), key="k")
    assert (type(error), error.status) == MEANINGS[kind]
    assert error.detail == "so it went (key 'k')"
    assert error.context["key"] == "k"


def test_what_is_known_of_a_failure_is_told() -> None:
    failure = StoreFailure(
        kind=FailureKind.DENIED, detail="no", status=403, code="AccessDenied", facts={"page_id": 7}
    )
    assert error_of(failure, key="k", ns="dev").context == {
        "key": "k",
        "ns": "dev",
        "page_id": 7,
        "store_status": 403,
        "store_code": "AccessDenied",
    }


@pytest.mark.parametrize(("asked", "told"), [(None, 1), (0.0, 1), (0.2, 1), (1.0, 1), (1.2, 2), (30.0, 30)])
def test_nobody_is_told_to_come_back_before_the_store_said(asked: float | None, told: int) -> None:
    failure = StoreFailure(kind=FailureKind.BUSY, detail="later", retry_after_seconds=asked)
    assert error_of(failure, key="k").context["retry_after"] == told


def test_a_missing_bucket_is_no_missing_object() -> None:
    missing = StoreFailure(kind=FailureKind.MISSING, detail="", status=404, code="NoSuchKey")
    assert is_absence(missing)
    assert not isinstance(error_of(missing, key="k"), StoreRefused)
    no_bucket = StoreFailure(kind=FailureKind.MISSING, detail="", code="NoSuchBucket")
    assert not is_absence(no_bucket)
    assert isinstance(error_of(no_bucket, key="k"), StoreRefused)
    assert not is_absence(StoreFailure(kind=FailureKind.DENIED, detail=""))


def tree(root: type[SeekfsError]) -> Iterator[type[SeekfsError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from tree(kind)


@pytest.mark.parametrize("kind", list(tree(SeekfsError)))
def test_every_error_is_in_the_drawing_and_travels(kind: type[SeekfsError]) -> None:
    drawing = errors.__doc__ or ""
    lines = [line for line in drawing.splitlines() if line.strip(" │├└─").startswith(f"{kind.__name__} ")]
    if kind is not SeekfsError:
        (line,) = lines
        assert f" {kind.status}" in line
    error = pickle.loads(pickle.dumps(kind("why", path="a", size=3)))
    assert type(error) is kind
    assert (error.detail, error.context, str(error)) == ("why", {"path": "a", "size": 3}, "why")


def test_what_says_that_an_object_is_another_one() -> None:
    def failure(kind: FailureKind, status: int | None = None, code: str | None = None) -> StoreFailure:
        return StoreFailure(kind=kind, detail="x", status=status, code=code)

    assert is_another_object(failure(FailureKind.PRECONDITION, 412))
    assert is_another_object(failure(FailureKind.MISSING, 404))
    assert is_another_object(failure(FailureKind.BAD_ANSWER, 416))
    assert not is_another_object(failure(FailureKind.MISSING, 404, "NoSuchBucket"))
    assert not is_another_object(failure(FailureKind.BAD_ANSWER, 200))
    assert not is_another_object(failure(FailureKind.DENIED, 403))


def test_several_reads_are_of_one_object_only_by_its_etag() -> None:
    assert is_same_object((10, '"a"'), (10, '"a"'), gets_count=2)
    assert not is_same_object((10, '"a"'), (10, '"b"'), gets_count=2)
    assert not is_same_object((10, '"a"'), (11, '"a"'), gets_count=2)
    assert not is_same_object((10, '"a"'), (10, None), gets_count=1)
    assert not is_same_object((10, None), (10, None), gets_count=2)
    assert is_same_object((10, None), (10, None), gets_count=1)


def test_what_has_no_etag_is_read_by_one_get_or_not_at_all() -> None:
    for etag, gets_count in (('"a"', 2), ('"a"', 1), (None, 1), (None, 0)):
        check_can_be_bound("k", etag, gets_count=gets_count)
    with pytest.raises(
        StoreAnswered, match="the store gives no ETag for 'k', so reads of it cannot be bound"
    ):
        check_can_be_bound("k", None, gets_count=2)


def test_what_may_be_a_refusal_of_the_condition_itself() -> None:
    def failure(kind: FailureKind, status: int | None = None) -> StoreFailure:
        return StoreFailure(kind=kind, detail="x", status=status)

    assert refuses_conditions(failure(FailureKind.BAD_ANSWER, 400))
    assert refuses_conditions(failure(FailureKind.BAD_ANSWER, 501))
    assert refuses_conditions(failure(FailureKind.BUSY, 501))
    assert not refuses_conditions(failure(FailureKind.PRECONDITION, 412))
    assert not refuses_conditions(failure(FailureKind.BUSY, 503))
    assert not refuses_conditions(failure(FailureKind.UNREACHABLE))


def test_of_several_errors_the_one_that_says_most_is_raised() -> None:
    bug, first, second = ValueError("a bug"), StoreAnswered("one"), StoreAnswered("two")
    stopped = ShuttingDown("stopped")
    assert most_telling([stopped, bug, first, second]) is first
    assert most_telling([stopped, bug]) is bug
    assert most_telling([stopped]) is stopped


def test_when_to_try_again_is_said_only_where_that_helps() -> None:
    assert retry_after_of(BadRequest("no")) is None
    assert retry_after_of(StoreUnavailable("away", retry_after=7)) == 7


def test_a_bug_is_told_without_what_it_says() -> None:
    told = bug_of(ValueError("a secret"))
    assert (told.kind, told.detail) == (FailureKind.INTERNAL, "internal error: ValueError")


def test_a_problem_says_where_and_what() -> None:
    assert str(Problem("$.files[3].size", "is absent")) == "$.files[3].size: is absent"
