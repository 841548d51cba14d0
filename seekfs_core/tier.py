"""When a cache tier that meets faults turns itself off, and how it finds its way back.

A disk that fails makes every read slower and helps nobody, so after ``faults_max`` failures in
a row the tier is not used at all. After a delay that doubles from failure to failure one use is
let through as a probe: if it works the tier is back, if not it waits longer. There is no
separate probe operation, since a disk may take 4 KiB and refuse a segment.

::

    ON ──Failed, the last one of faults_max──► OFF ──Asked, after the delay──► PROBING
     ▲                                          ▲ ▲───Failed, Vanished, Abandoned─│
     └────────────────────────Worked────────────┴─────────────────────────────────┘

Writing and reading have a health each: a full disk still serves what it holds.
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick, advance

READ_FAULTS_MAX = 4
"""Failed reads in a row before the disk is no longer asked: one bad block is not a bad disk."""

WRITE_FAULTS_MAX = 1
"""A write that fails says at once that the next will too: the disk is full, or gone."""

PROBE_DELAY_SECONDS_INITIAL = 1.0
PROBE_DELAY_SECONDS_MAX = 60.0


class TierState(Enum):
    ON = "on"
    OFF = "off"
    PROBING = "probing"


@frozen
class Asked:
    """Somebody is about to use the tier. Answered by ``Go`` or ``Skip``."""


@frozen
class Worked:
    """A use of the tier succeeded."""


@frozen
class Failed:
    """A use of the tier failed; ``reason`` is for people."""

    reason: str


@frozen
class Abandoned:
    """A use that was let through did not come to touch the disk, and says nothing about it."""


@frozen
class Vanished:
    """A file that was there is not: somebody deleted it, which says nothing about the disk either."""


TierEvent = Asked | Worked | Failed | Abandoned | Vanished | Tick


@frozen
class Go:
    """Use the tier, and report how it went."""


@frozen
class Skip:
    """Do without the tier."""


@frozen
class TurnedOff:
    """The tier is off from now on; worth a line in the log."""

    reason: str
    probe_in_seconds: float


@frozen
class TurnedOn:
    """The tier is back; worth a line in the log."""


TierAction = Go | Skip | TurnedOff | TurnedOn

_ON, _OFF, _PROBING = TierState.ON, TierState.OFF, TierState.PROBING

# Uses that were under way when the tier went off report late: legal, and they change nothing.
LANDINGS: dict[tuple[TierState, type[TierEvent]], frozenset[TierState]] = {
    (_ON, Asked): frozenset({_ON}),
    (_ON, Worked): frozenset({_ON}),
    (_ON, Failed): frozenset({_ON, _OFF}),
    (_ON, Abandoned): frozenset({_ON}),
    (_ON, Vanished): frozenset({_ON}),
    (_ON, Tick): frozenset({_ON}),
    (_OFF, Asked): frozenset({_OFF, _PROBING}),
    (_OFF, Worked): frozenset({_OFF}),
    (_OFF, Failed): frozenset({_OFF}),
    (_OFF, Abandoned): frozenset({_OFF}),
    (_OFF, Vanished): frozenset({_OFF}),
    (_OFF, Tick): frozenset({_OFF}),
    (_PROBING, Asked): frozenset({_PROBING}),
    (_PROBING, Worked): frozenset({_ON}),
    (_PROBING, Failed): frozenset({_OFF}),
    (_PROBING, Abandoned): frozenset({_OFF}),
    (_PROBING, Vanished): frozenset({_OFF}),
    (_PROBING, Tick): frozenset({_PROBING}),
}


@define
class TierHealth:
    """On, off or probing; see the module's text. One probe at a time."""

    faults_max: int = field(default=1)
    """Failures in a row that turn the tier off."""
    state: TierState = field(default=TierState.ON, init=False)
    off_because: str | None = field(default=None, init=False)
    """The last reason for being off; None while the tier is on."""

    _faults: int = field(default=0, init=False)
    _delay_seconds: float = field(default=PROBE_DELAY_SECONDS_INITIAL, init=False)
    _probe_at: float = field(default=0.0, init=False)
    _now: float = field(default=float("-inf"), init=False)

    @faults_max.validator
    def _check_faults(self, _attribute: object, value: int) -> None:
        if value < 1:
            raise ContractViolation(f"a tier that is off after {value} faults")

    @property
    def steady(self) -> bool:
        """On, and the last use worked: then another success is no news, and need not be fed."""
        return self.state is TierState.ON and not self._faults

    def next_deadline(self) -> float | None:
        """When a probe may go through, for people; nothing needs to happen then."""
        return self._probe_at if self.state is TierState.OFF else None

    def feed(self, event: TierEvent, now: float) -> tuple[TierAction, ...]:
        """What to do because of ``event``; ``now`` in monotonic seconds."""
        landings = LANDINGS[self.state, type(event)]
        self._now = advance(self._now, now)
        actions: tuple[TierAction, ...] = ()
        match event:
            case Asked():
                actions = (Go(),) if self._lets_through() else (Skip(),)
            case Worked():
                actions = self._worked()
            case Failed(reason):
                actions = self._failed(reason)
            case Abandoned() | Vanished():
                if self.state is TierState.PROBING:
                    self.state = TierState.OFF
            case Tick():
                pass
            case _:
                assert_never(event)
        assert self.state in landings
        return actions

    def _lets_through(self) -> bool:
        if self.state is TierState.ON:
            return True
        if self.state is TierState.OFF and self._now >= self._probe_at:
            self.state = TierState.PROBING
            return True
        return False

    def _worked(self) -> tuple[TierAction, ...]:
        if self.state is TierState.OFF:
            return ()
        probed = self.state is TierState.PROBING
        self.state = TierState.ON
        self.off_because = None
        self._faults = 0
        self._delay_seconds = PROBE_DELAY_SECONDS_INITIAL
        return (TurnedOn(),) if probed else ()

    def _failed(self, reason: str) -> tuple[TierAction, ...]:
        if self.state is TierState.OFF:
            return ()
        self._faults += 1
        if self.state is TierState.ON and self._faults < self.faults_max:
            return ()
        delay = self._delay_seconds
        self.state = TierState.OFF
        self.off_because = reason
        self._probe_at = self._now + delay
        self._delay_seconds = min(PROBE_DELAY_SECONDS_MAX, 2 * delay)
        return (TurnedOff(reason, delay),)
