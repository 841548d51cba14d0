"""How an object is put where there is none, by one write or by joining the parts of an upload.

A write that is not answered may have been made, and is made again: then the store says that the
object is there, or that the upload is gone. So a refused write is followed by a look. What is found
is taken for what was to be written, by us or by somebody else (keys of content say what is at
them; ``seekfs_core.publication`` has rules of its own for the two objects of which that is not
true). What is not found was not written:

* two conditional PUTs met and the store let neither win (409), so the PUT is made again, after a
  while and as often as the policy allows;
* an upload that is gone without its object was aborted by somebody, and cannot be joined again.

Writes are create-only, unless there is only one writer and the store refuses writes for carrying a
condition (``Conditions``, which ``seekfs_core.publication`` goes by as well). Such a store is looked at
first, and then written to unconditionally.

How it is driven: feed ``Begin``, carry out the action that comes out, feed its outcome, and so on.
Where nothing comes out, wait for ``next_deadline()`` and feed ``Tick``.
"""

from __future__ import annotations

import enum
import random
from typing import Final, TypeAlias, assert_never

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation, FailureKind, StoreFailure, refuses_conditions
from seekfs_core.machine import Tick, advance
from seekfs_core.retry import RetryPolicy, as_busy


class Write(enum.Enum):
    """What makes the object."""

    PUT = "put"
    JOIN = "complete a multipart upload"


class Conditions(enum.Enum):
    """Whether writes carry If-None-Match."""

    KEPT = "always"
    TRIED = "until the store refuses them: there is only one writer"
    REFUSED = "no longer: the store has refused them"

    @classmethod
    def of(cls, *, single_writer: bool) -> Conditions:
        """With which to begin: only who is alone, and says so, may do without."""
        return cls.TRIED if single_writer else cls.KEPT

    def after(self, failure: StoreFailure) -> Conditions:
        """What is known when a write that carried them has failed so."""
        return Conditions.REFUSED if self is Conditions.TRIED and refuses_conditions(failure) else self


@frozen
class Begin:
    """Start."""


@frozen
class Written:
    """The store said that the write is done."""


@frozen
class WriteFailed:
    """The write failed, or was not answered."""

    failure: StoreFailure


@frozen
class Looked:
    """Whether there is an object now."""

    is_there: bool


CreationEvent: TypeAlias = Begin | Written | WriteFailed | Looked | Tick


@frozen
class DoWrite:
    """Make the write, with If-None-Match where it is ``create_only``."""

    create_only: bool


@frozen
class Look:
    """Ask whether there is an object."""


@frozen
class Created:
    """This write made the object. ``conditions`` is what is known of the store's by now."""

    conditions: Conditions


@frozen
class Found:
    """The object is there, from somebody else or from a write whose answer was lost; ``conditions`` as
    in ``Created``."""

    conditions: Conditions


@frozen
class GiveUp:
    """There is no object, and asking again would not help."""

    failure: StoreFailure


CreationAction: TypeAlias = DoWrite | Look | Created | Found | GiveUp


class CreationState(enum.Enum):
    NEW = "new"
    LOOKING = "looking before a write without conditions"
    WRITING = "writing"
    DOUBTING = "looking after a refused write"
    WAITING = "waiting to write again"
    OVER = "over"


_NEW, _LOOKING, _WRITING = CreationState.NEW, CreationState.LOOKING, CreationState.WRITING
_DOUBTING, _WAITING, _OVER = CreationState.DOUBTING, CreationState.WAITING, CreationState.OVER

CREATION_TRANSITIONS: Final[dict[tuple[CreationState, type], frozenset[CreationState]]] = {
    (_NEW, Begin): frozenset({_LOOKING, _WRITING}),
    (_LOOKING, Looked): frozenset({_WRITING, _OVER}),
    (_WRITING, Written): frozenset({_OVER}),
    (_WRITING, WriteFailed): frozenset({_LOOKING, _DOUBTING, _WAITING, _OVER}),
    (_DOUBTING, Looked): frozenset({_WAITING, _OVER}),
    (_WAITING, Tick): frozenset({_WAITING, _WRITING}),
    **{(state, Tick): frozenset({state}) for state in CreationState if state is not _WAITING},
}
"""State and event, to the states that may follow."""


@define
class ObjectCreation:
    """See the module's text. ``conditions`` is at first what its driver knows."""

    write: Write
    conditions: Conditions
    policy: RetryPolicy
    rng: random.Random
    state: CreationState = field(default=_NEW, init=False)
    _writes: int = field(default=0, init=False)
    _refusal: StoreFailure | None = field(default=None, init=False)
    _write_at: float | None = field(default=None, init=False)
    _now: float = field(default=float("-inf"), init=False)

    def next_deadline(self) -> float | None:
        """When to write again, in monotonic seconds."""
        return self._write_at

    def feed(self, event: CreationEvent, now: float) -> tuple[CreationAction, ...]:
        """One outcome in, at most one thing to do out; see ``seekfs_core.machine``."""
        later = advance(self._now, now)
        landings = CREATION_TRANSITIONS.get((self.state, type(event)))
        if landings is None:
            raise ContractViolation(f"{event} while {self.state.value}")
        self._now = later
        actions = self._react(event)
        assert self.state in landings, (event, self.state)
        return actions

    def _react(self, event: CreationEvent) -> tuple[CreationAction, ...]:
        match event:
            case Begin() if self.conditions is Conditions.REFUSED:
                return self._look_first()
            case Begin():
                return self._do_write()
            case Written():
                return self._end(Created(self.conditions))
            case Looked(is_there=True):
                return self._end(Found(self.conditions))
            case Looked() if self.state is _LOOKING:
                return self._do_write()
            case Looked():
                assert self._refusal is not None
                if self.write is Write.JOIN:
                    return self._end(GiveUp(self._refusal))
                return self._later(as_busy(self._refusal), self._refusal)
            case WriteFailed(failure) if self.conditions.after(failure) is not self.conditions:
                # Another request from now on, with attempts of its own.
                self.conditions, self._writes = self.conditions.after(failure), 0
                return self._look_first()
            case WriteFailed(failure) if self._casts_doubt(failure):
                self._refusal = failure
                self.state = _DOUBTING
                return (Look(),)
            case WriteFailed(failure):
                return self._later(failure, failure)
            case Tick() if self._write_at is not None and self._now >= self._write_at:
                return self._do_write()
            case Tick():
                return ()
            case _:
                assert_never(event)

    def _casts_doubt(self, failure: StoreFailure) -> bool:
        """Whether the object may be there although the write failed."""
        if self.write is Write.JOIN and failure.kind is FailureKind.MISSING:
            return True
        return failure.kind is FailureKind.PRECONDITION

    def _look_first(self) -> tuple[CreationAction, ...]:
        self.state = _LOOKING
        return (Look(),)

    def _do_write(self) -> tuple[CreationAction, ...]:
        self.state = _WRITING
        self._write_at = None
        self._writes += 1
        return (DoWrite(create_only=self.conditions is not Conditions.REFUSED),)

    def _later(self, failure: StoreFailure, named: StoreFailure) -> tuple[CreationAction, ...]:
        delay = self.policy.delay(failure, self._writes, self.rng)
        if delay is None:
            return self._end(GiveUp(named))
        self.state = _WAITING
        self._write_at = self._now + delay
        return ()

    def _end(self, outcome: CreationAction) -> tuple[CreationAction, ...]:
        self.state = _OVER
        return (outcome,)
