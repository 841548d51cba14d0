"""Which calls of a disk hang, and are given up.

A disk may answer late or never, and whoever called it cannot be woken. So calls that somebody waits for
are made on threads of their own, and here is said when the wait is over: when a call has not moved for
``seconds_max``. A large one moves with each piece of it, so that a slow disk is waited for.

A call that waits for a thread has no time of its own, since those before it have. But what hangs keeps its
thread, so when one hangs, all that wait for a thread for the same use are given up with it, untried; and
so is whatever comes while it hangs.

A call that hangs is heard of once more, when it comes back: until then the disk has what it was given,
memory and open files, and nobody else may.

::

    QUEUED ──Began──► MOVING ──Tick, after seconds_max──► HUNG
      │ one of its      │ Ended                             │ Ended (CameBack)
      │ use hangs       ▼                                   ▼
      └───────────────► gone ◄──────────────────────────────┘
"""

from __future__ import annotations

from typing import assert_never

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
    _moving: dict[int, tuple[Operation, float]] = field(factory=dict, init=False)
    _hung: dict[int, Operation] = field(factory=dict, init=False)
    _now: float = field(default=float("-inf"), init=False)

    @seconds_max.validator
    def _check_seconds(self, _attribute: object, value: float) -> None:
        if not value > 0:
            raise ContractViolation(f"a disk that may take {value} seconds")

    def next_deadline(self) -> float | None:
        """When a call that does not move by then hangs."""
        since = min((since for _, since in self._moving.values()), default=None)
        return None if since is None else since + self.seconds_max

    def feed(self, event: WatchEvent, now: float) -> tuple[WatchAction, ...]:
        """One event in, what to do out; see ``seekfs_core.machine``."""
        now = advance(self._now, now)
        self._check(event)
        self._now = now
        actions: list[WatchAction] = []
        match event:
            case Queued(call, operation):
                self._queued[call] = operation
            case Began(call, operation):
                self._queued.pop(call, None)
                self._moving[call] = (operation, now)
            case Moved(call):
                # Of one that hung it is no news yet: nobody waits for it.
                if call in self._moving:
                    self._moving[call] = (self._moving[call][0], now)
            case Ended(call):
                if call in self._hung:
                    actions.append(CameBack(call, self._hung.pop(call)))
                else:
                    del self._moving[call]
            case Tick():
                pass
            case _:
                assert_never(event)
        for call, (operation, since) in list(self._moving.items()):
            if now >= since + self.seconds_max:
                del self._moving[call]
                self._hung[call] = operation
                actions.append(GiveUp(call, operation))
        hanging = {operation.use for operation in self._hung.values()}
        for call, operation in list(self._queued.items()):
            if operation.use in hanging:
                del self._queued[call]
                actions.append(GiveUpUntried(call))
        return tuple(actions)

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
