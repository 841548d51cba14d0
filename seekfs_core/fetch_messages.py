"""What goes into and comes out of the fetch scheduler (``seekfs_core.fetch``): events and actions."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeAlias

from attrs import field, frozen

from seekfs_core.breaker import BreakerPolicy
from seekfs_core.errors import CeilingExceeded, StoreFailure
from seekfs_core.hedge import HedgePolicy
from seekfs_core.machine import Tick
from seekfs_core.manifest import FileEntry
from seekfs_core.namespace_budgets import NamespaceBudget
from seekfs_core.pages import FileKey, PageKey


@frozen(kw_only=True)
class FetchLimits:
    """The ceilings of a node; see the ``[s3]`` and ``[cache]`` sections of seekfs.toml."""

    inflight_gets_max: int
    room_bytes_max: int
    coalesce_bytes: int
    page_seconds_max: float
    """How long one page of a GET may take, and one piece of another answer: a store that trickles never falls
    silent."""
    hedge: HedgePolicy = field(factory=HedgePolicy)
    breaker: BreakerPolicy = field(factory=BreakerPolicy)
    namespaces: Mapping[str, NamespaceBudget] = field(factory=dict)
    """The namespaces that have budgets of their own, beneath the node's."""

    @property
    def ahead_bytes(self) -> int:
        """What one read asks for ahead: two windows keep the store busy while one is consumed, and a
        quarter of the room leaves others theirs."""
        return min(2 * self.coalesce_bytes, self.room_bytes_max // 4)

    @property
    def reuse_bytes(self) -> int:
        """What one read keeps at hand of pages that it comes back to: as much as it asks for ahead, so that
        both together leave half of the room to others."""
        return self.ahead_bytes

    def check(self, file: FileEntry) -> None:
        """Raises ``CeilingExceeded`` for a file of which one page is more than all room there is."""
        if file.page_size_bytes > self.room_bytes_max:
            raise CeilingExceeded(
                f"{file.path!r} has pages of {file.page_size_bytes} bytes, more than cache.inflight_mib "
                f"allows ({self.room_bytes_max} bytes)",
                path=file.path,
            )


@frozen(eq=False)
class PageSource:
    """A file of one version: what pages are fetched of, and how errors name it."""

    ns: str
    version: int
    file: FileEntry
    key: FileKey


# --- events ---------------------------------------------------------------------------------


@frozen
class PagesWanted:
    """A reader wants pages that are in no tier, ascending. Pages in flight are joined.

    ``is_ahead``: it does not need them yet, so GETs of them start after those that somebody needs. They are
    needed from when a reader waits for one of them, or wants one otherwise. Naming a page that this reader
    already waits for changes nothing else.
    """

    read: int
    source: PageSource
    pages: tuple[int, ...]
    is_ahead: bool = False


@frozen
class RoomWanted:
    """A reader wants a buffer of its own, to read a page back from disk."""

    read: int
    length: int


@frozen
class ReadWaits:
    """A reader can do nothing until this page (or, with None, the room it wanted) comes.

    It waits ``until`` then, in monotonic seconds; answered by ``WaitExpired`` where that is too short.
    """

    read: int
    page: PageKey | None
    until: float = float("inf")


@frozen
class ReadLeft:
    """A reader wants nothing any more: done, failed or gone."""

    read: int


@frozen
class RoomReturned:
    """Buffers of this many bytes are free again."""

    length: int


@frozen
class CallWanted:
    """A request of another kind is wanted, under a number of the driver's choosing; ``ns`` is the namespace
    that it is charged to, if any."""

    call: int
    ns: str | None = None


@frozen
class CallLeft:
    """Nobody wants a call any more. One that was started ends on its own, if as ``CallNotMade``."""

    call: int


@frozen
class GetOpened:
    """The head of a GET's answer has come. ``etag`` and ``size`` are the object's, as the store says.

    Where another GET of the same pages was answered first this one is broken off: nothing of its body is to
    be read any more, nor a buffer taken for it.
    """

    get: int
    etag: str | None
    size: int


@frozen
class PageArrived:
    """A page of a GET has come in whole, with this CRC-32C."""

    get: int
    page_id: int
    crc32c: int


@frozen
class GetEnded:
    """A GET has delivered all its pages."""

    get: int


@frozen
class GetFailed:
    """A GET has failed. Pages that arrived before are not affected."""

    get: int
    failure: StoreFailure


@frozen
class CallMoved:
    """A piece of a call's answer has come."""

    call: int


@frozen
class CallEnded:
    """A call has its answer."""

    call: int


@frozen
class CallFailed:
    call: int
    failure: StoreFailure


@frozen
class CallNotMade:
    """A call that was to start was not made, because everybody had left it by then."""

    call: int


@frozen
class Closing:
    """Nothing is waited for any more, from now on."""


FetchEvent: TypeAlias = (
    PagesWanted
    | RoomWanted
    | ReadWaits
    | ReadLeft
    | RoomReturned
    | CallWanted
    | CallLeft
    | GetOpened
    | PageArrived
    | GetEnded
    | GetFailed
    | CallMoved
    | CallEnded
    | CallFailed
    | CallNotMade
    | Closing
    | Tick
)

# --- actions --------------------------------------------------------------------------------


class GetReason(enum.Enum):
    """Why a GET is made."""

    NEEDED = "a read needs it"
    AHEAD = "a read will need it"
    RETRY = "an earlier GET failed"
    CHECKSUM = "the checksum of a page was wrong"
    HEDGE = "the first byte of another GET is late"


@frozen
class StartGet:
    """Send one GET for pages [``page_start``, ``page_stop``) of a file. Its room is reserved.

    ``attempt`` counts the GETs for the same, this one included. A hedge is one more beside GET ``hedge_of``,
    which is in flight: whichever is opened first brings the pages, and the other is broken off. The pages
    were wanted at ``wanted_at`` by ``read``, before anybody else, and first asked for at ``first_at``.
    """

    get: int
    source: PageSource
    page_start: int
    page_stop: int
    attempt: int
    reason: GetReason
    read: int
    wanted_at: float
    first_at: float
    hedge_of: int | None = None

    @property
    def start(self) -> int:
        """The first byte of the range."""
        return self.source.file.page_extent(self.page_start)[0]

    @property
    def stop(self) -> int:
        """The byte after the range."""
        return self.source.file.page_extent(self.page_stop - 1)[1]


@frozen
class StartCall:
    call: int
    attempt: int


@frozen
class DeliverPage:
    """The page is right: keep it, and give it to these readers. Its room is now the driver's."""

    get: int
    source: PageSource
    page_id: int
    reads: tuple[int, ...]


@frozen
class DiscardPage:
    """The page is wrong, or came from a GET that another one has overtaken: its buffer is to be reused. Its
    room stays reserved or was given up."""

    get: int
    page_id: int


@frozen
class FailPage:
    """These readers will not get this page."""

    source: PageSource
    page_id: int
    reads: tuple[int, ...]
    failure: StoreFailure


@frozen
class FailCall:
    """A call has failed for good."""

    call: int
    failure: StoreFailure


@frozen
class GrantRoom:
    """The reader may take a buffer of the length that it wanted."""

    read: int
    length: int


@frozen
class RefuseRoom:
    """The reader will not get the room that it wanted: this is the end."""

    read: int
    length: int


@frozen
class BreakOffGet:
    """Read no further of this GET's answer, and report it as failed with this."""

    get: int
    failure: StoreFailure


@frozen
class BreakOffCall:
    """Read no further of this call's answer, and report it as failed with this."""

    call: int
    failure: StoreFailure


@frozen
class WaitExpired:
    """The reader has waited for the page (or, with None, for room) as long as it said it would. It wants it
    still, until it leaves. ``is_asked``: the GET of the page was started at least."""

    read: int
    page: PageKey | None
    is_asked: bool = False


@frozen
class DropAhead:
    """Every page that the reader holds for later is to be let go of. Of those that it still waits for,
    ``lost`` will not come."""

    read: int
    lost: tuple[PageKey, ...]


FetchAction: TypeAlias = (
    StartGet
    | StartCall
    | DeliverPage
    | DiscardPage
    | FailPage
    | FailCall
    | GrantRoom
    | RefuseRoom
    | BreakOffGet
    | BreakOffCall
    | WaitExpired
    | DropAhead
)


@frozen(kw_only=True)
class FetchStatistics:
    """Counters since the scheduler was made, and what is going on now."""

    gets_started: int
    calls_started: int
    gets_retried: int
    hedges_started: int
    """How many of the GETs were hedges, and how many of these were answered first."""
    hedges_won: int
    pages_delivered: int
    pages_refused: int
    outcomes: dict[str, int]
    budget_waits: int
    rate_per_second: float
    """Requests that may start a second now: the budget's, or less while the store wants to be asked less."""
    breaker_opened: int
    """How often the breaker opened, and whether it is open now."""
    is_breaker_open: bool
    in_flight: int
    queued: int
    room_bytes_used: int
    room_bytes_max: int
