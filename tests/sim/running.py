"""Many seeds, in several processes: what they came to together."""

from __future__ import annotations

import multiprocessing
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from attrs import define, field, frozen

from tests.sim.reach import rows_counted
from tests.sim.world import simulate

CHUNK = 20
"""Seeds that a process simulates between two reports."""


@frozen
class Failure:
    """A seed that did not go well."""

    seed: int
    what: str


@define
class Tally:
    """What some seeds came to."""

    seeds: int = 0
    reads: list[int] = field(factory=list)
    seen: Counter[str] = field(factory=Counter)
    failures: list[Failure] = field(factory=list)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.reads += other.reads
        self.seen += other.seen
        self.failures += other.failures


def _some(seeds: range) -> Tally:
    tally = Tally()
    with rows_counted(tally.seen):
        _simulate(seeds, tally)
    return tally


def _simulate(seeds: range, tally: Tally) -> None:
    """Go on after one that fails."""
    for seed in seeds:
        tally.seeds += 1
        try:
            world = simulate(seed)
        except (Exception, RecursionError):
            tally.failures.append(Failure(seed, traceback.format_exc()))
        else:
            tally.reads.append(world.reads_begun)
            tally.seen += world.seen
            tally.seen += Counter({f"fault: {kind}": count for kind, count in world.store.faults_met.items()})


def tallies(seeds: range, jobs: int) -> Iterator[Tally]:
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        yield from map(_some, chunks)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_some, chunks)
