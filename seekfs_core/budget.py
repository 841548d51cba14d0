"""How many requests a node may start: the generic cell rate algorithm (GCRA).

In any window of ``t`` seconds at most ``rate * t + burst`` requests start. The whole state is
one number, the *theoretical arrival time*: when the next request would be due if requests came
evenly at ``rate``. Functions are pure over that number, so threads or processes can share it
under any lock they like.

A budget starts *empty*, with no burst saved up: a process that was just restarted has no way to
know what its predecessor spent, and this way the bound holds across the restart too. At the
default of 200 per second the burst is back after a tenth of a second.

Bytes are budgeted the same way: then a unit is a byte, and a request takes as many as it asks for. One that
asks for more than the burst may start when the budget is full, and what it took beyond is paid off after it;
a restart forgets that, so that the bound holds over restarts where no request is larger than the burst.

What the budget pays for is every request that reads (``is_charged``). Writes are free: there are few of
them, and none on a training node, which is what ``s3.get_budget_per_sec`` is there for.

Source: ITU-T I.371, annex A (virtual scheduling).
"""

from __future__ import annotations

import enum
from typing import NewType, assert_never

from attrs import field, frozen, validators


class RequestKind(enum.Enum):
    """What a request asks of the store."""

    GET = "the bytes of an object"
    HEAD = "what is known of an object"
    LIST = "a page of a listing"
    WRITE = "to make, join or forget something"


def is_charged(kind: RequestKind) -> bool:
    """Whether the budget pays for such a request, and it waits for its turn."""
    match kind:
        case RequestKind.GET | RequestKind.HEAD | RequestKind.LIST:
            return True
        case RequestKind.WRITE:
            return False
        case _:
            assert_never(kind)


BudgetState = NewType("BudgetState", float)
"""The theoretical arrival time of the next request, in monotonic seconds."""


@frozen
class GetBudget:
    """A rate in units per second and a burst in units (at least 1); a unit is a request, or a byte."""

    rate_per_second: float = field(validator=validators.gt(0))
    burst: int = field(validator=validators.ge(1))

    @property
    def interval_seconds(self) -> float:
        """The time that one unit takes out of the budget."""
        return 1.0 / self.rate_per_second

    def empty(self, now: float) -> BudgetState:
        """A budget whose burst is spent: the next request may start one interval from now."""
        return BudgetState(now + self.burst * self.interval_seconds)

    def ready_at(self, state: BudgetState, count: int = 1, before: int = 0) -> float:
        """When ``count`` units may be taken, after ``before`` others were; in the past if they may be now."""
        return state + (before - (self.burst - min(count, self.burst))) * self.interval_seconds

    def take(self, state: BudgetState, now: float, count: int = 1) -> tuple[BudgetState, float]:
        """Spend ``count`` units: the new state, and the time from which that request may start.

        The time is ``now`` where the budget allows it. A caller that does not want to hold a
        place in line asks ``ready_at`` first.
        """
        start_at = max(now, self.ready_at(state, count))
        return BudgetState(max(state, start_at) + count * self.interval_seconds), start_at
