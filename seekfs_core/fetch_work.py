"""What a fetch scheduler has in hand: pages that are wanted, the GETs and calls that bring them, and
requests for room. Records without decisions; ``seekfs_core.fetch`` makes these.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from attrs import define, evolve, field

from seekfs_core.errors import ContractViolation, FailureKind, StoreFailure
from seekfs_core.fetch_messages import PageSource

CRC_ATTEMPTS_MAX = 2
"""A page with a wrong checksum is asked for once more: a flipped bit on the way is cured by that, a
falsified object is not."""

OVERWRITTEN = "the object was overwritten since it was published"


class GetState(enum.Enum):
    """Where a GET is. ``BACKING_OFF`` holds its room, ``QUEUED`` does not yet unless it is a retry."""

    QUEUED = "queued"
    IN_FLIGHT = "in_flight"
    BACKING_OFF = "backing_off"
    OVER = "over"


GET_TRANSITIONS: dict[tuple[GetState, str], frozenset[GetState]] = {
    (GetState.QUEUED, "start"): frozenset({GetState.IN_FLIGHT}),
    (GetState.QUEUED, "unwanted"): frozenset({GetState.OVER}),
    (GetState.QUEUED, "refused"): frozenset({GetState.OVER}),
    (GetState.IN_FLIGHT, "hedged"): frozenset({GetState.IN_FLIGHT}),
    (GetState.IN_FLIGHT, "taken over"): frozenset({GetState.IN_FLIGHT}),
    (GetState.IN_FLIGHT, "opened"): frozenset({GetState.IN_FLIGHT}),
    (GetState.IN_FLIGHT, "arrived"): frozenset({GetState.IN_FLIGHT}),
    (GetState.IN_FLIGHT, "ended"): frozenset({GetState.OVER}),
    (GetState.IN_FLIGHT, "failed"): frozenset({GetState.OVER, GetState.BACKING_OFF}),
    (GetState.BACKING_OFF, "due"): frozenset({GetState.QUEUED}),
    (GetState.BACKING_OFF, "unwanted"): frozenset({GetState.OVER}),
    (GetState.BACKING_OFF, "refused"): frozenset({GetState.OVER}),
}
"""The whole life of a GET: (state, what happens) to the states it may land in."""


@define(eq=False)
class Page:
    """A page that is wanted and in no tier. Belongs to exactly one GET at any time."""

    readers: dict[int, None] = field(factory=dict)  # Ordered, so that outcomes are reproducible.
    crc_attempts: int = 0


@define(eq=False)
class Hedge:
    """The second request for what a GET asks for, while neither has been answered."""

    number: int
    started_at: float
    page_due: float


@define(eq=False)
class Get:
    """A GET of pages [``page_start``, ``page_stop``), which ``read`` wanted first, at ``wanted_at``.

    ``order`` is its place among all that wait for room; ``attempt`` counts its requests, hedges included;
    ``has_room`` once the bytes of its pages are reserved; ``is_ahead`` while nobody needs its pages yet.
    ``number`` is that of its request in flight, or of the one that was last, or will be next.
    """

    number: int
    source: PageSource
    page_start: int
    page_stop: int
    order: int
    read: int
    wanted_at: float
    is_ahead: bool
    state: GetState = GetState.QUEUED
    attempt: int = 0
    has_room: bool = False
    due: float = 0.0
    page_due: float = float("inf")  # When the page that comes next has taken too long; in flight only.
    started_at: float = 0.0
    first_at: float | None = None  # When its first request was started, or that of the GET it is a part of.
    is_opened: bool = False  # Whether the head of its answer has come; in flight only.
    probe: int = 0  # Which probe of the breaker its request is; 0: none.
    hedge: Hedge | None = None
    hedge_due: float = float("inf")  # When it is late without a first byte.
    arrived_stop: int = 0  # Pages [page_start, arrived_stop) have come in during this attempt.
    refused: list[int] = field(factory=list)  # Pages of this attempt whose checksum was wrong.
    etag: str | None = None
    object_size: int | None = None

    @property
    def pages(self) -> range:
        return range(self.page_start, self.page_stop)

    @property
    def length(self) -> int:
        """The bytes of its pages."""
        extent = self.source.file.page_extent
        return extent(self.page_stop - 1)[1] - extent(self.page_start)[0]

    def require(self, what: str) -> None:
        """``ContractViolation`` unless this can happen to it now."""
        if (self.state, what) not in GET_TRANSITIONS:
            raise ContractViolation(f"GET {self.number} is {self.state.value}: {what!r} cannot happen")

    def move(self, what: str, landing: GetState) -> None:
        """It has happened, and it is in this state now."""
        self.require(what)
        assert landing in GET_TRANSITIONS[self.state, what], (self.state, what, landing)
        self.state = landing


@define(eq=False)
class Call:
    """A request of another kind. ``wanted`` until its last waiter has left."""

    number: int
    ns: str | None
    attempt: int = 0
    in_flight: bool = False
    probe: int = 0
    wanted: bool = True
    due: float = 0.0  # When it is made again; resting only.
    piece_due: float = float("inf")  # When the piece that comes next has taken too long; in flight only.


@define(eq=False)
class RoomRequest:
    """A reader waits for ``length`` bytes of room; ``order`` as of a GET."""

    read: int
    length: int
    order: int


def page_length(source: PageSource, page_id: int) -> int:
    """The bytes of one page."""
    start, stop = source.file.page_extent(page_id)
    return stop - start


def runs_of(pages: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending page ids as half-open runs."""
    runs: list[tuple[int, int]] = []
    for page_id in pages:
        if runs and runs[-1][1] == page_id:
            runs[-1] = (runs[-1][0], page_id + 1)
        else:
            runs.append((page_id, page_id + 1))
    return runs


def after_attempts(failure: StoreFailure, attempts: int) -> StoreFailure:
    """A final failure, and how often it was tried."""
    detail = failure.detail if attempts == 1 else f"{failure.detail}, after {attempts} requests"
    return evolve(failure, detail=detail, facts={**failure.facts, "attempts": attempts})


def of_page(page_id: int, failure: StoreFailure) -> StoreFailure:
    """A failure of a GET, as that of one of its pages."""
    return evolve(failure, facts={**failure.facts, "page_id": page_id})


def wanted_for(source: PageSource, failure: StoreFailure) -> StoreFailure:
    """A failure of the object of ``source``, with what it was wanted for; "overwritten" where the store said
    of which size the object is (``object_size``), and the manifest says otherwise."""
    file = source.file
    size = failure.facts.get("object_size", file.size)
    overwritten = size != file.size
    where = f"wanted for {file.path!r} in version {source.version} of {source.ns!r}"
    if overwritten:
        where += f", which has {file.size} bytes there: {OVERWRITTEN}"
    facts = {"ns": source.ns, "path": file.path, "version": source.version, "overwritten": overwritten}
    return evolve(failure, detail=f"{failure.detail}; {where}", facts={**failure.facts, **facts})


def corrupt_page(get: Get, page_id: int, expected: int, found: int) -> StoreFailure:
    """What a page that was wrong twice says to the people who have to find out why."""
    source = get.source
    overwritten = (get.object_size is not None and get.object_size != source.file.size) or (
        get.etag is not None and source.file.storage_etag is not None and get.etag != source.file.storage_etag
    )
    return StoreFailure(
        kind=FailureKind.BAD_CHECKSUM,
        detail=(
            f"page {page_id} of {source.file.path!r} in version {source.version} of {source.ns!r} has "
            f"CRC-32C {found:#010x} in the store, twice, where the manifest says {expected:#010x}"
            + (f"; {OVERWRITTEN}" if overwritten else "")
        ),
        facts={
            "ns": source.ns,
            "path": source.file.path,
            "version": source.version,
            "page_id": page_id,
            "attempts": CRC_ATTEMPTS_MAX,
            "expected": expected,
            "found": found,
            "overwritten": overwritten,
        },
    )
