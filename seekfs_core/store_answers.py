"""What the statuses and error codes of an S3 server mean: as one of the closed set of failures.

Statuses are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from __future__ import annotations

from typing import Final

from seekfs_core.errors import FailureKind

STATUS_KINDS: Final = {
    301: FailureKind.REDIRECTED,
    302: FailureKind.REDIRECTED,
    307: FailureKind.REDIRECTED,
    308: FailureKind.REDIRECTED,
    401: FailureKind.DENIED,
    403: FailureKind.DENIED,
    404: FailureKind.MISSING,
    409: FailureKind.PRECONDITION,
    412: FailureKind.PRECONDITION,
    429: FailureKind.BUSY,
    500: FailureKind.BUSY,
    502: FailureKind.BUSY,
    503: FailureKind.BUSY,
    504: FailureKind.BUSY,
}

CODE_KINDS: Final = {
    "AuthorizationHeaderMalformed": FailureKind.REDIRECTED,  # signed for another region
    "ExpiredToken": FailureKind.DENIED,
    "InternalError": FailureKind.BUSY,
    "InvalidToken": FailureKind.DENIED,
    "RequestTimeout": FailureKind.BUSY,
    "ServiceUnavailable": FailureKind.BUSY,
    "SlowDown": FailureKind.BUSY,
}
"""Codes that say more than the status they come with (400, or 200 with an error for a body)."""


def kind_of_answer(status: int, code: str | None, *, conditional: bool) -> FailureKind:
    """The failure that an answer of another status than expected is.

    A 409 is a lost race only where the request was ``conditional``. What is not known is a wrong
    answer, which may pass.
    """
    if status == 409 and not conditional:
        return FailureKind.BAD_ANSWER
    by_code = None if code is None else CODE_KINDS.get(code)
    return by_code or STATUS_KINDS.get(status, FailureKind.BAD_ANSWER)
