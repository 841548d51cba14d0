"""A node in one thread and in virtual time: readers, RAM, a disk and a store around the real machines.

Where ``seekfs_io`` has a thread this has a generator that stops wherever another thread could
come in between; what happens next is always somebody else's choice (``Node.moves``). Pages have
no bytes. Readers ask, hold, block and let go the way ``seekfs_io.reading`` does.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

from attrs import define, field, frozen

from seekfs_core import grid
from seekfs_core.errors import FailureKind, StoreFailure
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
from seekfs_core.machine import Tick
from seekfs_core.manifest import FileEntry
from seekfs_core.pages import PageKey, page_key
from seekfs_core.plan import ReadPlan
from seekfs_core.readahead import AheadLost, PageMissed, ProbeWindow, ReadAhead, WindowEntered, WindowProbed
from seekfs_core.retry import is_passing
from seekfs_core.writebehind import (
    PageVerified,
    SkipCopy,
    SkipPage,
    WriteBehind,
    WriteEnded,
    WriteEvent,
    WritePage,
)
from tests.core.model_fetch import OWN_FAILURES, Watched

LOOKS_MAX = 1000


def _failure(kind: FailureKind) -> StoreFailure:
    """As a store fails: busy ones want to be asked less."""
    return StoreFailure(kind=kind, detail="it failed", status=503 if kind is FailureKind.BUSY else None)


@define(eq=False)
class Buffer:
    length: int
    key: PageKey | None = None
    holders: int = 1
    in_ram: bool = False


@frozen
class Came:
    key: PageKey


@frozen
class Failed:
    key: PageKey
    failure: StoreFailure


@frozen
class Granted:
    length: int


@frozen
class Dropped:
    lost: tuple[PageKey, ...]


@frozen
class Refused:
    length: int


@frozen
class Expired:
    """What the reader said it waits for has not come in time."""


Letter: TypeAlias = Came | Failed | Granted | Refused | Dropped | Expired
Move: TypeAlias = tuple[str, Callable[[], object]]


class ItemFailed(Exception):
    """A page of an item could not be had."""


@define(eq=False)
class Reader:
    """One read of a plan; ``step`` takes it to where it next could be interrupted."""

    node: Node
    read: int
    plan: ReadPlan
    inbox: deque[Letter] = field(factory=deque)
    consumed: list[tuple[int, str, int]] = field(factory=list)
    failed_items: dict[int, StoreFailure] = field(factory=dict)
    at_hand: OrderedDict[PageKey, Buffer] = field(factory=OrderedDict)
    """Held for later; the node takes it back where others need the room."""
    blocked: bool = False
    done: bool = False
    _expected: set[PageKey] = field(factory=set)
    _failed: dict[PageKey, StoreFailure] = field(factory=dict)
    _current: Buffer | None = None
    _current_key: PageKey | None = None
    _ahead: ReadAhead | None = None
    _window: tuple[str, int] | None = None
    _scratch_bytes: int = 0
    _sources: dict[str, PageSource] = field(factory=dict)
    _item: int = 0
    _found: Buffer | None = None
    _awaited: PageKey | None = None
    _is_out_of_patience: bool = False
    _run: Iterator[None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._run = self._read_all()

    @property
    def can_step(self) -> bool:
        return not self.done and not (self.blocked and not self.inbox)

    def step(self) -> None:
        self.blocked = False
        if next(self._run, self) is self:
            self._check_all_read()
            self.close()

    def close(self) -> None:
        if self.done:
            return
        self.done = True
        self._let_go()
        self._drop_ahead()
        self.node.leave(self)

    def _check_all_read(self) -> None:
        """Every page of every item in order, but for what follows the page that failed an item."""
        for index in range(len(self.plan.extents)):
            wanted = [(file.path, page_id) for _, file, page_id, _, _ in self.plan.slices(index, index + 1)]
            got = [(path, page_id) for item, path, page_id in self.consumed if item == index]
            assert got == (wanted[: len(got)] if index in self.failed_items else wanted)
        assert [item for item, _, _ in self.consumed] == sorted(item for item, _, _ in self.consumed)

    def _read_all(self) -> Iterator[None]:
        for index in range(len(self.plan.extents)):
            self._item = index
            try:
                for _, file, page_id, start, stop in self.plan.slices(index, index + 1):
                    yield from self._read_slice(file, page_id, stop - start)
                    self.consumed.append((index, file.path, page_id))
                    yield
            except ItemFailed:
                yield

    def _read_slice(self, file: FileEntry, page_id: int, length: int) -> Iterator[None]:
        key = self._key(file, page_id)
        if key == self._current_key:
            return
        self._let_go()
        buffer = self._at_hand(key)
        if buffer is None:
            on_disk = self._is_on_disk(key)
            if on_disk and length * 2 < self._length(file, page_id):
                yield from self._await_scratch()  # A window of the page is read through it.
                yield
                return
            yield from self._absent(on_disk, file, page_id)
            buffer, self._found = self._found, None
            assert buffer is not None
        self._current, self._current_key = buffer, key
        if self._ahead is not None:
            self._look_ahead(file, page_id)

    def _absent(self, on_disk: bool, file: FileEntry, page_id: int) -> Iterator[None]:
        key = self._key(file, page_id)
        for _ in range(LOOKS_MAX):
            if on_disk:
                yield from self._read_back(key, self._length(file, page_id))
                if self._found is not None:
                    return
            if key in self._failed:
                self._fail(key)
            if key not in self._expected:
                if self._ahead is None:
                    self._ahead = ReadAhead(self.plan, self.node.coalesce, self.node.ahead)
                self._look_ahead(file, page_id)
            if not (key in self._expected or key in self._failed or key in self.at_hand):
                self._probe(self._machine.feed(PageMissed(file, page_id), self.node.now))
            if key in self._expected:
                yield from self._await_page(key)
            self._found = self._at_hand(key)
            if self._found is not None:
                return
            yield
            on_disk = self._is_on_disk(key)
        raise AssertionError("a page slips away for ever")

    def _fail(self, key: PageKey) -> None:
        self.failed_items[self._item] = self._failed[key]
        raise ItemFailed

    # --- waiting ----------------------------------------------------------------------------

    def _await_page(self, key: PageKey) -> Iterator[None]:
        told = False
        self._awaited = key
        while key in self._expected:
            if not told and not self.inbox:
                yield  # Between the look into the inbox and the telling others may come.
                self.node.feed(ReadWaits(self.read, key, self._until()))
                told = True
            yield from self._await_letter()
            letter = self.inbox.popleft()
            if letter == Expired():
                self._give_up_waiting()
            self._take_in(letter)
        self._awaited = None

    def _await_room(self, length: int) -> Iterator[None]:
        self.node.feed(RoomWanted(self.read, length))
        told = False
        while True:
            if not told and not self.inbox:
                yield
                self.node.feed(ReadWaits(self.read, None, self._until()))
                told = True
            yield from self._await_letter()
            letter = self.inbox.popleft()
            if letter == Expired():
                self._give_up_waiting()
            if letter == Granted(length):
                return
            if letter == Refused(length):
                self.failed_items[self._item] = StoreFailure(kind=FailureKind.CLOSING, detail="the end")
                raise ItemFailed
            self._take_in(letter)

    def _until(self) -> float:
        """Once a wait was too long the reader takes what is there, and waits no more."""
        return self.node.now if self._is_out_of_patience else self.node.now + self.node.patience

    def _give_up_waiting(self) -> None:
        self._is_out_of_patience = True
        self.failed_items[self._item] = StoreFailure(kind=FailureKind.TIMED_OUT, detail="waited too long")
        raise ItemFailed

    def _await_letter(self) -> Iterator[None]:
        while not self.inbox:
            self.blocked = True
            yield

    def _take_in(self, letter: Letter) -> None:
        match letter:
            case Came(key):
                self._expected.discard(key)
            case Failed(key, failure):
                self._expected.discard(key)
                if key == self._awaited or not is_passing(failure.kind):
                    self._failed[key] = failure
            case Dropped(lost):
                self._expected.difference_update(lost)
                if self._ahead is not None:
                    self._ahead.feed(AheadLost(), self.node.now)
                self._drop_ahead()
            case Granted(length):
                self.node.give_back(length)

    # --- pages ------------------------------------------------------------------------------

    def _read_back(self, key: PageKey, length: int) -> Iterator[None]:
        yield from self._await_room(length)
        buffer = Buffer(length)
        if key not in self.node.disk:  # Reclaimed or rotten meanwhile: a fault is a miss.
            self.node.release(buffer)
            return
        self.node.keep(buffer, key, 0)
        self._found = buffer

    def _await_scratch(self) -> Iterator[None]:
        if not self._scratch_bytes:
            yield from self._await_room(self.node.scratch_bytes)
            self._scratch_bytes = self.node.scratch_bytes

    def _at_hand(self, key: PageKey) -> Buffer | None:
        return self.at_hand.pop(key, None) or self.node.hold(key)

    def _is_on_disk(self, key: PageKey) -> bool:
        return key in self.node.disk and key not in self._expected and key not in self._failed

    def _let_go(self) -> None:
        if self._current is not None:
            self.node.release(self._current)
        self._current = self._current_key = None

    def drop_at_hand(self) -> None:
        while self.at_hand:
            self.node.release(self.at_hand.popitem()[1])

    def _drop_ahead(self) -> None:
        self.drop_at_hand()
        if self._scratch_bytes:
            self.node.give_back(self._scratch_bytes)
            self._scratch_bytes = 0

    def _look_ahead(self, file: FileEntry, page_id: int) -> None:
        window = (file.path, grid.window_of(file, page_id, self.node.coalesce))
        if window != self._window:
            self._window = window
            self._probe(self._machine.feed(WindowEntered(*window), self.node.now))

    def _probe(self, steps: tuple[ProbeWindow, ...]) -> None:
        while steps:
            (step,) = steps
            wanted = [
                page_id
                for page_id in step.pages
                if (key := self._key(step.file, page_id)) not in self.at_hand and key not in self._failed
            ]
            missing = self.node.want(self, self._source(step.file), wanted, step.is_ahead)
            self._expected.update(self._key(step.file, page_id) for page_id in missing)
            missing_bytes = sum(self._length(step.file, page_id) for page_id in missing)
            steps = self._machine.feed(WindowProbed(missing_bytes), self.node.now)

    @property
    def _machine(self) -> ReadAhead:
        assert self._ahead is not None
        return self._ahead

    def _source(self, file: FileEntry) -> PageSource:
        if file.path not in self._sources:
            manifest = self.plan.manifest
            key = manifest.file_key(file)
            self._sources[file.path] = PageSource(manifest.ns, manifest.version, file, key)
        return self._sources[file.path]

    def _key(self, file: FileEntry, page_id: int) -> PageKey:
        return page_key(self.plan.manifest.file_key(file), page_id)

    def _length(self, file: FileEntry, page_id: int) -> int:
        start, stop = file.page_extent(page_id)
        return stop - start


@define(eq=False)
class Node:
    """The driver, in virtual time. Room comes back late: whenever somebody chooses ``room``."""

    watched: Watched
    ahead: int
    ram_bytes: int
    scratch_bytes: int
    writers: int = 2
    patience: float = 1e9
    disk: dict[PageKey, None] = field(factory=dict)
    readers: list[Reader] = field(factory=list)
    late: list[int] = field(factory=list)
    writes: list[PageKey] = field(factory=list)
    calls: list[int] = field(factory=list)
    calls_in_flight: list[int] = field(factory=list)
    gets: dict[int, StartGet] = field(factory=dict)
    broken_off: dict[int, FailureKind] = field(factory=dict)
    calls_broken_off: dict[int, FailureKind] = field(factory=dict)
    write_behind: WriteBehind = field(init=False)
    _found: dict[PageKey, Buffer] = field(factory=dict)
    _in_ram: OrderedDict[PageKey, Buffer] = field(factory=OrderedDict)
    _to_write: dict[PageKey, Buffer] = field(factory=dict)
    _next_read: int = 1
    _next_call: int = 1

    def __attrs_post_init__(self) -> None:
        self.write_behind = WriteBehind(self.writers)

    @property
    def now(self) -> float:
        return self.watched.now

    @property
    def coalesce(self) -> int:
        return self.watched.scheduler.limits.coalesce_bytes

    def open(self, plan: ReadPlan) -> Reader:
        reader = Reader(self, self._next_read, plan)
        self._next_read += 1
        self.readers.append(reader)
        return reader

    # --- what readers call ------------------------------------------------------------------

    def want(self, reader: Reader, source: PageSource, pages: list[int], is_ahead: bool) -> list[int]:
        missing = []
        for page_id in pages:
            key = page_key(source.key, page_id)
            kept = key in self._found or key in self.disk
            if self.watched.scheduler.is_wanted(key) or not kept:
                missing.append(page_id)
        if missing:
            self.feed(PagesWanted(reader.read, source, tuple(missing), is_ahead))
        return missing

    def hold(self, key: PageKey) -> Buffer | None:
        buffer = self._found.get(key)
        if buffer is not None:
            buffer.holders += 1
            if buffer.in_ram:
                self._in_ram.move_to_end(key)
        return buffer

    def release(self, buffer: Buffer) -> None:
        buffer.holders -= 1
        assert buffer.holders >= 0
        if buffer.holders or buffer.in_ram:
            return
        if buffer.key is not None:
            del self._found[buffer.key]
        self.give_back(buffer.length)

    def keep(self, buffer: Buffer, key: PageKey, holders: int) -> None:
        buffer.holders += holders
        if key in self._found:
            return
        buffer.key = key
        self._found[key] = buffer
        for old, idle in list(self._in_ram.items()):
            if sum(page.length for page in self._in_ram.values()) + buffer.length <= self.ram_bytes:
                break
            if not idle.holders:
                del self._in_ram[old], self._found[old]
        if sum(page.length for page in self._in_ram.values()) + buffer.length <= self.ram_bytes:
            buffer.in_ram = True
            self._in_ram[key] = buffer
            self.give_back(buffer.length)

    def give_back(self, length: int) -> None:
        self.late.append(length)

    def leave(self, reader: Reader) -> None:
        self.readers.remove(reader)
        self.feed(ReadLeft(reader.read))
        reader.drop_at_hand()
        for letter in reader.inbox:
            if isinstance(letter, Granted):
                self.give_back(letter.length)

    # --- the scheduler ----------------------------------------------------------------------

    def feed(self, event: FetchEvent) -> None:
        for action in self.watched.feed(event):
            self._carry_out(action)

    def _reader(self, read: int) -> Reader:
        return next(reader for reader in self.readers if reader.read == read)

    def _carry_out(self, action: FetchAction) -> None:
        match action:
            case StartGet(get):
                self.gets[get] = action
            case StartCall(call):
                self.calls_in_flight.append(call)
            case DeliverPage(_, source, page_id, reads):
                start, stop = source.file.page_extent(page_id)
                self._deliver(page_key(source.key, page_id), stop - start, reads)
            case FailPage(source, page_id, reads, failure):
                for read in reads:
                    self._reader(read).inbox.append(Failed(page_key(source.key, page_id), failure))
            case FailCall(call):
                self.calls.remove(call)
            case GrantRoom(read, length):
                self._reader(read).inbox.append(Granted(length))
            case RefuseRoom(read, length):
                self._reader(read).inbox.append(Refused(length))
            case BreakOffGet(get, failure):
                self.broken_off[get] = failure.kind
            case BreakOffCall(call, failure):
                self.calls_broken_off[call] = failure.kind
            case WaitExpired(read):
                self._reader(read).inbox.append(Expired())
            case DropAhead(read, lost):
                self._reader(read).drop_at_hand()
                self._reader(read).inbox.append(Dropped(lost))
            case DiscardPage():
                pass

    def _deliver(self, key: PageKey, length: int, reads: tuple[int, ...]) -> None:
        buffer = Buffer(length)
        self.keep(buffer, key, len(reads) + 1)
        for read in reads:
            reader = self._reader(read)
            if key in reader.at_hand:
                self.release(reader.at_hand.pop(key))
            reader.at_hand[key] = buffer
            reader.inbox.append(Came(key))
        self._to_write.setdefault(key, buffer)
        self._feed_writes(PageVerified(key, length), buffer)
        self.release(buffer)

    def _feed_writes(self, event: WriteEvent, offered: Buffer | None = None) -> None:
        for action in self.write_behind.feed(event, self.now):
            match action:
                case WritePage(key):
                    self.writes.append(key)
                case SkipPage(key):
                    self.release(self._to_write.pop(key))
                case SkipCopy():
                    assert offered is not None
                    self.release(offered)

    # --- what may happen next ---------------------------------------------------------------

    def moves(self) -> list[Move]:
        """Everything that could happen now without anything going wrong."""
        moves: list[Move] = [("read", reader.step) for reader in self.readers if reader.can_step]
        moves += [("get", partial(self.go_on, get)) for get in self.gets if get not in self.broken_off]
        moves += [("broken off", partial(self.fail, get, kind)) for get, kind in self.broken_off.items()]
        moves += [("call", partial(self.end_call, call)) for call in self.calls_in_flight]
        moves += [
            ("call broken off", partial(self.fail_call, call, kind))
            for call, kind in self.calls_broken_off.items()
        ]
        moves += [
            ("call not made", partial(self.end_call, call, CallNotMade(call)))
            for call in self.calls_in_flight
            if call not in self.calls
        ]
        moves += [("room", partial(self.return_room, at)) for at in range(len(self.late))]
        moves += [("write", partial(self.end_write, key, True)) for key in self.writes]
        return moves

    def faults(self) -> list[Move]:
        """Everything that could go wrong now."""
        kinds = [kind for kind in FailureKind if kind not in OWN_FAILURES]
        moves: list[Move] = [("leave", reader.close) for reader in self.readers]
        moves += [("fail", partial(self.fail, get, kind)) for get in self.gets for kind in kinds]
        moves += [("rot", partial(self.go_on, get, wrong=True)) for get in self.gets]
        moves += [
            ("call fails", partial(self.fail_call, call, kinds[call % 7])) for call in self.calls_in_flight
        ]
        moves += [("call moves", partial(self.move_call, call)) for call in self.calls_in_flight]
        moves += [("call left", partial(self.leave_call, call)) for call in self.calls]
        moves += [("write fails", partial(self.end_write, key, False)) for key in self.writes]
        moves += [("reclaim", partial(self.disk.pop, key)) for key in self.disk]
        return moves

    def go_on(self, get: int, wrong: bool = False) -> None:
        """The next page of a GET, or its end."""
        start = self.gets[get]
        left = self.watched.flights[get].left
        if not left:
            del self.gets[get]
            self.broken_off.pop(get, None)  # It came to its end before it could be.
            self.feed(GetEnded(get))
            return
        if left[0] == start.page_start:
            self.feed(GetOpened(get, '"good"', start.source.file.size))
        crc = start.source.file.page_crc32c(left[0])
        self.feed(PageArrived(get, left[0], crc ^ 1 if wrong else crc))

    def fail(self, get: int, kind: FailureKind) -> None:
        del self.gets[get]
        self.broken_off.pop(get, None)
        self.feed(GetFailed(get, _failure(kind)))

    def call(self) -> None:
        call, self._next_call = self._next_call, self._next_call + 1
        self.calls.append(call)
        self.feed(CallWanted(call, "dev" if call % 2 else None))

    def leave_call(self, call: int) -> None:
        self.calls.remove(call)
        self.feed(CallLeft(call))

    def end_call(self, call: int, outcome: CallEnded | CallNotMade | None = None) -> None:
        self.calls_in_flight.remove(call)
        if call in self.calls:
            self.calls.remove(call)
        self.calls_broken_off.pop(call, None)  # It came to its end before it could be.
        self.feed(outcome or CallEnded(call))

    def move_call(self, call: int) -> None:
        self.feed(CallMoved(call))

    def close(self) -> None:
        """The end: whoever waits is told, and nothing else is fetched."""
        self.feed(Closing())

    def fail_call(self, call: int, kind: FailureKind) -> None:
        self.calls_in_flight.remove(call)
        self.calls_broken_off.pop(call, None)
        self.feed(CallFailed(call, _failure(kind)))

    def return_room(self, at: int) -> None:
        self.feed(RoomReturned(self.late.pop(at)))

    def end_write(self, key: PageKey, kept: bool) -> None:
        self.writes.remove(key)
        if kept:
            self.disk[key] = None
        buffer = self._to_write.pop(key)
        self._feed_writes(WriteEnded(key))
        self.release(buffer)

    def pass_time(self, seconds: float) -> None:
        """Time passes, and whatever was due by then happens."""
        until = self.now + seconds
        while (due := self._due()) is not None and due <= until:
            self._tick(due)
        self._tick(until)

    def wake(self) -> bool:
        """Time passes until something is due; False where nothing ever will be."""
        due = self._due()
        if due is None:
            return False
        self._tick(max(due, self.now))
        return True

    def _due(self) -> float | None:
        dues = (self.watched.scheduler.next_deadline(), self.write_behind.next_deadline())
        return min((due for due in dues if due is not None), default=None)

    def _tick(self, now: float) -> None:
        self.watched.now = now
        self.feed(Tick())
        self._feed_writes(Tick())

    def finish(self, choose: Callable[[int], int]) -> None:
        """Nothing goes wrong any more: everything must come to its end, in any order."""
        for _ in range(100_000):
            moves = self.moves()
            if moves:
                moves[choose(len(moves))][1]()
            elif not self.wake():
                break
        assert not self.readers, "readers wait for ever"
        assert self.watched.is_idle
        assert self.watched.room_used == 0
        assert self.watched.scheduler.statistics().room_bytes_used == 0
