"""Three drivers of the same core, told by a scenario what happens next (``test_three_drivers``).

The clock stands still until the scenario moves it, and the store answers when the scenario says so.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

import attrs
import crc32c
from asyncio_driver import Node
from asyncio_s3 import Failed
from attrs import define, evolve, field

from seekfs_core.breaker import BreakerPolicy
from seekfs_core.budget import GetBudget
from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.fetch import FetchScheduler
from seekfs_core.fetch_messages import FetchLimits, GetReason, PageSource
from seekfs_core.hedge import HedgePolicy
from seekfs_core.manifest import FileEntry, Manifest, file_entry, pack_crcs
from seekfs_core.plan import Item, ReadPlan, plan_read
from seekfs_core.retry import RetryPolicy
from seekfs_core.testing import Chance
from seekfs_io.fetching import Fetcher
from seekfs_io.objects.base import ObjectStat, StoreError
from seekfs_io.pages.memory import MemoryPageStore
from seekfs_io.pages.ram import RamPages
from seekfs_io.reading import ReadSetting, ReadStream
from seekfs_io.tracing import NoTrace
from tests.core.model_files import content_of
from tests.io.scripted_body import ScriptedBody
from tests.sim.content import Piece, entry_of
from tests.sim.options import PAGE, Options, options_of
from tests.sim.process import Process
from tests.sim.reading import SimRead
from tests.sim.store import FAILURES, SimStore, Wire
from tests.sim.tasks import Life, Signal, Steps
from tests.sim.world import World

NS, KEY, PAGES, BEGIN = "dev", "namespaces/dev/files/f", 6, 100.0
SIZE = (PAGES - 1) * PAGE + 77
CONTENT = content_of("f", SIZE)
PATIENCE_SECONDS = 30.0
QUIET_SECONDS = 0.1
LIMITS = FetchLimits(
    inflight_gets_max=2,
    room_bytes_max=8 * PAGE,
    coalesce_bytes=2 * PAGE,
    page_seconds_max=1e6,
    hedge=HedgePolicy(is_on=False),
    breaker=BreakerPolicy(failures_max=0),
)


def scheduler_of() -> FetchScheduler:
    retry = RetryPolicy(attempts_max=3, backoff_seconds_initial=0.2, backoff_seconds_max=2.0)
    return FetchScheduler(LIMITS, GetBudget(1000.0, 50), retry, random.Random(7), 0.0)


def manifest_of(file: FileEntry) -> Manifest:
    return Manifest(ns=NS, version=1, files={"f": file}, created_at=1, parents=(), tombstones=())


def real_file() -> FileEntry:
    pages = [CONTENT[at : at + PAGE] for at in range(0, SIZE, PAGE)]
    return file_entry(
        path="f",
        size=SIZE,
        sha256=bytes(32),
        page_size_bytes=PAGE,
        crcs=pack_crcs(map(crc32c.crc32c, pages)),
        storage_key=KEY,
        storage_etag=None,
    )


def plain(value: object) -> object:
    """Without what is a driver's own: times, the words of failures, and identities."""
    match value:
        case PageSource():
            return value.ns, value.version, value.file.path
        case StoreFailure():
            return value.kind
        case bytes():
            return "a key"
        case GetReason():
            return value
        case tuple():
            return tuple(plain(each) for each in value)
    kind: Any = type(value)
    if not attrs.has(kind):
        return value
    names = [each.name for each in attrs.fields(kind) if not each.name.endswith("_at")]
    return kind.__name__, *(plain(getattr(value, name)) for name in names)


@define
class Record:
    """What the scheduler did, and how often it was fed."""

    actions: list[object] = field(factory=list)
    feeds: int = 0

    def watch(self, _name: str, machine: Any) -> Callable[[Any, float], Any]:
        if not isinstance(machine, FetchScheduler):
            feed: Callable[[Any, float], Any] = machine.feed
            return feed

        def fed(event: Any, now: float) -> Any:
            actions = machine.feed(event, now)
            self.feeds += 1
            self.actions.extend(map(plain, actions))
            return actions

        return fed


class Driver(Protocol):
    """What the scenario tells a driver. Requests are numbered from 0, as they come to the store."""

    record: Record
    got: dict[str, list[bytes]]

    def begin(self, reader: str, items: list[Item]) -> None:
        """Read on until there is a slice, or nothing to do but wait."""

    def take(self, reader: str) -> None:
        """The slice is read: on to the next one, or to the end."""

    def leave(self, reader: str) -> None:
        """The slice is read, and nothing more is wanted."""

    def answer(self, request: int, *what: str) -> None:
        """``open``, ``page``, ``wrong page`` or ``cut``; after its last page a request ends."""

    def advance(self, seconds: float) -> None: ...

    def close(self) -> None: ...


# --- threads --------------------------------------------------------------------------------


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> float:
        return self.now


class GatedBody(ScriptedBody):
    """Gives what it is told to give."""

    def __init__(self, commands: queue.SimpleQueue[str], start: int, stop: int) -> None:
        super().__init__(KEY, SIZE, start, stop)
        self._commands, self._at = commands, start

    def readinto(self, view: memoryview) -> int:
        if not self.left:
            command = self._commands.get(timeout=PATIENCE_SECONDS)
            if command == "cut":
                raise StoreError(FAILURES["cut short"])
            self.left = page_at(self._at, command)
            self._at += len(self.left)
        return self.give(view)

    def abort(self) -> None:
        self._commands.put("cut")


def page_at(start: int, command: str) -> bytes:
    page = CONTENT[start : start + PAGE]
    return page if command == "page" else bytes([page[0] ^ 1]) + page[1:]


class GatedStore:
    def __init__(self) -> None:
        self.commands: list[queue.SimpleQueue[str]] = []

    def head(self, key: str) -> ObjectStat:
        return ObjectStat(key=key, size=SIZE, etag=None)

    def get(self, key: str, *, start: int = 0, stop: int | None = None, if_match: str | None = None) -> Any:
        commands: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.commands.append(commands)
        if commands.get(timeout=PATIENCE_SECONDS) == "cut":
            raise StoreError(FAILURES["cut short"])
        return GatedBody(commands, start, stop or SIZE)

    def close(self) -> None: ...


class RecordingTrace(NoTrace):
    def __init__(self, record: Record) -> None:
        self._record = record

    def watch(self, name: str, machine: Any) -> Any:
        return self._record.watch(name, machine)


class Threads:
    def __init__(self) -> None:
        self.record = Record()
        self.got: dict[str, list[bytes]] = {}
        self._clock, self._store, trace = Hand(), GatedStore(), RecordingTrace(self.record)
        ram, l2 = RamPages(0, LIMITS.room_bytes_max, self._clock), MemoryPageStore(0)
        self._fetcher = Fetcher(self._store, ram, l2, scheduler_of(), self._clock, trace)
        self._setting = ReadSetting(ram, l2, self._fetcher, LIMITS, 1e9, lambda *_: None, trace)
        self._manifest = manifest_of(real_file())
        self._gates: dict[str, queue.SimpleQueue[bool]] = {}

    def _settle(self) -> None:
        """Until no thread has fed the scheduler for a while: whatever follows has followed."""
        feeds = -1
        while feeds != self.record.feeds:
            feeds = self.record.feeds
            threading.Event().wait(QUIET_SECONDS)

    def begin(self, reader: str, items: list[Item]) -> None:
        gate: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._gates[reader], self.got[reader] = gate, []
        plan = plan_read(self._manifest, items, clip=False)
        threading.Thread(target=self._read, args=(reader, plan, gate), daemon=True).start()
        self._settle()

    def _read(self, reader: str, plan: ReadPlan, gate: queue.SimpleQueue[bool]) -> None:
        with ReadStream(self._setting, plan) as stream:
            for piece in stream:
                self.got[reader].append(bytes(piece))
                if not gate.get(timeout=PATIENCE_SECONDS):
                    break

    def take(self, reader: str) -> None:
        self._gates[reader].put(True)
        self._settle()

    def leave(self, reader: str) -> None:
        self._gates[reader].put(False)
        self._settle()

    def answer(self, request: int, *what: str) -> None:
        for command in what:
            self._store.commands[request].put(command)
            self._settle()

    def advance(self, seconds: float) -> None:
        self._clock.now += seconds
        self._fetcher.clock_moved()
        self._settle()

    def close(self) -> None:
        self._fetcher.close(5.0)


# --- asyncio --------------------------------------------------------------------------------


@define
class LoopBody:
    etag: str | None
    size: int
    _commands: asyncio.Queue[str]
    _at: int

    async def exactly(self, length: int) -> bytearray:
        command = await self._commands.get()
        if command == "cut":
            raise Failed(FailureKind.CUT_SHORT, "so it was told")
        page = bytearray(page_at(self._at, command))
        assert len(page) == length
        self._at += length
        return page


class LoopStore:
    def __init__(self) -> None:
        self.commands: list[asyncio.Queue[str]] = []

    @asynccontextmanager
    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncIterator[Any]:
        commands: asyncio.Queue[str] = asyncio.Queue()
        self.commands.append(commands)
        if await commands.get() == "cut":
            raise Failed(FailureKind.CUT_SHORT, "so it was told")
        yield LoopBody(None, SIZE, commands, start)


class Loop:
    def __init__(self) -> None:
        self.record = Record()
        self.got: dict[str, list[bytes]] = {}
        self._clock, self._loop, self._store = Hand(), asyncio.new_event_loop(), LoopStore()
        self._node = self._run(self._make())
        self._manifest = manifest_of(real_file())
        self._gates: dict[str, asyncio.Queue[bool]] = {}
        self._reads: list[asyncio.Task[None]] = []

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    async def _make(self) -> Node:
        store: Any = self._store
        return Node(store, scheduler_of(), self._clock, self.record.watch)

    async def _settle(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    def begin(self, reader: str, items: list[Item]) -> None:
        self._gates[reader], self.got[reader] = asyncio.Queue(), []
        self._reads.append(self._loop.create_task(self._read(reader, items)))
        self._run(self._settle())

    async def _read(self, reader: str, items: list[Item]) -> None:
        async with aclosing(self._node.read(self._manifest, items)) as pieces:
            async for piece in pieces:
                self.got[reader].append(bytes(piece))
                if not await self._gates[reader].get():
                    break

    def _open_gate(self, reader: str, goes_on: bool) -> None:
        self._gates[reader].put_nowait(goes_on)
        self._run(self._settle())

    def take(self, reader: str) -> None:
        self._open_gate(reader, True)

    def leave(self, reader: str) -> None:
        self._open_gate(reader, False)

    def answer(self, request: int, *what: str) -> None:
        for command in what:
            self._store.commands[request].put_nowait(command)
            self._run(self._settle())

    def advance(self, seconds: float) -> None:
        async def move() -> None:
            self._clock.now += seconds
            self._node.clock_moved()
            await asyncio.sleep(0.01)  # An alarm that is due rings.
            await self._settle()

        self._run(move())

    def close(self) -> None:
        self._run(asyncio.gather(*self._reads))
        self._loop.close()


# --- the simulator --------------------------------------------------------------------------


class NoChance(Chance):
    """Nothing happens by itself, and whoever comes first goes first."""

    def happens(self, probability: float) -> bool:
        return False

    def below(self, count: int) -> int:
        return 7 % count


class InTurn(random.Random):
    """The dice of tasks: never interrupted, never before an earlier one."""

    def random(self) -> float:
        return 0.99

    def getrandbits(self, bits: int, /) -> int:
        return 0


class ScriptedStore(SimStore):
    def get(self, wire: Wire) -> None:
        self.began(wire.asker, wire.key, wire)
        SCRIPTED.append(wire)


SCRIPTED: list[Wire] = []


class RecordedWorld(World):
    def __init__(self, options: Options, record: Record) -> None:
        super().__init__(options)
        self._record = record

    def watch(self, name: str, machine: Any) -> Callable[[Any, float], Any]:
        watch = self._record.watch if isinstance(machine, FetchScheduler) else super().watch
        return watch(name, machine)


class Simulated:
    def __init__(self) -> None:
        SCRIPTED.clear()
        self.record = Record()
        self.got: dict[str, list[bytes]] = {}
        options = evolve(
            options_of(0),
            processes=1,
            faults=frozenset(),
            inflight_gets_max=LIMITS.inflight_gets_max,
            room_bytes_max=LIMITS.room_bytes_max,
            coalesce_bytes=LIMITS.coalesce_bytes,
            page_seconds_max=LIMITS.page_seconds_max,
            rate_per_second=1000.0,
            burst=50,
            attempts_max=3,
            backoff_seconds=0.2,
            hedge_samples=500,
            breaker_failures=0,
            namespace_budgets=(),
            l1_bytes_max=0,
            has_disk=False,
            wait_seconds_max=1e9,
            is_pinned=False,
        )
        world = self._world = RecordedWorld(options, self.record)
        world.chance = world.tasks.chance = NoChance(InTurn(7))
        world.store = ScriptedStore(
            world.clock,
            world.chance,
            options,
            began=world._request_began,
            page_came=world._page_came,
            ended=world._request_ended,
            answered=world._answered,
            applied=world._applied,
        )
        self._process = Process(world, "the process")
        world.clock.run_until(BEGIN)
        self._manifest = manifest_of(entry_of("f", 1, SIZE, PAGE, KEY))
        self._gates: dict[str, Signal] = {}
        self._leaving: set[str] = set()
        self._sent: dict[int, int] = {}

    def _settle(self) -> None:
        self._world.clock.run_until(self._world.clock.now)

    def begin(self, reader: str, items: list[Item]) -> None:
        self._gates[reader], self.got[reader] = Signal(), []
        self._world.tasks.spawn(Life(), self._read(reader, items))
        self._settle()

    def _read(self, reader: str, items: list[Item]) -> Steps:
        def got(_: Item, piece: Piece, start: int, stop: int) -> None:
            assert (piece.content, piece.damage) == (1, 0)
            self.got[reader].append(CONTENT[piece.start + start : piece.start + stop])

        gate: Any = self._gates[reader]
        read = SimRead(self._process, plan_read(self._manifest, items, clip=False), got, lambda: gate)
        for index, item in enumerate(items):
            for step in read.item(index, item):
                yield step
                if reader in self._leaving:
                    break
        read.close()

    def take(self, reader: str) -> None:
        self._gates[reader].send()
        self._settle()

    def leave(self, reader: str) -> None:
        self._leaving.add(reader)
        self.take(reader)

    def answer(self, request: int, *what: str) -> None:
        wire = SCRIPTED[request]
        for command in what:
            if command == "cut":
                self._world.store._end(wire, FAILURES["cut short"])
            elif command == "open":
                wire.receiver.opened(wire, '"e"', SIZE)
            else:
                index = self._sent.get(request, 0)
                self._sent[request] = index + 1
                page_id, start, stop = wire.cuts[index]
                piece = Piece(1, start, stop)
                self._world.store.page_came(wire, stop)
                wire.receiver.page(wire, page_id, piece if command == "page" else piece.damaged(1))
                if index + 1 == len(wire.cuts):
                    self._world.store._end(wire, None)
            self._settle()

    def advance(self, seconds: float) -> None:
        self._world.clock.run_until(self._world.clock.now + seconds)

    def close(self) -> None:
        self._process.check_idle()
