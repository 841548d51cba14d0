"""When a cache tier that meets faults turns itself off, and how it finds its way back.

A disk that fails makes every read slower and helps nobody, so after ``faults_max`` failures in
a row the tier is not used at all. After a delay that doubles from failure to failure one use is
let through as a probe: if it works the tier is back, if not it waits longer. There is no
separate probe operation, since a disk may take 4 KiB and refuse a segment.

::

    ON ──Failed, the last one of faults_max──► OFF ──Asked, after the delay──► PROBING
     ▲                                          ▲ ▲───Failed, Vanished, Abandoned─│
     └────────────────────────Worked────────────┴─────────────────────────────────┘

A use that hangs (``seekfs_core.disk_watch``) turns the tier off at once, from every state, and is a probe
itself: as long as one is out there is no other, so that a disk which never answers is handed no more than it
has already.

Writing and reading have a health each: a full disk still serves what it holds. What a use of the
disk says about which of them is in ``verdict``, a table.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, assert_never

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


@frozen
class Hung:
    """A use of the tier has been given up, since the disk does not answer; ``reason`` is for people."""

    reason: str


@frozen
class CameBack:
    """A use that hung has come to its end, however."""


TierEvent = Asked | Worked | Failed | Abandoned | Vanished | Hung | CameBack | Tick


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

# Uses that were under way when the tier went off report late: legal, and they change nothing. Whatever hangs
# keeps the tier off, so that it comes back to one that is.
LANDINGS: dict[tuple[TierState, type[TierEvent]], frozenset[TierState]] = {
    (_ON, Asked): frozenset({_ON}),
    (_ON, Worked): frozenset({_ON}),
    (_ON, Failed): frozenset({_ON, _OFF}),
    (_ON, Abandoned): frozenset({_ON}),
    (_ON, Vanished): frozenset({_ON}),
    (_ON, Hung): frozenset({_OFF}),
    (_ON, Tick): frozenset({_ON}),
    (_OFF, Asked): frozenset({_OFF, _PROBING}),
    (_OFF, Worked): frozenset({_OFF}),
    (_OFF, Failed): frozenset({_OFF}),
    (_OFF, Abandoned): frozenset({_OFF}),
    (_OFF, Vanished): frozenset({_OFF}),
    (_OFF, Hung): frozenset({_OFF}),
    (_OFF, CameBack): frozenset({_OFF}),
    (_OFF, Tick): frozenset({_OFF}),
    (_PROBING, Asked): frozenset({_PROBING}),
    (_PROBING, Worked): frozenset({_ON}),
    (_PROBING, Failed): frozenset({_OFF}),
    (_PROBING, Abandoned): frozenset({_OFF}),
    (_PROBING, Vanished): frozenset({_OFF}),
    (_PROBING, Hung): frozenset({_OFF}),
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
    _hanging: int = field(default=0, init=False)
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
        return self._probe_at if self.state is TierState.OFF and not self._hanging else None

    def would_let_through(self, now: float) -> bool:
        """Whether ``Asked`` would be answered ``Go`` at ``now``, in monotonic seconds. Changes nothing."""
        return self.state is TierState.ON or (
            self.state is TierState.OFF and not self._hanging and now >= self._probe_at
        )

    def feed(self, event: TierEvent, now: float) -> tuple[TierAction, ...]:
        """What to do because of ``event``; ``now`` in monotonic seconds."""
        landings = LANDINGS.get((self.state, type(event)))
        if landings is None or (isinstance(event, CameBack) and not self._hanging):
            raise ContractViolation(f"{event} of a tier that is {self.state.value}, with nothing that hangs")
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
            case Hung(reason):
                actions = self._hung(reason)
            case CameBack():
                self._hanging -= 1
            case Tick():
                pass
            case _:
                assert_never(event)
        assert self.state in landings
        return actions

    def _lets_through(self) -> bool:
        if not self.would_let_through(self._now):
            return False
        if self.state is TierState.OFF:
            self.state = TierState.PROBING
        return True

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
        return self._turn_off(reason)

    def _hung(self, reason: str) -> tuple[TierAction, ...]:
        self._hanging += 1
        return () if self.state is TierState.OFF else self._turn_off(reason)

    def _turn_off(self, reason: str) -> tuple[TierAction, ...]:
        delay = self._delay_seconds
        self.state = TierState.OFF
        self.off_because = reason
        self._probe_at = self._now + delay
        self._delay_seconds = min(PROBE_DELAY_SECONDS_MAX, 2 * delay)
        return (TurnedOff(reason, delay),)


class Use(Enum):
    """What a tier on disk is used for; each has a health of its own."""

    READING = "reading the disk cache"
    WRITING = "writing the disk cache"


class Operation(Enum):
    """One thing that is asked of the disk."""

    READ = "reading"
    MAKE = "making a segment"
    WRITE = "writing"
    INDEX = "writing the index"
    UNINDEX = "deleting from the index"
    UNLINK = "deleting a segment"

    @property
    def use(self) -> Use:
        return Use.READING if self is Operation.READ else Use.WRITING


Verdict = Worked | Failed | Abandoned | Vanished | Hung | CameBack


class Outcome(Enum):
    """What came of it."""

    DONE = "it was done"
    DAMAGED = "it was done, and gave bytes that are not what was written"
    VANISHED = "the file is not there"
    REFUSED = "the disk said no"
    STARVED = "this process has no file or no memory left for it"
    UNTRIED = "it was not asked for, since the disk hangs in others"
    HUNG = "the disk has not answered, and is not waited for any longer"
    CAME_BACK = "the disk has answered, long after that"


VERDICTS: Final[dict[tuple[Operation, Outcome], type[Verdict] | None]] = {
    (Operation.READ, Outcome.DONE): Worked,
    # One rotten record costs its page. A disk that gives what it has, and at once, is not off.
    (Operation.READ, Outcome.DAMAGED): Worked,
    (Operation.READ, Outcome.VANISHED): Vanished,
    (Operation.READ, Outcome.REFUSED): Failed,
    # A page is kept when it is in the index, and nothing before that brings a tier back.
    (Operation.MAKE, Outcome.DONE): None,
    # The directory is gone, so that the next one cannot be made either.
    (Operation.MAKE, Outcome.VANISHED): Failed,
    (Operation.MAKE, Outcome.REFUSED): Failed,
    (Operation.WRITE, Outcome.DONE): None,
    (Operation.WRITE, Outcome.VANISHED): Vanished,
    (Operation.WRITE, Outcome.REFUSED): Failed,
    (Operation.INDEX, Outcome.DONE): Worked,
    (Operation.INDEX, Outcome.REFUSED): Failed,
    (Operation.UNINDEX, Outcome.DONE): None,
    # Nobody misses it: an entry without its record is found out at the next start or read. But an index
    # that takes no deletion takes no entry either, so the next page would be written in vain.
    (Operation.UNINDEX, Outcome.REFUSED): Failed,
    (Operation.UNLINK, Outcome.DONE): None,
    (Operation.UNLINK, Outcome.REFUSED): Failed,
    # The disk was not asked, and is as good as before.
    **{(operation, Outcome.STARVED): Abandoned for operation in Operation},
    **{(operation, Outcome.UNTRIED): Abandoned for operation in Operation},
    # Whatever does not answer, the next use of the same kind would hang beside it.
    **{(operation, Outcome.HUNG): Hung for operation in Operation},
    **{(operation, Outcome.CAME_BACK): CameBack for operation in Operation},
}
"""What a use of the disk says about the health of that use; None: nothing that was not known."""


def verdict(operation: Operation, outcome: Outcome, reason: str = "") -> Verdict | None:
    """What ``TierHealth`` of ``operation.use`` is to hear; ``reason``, for people, is why it failed.

    ``ContractViolation`` for an outcome that the operation cannot have.
    """
    if (operation, outcome) not in VERDICTS:
        raise ContractViolation(f"{outcome} cannot come of {operation}")
    event = VERDICTS[operation, outcome]
    if event is None:
        return None
    return event(f"{operation.value}: {reason}") if issubclass(event, Failed | Hung) else event()
