"""An account of the requests to the store: whether one more may start, and how many are under way.

Budget and slots are spent together, when a request starts. A slot comes back when the request has ended;
what was spent of the budget never does.
"""

from __future__ import annotations

from attrs import define, field

from seekfs_core.budget import BudgetState, GetBudget


@define
class RequestSlots:
    """At most ``inflight_max`` requests at once, started within ``budget``, which begins empty."""

    budget: GetBudget
    inflight_max: int
    started_at: float
    in_flight: int = field(default=0, init=False)
    budget_waits: int = field(default=0, init=False)
    """How often something had to begin waiting for the budget."""
    _state: BudgetState = field(init=False)
    _is_waited_for: bool = field(default=False, init=False)
    _was_waited_for: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._state = self.budget.empty(self.started_at)

    def begin_round(self) -> None:
        """What may start is looked for from the beginning: who waited for the budget asks again."""
        self._was_waited_for, self._is_waited_for = self._is_waited_for, False

    def end_round(self) -> None:
        """What may start has been started."""
        self.budget_waits += self._is_waited_for and not self._was_waited_for

    def may_start(self, now: float) -> bool:
        """Whether a request may start. Where only the budget forbids it, it is waited for from here on."""
        if self.in_flight >= self.inflight_max:
            return False
        if self.budget.ready_at(self._state) > now:
            self._is_waited_for = True
            return False
        return True

    def start(self, now: float) -> None:
        """A request that may start does."""
        self._state, start_at = self.budget.take(self._state, now)
        assert start_at == now
        self.in_flight += 1

    def end(self) -> None:
        """A request has ended, however."""
        self.in_flight -= 1
        assert self.in_flight >= 0

    def next_deadline(self) -> float:
        """When the budget lets somebody start who waits for it; infinite where nobody does."""
        return self.budget.ready_at(self._state) if self._is_waited_for else float("inf")
