"""The life of one multipart upload, from a file that has been hashed to an object that has its bytes.

The file is read a second time, part by part, and hashed again on the way. Its parts are joined only
when both hashes agree: what a key says of its object stays true, and a file that changes meanwhile is
an error. Whatever else goes wrong, and where something was under the key already, the upload is
aborted, so that nobody pays for parts that belong to nothing. ::

    NEW ─► OPENING ─► TAKING ─► SUMMING ─► AWAITING ─► JOINING ─► OVER  Finish
              └──────────┴─────────┴──────────┤            │
                                              ▼            │ was there, failed
                  nothing is on its way ┌ CALLING_OFF      │
                                        │     ▼            │
                                        │  LANDING ◄───┐   │
                                        ▼     ▼        │   │
                         BACKING_OFF ◄─► ABORTING ─────┤ ◄─┘
                                              │   parts were on their way: once more
                                              ├─► TELLING ─┐  it failed
                                              └────────────┴─► OVER  Finish, RaiseChanged, RaiseFailure

A part that is on its way when the upload is aborted may still arrive, and stay. (S3 says so, and to abort
again.) So an abort waits a moment for such parts; where some take longer, it is made all the same, since
the process may be killed next, and made again when the last of them has arrived or failed. An abort that
fails in passing is made again as often as the policy says. One that fails for good is told of, beside
what led to it: only rules of the store's can remove those parts now.

``Interrupted`` may be fed at any time: the step under way, if there is one, counts as lost. The upload is
aborted then, as after a failure, and an abort under way is made again. A second interruption ends even
that, and what may be left is told of.

How it is driven: feed ``Begin``, carry out the action that comes out, feed its outcome (``StepFailed``
where it could not be carried out), and so on, until it is ``Finish``, ``RaiseChanged`` or ``RaiseFailure``.
Where nothing comes out, wait for ``next_deadline()`` and feed ``Tick``.
"""

from __future__ import annotations

import enum
import random
from typing import Final, TypeAlias, assert_never

from attrs import define, field, frozen, validators

from seekfs_core.errors import ContractViolation, StoreFailure
from seekfs_core.machine import Tick, advance
from seekfs_core.retry import RetryPolicy

LANDING_SECONDS: Final = 5.0
"""How long the first abort waits for parts on their way: long enough that one abort does in most cases,
short enough for somebody who has interrupted and now loses patience."""

# --- events ---------------------------------------------------------------------------------


@frozen
class Begin:
    """Start."""


@frozen
class UploadBegun:
    """The store has begun the upload of this id."""

    upload: str


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
class CalledOff:
    """Nothing more will be sent. ``under_way``: whether requests are that had been begun. ``upload`` is the
    upload's id, None while none is known."""

    upload: str | None
    under_way: bool


@frozen
class Landed:
    """No request is on its way any more. ``upload`` as in ``CalledOff``: None means that there is none."""

    upload: str | None


@frozen
class Aborted:
    """The store has forgotten the upload, and the parts that it had."""


@frozen
class AbortFailed:
    """The store has not, or has not answered."""

    failure: StoreFailure


@frozen
class Told:
    """What may be left has been told of."""


@frozen
class StepFailed:
    """What was asked for could not be done; the driver holds why."""


@frozen
class Interrupted:
    """Somebody wants this to end. An action that came out last may be lost, or done in part."""


PartedEvent: TypeAlias = (
    Begin
    | UploadBegun
    | PartTaken
    | Summed
    | PartsSent
    | Joined
    | CalledOff
    | Landed
    | Aborted
    | AbortFailed
    | Told
    | StepFailed
    | Interrupted
    | Tick
)


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
class CallOff:
    """Begin no request any more for this upload, nor make one again that failed."""


@frozen
class AwaitLanding:
    """Wait until no request is on its way, or ``next_deadline()`` has come."""


@frozen
class Abort:
    """Forget the upload and its parts, by one request."""

    upload: str


@frozen
class TellLeft:
    """Say that parts of this upload may be left in the bucket: the abort failed so, or (None) was broken
    off."""

    upload: str
    failure: StoreFailure | None


@frozen
class Finish:
    """The object is there; ``created`` of these parts."""

    created: bool


@frozen
class RaiseChanged:
    """The file is another one than was hashed; no object was made."""


@frozen
class RaiseFailure:
    """Raise what ``StepFailed`` or ``Interrupted`` stood for; no object is known to have been made."""


PartedStep: TypeAlias = (
    BeginUpload | TakePart | Sum | AwaitParts | Join | CallOff | AwaitLanding | Abort | TellLeft
)
PartedEnding: TypeAlias = Finish | RaiseChanged | RaiseFailure
PartedAction: TypeAlias = PartedStep | PartedEnding


class PartedState(enum.Enum):
    NEW = "new"
    OPENING = "beginning the upload"
    TAKING = "reading and sending parts"
    SUMMING = "comparing hashes"
    AWAITING = "waiting for parts"
    JOINING = "joining parts"
    CALLING_OFF = "calling off what was not begun"
    LANDING = "waiting for what is on its way, to abort"
    ABORTING = "aborting"
    BACKING_OFF = "waiting to abort again"
    TELLING = "telling what may be left"
    OVER = "over"


_NEW, _OPENING, _TAKING = PartedState.NEW, PartedState.OPENING, PartedState.TAKING
_SUMMING, _AWAITING, _JOINING = PartedState.SUMMING, PartedState.AWAITING, PartedState.JOINING
_CALLING_OFF, _LANDING, _ABORTING = PartedState.CALLING_OFF, PartedState.LANDING, PartedState.ABORTING
_BACKING_OFF, _TELLING, _OVER = PartedState.BACKING_OFF, PartedState.TELLING, PartedState.OVER

_SENDING = frozenset({_TAKING, _SUMMING, _AWAITING})
_UNDOING = frozenset({_CALLING_OFF, _LANDING, _ABORTING, _BACKING_OFF})

PARTED_TRANSITIONS: Final[dict[tuple[PartedState, type], frozenset[PartedState]]] = {
    (_NEW, Begin): frozenset({_OPENING}),
    (_OPENING, UploadBegun): frozenset({_TAKING}),
    (_OPENING, StepFailed): frozenset({_OVER}),  # An id whose answer is lost cannot be known.
    (_TAKING, PartTaken): frozenset({_TAKING, _SUMMING}),
    (_SUMMING, Summed): frozenset({_AWAITING, _CALLING_OFF}),
    (_AWAITING, PartsSent): frozenset({_JOINING}),
    **{(state, StepFailed): frozenset({_CALLING_OFF}) for state in _SENDING},
    (_JOINING, Joined): frozenset({_OVER, _ABORTING}),
    (_JOINING, StepFailed): frozenset({_ABORTING}),
    (_CALLING_OFF, CalledOff): frozenset({_LANDING, _ABORTING, _OVER}),
    (_LANDING, Landed): frozenset({_ABORTING, _OVER}),
    (_LANDING, Tick): frozenset({_LANDING, _ABORTING}),
    (_ABORTING, Aborted): frozenset({_LANDING, _OVER}),
    (_ABORTING, AbortFailed): frozenset({_BACKING_OFF, _LANDING, _TELLING}),
    (_BACKING_OFF, Tick): frozenset({_BACKING_OFF, _ABORTING}),
    (_TELLING, Told): frozenset({_OVER}),
    (_TELLING, StepFailed): frozenset({_OVER}),
    **{(state, StepFailed): frozenset({_TELLING, _OVER}) for state in _UNDOING},
    (_NEW, Interrupted): frozenset({_OVER}),
    **{(state, Interrupted): frozenset({_CALLING_OFF}) for state in (_OPENING, *_SENDING)},
    (_JOINING, Interrupted): frozenset({_ABORTING}),
    **{(state, Interrupted): frozenset({state, _TELLING, _OVER}) for state in _UNDOING},
    (_TELLING, Interrupted): frozenset({_TELLING}),
    (_OVER, Interrupted): frozenset({_OVER}),
    **{(state, Tick): frozenset({state}) for state in set(PartedState) - {_LANDING, _BACKING_OFF}},
}
"""State and event, to the states that may follow."""


@define(kw_only=True)
class PartedUpload:
    """See the module's text. Of a file of ``size`` bytes, in parts of ``part_bytes``; ``sha256`` is of the
    first pass. ``policy`` says how often an abort is made, and ``rng`` jitters when. A shallow copy is a
    machine of its own, but for ``rng``."""

    size: int = field(validator=validators.gt(0))
    part_bytes: int = field(validator=validators.gt(0))
    sha256: bytes
    policy: RetryPolicy
    rng: random.Random
    state: PartedState = field(default=_NEW, init=False)
    _taken: int = field(default=0, init=False)
    """Parts, those that are being taken included."""
    _upload: str | None = field(default=None, init=False)
    _under_way: bool = field(default=False, init=False)
    """Whether parts may arrive after an abort that is made now."""
    _aborts: int = field(default=0, init=False)
    """Made so far, since parts last arrived."""
    _due: float | None = field(default=None, init=False)
    _is_interrupted: bool = field(default=False, init=False)
    _left: StoreFailure | None = field(default=None, init=False)
    """Why parts may be left in the bucket."""
    _ending: PartedEnding = field(factory=RaiseFailure, init=False)
    """What follows an abort."""
    _now: float = field(default=float("-inf"), init=False)

    def next_deadline(self) -> float | None:
        """When to abort, in monotonic seconds."""
        return self._due

    def feed(self, event: PartedEvent, now: float) -> tuple[PartedAction, ...]:
        """One outcome in, at most one thing to do out; see ``seekfs_core.machine``."""
        later = advance(self._now, now)
        landings = PARTED_TRANSITIONS.get((self.state, type(event)))
        if landings is None:
            raise ContractViolation(f"{event} while {self.state.value}")
        if isinstance(event, PartsSent) and len(event.etags) != self._parts_count:
            raise ContractViolation(f"{len(event.etags)} parts were sent of {self._parts_count}")
        self._now = later
        actions = self._react(event)
        assert self.state in landings, (event, self.state)
        return actions

    @property
    def _parts_count(self) -> int:
        return -(-self.size // self.part_bytes)

    def _react(self, event: PartedEvent) -> tuple[PartedAction, ...]:
        match event:
            case Begin():
                self.state = _OPENING
                return (BeginUpload(),)
            case UploadBegun(upload):
                self._upload = upload
                return self._take_next()
            case PartTaken() if self._taken < self._parts_count:
                return self._take_next()
            case PartTaken():
                self.state = _SUMMING
                return (Sum(),)
            case Summed(sha256) if sha256 != self.sha256:
                return self._call_off(RaiseChanged())
            case Summed():
                self.state = _AWAITING
                return (AwaitParts(),)
            case PartsSent(etags):
                self.state = _JOINING
                return (Join(etags),)
            case Joined(created=True):
                return self._end(Finish(created=True))
            case Joined():
                self._ending = Finish(created=False)
                return self._abort()
            case CalledOff(upload, under_way):
                self._upload, self._under_way = upload, under_way
                # Of an upload whose id is still to come nothing can be aborted before.
                return self._await_landing(None if upload is None else LANDING_SECONDS)
            case Landed(upload):
                self._upload, self._under_way = upload, False
                return self._abort()
            case Aborted():
                return self._abort_over(None)
            case AbortFailed(failure):
                return self._abort_later(failure)
            case Told():
                return self._end(self._ending)
            case StepFailed():
                return self._on_failure()
            case Interrupted():
                return self._on_interruption()
            case Tick():
                return self._on_tick()
            case _:
                assert_never(event)

    # --- sending ------------------------------------------------------------------------------------

    def _take_next(self) -> tuple[PartedAction, ...]:
        self.state = _TAKING
        start = self._taken * self.part_bytes
        self._taken += 1
        return (TakePart(self._taken, min(self.part_bytes, self.size - start)),)

    def _on_failure(self) -> tuple[PartedAction, ...]:
        if self.state in _SENDING:
            return self._call_off(RaiseFailure())
        if self.state is _JOINING:
            return self._abort()
        if self.state in _UNDOING:
            return self._give_up()
        return self._end(RaiseFailure())

    def _on_interruption(self) -> tuple[PartedAction, ...]:
        was_interrupted, self._is_interrupted = self._is_interrupted, True
        self._ending = RaiseFailure()
        match self.state:
            case PartedState.NEW | PartedState.OVER:
                return self._end(RaiseFailure())
            case PartedState.OPENING | PartedState.TAKING | PartedState.SUMMING | PartedState.AWAITING:
                return self._call_off(RaiseFailure())
            case PartedState.JOINING:
                return self._abort()
            case PartedState.TELLING:
                return self._tell(self._left)
            case _ if was_interrupted:
                return self._give_up()
            case PartedState.CALLING_OFF:
                return (CallOff(),)
            case PartedState.LANDING:
                return (AwaitLanding(),)
            case PartedState.ABORTING:
                return self._abort()
            case PartedState.BACKING_OFF:
                return ()
            case _:
                assert_never(self.state)

    # --- undoing ------------------------------------------------------------------------------------

    def _call_off(self, ending: PartedEnding) -> tuple[PartedAction, ...]:
        self.state, self._ending = _CALLING_OFF, ending
        return (CallOff(),)

    def _await_landing(self, seconds: float | None) -> tuple[PartedAction, ...]:
        """At most so long, and not at all where nothing is on its way."""
        if not self._under_way:
            return self._abort()
        self.state, self._due = _LANDING, None if seconds is None else self._now + seconds
        return (AwaitLanding(),)

    def _on_tick(self) -> tuple[PartedAction, ...]:
        if self._due is not None and self._now >= self._due:
            return self._abort()
        return (AwaitLanding(),) if self.state is _LANDING else ()

    def _abort(self) -> tuple[PartedAction, ...]:
        self._due = None
        if self._upload is None:
            return self._end(self._ending)
        self.state = _ABORTING
        self._aborts += 1
        return (Abort(self._upload),)

    def _abort_later(self, failure: StoreFailure) -> tuple[PartedAction, ...]:
        delay = self.policy.delay(failure, self._aborts, self.rng)
        if delay is None:
            return self._abort_over(failure)
        self.state, self._due = _BACKING_OFF, self._now + delay
        return ()

    def _abort_over(self, failure: StoreFailure | None) -> tuple[PartedAction, ...]:
        """No more of it now. Whether it failed does not matter yet where it has to be made again."""
        self._aborts = 0
        if self._under_way:
            return self._await_landing(None)
        return self._end(self._ending) if failure is None else self._tell(failure)

    def _give_up(self) -> tuple[PartedAction, ...]:
        self._due, self._ending = None, RaiseFailure()
        return self._end(self._ending) if self._upload is None else self._tell(None)

    def _tell(self, failure: StoreFailure | None) -> tuple[PartedAction, ...]:
        assert self._upload is not None
        self.state, self._left = _TELLING, failure
        return (TellLeft(self._upload, failure),)

    def _end(self, ending: PartedEnding) -> tuple[PartedAction, ...]:
        self.state = _OVER
        return (ending,)
