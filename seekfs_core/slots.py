"""An account of the requests to the store: whether one more may start, and how many are under way.

A request starts when the budget, its namespace's, the pace, the breaker and a free slot allow it, and all are
spent together. A slot comes back when the request has ended; what was spent of a budget never does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from attrs import define, field

from seekfs_core.breaker import Breaker, BreakerPolicy, BreakerState
from seekfs_core.budget import BudgetState, GetBudget
from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.namespace_budgets import NamespaceAccounts, NamespaceBudget
from seekfs_core.pace import Pace


@define
class RequestSlots:
    """At most ``inflight_max`` requests at once, started within ``budget``, which begins empty."""

    budget: GetBudget
    inflight_max: int
    breaker_policy: BreakerPolicy
    namespace_budgets: Mapping[str, NamespaceBudget]
    started_at: float
    in_flight: int = field(default=0, init=False)
    budget_waits: int = field(default=0, init=False)
    """How often something had to begin waiting for a budget, the pace or the breaker."""
    outcomes: Counter[str] = field(factory=Counter, init=False)
    """How the requests ended: ``ok``, or with which kind of failure."""
    breaker: Breaker = field(init=False)
    namespaces: NamespaceAccounts = field(init=False)
    _state: BudgetState = field(init=False)
    _pace: Pace = field(init=False)
    _waits_until: float = field(default=float("inf"), init=False)
    _was_waited_for: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._state = self.budget.empty(self.started_at)
        self._pace = Pace(self.budget.rate_per_second)
        self.breaker = Breaker(self.breaker_policy)
        self.namespaces = NamespaceAccounts(self.namespace_budgets, self.started_at)

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
        """Whether a request may start, as far as the node is concerned. Where only time forbids it, it is
        waited for from here on."""
        if self.in_flight >= self.inflight_max:
            return False
        ready_at = max(self.budget.ready_at(self._state), self._pace.ready_at(now), self.breaker.ready_at())
        return self._is_due(ready_at, now)

    def namespace_may(self, ns: str | None, nbytes: int, now: float) -> bool:
        """Whether a request for ``nbytes`` may start, as far as its namespace is concerned. Where that
        forbids it, its time is waited for from here on."""
        return self._is_due(self.namespaces.ready_at(ns, nbytes), now)

    def may_hedge(self, ns: str, nbytes: int, now: float) -> bool:
        """Whether a request may start that nobody would miss: nobody waits for it, then."""
        if self.in_flight >= self.inflight_max or self._waits_until < float("inf"):
            return False
        ready_at = max(self.budget.ready_at(self._state), self.namespaces.ready_at(ns, nbytes))
        is_well = self.breaker.state is BreakerState.CLOSED and not self._pace.is_in_trouble(now)
        return is_well and ready_at <= now

    def start(self, ns: str | None, nbytes: int, now: float) -> int:
        """A request that may start does; as which probe of the breaker, or 0."""
        self._state, start_at = self.budget.take(self._state, now)
        assert start_at == now
        self.namespaces.spend(ns, nbytes, now)
        self._pace.started(now)
        self.in_flight += 1
        return self.breaker.started()

    def end(self, now: float, failure: StoreFailure | None = None, *, probe: int) -> bool:
        """A request has been answered, or has failed with ``failure``; whether the store turns out to be
        down, and everybody who waits is to be told."""
        self.outcomes["ok" if failure is None else failure.kind.value] += 1
        if failure is None or failure.kind is not FailureKind.OVERTAKEN:
            self._pace.answered(failure, now)
        self._free()
        return self.breaker.ended(failure, now, probe)

    def give_back(self, now: float, *, probe: int) -> None:
        """A request that was to start was not made."""
        self._free()
        self.breaker.not_made(now, probe)

    def next_deadline(self) -> float:
        """When somebody who waits may start; infinite where nobody waits for the time."""
        return self._waits_until

    def _is_due(self, ready_at: float, now: float) -> bool:
        if ready_at > now:
            self._waits_until = min(self._waits_until, ready_at)
        return ready_at <= now

    def _free(self) -> None:
        self.in_flight -= 1
        assert self.in_flight >= 0
