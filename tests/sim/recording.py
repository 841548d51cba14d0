"""The trace of a simulated world (docs/tracing.md): equal for equal seeds, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from seekfs_core.trace import Begun, TraceWriter
from seekfs_core.trace_encoding import taken_machine


@define(eq=False)
class TraceRecorder:
    """Writes what every machine is fed; ``write`` is given the bytes in order."""

    write: Callable[[bytes], object]
    _writer: TraceWriter = field(factory=TraceWriter)
    _numbers: dict[int, int] = field(factory=dict)
    _machines: list[Any] = field(factory=list)
    """Kept, so that no other one gets the address that it is known by."""

    def __attrs_post_init__(self) -> None:
        self.write(self._writer.begin(Begun(seekfs="simulated", monotonic=0.0, unix=0.0)))

    def born(self, name: str, machine: Any) -> None:
        """A machine, before its first event."""
        number = self._numbers[id(machine)] = len(self._machines)
        self._machines.append(machine)
        self.write(self._writer.born(number, name, taken_machine(machine)))

    def fed(self, machine: Any, now: float, event: Any, actions: tuple[Any, ...]) -> None:
        self.write(self._writer.fed(self._numbers[id(machine)], now, event, actions))

    def end(self) -> None:
        self.write(self._writer.end())
