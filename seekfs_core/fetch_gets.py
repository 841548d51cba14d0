"""Which pages are wanted, by whom, and the GETs that bring them: the books of the fetch scheduler.

A page that is wanted belongs to exactly one GET, from when the first reader wants it until it has an outcome
or nobody wants it. Whether and when a GET starts is the scheduler's to say (``seekfs_core.fetch``).
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from seekfs_core.errors import ContractViolation
from seekfs_core.fetch_lines import GetLines
from seekfs_core.fetch_messages import PageSource
from seekfs_core.fetch_waits import Waits
from seekfs_core.fetch_work import Get, GetState, Hedge, Page, page_length, runs_of
from seekfs_core.pages import PageKey, page_key
from seekfs_core.room import Room


@define
class GetBook:
    """See the module's text. ``room`` is given up here for pages that no GET will bring."""

    room: Room
    waits: Waits
    gets: dict[int, Get] = field(factory=dict, init=False)
    """Every GET that is not over, by the number of its request."""
    hedges: dict[int, Get] = field(factory=dict, init=False)
    """The GETs that are hedged, by the number of the hedge."""
    overtaken: dict[int, int] = field(factory=dict, init=False)
    """Requests that another one has overtaken, until they end; which probe of the breaker each was, or 0."""
    lines: GetLines = field(factory=GetLines, init=False)
    resting: list[Get] = field(factory=list, init=False)
    """The GETs that back off."""
    _pages: dict[PageKey, Page] = field(factory=dict, init=False)
    _get_of: dict[PageKey, int] = field(factory=dict, init=False)
    _wants: dict[int, dict[PageKey, None]] = field(factory=dict, init=False)
    _next_number: int = field(default=1, init=False)
    _next_order: int = field(default=0, init=False)

    def __contains__(self, key: PageKey) -> bool:
        """Whether somebody wants the page, or a GET in flight brings it."""
        return key in self._pages

    # --- who wants what ---------------------------------------------------------------------

    def want(self, read: int, key: PageKey) -> bool:
        """A reader wants a page; whether no GET brings it yet."""
        page = self._pages.get(key)
        if is_new := page is None:
            page = self._pages[key] = Page()
        page.readers[read] = None
        self._wants.setdefault(read, {})[key] = None
        return is_new

    def wanted_by(self, read: int) -> tuple[PageKey, ...]:
        """The pages that a reader wants, in the order in which it wanted them."""
        return tuple(self._wants.get(read, ()))

    def is_wanted_by(self, read: int, key: PageKey) -> bool:
        return key in self._wants.get(read, {})

    def leave(self, read: int) -> None:
        """A reader wants nothing any more."""
        self.forget_wants(read, self.wanted_by(read))
        self._wants.pop(read, None)

    def forget_wants(self, read: int, keys: Iterable[PageKey]) -> None:
        """Take a reader off these pages; what nobody wants now is not started."""
        touched: dict[int, None] = {}
        for key in keys:
            del self._wants[read][key]
            del self._pages[key].readers[read]
            touched[self._get_of[key]] = None
        for number in touched:
            self.shed(self.gets[number])

    def forget_readers(self, get: Get, page_id: int) -> tuple[int, ...]:
        """Take every reader off a page that its GET has not brought yet; who they were."""
        key = page_key(get.source.key, page_id)
        readers = tuple(self._pages[key].readers)
        for read in readers:
            del self._wants[read][key]
        self._pages[key].readers.clear()
        return readers

    # --- GETs -------------------------------------------------------------------------------

    def new_get(
        self, source: PageSource, run: tuple[int, int], *, read: int, wanted_at: float, is_ahead: bool
    ) -> Get:
        get = Get(self.new_number(), source, *run, self.new_order(), read, wanted_at, is_ahead)
        self._add(get)
        return get

    def new_number(self) -> int:
        """Of a request."""
        number, self._next_number = self._next_number, self._next_number + 1
        return number

    def new_order(self) -> int:
        """Who asked first: GETs and requests for room wait in lines of their own."""
        self._next_order += 1
        return self._next_order

    def again(self, get: Get, run: tuple[int, int]) -> Get:
        """One more GET for some pages of one that is about to be over, in its place: they keep their room."""
        again = self.new_get(get.source, run, read=get.read, wanted_at=get.wanted_at, is_ahead=get.is_ahead)
        again.has_room, again.first_at = True, get.first_at
        return again

    def known(self, number: int, what: str) -> Get:
        """The GET to which ``what`` happens; ``ContractViolation`` where it cannot."""
        get = self.gets.get(number)
        if get is None:
            raise ContractViolation(f"GET {number} is not known: {what!r} cannot happen")
        get.require(what)
        return get

    def get_of(self, key: PageKey) -> Get | None:
        """The GET that brings a page; none where nobody wants it."""
        number = self._get_of.get(key)
        return None if number is None else self.gets[number]

    def page(self, get: Get, page_id: int) -> Page:
        return self._pages[page_key(get.source.key, page_id)]

    def pages_left(self, get: Get) -> list[int]:
        """The pages of a GET that have no outcome yet."""
        return [
            page_id
            for page_id in get.pages
            if self._get_of.get(page_key(get.source.key, page_id)) == get.number
        ]

    def need(self, get: Get) -> bool:
        """Somebody needs pages of a GET now; whether nobody did before."""
        if not get.is_ahead:
            return False
        is_queued = get.state is GetState.QUEUED
        if is_queued:
            self.lines.remove(get)
        get.is_ahead = False
        if is_queued:
            self.lines.add(get)
        return True

    def hedge(self, get: Get, hedge: Hedge) -> None:
        """A second request for the same is under way."""
        get.move("hedged", GetState.IN_FLIGHT)
        get.hedge = hedge
        self.hedges[hedge.number] = get

    def take_over(self, get: Get) -> None:
        """The hedge of a GET is its request from now on."""
        hedge = get.hedge
        assert hedge is not None
        get.move("taken over", GetState.IN_FLIGHT)
        brought = self.pages_left(get)
        del self.gets[get.number], self.hedges[hedge.number]
        get.number, get.started_at, get.page_due = hedge.number, hedge.started_at, hedge.page_due
        get.hedge, get.probe = None, 0
        self.gets[get.number] = get
        for page_id in brought:
            self._get_of[page_key(get.source.key, page_id)] = get.number

    def drop_hedge(self, get: Get) -> None:
        """The hedge of a GET is of no use: it has failed, or came second."""
        assert get.hedge is not None
        del self.hedges[get.hedge.number]
        get.hedge = None

    def rest(self, get: Get, due: float) -> None:
        """It backs off until then."""
        get.due = due
        self.resting.append(get)
        self.shed(get)

    def requeue_due(self, now: float) -> None:
        for get in [get for get in self.resting if get.due <= now]:
            self.resting.remove(get)
            get.move("due", GetState.QUEUED)
            self.lines.add(get)

    def shed(self, get: Get) -> None:
        """Drop from a GET that is not in flight the pages that nobody wants.

        What is left may be several runs: the first stays this GET, the others become GETs of
        their own right behind it, in the same state. A GET in flight brings what it was sent for.
        """
        if get.state is GetState.IN_FLIGHT:
            return
        wanted = [page_id for page_id in get.pages if self.page(get, page_id).readers]
        if len(wanted) == len(get.pages):
            return
        for page_id in get.pages:
            if not self.page(get, page_id).readers:
                self.forget_page(get, page_id)
        if not wanted:
            self.give_up(get, "unwanted")
            return
        (get.page_start, get.page_stop), *others = runs_of(wanted)
        for run in others:
            twin = Get(self.new_number(), get.source, *run, get.order, get.read, get.wanted_at, get.is_ahead)
            twin.state, twin.attempt, twin.has_room, twin.due = get.state, get.attempt, get.has_room, get.due
            twin.first_at = get.first_at
            self._add(twin)
            if get.state is GetState.QUEUED:
                self.lines.add(twin)
            else:
                self.resting.append(twin)

    def give_up(self, get: Get, what: str) -> None:
        """A GET that is not in flight is over."""
        if get.state is GetState.QUEUED:
            self.lines.remove(get)
        else:
            self.resting.remove(get)
        get.move(what, GetState.OVER)
        del self.gets[get.number]

    def forget_page(self, get: Get, page_id: int, *, room_settled: bool = False) -> tuple[int, ...]:
        """The page is no longer this machine's business; the readers that it had."""
        key = page_key(get.source.key, page_id)
        readers = tuple(self._pages.pop(key).readers)
        del self._get_of[key]
        for read in readers:
            del self._wants[read][key]
            self.waits.came(read, key)
        if get.has_room and get.state is not GetState.IN_FLIGHT and not room_settled:
            self.room.give_up(page_length(get.source, page_id))
        return readers

    def _add(self, get: Get) -> None:
        self.gets[get.number] = get
        for page_id in get.pages:
            self._get_of[page_key(get.source.key, page_id)] = get.number
