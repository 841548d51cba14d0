"""The driver of the fetch scheduler and of write-behind: ``seekfs_io.fetching``, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from seekfs_core import writebehind
from seekfs_core.errors import FailureKind, SeekfsError, StoreFailure, error_of
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
from seekfs_core.testing import Timer
from seekfs_core.writebehind import (
    PageVerified,
    SkipCopy,
    SkipPage,
    WriteBehind,
    WriteEnded,
    WriteEvent,
    WritePage,
)
from tests.sim.content import Piece
from tests.sim.memory import Buffer
from tests.sim.oracles import Violation
from tests.sim.store import Wire
from tests.sim.tasks import NOW, Signal, Steps

if TYPE_CHECKING:
    from tests.sim.process import Process


@frozen
class PageCame:
    key: PageKey


@frozen
class PageFailed:
    key: PageKey
    error: SeekfsError
    kind: FailureKind


@frozen
class RoomGranted:
    length: int


@frozen
class RoomRefused:
    length: int


@frozen
class AheadDropped:
    lost: tuple[PageKey, ...]


@frozen
class WaitedTooLong:
    pass


Letter: TypeAlias = PageCame | PageFailed | RoomGranted | RoomRefused | AheadDropped | WaitedTooLong


@define(eq=False)
class Inbox:
    """Where one reader hears what happens, and finds what it holds for later."""

    letters: deque[Letter] = field(factory=deque)
    at_hand: dict[PageKey, Buffer] = field(factory=dict)
    signal: Signal = field(factory=Signal)

    def put(self, letter: Letter) -> None:
        self.letters.append(letter)
        self.signal.send()

    def take_all(self) -> list[Buffer]:
        buffers = list(self.at_hand.values())
        self.at_hand.clear()
        return buffers


@define(eq=False)
class _Call:
    key: str
    ns: str | None
    answered: Callable[[bytes], None]
    failed: Callable[[StoreFailure], None]


Job: TypeAlias = Callable[[], object]


@define(eq=False)
class SimFetcher:
    """Carries out what the scheduler says, between a store, a disk and readers in virtual time."""

    process: Process
    scheduler: FetchScheduler
    write_behind: WriteBehind
    wires: dict[int, Wire] = field(factory=dict)
    gets: dict[int, StartGet] = field(factory=dict)
    inboxes: dict[int, Inbox] = field(factory=dict)
    to_write: dict[PageKey, Buffer] = field(factory=dict)
    writes: int = 0
    """Under way."""
    calls_not_made: int = 0
    _taken: dict[int, Buffer] = field(factory=dict)
    """The buffer that each GET is receiving into."""
    _arrived: dict[tuple[int, int], Buffer] = field(factory=dict)
    _calls: dict[int, _Call] = field(factory=dict)
    _calls_in_flight: dict[int, Callable[[], None]] = field(factory=dict)
    _broken_off: dict[int, StoreFailure] = field(factory=dict)
    _numbers: int = 0
    _alarm: Timer | None = None
    _feed_scheduler: Callable[[FetchEvent, float], tuple[FetchAction, ...]] = field(init=False)
    _feed_write_behind: Callable[..., tuple[writebehind.WriteAction, ...]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._feed_scheduler = self.process.watch("scheduler", self.scheduler)
        self._feed_write_behind = self.process.watch("write-behind", self.write_behind)

    def new_number(self) -> int:
        self._numbers += 1
        return self._numbers

    # --- readers ----------------------------------------------------------------------------

    def join(self) -> tuple[int, Inbox]:
        read, inbox = self.new_number(), Inbox()
        self.inboxes[read] = inbox
        return read, inbox

    def want(self, read: int, source: PageSource, pages: Iterable[int], *, is_ahead: bool) -> list[int]:
        missing = [page_id for page_id in pages if self._lacks(page_key(source.key, page_id))]
        if missing:
            self.tell(PagesWanted(read, source, tuple(missing), is_ahead))
        return missing

    def _lacks(self, key: PageKey) -> bool:
        process = self.process
        return is_lacking(
            is_under_way=self.scheduler.is_wanted(key),
            in_ram=key in process.ram,
            on_disk=process.tier is not None and key in process.tier,
        )

    def wait_for(self, read: int, key: PageKey | None, until: float) -> None:
        self.tell(ReadWaits(read, key, until))

    def want_room(self, read: int, length: int) -> None:
        self.tell(RoomWanted(read, length))

    def release(self, buffer: Buffer) -> None:
        if length := self.process.ram.release(buffer):
            self.tell(RoomReturned(length))

    def keep(self, buffer: Buffer, key: PageKey, crc: int) -> None:
        if length := self.process.ram.keep(buffer, key, crc, 0):
            self.tell(RoomReturned(length))

    def return_room(self, length: int) -> None:
        self.tell(RoomReturned(length))

    def leave(self, read: int) -> None:
        inbox = self.inboxes.pop(read)
        self.tell(ReadLeft(read))
        for buffer in inbox.take_all():
            self.release(buffer)
        for letter in inbox.letters:
            if isinstance(letter, RoomGranted):
                self.return_room(letter.length)
        inbox.letters.clear()

    # --- calls ------------------------------------------------------------------------------

    def call(
        self,
        key: str,
        ns: str | None,
        answered: Callable[[bytes], None],
        failed: Callable[[StoreFailure], None],
    ) -> Callable[[], None]:
        """Read a whole object, when the budget allows; what is returned cancels it."""
        number = self.new_number()
        self._calls[number] = _Call(key, ns, answered, failed)
        self.tell(CallWanted(number, ns))

        def cancel() -> None:
            self._calls.pop(number, None)
            self.tell(CallLeft(number))

        return cancel

    def offer(self, key: PageKey) -> None:
        """Offer a page to the second tier, if RAM holds it and it is not on its way there already."""
        buffer = self.process.ram.hold(key)
        if buffer is not None:
            jobs: list[Job] = []
            self._offer_write(key, buffer, jobs)
            for job in jobs:
                job()

    def _start_call(self, number: int) -> None:
        call = self._calls.get(number)
        if call is None:
            self.calls_not_made += 1
            self.tell(CallNotMade(number))
            return
        if (failure := self._broken_off.pop(number, None)) is not None:
            self.tell(CallFailed(number, failure))
            return
        self._calls_in_flight[number] = self.process.world.store.read(
            self.process,
            call.key,
            lambda: self._call_moved(number),
            lambda answer: self._call_over(number, answer),
        )

    def _call_moved(self, number: int) -> None:
        if self.process.life.is_alive and number in self._calls_in_flight:
            self.tell(CallMoved(number))

    def _call_over(self, number: int, answer: bytes | StoreFailure) -> None:
        if not self.process.life.is_alive:
            return
        del self._calls_in_flight[number]
        if isinstance(answer, StoreFailure):
            self.tell(CallFailed(number, answer))
            return
        call = self._calls.pop(number, None)
        self.tell(CallEnded(number))
        if call is not None:
            call.answered(answer)

    def _break_off_call(self, number: int, failure: StoreFailure) -> None:
        if (break_off := self._calls_in_flight.pop(number, None)) is not None:
            break_off()
            self.process.soon(lambda: self.tell(CallFailed(number, failure)), 0.001)
        else:
            self._broken_off[number] = failure

    # --- the machines -----------------------------------------------------------------------

    def tell(self, event: FetchEvent) -> None:
        """Feed the scheduler, and do all that follows."""
        jobs = self._feed(event)
        # Other threads come between a feed and what is done without the lock.
        if jobs and self.process.world.chance.happens(0.2):
            for job in jobs:
                self.process.soon(job)
        else:
            for job in jobs:
                job()

    def _feed(self, event: FetchEvent) -> list[Job]:
        jobs: list[Job] = []
        events = deque([event])
        while events:
            now = self.process.world.clock.now
            fed = events.popleft()
            actions = self._feed_scheduler(fed, now)
            self.process.oracle.fed(fed, actions, now)
            for action in actions:
                self._carry_out(action, events, jobs)
        self.set_alarm()
        return jobs

    def _carry_out(self, action: FetchAction, events: deque[FetchEvent], jobs: list[Job]) -> None:
        match action:
            case StartGet():
                cuts = tuple(
                    (page_id, *action.source.file.page_extent(page_id))
                    for page_id in range(action.page_start, action.page_stop)
                )
                key = action.source.file.storage_key
                wire = Wire(self.process, self, action.get, key, cuts, action.hedge_of)
                self.wires[action.get], self.gets[action.get] = wire, action
                self.process.world.seen[f"GET: {action.reason.name}"] += 1
                self.process.world.store.get(wire)
            case StartCall(number):
                self._start_call_soon(number, jobs)
            case DeliverPage():
                self._deliver(action, events, jobs)
            case DiscardPage(get, page_id):
                self.process.ram.release(self._arrived.pop((get, page_id)))
            case FailPage(source, page_id, reads, failure):
                key_of_page = page_key(source.key, page_id)
                error = error_of(failure, key=source.file.storage_key)
                self.process.world.seen[f"page failed: {failure.kind.name}"] += 1
                for read in reads:
                    self.inboxes[read].put(PageFailed(key_of_page, error, failure.kind))
            case FailCall(number, failure):
                self.process.world.seen[f"call failed: {failure.kind.name}"] += 1
                if (call := self._calls.pop(number, None)) is not None:
                    jobs.append(partial(call.failed, failure))
            case GrantRoom(read, length):
                self.inboxes[read].put(RoomGranted(length))
            case RefuseRoom(read, length):
                self.inboxes[read].put(RoomRefused(length))
            case BreakOffGet(get, failure):
                if failure.kind is FailureKind.OVERTAKEN:
                    self.process.oracle.overtook(get)
                self.process.world.store.break_off(self.wires[get], failure)
            case BreakOffCall(number, failure):
                jobs.append(partial(self._break_off_call, number, failure))
            case WaitExpired(read):
                self.inboxes[read].put(WaitedTooLong())
            case DropAhead(read, lost):
                inbox = self.inboxes[read]
                for buffer in inbox.take_all():
                    jobs.append(partial(self.release, buffer))
                inbox.put(AheadDropped(lost))

    def _start_call_soon(self, number: int, jobs: list[Job]) -> None:
        # The store counts it now: a call that is on its way to a thread has its place in the budget.
        jobs.append(partial(self._start_call, number))

    def _deliver(self, action: DeliverPage, events: deque[FetchEvent], jobs: list[Job]) -> None:
        source, page_id = action.source, action.page_id
        buffer = self._arrived.pop((action.get, page_id))
        key = page_key(source.key, page_id)
        room = self.process.ram.keep(buffer, key, source.file.page_crc32c(page_id), len(action.reads) + 1)
        if room:
            events.append(RoomReturned(room))
        for read in action.reads:
            inbox = self.inboxes[read]
            if (before := inbox.at_hand.pop(key, None)) is not None:
                jobs.append(partial(self.release, before))
            inbox.at_hand[key] = buffer
            inbox.put(PageCame(key))
        self._offer_write(key, buffer, jobs)
        jobs.append(partial(self.release, buffer))

    # --- write-behind -----------------------------------------------------------------------

    def _offer_write(self, key: PageKey, buffer: Buffer, jobs: list[Job]) -> None:
        is_first = self.to_write.setdefault(key, buffer) is buffer
        self._feed_writes(PageVerified(key, buffer.length), buffer, jobs)
        if is_first and key not in self.write_behind:
            self.to_write.pop(key, None)

    def _feed_writes(self, event: WriteEvent, offered: Buffer | None, jobs: list[Job]) -> None:
        for action in self._feed_write_behind(event, self.process.world.clock.now):
            match action:
                case WritePage(key):
                    self.writes += 1
                    if self.writes > self.process.world.options.writers:
                        raise Violation(f"{self.writes} writes at once")
                    jobs.append(lambda key=key: self.process.spawn(self._write(key)))  # type: ignore[misc]
                case SkipPage(key):
                    jobs.append(partial(self.release, self.to_write.pop(key)))
                case SkipCopy():
                    assert offered is not None
                    jobs.append(partial(self.release, offered))
        self.set_alarm()

    def tell_writes(self, event: WriteEvent) -> None:
        jobs: list[Job] = []
        self._feed_writes(event, None, jobs)
        for job in jobs:
            job()

    def _write(self, key: PageKey) -> Steps:
        buffer = self.to_write[key]
        if self.process.tier is not None:
            assert buffer.piece is not None
            yield from self.process.tier.store(key, buffer.piece, buffer.crc)
        else:
            yield NOW
        del self.to_write[key]
        self.writes -= 1
        self.tell_writes(WriteEnded(key))
        self.release(buffer)

    # --- answers ----------------------------------------------------------------------------

    def opened(self, wire: Wire, etag: str, size: int) -> None:
        if not self.process.life.is_alive:
            return
        self.tell(GetOpened(wire.number, etag, size))
        self._take_buffer(wire, 0)

    def _take_buffer(self, wire: Wire, index: int) -> None:
        """For the page that comes next, unless nothing of it is wanted any more."""
        if index < len(wire.cuts) and wire.broken is None and not wire.is_over:
            _, start, stop = wire.cuts[index]
            self._taken[wire.number] = self.process.ram.take(stop - start)

    def page(self, wire: Wire, page_id: int, piece: Piece) -> None:
        if not self.process.life.is_alive or wire.number not in self._taken:
            return
        buffer = self._taken.pop(wire.number)
        buffer.piece = piece
        self._arrived[wire.number, page_id] = buffer
        self.tell(PageArrived(wire.number, page_id, piece.crc))
        self._take_buffer(wire, page_id + 1 - wire.cuts[0][0])

    def over(self, wire: Wire, failure: StoreFailure | None) -> None:
        if not self.process.life.is_alive:
            return
        if (buffer := self._taken.pop(wire.number, None)) is not None:
            self.process.ram.release(buffer)  # Its room is the scheduler's still.
        del self.wires[wire.number], self.gets[wire.number]
        if failure is not None:
            self.process.world.seen[f"GET failed: {failure.kind.name}"] += 1
        self.tell(GetEnded(wire.number) if failure is None else GetFailed(wire.number, failure))

    # --- time -------------------------------------------------------------------------------

    def set_alarm(self) -> None:
        dues = (self.scheduler.next_deadline(), self.write_behind.next_deadline())
        due = min((due for due in dues if due is not None), default=None)
        if self._alarm is not None and not self._alarm.is_over:
            if due is not None and self._alarm.when <= due:
                return
            self._alarm.cancel()
        self._alarm = None
        if due is not None:
            clock = self.process.world.clock
            self._alarm = clock.call_at(max(due, clock.now), self._ring)

    def _ring(self) -> None:
        if self.process.life.is_alive:
            jobs = self._feed(Tick())
            self._feed_writes(Tick(), None, jobs)
            for job in jobs:
                job()

    def close(self, seconds: float) -> None:
        """Fail what is waited for; what is being written has so many seconds."""
        until = self.process.world.clock.now + seconds
        jobs = self._feed(Closing())
        self._feed_writes(writebehind.Closing(until), None, jobs)
        for job in jobs:
            job()
