"""The thread driver of the fetch scheduler and of write-behind.

One lock guards the machines and is held for microseconds, never across I/O. GETs and calls run on
a pool of their own, so no request thread ever does one and a client that leaves fails nobody;
disk writes run on another. Readers hear what happens through an inbox each.

What happens to a page, in order: it arrives and is checked (``PageArrived``); it can be found in
RAM and its readers hold it; only then is it no longer "wanted". A reader that looks under the
lock therefore sees it either in a tier or under way, and never asks for it twice.

A request to the store that fails is told to the log at level debug only: it may well be made again. Whoever
waits for it says it once, with all that is known, if it comes to nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from attrs import define, field, frozen
from crc32c import crc32c

from seekfs_core import writebehind
from seekfs_core.closing import THREADS_SECONDS_MAX
from seekfs_core.errors import FailureKind, SeekfsError, StoreFailure, bug_of, error_of
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
    StartCall,
    StartGet,
    WaitExpired,
)
from seekfs_core.lookup import is_lacking
from seekfs_core.machine import Tick
from seekfs_core.pages import PageKey, page_key
from seekfs_core.writebehind import (
    WRITERS,
    PageVerified,
    SkipCopy,
    SkipPage,
    WriteBehind,
    WriteEnded,
    WriteEvent,
    WritePage,
)
from seekfs_io.objects.base import ObjectReader, ReadableStore, StoreError
from seekfs_io.objects.whole import Watch
from seekfs_io.pages.base import PageStore
from seekfs_io.pages.ram import PageBuffer, RamPages
from seekfs_io.threads import DaemonPool, run_all
from seekfs_io.tracing import NO_TRACE, NoTrace
from seekfs_io.transfers import Transfer

log = logging.getLogger("seekfs.fetch")

RECEIVE_BYTES = 1024 * 1024
"""What is received before its checksum is taken: small enough to be in the processor's cache still."""


@frozen
class PageCame:
    """A page that the reader wanted is ``at_hand``, unless it was taken back since. ``get`` brought it."""

    key: PageKey
    get: StartGet


@frozen
class PageFailed:
    """A page that the reader wanted cannot be had, since it failed with ``kind``."""

    key: PageKey
    error: SeekfsError
    kind: FailureKind


@frozen
class RoomGranted:
    length: int


@frozen
class RoomRefused:
    """The room of this many bytes that was wanted will not be granted: the plane is being closed."""

    length: int


@frozen
class AheadDropped:
    """Others need the room: nothing is at hand any more, and the ``lost`` are not to be expected."""

    lost: tuple[PageKey, ...]


@frozen
class WaitedTooLong:
    """The page, or room, that the reader said it waits for has not come in time. ``is_asked``: the store was
    asked for it."""

    is_asked: bool


Letter: TypeAlias = PageCame | PageFailed | RoomGranted | RoomRefused | AheadDropped | WaitedTooLong


class Inbox:
    """Where one reader hears what happens, and finds what it holds for later.

    ``at_hand`` are pages that came before their turn, or that the reader comes back to. Whoever takes a
    buffer out releases it: the reader, or the fetcher, where others need the room and the reader's client
    is slow. No lock: taking one item out of a dictionary is one step.
    """

    __slots__ = ("at_hand", "letters")

    def __init__(self) -> None:
        self.letters: queue.SimpleQueue[Letter] = queue.SimpleQueue()
        self.at_hand: dict[PageKey, PageBuffer] = {}

    def take_all(self) -> Iterator[PageBuffer]:
        """Take out every buffer."""
        for key in list(self.at_hand):
            if (buffer := self.at_hand.pop(key, None)) is not None:
                yield buffer


@define(eq=False)
class _Call:
    run: Callable[[Watch], Callable[[], None]]
    failed: Callable[[StoreFailure], None]


@define
class FetchCounters:
    """What the machine does not know: bytes, by cause. Guarded by the fetcher's lock."""

    bytes_from_store: int = 0
    bytes_asked_of_store: int = 0
    gets_by_namespace: Counter[str] = field(factory=Counter)
    writes_skipped: int = 0


class Fetcher:
    """Runs the GETs that a ``FetchScheduler`` decides on. Thread-safe."""

    def __init__(
        self,
        store: ReadableStore,
        ram: RamPages,
        l2: PageStore,
        scheduler: FetchScheduler,
        clock: Callable[[], float],
        tracer: NoTrace = NO_TRACE,
    ) -> None:
        self._store = store
        self._ram = ram
        self._l2 = l2
        self._scheduler = scheduler
        self._clock = clock
        self._write_behind = WriteBehind(WRITERS)
        self._feed_scheduler = tracer.watch("scheduler", scheduler)
        self._feed_write_behind = tracer.watch("write-behind", self._write_behind)
        self._lock = threading.Lock()
        self._alarm = threading.Condition(self._lock)
        self._alarm_at: float | None = None
        self._written = threading.Condition(self._lock)
        self._closed = False
        self._gets: dict[int, tuple[StartGet, Transfer]] = {}
        self._calls_in_flight: dict[int, Transfer] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._calls: dict[int, _Call] = {}
        self._arrived: dict[tuple[int, int], PageBuffer] = {}
        self._to_write: dict[PageKey, PageBuffer] = {}
        self._numbers = iter(range(1, 2**63))
        self.counters = FetchCounters()
        self._requests = DaemonPool("seekfs-get", scheduler.limits.inflight_gets_max)
        self._writers = DaemonPool("seekfs-write", WRITERS)
        self._timer = threading.Thread(target=self._keep_time, name="seekfs-timer", daemon=True)
        self._timer.start()

    # --- readers ----------------------------------------------------------------------------

    def join(self) -> tuple[int, Inbox]:
        """A new reader: its number and where it hears what happens."""
        inbox = Inbox()
        with self._lock:
            read = next(self._numbers)
            self._inboxes[read] = inbox
        return read, inbox

    def want(self, read: int, source: PageSource, pages: Iterable[int], *, is_ahead: bool) -> list[int]:
        """Ask for those of the pages that are in no tier; which ones they are. ``is_ahead``: for later.

        Pages that another reader's GET is bringing are among them: the reader is told of these too.
        """
        with self._lock:
            missing = [page_id for page_id in pages if self._lacks(page_key(source.key, page_id))]
            jobs = self._feed(PagesWanted(read, source, tuple(missing), is_ahead)) if missing else []
        run_all(jobs)
        return missing

    def wait_for(self, read: int, key: PageKey | None, until: float) -> None:
        """The reader can do nothing until this page, or the room that it wanted, comes; ``until`` then."""
        self._tell(ReadWaits(read, key, until))

    def want_room(self, read: int, length: int) -> None:
        """Ask for room for a buffer of the reader's own."""
        self._tell(RoomWanted(read, length))

    def release(self, buffer: PageBuffer) -> None:
        """Hold a buffer once less."""
        if length := self._ram.release(buffer):
            self._tell(RoomReturned(length))

    def keep(self, buffer: PageBuffer, key: PageKey, crc: int) -> None:
        """A page read back from disk is right: let others find it, and L1 keep it."""
        if length := self._ram.keep(buffer, key, crc, 0):
            self._tell(RoomReturned(length))

    def return_room(self, length: int) -> None:
        """Room that was granted and not used, or whose buffer the reader has let go of itself."""
        self._tell(RoomReturned(length))

    def leave(self, read: int) -> None:
        """The reader wants nothing any more. What is in its inbox is let go of."""
        with self._lock:
            inbox = self._inboxes.pop(read)
            jobs = self._feed(ReadLeft(read))
        run_all(jobs)
        # Only readers that are known are given anything, under the lock: no more can come.
        for buffer in inbox.take_all():
            self.release(buffer)
        while not inbox.letters.empty():
            letter = inbox.letters.get_nowait()
            if isinstance(letter, RoomGranted):
                self.return_room(letter.length)

    def offer(self, key: PageKey) -> None:
        """Offer a page to the second tier, if RAM holds it and it is not on its way there already."""
        buffer = self._ram.hold(key)
        if buffer is None:
            return
        with self._lock:
            jobs = self._offer_write(key, buffer)
        run_all(jobs)

    def await_written(self, key: PageKey, timeout_seconds: float) -> None:
        """Until write-behind has done with a page, whatever came of it, or the bound has passed."""
        with self._lock:
            self._written.wait_for(lambda: key not in self._to_write, timeout_seconds)

    # --- calls ------------------------------------------------------------------------------

    def call(
        self,
        run: Callable[[Watch], Callable[[], None]],
        failed: Callable[[StoreFailure], None],
        ns: str | None = None,
    ) -> Callable[[], None]:
        """Make a request of another kind, when the budget allows (and that of ``ns``, if it has one), and
        again as the policy says.

        ``run`` does the one request on a thread of the pool, tells the watch how it comes, and returns
        what to do with its answer; ``failed`` hears of a final failure. Neither is called under a lock.
        Returns a function that says that nobody wants the answer any more.
        """
        with self._lock:
            number = next(self._numbers)
            self._calls[number] = _Call(run, failed)
            jobs = self._feed(CallWanted(number, ns))
        run_all(jobs)

        def cancel() -> None:
            with self._lock:
                self._calls.pop(number, None)
                jobs = self._feed(CallLeft(number))
            run_all(jobs)

        return cancel

    # --- the rest of the process ------------------------------------------------------------

    def statistics(self) -> tuple[FetchStatistics, FetchCounters, int]:
        """The scheduler's view, the byte counters, and bytes that wait for the disk."""
        with self._lock:
            counters = FetchCounters(
                self.counters.bytes_from_store,
                self.counters.bytes_asked_of_store,
                Counter(self.counters.gets_by_namespace),
                self.counters.writes_skipped,
            )
            return self._scheduler.statistics(), counters, self._write_behind.bytes_waiting

    def clock_moved(self) -> None:
        """Look at the clock again, if it is one that is set by hand."""
        with self._lock:
            self._alarm.notify_all()

    def close(self, timeout_seconds: float) -> None:
        """Fail what is waited for, break off what is being fetched, and finish what is being written,
        within the bound."""
        with self._lock:
            until = self._clock() + timeout_seconds
            jobs = self._feed(Closing()) + self._feed_writes(writebehind.Closing(until))
        run_all(jobs)
        with self._lock:
            # The timer says when the time is over; the bound is for a clock that is not this machine's.
            self._written.wait_for(lambda: self._write_behind.is_flushed, timeout_seconds)
            self._closed = True
            self._alarm.notify_all()
        self._writers.close(THREADS_SECONDS_MAX)
        self._requests.close(0.0)

    # --- under the lock ---------------------------------------------------------------------

    def _lacks(self, key: PageKey) -> bool:
        return is_lacking(
            is_under_way=self._scheduler.is_wanted(key), in_ram=key in self._ram, on_disk=key in self._l2
        )

    def _tell(self, event: FetchEvent) -> None:
        with self._lock:
            jobs = self._feed(event)
        run_all(jobs)

    def _feed(self, event: FetchEvent) -> list[Callable[[], None]]:
        """Feed the scheduler and do what touches only memory; the rest is returned, to be done
        without the lock."""
        jobs: list[Callable[[], None]] = []
        events: list[FetchEvent] = [event]
        while events:
            for action in self._feed_scheduler(events.pop(0), self._clock()):
                self._carry_out(action, events, jobs)
        self._wake_timer()
        return jobs

    def _carry_out(
        self, action: FetchAction, events: list[FetchEvent], jobs: list[Callable[[], None]]
    ) -> None:
        match action:
            case StartGet():
                self.counters.gets_by_namespace[action.source.ns] += 1
                self.counters.bytes_asked_of_store += action.stop - action.start
                get_transfer = Transfer()
                self._gets[action.get] = action, get_transfer
                jobs.append(lambda: self._requests.submit(lambda: self._get(action, get_transfer)))
            case StartCall(number):
                transfer = self._calls_in_flight[number] = Transfer(lambda: self._tell(CallMoved(number)))
                jobs.append(lambda: self._requests.submit(lambda: self._run_call(number, transfer)))
            case DeliverPage():
                self._deliver(action, events, jobs)
            case DiscardPage(get, page_id):
                self._ram.release(self._arrived.pop((get, page_id)))
            case FailPage(source, page_id, reads, failure):
                key = page_key(source.key, page_id)
                error = error_of(failure, key=source.file.storage_key)
                for read in reads:
                    self._inboxes[read].letters.put(PageFailed(key, error, failure.kind))
            case FailCall(number, failure):
                if (call := self._calls.pop(number, None)) is not None:
                    jobs.append(lambda: call.failed(failure))
            case GrantRoom(read, length):
                self._inboxes[read].letters.put(RoomGranted(length))
            case RefuseRoom(read, length):
                self._inboxes[read].letters.put(RoomRefused(length))
            case BreakOffGet(get, failure):
                self._break_off(self._gets[get][1], failure, jobs)
            case BreakOffCall(number, failure):
                self._break_off(self._calls_in_flight[number], failure, jobs)
            case WaitExpired(read, _, is_asked):
                self._inboxes[read].letters.put(WaitedTooLong(is_asked))
            case DropAhead(read, lost):
                inbox = self._inboxes[read]
                for buffer in inbox.take_all():
                    jobs.append(lambda buffer=buffer: self.release(buffer))  # type: ignore[misc]
                inbox.letters.put(AheadDropped(lost))

    def _break_off(self, transfer: Transfer, failure: StoreFailure, jobs: list[Callable[[], None]]) -> None:
        # At once: the next thread that gets the lock may be the one that was broken off.
        transfer.break_off(failure)
        jobs.append(transfer.abort)

    def _deliver(self, action: DeliverPage, events: list[FetchEvent], jobs: list[Callable[[], None]]) -> None:
        source, page_id = action.source, action.page_id
        buffer = self._arrived.pop((action.get, page_id))
        key = page_key(source.key, page_id)
        get, _ = self._gets[action.get]
        # One hold for each reader, and one for the write.
        room = self._ram.keep(buffer, key, source.file.page_crc32c(page_id), len(action.reads) + 1)
        if room:
            events.append(RoomReturned(room))
        for read in action.reads:
            inbox = self._inboxes[read]
            if (before := inbox.at_hand.pop(key, None)) is not None:
                jobs.append(lambda before=before: self.release(before))  # type: ignore[misc]
            inbox.at_hand[key] = buffer
            inbox.letters.put(PageCame(key, get))
        jobs.extend(self._offer_write(key, buffer))
        jobs.append(lambda: self.release(buffer))  # The GET's own hold.

    def _offer_write(self, key: PageKey, buffer: PageBuffer) -> list[Callable[[], None]]:
        """Offer to write-behind a page that is held for it once."""
        is_first = self._to_write.setdefault(key, buffer) is buffer
        jobs = self._feed_writes(PageVerified(key, buffer.length), buffer)
        if is_first and key not in self._write_behind:
            self._to_write.pop(key, None)  # Nobody will write it.
        return jobs

    def _feed_writes(self, event: WriteEvent, offered: PageBuffer | None = None) -> list[Callable[[], None]]:
        """``offered`` is the buffer of the page that ``event`` offers."""
        jobs: list[Callable[[], None]] = []
        for action in self._feed_write_behind(event, self._clock()):
            match action:
                case WritePage(key):
                    jobs.append(lambda key=key: self._writers.submit(lambda: self._write(key)))  # type: ignore[misc]
                case SkipPage(key):
                    self.counters.writes_skipped += 1
                    buffer = self._to_write.pop(key)
                    jobs.append(lambda buffer=buffer: self.release(buffer))  # type: ignore[misc]
                case SkipCopy():
                    assert offered is not None
                    jobs.append(lambda: self.release(offered))
        self._written.notify_all()
        self._wake_timer()
        return jobs

    def _deadline(self) -> float | None:
        dues = (self._scheduler.next_deadline(), self._write_behind.next_deadline())
        return min((due for due in dues if due is not None), default=None)

    def _wake_timer(self) -> None:
        due = self._deadline()
        if due is not None and (self._alarm_at is None or due < self._alarm_at):
            self._alarm.notify_all()

    # --- on threads of their own ------------------------------------------------------------

    def _keep_time(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                due = self._deadline()
                if due is None or due > self._clock():
                    self._alarm_at = due
                    self._alarm.wait(None if due is None else max(0.0, due - self._clock()))
                    self._alarm_at = None
                    continue
                jobs = self._feed(Tick()) + self._feed_writes(Tick())
            run_all(jobs)

    def _get(self, get: StartGet, transfer: Transfer) -> None:
        """One GET: every page is checked and handed over as soon as it is in."""
        key = get.source.file.storage_key
        outcome: FetchEvent = GetEnded(get.get)
        try:
            transfer.moved()
            with self._store.get(key, start=get.start, stop=get.stop) as body:
                self._receive_pages(get, body, transfer)
        except StoreError as error:
            failure = transfer.failure_of(error)
            log.debug("GET %d of %r, try %d: %s", get.get, key, get.attempt, failure.detail)
            outcome = GetFailed(get.get, failure)
        except Exception as error:
            # A bug, but not one that may leave readers waiting for ever.
            log.exception("GET of %r", key)
            outcome = GetFailed(get.get, bug_of(error))
        with self._lock:
            del self._gets[get.get]
            jobs = self._feed(outcome)
        run_all(jobs)

    def _receive_pages(self, get: StartGet, body: ObjectReader, transfer: Transfer) -> None:
        transfer.opened(body)
        self._tell(GetOpened(get.get, body.etag, body.size))
        for page_id in range(get.page_start, get.page_stop):
            start, stop = get.source.file.page_extent(page_id)
            self._receive_page(get, page_id, body, stop - start, transfer)

    def _receive_page(
        self, get: StartGet, page_id: int, body: ObjectReader, length: int, transfer: Transfer
    ) -> None:
        transfer.moved()  # One that was overtaken takes no buffer: its pages have room only once.
        buffer = self._ram.take(length)
        try:
            crc = _receive(body, buffer.view, transfer)
        except BaseException:
            # The room of a page that did not come is the scheduler's still: nothing is returned.
            self._ram.release(buffer)
            raise
        with self._lock:
            self.counters.bytes_from_store += length
            self._arrived[get.get, page_id] = buffer
            jobs = self._feed(PageArrived(get.get, page_id, crc))
        run_all(jobs)

    def _run_call(self, number: int, transfer: Transfer) -> None:
        with self._lock:
            call = self._calls.get(number)
        outcome: FetchEvent = CallEnded(number)
        answered: Callable[[], None] | None = None
        if call is None:
            outcome = CallNotMade(number)
        else:
            try:
                answered = call.run(transfer)
            except StoreError as error:
                failure = transfer.failure_of(error)
                log.debug("call %d: %s", number, failure.detail)
                outcome = CallFailed(number, failure)
            except Exception as error:
                log.exception("a request to the store")
                outcome = CallFailed(number, bug_of(error))
        with self._lock:
            del self._calls_in_flight[number]
            # Of a call that failed somebody may have to hear yet.
            is_awaited = answered is not None and self._calls.pop(number, None) is not None
            jobs = self._feed(outcome)
        run_all(jobs)
        if answered is not None and is_awaited:
            answered()

    def _write(self, key: PageKey) -> None:
        with self._lock:
            buffer = self._to_write[key]
        try:
            self._l2.store(key, buffer.view, buffer.crc32c)
        finally:
            with self._lock:
                del self._to_write[key]
                jobs = self._feed_writes(WriteEnded(key))
            run_all(jobs)
            self.release(buffer)


def _receive(body: ObjectReader, view: memoryview, transfer: Transfer) -> int:
    """Fill ``view`` with a page; its CRC-32C. ``StoreError``."""
    crc = at = 0
    while at < len(view):
        transfer.moved()
        count = body.readinto(view[at : at + RECEIVE_BYTES])
        if not count:
            raise StoreError(
                StoreFailure(kind=FailureKind.CUT_SHORT, detail="the body ended before its length")
            )
        crc = crc32c(view[at : at + count], crc)
        at += count
    return crc
