"""Calls: requests of the fetch scheduler that bring no pages (``seekfs_core.fetch``).

HEAD of a namespace, a manifest, a look at an object: their answers are opaque here. A call is known from
when it is wanted until it has an outcome; nobody is told of the outcome once its last waiter has left. One
that trickles is broken off, as a GET is, and made again.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from attrs import define, field

from seekfs_core.errors import ContractViolation, FailureKind, StoreFailure
from seekfs_core.fetch_messages import BreakOffCall, FailCall, StartCall
from seekfs_core.fetch_work import Call, after_attempts
from seekfs_core.retry import RetryPolicy

UNWANTED = StoreFailure(kind=FailureKind.TIMED_OUT, detail="nobody waits for this answer any more")


@define
class Calls:
    """Who waits for which call, and in which order they start. The scheduler says when."""

    retry: RetryPolicy
    rng: random.Random
    piece_seconds_max: float
    _calls: dict[int, Call] = field(factory=dict, init=False)
    _queue: deque[Call] = field(factory=deque, init=False)
    _resting: list[Call] = field(factory=list, init=False)

    @property
    def queued(self) -> int:
        """How many could start now, as far as they are concerned."""
        return len(self._queue)

    def want(self, number: int, ns: str | None) -> None:
        if number in self._calls:
            raise ContractViolation(f"call {number} is known already")
        call = self._calls[number] = Call(number, ns)
        self._queue.append(call)

    def leave(self, number: int) -> list[BreakOffCall]:
        """Nobody waits for a call any more, nor wants the rest of its answer. Unknown ones are over."""
        call = self._calls.get(number)
        if call is None:
            return []
        call.wanted = False
        if not call.in_flight:
            self._forget(call)
            return []
        is_broken_off = call.piece_due == float("inf")
        call.piece_due = float("inf")
        return [] if is_broken_off else [BreakOffCall(number, UNWANTED)]

    def requeue_due(self, now: float) -> None:
        for call in [call for call in self._resting if call.due <= now]:
            self._resting.remove(call)
            self._queue.append(call)

    def next_due(self) -> float:
        """When one that rests is made again, or one in flight is late; infinite if never."""
        dues = [call.due for call in self._resting]
        dues += (call.piece_due for call in self._calls.values())
        return min(dues, default=float("inf"))

    def next(self, may_start: Callable[[str | None], bool]) -> Call | None:
        """The first of the queue whose namespace may start one."""
        return next((call for call in self._queue if may_start(call.ns)), None)

    def start(self, call: Call, now: float, *, probe: int) -> StartCall:
        """Start one of the queue."""
        self._queue.remove(call)
        call.attempt += 1
        call.in_flight, call.probe = True, probe
        call.piece_due = now + self.piece_seconds_max
        return StartCall(call.number, call.attempt)

    def moved(self, number: int, now: float) -> None:
        """A piece of an answer has come. Of one that was broken off it is no news."""
        call = self._in_flight(number)
        if call.piece_due < float("inf"):
            call.piece_due = now + self.piece_seconds_max

    def break_off_late(self, now: float) -> list[BreakOffCall]:
        late = [call for call in self._calls.values() if call.piece_due <= now]
        for call in late:
            call.piece_due = float("inf")
        detail = f"the request was broken off: its answer did not move for {self.piece_seconds_max:g} seconds"
        failure = StoreFailure(kind=FailureKind.TIMED_OUT, detail=detail)
        return [BreakOffCall(call.number, failure) for call in late]

    def landed(self, number: int) -> Call:
        """A call that is in flight no longer; whether it is over is the caller's to say."""
        call = self._in_flight(number)
        call.in_flight = False
        call.piece_due = float("inf")
        return call

    def ended(self, call: Call) -> None:
        del self._calls[call.number]

    def failed(
        self, call: Call, failure: StoreFailure, now: float, *, may_retry: bool
    ) -> tuple[FailCall, ...]:
        delay = self.retry.delay(failure, call.attempt, self.rng) if call.wanted and may_retry else None
        if delay is not None:
            call.due = now + delay
            self._resting.append(call)
            return ()
        del self._calls[call.number]
        if not call.wanted:
            return ()
        return (FailCall(call.number, after_attempts(failure, call.attempt)),)

    def refuse_waiting(self, failure: StoreFailure) -> list[FailCall]:
        """Every call that is not in flight fails with ``failure``."""
        waiting = [call for call in self._calls.values() if not call.in_flight]
        for call in waiting:
            self._forget(call)
        return [FailCall(call.number, failure) for call in waiting]

    def fail_all(self, failure: StoreFailure) -> list[FailCall | BreakOffCall]:
        """Every call that somebody waits for fails with ``failure``."""
        actions: list[FailCall | BreakOffCall] = []
        for call in [call for call in self._calls.values() if call.wanted]:
            actions.append(FailCall(call.number, failure))
            actions.extend(self.leave(call.number))
        return actions

    def _in_flight(self, number: int) -> Call:
        call = self._calls.get(number)
        if call is None or not call.in_flight:
            raise ContractViolation(f"call {number} is not in flight")
        return call

    def _forget(self, call: Call) -> None:
        del self._calls[call.number]
        for line in (self._queue, self._resting):
            if call in line:
                line.remove(call)
