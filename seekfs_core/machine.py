"""The one shape that every machine of the core has.

A machine is an attrs class with one way in and one way out::

    actions = machine.feed(event, now)
    due = machine.next_deadline()        # monotonic seconds, or None

``feed`` is atomic: it never blocks, never calls back, and changes nothing when it raises.
It raises ``ContractViolation`` only, for what is a bug of the caller. ``now`` never goes
back: a driver that may wake early passes ``max(due, monotonic())``. When ``next_deadline()``
has come the driver feeds ``Tick()``; feeding it early or twice is harmless.

Events and actions are frozen attrs classes, so a run can be recorded, compared and replayed.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from attrs import frozen

from seekfs_core.errors import ContractViolation

EventT = TypeVar("EventT", contravariant=True)
ActionT = TypeVar("ActionT", covariant=True)


class Machine(Protocol[EventT, ActionT]):
    """What a driver may rely on; see the module's text."""

    def feed(self, event: EventT, now: float) -> tuple[ActionT, ...]: ...

    def next_deadline(self) -> float | None: ...


@frozen
class Tick:
    """Time has passed; nothing else has happened. An event of every machine."""


def advance(before: float, now: float) -> float:
    """The later clock reading, after a check that time did not run backwards (and is a number)."""
    if not now >= before:
        raise ContractViolation(f"time went back from {before} to {now}")
    return now
