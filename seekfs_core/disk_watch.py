"""Which calls of a disk hang, and are given up.

A disk may answer late or never, and whoever called it cannot be woken. So calls that somebody waits for
are made on threads of their own, and here is said when the wait is over: when a call has not moved for
``seconds_max``. A large one moves with each piece of it, so that a slow disk is waited for.

A machine that stood still is no disk that hangs: the time between two looks counts for no more than
``LOOKS``-th of ``seconds_max``, and there are as many deadlines while a call does not move.

A call that waits for a thread has no time of its own, since those before it have. But what hangs keeps its
thread, so when one hangs, all that wait for a thread for the same use are given up with it, untried; and
so is whatever comes while it hangs.

A call that hangs is heard of once more, when it comes back: until then the disk has what it was given,
memory and open files, and nobody else may.

::

    QUEUED ──Began──► MOVING ──not for seconds_max──────► HUNG
      │ one of its      │ Ended                             │ Ended (CameBack)
      │ use hangs       ▼                                   ▼
      └───────────────► gone ◄──────────────────────────────┘
"""

from __future__ import annotations

from typing import Final, assert_never

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick, advance
from seekfs_core.tier import Operation


@frozen
class Queued:
    """A call waits for a thread. Numbers are the driver's, each used once."""

    call: int
    operation: Operation


@frozen
class Began:
    """A call is under way, whether it was queued before or not."""

    call: int
    operation: Operation


@frozen
class Moved:
    """A call is still under way, and the disk has done a part of it."""

    call: int


@frozen
class Ended:
    """A call has come to its end, however."""

    call: int


READERS: Final = 16
"""Reads of pages that the disk is asked for at once: as many as keep a fast one busy, and as many as one that
hangs may have in its hands."""

LOADERS: Final = 2
"""Manifests read at once, likewise."""

STEP_BYTES: Final = 4 << 20
"""What a disk is asked to read or write at once, so that a slow one is seen to move."""

RESERVED_AT_ONCE_BYTES: Final = 64 << 20
"""Blocks of a new segment: few enough that even a slow disk is seen to move, and one run on most."""

LOOKS: Final = 4
"""Into how many looks the wait for a call is divided."""

RESOLUTION_SECONDS: Final = 1e-3
"""A wait that has less than this left is over: no deadline is so near that it is now."""

WatchEvent = Queued | Began | Moved | Ended | Tick


@frozen
class GiveUp:
    """Wait no longer for a call: it hangs, and what it was given is the disk's until ``CameBack``."""

    call: int
    operation: Operation


@frozen
class GiveUpUntried:
    """Wait no longer for a call, and do not begin it: others hang."""

    call: int


@frozen
class CameBack:
    """A call that was given up as hanging has ended."""

    call: int
    operation: Operation


WatchAction = GiveUp | GiveUpUntried | CameBack


@define
class DiskWatch:
    """See the module's text. All times are monotonic seconds."""

    seconds_max: float = field()
    _queued: dict[int, Operation] = field(factory=dict, init=False)
    # With when they moved last, in ``_looked_on``, and in that order: the one that hangs first is the first.
    _moving: dict[int, tuple[Operation, float]] = field(factory=dict, init=False)
    _hung: dict[int, Operation] = field(factory=dict, init=False)
    _now: float = field(default=float("-inf"), init=False)
    _looked_on: float = field(default=0.0, init=False)
    """Seconds that calls have had, as far as they count."""

    @seconds_max.validator
    def _check_seconds(self, _attribute: object, value: float) -> None:
        if not value > LOOKS * RESOLUTION_SECONDS:
            raise ContractViolation(f"a disk that may take {value} seconds")

    def next_deadline(self) -> float | None:
        """When to look again, while any call is under way."""
        for _, since in self._moving.values():
            return self._now + min(self._look_seconds, since + self.seconds_max - self._looked_on)
        return None

    @property
    def _look_seconds(self) -> float:
        return self.seconds_max / LOOKS

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for anything: what hangs is not waited for."""
        return not self._moving and not self._queued

    def feed(self, event: WatchEvent, now: float) -> tuple[WatchAction, ...]:
        """One event in, what to do out; see ``seekfs_core.machine``."""
        now = advance(self._now, now)
        self._check(event)
        if self._moving:
            self._looked_on += min(now - self._now, self._look_seconds)
        self._now = now
        actions: list[WatchAction] = []
        match event:
            case Queued(call, operation):
                self._queued[call] = operation
            case Began(call, operation):
                self._queued.pop(call, None)
                self._moving[call] = (operation, self._looked_on)
            case Moved(call):
                # Of one that hung it is no news yet: nobody waits for it.
                if call in self._moving:
                    self._moving[call] = (self._moving.pop(call)[0], self._looked_on)
            case Ended(call):
                if call in self._hung:
                    actions.append(CameBack(call, self._hung.pop(call)))
                else:
                    del self._moving[call]
            case Tick():
                pass
            case _:
                assert_never(event)
        self._give_up_those_that_hang(actions)
        if self._hung and self._queued:
            self._give_up_those_behind(actions)
        return tuple(actions)

    def _give_up_those_that_hang(self, actions: list[WatchAction]) -> None:
        while self._moving:
            call, (operation, since) = next(iter(self._moving.items()))
            if self._looked_on - since < self.seconds_max - RESOLUTION_SECONDS:
                break
            del self._moving[call]
            self._hung[call] = operation
            actions.append(GiveUp(call, operation))

    def _give_up_those_behind(self, actions: list[WatchAction]) -> None:
        hanging = {operation.use for operation in self._hung.values()}
        for call, operation in list(self._queued.items()):
            if operation.use in hanging:
                del self._queued[call]
                actions.append(GiveUpUntried(call))

    def _check(self, event: WatchEvent) -> None:
        match event:
            case Queued(call) | Began(call):
                is_known = call in self._moving or call in self._hung
                if is_known or (isinstance(event, Queued) and call in self._queued):
                    raise ContractViolation(f"call {call} was begun before")
            case Moved(call) | Ended(call):
                if call not in self._moving and call not in self._hung:
                    raise ContractViolation(f"call {call} is not under way")
            case Tick():
                pass
            case _:
                assert_never(event)
