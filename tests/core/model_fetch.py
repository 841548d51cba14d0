"""What the fetch scheduler promises, kept by somebody who does not know how it works.

``Watched`` stands between a driver and a ``FetchScheduler``. From the events alone it knows who
wants what, what is under way and what room is out, and after every event it holds the actions
and the counters against that.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping

from attrs import define, evolve, field

from seekfs_core.breaker import BreakerPolicy
from seekfs_core.budget import GetBudget
from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.fetch import FetchScheduler
from seekfs_core.fetch_messages import (
    BreakOffCall,
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
    FailCall,
    FailPage,
    FetchAction,
    FetchEvent,
    FetchLimits,
    GetEnded,
    GetFailed,
    GetOpened,
    GetReason,
    GrantRoom,
    PageArrived,
    PageSource,
    PagesWanted,
    ReadLeft,
    ReadWaits,
    RefuseRoom,
    RoomReturned,
    RoomWanted,
    StartCall,
    StartGet,
    WaitExpired,
)
from seekfs_core.fetch_waits import QUIET_SECONDS
from seekfs_core.hedge import SHARE_MAX, HedgePolicy
from seekfs_core.namespace_budgets import NamespaceBudget
from seekfs_core.pages import PageKey, page_key
from seekfs_core.retry import RetryPolicy, is_passing

ROUNDING = 1e-6
"""Requests: what adding up intervals as floating-point numbers may be off by."""


OWN_FAILURES = (FailureKind.OVERTAKEN, FailureKind.BREAKER_OPEN, FailureKind.OVER_BUDGET)
"""What only the scheduler itself comes to."""

ANSWERS = (
    FailureKind.DENIED,
    FailureKind.STALE_SIGNATURE,
    FailureKind.MISSING,
    FailureKind.REDIRECTED,
    FailureKind.PRECONDITION,
    FailureKind.BAD_ANSWER,
)
"""Failures that only a store which is up can answer with."""

THE_END = StoreFailure(kind=FailureKind.CLOSING, detail="")


def _as_owed(action: FetchAction) -> FetchAction:
    """An action as ``last_words`` has it: who is told, and of which kind of failure."""
    if isinstance(action, FailPage):
        assert action.failure.kind is FailureKind.CLOSING
        return evolve(action, reads=tuple(sorted(action.reads)), failure=THE_END)
    if isinstance(action, BreakOffGet):
        assert action.failure.kind is FailureKind.CLOSING
        return evolve(action, failure=THE_END)
    if isinstance(action, FailCall):
        assert action.failure.kind is FailureKind.CLOSING
        return evolve(action, failure=THE_END)
    return action


@define(eq=False)
class Wanted:
    """A page from when it is first wanted until it has an outcome, or until nobody wants it."""

    source: PageSource
    page_id: int
    readers: set[int] = field(factory=set)
    asked: int = 0
    attempts: int = 0
    wrong: int = 0
    has_room: bool = False
    is_needed: bool = False
    under_way: int | None = None

    @property
    def length(self) -> int:
        start, stop = self.source.file.page_extent(self.page_id)
        return stop - start


@define(eq=False)
class Flight:
    """A GET that was started and has not ended."""

    start: StartGet
    left: deque[int]
    moved_at: float
    """When it was started, or a page of it came last."""
    is_late: bool = False
    is_opened: bool = False
    partner: int | None = None
    """The other GET for the same, while neither is opened."""
    is_overtaken: bool = False
    refused: list[int] = field(factory=list)


@define
class Watched:
    """A scheduler and the record of what it was told and has done."""

    scheduler: FetchScheduler
    now: float
    pages: dict[PageKey, Wanted] = field(factory=dict)
    flights: dict[int, Flight] = field(factory=dict)
    room_out: int = 0
    """Bytes that belong to the driver: delivered or granted, and not returned."""
    room_requests: deque[tuple[int, int]] = field(factory=deque)
    waits: dict[int, PageKey | None] = field(factory=dict)
    until: dict[int, float] = field(factory=dict)
    refused_until: float = float("-inf")
    """Until when the store is not to be asked, as everybody was told."""
    hedges: int = 0
    starts_of: dict[str, list[tuple[float, int]]] = field(factory=dict)
    """When requests of each namespace were started, and for how many bytes."""
    call_ns: dict[int, str | None] = field(factory=dict)
    told_to_drop: set[int] = field(factory=set)
    heard_at: dict[int, float] = field(factory=dict)
    calls: dict[int, bool] = field(factory=dict)
    """Whether each call that is not over is in flight."""
    calls_late_at: dict[int, float] = field(factory=dict)
    """When the next piece of each call in flight will have taken too long; infinite once that was said."""
    calls_left: set[int] = field(factory=set)
    call_attempts: dict[int, int] = field(factory=dict)
    starts: list[float] = field(factory=list)
    calls_not_made: int = 0
    closed: bool = False
    last_words: list[FetchAction] = field(factory=list)
    """What is owed because this is the end, in any order."""
    seen: Counter[str] = field(factory=Counter)
    """What has come to pass how often, so that a simulation can show that it got everywhere."""

    @classmethod
    def make(
        cls,
        *,
        room: int = 1 << 40,
        inflight: int = 100,
        coalesce: int = 1 << 40,
        rate: float = 1e6,
        burst: int = 1000,
        attempts: int = 3,
        backoff: float = 0.1,
        page_seconds: float = 1e9,
        hedge: HedgePolicy | None = None,
        breaker: BreakerPolicy | None = None,
        namespaces: Mapping[str, NamespaceBudget] | None = None,
        now: float = 0.0,
        seed: int = 1,
    ) -> Watched:
        """A scheduler whose limits do not matter unless they are given. It does not hedge, nor give a store
        up, unless it is told to."""
        scheduler = FetchScheduler(
            limits=FetchLimits(
                inflight_gets_max=inflight,
                room_bytes_max=room,
                coalesce_bytes=coalesce,
                page_seconds_max=page_seconds,
                hedge=hedge or HedgePolicy(is_on=False),
                breaker=breaker or BreakerPolicy(failures_max=0),
                namespaces=namespaces or {},
            ),
            budget=GetBudget(rate, burst),
            retry=RetryPolicy(attempts_max=attempts, backoff_seconds_initial=backoff),
            rng=random.Random(seed),
            started_at=now,
        )
        return cls(scheduler, now)

    # --- one event --------------------------------------------------------------------------

    def feed(self, event: FetchEvent, now: float | None = None) -> tuple[FetchAction, ...]:
        """Feed the scheduler at ``now`` (or when it was fed last) and check all that it does."""
        self.now = self.now if now is None else now
        expected = self._learn(event)
        actions = self.scheduler.feed(event, self.now)
        for action in actions:
            self._check(action, expected)
            assert self.room_used <= self.scheduler.limits.room_bytes_max
        assert not expected, f"without {expected}"
        assert not self.last_words, f"without {self.last_words}"
        self._check_counters()
        return actions

    @property
    def room_used(self) -> int:
        return self.room_out + sum(page.length for page in self.pages.values() if page.has_room)

    @property
    def is_idle(self) -> bool:
        return not (self.pages or self.flights or self.calls or self.room_requests)

    # --- what an event means ----------------------------------------------------------------

    def _learn(self, event: FetchEvent) -> list[FetchAction]:
        """Take note of an event; the actions that it must lead to, whatever else happens."""
        if isinstance(event, GetFailed | CallFailed) and event.failure.kind in ANSWERS:
            self.refused_until = float("-inf")
        match event:
            case PagesWanted(read) | RoomWanted(read) | ReadWaits(read):
                self.heard_at[read] = self.now
                self.told_to_drop.discard(read)
            case ReadLeft(read):
                self.told_to_drop.discard(read)
                self.heard_at.pop(read, None)
            case _:
                pass
        match event:
            case Closing():
                self._learn_closing()
            case PagesWanted(read, source, pages) if self.closed:
                self.last_words += [FailPage(source, page_id, (read,), THE_END) for page_id in pages]
            case RoomWanted(read, length) if self.closed:
                self.last_words.append(RefuseRoom(read, length))
            case CallWanted(call) if self.closed:
                self.last_words.append(FailCall(call, THE_END))
            case PagesWanted(read, source, pages):
                for page_id in pages:
                    page = self.pages.setdefault(page_key(source.key, page_id), Wanted(source, page_id))
                    page.readers.add(read)
                    page.is_needed |= not event.is_ahead
            case RoomWanted(read, length):
                self.room_requests.append((read, length))
            case ReadWaits(read, key, until):
                self.waits.pop(read, None)
                if self._is_owed(read, key):
                    self.waits[read], self.until[read] = key, until
                    if key is not None:
                        self.pages[key].is_needed = True
            case ReadLeft(read):
                self._take_off(read, {key for key, page in self.pages.items() if read in page.readers})
                self.waits.pop(read, None)
                self.room_requests = deque(each for each in self.room_requests if each[0] != read)
            case RoomReturned(length):
                self.room_out -= length
            case GetOpened(get):
                return self._learn_opening(get)
            case PageArrived(get) if self.flights[get].is_overtaken:
                return [DiscardPage(get, event.page_id)]
            case PageArrived(get):
                return self._learn_opening(get) + self._learn_arrival(event)
            case GetEnded(get) | GetFailed(get) if self.flights[get].is_overtaken:
                del self.flights[get]
            case GetEnded(get):
                self.refused_until = float("-inf")
                assert not self.flights[get].left
                self._learn_landing(get)
            case GetFailed(get, failure):
                return self._learn_failure(get, failure)
            case CallWanted(call, ns):
                self.call_ns[call] = ns
                self.calls[call] = False
                self.call_attempts[call] = 0
            case CallLeft(call):
                if self.calls.get(call) is False:
                    del self.calls[call]
                elif call in self.calls:
                    self.calls_left.add(call)
            case CallMoved(call):
                if self.calls_late_at[call] < float("inf"):
                    self.calls_late_at[call] = self.now + self.scheduler.limits.page_seconds_max
            case CallEnded(call):
                self.refused_until = float("-inf")
                del self.calls[call], self.calls_late_at[call]
            case CallNotMade(call):
                del self.calls[call], self.calls_late_at[call]
                self.calls_not_made += 1
            case CallFailed(call, failure):
                return self._learn_call_failure(call, failure)
            case _:
                pass
        return []

    def _learn_closing(self) -> None:
        """Whoever waits for anything is told so now, once, and nothing of theirs is started any more."""
        self.closed = True
        for page in self.pages.values():
            if page.readers:
                readers = tuple(sorted(page.readers))
                self.last_words.append(FailPage(page.source, page.page_id, readers, THE_END))
            page.readers.clear()
        self.last_words += [
            BreakOffGet(get, THE_END) for get, flight in self.flights.items() if not flight.is_overtaken
        ]
        self.last_words += [RefuseRoom(read, length) for read, length in self.room_requests]
        self.room_requests.clear()
        for call, in_flight in list(self.calls.items()):
            if call not in self.calls_left:
                self.last_words.append(FailCall(call, THE_END))
            self.calls_left.add(call)
            if not in_flight:
                del self.calls[call]
        self._forget_unwanted()

    def _learn_opening(self, get: int) -> list[FetchAction]:
        """The first of two GETs for the same to be answered brings the pages."""
        flight = self.flights[get]
        partner, flight.partner = flight.partner, None
        if flight.is_overtaken:
            return []
        flight.is_opened = True
        if partner is None:
            return []
        self.flights[partner].partner, self.flights[partner].is_overtaken = None, True
        self._hand_over(flight, get)
        self.seen["hedge won" if flight.start.hedge_of is not None else "hedge lost"] += 1
        return [BreakOffGet(partner, StoreFailure(kind=FailureKind.OVERTAKEN, detail=""))]

    def _hand_over(self, flight: Flight, get: int) -> None:
        """This GET is the one that brings what it was sent for."""
        for page_id in flight.left:
            self.pages[page_key(flight.start.source.key, page_id)].under_way = get

    def _learn_arrival(self, event: PageArrived) -> list[FetchAction]:
        flight = self.flights[event.get]
        source = flight.start.source
        assert flight.left.popleft() == event.page_id
        flight.moved_at, flight.is_late = self.now, False
        key = page_key(source.key, event.page_id)
        page = self.pages[key]
        page.under_way = None
        readers = tuple(sorted(page.readers))
        if event.crc32c == source.file.page_crc32c(event.page_id):
            return [DeliverPage(event.get, source, event.page_id, readers)]
        page.wrong += 1
        discard = DiscardPage(event.get, event.page_id)
        if page.wrong == 1:
            flight.refused.append(event.page_id)
            page.under_way = event.get
            return [discard]
        if not readers:
            del self.pages[key]
            return [discard]
        why = StoreFailure(kind=FailureKind.BAD_CHECKSUM, detail="")
        return [discard, FailPage(source, event.page_id, readers, why)]

    def _learn_landing(self, get: int) -> Flight:
        flight = self.flights.pop(get)
        for page_id in (*flight.refused, *flight.left):
            self.pages[page_key(flight.start.source.key, page_id)].under_way = None
        self._forget_unwanted()
        return flight

    def _learn_failure(self, get: int, failure: StoreFailure) -> list[FetchAction]:
        partner = self.flights[get].partner
        if partner is not None:
            del self.flights[get]
            self.flights[partner].partner = None
            self._hand_over(self.flights[partner], partner)
            self.seen["one of two failed"] += 1
            return []
        flight = self._learn_landing(get)
        source = flight.start.source
        left = [page_id for page_id in flight.left if page_key(source.key, page_id) in self.pages]
        attempts = max((self.pages[page_key(source.key, page_id)].attempts for page_id in left), default=0)
        if self._is_made_again(failure, attempts):
            return []
        return [
            FailPage(
                source, page_id, tuple(sorted(self.pages[page_key(source.key, page_id)].readers)), failure
            )
            for page_id in left
        ]

    def _learn_call_failure(self, call: int, failure: StoreFailure) -> list[FetchAction]:
        del self.calls_late_at[call]
        again = self._is_made_again(failure, self.call_attempts[call])
        if again and call not in self.calls_left:
            self.calls[call] = False
            return []
        del self.calls[call]
        return [] if call in self.calls_left else [FailCall(call, failure)]

    def _is_made_again(self, failure: StoreFailure, attempts: int) -> bool:
        is_known_to_be_down = self.scheduler._slots.breaker.is_refusing(self.now)
        is_left = attempts < self.scheduler.retry.attempts_max
        return is_passing(failure.kind) and is_left and not is_known_to_be_down

    def _is_owed(self, read: int, page: PageKey | None) -> bool:
        if page is None:
            return any(each[0] == read for each in self.room_requests)
        return page in self.pages and read in self.pages[page].readers

    def _take_off(self, read: int, keys: set[PageKey]) -> None:
        for key in keys:
            self.pages[key].readers.discard(read)
        self._forget_unwanted()

    def _forget_unwanted(self) -> None:
        for key, page in list(self.pages.items()):
            if not page.readers and page.under_way is None:
                del self.pages[key]

    def _end_waits(self) -> None:
        for read, page in list(self.waits.items()):
            if not self._is_owed(read, page):
                del self.waits[read]
                self.told_to_drop.discard(read)

    # --- what an action may be --------------------------------------------------------------

    def _check(self, action: FetchAction, expected: list[FetchAction]) -> None:
        self.seen[type(action).__name__] += 1
        if isinstance(action, StartGet):
            self.seen[f"GET: {action.reason.name}"] += 1
        if isinstance(action, FailPage):
            self.seen[f"page failed: {action.failure.kind.value}"] += 1
        match action:
            case BreakOffGet(get, StoreFailure(kind=FailureKind.OVERTAKEN)):
                owed = expected.pop(0)
                assert isinstance(owed, BreakOffGet)
                assert owed.get == get
            case FailPage(_, _, _, StoreFailure(kind=FailureKind.BREAKER_OPEN)):
                self._check_refused(action)
            case FailPage(_, _, _, StoreFailure(kind=FailureKind.OVER_BUDGET)):
                self._check_over_budget(action)
            case FailCall(call, StoreFailure(kind=FailureKind.BREAKER_OPEN) as failure):
                assert self.calls.pop(call) is False
                self._learn_refusal(failure)
            case WaitExpired(read, page):
                assert self.waits.pop(read) == page
                assert self.until[read] <= self.now
                self.told_to_drop.discard(read)
            case BreakOffGet(get, StoreFailure(kind=FailureKind.TIMED_OUT)):
                flight = self.flights[get]
                assert not flight.is_late, "it is broken off already"
                assert self.now >= flight.moved_at + self.scheduler.limits.page_seconds_max
                flight.is_late = True
                self.seen["too slow"] += 1
            case BreakOffCall(call):
                is_late = self.now >= self.calls_late_at[call]
                assert is_late or call in self.calls_left
                assert self.calls_late_at[call] < float("inf"), "it is broken off already"
                self.calls_late_at[call] = float("inf")
                self.seen["call too slow" if is_late else "call broken off"] += 1
            case FailPage() | RefuseRoom() | BreakOffGet() | FailCall() if self.closed:
                self.last_words.remove(_as_owed(action))
            case StartGet() | StartCall() | GrantRoom() | DropAhead() if self.closed:
                raise AssertionError(f"{action} after the end")
            case StartGet(hedge_of=int()):
                self._check_hedge(action)
            case StartGet():
                self._check_start(action)
            case StartCall(call, attempt):
                assert self.calls[call] is False
                assert call not in self.calls_left
                self.calls[call] = True
                self.calls_late_at[call] = self.now + self.scheduler.limits.page_seconds_max
                self.call_attempts[call] += 1
                assert attempt == self.call_attempts[call] <= self.scheduler.retry.attempts_max
                self._check_slot(self.call_ns[call], 0)
            case DeliverPage() | FailPage():
                self._check_outcome(action, expected)
            case DiscardPage():
                assert expected.pop(0) == action, "an answer that nobody asked for"
            case FailCall(call, failure):
                owed = expected.pop(0)
                assert isinstance(owed, FailCall)
                assert (owed.call, owed.failure.kind) == (call, failure.kind)
            case GrantRoom(read, length):
                assert self.room_requests.popleft() == (read, length)
                self.room_out += length
                if self.waits.get(read, read) is None:
                    del self.waits[read]
                    self.told_to_drop.discard(read)
            case DropAhead(read, lost):
                assert read not in self.told_to_drop, "it was told, and neither was heard of nor got anything"
                assert self._is_room_waited_for()
                wanted = {key for key, page in self.pages.items() if read in page.readers}
                if read in self.waits:
                    waited = self.waits[read]
                    assert waited is None or not self.pages[waited].has_room, "it waits for what has its room"
                    assert set(lost) == {key for key in wanted if self.pages[key].has_room}
                else:
                    assert self.now >= self.heard_at[read] + QUIET_SECONDS, "it is moving"
                    assert set(lost) == wanted
                    self.seen["quiet"] += 1
                self.told_to_drop.add(read)
                self._take_off(read, set(lost))
        self._end_waits()

    def _is_room_waited_for(self) -> bool:
        return any(page is None or not self.pages[page].has_room for page in self.waits.values())

    def _check_refused(self, action: FailPage) -> None:
        """The store is known to be down: whoever wants what is not in flight is told so."""
        page = self.pages.pop(page_key(action.source.key, action.page_id))
        assert page.under_way is None, "it is being fetched"
        assert tuple(sorted(action.reads)) == tuple(sorted(page.readers))
        self._learn_refusal(action.failure)

    def _learn_refusal(self, failure: StoreFailure) -> None:
        assert self.scheduler.limits.breaker.failures_max
        assert failure.retry_after_seconds is not None
        self.refused_until = self.now + failure.retry_after_seconds

    def _check_over_budget(self, action: FailPage) -> None:
        """One reader is told that its turn would come too late."""
        (read,) = action.reads
        key = page_key(action.source.key, action.page_id)
        assert self.pages[key].under_way is None, "it is being fetched"
        assert self.waits.pop(read) == key
        assert action.failure.retry_after_seconds is not None
        assert self.now + action.failure.retry_after_seconds > self.until[read]
        assert action.source.ns in self.scheduler.limits.namespaces
        self.told_to_drop.discard(read)
        self._take_off(read, {key})

    def _check_hedge(self, start: StartGet) -> None:
        """A second GET for what the first was sent for, of which no byte has come."""
        assert start.hedge_of is not None
        first = self.flights[start.hedge_of]
        assert not first.is_opened
        assert not first.is_overtaken
        assert first.partner is None, "a third GET for the same"
        assert (start.page_start, start.page_stop) == (first.start.page_start, first.start.page_stop)
        assert start.get not in self.flights
        assert self.scheduler.limits.hedge.is_on
        wanted = [self.pages[page_key(start.source.key, page_id)] for page_id in first.left]
        assert any(page.readers for page in wanted), "nobody wants it"
        for page in wanted:
            page.asked += 1
            page.attempts += 1
            assert page.attempts <= self.scheduler.retry.attempts_max
        flight = Flight(start, deque(first.left), self.now, partner=start.hedge_of)
        self.flights[start.get], first.partner = flight, start.get
        self.hedges += 1
        self._check_slot(start.source.ns, start.stop - start.start)
        assert self.hedges - 1 < max(1.0, SHARE_MAX * len(self.starts))

    def _check_start(self, start: StartGet) -> None:
        source, file = start.source, start.source.file
        ids = range(start.page_start, start.page_stop)
        assert ids, "a GET of nothing"
        assert start.get not in self.flights
        width = max(self.scheduler.limits.coalesce_bytes, file.page_size_bytes)
        assert len({page_id * file.page_size_bytes // width for page_id in ids}) == 1, "across windows"
        assert (start.start, start.stop) == (
            ids[0] * file.page_size_bytes,
            min((ids[-1] + 1) * file.page_size_bytes, file.size),
        )
        for page_id in ids:
            page = self.pages[page_key(source.key, page_id)]
            assert page.readers, "a GET of a page that nobody wants"
            assert page.under_way is None, "a second fetch of a page"
            page.under_way = start.get
            page.has_room = True
            page.asked += 1
            page.attempts = start.attempt
            self.seen["asked again for its checksum"] += page.wrong > 0
            self.seen["retried"] += page.asked > 1 + page.wrong
            # Every request for it counts, and one more where its checksum was wrong.
            assert page.asked <= self.scheduler.retry.attempts_max + (page.wrong > 0)
        self.flights[start.get] = Flight(start, deque(ids), self.now)
        if start.reason is GetReason.AHEAD:
            budgets = self.scheduler.limits.namespaces
            for page in self.pages.values():
                is_next = page.is_needed and page.under_way is None and not page.has_room
                assert not is_next or page.source.ns in budgets, "somebody needs another page first"
        self._check_slot(source.ns, start.stop - start.start)

    def _check_slot(self, ns: str | None, nbytes: int) -> None:
        assert self.now >= self.refused_until - ROUNDING, "the store is not to be asked"
        self._check_namespace(ns, nbytes)
        self.starts.append(self.now)
        assert self._in_flight <= self.scheduler.limits.inflight_gets_max
        budget = self.scheduler.budget
        for count, since in enumerate(reversed(self.starts), 1):
            assert count <= budget.rate_per_second * (self.now - since) + budget.burst + ROUNDING

    def _check_namespace(self, ns: str | None, nbytes: int) -> None:
        own = self.scheduler.limits.namespaces.get(ns) if ns is not None else None
        if own is None or ns is None:
            return
        starts = self.starts_of.setdefault(ns, [])
        starts.append((self.now, nbytes))
        taken = 0
        for count, (since, length) in enumerate(reversed(starts), 1):
            taken += length
            if (budget := own.requests) is not None:
                assert count <= budget.rate_per_second * (self.now - since) + budget.burst + ROUNDING
            if (budget := own.bytes) is not None and nbytes:
                # A GET of more than the burst is paid for after it, before the next one starts.
                owed = taken - max(0, nbytes - budget.burst)
                assert owed <= budget.rate_per_second * (self.now - since) + budget.burst + ROUNDING

    def _check_outcome(self, action: DeliverPage | FailPage, expected: list[FetchAction]) -> None:
        owed = expected.pop(0)
        assert isinstance(owed, type(action))
        assert (owed.source, owed.page_id) == (action.source, action.page_id)
        assert owed.reads == tuple(sorted(action.reads)), "every waiter once, and nobody else"
        page = self.pages.pop(page_key(action.source.key, action.page_id))
        if isinstance(action, DeliverPage):
            self.room_out += page.length
            self.told_to_drop.difference_update(action.reads)
        else:
            assert isinstance(owed, FailPage)
            assert action.failure.kind is owed.failure.kind
        self.seen["shared"] += len(action.reads) > 1

    # --- what always holds ------------------------------------------------------------------

    @property
    def _in_flight(self) -> int:
        return len(self.flights) + sum(self.calls.values())

    def _check_counters(self) -> None:
        statistics = self.scheduler.statistics()
        assert statistics.in_flight == self._in_flight <= self.scheduler.limits.inflight_gets_max
        assert statistics.room_bytes_used == self.room_used
        assert statistics.gets_started + statistics.calls_started == len(self.starts) - self.calls_not_made
        due = self.scheduler.next_deadline()
        assert due is None or due > self.now, "a deadline that has passed would wake the driver for ever"
        for flight in self.flights.values():
            late_at = flight.moved_at + self.scheduler.limits.page_seconds_max
            is_broken_off = flight.is_late or flight.is_overtaken or self.closed
            assert is_broken_off or self.now < late_at, "it takes too long"
        for read in self.waits:
            assert self.now < self.until[read], "it waits too long"
        for call, call_late_at in self.calls_late_at.items():
            assert self.now < call_late_at, "a call takes too long"
            assert call not in self.calls_left or call_late_at == float("inf"), "it brings what nobody wants"
        for key, page in self.pages.items():
            assert self.scheduler.is_wanted(key)
            assert page.readers or page.under_way is not None
