"""What statuses and codes mean, row by row of the contract's table of failures."""

from __future__ import annotations

import pytest

from seekfs_core.errors import FailureKind
from seekfs_core.store_answers import kind_of_answer


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
        (401, None, False, FailureKind.DENIED),
        (404, "NoSuchKey", False, FailureKind.MISSING),
        (301, "PermanentRedirect", False, FailureKind.REDIRECTED),
        (400, "AuthorizationHeaderMalformed", False, FailureKind.REDIRECTED),
        (412, "PreconditionFailed", True, FailureKind.PRECONDITION),
        (409, "ConditionalRequestConflict", True, FailureKind.PRECONDITION),
        (409, "BucketAlreadyExists", False, FailureKind.BAD_ANSWER),
        (416, "InvalidRange", False, FailureKind.BAD_ANSWER),
        (418, "Unheard.Of", False, FailureKind.BAD_ANSWER),
        (204, None, False, FailureKind.BAD_ANSWER),
    ],
)
def test_what_an_answer_means(status: int, code: str | None, conditional: bool, kind: FailureKind) -> None:
    assert kind_of_answer(status, code, conditional=conditional) is kind
