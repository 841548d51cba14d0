"""What statuses and codes mean, row by row of the contract's table of failures."""

from __future__ import annotations

import pytest

from seekfs_core.errors import FailureKind
from seekfs_core.store_answers import (
    ContentRange,
    believed_etag,
    impossible_match,
    is_contradicted,
    is_length_believed,
    is_range_asked_for,
    is_upload_forgotten,
    kind_of_answer,
    was_bucket_there,
)


@pytest.mark.parametrize(
    ("status", "code", "conditional", "kind"),
    [
        (503, "SlowDown", False, FailureKind.BUSY),
        (503, None, False, FailureKind.BUSY),
        (400, "RequestTimeout", False, FailureKind.BUSY),
        (200, "InternalError", True, FailureKind.BUSY),
        (429, None, False, FailureKind.BUSY),
        (403, "AccessDenied", False, FailureKind.DENIED),
        (400, "ExpiredToken", False, FailureKind.DENIED),
        (400, "InvalidToken", False, FailureKind.DENIED),
        (400, "ExpiredTokenException", False, FailureKind.DENIED),
        (400, "TokenRefreshRequired", False, FailureKind.DENIED),
        (400, "RequestTimeTooSkewed", False, FailureKind.DENIED),
        (401, None, False, FailureKind.DENIED),
        (404, "NoSuchKey", False, FailureKind.MISSING),
        (301, "PermanentRedirect", False, FailureKind.REDIRECTED),
        (400, "AuthorizationHeaderMalformed", False, FailureKind.REDIRECTED),
        (412, "PreconditionFailed", True, FailureKind.PRECONDITION),
        (200, "PreconditionFailed", True, FailureKind.PRECONDITION),
        (200, "ConditionalRequestConflict", True, FailureKind.PRECONDITION),
        (200, "NoSuchUpload", True, FailureKind.MISSING),
        (409, "ConditionalRequestConflict", True, FailureKind.PRECONDITION),
        (409, "BucketAlreadyExists", False, FailureKind.BAD_ANSWER),
        (416, "InvalidRange", False, FailureKind.BAD_ANSWER),
        (418, "Unheard.Of", False, FailureKind.BAD_ANSWER),
        (204, None, False, FailureKind.BAD_ANSWER),
    ],
)
def test_what_an_answer_means(status: int, code: str | None, conditional: bool, kind: FailureKind) -> None:
    assert kind_of_answer(status, code, conditional=conditional) is kind


@pytest.mark.parametrize(
    ("code", "forgotten"),
    [(None, True), ("NoSuchUpload", True), ("NoSuchKey", True), ("NoSuchBucket", False)],
)
def test_an_upload_that_is_not_there_needs_no_abort(code: str | None, forgotten: bool) -> None:
    assert is_upload_forgotten(code) is forgotten


def test_which_answer_to_a_range_is_believed() -> None:
    whole = ContentRange(start=10, stop=20, size=100)
    assert is_range_asked_for(10, 20, whole, 10)
    assert not is_range_asked_for(10, 20, None, 10)
    assert not is_range_asked_for(10, 20, whole, 9)
    assert not is_range_asked_for(11, 20, whole, 9)
    assert not is_range_asked_for(10, 21, whole, 11)


def test_a_store_that_ignores_if_match_is_found_out() -> None:
    assert is_contradicted('"a"', '"b"')
    assert is_contradicted('"a"', 'W/"a"')
    assert not is_contradicted('"a"', '"a"')
    assert not is_contradicted('"a"', None)
    assert not is_contradicted(None, '"b"')


def test_which_length_is_believed() -> None:
    assert is_length_believed(0, is_chunked=False)
    assert not is_length_believed(None, is_chunked=False)
    assert not is_length_believed(10, is_chunked=True)
    assert not is_length_believed(None, is_chunked=True)


@pytest.mark.parametrize(
    ("code", "there"),
    [
        ("BucketAlreadyOwnedByYou", True),
        ("BucketAlreadyExists", False),
        ("OperationAborted", False),
        (None, False),
    ],
)
def test_which_refusal_says_that_a_bucket_is_ours(code: str | None, there: bool) -> None:
    assert was_bucket_there(code) is there


@pytest.mark.parametrize("etag", ['"abc"', 'W/"abc"', "abc"])
def test_an_etag_that_can_be_sent_back_is_one(etag: str) -> None:
    assert believed_etag(etag) == etag


@pytest.mark.parametrize("etag", [None, "", '"\xfc"', '"a\r\nX: y"', '"\u2603"'])
def test_one_that_cannot_is_as_good_as_none(etag: str | None) -> None:
    assert believed_etag(etag) is None


def test_a_condition_that_nothing_can_meet_needs_no_request() -> None:
    assert impossible_match('"abc"') is None
    failure = impossible_match('"a\r\nX: y"')
    assert failure is not None
    assert failure.kind is FailureKind.PRECONDITION
