"""Whether a failed request is made again, and when.

Backoff doubles and is jittered over its upper half, so that clients that failed together do not
come back together; a store's ``Retry-After`` is a floor under it. A request whose signature was stale is
made again at once: nothing has to recover first.
"""

from __future__ import annotations

import random
from typing import assert_never

from attrs import evolve, field, frozen, validators

from seekfs_core.errors import FailureKind, StoreFailure

RETRY_AFTER_SECONDS_MAX = 30.0
"""A store that asks for more is asked again after this long: somebody is waiting."""

READS_OF_CHANGING_OBJECT_MAX = 2
"""An object that changes while it is read is begun again once, in case it was just being replaced."""


def is_begun_again(reads: int) -> bool:
    """Whether an object that changed ``reads`` times while it was read is read from its start once more."""
    return reads < READS_OF_CHANGING_OBJECT_MAX


def is_passing(kind: FailureKind) -> bool:
    """Whether the same request may well succeed a moment later.

    A refusal (401, 403), an absence (404), a redirect and a failed precondition are final
    answers: asking again costs a request and changes nothing. A page whose checksum is wrong has
    a rule of its own in ``seekfs_core.fetch``.
    """
    match kind:
        case (
            FailureKind.UNREACHABLE
            | FailureKind.TIMED_OUT
            | FailureKind.BUSY
            | FailureKind.BAD_ANSWER
            | FailureKind.CUT_SHORT
            | FailureKind.STALE_SIGNATURE
            | FailureKind.BREAKER_OPEN
            | FailureKind.OVER_BUDGET
            | FailureKind.OVERTAKEN
        ):
            return True
        case (
            FailureKind.DENIED
            | FailureKind.MISSING
            | FailureKind.REDIRECTED
            | FailureKind.PRECONDITION
            | FailureKind.BAD_CHECKSUM
            | FailureKind.CLOSING
            | FailureKind.INTERNAL
        ):
            return False
        case _:
            assert_never(kind)


def as_busy(refused: StoreFailure) -> StoreFailure:
    """A create-only write that was refused where nothing is, as a failure that may pass.

    Two such writes met, and the store let neither win (409).
    """
    return evolve(refused, kind=FailureKind.BUSY)


@frozen(kw_only=True)
class RetryPolicy:
    """``attempts_max`` counts all requests of one kind of work, the first included."""

    attempts_max: int = field(validator=validators.ge(1))
    backoff_seconds_initial: float = field(validator=validators.ge(0))
    backoff_seconds_max: float = field(default=20.0, validator=validators.ge(0))

    def delay(self, failure: StoreFailure, attempt: int, rng: random.Random) -> float | None:
        """Seconds until the request is made again, or None when it is not.

        ``attempt`` is the number of requests made so far, from 1.
        """
        if attempt >= self.attempts_max or not is_passing(failure.kind):
            return None
        # The exponent is capped because 2.0 ** 1024 overflows; the backoff is capped long before.
        ceiling = min(self.backoff_seconds_max, self.backoff_seconds_initial * 2.0 ** min(attempt - 1, 64))
        is_at_once = failure.kind is FailureKind.STALE_SIGNATURE
        backoff = 0.0 if is_at_once else ceiling * (0.5 + 0.5 * rng.random())
        floor = min(failure.retry_after_seconds or 0.0, RETRY_AFTER_SECONDS_MAX)
        return max(backoff, floor)
