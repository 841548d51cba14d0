"""Two requests for the same page: of the one that is overtaken nothing may be left."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable

import crc32c
import msgspec
import pytest

from seekfs_core.budget import GetBudget
from seekfs_core.fetch import FetchScheduler
from seekfs_core.fetch_messages import FetchLimits, PageSource
from seekfs_core.hedge import HedgePolicy
from seekfs_core.manifest import pack_crcs
from seekfs_core.pages import file_key, page_key
from seekfs_core.retry import RetryPolicy
from seekfs_io import fetching, threads
from seekfs_io.fetching import Fetcher
from seekfs_io.objects.base import ObjectStat
from seekfs_io.pages.memory import MemoryPageStore
from seekfs_io.pages.ram import PageBuffer, RamPages
from tests.core.model_files import NS, content_of, file_of
from tests.io.planes import until
from tests.io.scripted_body import ScriptedBody

PAGE = 4096
CONTENT = content_of("a", 2 * PAGE)
PATIENCE_SECONDS = 30.0


class Body(ScriptedBody):
    """Bytes of the object."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__("a", len(CONTENT), start, stop)
        self.left = CONTENT[start:stop]

    def readinto(self, view: memoryview) -> int:
        return self.give(view)


class GatedStore:
    """Answers the first GET at once, and each of the others when its gate is opened."""

    def __init__(self) -> None:
        self.gates: list[threading.Event] = []
        self.threads: list[int] = []

    def head(self, key: str) -> ObjectStat:
        return ObjectStat(key=key, size=len(CONTENT), etag=None)

    def get(self, key: str, *, start: int = 0, stop: int | None = None, if_match: str | None = None) -> Body:
        gate = threading.Event()
        self.threads.append(threading.get_ident())
        self.gates.append(gate)
        if len(self.gates) > 1:
            assert gate.wait(PATIENCE_SECONDS)
        assert stop is not None
        return Body(start, stop)

    def close(self) -> None: ...


class CountedPages(RamPages):
    """How many buffers were taken, ever."""

    taken = 0

    def take(self, length: int) -> PageBuffer:
        self.taken += 1
        return super().take(length)


def test_a_get_that_is_overtaken_takes_no_buffer_before_it_is_broken_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The room of a page is there once: between the answer that came first and the breaking off of the other
    request, that one may be answered too."""
    file = msgspec.structs.replace(
        file_of("a", CONTENT, PAGE),
        crcs=pack_crcs(crc32c.crc32c(CONTENT[at : at + PAGE]) for at in range(0, len(CONTENT), PAGE)),
    )
    source = PageSource(NS, 1, file, file_key(NS, "a", file.sha256, file.page_size_bytes, file.crcs))
    store, ram = GatedStore(), CountedPages(0, 16 * PAGE, time.monotonic)
    limits = FetchLimits(
        inflight_gets_max=8,
        room_bytes_max=16 * PAGE,
        coalesce_bytes=PAGE,
        page_seconds_max=PATIENCE_SECONDS,
        hedge=HedgePolicy(samples_min=1, seconds_min=0.05),
    )
    scheduler = FetchScheduler(
        limits=limits,
        budget=GetBudget(1000.0, 1000),
        retry=RetryPolicy(attempts_max=3, backoff_seconds_initial=0.1),
        rng=random.Random(1),
        started_at=time.monotonic(),
    )
    overtaken_is_done = threading.Event()

    def late(jobs: Iterable[Callable[[], None]]) -> None:
        """What the hedge's thread does without the lock waits until the other request has ended."""
        if len(store.threads) == 3 and threading.get_ident() == store.threads[2]:
            assert overtaken_is_done.wait(PATIENCE_SECONDS)
        threads.run_all(jobs)

    monkeypatch.setattr(fetching, "run_all", late)
    fetcher = Fetcher(store, ram, MemoryPageStore(0), scheduler, time.monotonic)
    try:
        read, inbox = fetcher.join()
        fetcher.want(read, source, [0], is_ahead=False)
        until(lambda: page_key(source.key, 0) in inbox.at_hand)
        fetcher.want(read, source, [1], is_ahead=False)
        until(lambda: len(store.gates) == 3)
        store.gates[2].set()
        until(lambda: scheduler.statistics().hedges_won == 1)
        store.gates[1].set()
        until(lambda: scheduler.statistics().outcomes.get("overtaken") == 1)
        assert ram.taken == 1, "the one that was overtaken took the buffer of the hedge"
        overtaken_is_done.set()
        until(lambda: page_key(source.key, 1) in inbox.at_hand)
        assert bytes(inbox.at_hand[page_key(source.key, 1)].view) == CONTENT[PAGE:]
        assert ram.taken == 2
        fetcher.leave(read)
    finally:
        overtaken_is_done.set()
        for gate in store.gates:
            gate.set()
        fetcher.close(5.0)
