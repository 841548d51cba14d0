"""When each request to the store starts, who waits for it, and what its failure means to them.

Two kinds of work share the node's budget and slots:

* **GETs of pages.** Readers say which pages they want; the scheduler cuts GETs on the grid, starts
  them as budget, slots and room allow, checks every page that arrives and tells who gets it.
* **Calls**: everything else that costs a request (HEAD of a namespace, a manifest, a look at an
  object). Their answers are opaque here. They hold no page buffers and go first: a page cannot
  be wanted before a manifest names it. Then come pages that a read needs, then those that it will need.

What it guarantees:

* one fetch of a page at a time, however many readers want it; who comes later joins. Two GETs of it are in
  flight only where the second is a hedge (``seekfs_core.hedge``): the first to be answered brings the pages;
* GETs and calls started in any window are within the budget, retries and hedges included, and within that of
  their namespace; in flight at most ``inflight_gets_max``;
* bytes of page buffers handed out (``room``) never exceed ``room_bytes_max``;
* every reader gets exactly one outcome for each page it wants, unless it leaves, also at the end; and one
  that waits is told when it has waited too long (``WaitExpired``), or at once where its namespace's budget is
  spent for longer than that, or the store is known to be down (``seekfs_core.breaker``);
* a reader that leaves fails nobody, nor does whoever asked first; a GET that nobody wants is not started;
* pages that arrived before a GET failed are kept: the retry asks for the rest;
* a GET of which a page takes longer than ``page_seconds_max`` is broken off, however little of it trickles
  in, so that it keeps its pages from nobody; and so is a call of which a piece does.

**Room.** A GET reserves the bytes of its pages when it starts and keeps them over its retries.
What was delivered belongs to the driver, which says ``RoomReturned`` when the last holder of a
page has let go of it (or RAM, which has a ceiling of its own, has taken it over). A reader that
wants to read a page back from disk asks with ``RoomWanted``; such requests need no budget and go
before GETs. GETs leave a quarter of the room to them (one that is larger than the other three
quarters may start when it is alone), so that reading back what is cached does not wait for a
store that is in trouble.

**No deadlock over room.** A reader may hold pages that it will need later. If it then waited for
room itself, readers could wait for each other for ever. So when the head of the queue does not
fit, every reader that waits (``ReadWaits``) for something that has no room yet is told to let go
of what it holds ahead (``DropAhead``). Whoever still holds room is then either moving or waiting
for a GET that has its room already. And a reader that moves may move slowly, because its client does:
one that was not heard of for ``QUIET_SECONDS`` while another can do nothing is told, too, and its driver
lets go for it.

**The end.** With ``Closing`` everything that is waited for fails at once, and so does whatever is wanted
afterwards. GETs in flight are to be broken off; the room of theirs that has not come is free when the
driver says that they have failed.
"""

from __future__ import annotations

import random
from collections import deque
from typing import assert_never

from attrs import define, field

from seekfs_core import grid
from seekfs_core.breaker import BreakerState
from seekfs_core.budget import GetBudget
from seekfs_core.errors import ContractViolation, FailureKind, ShuttingDown, StoreFailure
from seekfs_core.fetch_calls import Calls
from seekfs_core.fetch_flights import Flights
from seekfs_core.fetch_gets import GetBook
from seekfs_core.fetch_lines import Turn
from seekfs_core.fetch_messages import (
    BreakOffGet,
    CallEnded,
    CallFailed,
    CallLeft,
    CallMoved,
    CallNotMade,
    CallWanted,
    Closing,
    DropAhead,
    FailPage,
    FetchAction,
    FetchEvent,
    FetchLimits,
    FetchStatistics,
    GetEnded,
    GetFailed,
    GetOpened,
    GrantRoom,
    PageArrived,
    PagesWanted,
    ReadLeft,
    ReadWaits,
    RefuseRoom,
    RoomReturned,
    RoomWanted,
    WaitExpired,
)
from seekfs_core.fetch_waits import Waits
from seekfs_core.fetch_work import Get, GetState, RoomRequest, of_page, page_length
from seekfs_core.machine import Tick, advance
from seekfs_core.namespace_budgets import over_budget
from seekfs_core.pages import PageKey, page_key
from seekfs_core.retry import RetryPolicy
from seekfs_core.room import Room
from seekfs_core.slots import RequestSlots

CLOSING = StoreFailure(kind=FailureKind.CLOSING, detail=ShuttingDown.title)
"""What everything fails with that is waited for at the end."""


@define
class FetchScheduler:
    """See the module's text. ``rng`` seeds retries' jitter; ``started_at`` is when the budget begins."""

    limits: FetchLimits
    budget: GetBudget
    retry: RetryPolicy
    rng: random.Random
    started_at: float
    _now: float = field(init=False)
    _slots: RequestSlots = field(init=False)
    _room: Room = field(init=False)
    _waits: Waits = field(factory=Waits, init=False)
    _book: GetBook = field(init=False)
    _calls: Calls = field(init=False)
    _room_queue: deque[RoomRequest] = field(factory=deque, init=False)
    _flights: Flights = field(init=False)
    _closing: bool = field(default=False, init=False)
    _calls_started: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        limits = self.limits
        self._now = self.started_at
        self._slots = RequestSlots(
            self.budget, limits.inflight_gets_max, limits.breaker, limits.namespaces, self.started_at
        )
        self._room = Room(limits.room_bytes_max)
        self._book = GetBook(self._room, self._waits)
        self._calls = Calls(self.retry, self.rng, limits.page_seconds_max)
        self._flights = Flights(limits, self.retry, self.rng, self._slots, self._book)

    def feed(self, event: FetchEvent, now: float) -> tuple[FetchAction, ...]:
        """One event in, the actions it calls for out; see ``seekfs_core.machine``."""
        now = advance(self._now, now)
        actions: list[FetchAction] = []
        match event:
            case PagesWanted(read):
                self._want_pages(event, now, actions)
                self._waits.heard_of(read, now)
            case RoomWanted(read, length):
                self._want_room(read, length, actions)
                self._waits.heard_of(read, now)
            case ReadWaits(read):
                self._wait(event, now, actions)
                self._waits.heard_of(read, now)
            case ReadLeft(read):
                self._leave(read)
            case RoomReturned(length):
                self._room.take_back(length)
            case CallWanted(call, ns):
                self._want_call(call, ns, now, actions)
            case CallLeft(call):
                actions.extend(self._calls.leave(call))
            case GetOpened():
                self._flights.opened(event, now, actions)
            case PageArrived():
                self._flights.page_arrived(event, now, actions)
            case GetEnded(get):
                self._flights.ended(get, now)
            case GetFailed(get, failure):
                if self._flights.failed(get, failure, now, actions):
                    self._refuse_waiting(now, actions)
            case CallMoved(call):
                self._calls.moved(call, now)
            case CallEnded(call):
                self._call_ended(call, now)
            case CallFailed(call, failure):
                self._call_failed(call, failure, now, actions)
            case CallNotMade(call):
                self._call_not_made(call, now)
            case Closing():
                self._close(actions)
            case Tick():
                pass
            case _:
                assert_never(event)
        self._now = now
        for read, page in self._waits.expired(now):
            actions.append(WaitExpired(read, page, self._is_asked(page)))
        self._flights.break_off_late(now, actions)
        actions.extend(self._calls.break_off_late(now))
        self._start_what_may(now, actions)
        self._flights.start_hedges(now, actions)
        return tuple(actions)

    def next_deadline(self) -> float | None:
        """When a budget comes back for what waits for it, a retry is due, an answer or a first byte late, a
        wait too long, a reader quiet."""
        times = [self._slots.next_deadline(), self._flights.next_deadline()]
        times += [self._calls.next_due(), self._waits.next_deadline()]
        due = min(times)
        return None if due == float("inf") else due

    def is_wanted(self, page: PageKey) -> bool:
        """Whether a fetch of this page is under way or queued, so that a reader would join it."""
        return page in self._book

    def statistics(self) -> FetchStatistics:
        return FetchStatistics(
            gets_started=self._flights.gets_started,
            calls_started=self._calls_started,
            gets_retried=self._flights.gets_retried,
            hedges_started=self._flights.hedges_started,
            hedges_won=self._flights.hedges_won,
            pages_delivered=self._flights.pages_delivered,
            pages_refused=self._flights.pages_refused,
            outcomes=dict(self._slots.outcomes),
            budget_waits=self._slots.budget_waits,
            rate_per_second=self._slots.rate(self._now),
            breaker_opened=self._slots.breaker.opened_count,
            is_breaker_open=self._slots.breaker.state is not BreakerState.CLOSED,
            in_flight=self._slots.in_flight,
            queued=len(self._book.lines) + self._calls.queued,
            room_bytes_used=self._room.bytes_used,
            room_bytes_max=self._room.bytes_max,
        )

    # --- readers ----------------------------------------------------------------------------

    def _want_pages(self, event: PagesWanted, now: float, actions: list[FetchAction]) -> None:
        source = event.source
        count = source.file.page_count
        if not all(0 <= page_id < count for page_id in event.pages):
            raise ContractViolation(f"pages of {source.file.path!r} wanted that it has not: {event.pages}")
        longest = max((page_length(source, page_id) for page_id in event.pages), default=0)
        if longest > self.limits.room_bytes_max:
            raise ContractViolation(f"a page of {longest} bytes never fits {self.limits.room_bytes_max}")
        refusal = self._refusal(now)
        missing: list[int] = []
        for page_id in event.pages:
            key = page_key(source.key, page_id)
            if refusal is not None and (self._closing or key not in self._book):
                actions.append(FailPage(source, page_id, (event.read,), of_page(page_id, refusal)))
            elif self._book.want(event.read, key):
                missing.append(page_id)
            elif not event.is_ahead:
                self._need(key, now)
        for run in grid.cut_gets(source.file, missing, self.limits.coalesce_bytes, self._room.gets_bytes_max):
            get = self._book.new_get(source, run, read=event.read, wanted_at=now, is_ahead=event.is_ahead)
            self._book.lines.add(get)

    def _refusal(self, now: float) -> StoreFailure | None:
        """What whoever wants anything of the store is told at once, if that is how it is."""
        if self._closing:
            return CLOSING
        breaker = self._slots.breaker
        return breaker.refusal(now) if breaker.is_refusing(now) else None

    def _need(self, key: PageKey, now: float) -> Get | None:
        """Somebody needs this page now; the GET that brings it."""
        get = self._book.get_of(key)
        if get is not None and self._book.need(get) and get.state is GetState.IN_FLIGHT:
            # It may be late already, for somebody who only now cares.
            get.hedge_due = max(now, get.hedge_due)
        return get

    def _want_room(self, read: int, length: int, actions: list[FetchAction]) -> None:
        if not 0 < length <= self.limits.room_bytes_max:
            raise ContractViolation(f"{length} bytes of room never fit {self.limits.room_bytes_max}")
        if self._closing:
            actions.append(RefuseRoom(read, length))
            return
        self._room_queue.append(RoomRequest(read, length, self._book.new_order()))

    def _leave(self, read: int) -> None:
        self._book.leave(read)
        self._waits.left(read)
        for request in [request for request in self._room_queue if request.read == read]:
            self._room_queue.remove(request)

    def _wait(self, event: ReadWaits, now: float, actions: list[FetchAction]) -> None:
        """A wait for what has come meanwhile is over before it begins: its reader is about to move."""
        read, key = event.read, event.page
        self._waits.over(read)
        if key is None:
            if any(request.read == read for request in self._room_queue):
                self._waits.begin(read, None, event.until)
        elif self._book.is_wanted_by(read, key):
            get = self._need(key, now)
            assert get is not None
            self._waits.begin(read, key, event.until)
            self._refuse_over_budget(get, key, event, now, actions)

    def _refuse_over_budget(
        self, get: Get, key: PageKey, event: ReadWaits, now: float, actions: list[FetchAction]
    ) -> None:
        """Tell a reader at once whose turn would come after its deadline, for its namespace's budget."""
        ns = get.source.ns
        if get.state is not GetState.QUEUED or not self._slots.namespaces.has_budget(ns):
            return
        requests, nbytes = self._book.lines.before(get)
        ready_at = self._slots.namespaces.ready_at(
            ns, get.length, requests_before=requests, bytes_before=nbytes
        )
        if ready_at <= max(event.until, now):
            return
        page_id = next(each for each in get.pages if page_key(get.source.key, each) == key)
        self._waits.over(event.read)
        self._book.forget_wants(event.read, (key,))
        failure = of_page(page_id, over_budget(ns, ready_at, now))
        actions.append(FailPage(get.source, page_id, (event.read,), failure))

    # --- room and budget --------------------------------------------------------------------

    def _start_what_may(self, now: float, actions: list[FetchAction]) -> None:
        self._calls.requeue_due(now)
        self._book.requeue_due(now)
        self._slots.begin_round()
        while True:
            room_is_short = self._grant_room(now, actions)
            if self._start_next(now, actions):
                continue
            if not room_is_short and not self._next_lacks_room(now):
                self._waits.nobody_is_blocked()
                break
            # What is left of the head of the queue may fit now: look again.
            if not self._drop_ahead(now, actions):
                break
        self._slots.end_round()

    def _start_next(self, now: float, actions: list[FetchAction]) -> bool:
        """Start the request whose turn it is, if it may: calls first."""
        call = self._calls.next(lambda ns: self._slots.namespace_may(ns, 0, now))
        if call is not None:
            if not self._slots.may_start(now):
                return False
            probe = self._slots.start(call.ns, 0, now)
            self._calls_started += 1
            actions.append(self._calls.start(call, now, probe=probe))
            return True
        get = self._next_get(now)
        if get is None or not self._slots.may_start(now):
            return False
        self._book.lines.remove(get)
        if not get.has_room:
            get.has_room = True
            self._room.reserve(get.length)
        self._flights.start(get, now, actions)
        return True

    def _next_get(self, now: float) -> Get | None:
        """The GET whose turn it is. Where the first that has no room yet lacks it, no other one without room
        goes before it; what has its room may."""
        lacks_room = self._next_lacks_room(now)
        for turn in Turn:
            if lacks_room and turn in (Turn.NEEDED, Turn.AHEAD):
                continue
            for get in self._book.lines.heads(turn):
                if self._slots.namespace_may(get.source.ns, get.length, now):
                    return get
        return None

    def _next_without_room(self, now: float) -> Get | None:
        """The first GET that has no room yet, among those whose namespaces may start one."""
        for turn in (Turn.NEEDED, Turn.AHEAD):
            for get in self._book.lines.heads(turn):
                if self._slots.namespace_may(get.source.ns, get.length, now):
                    return get
        return None

    def _next_lacks_room(self, now: float) -> bool:
        """Whether the next GET waits for room, or for who waits for it already."""
        get = self._next_without_room(now)
        return get is not None and (not self._room.fits_get(get.length) or self._gives_way(get))

    def _grant_room(self, now: float, actions: list[FetchAction]) -> bool:
        """Grant what fits of the room that readers wanted; whether one is left that does not."""
        while self._room_queue:
            request = self._room_queue[0]
            get = self._next_without_room(now)
            # A GET that needs more than its share can only start when everything else has left:
            # who came after it does not keep it waiting for ever.
            if get is not None and get.order < request.order and get.length > self._room.gets_bytes_max:
                return True
            if not self._room.fits(request.length):
                return True
            self._room_queue.popleft()
            self._room.reserve(request.length)
            self._room.give(request.length)
            self._waits.came(request.read, None)
            actions.append(GrantRoom(request.read, request.length))
        return False

    def _gives_way(self, get: Get) -> bool:
        """Whether a request for room came first that needs more than GETs leave it while they go on."""
        request = self._room_queue[0] if self._room_queue else None
        if request is None or request.order >= get.order:
            return False
        return request.length > self._room.readers_bytes_min

    def _drop_ahead(self, now: float, actions: list[FetchAction]) -> bool:
        """Tell readers that wait without room, or are quiet, to let go of what they hold ahead; whether any
        was told.

        Who waits loses what takes room or is about to. What of its is queued takes none, and stays whole
        in its GETs. Who is quiet loses all: its turn is not soon.
        """
        told = self._waits.tell(self._has_room, now)
        for read, is_quiet in told:
            lost = tuple(key for key in self._book.wanted_by(read) if is_quiet or self._has_room(key))
            self._book.forget_wants(read, lost)
            actions.append(DropAhead(read, lost))
        return bool(told)

    def _is_asked(self, page: PageKey | None) -> bool:
        get = None if page is None else self._book.get_of(page)
        return get is not None and get.attempt > 0

    def _has_room(self, page: PageKey) -> bool:
        get = self._book.get_of(page)
        # A page that is no longer wanted was delivered or has failed: its reader is about to move.
        return get is None or get.has_room

    # --- calls ------------------------------------------------------------------------------

    def _want_call(self, number: int, ns: str | None, now: float, actions: list[FetchAction]) -> None:
        self._calls.want(number, ns)
        refusal = self._refusal(now)
        if refusal is not None:
            actions.extend(self._calls.refuse_waiting(refusal))

    def _call_ended(self, number: int, now: float) -> None:
        call = self._calls.landed(number)
        self._calls.ended(call)
        self._slots.end(now, probe=call.probe)

    def _call_not_made(self, number: int, now: float) -> None:
        call = self._calls.landed(number)
        self._calls.ended(call)
        self._slots.give_back(now, probe=call.probe)
        self._calls_started -= 1

    def _call_failed(
        self, number: int, failure: StoreFailure, now: float, actions: list[FetchAction]
    ) -> None:
        call = self._calls.landed(number)
        may_retry = not self._slots.breaker.is_refusing(now)
        is_down = self._slots.end(now, failure, probe=call.probe)
        actions.extend(self._calls.failed(call, failure, now, may_retry=may_retry))
        if is_down:
            self._refuse_waiting(now, actions)

    def _refuse_waiting(self, now: float, actions: list[FetchAction]) -> None:
        """The store turns out to be down: everything that has not been asked of it fails."""
        refusal = self._slots.breaker.refusal(now)
        self._flights.refuse_waiting(refusal, actions)
        actions.extend(self._calls.refuse_waiting(refusal))

    # --- the end ----------------------------------------------------------------------------

    def _close(self, actions: list[FetchAction]) -> None:
        """Everything that somebody waits for fails now; what is in flight is to be broken off."""
        self._closing = True
        for get in list(self._book.gets.values()):
            for page_id in self._book.pages_left(get):
                readers = self._book.forget_readers(get, page_id)
                if readers:
                    actions.append(FailPage(get.source, page_id, readers, CLOSING))
            self._book.shed(get)
            if get.state is GetState.IN_FLIGHT:
                get.hedge_due = float("inf")
                actions.append(BreakOffGet(get.number, CLOSING))
                if get.hedge is not None:
                    actions.append(BreakOffGet(get.hedge.number, CLOSING))
        self._waits.clear()
        actions.extend(RefuseRoom(each.read, each.length) for each in self._room_queue)
        self._room_queue.clear()
        actions.extend(self._calls.fail_all(CLOSING))
