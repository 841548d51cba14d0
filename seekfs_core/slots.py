"""An account of the requests to the store: whether one more may start, and how many are under way.

A request starts when the budget, the pace and a free slot allow it, and all three are spent together. A slot
comes back when the request has ended; what was spent of the budget never does.
"""

from __future__ import annotations

from attrs import define, field

from seekfs_core.budget import BudgetState, GetBudget
from seekfs_core.errors import StoreFailure
from seekfs_core.pace import Pace


@define
class RequestSlots:
    """At most ``inflight_max`` requests at once, started within ``budget``, which begins empty."""

    budget: GetBudget
    inflight_max: int
    started_at: float
    in_flight: int = field(default=0, init=False)
    budget_waits: int = field(default=0, init=False)
    """How often something had to begin waiting for the budget or the pace."""
    _state: BudgetState = field(init=False)
    _pace: Pace = field(init=False)
    _waits_until: float = field(default=float("inf"), init=False)
    _was_waited_for: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._state = self.budget.empty(self.started_at)
        self._pace = Pace(self.budget.rate_per_second)

    def rate(self, now: float) -> float:
        """Requests per second that may start now, in the long run."""
        return self._pace.rate(now)

    def begin_round(self) -> None:
        """What may start is looked for from the beginning: who waited asks again."""
        self._was_waited_for, self._waits_until = self._waits_until < float("inf"), float("inf")

    def end_round(self) -> None:
        """What may start has been started."""
        self.budget_waits += self._waits_until < float("inf") and not self._was_waited_for

    def may_start(self, now: float) -> bool:
        """Whether a request may start. Where only time forbids it, it is waited for from here on."""
        if self.in_flight >= self.inflight_max:
            return False
        ready_at = max(self.budget.ready_at(self._state), self._pace.ready_at(now))
        if ready_at > now:
            self._waits_until = ready_at
            return False
        return True

    def start(self, now: float) -> None:
        """A request that may start does."""
        self._state, start_at = self.budget.take(self._state, now)
        assert start_at == now
        self._pace.started(now)
        self.in_flight += 1

    def end(self, now: float, failure: StoreFailure | None = None) -> None:
        """A request has been answered, or has failed with ``failure``."""
        self._pace.answered(failure, now)
        self.give_back()

    def give_back(self) -> None:
        """A request that was to start was not made."""
        self.in_flight -= 1
        assert self.in_flight >= 0

    def next_deadline(self) -> float:
        """When somebody who waits may start; infinite where nobody waits for the time."""
        return self._waits_until
