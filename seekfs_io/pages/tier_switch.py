"""Reading from a disk and writing to it, each of which can be off: ``TierHealth`` behind a lock."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from seekfs_core.tier import (
    READ_FAULTS_MAX,
    WRITE_FAULTS_MAX,
    Abandoned,
    Asked,
    Go,
    Operation,
    Outcome,
    TierAction,
    TierEvent,
    TierHealth,
    TierState,
    TurnedOff,
    TurnedOn,
    Use,
    Worked,
    verdict,
)
from seekfs_io.tracing import NO_TRACE, NoTrace

log = logging.getLogger("seekfs.cache")


class TierSwitch:
    """Ask before a use, and say how it went. While all goes well neither takes the lock."""

    def __init__(
        self, what: str, faults_max: int, clock: Callable[[], float], tracer: NoTrace = NO_TRACE
    ) -> None:
        """``what`` names the use to people; ``clock`` counts monotonic seconds."""
        self._what = what
        self._health = TierHealth(faults_max)
        self._feed_health = tracer.watch(what, self._health)
        self._clock = clock
        self._lock = threading.Lock()
        self._now = clock()

    @property
    def off_because(self) -> str | None:
        return self._health.off_because

    def would_let_through(self) -> bool:
        """Whether ``ask`` would say yes now."""
        if self._health.steady:  # Read without the lock: a moment's lag is harmless.
            return True
        with self._lock:
            return self._health.would_let_through(self._monotonic())

    def ask(self) -> tuple[bool, bool]:
        """Whether the tier may be used, and whether that use is the probe: a probe that comes to
        nothing has to be reported as ``abandoned``."""
        if self._health.steady:
            return True, False
        with self._lock:
            actions = self._feed(Asked())
            go = Go() in actions
            is_probe = go and self._health.state is TierState.PROBING
        self._say(actions)
        return go, is_probe

    def hear(self, event: TierEvent) -> None:
        """How a use went."""
        if not (isinstance(event, Worked) and self._health.steady):
            with self._lock:
                actions = self._feed(event)
            self._say(actions)

    def abandoned(self) -> None:
        """A use that was let through did not come to touch the disk."""
        self.hear(Abandoned())

    def _monotonic(self) -> float:
        self._now = max(self._now, self._clock())
        return self._now

    def _feed(self, event: TierEvent) -> tuple[TierAction, ...]:
        return self._feed_health(event, self._monotonic())

    def _say(self, actions: tuple[TierAction, ...]) -> None:
        """Tell the log, which may be slow: not under the lock, which every look into the tier may want."""
        for action in actions:
            match action:
                case TurnedOff(reason, probe_in_seconds):
                    log.warning("%s is off: %s; next try in %g s", self._what, reason, probe_in_seconds)
                case TurnedOn():
                    log.info("%s is back", self._what)


class DiskHealth:
    """Both uses of the disk that ``directory`` is on, told of by what was asked of it."""

    def __init__(self, directory: Path, clock: Callable[[], float], tracer: NoTrace = NO_TRACE) -> None:
        where = f" in {str(directory)!r}"
        self.reading = TierSwitch(Use.READING.value + where, READ_FAULTS_MAX, clock, tracer)
        self.writing = TierSwitch(Use.WRITING.value + where, WRITE_FAULTS_MAX, clock, tracer)

    @property
    def off_because(self) -> str | None:
        return "; ".join(filter(None, (self.reading.off_because, self.writing.off_because))) or None

    def went(self, operation: Operation, outcome: Outcome, reason: str = "") -> None:
        """What came of an operation."""
        event = verdict(operation, outcome, reason)
        if event is not None:
            (self.reading if operation.use is Use.READING else self.writing).hear(event)

    def failed(self, operation: Operation, error: OSError) -> None:
        """An operation came to nothing."""
        self.went(operation, outcome_of(error), reason_of(error))


def outcome_of(error: OSError) -> Outcome:
    """What came of an operation that failed with this."""
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return Outcome.STARVED
    return Outcome.VANISHED if isinstance(error, FileNotFoundError) else Outcome.REFUSED


def reason_of(error: OSError) -> str:
    """What the disk, or the index on it, said, for people."""
    return error.strerror or str(error)
