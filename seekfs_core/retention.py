"""What is kept in RAM and on disk when not everything fits.

``RamRetention`` is the policy of pages in RAM (L1, and the ``mem`` L2): least recently used,
by bytes, under a ceiling that holds at every step. ``DiskRetention`` is what a full disk cache
admits and gives up; ``SegmentLog`` (in ``seekfs_core.segments``) holds it and does the rest.

Rules of this file: a machine here holds keys, sizes and order, never a page. It is told of
hits in batches, late and out of order, so a key that it does not know is no error there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
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
class HitsSeen:
    """Pages that were read, oldest first for each reading thread. Unknown keys (evicted meanwhile) are
    ignored."""

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


HITS_NOTED_MAX = 8192
"""Hits of one thread that a tier remembers until its policy hears of them. Of more, the latest say enough
about what is in use."""

HITS_SEEN_AT_ONCE = 256
"""Hits that a policy hears of in one event, so that a lock is held for microseconds."""

HITS_SECONDS_MAX = 1.0
"""How long a hit may be noted before the policy hears of it. Before it chooses what leaves it does anyway."""


PAGE_OVERHEAD_BYTES = 1024
"""What keeping a page in RAM costs beside its bytes: without it a million pages of one byte were free."""


def ram_charge(length: int) -> int:
    """Bytes of a ceiling on memory that keeping a page of ``length`` bytes takes."""
    return length + PAGE_OVERHEAD_BYTES


RamEvent = PageOffered | HitsSeen | PagePinned | PageUnpinned | PageDropped | Tick


@frozen
class Admit:
    """Keep the page that was offered; its bytes are charged from now on."""

    key: PageKey


class Refusal(Enum):
    """Why a tier does not keep a page, as metrics call it."""

    HELD = "held"
    """It has a page under that key, or is writing one."""

    TOO_LARGE = "too_large"
    """The ceiling has no room for a page of this length."""

    NOT_WORTH_IT = "not_worth_it"
    """What it would displace is used more."""

    BUSY = "busy"
    """What it would displace is being read or written."""

    FAILED = "failed"
    """The disk or the memory did not take it."""

    OFF = "off"
    """The tier has turned itself off."""


@frozen
class Refuse:
    """Do not keep the page that was offered."""

    key: PageKey
    reason: Refusal


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

    Every offer is answered by ``Admit`` or ``Refuse``.

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

    def leaving(self, nbytes: int) -> tuple[PageKey, ...] | None:
        """Which pages would be evicted for a new one of ``nbytes`` that is offered now, least recently
        used first; None where it would be refused. Changes nothing."""
        over = self.charged_bytes + nbytes - self.ceiling_bytes
        if over > self._idle_bytes:
            return None
        victims: list[PageKey] = []
        for key, freed in self._idle.items():
            if over <= 0:
                break
            victims.append(key)
            over -= freed
        return tuple(victims)

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
            case HitsSeen(keys):
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
            return (Refuse(key, Refusal.HELD),)
        if key in self._pinned:
            return (Refuse(key, Refusal.HELD),)
        if nbytes > self.ceiling_bytes:
            return (Refuse(key, Refusal.TOO_LARGE),)
        victims = self.leaving(nbytes)
        if victims is None:
            return (Refuse(key, Refusal.BUSY),)
        actions: list[RamAction] = []
        for victim in victims:
            freed = self._idle.pop(victim)
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


IDLE_PER_REUSE_MIN = 2
"""A newcomer displaces a page only when that one has idled for more than this many of the
newcomer's own reuse intervals: less lets two equal pages displace each other for ever."""

GHOSTS_PER_PAGE = 4
"""Keys remembered for each page held. A data set of more than 5 times the cache is not learnt,
and need not be: keeping any fixed part of it is the best that can be done."""

GHOSTS_MIN = 64
GHOSTS_MAX = 1 << 20
"""About 150 MB of memory; reached only by more than 256 Ki pages held."""

LATELY_PER_PAGE = 1.5
"""A page was used lately when it was among the last 1.5 requests for each page held: one epoch of
a data set somewhat larger than the cache, and not two."""


@define
class _Held:
    segment: int
    last_used: int
    hit: bool = False


@define
class DiskRetention:
    """What a full disk cache admits and which segment it gives up; a part of ``SegmentLog``.

    Data sets are read epoch after epoch, in order or shuffled. For those the best policy keeps
    a fixed part and refuses the rest, and recency, which lets every newcomer in, keeps nothing.
    So a full cache has a *gate*: a newcomer is admitted only when the least recently used page
    has idled for more than twice the newcomer's own last reuse interval. That interval is known
    from *ghosts*, keys that were asked for and are not held. And it is *segments* that are given
    up: the one with the fewest pages that were hit and used lately.

    Time is counted in requests (of pages, at this tier), so that a pause is not an absence.
    Every step costs constant time, amortised.
    """

    requests: int = field(default=0, init=False)
    """The clock: how many pages have been asked for."""

    # Both in order of last use; every page of the second was used before every page of the
    # first. Pages move over as they age, so "used lately" needs no search.
    _recent: OrderedDict[PageKey, _Held] = field(factory=OrderedDict, init=False)
    _aged: OrderedDict[PageKey, _Held] = field(factory=OrderedDict, init=False)
    _ghosts: OrderedDict[PageKey, int] = field(factory=OrderedDict, init=False)
    _warm: dict[int, int] = field(factory=dict, init=False)
    _last_used: dict[int, int] = field(factory=dict, init=False)
    _latest: PageKey | None = field(default=None, init=False)

    def __len__(self) -> int:
        """How many pages are held."""
        return len(self._recent) + len(self._aged)

    def missed(self, key: PageKey) -> int | None:
        """A page was asked for that is not held: its reuse interval in requests, if remembered."""
        self._tick(key)
        before = self._ghosts.pop(key, None)
        self._remember(key, self.requests)
        return None if before is None else self.requests - before

    def worth(self, interval: int | None) -> bool:
        """Whether a page of this reuse interval (None: never seen) may displace another one."""
        if interval is None:
            return False
        for order in (self._aged, self._recent):
            for oldest in order.values():
                return self.requests - oldest.last_used > IDLE_PER_REUSE_MIN * interval
        return True

    def admitted(self, key: PageKey, segment: int) -> None:
        """A page is held from now on, in ``segment``."""
        self._ghosts.pop(key, None)
        self._recent[key] = _Held(segment, self.requests)
        self._last_used[segment] = self.requests

    def moved(self, key: PageKey, segment: int) -> None:
        """A page that is held was carried over into another segment."""
        held = self._recent.get(key)
        if held is not None:
            if held.hit:
                self._cool(held.segment)
                self._warm[segment] = self._warm.get(segment, 0) + 1
        else:
            held = self._aged[key]
        held.segment = segment
        self._last_used[segment] = max(self._last_used.get(segment, 0), held.last_used)

    def left(self, key: PageKey) -> None:
        """A page is no longer held; when it was last used is remembered."""
        held = self._recent.pop(key, None)
        if held is None:
            held = self._aged.pop(key)
        elif held.hit:
            self._cool(held.segment)
        self._remember(key, held.last_used)

    def hit(self, key: PageKey) -> None:
        """A page was read. One read in several pieces is one use; unknown keys are ignored."""
        if key == self._latest:
            return
        held = self._recent.get(key)
        if held is not None:
            self._recent.move_to_end(key)
            newly_warm = not held.hit
        else:
            held = self._aged.pop(key, None)
            if held is None:
                return
            self._recent[key] = held
            newly_warm = True
        self._tick(key)
        held.last_used = self.requests
        held.hit = True
        self._last_used[held.segment] = self.requests
        if newly_warm:
            self._warm[held.segment] = self._warm.get(held.segment, 0) + 1

    def score(self, segment: int) -> tuple[int, int]:
        """How much a segment is worth keeping: pages hit and used lately, then its last use."""
        return self._warm.get(segment, 0), self._last_used.get(segment, 0)

    def warm(self, keys: Iterable[PageKey]) -> list[PageKey]:
        """Those of ``keys`` that were hit and used lately, most recently used first."""
        found = [(held.last_used, key) for key in keys if (held := self._recent.get(key)) and held.hit]
        found.sort(reverse=True)
        return [key for _, key in found]

    def forget_segment(self, segment: int) -> None:
        """A segment is gone, and none of its pages is held any more."""
        self._warm.pop(segment, None)
        self._last_used.pop(segment, None)

    def _tick(self, key: PageKey) -> None:
        self.requests += 1
        self._latest = key
        horizon = self.requests - LATELY_PER_PAGE * len(self)
        while self._recent:
            oldest, held = next(iter(self._recent.items()))
            if held.last_used >= horizon or oldest == key:
                return
            del self._recent[oldest]
            self._aged[oldest] = held
            if held.hit:
                self._cool(held.segment)

    def _cool(self, segment: int) -> None:
        self._warm[segment] -= 1

    def _remember(self, key: PageKey, when: int) -> None:
        self._ghosts[key] = when
        limit = min(GHOSTS_MAX, max(GHOSTS_MIN, GHOSTS_PER_PAGE * len(self)))
        while len(self._ghosts) > limit:
            self._ghosts.popitem(last=False)
