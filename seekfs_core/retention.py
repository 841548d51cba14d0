"""What is kept in RAM and on disk when not everything fits.

``RamRetention`` is the policy of pages in RAM (L1, and the ``mem`` L2): least recently used,
by bytes, under a ceiling that holds at every step.

Rules of this file: a machine here holds keys, sizes and order, never a page. It is told of
hits in batches, late and out of order, so a key that it does not know is no error there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import assert_never

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick, advance
from seekfs_core.pages import PageKey


@frozen
class PageOffered:
    """A verified page of ``nbytes`` could be kept."""

    key: PageKey
    nbytes: int


@frozen
class PagesHit:
    """Pages that were read, oldest first. Unknown keys (evicted meanwhile) are ignored."""

    keys: tuple[PageKey, ...]


@frozen
class PagePinned:
    """Somebody holds the page's memory: it is not evicted until as many unpins have come."""

    key: PageKey


@frozen
class PageUnpinned:
    key: PageKey


@frozen
class PageDropped:
    """The page is to be forgotten (its bytes are wrong). Unknown keys are ignored.

    A pinned page is charged until its last unpin, since its memory is still there; until then
    the key cannot be pinned or admitted again.
    """

    key: PageKey


RamEvent = PageOffered | PagesHit | PagePinned | PageUnpinned | PageDropped | Tick


@frozen
class Admit:
    """Keep the page that was offered; its bytes are charged from now on."""

    key: PageKey


@frozen
class Refuse:
    """Do not keep the page that was offered: it cannot fit, or one is held under its key."""

    key: PageKey


@frozen
class Evict:
    """Let go of a page; its bytes are no longer charged. Comes before the Admit it makes room for."""

    key: PageKey


RamAction = Admit | Refuse | Evict


@define
class _Pinned:
    nbytes: int
    pins: int
    dropped: bool = False


@define
class RamRetention:
    """Least recently used pages leave first; pinned ones never; charged <= ceiling always.

    An offer that cannot be met without touching a pinned page is refused and evicts nothing.
    Every event costs constant time, plus one step per page evicted or hit.
    """

    ceiling_bytes: int = field()
    charged_bytes: int = field(default=0, init=False)
    """Bytes of every page held, dropped ones that are still pinned included."""

    _idle: OrderedDict[PageKey, int] = field(factory=OrderedDict, init=False)
    """Bytes of the pages that may be evicted, least recently used first."""
    _idle_bytes: int = field(default=0, init=False)
    _pinned: dict[PageKey, _Pinned] = field(factory=dict, init=False)
    _now: float = field(default=float("-inf"), init=False)

    @ceiling_bytes.validator
    def _check_ceiling(self, _attribute: object, value: int) -> None:
        if value < 0:
            raise ContractViolation(f"a ceiling of {value} bytes")

    def __contains__(self, key: PageKey) -> bool:
        """Whether the page is held and may be served."""
        if key in self._idle:
            return True
        pinned = self._pinned.get(key)
        return pinned is not None and not pinned.dropped

    def __len__(self) -> int:
        """How many pages are charged."""
        return len(self._idle) + len(self._pinned)

    def next_deadline(self) -> float | None:
        """Nothing here depends on the time."""
        return None

    def feed(self, event: RamEvent, now: float) -> tuple[RamAction, ...]:
        """What to do because of ``event``; ``now`` in monotonic seconds."""
        later = advance(self._now, now)
        actions: tuple[RamAction, ...] = ()
        match event:
            case PageOffered(key, nbytes):
                actions = self._offered(key, nbytes)
            case PagesHit(keys):
                self._hit(keys)
            case PagePinned(key):
                self._pin(key)
            case PageUnpinned(key):
                self._unpin(key)
            case PageDropped(key):
                self._drop(key)
            case Tick():
                pass
            case _:
                assert_never(event)
        assert 0 <= self.charged_bytes <= self.ceiling_bytes
        self._now = later
        return actions

    def _offered(self, key: PageKey, nbytes: int) -> tuple[RamAction, ...]:
        if nbytes < 1:
            raise ContractViolation(f"a page of {nbytes} bytes")
        if key in self._idle:
            self._idle.move_to_end(key)
            return (Refuse(key),)
        if key in self._pinned:
            return (Refuse(key),)
        if self.charged_bytes - self._idle_bytes + nbytes > self.ceiling_bytes:
            return (Refuse(key),)
        actions: list[RamAction] = []
        while self.charged_bytes + nbytes > self.ceiling_bytes:
            victim, freed = self._idle.popitem(last=False)
            self._idle_bytes -= freed
            self.charged_bytes -= freed
            actions.append(Evict(victim))
        self._idle[key] = nbytes
        self._idle_bytes += nbytes
        self.charged_bytes += nbytes
        actions.append(Admit(key))
        return tuple(actions)

    def _hit(self, keys: Iterable[PageKey]) -> None:
        # A pinned page needs no note: it becomes the most recent one when it is let go.
        for key in keys:
            if key in self._idle:
                self._idle.move_to_end(key)

    def _pin(self, key: PageKey) -> None:
        pinned = self._pinned.get(key)
        if pinned is not None and not pinned.dropped:
            pinned.pins += 1
        elif key in self._idle:
            nbytes = self._idle.pop(key)
            self._idle_bytes -= nbytes
            self._pinned[key] = _Pinned(nbytes, 1)
        else:
            raise ContractViolation("a pin of a page that is not held")

    def _unpin(self, key: PageKey) -> None:
        pinned = self._pinned.get(key)
        if pinned is None:
            raise ContractViolation("an unpin of a page that is not pinned")
        pinned.pins -= 1
        if pinned.pins:
            return
        del self._pinned[key]
        if pinned.dropped:
            self.charged_bytes -= pinned.nbytes
        else:
            self._idle[key] = pinned.nbytes
            self._idle_bytes += pinned.nbytes

    def _drop(self, key: PageKey) -> None:
        if key in self._idle:
            nbytes = self._idle.pop(key)
            self._idle_bytes -= nbytes
            self.charged_bytes -= nbytes
        elif key in self._pinned:
            self._pinned[key].dropped = True
