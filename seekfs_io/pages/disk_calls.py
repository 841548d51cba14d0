"""Calls of a disk that hang nobody: ``seekfs_core.disk_watch`` with a lock, a timer and threads.

``under_way`` watches what the caller does itself: a hang is said to the disk's health, and the caller is as
stuck as it is. ``wait_for`` has the call made on a thread that can be left behind, and waits for it no
longer than the watch says.

Rules of this file: health is told of a hang before anybody stops waiting for it, so that who does finds
the disk off, and of its end after that; the watch's lock is held for microseconds, and nothing is called
under it but ``stays``.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, assert_never

from seekfs_core.disk_watch import (
    Began,
    CameBack,
    DiskWatch,
    Ended,
    GiveUp,
    GiveUpUntried,
    Moved,
    Queued,
    WatchAction,
    WatchEvent,
)
from seekfs_core.machine import Tick
from seekfs_core.tier import Operation, Outcome
from seekfs_io.pages.tier_switch import DiskHealth
from seekfs_io.threads import DaemonPool, run_all
from seekfs_io.tracing import NO_TRACE, NoTrace

ResultT = TypeVar("ResultT")

Moves = Callable[[], None]
"""Says that the disk has done a part of a call."""


class DiskHangs(TimeoutError):
    """The disk did not answer. ``is_tried``: it has the call, and what the call was given, until it does."""

    def __init__(self, seconds: float, *, is_tried: bool) -> None:
        super().__init__(errno.ETIMEDOUT, f"no answer for {seconds:g} seconds")
        self.is_tried = is_tried

    @property
    def outcome(self) -> Outcome:
        return Outcome.HUNG if self.is_tried else Outcome.UNTRIED


class _Call(Generic[ResultT]):
    """One call that is waited for. What it holds is dropped when it is over, since a thread that has made a
    call remembers it until the next."""

    __slots__ = ("came_back", "do", "error", "given_up", "number", "operation", "over", "results", "stays")

    def __init__(
        self,
        number: int,
        operation: Operation,
        do: Callable[[Moves], ResultT],
        stays: Callable[[], None],
        came_back: Callable[[], None],
    ) -> None:
        self.number = number
        self.operation = operation
        self.do: Callable[[Moves], ResultT] | None = do
        self.stays = stays
        self.came_back = came_back
        # Released when it is over: a fifth of what an event costs, and every read of a disk has one.
        self.over = threading.Lock()
        self.over.acquire()
        self.given_up: bool | None = None
        """Whether the disk has it, of one that was given up; None of all others."""
        self.results: list[ResultT] = []
        self.error: BaseException | None = None

    def make(self, moves: Moves) -> None:
        do, self.do = self.do, None
        assert do is not None
        try:
            self.results.append(do(moves))
        except BaseException as error:
            self.error = error

    def result(self) -> ResultT:
        """Once it has ended."""
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self.results.pop()

    def is_forgotten(self) -> None:
        """It came back, and nobody wants what it brought."""
        self.results.clear()
        self.error = None
        self.came_back()


class DiskCalls:
    """See the module's text. Thread-safe."""

    def __init__(
        self,
        name: str,
        threads_max: int,
        health: DiskHealth,
        seconds_max: float,
        clock: Callable[[], float],
        tracer: NoTrace = NO_TRACE,
    ) -> None:
        """``seconds_max`` is how long a call may not move; ``clock`` counts monotonic seconds."""
        self._health = health
        self._seconds_max = seconds_max
        self._clock = clock
        self._watch = DiskWatch(seconds_max)
        self._feed_watch = tracer.watch(f"calls of {name}", self._watch)
        self._lock = threading.Lock()
        self._alarm = threading.Condition(self._lock)
        self._alarm_at: float | None = None
        self._now = clock()
        self._closed = False
        self._numbers = itertools.count(1)
        self._calls: dict[int, _Call[Any]] = {}
        self._told: deque[WatchAction] = deque()
        self._telling = threading.Lock()
        self._threads = DaemonPool(name, threads_max)
        self._threads.submit(lambda: None)  # One is there from now on, whatever the system gives later.
        self._timer = threading.Thread(target=self._keep_time, name=f"{name}-watch", daemon=True)
        self._timer.start()

    @contextlib.contextmanager
    def under_way(self, operation: Operation) -> Iterator[Moves]:
        """Watch what is done within."""
        number = next(self._numbers)
        self._tell(Began(number, operation))
        try:
            yield lambda: self._tell(Moved(number))
        finally:
            self._tell(Ended(number))

    def wait_for(
        self,
        operation: Operation,
        do: Callable[[Moves], ResultT],
        *,
        stays: Callable[[], None] = lambda: None,
        came_back: Callable[[], None] = lambda: None,
    ) -> ResultT:
        """What ``do`` returns or raises, on another thread; ``DiskHangs``.

        Where the call hangs, ``stays`` is called before that is raised, under a lock, and ``came_back``
        when the disk has let go of what it was given. ``moves`` ends a call that was given up.
        """
        call = _Call(next(self._numbers), operation, do, stays, came_back)
        with self._lock:
            is_closed = self._closed
            if not is_closed:
                self._calls[call.number] = call
                self._feed(Queued(call.number, operation))
                # Under the lock, or ``close`` might send the threads home in between.
                self._threads.submit(lambda: self._make(call))
        if is_closed:
            # The process ends, and has a bound of its own for that.
            return do(lambda: None)
        self._carry_out()
        call.over.acquire()
        if call.given_up is not None:
            raise DiskHangs(self._seconds_max, is_tried=call.given_up)
        return call.result()

    def close(self) -> None:
        """Let go of the threads when they have done what there is. What hangs goes on by itself; who comes
        later is on its own."""
        with self._lock:
            self._closed = True
            self._alarm.notify_all()
        self._threads.close(0.0)

    def _make(self, call: _Call[Any]) -> None:
        with self._lock:
            if call.given_up is not None:
                return
            self._feed(Began(call.number, call.operation))
        self._carry_out()  # Before it can hang: that may have been the news of another that does.
        call.make(lambda: self._moves(call))
        with self._lock:
            self._feed(Ended(call.number))
            if call.given_up is None:
                del self._calls[call.number]
                call.over.release()
        self._carry_out()

    def _moves(self, call: _Call[Any]) -> None:
        self._tell(Moved(call.number))
        if call.given_up is not None:
            raise DiskHangs(self._seconds_max, is_tried=True)

    # --- the machine ------------------------------------------------------------------------

    def _tell(self, event: WatchEvent) -> None:
        with self._lock:
            self._feed(event)
        self._carry_out()

    def _feed(self, event: WatchEvent) -> None:
        """Whether a call is given up is settled under the lock, whatever becomes of it meanwhile."""
        self._now = max(self._now, self._clock())
        for action in self._feed_watch(event, self._now):
            self._told.append(action)
            match action:
                case GiveUp(number) if (call := self._calls.get(number)) is not None:
                    call.given_up = True
                    call.stays()
                case GiveUpUntried(number):
                    call = self._calls[number]
                    # What it was to fill is its caller's again, while its turn may never come.
                    call.given_up, call.do = False, None
        due = self._watch.next_deadline()
        if due is not None and (self._alarm_at is None or due < self._alarm_at):
            self._alarm.notify_all()

    def _carry_out(self) -> None:
        """What the watch has said, in the order in which it did: a hang before its end."""
        while self._told:
            with self._telling, contextlib.suppress(IndexError):
                self._say(self._told.popleft())

    def _say(self, action: WatchAction) -> None:
        match action:
            case GiveUp(number, operation):
                self._health.went(operation, Outcome.HUNG, f"no answer for {self._seconds_max:g} seconds")
                if (call := self._calls.get(number)) is not None:
                    call.over.release()
            case GiveUpUntried(number):
                self._calls.pop(number).over.release()
            case CameBack(number, operation):
                if (call := self._calls.pop(number, None)) is not None:
                    call.is_forgotten()
                self._health.went(operation, Outcome.CAME_BACK)
            case _:
                assert_never(action)

    def _keep_time(self) -> None:
        while True:
            with self._lock:
                if self._closed and self._watch.is_idle:
                    return
                due = self._watch.next_deadline()
                if due is None or due > self._clock():
                    self._alarm_at = due
                    self._alarm.wait(None if due is None else max(0.0, due - self._clock()))
                    self._alarm_at = None
                    continue
                self._feed(Tick())
            run_all((self._carry_out,))
