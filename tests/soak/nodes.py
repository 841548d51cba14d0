"""The daemons of a soak: what each one's fate is, what is measured of its lives, and what must hold of the
directory that a life leaves.
"""

from __future__ import annotations

import enum
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from seekfs_io.config import S3Config
from tests.soak.trouble import Trouble
from tests.support.cache_audit import audit
from tests.support.ceilings import Ceilings, is_idle
from tests.support.daemon import Daemon, s3_settings
from tests.support.memory import resident_bytes
from tests.support.metrics import figures
from tests.support.passthrough import PassThrough
from tests.support.readers import Refusal, Request, Tally
from tests.support.waiting import wait_until

RATE: Final = 150
BURST: Final = 40
REFUSED_WITH: Final = frozenset({502, 503, 504})
"""What a store in trouble may come to."""


class Fate(enum.Enum):
    STEADY = "lives from the beginning to the end"
    KILLED = "is killed (SIGKILL), again and again"
    STOPPED = "is stopped (SIGTERM) under load, again and again"


LIFE_SECONDS: Final = {Fate.KILLED: (0.5, 6.0), Fate.STOPPED: (3.0, 12.0)}


def _ceilings(l1_mib: float, l2_mib: float, inflight_mib: float, gets: int) -> dict[str, object]:
    return {
        "cache.l1_memory_gib": l1_mib / 1024,
        "cache.l2_ssd_gib": l2_mib / 1024,
        "cache.inflight_mib": inflight_mib,
        "s3.max_inflight_gets": gets,
    }


CEILINGS: Final = {
    # Each has room for a page of 8 MiB, the last for no second one.
    Fate.STEADY: _ceilings(20, 48, 24, 6),
    Fate.KILLED: _ceilings(2, 32, 16, 8),
    Fate.STOPPED: _ceilings(9, 24, 8, 2),
}


@frozen
class Vitals:
    """Of the processes of one daemon."""

    descriptors: int
    threads: int
    resident_bytes: int

    @classmethod
    def of(cls, daemon: Daemon) -> Vitals | None:
        """None while it does not live."""
        try:
            pids = daemon.pids
            return cls(
                sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
                sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
                resident_bytes(daemon.pid),
            )
        except (OSError, AssertionError):
            return None


@define(eq=False)
class Node:
    """One daemon over all its lives, behind a pass-through of its own."""

    fate: Fate
    directory: Path
    s3: S3Config
    store: PassThrough
    seed: int
    daemon: Daemon = field(init=False)
    ceilings: Ceilings = field(init=False)
    trouble: Trouble = field(init=False)
    tally: Tally = field(init=False)
    ends: int = 0
    begun: Vitals | None = None
    ended: Vitals | None = None
    most: Vitals = field(factory=lambda: Vitals(0, 0, 0))
    problems: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        settings: dict[str, object] = {
            **s3_settings(self.s3),
            "s3.get_budget_per_sec": RATE,
            "s3.get_budget_burst": BURST,
            "s3.read_timeout_sec": 2,
            "s3.retry_initial_backoff_ms": 20,
            "manifest.head_ttl_sec": 1,
            "api.request_deadline_sec": 20,
            "api.send_timeout_sec": 5,
            "api.drain_sec": 10,
            **CEILINGS[self.fate],
            "cache.slab_size_mib": 1 / 16,
        }
        self.daemon = Daemon(self.directory, settings)
        self.ceilings = Ceilings(self.daemon, self.store)
        self.trouble = Trouble(self.store, self.seed)
        self.tally = Tally(self._may_refuse)

    @property
    def name(self) -> str:
        return self.fate.name.lower()

    def _may_refuse(self, request: Request, refusal: Refusal) -> bool:
        if refusal.status == 404:
            # A version is there from when HEAD is read again, or the store has said that something is not.
            return request.version is not None or self.trouble.says_missing
        return refusal.status in REFUSED_WITH

    def start(self) -> None:
        self.daemon.start()
        self.begun = self.begun or Vitals.of(self.daemon)

    def live(self, stop: threading.Event) -> None:
        """Let it meet its fate until told to stop; then it runs."""
        if self.fate is Fate.STEADY:
            return
        chance = random.Random(self.seed)
        while not stop.wait(chance.uniform(*LIFE_SECONDS[self.fate])):
            self.look()
            if self.fate is Fate.KILLED:
                self._kill(chance)
            else:
                self._stop()
            self.ends += 1
            self.daemon.start()

    def _kill(self, chance: random.Random) -> None:
        # All of it at once, or the master alone, which takes its worker along.
        for pid in self.daemon.pids if chance.randrange(2) else [self.daemon.pid]:
            os.kill(pid, signal.SIGKILL)
        self.daemon.kill()
        audit(self.daemon.l2, is_closed=False)

    def _stop(self) -> None:
        status = self.daemon.stop()
        if status != 0:
            self.problems.append(f"{self.name}: ended with {status} after SIGTERM")
        self._check_directory()

    def _check_directory(self) -> None:
        contents = audit(self.daemon.l2, is_closed=True)
        if contents.lost or contents.disk_bytes != contents.reached_bytes:
            lost = contents.disk_bytes - contents.reached_bytes
            self.problems.append(f"{self.name}: {lost} bytes under its directory cannot be reached")

    def look(self) -> None:
        """At its processes, while they live."""
        seen = Vitals.of(self.daemon)
        if seen is not None:
            self.most = Vitals(
                max(self.most.descriptors, seen.descriptors),
                max(self.most.threads, seen.threads),
                max(self.most.resident_bytes, seen.resident_bytes),
            )

    def ask(self) -> None:
        """Its own figures; it may just not be there."""
        try:
            self.ceilings.ask()
        except (OSError, KeyError, ValueError) as error:
            if self.fate is Fate.STEADY:
                self.problems.append(f"{self.name}: did not answer /metrics: {error}")

    def finish(self) -> None:
        """Nobody reads any more: nothing is held, and a clean end leaves nothing that cannot be reached."""
        self.look()
        wait_until(lambda: is_idle(figures(self.daemon)), f"{self.name} holds nothing for anybody")
        self.ended = Vitals.of(self.daemon)
        self._stop()
        self.daemon.check_log()


def sampled(nodes: list[Node]) -> Callable[[threading.Event], None]:
    """A loop that asks all of them what they hold."""

    def ask(stop: threading.Event) -> None:
        while not stop.wait(0.25):
            for node in nodes:
                node.ask()

    return ask
