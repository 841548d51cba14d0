"""One process of seekfs: its machines and their drivers, alive until it is killed or has closed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from seekfs_core.breaker import BreakerPolicy
from seekfs_core.budget import GetBudget
from seekfs_core.fetch import FetchScheduler
from seekfs_core.fetch_messages import FetchLimits
from seekfs_core.hedge import HedgePolicy
from seekfs_core.machine import Tick
from seekfs_core.resolver import ManifestResolver
from seekfs_core.retry import RetryPolicy
from seekfs_core.segments import SegmentLog
from seekfs_core.writebehind import WriteBehind
from tests.sim.diskcalls import SimDiskCalls
from tests.sim.fetching import SimFetcher
from tests.sim.memory import SimRam
from tests.sim.options import Options
from tests.sim.oracles import ProcessOracle, Violation
from tests.sim.resolving import SimResolving, shelf_of
from tests.sim.tasks import Life, Steps
from tests.sim.tier import SimTier

if TYPE_CHECKING:
    from tests.sim.world import World

DISK_SECONDS_MAX = 1.0
CLOSE_SECONDS = 2.0


def limits_of(options: Options) -> FetchLimits:
    """The ceilings of a process."""
    budgets = enumerate(options.namespace_budgets)
    return FetchLimits(
        inflight_gets_max=options.inflight_gets_max,
        room_bytes_max=options.room_bytes_max,
        coalesce_bytes=options.coalesce_bytes,
        page_seconds_max=options.page_seconds_max,
        hedge=HedgePolicy(samples_min=options.hedge_samples, seconds_min=0.0),
        breaker=BreakerPolicy(
            failures_max=options.breaker_failures, probe_seconds_initial=0.2, probe_seconds_max=2.0
        ),
        namespaces={f"ns{index}": budget for index, budget in budgets if budget.requests or budget.bytes},
    )


@frozen
class Head:
    """What HEAD said, and when."""

    version: int
    at: float


@define(eq=False)
class Told:
    """What the store has told a process, for whoever judges what it makes of that."""

    heads: dict[str, Head] = field(factory=dict)
    """The last that came of each namespace."""
    manifests: dict[tuple[str, int], float] = field(factory=dict)
    """When each manifest first came whole, by namespace and version."""


@define(eq=False)
class Process:
    """See the module's text. Where its directory is locked by another one it does without the disk."""

    world: World
    name: str
    life: Life = field(factory=Life)
    is_closing: bool = False
    reads_open: int = 0
    told: Told = field(factory=Told)
    found_heads: dict[str, int] = field(factory=dict)
    """The versions that an earlier process had remembered on the disk."""
    has_disk: bool = field(init=False)
    limits: FetchLimits = field(init=False)
    oracle: ProcessOracle = field(init=False)
    ram: SimRam = field(init=False)
    fetcher: SimFetcher = field(init=False)
    tier: SimTier | None = field(default=None, init=False)
    resolving: SimResolving = field(init=False)

    def __attrs_post_init__(self) -> None:
        world, options = self.world, self.world.options
        self.limits = limits_of(options)
        self.oracle = ProcessOracle(self.name, self.limits, options.rate_per_second, options.burst)
        self.ram = SimRam(
            options.l1_bytes_max,
            options.room_bytes_max,
            lambda: world.clock.now,
            self.later,
            lambda policy: self.watch("l1", policy),
        )
        scheduler = FetchScheduler(
            self.limits,
            GetBudget(options.rate_per_second, options.burst),
            RetryPolicy(
                attempts_max=options.attempts_max,
                backoff_seconds_initial=options.backoff_seconds,
                backoff_seconds_max=2.0,
            ),
            random.Random(world.chance.below(1 << 30)),
            world.clock.now,
        )
        self.fetcher = SimFetcher(self, scheduler, WriteBehind(options.writers, stall_seconds=1.0))
        self.has_disk = options.has_disk and world.disk.owner is None
        if self.has_disk:
            self.found_heads = dict(world.disk.heads)
            world.disk.owner = self.life
            calls = SimDiskCalls(self, DISK_SECONDS_MAX, options.disk_threads)
            self.tier = SimTier(self, calls, SegmentLog(world.disk.shares))
            self.tier.restore()
        pins = {"ns0": world.truth.first("ns0")} if options.is_pinned else {}
        shelf = shelf_of(
            self, has_disk=self.has_disk, pins=pins, ceiling_bytes=options.shelf_manifests * 2000
        )
        self.resolving = SimResolving(
            self, ManifestResolver(options.head_ttl_seconds, pins, options.head_patience_seconds), shelf
        )

    # --- what its parts use -----------------------------------------------------------------

    def watch(self, name: str, machine: Any) -> Callable[[Any, float], Any]:
        """What to call in place of the machine's ``feed``."""
        return self.world.watch(f"{self.name}, {name}", machine)

    def spawn(self, steps: Steps) -> None:
        self.world.tasks.spawn(self.life, steps)

    def soon(self, do: Callable[[], object], seconds: float = 0.0) -> None:
        """Have something done by another thread of this process."""
        self.world.tasks.soon(lambda: do() if self.life.is_alive else None, seconds)

    def later(self, do: Callable[[], object], seconds: float) -> None:
        self.soon(do, seconds)

    # --- the end ----------------------------------------------------------------------------

    def kill(self) -> None:
        """Nothing of it happens any more, whatever it was at."""
        self.life.is_alive = False
        self.world.disk.killed(self.life)

    def close(self) -> None:
        """Stop in order: who waits is answered, what is being written has a while."""
        self.is_closing = True
        self.resolving.close()
        self.fetcher.close(CLOSE_SECONDS)
        self.spawn(self._end())

    def _end(self) -> Steps:
        for _ in range(1000):
            if not self.reads_open and self.fetcher.write_behind.is_flushed:
                break
            yield 0.1
        else:
            raise Violation(f"{self.name} does not come to its end: {self.reads_open} reads are open")
        yield 0.1
        self.check_idle()
        if self.tier is not None:
            self.tier.close()
        self.life.is_alive = False
        self.world.disk.let_go(self.life)

    def check_idle(self) -> None:
        """Nobody reads: nothing is in flight or wanted, and all memory has come back but what L1 keeps."""
        statistics = self.fetcher.scheduler.statistics()
        if statistics.in_flight or statistics.queued or self.oracle.wanted:
            raise Violation(f"{self.name} is at something for nobody: {statistics}")
        being_written = sum(buffer.length for buffer in self.fetcher.to_write.values() if not buffer.in_l1)
        room = sum(buffer.length for buffer in self.ram.live.values() if not buffer.in_l1)
        if room != being_written or statistics.room_bytes_used != being_written:
            raise Violation(
                f"{self.name} holds {room} bytes of room, {statistics.room_bytes_used} in the books"
            )
        made = statistics.gets_started + statistics.calls_started
        if made != self.oracle.asked:
            raise Violation(f"{self.name} says {made} requests, and the store counted {self.oracle.asked}")

    def check_well(self) -> None:
        """All has been well for long: the store is asked as often as ever, and the disk tried again."""
        # Which the scheduler notices when it is asked, and nobody asks it for nothing.
        self.fetcher.tell(Tick())
        rate = self.fetcher.scheduler.statistics().rate_per_second
        if rate < self.world.options.rate_per_second:
            raise Violation(f"{self.name} asks a store that is well {rate:g} times a second")
        if self.tier is not None:
            for switch in (self.tier.calls.reading, self.tier.calls.writing):
                if not switch.would_let_through():
                    raise Violation(f"{switch.name} is never tried again: {switch.health}")
