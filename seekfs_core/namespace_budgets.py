"""What each namespace may take of a node's budget: requests a second, and bytes a second.

A namespace without a budget of its own takes what it gets of the node's. One with a budget has both to wait
for; it holds nobody else up while it waits. Every request that is charged to the node
(``seekfs_core.budget``) is charged to its namespace too, retries, hedges and manifests included; of bytes,
those that a GET asks for.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field, frozen

from seekfs_core.budget import BudgetState, GetBudget
from seekfs_core.errors import FailureKind, StoreFailure


@frozen(kw_only=True)
class NamespaceBudget:
    """The bounds of one namespace; None where it has none."""

    requests: GetBudget | None = None
    bytes: GetBudget | None = None


def over_budget(ns: str, ready_at: float, now: float) -> StoreFailure:
    """What a read is told whose turn would come after its deadline."""
    return StoreFailure(
        kind=FailureKind.OVER_BUDGET,
        detail=(
            f"the budget of namespace {ns!r} (s3.namespace_budgets) is spent for longer than this read may "
            f"wait: its turn would come in {ready_at - now:.1f} s"
        ),
        retry_after_seconds=ready_at - now,
        facts={"ns": ns},
    )


@define
class NamespaceAccounts:
    """What every namespace with a budget has spent. Budgets begin empty, as the node's does."""

    budgets: Mapping[str, NamespaceBudget]
    started_at: float
    _requests: dict[str, BudgetState] = field(factory=dict, init=False)
    _bytes: dict[str, BudgetState] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        for ns, budget in self.budgets.items():
            if budget.requests is not None:
                self._requests[ns] = budget.requests.empty(self.started_at)
            if budget.bytes is not None:
                self._bytes[ns] = budget.bytes.empty(self.started_at)

    def has_budget(self, ns: str | None) -> bool:
        """Whether this namespace has bounds of its own."""
        return ns in self.budgets

    def ready_at(
        self, ns: str | None, nbytes: int, *, requests_before: int = 0, bytes_before: int = 0
    ) -> float:
        """When a request for ``nbytes`` may start as far as its namespace is concerned, after as many others
        of it; minus infinity where the namespace has no bounds."""
        budget = self.budgets.get(ns) if ns is not None else None
        if budget is None or ns is None:
            return float("-inf")
        ready_at = float("-inf")
        if budget.requests is not None:
            ready_at = budget.requests.ready_at(self._requests[ns], before=requests_before)
        if budget.bytes is not None and nbytes:
            ready_at = max(ready_at, budget.bytes.ready_at(self._bytes[ns], nbytes, bytes_before))
        return ready_at

    def spend(self, ns: str | None, nbytes: int, now: float) -> None:
        """A request for ``nbytes`` starts that may."""
        budget = self.budgets.get(ns) if ns is not None else None
        if budget is None or ns is None:
            return
        if budget.requests is not None:
            self._requests[ns], start_at = budget.requests.take(self._requests[ns], now)
            assert start_at == now
        if budget.bytes is not None and nbytes:
            self._bytes[ns], start_at = budget.bytes.take(self._bytes[ns], now, nbytes)
            assert start_at == now
