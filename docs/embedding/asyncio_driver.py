"""A reader in one event loop: the core's scheduler, driven by asyncio (docs/embedding.md). GETs are shared,
budgeted, retried, hedged; pages are checked, and kept while they are read. Deadlines: asyncio.timeout."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any

from asyncio_s3 import S3, Failed
from attrs import define, field
from crc32c import crc32c

from seekfs_core import fetch_messages as fetch
from seekfs_core import grid, names
from seekfs_core.errors import SeekfsError, bug_of, error_of
from seekfs_core.fetch import FetchScheduler
from seekfs_core.fetch_messages import PageSource as Source
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.manifest_format import decode_manifest
from seekfs_core.pages import PageKey, page_key
from seekfs_core.plan import Item, plan_read

MANIFEST_BYTES_MAX = 256 << 20
GET: Any = fetch.GetEnded, fetch.GetFailed
CALL: Any = fetch.CallEnded, fetch.CallFailed


@define(eq=False)
class Reading:
    number: int
    expected: set[PageKey] = field(factory=set)
    came: dict[PageKey, bytearray | SeekfsError] = field(factory=dict)
    news: asyncio.Event = field(factory=asyncio.Event)


@define(eq=False)
class Node:
    """Made and used in one running loop. ``watch`` is given the machine, and returns what feeds it."""

    store: S3
    scheduler: FetchScheduler
    clock: Callable[[], float] = time.monotonic
    watch: Callable[[str, Any], Callable[[Any, float], Any]] = lambda _, machine: machine.feed
    _numbers: itertools.count[int] = field(factory=lambda: itertools.count(1))
    _alarm: asyncio.TimerHandle | None = None
    _tasks: dict[tuple[Any, int], asyncio.Task[None]] = field(factory=dict)
    _calls: dict[int, tuple[str, int, asyncio.Future[Any]]] = field(factory=dict)
    _arrived: dict[tuple[int, int], bytearray] = field(factory=dict)
    _holders: dict[int, int] = field(factory=dict)  # How many readers have a page, by its identity.
    _readings: dict[int, Reading] = field(factory=dict)
    _feed: Callable[[Any, float], Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._feed = self.watch("scheduler", self.scheduler)

    async def current(self, ns: str) -> Manifest:
        """The version that HEAD names. Raises ``SeekfsError``."""
        head = await self._object(ns, names.head_key(ns), names.HEAD_BYTES_MAX)
        version = names.parse_head(head, ns=ns)
        stored = await self._object(ns, names.manifest_key(ns, version), MANIFEST_BYTES_MAX)
        return decode_manifest(stored, ns=ns, version=version, max_bytes=MANIFEST_BYTES_MAX)

    async def read(self, manifest: Manifest, items: Sequence[Item]) -> AsyncGenerator[memoryview, None]:
        """The bytes of each ``(path, offset, length)``, in order. Raises ``SeekfsError``."""
        plan, coalesce = plan_read(manifest, items, clip=False), self.scheduler.limits.coalesce_bytes
        for error in plan.errors.values():
            raise error
        reading = Reading(next(self._numbers))
        self._readings[reading.number] = reading
        page, current = bytearray(), None
        try:
            for _, file, page_id, start, stop in plan.slices():
                self.scheduler.limits.check(file)
                source = Source(manifest.ns, manifest.version, file, manifest.file_key(file))
                if current != page_key(source.key, page_id):
                    self._release([page])
                    page, current = bytearray(), page_key(source.key, page_id)
                    pages = plan.pages_in_window(file, grid.window_of(file, page_id, coalesce), coalesce)
                    page = await self._page(reading, source, current, pages)
                yield memoryview(page)[start:stop]
        finally:
            del self._readings[reading.number]
            self._tell(fetch.ReadLeft(reading.number))
            self._release([page, *reading.came.values()])

    async def _page(self, reading: Reading, source: Source, key: PageKey, window: Sequence[int]) -> bytearray:
        while key not in reading.came:
            if key not in reading.expected:
                keys = {each: page_key(source.key, each) for each in window}
                pages = tuple(each for each in window if keys[each] not in reading.came)
                reading.expected.update(keys[each] for each in pages)
                self._tell(fetch.PagesWanted(reading.number, source, pages))
            self._tell(fetch.ReadWaits(reading.number, key))
            await reading.news.wait()
            reading.news.clear()
        page = reading.came.pop(key)
        if isinstance(page, SeekfsError):
            raise page
        return page

    async def _object(self, ns: str, key: str, bytes_max: int) -> bytes:
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._calls[number] = key, bytes_max, answer
        self._tell(fetch.CallWanted(number, ns))
        return bytes(await answer)

    def _release(self, pages: Sequence[bytearray | SeekfsError]) -> None:
        for page in (each for each in pages if isinstance(each, bytearray) and each):
            self._holders[id(page)] -= 1
            if not self._holders[id(page)]:
                del self._holders[id(page)]
                self._tell(fetch.RoomReturned(len(page)))

    def _tell(self, event: fetch.FetchEvent) -> None:
        soon = asyncio.get_running_loop().call_soon
        for action in self._feed(event, self.clock()):
            match action:
                case fetch.StartGet(get):
                    self._start((GET, get), self._get(action))
                case fetch.StartCall(call):
                    self._start((CALL, call), self._call(call))
                case fetch.DeliverPage(get, source, page_id, reads):
                    page = self._arrived.pop((get, page_id))
                    self._holders[id(page)] = len(reads) + 1
                    self._give(reads, page_key(source.key, page_id), page)
                    soon(self._release, [page])
                case fetch.DiscardPage(get, page_id):
                    del self._arrived[get, page_id]
                case fetch.FailPage(source, page_id, reads, failure):
                    error = error_of(failure, key=source.file.storage_key)
                    self._give(reads, page_key(source.key, page_id), error)
                case fetch.FailCall(call, failure):
                    key, _, answer = self._calls.pop(call)
                    if not answer.done():  # Whoever asked may have been cancelled.
                        answer.set_exception(error_of(failure, key=key))
                case fetch.BreakOffGet(number, failure) | fetch.BreakOffCall(number, failure):
                    kind = GET if isinstance(action, fetch.BreakOffGet) else CALL
                    self._tasks[kind, number].cancel(failure)
                case fetch.DropAhead(read, lost):
                    reading = self._readings[read]
                    soon(self._release, list(reading.came.values()))
                    reading.came.clear()
                    reading.expected.difference_update(lost)
                    reading.news.set()
        self.clock_moved()

    def _give(self, reads: Sequence[int], key: PageKey, page: bytearray | SeekfsError) -> None:
        for reading in map(self._readings.__getitem__, reads):
            reading.came[key] = page
            reading.expected.discard(key)
            reading.news.set()

    def clock_moved(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if (due := self.scheduler.next_deadline()) is not None:
            delay = max(0.0, due - self.clock())
            self._alarm = asyncio.get_running_loop().call_later(delay, lambda: self._tell(Tick()))

    def _start(self, name: tuple[Any, int], work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            (ended, failed), number = name
            try:
                await work
                outcome = ended(number)
            except Failed as error:
                outcome = failed(number, error.failure)
            except asyncio.CancelledError as error:
                if not error.args:
                    raise  # The loop ends.
                outcome = failed(number, error.args[0])
            except Exception as error:
                outcome = failed(number, bug_of(error))
            del self._tasks[name]
            self._tell(outcome)

        self._tasks[name] = asyncio.get_running_loop().create_task(run())

    async def _get(self, get: fetch.StartGet) -> None:
        file = get.source.file
        async with self.store.get(file.storage_key, get.start, get.stop) as body:
            self._tell(fetch.GetOpened(get.get, body.etag, body.size))
            for page_id in range(get.page_start, get.page_stop):
                start, stop = file.page_extent(page_id)
                page = self._arrived[get.get, page_id] = await body.exactly(stop - start)
                self._tell(fetch.PageArrived(get.get, page_id, crc32c(page)))

    async def _call(self, call: int) -> None:
        key, bytes_max, answer = self._calls[call]
        async with self.store.get(key) as body:
            stored = await body.exactly(min(body.size, bytes_max + 1))
        del self._calls[call]
        if not answer.done():
            answer.set_result(stored)
