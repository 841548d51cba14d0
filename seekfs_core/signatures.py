"""What a store's refusal says of how a request was signed, and what puts that right.

Two things go stale while a process runs: credentials expire, and a clock goes wrong. Both are put right by
whoever signs, and the request is made again (``FailureKind.STALE_SIGNATURE``). A key or a secret that is
wrong is neither: the store's refusal of it is final.

Codes are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and of AWS STS.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import evolve

from seekfs_core.errors import FailureKind, StoreFailure

CLOCK_ERROR_SECONDS_MIN = 60.0
"""A clock that is off by less is not what a store complains of: the ``Date`` of an answer has whole seconds,
and has been on its way for some."""

CLOCK_ERROR_SECONDS_PLAIN = 300.0
"""A clock that is off by more explains a refusal that says nothing. S3 itself bears a quarter of an hour,
others less."""


class Remedy(enum.Enum):
    RENEW_CREDENTIALS = "renew credentials"
    CORRECT_CLOCK = "correct clock"


_CREDENTIALS_STALE: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
)
_CLOCK_WRONG: Final = "RequestTimeTooSkewed"


def remedy_of(
    status: int | None, code: str | None, clock_error_seconds: float | None, *, can_renew: bool
) -> Remedy | None:
    """What puts a refused request right; None where signing it anew would not.

    ``clock_error_seconds`` is the store's time less that of the clock that it was signed by; None where the
    store has not said. An answer to HEAD has no body and so no code; its ``Date`` still tells of the clock.
    ``can_renew``: whether the credentials are of those that are looked for, and not configured.
    """
    if code in _CREDENTIALS_STALE:
        return Remedy.RENEW_CREDENTIALS if can_renew else None
    if clock_error_seconds is None:
        return None
    error = abs(clock_error_seconds)
    if code == _CLOCK_WRONG and error >= CLOCK_ERROR_SECONDS_MIN:
        return Remedy.CORRECT_CLOCK
    if code is None and status == 403 and error >= CLOCK_ERROR_SECONDS_PLAIN:
        return Remedy.CORRECT_CLOCK
    return None


def put_right(refusal: StoreFailure) -> StoreFailure:
    """What a refusal comes to once what was wrong with the signature is right: signed anew it may pass."""
    return evolve(refusal, kind=FailureKind.STALE_SIGNATURE)


def not_put_right(refusal: StoreFailure, search: StoreFailure) -> StoreFailure:
    """What a refusal comes to where looking for other credentials failed with ``search``: it may pass if
    that may, since the request itself would be signed right then."""
    return evolve(refusal, kind=search.kind, detail=f"{refusal.detail}; {search.detail}")
