"""Whose the bytes of each page buffer are: the first tier's (L1), or those of the room for buffers.

A buffer is there while somebody holds it (the GET that fills it, readers, write-behind) or L1 keeps
it. At any time it is charged to one ceiling and no other: to L1's while L1 keeps it, else to the room
that ``seekfs_core.fetch`` hands out. Rules of this file:

* **A page is offered to L1 once**, when it turns out right, however it came. If L1 takes it over, its
  room is free again; if not, the room comes back with the last holder.
* **L1 gives up no page that is held**, so a byte never slips out of both accounts.
* **A verified page is found for as long as its buffer is there**, also where L1 has not taken it: a
  reader that comes late shares it with those who hold it. A second copy of a page that is found
  already serves its holders only.
* **Memory that was let go of may be kept for reuse** as far as nobody needs the room that it takes.
* **A hit changes a count.** The policy of L1 hears of hits from the driver, which notes them and says them
  many at a time (``hits_seen``), before every offer at the latest; and that a page is held it hears only when
  it would choose that page: a warm read pays for no event. So this is an account like ``seekfs_core.room``
  and no machine. Its driver calls it under a lock, for a moment.

The ledger has numbers and keys. The driver's buffers are ``PageAccount`` objects with memory besides. The one
machine in it is the policy, and a driver that wants to know what that is fed hands in ``watch``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar, assert_never

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation
from seekfs_core.pages import PageKey
from seekfs_core.retention import (
    Admit,
    Evict,
    HitsSeen,
    PageOffered,
    PagePinned,
    PageUnpinned,
    RamAction,
    RamEvent,
    RamRetention,
    Refusal,
    Refuse,
    ram_charge,
)


@define(eq=False)
class PageAccount:
    """What the ledger knows of one buffer. Drivers add the memory; nobody else changes these fields."""

    length: int
    holders: int = field(default=1, init=False)
    key: PageKey | None = field(default=None, init=False)
    """The page in it, once it is verified and offered."""
    is_found: bool = field(default=False, init=False)
    in_l1: bool = field(default=False, init=False)


BufferT = TypeVar("BufferT", bound=PageAccount)

FeedPolicy: TypeAlias = Callable[[RamEvent, float], tuple[RamAction, ...]]


def _unwatched(policy: RamRetention) -> FeedPolicy:
    return policy.feed


@frozen
class Supply:
    """Where the memory of a buffer comes from."""

    is_reused: bool
    """From what was kept, else it is new."""
    surplus: tuple[int, ...] = ()
    """Lengths of memory kept that has to go before: free one of each."""


@frozen
class Offer(Generic[BufferT]):
    """What became of a page that was offered."""

    room_bytes: int
    """Room that is free again, because L1 has taken the page over; or 0."""
    evicted: tuple[BufferT, ...] = ()
    """Buffers that nobody holds or keeps any more."""


@define(eq=False)
class BufferLedger(Generic[BufferT]):
    """See the module's text. All numbers are bytes unless they say otherwise."""

    l1_bytes_max: int
    room_bytes_max: int
    watch: Callable[[RamRetention], FeedPolicy] = _unwatched
    """Given the policy of L1, what to call in place of its ``feed``."""
    room_bytes: int = field(default=0, init=False)
    """What buffers take that L1 does not keep."""
    spare_bytes: int = field(default=0, init=False)
    """What is kept for reuse; with ``room_bytes`` at most ``room_bytes_max``, unless that is more itself."""
    pages_admitted: int = field(default=0, init=False)
    refusals: Counter[Refusal] = field(factory=Counter, init=False)
    """How many pages L1 has refused, and why."""
    pages_evicted: int = field(default=0, init=False)

    _l1: RamRetention = field(init=False)
    _feed_l1: FeedPolicy = field(init=False)
    _found: dict[PageKey, BufferT] = field(factory=dict, init=False)
    _pinned: dict[PageKey, None] = field(factory=dict, init=False)
    """Ordered, so that the order of what L1 hears is reproducible."""
    _spare: dict[int, int] = field(factory=dict, init=False)
    """How many pieces of each length."""

    def __attrs_post_init__(self) -> None:
        self._l1 = RamRetention(self.l1_bytes_max)
        self._feed_l1 = self.watch(self._l1)

    def __contains__(self, key: PageKey) -> bool:
        """Whether a page would be found."""
        return key in self._found

    @property
    def l1_bytes(self) -> int:
        """What L1 is charged with."""
        return self._l1.charged_bytes

    @property
    def l1_pages(self) -> int:
        """How many pages L1 keeps."""
        return len(self._l1)

    # --- memory -----------------------------------------------------------------------------

    def take(self, length: int) -> Supply:
        """A buffer of ``length`` is made, for room that was granted before; its maker holds it."""
        if length < 1:
            raise ContractViolation(f"a buffer of {length} bytes")
        self.room_bytes += length
        if self._spare.get(length):
            self._spend(length)
            return Supply(True)
        surplus: list[int] = []
        for spare, count in list(self._spare.items()):
            for _ in range(count):
                if self.room_bytes + self.spare_bytes <= self.room_bytes_max:
                    break
                self._spend(spare)
                surplus.append(spare)
        return Supply(False, tuple(surplus))

    def not_taken(self, length: int) -> None:
        """There was no memory for the buffer: what its maker may have is not what it has."""
        if length > self.room_bytes:
            raise ContractViolation(f"{length} bytes were not taken, of {self.room_bytes}")
        self.room_bytes -= length

    def keeps_spare(self, length: int) -> bool:
        """Whether memory of a buffer that is gone is kept for reuse; if so, it is accounted for."""
        if self.room_bytes + self.spare_bytes + length > self.room_bytes_max:
            return False
        self.spare_bytes += length
        self._spare[length] = self._spare.get(length, 0) + 1
        return True

    def _spend(self, length: int) -> None:
        self.spare_bytes -= length
        self._spare[length] -= 1
        if not self._spare[length]:
            del self._spare[length]

    # --- pages ------------------------------------------------------------------------------

    def offer(self, buffer: BufferT, key: PageKey, holders: int, now: float) -> Offer[BufferT]:
        """The buffer holds this page, verified: let it be found, add holders, and offer it to L1.

        ``now`` in monotonic seconds. ``ContractViolation`` for a buffer that was offered before or that
        nobody holds.
        """
        if buffer.key is not None or buffer.holders < 1 or holders < 0:
            raise ContractViolation(f"{buffer} cannot be offered with {holders} more holders")
        is_copy = key in self._found  # Somebody read the same page back from disk meanwhile.
        nbytes = ram_charge(buffer.length)
        if is_copy:
            buffer.key = key
            buffer.holders += holders
            return Offer(0)
        self._tell_l1(nbytes, now)
        actions = self._feed_l1(PageOffered(key, nbytes), now)
        buffer.key = key
        buffer.holders += holders
        buffer.is_found = True
        self._found[key] = buffer
        evicted: list[BufferT] = []
        for action in actions:
            match action:
                case Evict(victim):
                    evicted.append(self._found.pop(victim))
                case Admit():
                    buffer.in_l1 = True
                case Refuse(_, reason):
                    self.refusals[reason] += 1
                case _:
                    assert_never(action)
        self.pages_evicted += len(evicted)
        if not buffer.in_l1:
            return Offer(0, tuple(evicted))
        self.pages_admitted += 1
        self.room_bytes -= buffer.length
        return Offer(buffer.length, tuple(evicted))

    def _tell_l1(self, nbytes: int, now: float) -> None:
        """What L1 has to know before a page that it charges with ``nbytes`` is offered, beside the hits."""
        for idle in [key for key in self._pinned if not self._found[key].holders]:
            self._feed_l1(PageUnpinned(idle), now)
            del self._pinned[idle]
        while held := [key for key in self._l1.leaving(nbytes) or () if self._found[key].holders]:
            for key in held:
                self._feed_l1(PagePinned(key), now)
                self._pinned[key] = None

    def hits_seen(self, keys: tuple[PageKey, ...], now: float) -> None:
        """Pages that were held, oldest first, for the policy of L1."""
        self._feed_l1(HitsSeen(keys), now)

    def hold(self, key: PageKey) -> BufferT | None:
        """The verified page, held once more, or None. A hit, to be noted by the driver."""
        buffer = self._found.get(key)
        if buffer is not None:
            buffer.holders += 1
        return buffer

    def release(self, buffer: BufferT) -> bool:
        """Hold a buffer once less. True when it is gone: nobody holds or keeps it, and its room is free.

        ``ContractViolation`` for one that nobody holds.
        """
        holders = buffer.holders - 1
        if holders < 0:
            raise ContractViolation(f"{buffer} was released more often than it was held")
        buffer.holders = holders
        if holders or buffer.in_l1:
            return False
        if buffer.is_found:
            assert buffer.key is not None
            del self._found[buffer.key]
        self.room_bytes -= buffer.length
        return True
