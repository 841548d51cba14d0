"""What a real node has threads for: tasks that stop wherever another thread could come in between.

A task is a generator. It yields seconds that it takes, ``NOW`` where it could be interrupted, or a ``Signal``
that it waits for. Who goes on first among those that could is chance, and the seed repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

from attrs import define, field

from seekfs_core.testing import Chance, VirtualClock

TURNS: Final = 1 << 16
NOW: Final = 0.0


@define(eq=False)
class Signal:
    """What a task waits for. One that was sent while nobody waited is not forgotten."""

    is_sent: bool = False
    waiting: Callable[[], None] | None = None

    def send(self) -> None:
        self.is_sent = True
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting()


Steps: TypeAlias = Generator[float | Signal, None, Any]


@define(eq=False)
class Life:
    """Whether the process lives whose tasks these are. Those of one that was killed never go on, and nothing
    of them is cleaned up, ``finally`` included."""

    is_alive: bool = True


@define(eq=False)
class Tasks:
    """Runs tasks in virtual time."""

    clock: VirtualClock
    chance: Chance
    kept: dict[int, Steps] = field(factory=dict)
    """Every task that has not ended, so that no generator is closed before the end of the world."""

    def spawn(self, life: Life, steps: Steps) -> None:
        """Begin a task, soon."""
        self.kept[id(steps)] = steps
        self.soon(lambda: self._step(life, steps))

    def soon(self, do: Callable[[], object], seconds: float = 0.0) -> None:
        """Have ``do`` called in so many seconds, before or after others of that moment."""
        self.clock.call_later(seconds, do, turn=self.chance.rng.getrandbits(16))

    def _step(self, life: Life, steps: Steps) -> None:
        while life.is_alive:
            try:
                wanted = next(steps)
            except StopIteration:
                del self.kept[id(steps)]
                return
            if isinstance(wanted, Signal):
                if not wanted.is_sent:
                    wanted.waiting = lambda: self.soon(lambda: self._step(life, steps))
                    return
                wanted.is_sent = False
                continue
            # One thread in a few is interrupted where it could be.
            if wanted > 0.0 or self.chance.rng.random() < 0.3:
                self.soon(lambda: self._step(life, steps), wanted)
                return
