"""When each request to the store starts, who waits for it, and what its failure means to them.

Two kinds of work share the node's budget and slots:

* **GETs of pages.** Readers say which pages they want; the scheduler cuts GETs on the grid, starts
  them as budget, slots and room allow, checks every page that arrives and tells who gets it.
* **Calls**: everything else that costs a request (HEAD of a namespace, a manifest, a look at an
  object). Their answers are opaque here. They hold no page buffers and go first: a page cannot
  be wanted before a manifest names it.

What it guarantees:

* one fetch of a page at a time, however many readers want it; who comes later joins;
* GETs and calls started in any window are within the budget, retries included; in flight at most
  ``inflight_gets_max``;
* bytes of page buffers handed out (``room``) never exceed ``room_bytes_max``;
* every reader gets exactly one outcome for each page it wants, unless it leaves, also at the end;
* a reader that leaves fails nobody; a GET that nobody wants any more is not started;
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
from collections.abc import Iterable

from attrs import define, field

from seekfs_core import grid
from seekfs_core.budget import GetBudget
from seekfs_core.errors import ContractViolation, FailureKind, ShuttingDown, StoreFailure
from seekfs_core.fetch_calls import Calls
from seekfs_core.fetch_messages import (
    BreakOffGet,
    CallEnded,
    CallFailed,
    CallLeft,
    CallMoved,
    CallNotMade,
    CallWanted,
    Closing,
    DeliverPage,
    DiscardPage,
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
    PageSource,
    PagesWanted,
    ReadLeft,
    ReadWaits,
    RefuseRoom,
    RoomReturned,
    RoomWanted,
    StartGet,
)
from seekfs_core.fetch_waits import Waits
from seekfs_core.fetch_work import (
    CRC_ATTEMPTS_MAX,
    Get,
    GetState,
    Page,
    RoomRequest,
    after_attempts,
    corrupt_page,
    of_page,
    page_length,
    runs_of,
    wanted_for,
)
from seekfs_core.machine import Tick, advance
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
    _pages: dict[PageKey, Page] = field(factory=dict, init=False)
    _get_of: dict[PageKey, int] = field(factory=dict, init=False)
    _gets: dict[int, Get] = field(factory=dict, init=False)
    _calls: Calls = field(init=False)
    _wants: dict[int, dict[PageKey, None]] = field(factory=dict, init=False)
    _waits: Waits = field(factory=Waits, init=False)
    _retry_queue: deque[Get] = field(factory=deque, init=False)
    _get_queue: deque[Get] = field(factory=deque, init=False)
    _room_queue: deque[RoomRequest] = field(factory=deque, init=False)
    _resting: list[Get] = field(factory=list, init=False)
    _room: Room = field(init=False)
    _next_get: int = field(default=1, init=False)
    _next_order: int = field(default=0, init=False)
    _closing: bool = field(default=False, init=False)
    _gets_started: int = field(default=0, init=False)
    _calls_started: int = field(default=0, init=False)
    _gets_retried: int = field(default=0, init=False)
    _pages_delivered: int = field(default=0, init=False)
    _pages_refused: int = field(default=0, init=False)
    _outcomes: dict[str, int] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._now = self.started_at
        self._slots = RequestSlots(self.budget, self.limits.inflight_gets_max, self.started_at)
        self._room = Room(self.limits.room_bytes_max)
        self._calls = Calls(self.retry, self.rng, self.limits.page_seconds_max)

    def feed(self, event: FetchEvent, now: float) -> tuple[FetchAction, ...]:
        """One event in, the actions it calls for out; see ``seekfs_core.machine``."""
        now = advance(self._now, now)
        actions: list[FetchAction] = []
        match event:
            case PagesWanted(read):
                self._want_pages(event, actions)
                self._waits.heard_of(read, now)
            case RoomWanted(read, length):
                self._want_room(read, length, actions)
                self._waits.heard_of(read, now)
            case ReadWaits(read, page):
                self._wait(read, page)
                self._waits.heard_of(read, now)
            case ReadLeft(read):
                self._leave(read)
            case RoomReturned(length):
                self._room.take_back(length)
            case CallWanted(call):
                self._want_call(call, actions)
            case CallLeft(call):
                actions.extend(self._calls.leave(call))
            case GetOpened(get, etag, size):
                opened = self._get(get, "opened")
                opened.move("opened", GetState.IN_FLIGHT)
                opened.etag, opened.object_size = etag, size
            case PageArrived():
                self._page_arrived(event, now, actions)
            case GetEnded(get):
                self._get_ended(get, now)
            case GetFailed(get, failure):
                self._get_failed(get, failure, now, actions)
            case CallMoved(call):
                self._calls.moved(call, now)
            case CallEnded(call):
                self._call_ended(call, now)
            case CallFailed(call, failure):
                self._call_failed(call, failure, now, actions)
            case CallNotMade(call):
                self._call_not_made(call)
            case Closing():
                self._close(actions)
            case Tick():
                pass
        self._now = now
        self._break_off_late(now, actions)
        self._start_what_may(now, actions)
        return tuple(actions)

    def next_deadline(self) -> float | None:
        """When budget comes back for what waits for it, a retry is due, an answer is late, a reader quiet."""
        times = [self._slots.next_deadline(), self._calls.next_due(), self._waits.next_deadline()]
        times += (get.due for get in self._resting)
        times += (get.page_due for get in self._gets.values())
        due = min(times)
        return None if due == float("inf") else due

    def is_wanted(self, page: PageKey) -> bool:
        """Whether a fetch of this page is under way or queued, so that a reader would join it."""
        return page in self._pages

    def statistics(self) -> FetchStatistics:
        return FetchStatistics(
            gets_started=self._gets_started,
            calls_started=self._calls_started,
            gets_retried=self._gets_retried,
            pages_delivered=self._pages_delivered,
            pages_refused=self._pages_refused,
            outcomes=dict(self._outcomes),
            budget_waits=self._slots.budget_waits,
            rate_per_second=self._slots.rate(self._now),
            in_flight=self._slots.in_flight,
            queued=len(self._get_queue) + len(self._retry_queue) + self._calls.queued,
            room_bytes_used=self._room.bytes_used,
            room_bytes_max=self._room.bytes_max,
        )

    # --- readers ----------------------------------------------------------------------------

    def _want_pages(self, event: PagesWanted, actions: list[FetchAction]) -> None:
        source = event.source
        count = source.file.page_count
        if not all(0 <= page_id < count for page_id in event.pages):
            raise ContractViolation(f"pages of {source.file.path!r} wanted that it has not: {event.pages}")
        longest = max((page_length(source, page_id) for page_id in event.pages), default=0)
        if longest > self.limits.room_bytes_max:
            raise ContractViolation(f"a page of {longest} bytes never fits {self.limits.room_bytes_max}")
        if self._closing:
            actions.extend(FailPage(source, page_id, (event.read,), CLOSING) for page_id in event.pages)
            return
        wants = self._wants.setdefault(event.read, {})
        missing: list[int] = []
        for page_id in event.pages:
            key = page_key(source.key, page_id)
            page = self._pages.get(key)
            if page is None:
                page = self._pages[key] = Page()
                missing.append(page_id)
            page.readers[event.read] = None
            wants[key] = None
        runs = grid.cut_gets(source.file, missing, self.limits.coalesce_bytes, self._room.gets_bytes_max)
        for page_start, page_stop in runs:
            self._get_queue.append(self._new_get(source, page_start, page_stop))

    def _want_room(self, read: int, length: int, actions: list[FetchAction]) -> None:
        if not 0 < length <= self.limits.room_bytes_max:
            raise ContractViolation(f"{length} bytes of room never fit {self.limits.room_bytes_max}")
        if self._closing:
            actions.append(RefuseRoom(read, length))
            return
        self._room_queue.append(RoomRequest(read, length, self._new_order()))

    def _leave(self, read: int) -> None:
        self._forget_wants(read, tuple(self._wants.get(read, ())))
        self._wants.pop(read, None)
        self._waits.left(read)
        for request in [request for request in self._room_queue if request.read == read]:
            self._room_queue.remove(request)

    def _forget_wants(self, read: int, keys: Iterable[PageKey]) -> None:
        """Take a reader off these pages; what nobody wants now is not started."""
        touched: dict[int, None] = {}
        for key in keys:
            del self._wants[read][key]
            del self._pages[key].readers[read]
            touched[self._get_of[key]] = None
        for number in touched:
            self._shed(self._gets[number])

    def _wait(self, read: int, page: PageKey | None) -> None:
        """A wait for what has come meanwhile is over before it begins: its reader is about to move."""
        self._waits.over(read)
        if self._wants_room(read) if page is None else page in self._wants.get(read, {}):
            self._waits.begin(read, page)

    def _wants_room(self, read: int) -> bool:
        return any(request.read == read for request in self._room_queue)

    def _shed(self, get: Get) -> None:
        """Drop from a GET that is not in flight the pages that nobody wants.

        What is left may be several runs: the first stays this GET, the others become GETs of
        their own right behind it, in the same state. A GET in flight brings what it was sent for.
        """
        if get.state is GetState.IN_FLIGHT:
            return
        wanted = [page_id for page_id in get.pages if self._page(get, page_id).readers]
        if len(wanted) == len(get.pages):
            return
        for page_id in get.pages:
            if not self._page(get, page_id).readers:
                self._forget_page(get, page_id)
        if not wanted:
            get.move("unwanted", GetState.OVER)
            self._give_up(get)
            return
        (get.page_start, get.page_stop), *others = runs_of(wanted)
        before = get
        for page_start, page_stop in others:
            twin = self._new_get(get.source, page_start, page_stop)
            twin.order = get.order
            twin.state, twin.attempt, twin.has_room, twin.due = get.state, get.attempt, get.has_room, get.due
            for line in (self._get_queue, self._retry_queue, self._resting):
                if before in line:
                    line.insert(line.index(before) + 1, twin)
            before = twin

    def _give_up(self, get: Get) -> None:
        del self._gets[get.number]
        for line in (self._get_queue, self._retry_queue, self._resting):
            if get in line:
                line.remove(get)

    # --- room and budget --------------------------------------------------------------------

    def _start_what_may(self, now: float, actions: list[FetchAction]) -> None:
        self._requeue_due(now)
        self._slots.begin_round()
        while True:
            room_is_short = self._grant_room(actions)
            if self._start_next(now, actions):
                continue
            if not room_is_short and not self._next_lacks_room():
                self._waits.nobody_is_blocked()
                break
            # What is left of the head of the queue may fit now: look again.
            if not self._drop_ahead(now, actions):
                break
        self._slots.end_round()

    def _start_next(self, now: float, actions: list[FetchAction]) -> bool:
        """Start the request whose turn it is, if it may: calls first, then retries, which have their room."""
        if not (self._calls.queued or self._retry_queue or self._get_queue):
            return False
        is_new = not self._calls.queued and not self._retry_queue
        if (is_new and self._next_lacks_room()) or not self._slots.may_start(now):
            return False
        if self._calls.queued:
            self._slots.start(now)
            self._calls_started += 1
            actions.append(self._calls.start_next(now))
        elif self._retry_queue:
            self._start_get(self._retry_queue.popleft(), now, actions)
        else:
            get = self._get_queue.popleft()
            get.has_room = True
            self._room.reserve(get.length)
            self._start_get(get, now, actions)
        return True

    def _next_lacks_room(self) -> bool:
        """Whether the first GET of the queue waits for room, or for who waits for it already."""
        if not self._get_queue:
            return False
        get = self._get_queue[0]
        return not self._room.fits_get(get.length) or self._gives_way(get)

    def _grant_room(self, actions: list[FetchAction]) -> bool:
        """Grant what fits of the room that readers wanted; whether one is left that does not."""
        while self._room_queue:
            request = self._room_queue[0]
            get = self._get_queue[0] if self._get_queue else None
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

    def _requeue_due(self, now: float) -> None:
        self._calls.requeue_due(now)
        for get in [get for get in self._resting if get.due <= now]:
            self._resting.remove(get)
            get.move("due", GetState.QUEUED)
            self._retry_queue.append(get)

    def _drop_ahead(self, now: float, actions: list[FetchAction]) -> bool:
        """Tell readers that wait without room, or are quiet, to let go of what they hold ahead; whether any
        was told.

        Who waits loses what takes room or is about to. What of its is queued takes none, and stays whole
        in its GETs. Who is quiet loses all: its turn is not soon.
        """
        told = self._waits.tell(self._has_room, now)
        for read, is_quiet in told:
            wants = self._wants.get(read, {})
            lost = tuple(key for key in wants if is_quiet or self._has_room(key))
            self._forget_wants(read, lost)
            actions.append(DropAhead(read, lost))
        return bool(told)

    def _has_room(self, page: PageKey) -> bool:
        number = self._get_of.get(page)
        # A page that is no longer wanted was delivered or has failed: its reader is about to move.
        return number is None or self._gets[number].has_room

    # --- GETs -------------------------------------------------------------------------------

    def _new_get(self, source: PageSource, page_start: int, page_stop: int) -> Get:
        get = Get(self._next_get, source, page_start, page_stop, self._new_order())
        self._next_get += 1
        self._gets[get.number] = get
        for page_id in get.pages:
            self._get_of[page_key(source.key, page_id)] = get.number
        return get

    def _new_order(self) -> int:
        """Who asked first: GETs and requests for room wait in lines of their own."""
        self._next_order += 1
        return self._next_order

    def _start_get(self, get: Get, now: float, actions: list[FetchAction]) -> None:
        self._slots.start(now)
        get.move("start", GetState.IN_FLIGHT)
        get.attempt += 1
        get.arrived_stop = get.page_start
        get.page_due = now + self.limits.page_seconds_max
        self._gets_started += 1
        if get.attempt > 1 or any(self._page(get, page_id).crc_attempts for page_id in get.pages):
            self._gets_retried += 1
        actions.append(StartGet(get.number, get.source, get.page_start, get.page_stop, get.attempt))

    def _page_arrived(self, event: PageArrived, now: float, actions: list[FetchAction]) -> None:
        get = self._get(event.get, "arrived")
        page_id = event.page_id
        if page_id != get.arrived_stop or page_id >= get.page_stop:
            raise ContractViolation(f"GET {get.number}: page {page_id} arrived out of order")
        get.move("arrived", GetState.IN_FLIGHT)
        get.arrived_stop += 1
        get.page_due = now + self.limits.page_seconds_max
        expected = get.source.file.page_crc32c(page_id)
        if event.crc32c == expected:
            self._pages_delivered += 1
            self._room.give(page_length(get.source, page_id))
            readers = self._forget_page(get, page_id)
            self._waits.given(readers)
            actions.append(DeliverPage(get.number, get.source, page_id, readers))
            return
        self._pages_refused += 1
        actions.append(DiscardPage(get.number, page_id))
        page = self._page(get, page_id)
        page.crc_attempts += 1
        if page.crc_attempts < CRC_ATTEMPTS_MAX:
            get.refused.append(page_id)
        else:
            self._fail_page(get, page_id, corrupt_page(get, page_id, expected, event.crc32c), actions)

    def _break_off_late(self, now: float, actions: list[FetchAction]) -> None:
        for get in self._gets.values():
            if get.page_due <= now:
                get.page_due = float("inf")
                seconds = self.limits.page_seconds_max
                detail = f"GET was broken off: page {get.arrived_stop} took more than {seconds:g} seconds"
                late = StoreFailure(kind=FailureKind.TIMED_OUT, detail=detail)
                actions.append(BreakOffGet(get.number, late))
        actions.extend(self._calls.break_off_late(now))

    def _get_ended(self, number: int, now: float) -> None:
        get = self._get(number, "ended")
        if get.arrived_stop != get.page_stop:
            raise ContractViolation(f"GET {number} ended before page {get.arrived_stop}")
        self._slots.end(now)
        self._count("ok")
        get.move("ended", GetState.OVER)
        del self._gets[number]
        self._ask_again(get)

    def _get_failed(self, number: int, failure: StoreFailure, now: float, actions: list[FetchAction]) -> None:
        get = self._get(number, "failed")
        self._slots.end(now, failure)
        self._count(failure.kind.value)
        get.page_due = float("inf")
        self._ask_again(get)
        get.page_start = get.arrived_stop
        delay = self.retry.delay(failure, get.attempt, self.rng) if get.pages else None
        if delay is not None:
            get.move("failed", GetState.BACKING_OFF)
            get.due = now + delay
            self._resting.append(get)
            self._shed(get)
            return
        get.move("failed", GetState.OVER)
        del self._gets[number]
        final = wanted_for(get.source, after_attempts(failure, get.attempt))
        for page_id in get.pages:
            self._fail_page(get, page_id, of_page(page_id, final), actions)

    def _ask_again(self, get: Get) -> None:
        """A GET of its own for each run of pages whose checksum was wrong; their room stays reserved.

        It is the one request on top of those that a GET may make; otherwise it goes on counting.
        """
        for page_start, page_stop in runs_of(get.refused):
            again = self._new_get(get.source, page_start, page_stop)
            again.has_room = True
            again.attempt = get.attempt - 1
            self._retry_queue.append(again)
            self._shed(again)
        get.refused.clear()

    def _fail_page(self, get: Get, page_id: int, failure: StoreFailure, actions: list[FetchAction]) -> None:
        self._room.give_up(page_length(get.source, page_id))
        readers = self._forget_page(get, page_id, room_settled=True)
        if readers:
            actions.append(FailPage(get.source, page_id, readers, failure))

    def _forget_page(self, get: Get, page_id: int, *, room_settled: bool = False) -> tuple[int, ...]:
        """The page is no longer this machine's business; the readers that it had."""
        key = page_key(get.source.key, page_id)
        readers = tuple(self._pages.pop(key).readers)
        del self._get_of[key]
        for read in readers:
            del self._wants[read][key]
            self._waits.came(read, key)
        if get.has_room and get.state is not GetState.IN_FLIGHT and not room_settled:
            self._room.give_up(page_length(get.source, page_id))
        return readers

    def _get(self, number: int, what: str) -> Get:
        get = self._gets.get(number)
        if get is None:
            raise ContractViolation(f"GET {number} is not known: {what!r} cannot happen")
        get.require(what)
        return get

    def _page(self, get: Get, page_id: int) -> Page:
        return self._pages[page_key(get.source.key, page_id)]

    def _count(self, outcome: str) -> None:
        self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1

    # --- calls ------------------------------------------------------------------------------

    def _want_call(self, number: int, actions: list[FetchAction]) -> None:
        self._calls.want(number)
        if self._closing:
            actions.extend(self._calls.fail_all(CLOSING))

    def _call_ended(self, number: int, now: float) -> None:
        self._calls.ended(self._calls.landed(number))
        self._slots.end(now)
        self._count("ok")

    def _call_not_made(self, number: int) -> None:
        self._calls.ended(self._calls.landed(number))
        self._slots.give_back()
        self._calls_started -= 1

    def _call_failed(
        self, number: int, failure: StoreFailure, now: float, actions: list[FetchAction]
    ) -> None:
        call = self._calls.landed(number)
        self._slots.end(now, failure)
        self._count(failure.kind.value)
        actions.extend(self._calls.failed(call, failure, now))

    # --- the end ----------------------------------------------------------------------------

    def _close(self, actions: list[FetchAction]) -> None:
        """Everything that somebody waits for fails now; what is in flight is to be broken off."""
        self._closing = True
        for get in list(self._gets.values()):
            for page_id in get.pages:
                key = page_key(get.source.key, page_id)
                if self._get_of.get(key) != get.number:
                    continue  # It has come.
                readers = tuple(self._pages[key].readers)
                for read in readers:
                    del self._wants[read][key]
                self._pages[key].readers.clear()
                if readers:
                    actions.append(FailPage(get.source, page_id, readers, CLOSING))
            self._shed(get)
            if get.state is GetState.IN_FLIGHT:
                actions.append(BreakOffGet(get.number, CLOSING))
        self._waits.clear()
        actions.extend(RefuseRoom(each.read, each.length) for each in self._room_queue)
        self._room_queue.clear()
        actions.extend(self._calls.fail_all(CLOSING))
