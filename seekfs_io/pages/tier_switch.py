"""One way of using a tier (reading, writing) that can be off: ``TierHealth`` behind a lock, with a voice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from seekfs_core.tier import (
    Abandoned,
    Asked,
    Failed,
    Go,
    TierEvent,
    TierHealth,
    TierState,
    TurnedOff,
    TurnedOn,
    Vanished,
    Worked,
)

log = logging.getLogger("seekfs.cache")


class TierSwitch:
    """Ask before a use, and report how it went. A use that works is reported only when not ``steady``."""

    def __init__(self, what: str, faults_max: int, clock: Callable[[], float]) -> None:
        """``what`` names the use to people; ``clock`` counts monotonic seconds."""
        self._what = what
        self._health = TierHealth(faults_max)
        self._clock = clock
        self._lock = threading.Lock()
        self._now = clock()

    @property
    def steady(self) -> bool:
        """On, and the last use worked. Read without the lock: a moment's lag is harmless."""
        return self._health.steady

    @property
    def off_because(self) -> str | None:
        return self._health.off_because

    def would_let_through(self) -> bool:
        """Whether ``ask`` would say yes now."""
        with self._lock:
            due = self._health.next_deadline()
            return self._health.state is TierState.ON or (due is not None and due <= self._monotonic())

    def ask(self) -> tuple[bool, bool]:
        """Whether the tier may be used, and whether that use is the probe: a probe that comes to
        nothing has to be reported as ``abandoned``."""
        with self._lock:
            go = self._feed(Asked())
            return go, go and self._health.state is TierState.PROBING

    def worked(self) -> None:
        if not self.steady:
            with self._lock:
                self._feed(Worked())

    def failed(self, reason: str) -> None:
        with self._lock:
            self._feed(Failed(reason))

    def abandoned(self) -> None:
        with self._lock:
            self._feed(Abandoned())

    def vanished(self) -> None:
        with self._lock:
            self._feed(Vanished())

    def _monotonic(self) -> float:
        self._now = max(self._now, self._clock())
        return self._now

    def _feed(self, event: TierEvent) -> bool:
        go = False
        for action in self._health.feed(event, self._monotonic()):
            match action:
                case Go():
                    go = True
                case TurnedOff(reason, probe_in_seconds):
                    log.warning("%s is off: %s; next try in %g s", self._what, reason, probe_in_seconds)
                case TurnedOn():
                    log.info("%s is back", self._what)
        return go
