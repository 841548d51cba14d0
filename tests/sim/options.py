"""From a seed to what is simulated: how large everything is, how fast, and what may go wrong.

Limits are tiny, so that what is rare on a real node is common here. Faults come in *swarms*: each seed leaves
most kinds out and has the others often, since a run in which everything fails at once never gets far enough
to meet two faults that matter together.
"""

from __future__ import annotations

import random
from typing import Final

from attrs import asdict, frozen

from seekfs_core.budget import GetBudget
from seekfs_core.lookup import LOOKS_MAX
from seekfs_core.names import VERSION_MAX
from seekfs_core.namespace_budgets import NamespaceBudget
from seekfs_core.testing import Chance

KIB: Final = 1024
PAGE: Final = 64 * KIB
"""The smallest page that a manifest may have."""

STORE_FAULTS: Final = (
    "busy",
    "too many",
    "error",
    "unreachable",
    "hang",
    "late",
    "trickle",
    "cut short",
    "flipped",
    "overwritten",
    "denied",
    "missing",
    "redirected",
    "changed",
    "bad answer",
    "stale signature",
    "bug",
    "storm",
    "outage",
    "damaged manifest",
    "old head",
    "lost answer",
    "late write",
)
LAXITIES: Final = ("ignores If-None-Match", "ignores If-Match")
"""Conditions that a store may not honour, which is found out before anything is written."""
DISK_FAULTS: Final = (
    "full",
    "unreadable",
    "rotten",
    "slow",
    "hangs",
    "torn",
    "vanished",
    "reboot",
    "starved",
)
CLIENT_FAULTS: Final = ("leaves", "slow client", "wrong names")
PROCESS_FAULTS: Final = (
    "killed",
    "closed",
    "publisher dies",
    "publisher is interrupted",
    "publisher is cut off",
)


@frozen(kw_only=True)
class Options:
    """All that a seed decides before the first event. Lengths are bytes, times seconds."""

    seed: int
    is_calm: bool
    processes: int
    namespaces: int
    files_max: int
    pages_max: int
    reads: int
    readers: int
    pause_seconds: float
    publishers: int
    publications: int
    publication_seconds: float
    """Between one and the next of a publisher."""
    first_version: int
    """The version that the first namespace begins with, since others have published there before."""

    faults: frozenset[str]
    fault_share: float
    store_seconds: float
    store_spread: float
    page_seconds: float
    disk_seconds: float
    kill_seconds: float

    inflight_gets_max: int
    room_bytes_max: int
    coalesce_bytes: int
    page_seconds_max: float
    rate_per_second: float
    burst: int
    attempts_max: int
    backoff_seconds: float
    hedge_samples: int
    breaker_failures: int
    namespace_budgets: tuple[NamespaceBudget, ...]
    l1_bytes_max: int
    has_disk: bool
    segment_pages: int
    segments: int
    entries_max: int
    shelf_manifests: int
    writers: int
    disk_threads: int
    wait_seconds_max: float
    head_ttl_seconds: float
    head_patience_seconds: float
    is_pinned: bool
    looks_max: int

    def text(self) -> str:
        """For people, on one line."""
        values = asdict(self, recurse=False)
        values["faults"] = sorted(self.faults)
        return ", ".join(f"{name}={value}" for name, value in values.items())


def options_of(seed: int) -> Options:
    """What this seed simulates."""
    chance = Chance(random.Random(seed * 2 + 1))
    calm = chance.happens(0.1)
    kinds = (*STORE_FAULTS, *DISK_FAULTS, *CLIENT_FAULTS, *PROCESS_FAULTS)
    share = chance.choice((0.1, 0.25, 0.5))
    faults = frozenset(() if calm else (kind for kind in kinds if chance.happens(share)))
    if not calm and chance.happens(0.04):
        # A refusal that has other reasons looks like a condition that is honoured.
        faults = faults - {"changed", "missing"} | {chance.choice(LAXITIES)}
    publishes_often = not calm and chance.happens(0.12)
    if publishes_often:
        faults |= {"publisher is interrupted", "publisher is cut off"}
    first_version = VERSION_MAX - chance.below(4) if chance.happens(0.06) else 1
    if first_version > 1:
        faults -= {"missing"}  # Who is told that there is no HEAD would begin with version 1, and succeed.
    pages_max = 1 + chance.below(8)
    # One page, or a few: waiting for room is what readers do most.
    room_pages = chance.choice((1, 2, 4, 8, 24))
    namespaces = 1 + chance.below(3)
    has_budgets = not calm and chance.happens(0.25)
    return Options(
        seed=seed,
        is_calm=calm,
        processes=1 + chance.below(3),
        namespaces=namespaces,
        files_max=1 + chance.below(5),
        pages_max=pages_max,
        reads=210 + chance.below(40),
        readers=1 + chance.below(12),
        pause_seconds=chance.choice((0.0, 0.01, 0.2)),
        publishers=1 + chance.below(3),
        publications=20 + chance.below(20) if publishes_often else chance.below(8),
        publication_seconds=0.02 if publishes_often else 0.5,
        first_version=first_version,
        faults=faults,
        fault_share=chance.choice((0.01, 0.05, 0.2)),
        store_seconds=chance.choice((0.001, 0.02, 0.1)),
        store_spread=chance.choice((0.0, 0.3, 1.0)),
        page_seconds=chance.choice((0.0, 0.002, 0.02)),
        disk_seconds=chance.choice((0.0, 0.001, 0.02)),
        kill_seconds=chance.choice((1.0, 5.0)),
        inflight_gets_max=1 + chance.below(8),
        room_bytes_max=room_pages * PAGE + chance.below(PAGE),
        coalesce_bytes=chance.choice((PAGE, 2 * PAGE, 5 * PAGE)),
        page_seconds_max=chance.choice((0.5, 2.0)) if not calm else 1e6,
        rate_per_second=chance.choice((20.0, 200.0, 5000.0)),
        burst=1 + chance.below(20),
        attempts_max=1 + chance.below(4),
        backoff_seconds=chance.choice((0.01, 0.2)),
        hedge_samples=chance.choice((1, 5, 20)),
        breaker_failures=chance.choice((0, 1, 3, 16)),
        namespace_budgets=tuple(_budget(chance, has_budgets) for _ in range(namespaces)),
        l1_bytes_max=chance.choice((0, 1, 3, 10)) * (PAGE + 2 * KIB),
        has_disk=chance.happens(0.8),
        segment_pages=chance.choice((1, 2, 4)),
        segments=2 + chance.below(6),
        entries_max=chance.choice((3, 20, 1000)),
        shelf_manifests=chance.choice((0, 1, 8)),
        writers=1 + chance.below(2),
        disk_threads=1 + chance.below(3),
        wait_seconds_max=1e6 if calm else chance.choice((0.3, 2.0, 20.0)),
        head_ttl_seconds=chance.choice((0.0, 0.2, 2.0)),
        head_patience_seconds=chance.choice((0.05, 1.0)),
        is_pinned=chance.happens(0.2),
        looks_max=LOOKS_MAX if calm else chance.choice((1, 3, LOOKS_MAX)),
    )


def _budget(chance: Chance, has_budgets: bool) -> NamespaceBudget:
    """Of requests, of bytes, of both, or of neither."""
    requests = nbytes = None
    if has_budgets and chance.happens(0.5):
        requests = GetBudget(chance.choice((2.0, 20.0)), 1 + chance.below(5))
    if has_budgets and chance.happens(0.5):
        nbytes = GetBudget(chance.choice((2.0, 50.0)) * PAGE, 1 + chance.below(4 * PAGE))
    return NamespaceBudget(requests=requests, bytes=nbytes)
