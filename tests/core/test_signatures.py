"""What a refusal says of a signature."""

from __future__ import annotations

import pytest
from attrs import evolve

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.signatures import Remedy, not_put_right, put_right, remedy_of

RENEW, CORRECT = Remedy.RENEW_CREDENTIALS, Remedy.CORRECT_CLOCK


@pytest.mark.parametrize(
    ("status", "code", "clock_error", "remedy"),
    [
        (400, "ExpiredToken", None, RENEW),
        (403, "ExpiredToken", 0.0, RENEW),
        (400, "ExpiredToken", 7200.0, RENEW),
        (400, "ExpiredTokenException", 0.0, RENEW),
        (400, "InvalidToken", 0.0, RENEW),
        (400, "TokenRefreshRequired", 0.0, RENEW),
        (200, "ExpiredToken", 0.0, RENEW),
        (403, "RequestTimeTooSkewed", 901.0, CORRECT),
        (403, "RequestTimeTooSkewed", -901.0, CORRECT),
        (403, "RequestTimeTooSkewed", 60.0, CORRECT),
        # The store complains of a clock that agrees with its own: signing anew changes nothing.
        (403, "RequestTimeTooSkewed", 59.0, None),
        (403, "RequestTimeTooSkewed", None, None),
        # An answer to HEAD has no code.
        (403, None, 300.0, CORRECT),
        (403, None, -86_400.0, CORRECT),
        (403, None, 299.0, None),
        (403, None, None, None),
        (404, None, 86_400.0, None),
        (503, None, 86_400.0, None),
        # The store's last word, whatever the clock.
        (403, "SignatureDoesNotMatch", 86_400.0, None),
        (403, "InvalidAccessKeyId", 86_400.0, None),
        (403, "AccessDenied", 86_400.0, None),
        (503, "SlowDown", 0.0, None),
    ],
)
def test_what_puts_a_refused_request_right(
    status: int, code: str | None, clock_error: float | None, remedy: Remedy | None
) -> None:
    assert remedy_of(status, code, clock_error, can_renew=True) is remedy
    # Credentials that were configured are all that there are.
    assert remedy_of(status, code, clock_error, can_renew=False) is (None if remedy is RENEW else remedy)


def test_what_a_refusal_comes_to() -> None:
    refusal = StoreFailure(kind=FailureKind.DENIED, detail="expired", status=400, code="ExpiredToken")
    assert put_right(refusal) == evolve(refusal, kind=FailureKind.STALE_SIGNATURE)
    for kind in (FailureKind.UNREACHABLE, FailureKind.DENIED):
        search = StoreFailure(kind=kind, detail="nobody answers")
        assert not_put_right(refusal, search) == evolve(refusal, kind=kind, detail="expired; nobody answers")
