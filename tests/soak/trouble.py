"""A store that is in trouble now and then: a fault of the table for some requests, for a moment; and storms,
in which it wants to be asked less by everybody.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from attrs import define, field

from tests.support.exchanges import Exchange, Plan
from tests.support.hostile_store import FAULTS
from tests.support.passthrough import PassThrough

PAUSE_SECONDS: Final = (0.1, 1.5)
FAULT_SECONDS: Final = (0.2, 2.5)
FAULT_REQUESTS: Final = (1, 2, 3, 8)
STORM_EVERY: Final = 12
"""One trouble of so many is a storm."""

STORM_SECONDS: Final = (2.0, 6.0)
STORM: Final = "a storm of 503"

MISSING: Final = frozenset({"no-such-key", "no-such-bucket"})
"""The faults that make something of what there is look as if it were not."""

_KINDS: Final[dict[str, Callable[[Exchange], bool]]] = {
    "anything": lambda exchange: exchange.method == "GET",
    "pages": lambda exchange: exchange.range is not None,
    "HEAD": lambda exchange: exchange.key.endswith("/HEAD"),
    "manifests": lambda exchange: "/manifests/" in exchange.key,
}


@define(eq=False)
class Trouble:
    """Of one pass-through. ``injected`` counts the requests that were given each fault."""

    store: PassThrough
    seed: int
    injected: Counter[str] = field(factory=Counter)
    says_missing: bool = False
    """Whether one of ``MISSING`` was among them, or is to be."""
    requests: int = 0
    started: list[float] = field(factory=list)
    """When each request came, in the order of their coming."""
    _names: dict[int, str] = field(factory=dict)
    _plans: list[Plan] = field(factory=list)

    def until(self, stop: threading.Event) -> None:
        chance = random.Random(self.seed)
        while not stop.wait(chance.uniform(*PAUSE_SECONDS)):
            if chance.randrange(STORM_EVERY) == 0:
                self._give(
                    STORM, FAULTS["slow-down"].plan(), lambda _: True, None, chance, STORM_SECONDS, stop
                )
                continue
            name = chance.choice(sorted(FAULTS))
            plan = FAULTS[name].plan(at=chance.choice((0, 3, 1000, 100_000)))
            kind = _KINDS[chance.choice(sorted(_KINDS))]
            self._give(name, plan, kind, chance.choice(FAULT_REQUESTS), chance, FAULT_SECONDS, stop)

    def _give(
        self,
        name: str,
        plan: Plan,
        matches: Callable[[Exchange], bool],
        times: int | None,
        chance: random.Random,
        seconds: tuple[float, float],
        stop: threading.Event,
    ) -> None:
        self.says_missing |= name in MISSING
        self._names[id(plan)] = name
        self._plans.append(plan)  # Whose id would be another's otherwise.
        rule = self.store.when(matches, plan, times)
        stop.wait(chance.uniform(*seconds))
        self.store.lift(rule)
        # Clients have given up what is held: nothing waits for this any more.
        for event in (plan.hold_head, *(event for _, event in plan.hold_body)):
            if event is not None:
                event.set()

    def take_stock(self) -> None:
        """Count what has passed since the last time."""
        for exchange in self.store.take_exchanges():
            self.requests += 1
            self.started.append(exchange.started)
            if exchange.plan is not None:
                self.injected[self._names[id(exchange.plan)]] += 1
