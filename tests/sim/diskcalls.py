"""Calls of a disk that may hang, and the health of its uses: ``seekfs_io.pages.disk_calls`` and
``tier_switch``, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field

from seekfs_core.disk_watch import (
    Began,
    CameBack,
    DiskWatch,
    Ended,
    GiveUp,
    GiveUpUntried,
    Moved,
    Queued,
    WatchEvent,
)
from seekfs_core.machine import Tick
from seekfs_core.testing import Timer
from seekfs_core.tier import (
    READ_FAULTS_MAX,
    WRITE_FAULTS_MAX,
    Abandoned,
    Asked,
    Go,
    Operation,
    Outcome,
    TierEvent,
    TierHealth,
    TierState,
    Use,
    Worked,
    verdict,
)
from tests.sim.disk import DiskError
from tests.sim.tasks import Signal, Steps

if TYPE_CHECKING:
    from tests.sim.process import Process


class DiskHangs(Exception):
    """The disk did not answer. ``is_tried``: it has what the call was given until it does."""

    def __init__(self, *, is_tried: bool) -> None:
        super().__init__("no answer")
        self.is_tried = is_tried

    @property
    def outcome(self) -> Outcome:
        return Outcome.HUNG if self.is_tried else Outcome.UNTRIED


@define(eq=False)
class Switch:
    """Ask before a use, and say how it went."""

    process: Process
    health: TierHealth
    name: str
    feed: Callable[..., tuple[object, ...]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.feed = self.process.watch(self.name, self.health)

    def ask(self) -> tuple[bool, bool]:
        """Whether the disk may be used, and whether that use is a probe."""
        world = self.process.world
        if world.chance.happens(0.02):
            self.feed(Tick(), world.clock.now)
        if self.health.steady:
            return True, False
        go = Go() in self.feed(Asked(), world.clock.now)
        if world.chance.happens(0.02):
            self.feed(Tick(), world.clock.now)
        return go, go and self.health.state is TierState.PROBING

    def hear(self, event: TierEvent) -> None:
        if not (isinstance(event, Worked) and self.health.steady):
            self.feed(event, self.process.world.clock.now)

    def would_let_through(self) -> bool:
        return self.health.steady or self.health.would_let_through(self.process.world.clock.now)


@define(eq=False)
class _Call:
    number: int
    operation: Operation
    do: Callable[[], Any]
    stays: Callable[[], None]
    came_back: Callable[[], None]
    signal: Signal = field(factory=Signal)
    is_over: bool = False
    given_up: bool | None = None
    result: Any = None
    error: Exception | None = None


@define(eq=False)
class SimDiskCalls:
    """What is asked of the disk, watched for hanging."""

    process: Process
    seconds_max: float
    threads: int
    reading: Switch = field(init=False)
    writing: Switch = field(init=False)
    watch: DiskWatch = field(init=False)
    _feed_watch: Callable[..., tuple[object, ...]] = field(init=False)
    _calls: dict[int, _Call] = field(factory=dict)
    _queue: deque[_Call] = field(factory=deque)
    _busy: int = 0
    _numbers: int = 0
    _alarm: Timer | None = None

    def __attrs_post_init__(self) -> None:
        watch = self.process.watch
        self.reading = Switch(self.process, TierHealth(READ_FAULTS_MAX), Use.READING.value)
        self.writing = Switch(self.process, TierHealth(WRITE_FAULTS_MAX), Use.WRITING.value)
        self.watch = DiskWatch(self.seconds_max)
        self._feed_watch = watch("calls of the disk", self.watch)

    def went(self, operation: Operation, outcome: Outcome) -> None:
        """What came of an operation, for the health of its use."""
        event = verdict(operation, outcome, outcome.value)
        if event is not None:
            (self.reading if operation.use is Use.READING else self.writing).hear(event)

    def abandoned(self, switch: Switch) -> None:
        switch.hear(Abandoned())

    def under_way(
        self, operation: Operation, do: Callable[[], Any], half_do: Callable[[], object] | None = None
    ) -> Steps:
        """Have something done by the caller itself, who is stuck where it hangs. ``DiskError``."""
        number = self._new_number()
        self._feed(Began(number, operation))
        try:
            result = yield from self.process.world.disk.operate(self.process.life, operation, do, half_do)
        except DiskError:
            self._feed(Ended(number))
            raise
        self._feed(Ended(number))
        return result

    def wait_for(
        self,
        operation: Operation,
        do: Callable[[], Any],
        stays: Callable[[], None],
        came_back: Callable[[], None],
    ) -> Steps:
        """Have it done on a thread that can be left behind. ``DiskHangs``, ``DiskError``."""
        call = _Call(self._new_number(), operation, do, stays, came_back)
        self._calls[call.number] = call
        self._queue.append(call)
        self._feed(Queued(call.number, operation))
        self._next_on_a_thread()
        while not call.is_over:
            yield call.signal
        if call.given_up is not None:
            raise DiskHangs(is_tried=call.given_up)
        if call.error is not None:
            raise call.error
        return call.result

    def _next_on_a_thread(self) -> None:
        while self._queue and self._busy < self.threads:
            call = self._queue.popleft()
            if call.given_up is None:
                self._busy += 1
                self.process.spawn(self._make(call))

    def _make(self, call: _Call) -> Steps:
        if call.given_up is None:
            self._feed(Began(call.number, call.operation))
            if self.process.world.chance.happens(0.1):
                self.process.soon(lambda: self._moved(call), 0.002)
            try:
                call.result = yield from self.process.world.disk.operate(
                    self.process.life, call.operation, call.do
                )
            except DiskError as error:
                call.error = error
            if call.is_over:  # Given up meanwhile; that it came back is told by the watch.
                self._feed(Ended(call.number))
            else:
                del self._calls[call.number]
                self._feed(Ended(call.number))
                self._over(call)
        self._busy -= 1
        self._next_on_a_thread()

    def _moved(self, call: _Call) -> None:
        """The disk has done a part of it, and is at the rest."""
        if call.number in self._calls:
            self._feed(Moved(call.number))

    def _over(self, call: _Call) -> None:
        call.is_over = True
        call.signal.send()

    def _new_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _feed(self, event: WatchEvent) -> None:
        for action in self._feed_watch(event, self.process.world.clock.now):
            match action:
                case GiveUp(number, operation):
                    self.went(operation, Outcome.HUNG)
                    if (call := self._calls.get(number)) is not None:
                        call.given_up = True
                        call.stays()
                        self._over(call)
                case GiveUpUntried(number):
                    call = self._calls.pop(number)
                    call.given_up = False
                    self._over(call)
                case CameBack(number, operation):
                    if (call := self._calls.pop(number, None)) is not None:
                        call.came_back()
                    self.went(operation, Outcome.CAME_BACK)
        self._set_alarm()

    def _set_alarm(self) -> None:
        due = self.watch.next_deadline()
        if self._alarm is not None:
            self._alarm.cancel()
        clock = self.process.world.clock
        self._alarm = None if due is None else clock.call_at(max(due, clock.now), self._ring)

    def _ring(self) -> None:
        if self.process.life.is_alive:
            self._feed(Tick())
