"""The life of one multipart upload, from a file that has been hashed to an object that has its bytes.

The file is read a second time, part by part, and hashed again on the way. Its parts are joined only
when both hashes agree: what a key says of its object stays true, and a file that changes meanwhile is
an error. Whatever else goes wrong, and where something was under the key already, the upload is
aborted, so that nobody pays for parts that belong to nothing. An abort that fails is not told of: what
led to it is what a user can act on, and stores have rules by which uploads expire.

How it is driven: feed ``Begin``, carry out the action that comes out, feed its outcome (``StepFailed``
where it could not be carried out), and so on, until it is ``Finish``, ``RaiseChanged`` or ``RaiseFailure``.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from attrs import define, field, frozen, validators

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import advance

# --- events ---------------------------------------------------------------------------------


@frozen
class Begin:
    """Start."""


@frozen
class UploadBegun:
    """The store has begun the upload."""


@frozen
class PartTaken:
    """The part was read, and is on its way or has been sent."""


@frozen
class Summed:
    """The SHA-256 of all that was read, 32 bytes."""

    sha256: bytes


@frozen
class PartsSent:
    """The store has all parts; their ETags in order."""

    etags: tuple[str, ...]


@frozen
class Joined:
    """There is an object under the key: ``created`` of these parts, or there already."""

    created: bool


@frozen
class Aborted:
    """The abort is over, however it ended."""


@frozen
class StepFailed:
    """What was asked for could not be done, or was interrupted; the driver holds why."""


PartedEvent: TypeAlias = Begin | UploadBegun | PartTaken | Summed | PartsSent | Joined | Aborted | StepFailed


# --- actions --------------------------------------------------------------------------------


@frozen
class BeginUpload:
    """Begin an upload at the store, and reading the file."""


@frozen
class TakePart:
    """Read the file's next ``length`` bytes and send them as part ``number`` (from 1). Others may be on
    their way meanwhile."""

    number: int
    length: int


@frozen
class Sum:
    """Say what was read."""


@frozen
class AwaitParts:
    """Wait until the store has all parts."""


@frozen
class Join:
    """Make an object of the parts, where there is none."""

    etags: tuple[str, ...]


@frozen
class Abort:
    """Forget the upload and its parts, those that are on their way as well."""


@frozen
class Finish:
    """The object is there; ``created`` of these parts."""

    created: bool


@frozen
class RaiseChanged:
    """The file is another one than was hashed; no object was made."""


@frozen
class RaiseFailure:
    """Raise what ``StepFailed`` stood for; no object is known to have been made."""


PartedAction: TypeAlias = (
    BeginUpload | TakePart | Sum | AwaitParts | Join | Abort | Finish | RaiseChanged | RaiseFailure
)


class PartedState(enum.Enum):
    NEW = "new"
    OPENING = "beginning the upload"
    TAKING = "reading and sending parts"
    SUMMING = "comparing hashes"
    AWAITING = "waiting for parts"
    JOINING = "joining parts"
    ABORTING = "aborting"
    OVER = "over"


_NEW, _OPENING, _TAKING = PartedState.NEW, PartedState.OPENING, PartedState.TAKING
_SUMMING, _AWAITING, _JOINING = PartedState.SUMMING, PartedState.AWAITING, PartedState.JOINING
_ABORTING, _OVER = PartedState.ABORTING, PartedState.OVER

PARTED_TRANSITIONS: Final[dict[tuple[PartedState, type], frozenset[PartedState]]] = {
    (_NEW, Begin): frozenset({_OPENING}),
    (_OPENING, UploadBegun): frozenset({_TAKING}),
    (_OPENING, StepFailed): frozenset({_OVER}),  # Nothing is known of an upload, if there is one.
    (_TAKING, PartTaken): frozenset({_TAKING, _SUMMING}),
    (_SUMMING, Summed): frozenset({_AWAITING, _ABORTING}),
    (_AWAITING, PartsSent): frozenset({_JOINING}),
    (_JOINING, Joined): frozenset({_OVER, _ABORTING}),
    **{(state, StepFailed): frozenset({_ABORTING}) for state in (_TAKING, _SUMMING, _AWAITING, _JOINING)},
    (_ABORTING, Aborted): frozenset({_OVER}),
    (_ABORTING, StepFailed): frozenset({_OVER}),
}
"""State and event, to the states that may follow."""


@define(kw_only=True)
class PartedUpload:
    """See the module's text. Of a file of ``size`` bytes, in parts of ``part_bytes``; ``sha256`` is of the
    first pass."""

    size: int = field(validator=validators.gt(0))
    part_bytes: int = field(validator=validators.gt(0))
    sha256: bytes
    state: PartedState = field(default=_NEW, init=False)
    _taken: int = field(default=0, init=False)
    """Parts, those that are being taken included."""
    _ending: Finish | RaiseChanged | RaiseFailure = field(factory=RaiseFailure, init=False)
    """What follows an abort."""
    _now: float = field(default=float("-inf"), init=False)

    def next_deadline(self) -> None:
        """Nothing here waits for a time."""

    def feed(self, event: PartedEvent, now: float) -> tuple[PartedAction]:
        """One outcome in, the one thing to do next out; see ``seekfs_core.machine``."""
        later = advance(self._now, now)
        landings = PARTED_TRANSITIONS.get((self.state, type(event)))
        if landings is None:
            raise ContractViolation(f"{event} while {self.state.value}")
        if isinstance(event, PartsSent) and len(event.etags) != self._parts_count:
            raise ContractViolation(f"{len(event.etags)} parts were sent of {self._parts_count}")
        self._now = later
        action = self._react(event)
        assert self.state in landings, (event, self.state)
        return (action,)

    @property
    def _parts_count(self) -> int:
        return -(-self.size // self.part_bytes)

    def _react(self, event: PartedEvent) -> PartedAction:
        match event:
            case Begin():
                self.state = _OPENING
                return BeginUpload()
            case UploadBegun():
                return self._take_next()
            case PartTaken() if self._taken < self._parts_count:
                return self._take_next()
            case PartTaken():
                self.state = _SUMMING
                return Sum()
            case Summed(sha256) if sha256 != self.sha256:
                return self._abort(RaiseChanged())
            case Summed():
                self.state = _AWAITING
                return AwaitParts()
            case PartsSent(etags):
                self.state = _JOINING
                return Join(etags)
            case Joined(created=True):
                return self._end(Finish(created=True))
            case Joined():
                return self._abort(Finish(created=False))
            case Aborted():
                return self._end(self._ending)
            case StepFailed() if self.state in (_OPENING, _ABORTING):
                return self._end(RaiseFailure())
            case StepFailed():
                return self._abort(RaiseFailure())

    def _take_next(self) -> PartedAction:
        self.state = _TAKING
        start = self._taken * self.part_bytes
        self._taken += 1
        return TakePart(self._taken, min(self.part_bytes, self.size - start))

    def _abort(self, ending: Finish | RaiseChanged | RaiseFailure) -> PartedAction:
        self.state, self._ending = _ABORTING, ending
        return Abort()

    def _end(self, ending: Finish | RaiseChanged | RaiseFailure) -> PartedAction:
        self.state = _OVER
        return ending
