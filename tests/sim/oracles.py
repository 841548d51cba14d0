"""What must hold at every step, judged by somebody who knows nothing of how the core works.

Each oracle keeps books of its own, from what the store saw, what clients got, and what went in and out of the
machines; none of them looks into a machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, TypeAlias

from attrs import define, field

from seekfs_core.errors import FailureKind
from seekfs_core.fetch_messages import (
    CallFailed,
    DeliverPage,
    DropAhead,
    FailPage,
    FetchLimits,
    GetFailed,
    GetReason,
    PagesWanted,
    ReadLeft,
    StartCall,
    StartGet,
)
from seekfs_core.pages import PageKey, page_key

ROUNDING = 1e-6

REFUSALS = (429, 503)
FINAL = (FailureKind.DENIED, FailureKind.MISSING, FailureKind.REDIRECTED, FailureKind.PRECONDITION)
CALM_SECONDS = 10.0
"""For so long after one of these nothing is asked for twice (docs/SPEC.md, late answers)."""


class Violation(AssertionError):
    """Something that seekfs promises does not hold."""


Seen: TypeAlias = Counter[str]
"""How often each thing happened, by a name for people."""


@define(eq=False)
class Budget:
    """In any window of t seconds at most ``rate`` * t + ``burst`` units.

    For all windows that end now at once: with n units so far, n - rate * t is at most ``burst`` above the
    least that it was before any of them.
    """

    rate: float
    burst: float
    what: str
    taken: float = 0.0
    lowest: float = float("inf")
    is_overdrawn: bool = False
    """Whether a request ever took more than the burst."""

    def spend(self, now: float, units: float = 1.0) -> None:
        """So many are taken now. What one request takes beyond the burst is paid for after it."""
        self.lowest = min(self.lowest, self.taken - self.rate * now)
        self.taken += min(units, self.burst)
        if self.taken - self.rate * now > self.lowest + self.burst + ROUNDING * max(1.0, self.burst):
            raise Violation(f"{self.what} was spent faster than {self.rate:g} a second and {self.burst:g}")
        self.taken += units - min(units, self.burst)
        self.is_overdrawn |= units > self.burst


@define(eq=False)
class ProcessOracle:
    """The promises of one process: what it asks of the store, and what its readers hear."""

    name: str
    limits: FetchLimits
    rate: float
    burst: int
    in_flight: dict[int, tuple[str, int, int, int | None]] = field(factory=dict)
    overtaken: set[int] = field(factory=set)
    """Those of ``in_flight`` that lost against their hedges, or were hedges that lost, and are broken off."""
    calls_in_flight: int = 0
    asked: int = 0
    """Requests that read, as the store counted them."""
    wanted: dict[PageKey, set[int]] = field(factory=dict)
    wanted_by: defaultdict[int, set[PageKey]] = field(factory=lambda: defaultdict(set))
    answered_for_good: set[tuple[type, int]] = field(factory=set)
    """Requests that got an answer which another try would not change."""
    refused_at: float = float("-inf")
    """When the store last answered that it is asked too often."""
    node: Budget = field(init=False)
    requests_of: dict[str, Budget] = field(factory=dict)
    bytes_of: dict[str, Budget] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.node = Budget(self.rate, self.burst, f"the budget of {self.name}")
        for ns, budget in self.limits.namespaces.items():
            if (each := budget.requests) is not None:
                self.requests_of[ns] = Budget(each.rate_per_second, each.burst, f"the requests of {ns!r}")
            if (each := budget.bytes) is not None:
                self.bytes_of[ns] = Budget(each.rate_per_second, each.burst, f"the bytes of {ns!r}")

    def go_on_after(self, other: ProcessOracle) -> None:
        """Of a process in the place of another one: a restart is no reason to ask the store for more.

        What one GET took beyond its burst is forgotten with who took it. The burst that a daemon gives to a
        namespace is never less than a GET, so that only embedders come to that.
        """
        self.node, self.requests_of = other.node, other.requests_of
        self.bytes_of |= {ns: account for ns, account in other.bytes_of.items() if not account.is_overdrawn}

    # --- what the store sees ----------------------------------------------------------------

    def request_began(self, now: float, ns: str, wire: tuple[int, str, int, int, int | None] | None) -> None:
        """A request that reads has come: a call, or GET ``number`` of bytes [start, stop) of an object."""
        self.asked += 1
        self.node.spend(now)
        if ns in self.requests_of:
            self.requests_of[ns].spend(now)
        if wire is None:
            self.calls_in_flight += 1
        else:
            number, key, start, stop, hedge_of = wire
            if ns in self.bytes_of:
                self.bytes_of[ns].spend(now, stop - start)
            same = [
                (other, partner)
                for other, (other_key, begin, end, partner) in self.in_flight.items()
                if other_key == key and max(begin, start) < min(end, stop) and other not in self.overtaken
            ]
            if any(
                hedge_of != other and (hedge_of is None or partner != hedge_of) for other, partner in same
            ):
                raise Violation(f"bytes {start} to {stop} of {key} are on the wire twice, and no hedge")
            if len(same) > 1:
                raise Violation(f"a third GET of bytes {start} to {stop} of {key}")
            self.in_flight[number] = (key, start, stop, hedge_of)
        if len(self.in_flight) + self.calls_in_flight > self.limits.inflight_gets_max:
            raise Violation(f"{self.name} has more requests in flight than {self.limits.inflight_gets_max}")

    def request_ended(self, number: int | None) -> None:
        if number is None:
            self.calls_in_flight -= 1
        else:
            del self.in_flight[number]
            self.overtaken.discard(number)

    def page_came(self, number: int, stop: int) -> None:
        """All bytes of this GET before ``stop`` have come: they are not on the wire any more."""
        key, _, end, hedge_of = self.in_flight[number]
        self.in_flight[number] = (key, stop, end, hedge_of)

    def overtook(self, number: int) -> None:
        """This GET is broken off, because another one for the same was answered first."""
        self.overtaken.add(number)

    # --- what readers want and hear ---------------------------------------------------------

    def fed(self, event: Any, actions: tuple[Any, ...], now: float) -> None:
        """The scheduler was told something, and has answered."""
        kind = event.__class__
        if kind is GetFailed or kind is CallFailed:
            if event.failure.status in REFUSALS:
                self.refused_at = now
            if event.failure.kind in FINAL:
                self.answered_for_good.add((kind, event.get if kind is GetFailed else event.call))
        self._check_turns(actions, now)
        if kind is PagesWanted:
            for page_id in event.pages:
                key = page_key(event.source.key, page_id)
                self.wanted.setdefault(key, set()).add(event.read)
                self.wanted_by[event.read].add(key)
        elif kind is ReadLeft:
            self._forget(event.read, self.wanted_by.pop(event.read, ()))
        for action in actions:
            kind = action.__class__
            if kind is StartGet:
                self._started(action)
            elif kind is DeliverPage:
                self._ended(action, self.wanted.get(page_key(action.source.key, action.page_id), set()))
            elif kind is FailPage:
                self._failed(action)
            elif kind is DropAhead:
                if not self.wanted_by[action.read].issuperset(action.lost):
                    raise Violation("a reader loses what it did not want")
                self._forget(action.read, action.lost)

    def _check_turns(self, actions: tuple[Any, ...], now: float) -> None:
        """Whatever starts at one moment starts in the order of its turn: what may start last might have
        started first. And nothing is asked for twice of a store that refuses requests."""
        started: list[StartGet] = []
        for action in actions:
            kind = action.__class__
            if kind is StartCall:
                if (CallFailed, action.call) in self.answered_for_good:
                    raise Violation(f"call {action.call} is made again, and its answer will be the same")
                if started:
                    raise Violation(f"call {action.call} starts after GET {started[0].get}")
            elif kind is DropAhead:
                started.clear()  # What is left of others may be shorter, and fit now.
            elif kind is StartGet and action.reason is GetReason.HEDGE:
                if now < self.refused_at + CALM_SECONDS:
                    raise Violation(
                        f"GET {action.get} is a hedge, {now - self.refused_at:g} s after a refusal"
                    )
            elif kind is StartGet:
                if (GetFailed, action.get) in self.answered_for_good:
                    raise Violation(f"GET {action.get} is made again, and its answer will be the same")
                if action.reason is GetReason.NEEDED and any(
                    each.reason is GetReason.AHEAD and each.source.ns == action.source.ns for each in started
                ):
                    raise Violation(f"GET {action.get} is needed, and starts after what is read ahead")
                started.append(action)

    def _forget(self, read: int, keys: Any) -> None:
        for key in list(keys):
            self.wanted_by[read].discard(key)
            readers = self.wanted[key]
            readers.discard(read)
            if not readers:
                del self.wanted[key]
        if not self.wanted_by[read]:
            del self.wanted_by[read]

    def _started(self, get: StartGet) -> None:
        pages = [page_key(get.source.key, page_id) for page_id in range(get.page_start, get.page_stop)]
        are_wanted = [key in self.wanted for key in pages]
        if not (any(are_wanted) if get.reason is GetReason.HEDGE else all(are_wanted)):
            raise Violation(f"GET {get.get} is made for what nobody wants")

    def _failed(self, action: FailPage) -> None:
        key = page_key(action.source.key, action.page_id)
        # A refusal is of one reader, or of all that wait.
        is_of_one = action.failure.kind in (FailureKind.OVER_BUDGET, FailureKind.BREAKER_OPEN)
        all_readers = self.wanted.get(key, set())
        self._ended(action, set(action.reads) if is_of_one else all_readers)

    def _ended(self, action: DeliverPage | FailPage, expected: set[int]) -> None:
        key = page_key(action.source.key, action.page_id)
        if set(action.reads) != expected or len(set(action.reads)) != len(action.reads):
            raise Violation(
                f"{action.reads} hear of page {action.page_id}, which {sorted(expected)} wait for"
            )
        for read in action.reads:
            if read not in self.wanted.get(key, ()):
                raise Violation(f"read {read} hears twice of page {action.page_id}")
            self._forget(read, (key,))
