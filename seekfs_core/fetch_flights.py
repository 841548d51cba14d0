"""The GETs of the fetch scheduler from their start to their end: what each answer, failure and silence means.

A GET starts when its turn has come (``seekfs_core.fetch``). Then it is either answered, and brings its pages
one by one; or it fails, and is made again later for what is left; or its first byte is late, and a second one
is made beside it. Pages that arrived before a GET failed are kept.
"""

from __future__ import annotations

import random

from attrs import define, field

from seekfs_core.errors import ContractViolation, FailureKind, StoreFailure
from seekfs_core.fetch_gets import GetBook
from seekfs_core.fetch_messages import (
    BreakOffGet,
    DeliverPage,
    DiscardPage,
    FailPage,
    FetchAction,
    FetchLimits,
    GetOpened,
    GetReason,
    PageArrived,
    StartGet,
)
from seekfs_core.fetch_work import (
    CRC_ATTEMPTS_MAX,
    Get,
    GetState,
    Hedge,
    after_attempts,
    corrupt_page,
    of_page,
    page_length,
    runs_of,
    wanted_for,
)
from seekfs_core.hedge import FirstBytes, is_affordable
from seekfs_core.retry import RetryPolicy
from seekfs_core.slots import RequestSlots

OVERTAKEN = StoreFailure(kind=FailureKind.OVERTAKEN, detail="another GET of the same was answered first")


@define
class Flights:
    """See the module's text. Every method that may lead to actions appends them to ``actions``."""

    limits: FetchLimits
    retry: RetryPolicy
    rng: random.Random
    slots: RequestSlots
    book: GetBook
    gets_started: int = field(default=0, init=False)
    gets_retried: int = field(default=0, init=False)
    hedges_started: int = field(default=0, init=False)
    hedges_won: int = field(default=0, init=False)
    pages_delivered: int = field(default=0, init=False)
    pages_refused: int = field(default=0, init=False)
    _first_bytes: FirstBytes = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._first_bytes = FirstBytes(self.limits.hedge)

    def next_deadline(self) -> float:
        """When a retry is due, or a page or a first byte late; infinite if never."""
        times = [get.due for get in self.book.resting]
        times += (get.page_due for get in self.book.gets.values())
        times += (get.hedge_due for get in self.book.gets.values() if not get.is_ahead)
        times += (get.hedge.page_due for get in self.book.hedges.values() if get.hedge is not None)
        return min(times, default=float("inf"))

    def start(self, get: Get, now: float, actions: list[FetchAction]) -> None:
        get.probe = self.slots.start(get.source.ns, get.length, now)
        get.move("start", GetState.IN_FLIGHT)
        get.attempt += 1
        get.arrived_stop = get.page_start
        get.started_at, get.is_opened = now, False
        get.first_at = now if get.first_at is None else get.first_at
        get.page_due = now + self.limits.page_seconds_max
        get.hedge_due = now + self._first_bytes.late_after()
        self.gets_started += 1
        reason = GetReason.AHEAD if get.is_ahead else GetReason.NEEDED
        if any(self.book.page(get, page_id).crc_attempts for page_id in get.pages):
            reason = GetReason.CHECKSUM
        elif get.attempt > 1:
            reason = GetReason.RETRY
        self.gets_retried += reason in (GetReason.CHECKSUM, GetReason.RETRY)
        actions.append(_start_of(get, get.number, reason))

    def start_hedges(self, now: float, actions: list[FetchAction]) -> None:
        """Ask once more for what is late, where nobody else would have to wait for that."""
        for get in [get for get in self.book.gets.values() if get.hedge_due <= now and not get.is_ahead]:
            get.hedge_due = float("inf")  # It is asked for twice now, or not at all.
            if (
                get.attempt < self.retry.attempts_max
                and any(self.book.page(get, page_id).readers for page_id in get.pages)
                and is_affordable(self.gets_started, self.hedges_started)
                and self.slots.may_hedge(get.source.ns, get.length, now)
            ):
                self.slots.start(get.source.ns, get.length, now)
                self.gets_started += 1
                self.hedges_started += 1
                get.attempt += 1
                hedge = Hedge(self.book.new_number(), now, now + self.limits.page_seconds_max)
                self.book.hedge(get, hedge)
                actions.append(_start_of(get, hedge.number, GetReason.HEDGE, hedge_of=get.number))

    def opened(self, event: GetOpened, now: float, actions: list[FetchAction]) -> None:
        if event.get in self.book.overtaken:
            return  # Its driver was told to break it off.
        get = self._answered(event.get, "opened", now, actions)
        get.move("opened", GetState.IN_FLIGHT)
        get.etag, get.object_size = event.etag, event.size

    def _answered(self, number: int, what: str, now: float, actions: list[FetchAction]) -> Get:
        """The GET of which request ``number`` was answered: that is its only one from here on."""
        get = self.book.hedges.get(number) or self.book.known(number, what)
        if get.is_opened:
            return get
        get.is_opened, get.hedge_due = True, float("inf")
        # Of one that was overtaken it is known at least that it took so long.
        self._first_bytes.took(now - get.started_at)
        if get.hedge is not None:
            loser = get.number if get.hedge.number == number else get.hedge.number
            self.book.overtaken[loser] = get.probe if loser == get.number else 0
            if loser == get.number:
                self.hedges_won += 1
                self.book.take_over(get)
            else:
                self.book.drop_hedge(get)
            actions.append(BreakOffGet(loser, OVERTAKEN))
        return get

    def page_arrived(self, event: PageArrived, now: float, actions: list[FetchAction]) -> None:
        page_id = event.page_id
        if event.get in self.book.overtaken:
            actions.append(DiscardPage(event.get, page_id))
            return
        get = self.book.hedges.get(event.get) or self.book.known(event.get, "arrived")
        if page_id != get.arrived_stop or page_id >= get.page_stop:
            raise ContractViolation(f"GET {event.get}: page {page_id} arrived out of order")
        self._answered(event.get, "arrived", now, actions)
        get.move("arrived", GetState.IN_FLIGHT)
        get.arrived_stop += 1
        get.page_due = now + self.limits.page_seconds_max
        expected = get.source.file.page_crc32c(page_id)
        if event.crc32c == expected:
            self.pages_delivered += 1
            self.book.room.give(page_length(get.source, page_id))
            readers = self.book.forget_page(get, page_id)
            self.book.waits.given(readers)
            actions.append(DeliverPage(get.number, get.source, page_id, readers))
            return
        self.pages_refused += 1
        actions.append(DiscardPage(get.number, page_id))
        page = self.book.page(get, page_id)
        page.crc_attempts += 1
        if page.crc_attempts < CRC_ATTEMPTS_MAX:
            get.refused.append(page_id)
        else:
            self._fail_page(get, page_id, corrupt_page(get, page_id, expected, event.crc32c), actions)

    def break_off_late(self, now: float, actions: list[FetchAction]) -> None:
        for get in self.book.gets.values():
            if get.page_due <= now:
                get.page_due = float("inf")
                actions.append(BreakOffGet(get.number, self._too_slow(get)))
            if get.hedge is not None and get.hedge.page_due <= now:
                get.hedge.page_due = float("inf")
                actions.append(BreakOffGet(get.hedge.number, self._too_slow(get)))

    def _too_slow(self, get: Get) -> StoreFailure:
        seconds = self.limits.page_seconds_max
        detail = f"GET was broken off: page {get.arrived_stop} took more than {seconds:g} seconds"
        return StoreFailure(kind=FailureKind.TIMED_OUT, detail=detail)

    def ended(self, number: int, now: float) -> None:
        if number in self.book.overtaken:
            self._land_overtaken(number, OVERTAKEN, now)
            return
        get = self.book.known(number, "ended")
        if get.arrived_stop != get.page_stop:
            raise ContractViolation(f"GET {number} ended before page {get.arrived_stop}")
        self.slots.end(now, probe=get.probe)
        get.move("ended", GetState.OVER)
        del self.book.gets[number]
        self._ask_again(get)

    def failed(self, number: int, failure: StoreFailure, now: float, actions: list[FetchAction]) -> bool:
        """A request has failed; whether the store turns out to be down, and everybody is to be told."""
        if number in self.book.overtaken:
            return self._land_overtaken(number, failure, now)
        hedged = self.book.hedges.get(number)
        get = hedged or self.book.known(number, "failed")
        probe = get.probe if hedged is None else 0
        may_retry = not self.slots.breaker.is_refusing(now)
        is_down = self.slots.end(now, failure, probe=probe)
        if hedged is not None:
            self.book.drop_hedge(get)
        elif get.hedge is not None:
            self.book.take_over(get)
        else:
            self._retry_or_fail(get, failure, now, actions, may_retry=may_retry)
        return is_down

    def _land_overtaken(self, number: int, failure: StoreFailure, now: float) -> bool:
        """A request that was overtaken has ended, whatever with."""
        return self.slots.end(now, failure, probe=self.book.overtaken.pop(number))

    def _retry_or_fail(
        self, get: Get, failure: StoreFailure, now: float, actions: list[FetchAction], *, may_retry: bool
    ) -> None:
        get.page_due = get.hedge_due = float("inf")
        self._ask_again(get)
        get.page_start = get.arrived_stop
        delay = self.retry.delay(failure, get.attempt, self.rng) if get.pages and may_retry else None
        if delay is not None:
            get.move("failed", GetState.BACKING_OFF)
            self.book.rest(get, now + delay)
            return
        get.move("failed", GetState.OVER)
        del self.book.gets[get.number]
        final = wanted_for(get.source, after_attempts(failure, get.attempt))
        for page_id in get.pages:
            self._fail_page(get, page_id, of_page(page_id, final), actions)

    def _ask_again(self, get: Get) -> None:
        """A GET of its own for each run of pages whose checksum was wrong; their room stays reserved.

        It is the one request on top of those that a GET may make; otherwise it goes on counting.
        """
        for run in runs_of(get.refused):
            again = self.book.again(get, run)
            again.attempt = get.attempt - 1
            self.book.lines.add(again)
            self.book.shed(again)
        get.refused.clear()

    def refuse_waiting(self, refusal: StoreFailure, actions: list[FetchAction]) -> None:
        """Every GET that is not in flight fails with ``refusal``."""
        for get in [*self.book.lines, *self.book.resting]:
            final = wanted_for(get.source, refusal)
            for page_id in get.pages:
                readers = self.book.forget_page(get, page_id)
                actions.append(FailPage(get.source, page_id, readers, of_page(page_id, final)))
            self.book.give_up(get, "refused")

    def _fail_page(self, get: Get, page_id: int, failure: StoreFailure, actions: list[FetchAction]) -> None:
        self.book.room.give_up(page_length(get.source, page_id))
        readers = self.book.forget_page(get, page_id, room_settled=True)
        if readers:
            actions.append(FailPage(get.source, page_id, readers, failure))


def _start_of(get: Get, number: int, reason: GetReason, hedge_of: int | None = None) -> StartGet:
    return StartGet(
        number,
        get.source,
        get.page_start,
        get.page_stop,
        get.attempt,
        reason,
        get.read,
        get.wanted_at,
        get.started_at if get.first_at is None else get.first_at,
        hedge_of,
    )
