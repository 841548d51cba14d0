"""Whether a store that fails again and again is asked at all: a circuit breaker.

A store that is down costs every reader a connection timeout and all its retries, one after the other. So
after ``failures_max`` failures in a row the breaker *opens*, and nothing is asked for a while; then one
request, the *probe*, is let through. Once it has been answered the breaker is closed again; if it fails, the
breaker stays open for twice as long.

What waits when the breaker opens goes on waiting for the first probe: a moment without a network is no reason
to fail reads that a retry would have saved. Once a probe has failed, too, everybody is told at once
(``is_refusing``), and may try again when the next probe is due. Nothing is asked that nobody wants: the probe
is the first request that somebody wants by then.

Failures are those of a store that is down: no connection, silence, a 500, 502 or 504. A 503 or 429 is an
answer of one that is well, and slows the pace (``seekfs_core.pace``). Any other answer closes the breaker.

::

    CLOSED ──failures_max in a row──► OPEN ──time is over, somebody asks──► PROBING
       ▲                               ▲                                       │
       └──────────── an answer ────────┼───────────────────────────────────────┤
                                       └──────────────── failed ◄──────────────┘
"""

from __future__ import annotations

import enum
from typing import Final, assert_never

from attrs import define, field, frozen, validators

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.pace import is_refusal


@frozen(kw_only=True)
class BreakerPolicy:
    """``failures_max`` in a row open the breaker, 0: never. The first probe is due after
    ``probe_seconds_initial``; the time doubles up to ``probe_seconds_max``."""

    failures_max: int = field(default=16, validator=validators.ge(0))
    probe_seconds_initial: float = field(default=1.0, validator=validators.gt(0))
    probe_seconds_max: float = field(default=30.0, validator=validators.gt(0))


class Verdict(enum.Enum):
    """What the end of a request says of the store."""

    ANSWERED = "answered"
    FAILED = "failed"
    NOTHING = "nothing"


def verdict_of(failure: StoreFailure | None) -> Verdict:
    """What it says of the store that a request has ended, with ``failure`` if that is how."""
    if failure is None:
        return Verdict.ANSWERED
    match failure.kind:
        case FailureKind.UNREACHABLE | FailureKind.TIMED_OUT:
            return Verdict.FAILED
        case FailureKind.BUSY:
            return Verdict.ANSWERED if is_refusal(failure) else Verdict.FAILED
        case (
            FailureKind.DENIED
            | FailureKind.STALE_SIGNATURE
            | FailureKind.MISSING
            | FailureKind.REDIRECTED
            | FailureKind.PRECONDITION
            | FailureKind.BAD_ANSWER
        ):
            return Verdict.ANSWERED
        case (
            FailureKind.CUT_SHORT
            | FailureKind.BAD_CHECKSUM
            | FailureKind.CLOSING
            | FailureKind.INTERNAL
            | FailureKind.OVERTAKEN
            | FailureKind.BREAKER_OPEN
            | FailureKind.OVER_BUDGET
        ):
            return Verdict.NOTHING
        case _:
            assert_never(failure.kind)


class BreakerState(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


BREAKER_TRANSITIONS: Final[dict[tuple[BreakerState, str], frozenset[BreakerState]]] = {
    (BreakerState.CLOSED, "failed"): frozenset({BreakerState.CLOSED, BreakerState.OPEN}),
    (BreakerState.CLOSED, "answered"): frozenset({BreakerState.CLOSED}),
    (BreakerState.OPEN, "probe"): frozenset({BreakerState.PROBING}),
    (BreakerState.OPEN, "failed"): frozenset({BreakerState.OPEN}),
    (BreakerState.OPEN, "answered"): frozenset({BreakerState.CLOSED}),
    (BreakerState.PROBING, "failed"): frozenset({BreakerState.PROBING}),
    (BreakerState.PROBING, "answered"): frozenset({BreakerState.CLOSED}),
    (BreakerState.PROBING, "probe failed"): frozenset({BreakerState.OPEN}),
    (BreakerState.PROBING, "probe said nothing"): frozenset({BreakerState.OPEN}),
}
"""(state, what happens) to the states that it may land in. Requests that started before may still end."""


@define
class Breaker:
    """See the module's text. Times are monotonic seconds."""

    policy: BreakerPolicy
    state: BreakerState = field(default=BreakerState.CLOSED, init=False)
    opened_count: int = field(default=0, init=False)
    """How often it opened."""
    _failed_in_a_row: int = field(default=0, init=False)
    _last: StoreFailure | None = field(default=None, init=False)
    _probe_at: float = field(default=float("-inf"), init=False)
    _seconds: float = field(default=0.0, init=False)
    _probes_failed: int = field(default=0, init=False)
    """In a row."""
    _probes: int = field(default=0, init=False)
    """How many there were: the number of the one that is under way, or was last."""

    def ready_at(self) -> float:
        """When a request may start, as far as is known now: infinite while a probe is under way."""
        match self.state:
            case BreakerState.CLOSED:
                return float("-inf")
            case BreakerState.OPEN:
                return self._probe_at
            case BreakerState.PROBING:
                return float("inf")
            case _:
                assert_never(self.state)

    def is_refusing(self, now: float) -> bool:
        """Whether whoever wants something is told at once that it cannot be had."""
        return self.state is BreakerState.OPEN and self._probes_failed > 0 and now < self._probe_at

    def refusal(self, now: float) -> StoreFailure:
        """What everybody is told while it ``is_refusing``."""
        assert self._last is not None
        seconds = max(0.0, self._probe_at - now)
        return StoreFailure(
            kind=FailureKind.BREAKER_OPEN,
            detail=(
                f"the store was not asked: {self._failed_in_a_row} requests in a row have failed, "
                f"the last with: {self._last.detail}; it is asked again in {seconds:.1f} s"
            ),
            status=self._last.status,
            code=self._last.code,
            retry_after_seconds=seconds,
        )

    def started(self) -> int:
        """A request that may start does; the number of the probe, if it is one, or 0."""
        if self.state is BreakerState.CLOSED:
            return 0
        self._move("probe", BreakerState.PROBING)
        self._probes += 1
        return self._probes

    def ended(self, failure: StoreFailure | None, now: float, probe: int) -> bool:
        """A request has ended that was this probe, or none (0); whether everybody who waits is to be told
        that the store is down."""
        is_probe = self._is_under_way(probe)
        match verdict_of(failure):
            case Verdict.ANSWERED:
                self._move("answered", BreakerState.CLOSED)
                self._failed_in_a_row = self._probes_failed = 0
                self._last = None
                return False
            case Verdict.FAILED:
                self._failed_in_a_row += 1
                self._last = failure
                if is_probe:
                    self._probes_failed += 1
                    self._seconds = min(2 * self._seconds, self.policy.probe_seconds_max)
                    self._open("probe failed", now)
                    return True
                is_due = 0 < self.policy.failures_max <= self._failed_in_a_row
                if self.state is BreakerState.CLOSED and is_due:
                    self.opened_count += 1
                    self._seconds = self.policy.probe_seconds_initial
                    self._open("failed", now)
                else:
                    self._move("failed", self.state)
                return False
            case Verdict.NOTHING:
                self.not_made(now, probe)
                return False
            case _ as never:
                assert_never(never)

    def not_made(self, now: float, probe: int) -> None:
        """A request says nothing of the store. If it was the probe, the next request is one."""
        if self._is_under_way(probe):
            self._probe_at = now
            self._move("probe said nothing", BreakerState.OPEN)

    def _is_under_way(self, probe: int) -> bool:
        """One is no probe any more when another request was answered meanwhile."""
        return self.state is BreakerState.PROBING and probe == self._probes

    def _open(self, what: str, now: float) -> None:
        self._probe_at = now + self._seconds
        self._move(what, BreakerState.OPEN)

    def _move(self, what: str, landing: BreakerState) -> None:
        assert landing in BREAKER_TRANSITIONS[self.state, what], (self.state, what, landing)
        self.state = landing
