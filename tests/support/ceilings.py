"""A daemon's ceilings, looked at all the time from outside: of its memory, its disk and its requests to the
store, and what it says itself of the tiers in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import define, field

from tests.support.daemon import Daemon
from tests.support.disk import used_bytes
from tests.support.memory import resident_bytes
from tests.support.metrics import figures
from tests.support.passthrough import PassThrough
from tests.support.processes import tree
from tests.support.sampling import INTERVAL_SECONDS, Sampler

MIB: Final = 1 << 20
GIB: Final = 1 << 30

BESIDE_BYTES: Final = 150 * MIB
"""Of memory that no ceiling is of: the program, a buffer for each thread, manifests."""

L1: Final = "L1"
L2: Final = "L2"
DISK: Final = "disk"
INFLIGHT: Final = "inflight"
MEMORY: Final = "memory"
GETS: Final = "requests to the store at one time"


def is_idle(found: Mapping[str, float]) -> bool:
    """Whether nothing is under way, and nothing held for anybody. This very look is one request."""
    nothing = (
        "seekfs_inflight_bytes",
        "seekfs_store_requests_in_flight",
        "seekfs_store_requests_queued",
        "seekfs_write_behind_bytes",
    )
    return not any(found[name] for name in nothing) and found["seekfs_http_requests_in_flight"] == 1


@define(eq=False)
class Ceilings:
    """Of one daemon, over its restarts. In bytes, but for the last, which is of requests."""

    daemon: Daemon
    store: PassThrough
    limits: dict[str, int] = field(init=False)
    maxima: dict[str, int] = field(init=False)
    exceeded: list[str] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.daemon.settings
        l1, l2, inflight = (
            int(float(str(settings[f"cache.{key}"])) * unit)
            for key, unit in (("l1_memory_gib", GIB), ("l2_ssd_gib", GIB), ("inflight_mib", MIB))
        )
        self.limits = {
            L1: l1,
            L2: l2,
            DISK: l2,
            INFLIGHT: inflight,
            MEMORY: l1 + inflight + BESIDE_BYTES,
            GETS: int(str(settings["s3.max_inflight_gets"])),
        }
        self.maxima = dict.fromkeys(self.limits, 0)

    def sampler(self, interval_seconds: float = INTERVAL_SECONDS) -> Sampler:
        """Of what can be asked of others than the daemon itself; whatever it does at the moment."""
        return Sampler(self._look, interval_seconds)

    def _look(self) -> int:
        pid = self.daemon.running_pid
        pids = [] if pid is None else tree(pid)
        disk = used_bytes(self.daemon.l2, pids) if Path(self.daemon.l2).exists() else 0
        self.note({DISK: disk, MEMORY: 0 if pid is None else resident_bytes(pid)})
        self.note({GETS: self.store.under_way_max})
        return disk

    def ask(self) -> None:
        """What the daemon says."""
        found = figures(self.daemon)
        self.note(
            {
                L1: int(found['seekfs_tier_bytes{tier="l1"}']),
                L2: int(found['seekfs_tier_bytes{tier="l2"}']),
                INFLIGHT: int(found["seekfs_inflight_bytes"]),
            }
        )

    def note(self, found: Mapping[str, int]) -> None:
        for name, value in found.items():
            if value > self.maxima[name]:
                self.maxima[name] = value
                if value > self.limits[name]:
                    self.exceeded.append(f"{name}: {value} of {self.limits[name]}")
