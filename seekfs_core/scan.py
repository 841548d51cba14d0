"""How one object of the bucket is read through, so that what is read is of one content.

It is looked at first, unless a listing or a look has just said what is there: such word counts for the
first reading only. Then it is read by GETs of one length, several ahead of the one that is digested, all
bound to one ETag. Where one of them says that the object is another one now, what was read is thrown away
and the object is looked at and read again, as often as ``seekfs_core.retry`` says. ::

    NEW ─► LOOKING ─► READING ─► OVER   Finish, Fail
     └───────────────►┘  └─► LOOKING    another object

How it is driven: feed ``Begin``, carry out the actions that come out, in their order, and feed what comes
of ``Look``, or else of the oldest ``ReadWindow`` that has not been told of, until it is ``Finish`` or
``Fail``.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias, assert_never

from attrs import define, field, frozen, validators

from seekfs_core.errors import (
    ContractViolation,
    NoSuchObject,
    SeekfsError,
    StoreAnswered,
    check_can_be_bound,
    is_same_object,
)
from seekfs_core.machine import advance
from seekfs_core.retry import is_begun_again
from seekfs_core.uploads import There

# --- events ---------------------------------------------------------------------------------


@frozen
class Begin:
    """Start; ``known`` is what has just been said of the object, if anything was."""

    known: There | None


@frozen
class Looked:
    """What is under the key now; None where nothing is."""

    there: There | None


@frozen
class WindowRead:
    """The oldest window has come, of an object that was ``there`` then; None where the store says that it
    is no longer the one asked for."""

    there: There | None


ScanEvent: TypeAlias = Begin | Looked | WindowRead


# --- actions --------------------------------------------------------------------------------


@frozen
class Look:
    """Ask what is under the key."""


@frozen
class Restart:
    """Begin a digest. What was read before is of no use, nor what is on its way."""


@frozen
class ReadWindow:
    """Read bytes [start, stop) of the object that has this ETag; others may be on their way."""

    start: int
    stop: int
    etag: str | None


@frozen
class DigestWindow:
    """Digest the window that has just come."""


@frozen
class Finish:
    """All was digested. ``etag`` is that of all these bytes."""

    etag: str | None


@frozen
class Fail:
    """There is no object, or it cannot be read as one."""

    error: SeekfsError


ScanAction: TypeAlias = Look | Restart | ReadWindow | DigestWindow | Finish | Fail


class ScanState(enum.Enum):
    NEW = "new"
    LOOKING = "looking what is there"
    READING = "reading"
    OVER = "over"


_NEW, _LOOKING, _READING, _OVER = ScanState.NEW, ScanState.LOOKING, ScanState.READING, ScanState.OVER

SCAN_TRANSITIONS: Final[dict[tuple[ScanState, type], frozenset[ScanState]]] = {
    (_NEW, Begin): frozenset({_LOOKING, _READING, _OVER}),
    (_LOOKING, Looked): frozenset({_READING, _OVER}),
    (_READING, WindowRead): frozenset({_READING, _LOOKING, _OVER}),
}
"""State and event, to the states that may follow."""


@define(kw_only=True)
class ObjectScan:
    """See the module's text. Windows are of ``window_bytes``, and at most ``ahead`` of them are on their
    way (``seekfs_core.transfer_layout``)."""

    key: str
    window_bytes: int = field(validator=validators.gt(0))
    ahead: int = field(validator=validators.gt(0))
    state: ScanState = field(default=_NEW, init=False)
    _reads: int = field(default=0, init=False)
    """How often it was begun to be read."""
    _object: There = field(default=There(size=0, etag=None), init=False)
    """What is being read."""
    _asked: int = field(default=0, init=False)
    """Windows that were asked for, of this reading."""
    _digested: int = field(default=0, init=False)
    _now: float = field(default=float("-inf"), init=False)

    def next_deadline(self) -> None:
        """Nothing here waits for a time."""

    def feed(self, event: ScanEvent, now: float) -> tuple[ScanAction, ...]:
        """One outcome in, what is to be done out; see ``seekfs_core.machine``."""
        later = advance(self._now, now)
        landings = SCAN_TRANSITIONS.get((self.state, type(event)))
        if landings is None:
            raise ContractViolation(f"{event} while {self.state.value}")
        self._now = later
        actions = self._react(event)
        assert self.state in landings, (event, self.state)
        return actions

    def _react(self, event: ScanEvent) -> tuple[ScanAction, ...]:
        match event:
            case Begin(known):
                return self._look() if known is None else self._read(known)
            case Looked(there) if there is not None:
                return self._read(there)
            case Looked():
                return self._fail(NoSuchObject(f"there is no object {self.key!r}", key=self.key))
            case WindowRead(there) if there is not None and self._is_same(there):
                self._digested += 1
                return (DigestWindow(), *self._go_on())
            case WindowRead() if is_begun_again(self._reads):
                return self._look()
            case WindowRead():
                changed = f"{self.key!r} changed while it was being read"
                return self._fail(StoreAnswered(changed, key=self.key))
            case _:
                assert_never(event)

    @property
    def _windows_count(self) -> int:
        return -(-self._object.size // self.window_bytes)

    def _is_same(self, there: There) -> bool:
        before, now = (self._object.size, self._object.etag), (there.size, there.etag)
        return is_same_object(before, now, gets_count=self._windows_count)

    def _look(self) -> tuple[ScanAction, ...]:
        self.state = _LOOKING
        return (Look(),)

    def _read(self, there: There) -> tuple[ScanAction, ...]:
        self._object = there
        self._reads += 1
        self._asked = self._digested = 0
        try:
            check_can_be_bound(self.key, there.etag, gets_count=self._windows_count)
        except StoreAnswered as error:
            return self._fail(error)
        self.state = _READING
        return (Restart(), *self._go_on())

    def _go_on(self) -> tuple[ScanAction, ...]:
        """As many windows more as may be on their way; or the end."""
        if self._digested == self._windows_count:
            self.state = _OVER
            return (Finish(self._object.etag),)
        first, stop = self._asked, min(self._windows_count, self._digested + self.ahead)
        self._asked = stop
        return tuple(self._window(index) for index in range(first, stop))

    def _window(self, index: int) -> ReadWindow:
        start = index * self.window_bytes
        return ReadWindow(start, min(start + self.window_bytes, self._object.size), self._object.etag)

    def _fail(self, error: SeekfsError) -> tuple[ScanAction, ...]:
        self.state = _OVER
        return (Fail(error),)
