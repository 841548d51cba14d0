"""The data plane of one process: everything between an HTTP request (or an embedder) and the store.

::

    plane = DataPlane(load_config())
    resolution = plane.resolve("dev")                     # which version, once a request
    plan = plan_read(resolution.manifest, [("a.bin", 0, 4096)], clip=False)
    with plane.read(plan) as stream:
        for view in stream:                               # verified bytes, in order
            ...
    plane.close(60.0)

What is decided anywhere in it is decided by a machine of ``seekfs_core``; the drivers are
``seekfs_io.resolving`` (versions), ``seekfs_io.reading`` (one read) and ``seekfs_io.fetching``
(GETs and write-behind).
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from attrs import define, field, frozen

from seekfs_core.advice import NamespaceCounts, WarmFile, WarmSearch, advise, still_counted
from seekfs_core.closing import seconds_left, tier_seconds
from seekfs_core.errors import SeekfsError, StoreFailure, error_of
from seekfs_core.explain import NOTED_MAX, ReadNotes, SlowReads
from seekfs_core.fetch import FetchScheduler
from seekfs_core.fetch_messages import FetchLimits, FetchStatistics
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.pages import page_key
from seekfs_core.patience import Patience, page_seconds
from seekfs_core.plan import ReadPlan, plan_read
from seekfs_core.readiness import Readiness, readiness_of
from seekfs_core.resolver import ManifestResolver
from seekfs_core.staging import FIRST, REPORTS, Done, PageStaging, Seen, StagingStep, file_with_page
from seekfs_core.tier_counts import DISK, RAM, STORE, TIERS
from seekfs_io.config import Config
from seekfs_io.fetching import RECEIVE_BYTES, Fetcher
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStat, ReadableStore
from seekfs_io.objects.whole import Watch
from seekfs_io.pages import memory_shares, open_page_store, open_shelf
from seekfs_io.pages.base import TierStatistics
from seekfs_io.pages.hits import HitsTimer
from seekfs_io.pages.ram import RamPages
from seekfs_io.reading import ReadCounters, ReadSetting, ReadStream
from seekfs_io.resolving import Resolution, Resolving
from seekfs_io.tracing import open_tracer

AnswerT = TypeVar("AnswerT")

TIER_OF = {
    StagingStep.REPORT_DISK: DISK,
    StagingStep.REPORT_RAM: RAM,
    StagingStep.REPORT_STORE: STORE,
}
"""What answers and metrics call the tier that a page is said to be in."""


@frozen(kw_only=True)
class FetchedObject:
    """What a GET past every cache brought. ``seconds`` from the request to the last byte."""

    key: str
    start: int
    bytes_received: int
    seconds: float
    status: int


@frozen(kw_only=True)
class StagedPage:
    """A page that was brought into the second tier: where it is now, and what that cost."""

    page_id: int
    off: int
    len: int
    crc32c: int
    tier: str
    bytes_fetched: int


@frozen(kw_only=True)
class PlaneStatistics:
    """Counters since the plane was opened, and what it holds now. Bytes and pages by tier: l1, l2, store."""

    fetch: FetchStatistics
    reads: int
    pages_from: dict[str, int]
    bytes_from: dict[str, int]
    bytes_from_store: int
    """Bytes that GETs of pages brought; ``bytes_from["store"]`` are those that readers then took."""
    bytes_asked_of_store: int
    write_behind_bytes: int
    writes_skipped: int
    tiers: tuple[TierStatistics, ...]


@define
class _NamespaceCounters:
    pages_from: Counter[str] = field(factory=Counter)
    bytes_from: Counter[str] = field(factory=Counter)
    reads_by_path: dict[str, int] = field(factory=dict)


class DataPlane:
    """See the module's text. Thread-safe; one a process and directory.

    Opening raises ``SeekfsError`` or ``ConfigError`` with a sentence for people when a directory
    or an engine cannot be used. ``store`` replaces the configured object store (embedders, tests).
    """

    def __init__(self, config: Config, store: ReadableStore | None = None) -> None:
        self.config = config
        self._clock = time.monotonic
        cache, s3 = config.cache, config.s3
        with contextlib.ExitStack() as opened:
            self._tracer = open_tracer(config.trace, self._clock)
            opened.callback(self._tracer.close)
            self._l2 = open_page_store(config, clock=self._clock, tracer=self._tracer)
            opened.callback(self._l2.close)
            self._shelf = open_shelf(config, tracer=self._tracer)
            opened.callback(self._shelf.close)
            self._store: ReadableStore = store if store is not None else open_store(s3)
            opened.pop_all()  # Nothing after this can be refused.
        self._ram = RamPages(memory_shares(config).l1_bytes, cache.inflight_bytes, self._clock, self._tracer)
        self._hits = HitsTimer((self._ram.tell_hits, self._l2.tell_hits))
        limits = FetchLimits(
            inflight_gets_max=s3.max_inflight_gets,
            room_bytes_max=cache.inflight_bytes,
            coalesce_bytes=s3.range_coalesce_max_bytes,
            page_seconds_max=page_seconds(config.api.request_deadline_sec),
            hedge=s3.hedge_policy,
            breaker=s3.breaker_policy,
            namespaces=s3.budgets_of_namespaces,
        )
        scheduler = FetchScheduler(
            limits=limits,
            budget=s3.request_budget,
            retry=s3.retry_policy,
            rng=random.Random(),
            started_at=self._clock(),
        )
        self._fetcher = Fetcher(self._store, self._ram, self._l2, scheduler, self._clock, self._tracer)
        self._resolving = Resolving(
            self._store,
            self._fetcher,
            self._shelf,
            ManifestResolver(config.manifest.head_ttl_sec, dict(config.manifest.pins)),
            manifest_bytes_max=config.manifest.max_bytes,
            wait_seconds_max=config.api.request_deadline_sec,
            clock=self._clock,
            tracer=self._tracer,
        )
        self._setting = ReadSetting(
            ram=self._ram,
            l2=self._l2,
            fetcher=self._fetcher,
            limits=limits,
            wait_seconds_max=config.api.request_deadline_sec,
            finished=self._count,
            tracer=self._tracer,
        )
        self._lock = threading.Lock()
        self._counters: dict[str, _NamespaceCounters] = {}
        self._reads = 0
        self._slow = SlowReads()
        self._closing = False

    # --- reading ----------------------------------------------------------------------------

    def resolve(self, ns: str, version: int | None = None) -> Resolution:
        """The manifest that a request is to read from. Raises ``NotFound``, ``StoreUnavailable``, …"""
        return self._resolving.resolve(ns, version)

    def read(self, plan: ReadPlan, label: str = "", noted_max: int = NOTED_MAX) -> ReadStream:
        """The bytes of a plan, as a stream that is to be closed.

        ``label`` is what explanations call this read; ``noted_max`` bounds the pages and GETs in its notes.
        """
        return ReadStream(self._setting, plan, label, noted_max)

    # --- looking at the store ---------------------------------------------------------------

    def stat_object(self, key: str) -> ObjectStat:
        """What the store says of an object: one HEAD, budgeted and retried."""
        return self._ask(lambda _: self._store.head(key), key)

    def fetch_object(self, key: str, start: int = 0, stop: int | None = None) -> FetchedObject:
        """Read bytes [start, stop) of an object past every cache and drop them: how fast is the store?"""

        def fetch(watch: Watch) -> FetchedObject:
            began = time.perf_counter()
            received = 0
            scratch = memoryview(bytearray(RECEIVE_BYTES))
            with self._store.get(key, start=start, stop=stop) as body:
                watch.opened(body)
                while count := body.readinto(scratch):
                    received += count
                    watch.moved()
            return FetchedObject(
                key=key,
                start=start,
                bytes_received=received,
                seconds=time.perf_counter() - began,
                status=200 if stop is None and start == 0 else 206,
            )

        return self._ask(fetch, key)

    def stage_page(self, ns: str, path: str, page_id: int) -> StagedPage:
        """Bring one page into the second tier, verified, under its own key."""
        manifest = self.resolve(ns).manifest
        file = file_with_page(manifest, path, page_id)
        key = page_key(manifest.file_key(file), page_id)
        start, stop = file.page_extent(page_id)
        fetched = 0
        feed, step = self._tracer.watch(f"staging page {page_id} of {path!r}", PageStaging()), FIRST
        with contextlib.ExitStack() as held:  # The page stays in RAM until it has been offered.
            while step not in REPORTS:
                outcome: Seen | Done = Done()
                match step:
                    case StagingStep.LOOK_ON_DISK:
                        outcome = Seen(key in self._l2)
                    case StagingStep.READ:
                        plan = plan_read(manifest, [(path, start, stop - start)], clip=False)
                        stream = held.enter_context(self.read(plan))
                        for _ in stream:
                            pass
                        fetched = stop - start if stream.counters.pages_from[STORE] else 0
                    case StagingStep.AWAIT_WRITING:
                        self._fetcher.await_written(key, self.config.api.request_deadline_sec)
                    case StagingStep.OFFER:
                        self._fetcher.offer(key)
                        self._fetcher.await_written(key, self.config.api.request_deadline_sec)
                        outcome = Seen(key in self._l2)
                    case StagingStep.LOOK_IN_RAM:
                        outcome = Seen(key in self._ram)
                (step,) = feed(outcome, self._clock())
        return StagedPage(
            page_id=page_id,
            off=start,
            len=stop - start,
            crc32c=file.page_crc32c(page_id),
            tier=TIER_OF[step],
            bytes_fetched=fetched,
        )

    def _ask(self, request: Callable[[Watch], AnswerT], key: str) -> AnswerT:
        answers: queue.SimpleQueue[AnswerT | SeekfsError] = queue.SimpleQueue()

        def run(watch: Watch) -> Callable[[], None]:
            answer = request(watch)
            return lambda: answers.put(answer)

        def failed(failure: StoreFailure) -> None:
            answers.put(error_of(failure, key=key))

        cancel = self._fetcher.call(run, failed)
        patience = Patience(self.config.api.request_deadline_sec)
        patience.begin(self._clock())
        try:
            answer = answers.get(timeout=patience.seconds_left(self._clock()))
        except queue.Empty:
            cancel()
            raise patience.spent(f"the store's answer about {key!r}", key=key) from None
        if isinstance(answer, SeekfsError):
            raise answer
        return answer

    # --- looking at the plane ---------------------------------------------------------------

    def readiness(self) -> Readiness:
        """Whether reads can be served, and what limits that."""
        return readiness_of(closing=self._closing, disk_off_because=self._l2.statistics().off_because)

    def statistics(self) -> PlaneStatistics:
        fetch, counters, write_behind_bytes = self._fetcher.statistics()
        tiers = (self._ram.statistics(), self._l2.statistics())
        pages_from: Counter[str] = Counter()
        bytes_from: Counter[str] = Counter()
        with self._lock:
            for each in self._counters.values():
                pages_from.update(each.pages_from)
                bytes_from.update(each.bytes_from)
            reads = self._reads
        return PlaneStatistics(
            fetch=fetch,
            reads=reads,
            pages_from={tier: pages_from[tier] for tier in TIERS},
            bytes_from={tier: bytes_from[tier] for tier in TIERS},
            bytes_from_store=counters.bytes_from_store,
            bytes_asked_of_store=counters.bytes_asked_of_store,
            write_behind_bytes=write_behind_bytes,
            writes_skipped=counters.writes_skipped,
            tiers=tiers,
        )

    def advice(self) -> list[dict[str, Any]]:
        """The ``namespaces`` of ``GET /advisor``, since this process began; see ``seekfs_core.advice``."""
        _, fetched, _ = self._fetcher.statistics()
        current = self._resolving.current()
        with self._lock:
            counts = {
                ns: NamespaceCounts(
                    gets_made=fetched.gets_by_namespace[ns],
                    pages_from=Counter(each.pages_from),
                    bytes_from={tier: each.bytes_from[tier] for tier in TIERS},
                    reads_by_path=dict(each.reads_by_path),
                )
                for ns, each in self._counters.items()
            }
        unread = NamespaceCounts(
            gets_made=0, pages_from={}, bytes_from=dict.fromkeys(TIERS, 0), reads_by_path={}
        )

        advice = []
        for ns in sorted(current.keys() | counts.keys()):
            manifest, counted = current.get(ns), counts.get(ns, unread)
            warm = [] if manifest is None else self._files_to_warm(manifest, counted.reads_by_path)
            advice.append(advise(ns, manifest, counted, warm))
        return advice

    def _files_to_warm(self, manifest: Manifest, reads_by_path: Mapping[str, int]) -> list[WarmFile]:
        search = WarmSearch(manifest, reads_by_path)
        while search.next_file is not None:
            search.seen(self._pages_absent(manifest, search.next_file))
        return search.found

    def _pages_absent(self, manifest: Manifest, file: FileEntry) -> int:
        key = manifest.file_key(file)
        keys = (page_key(key, page_id) for page_id in range(file.page_count))
        return sum(1 for page in keys if page not in self._ram and page not in self._l2)

    def slow_reads(self) -> dict[str, list[dict[str, Any]]]:
        """The reads that waited longest of late, and the last ones that failed; see ``seekfs_core.explain``.

        Each with ``ago``: how many seconds ago it began.
        """
        now = self._clock()
        with self._lock:
            found = {"slowest": self._slow.slowest(now), "failed": self._slow.failed()}
        return {
            kind: [{"ago": round(now - each.began_at, 3), **each.explanation(now)} for each in notes]
            for kind, notes in found.items()
        }

    def _count(self, plan: ReadPlan, read: ReadCounters, notes: ReadNotes) -> None:
        with self._lock:
            if notes.is_remembered:
                self._slow.ended(notes, self._clock())
            counters = self._counters.get(plan.manifest.ns)
            if counters is None:
                counters = self._counters[plan.manifest.ns] = _NamespaceCounters()
            for tier in TIERS:
                if nbytes := read.bytes_from[tier]:
                    counters.pages_from[tier] += read.pages_from[tier]
                    counters.bytes_from[tier] += nbytes
            for path in read.paths:
                counters.reads_by_path[path] = counters.reads_by_path.get(path, 0) + 1
            counters.reads_by_path = still_counted(counters.reads_by_path)
            self._reads += 1

    # --- the end ----------------------------------------------------------------------------

    def close(self, timeout_seconds: float) -> None:
        """Finish writing what was fetched, within the bound, and let go of files and connections."""
        self._closing = True
        until = self._clock() + timeout_seconds
        self._resolving.close()
        self._fetcher.close(seconds_left(until, self._clock()))
        self._resolving.await_kept(tier_seconds(until, self._clock()))
        self._hits.close()
        self._l2.close(tier_seconds(until, self._clock()))
        self._shelf.close()
        self._store.close()
        self._tracer.close(tier_seconds(until, self._clock()))
