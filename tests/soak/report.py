"""What came of a soak: a line while it goes on, a table at its end, and all that was not as it has to be."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable
from typing import Final, TypeVar

from attrs import define

from seekfs_core.disk_watch import LOADERS, READERS
from tests.soak.nodes import BURST, RATE, Fate, Node, Vitals
from tests.soak.trouble import STORM
from tests.soak.world import FIRST_WHOLE, World
from tests.support.budget import LATE_SECONDS, excess
from tests.support.ceilings import GETS
from tests.support.dataset import MIB
from tests.support.readers import Outcome

CountedT = TypeVar("CountedT")

REQUEST_SECONDS_MAX: Final = 60.0
"""Three times ``api.request_deadline_sec``, which bounds each wait of a request, not all of them."""

DESCRIPTORS_BESIDE: Final = 160
"""What a daemon may have open at its end beside what it had at its beginning: a connection to the store for
each GET, and the segments of a ceiling, each of which may stay open."""

THREADS_BESIDE: Final = 32 + READERS + LOADERS
"""Likewise: a thread for each request that is answered, each page that is written, each read of the disk, and
each GET."""


@define
class Report:
    """Of a soak that is over, or goes on."""

    world: World
    nodes: list[Node]
    seconds: float
    seed: int

    def progress(self) -> str:
        """One line."""
        outcomes = self._outcomes()
        return (
            f"{self.seconds:5.0f} s: {sum(outcomes.values())} reads, "
            f"{sum(node.tally.bytes_compared for node in self.nodes) / MIB:.0f} MiB compared, "
            f"{outcomes[Outcome.WRONG]} wrong, {self._refusals().total()} refused, "
            f"version {self.world.published}, {self._injected().total()} faults, "
            f"{self._node(Fate.KILLED).ends} kills, {self._node(Fate.STOPPED).ends} restarts"
        )

    def problems(self) -> list[str]:
        """A sentence for each thing that may not be; none where all is well."""
        found = []
        for node in self.nodes:
            found += node.problems
            found += [f"{node.name}: a wrong answer: {text}" for text in node.tally.wrong]
            found += [f"{node.name}: over its ceiling: {text}" for text in node.ceilings.exceeded]
            if node.tally.longest_seconds > REQUEST_SECONDS_MAX:
                found.append(
                    f"{node.name}: a request took {node.tally.longest_seconds:.0f} s: {node.tally.longest}"
                )
            over = excess(node.trouble.started, RATE) - BURST - RATE * LATE_SECONDS
            # A daemon's budget begins empty with each life, so all of its lives are within one.
            if over > 0:
                found.append(f"{node.name}: {over:.0f} requests to the store beyond the budget")
            found += self._leaks(node)
        steady = self._node(Fate.STEADY).tally.outcomes
        if steady[Outcome.UNREACHABLE]:
            found.append(f"steady: {steady[Outcome.UNREACHABLE]} requests found nobody there")
        return found

    def _leaks(self, node: Node) -> Iterable[str]:
        if node.begun is None or node.ended is None:
            return
        gets = node.ceilings.limits[GETS]
        if node.ended.descriptors > node.begun.descriptors + gets + DESCRIPTORS_BESIDE:
            was = node.begun.descriptors
            yield f"{node.name}: {node.ended.descriptors} descriptors at the end, {was} before"
        if node.ended.threads > node.begun.threads + gets + THREADS_BESIDE:
            yield f"{node.name}: {node.ended.threads} threads at the end, {node.begun.threads} before"

    def markdown(self) -> str:
        """The result, as ``docs/RELIABILITY.md`` has it."""
        outcomes = self._outcomes()
        rows = [
            ("reads", f"{sum(outcomes.values()):,}"),
            ("bytes compared", f"{sum(node.tally.bytes_compared for node in self.nodes):,}"),
            ("wrong answers", str(outcomes[Outcome.WRONG])),
            ("whole answers", f"{outcomes[Outcome.WHOLE]:,}"),
            ("answers that said they may be stale", f"{self._stale():,}"),
            ("refused", _counts(self._refusals())),
            ("items refused in frames", _counts(self._items())),
            ("broke off after good bytes", f"{outcomes[Outcome.CUT]:,}"),
            ("found nobody (killed or stopped)", f"{outcomes[Outcome.UNREACHABLE]:,}"),
            ("left by their clients", f"{outcomes[Outcome.LEFT]:,}"),
            ("longest request of a client that is not slow", f"{self._longest():.1f} s"),
            ("kills (SIGKILL) and restarts", str(self._node(Fate.KILLED).ends)),
            ("stops (SIGTERM) under load and restarts", str(self._node(Fate.STOPPED).ends)),
            ("versions published meanwhile", str(self.world.published - FIRST_WHOLE)),
            ("requests to the store", f"{sum(node.trouble.requests for node in self.nodes):,}"),
            ("of these met a fault", f"{self._injected().total():,}"),
            ("kinds of faults", _counts(self._injected())),
        ]
        lines = [
            self._setting(),
            "",
            "| what | how much |",
            "|---|---|",
            *(f"| {what} | {much} |" for what, much in rows),
            "",
            "| ceiling | " + " | ".join(node.name for node in self.nodes) + " |",
            "|---|" + "---|" * len(self.nodes),
            *self._ceilings(),
            "",
            "| daemon | descriptors | threads | memory |",
            "|---|---|---|---|",
            *(line for node in self.nodes for line in _vitals(node)),
        ]
        return "\n".join(lines) + "\n"

    def _setting(self) -> str:
        python = platform.python_version()
        return f"{self.seconds / 60:.1f} minutes, seed {self.seed}, {os.cpu_count()} cores, Python {python}."

    def _ceilings(self) -> Iterable[str]:
        for name in self.nodes[0].ceilings.limits:
            cells = []
            for node in self.nodes:
                most, limit = node.ceilings.maxima[name], node.ceilings.limits[name]
                cells.append(
                    f"{most} of {limit}" if name == GETS else f"{most / MIB:.1f} of {limit / MIB:.1f} MiB"
                )
            yield f"| {name}, at most | " + " | ".join(cells) + " |"

    def _node(self, fate: Fate) -> Node:
        (node,) = [node for node in self.nodes if node.fate is fate]
        return node

    def _outcomes(self) -> Counter[Outcome]:
        return _sum(node.tally.outcomes for node in self.nodes)

    def _refusals(self) -> Counter[int]:
        return _sum(node.tally.refusals for node in self.nodes)

    def _items(self) -> Counter[int]:
        return _sum(node.tally.item_refusals for node in self.nodes)

    def _injected(self) -> Counter[str]:
        return _sum(node.trouble.injected for node in self.nodes)

    def _stale(self) -> int:
        return sum(node.tally.stale for node in self.nodes)

    def _longest(self) -> float:
        return max(node.tally.longest_seconds for node in self.nodes)


def _sum(counters: Iterable[Counter[CountedT]]) -> Counter[CountedT]:
    total: Counter[CountedT] = Counter()
    for each in counters:
        total.update(each)
    return total


def _counts(counter: Counter[int] | Counter[str]) -> str:
    pairs = sorted(counter.items(), key=lambda pair: (pair[0] == STORM, str(pair[0])))
    return ", ".join(f"{name}: {count:,}" for name, count in pairs) or "none"


def _vitals(node: Node) -> Iterable[str]:
    def row(when: str, vitals: Vitals | None) -> str:
        if vitals is None:
            return f"| {node.name}, {when} | | | |"
        return (
            f"| {node.name}, {when} | {vitals.descriptors} | {vitals.threads} | "
            f"{vitals.resident_bytes / MIB:.0f} MiB |"
        )

    yield row("first ready", node.begun)
    yield row("at most", node.most)
    yield row("idle in the end", node.ended)
