"""Virtual time: what is to happen when, and a clock that jumps from one such moment to the next.

A simulation has one ``VirtualClock``. Whatever takes time in it asks to be called back; nothing ever waits,
so an hour of a quiet node costs nothing::

    clock = VirtualClock()
    clock.call_later(2.5, answer_comes)
    clock.run_until_idle(limit=3600.0)

Callbacks of one moment run in the order of their ``turn``, then in the order in which they were asked for.
Who wants to search what different orders do draws turns by chance (``seekfs_core.testing.chance``); the same
draws give the same order, whatever the machine or the version of Python.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from attrs import define, field

from seekfs_core.errors import ContractViolation


@define(eq=False)
class Timer:
    """One callback that was asked for."""

    when: float
    _do: Callable[[], object] | None

    @property
    def is_over(self) -> bool:
        """Whether it was called, or never will be."""
        return self._do is None

    def cancel(self) -> None:
        """Do not call it. Harmless where it was called already."""
        self._do = None

    def fire(self) -> bool:
        """Call it, unless that was done or was cancelled; whether it was called now."""
        do, self._do = self._do, None
        if do is None:
            return False
        do()
        return True


@define(eq=False)
class VirtualClock:
    """See the module's text. ``now`` is seconds, from any beginning, and only ever grows."""

    now: float = 0.0
    _heap: list[tuple[float, int, int, Timer]] = field(factory=list, init=False)
    _asked: int = field(default=0, init=False)

    def call_at(self, when: float, do: Callable[[], object], *, turn: int = 0) -> Timer:
        """Have ``do`` called at ``when``, which is not in the past: ``ContractViolation``."""
        if not when >= self.now:
            raise ContractViolation(f"a callback at {when}, which was over at {self.now}")
        timer = Timer(when, do)
        self._asked += 1
        heappush(self._heap, (when, turn, self._asked, timer))
        return timer

    def call_later(self, seconds: float, do: Callable[[], object], *, turn: int = 0) -> Timer:
        """Have ``do`` called so many seconds from now."""
        return self.call_at(self.now + seconds, do, turn=turn)

    def next_at(self) -> float | None:
        """When the next callback is due; None where nothing will ever happen."""
        heap = self._heap
        while heap and heap[0][3].is_over:
            heappop(heap)
        return heap[0][0] if heap else None

    def run_next(self) -> bool:
        """Jump to the next callback and call it; False where there is none."""
        heap = self._heap
        while heap:
            when, _, _, timer = heappop(heap)
            if not timer.is_over:
                self.now = when
                return timer.fire()
        return False

    def run_until(self, when: float) -> None:
        """Call everything that is due up to ``when``, and have it be ``when``: ``ContractViolation`` where
        that is in the past."""
        if not when >= self.now:
            raise ContractViolation(f"time is to go back from {self.now} to {when}")
        while (due := self.next_at()) is not None and due <= when:
            self.run_next()
        self.now = when

    def run_until_idle(self, limit: float) -> bool:
        """Call everything until nothing is left to happen; False where that is not so at ``limit``."""
        while (due := self.next_at()) is not None:
            if due > limit:
                return False
            self.run_next()
        return True
