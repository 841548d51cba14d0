"""A store that asks to be asked less, and the budget that holds whatever happens.

Readers ask for new files, new namespaces and objects as fast as they are answered, so that there is always a
request that waits for the budget. What is asked is counted at the store, by its own clock.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from attrs import define, field

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.e2e.http_wire import Answer, get_whole_or_cut
from tests.support.budget import LATE_SECONDS, excess
from tests.support.daemon import Daemon
from tests.support.dataset import File, manifest_of, some_bytes, write_dataset, write_manifest
from tests.support.hostile_store import FAULTS
from tests.support.metrics import metric
from tests.support.passthrough import PassThrough
from tests.support.waiting import wait_until

READERS: Final = 12
"""Fewer than the daemon has threads: who waits for the store holds one."""

FILES_MAX: Final = 10_000
COLD: Final = some_bytes(512, 1)
WARM: Final = some_bytes(3000, 2)


def write_cold_files(store: ObjectStore, ns: str) -> None:
    """So many files that nobody comes to the end of them. One object is behind them all."""
    write_dataset(store, ns, {"0": File(COLD)})
    file = File(COLD, key=f"namespaces/{ns}/files/0")
    write_manifest(store, ns, 2, manifest_of(ns, 2, {str(path): file for path in range(FILES_MAX)}, {}))


@define(eq=False)
class Load:
    """What ``READERS`` ask and get. ``answers`` counts by status; None: no whole answer, since nobody is
    there any more."""

    ns: str
    daemon: Daemon
    answers: dict[int | None, int] = field(factory=dict)
    wrong: list[str] = field(factory=list)
    _numbers: Iterator[int] = field(factory=itertools.count)
    _stop: threading.Event = field(factory=threading.Event)
    _lock: threading.Lock = field(factory=threading.Lock)

    def _targets(self) -> Iterator[str]:
        for number in self._numbers:
            yield f"/blob?ns={self.ns}&path={number % FILES_MAX}"
            if number % 4 == 0:
                yield f"/test_head?ns={self.ns}&path={number % FILES_MAX}"
            if number % 4 == 2:
                yield f"/blob?ns={self.ns}-{number}&path=a"

    def _read(self) -> None:
        for target in self._targets():
            if self._stop.is_set():
                return
            status: int | None = None
            try:
                answer = get_whole_or_cut(self.daemon.port, target)
                status = answer.status if answer.is_whole else None
                if not self._is_right(target, answer):
                    self.wrong.append(f"{target}: {answer}")
            except (OSError, http.client.HTTPException):
                self._stop.wait(0.01)
            with self._lock:
                self.answers[status] = self.answers.get(status, 0) + 1

    def _is_right(self, target: str, answer: Answer) -> bool:
        if answer.status == 200 and target.startswith(f"/blob?ns={self.ns}&"):
            return COLD.startswith(answer.body) and (answer.body == COLD) == answer.is_whole
        return answer.status != 503 or "retry-after" in answer.headers

    @contextmanager
    def going_on(self) -> Iterator[Load]:
        readers = [threading.Thread(target=self._read) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        try:
            yield self
        finally:
            self._stop.set()
            for reader in readers:
                reader.join()


@define(eq=False)
class WarmReads:
    """One who reads what is cached, again and again. ``stale`` answers are counted in ``made`` too."""

    daemon: Daemon
    ns: str
    made: int = 0
    stale: int = 0
    wrong: list[str] = field(factory=list)

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(0.005):
            answer = get_whole_or_cut(self.daemon.port, f"/blob?ns={self.ns}&path=warm")
            if (answer.status, answer.body) != (200, WARM):
                self.wrong.append(repr(answer))
            self.made += 1
            self.stale += "x-seekfs-stale" in answer.headers


@contextmanager
def running(work: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def check_budget(store: PassThrough, rate: float, burst: int) -> None:
    times = [each.started for each in store.exchanges]
    assert times == sorted(times)
    assert excess(times, rate) <= burst + rate * LATE_SECONDS


def per_second(store: PassThrough, since: float, until: float) -> float:
    """The requests of the busiest second."""
    times = [each.started for each in store.exchanges if since <= each.started < until]
    return max((sum(at <= other < at + 1 for other in times) for at in times), default=0)


def test_excess() -> None:
    assert excess([0.0, 0.0, 0.0], 10) == 3
    assert excess([0.0, 0.1, 0.2, 0.3], 10) == 1
    assert round(excess([0.0, 5.0, 5.0, 5.1, 5.1, 9.0], 10), 6) == 3


def test_a_storm_of_503_and_the_time_after_it(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory, soak: bool
) -> None:
    """The rate falls, what is cached is served on, and the rate recovers: all of it within the budget."""
    rate, burst, storm_seconds = 50, 5, 30 if soak else 6
    write_cold_files(store, ns)
    write_dataset(store, f"{ns}-warm", {"warm": File(WARM)})
    daemon = start_daemon(
        s3__get_budget_per_sec=rate,
        s3__get_budget_burst=burst,
        s3__retry_initial_backoff_ms=10,
        manifest__head_ttl_sec=1,
    )
    warm = WarmReads(daemon, f"{ns}-warm")
    assert get_whole_or_cut(daemon.port, f"/blob?ns={ns}-warm&path=warm").body == WARM

    def ceiling() -> float:
        return metric(daemon, "seekfs_store_request_rate_ceiling")

    with Load(ns, daemon).going_on() as load, running(warm.run):
        calm_since = time.monotonic()
        wait_until(lambda: len(passthrough.exchanges) > 3 * rate, "the load is on")
        storm_since = time.monotonic()
        calm = per_second(passthrough, calm_since, storm_since)
        warm_before, served_before = warm.made, load.answers.get(200, 0)

        rule = passthrough.when(lambda _: True, FAULTS["slow-down"].plan())
        wait_until(lambda: time.monotonic() > storm_since + storm_seconds, "the storm has lasted")
        wait_until(lambda: warm.made > warm_before + 100, "what is cached was read all the time")
        assert load.answers.get(200, 0) <= served_before + READERS, "a store that refuses everything"
        storm_until = time.monotonic()
        passthrough.lift(rule)

        wait_until(lambda: ceiling() == rate, "the ceiling is what it was")
        wait_until(lambda: warm.stale < warm.made, "HEAD is read again")
        recovered_since = time.monotonic()
        wait_until(
            lambda: per_second(passthrough, recovered_since, time.monotonic()) >= 0.9 * calm,
            "the store is asked as often as before",
        )
    assert load.wrong == []
    assert warm.wrong == []
    in_storm = per_second(passthrough, storm_until - 2, storm_until)
    assert in_storm <= 0.2 * calm, (in_storm, calm)
    warm_key = f"namespaces/{ns}-warm/files/warm"
    assert len(passthrough.gets(key=warm_key)) == 1
    assert set(load.answers) <= {200, 404, 503}
    methods = {(each.method, each.key.rpartition("/")[2]) for each in passthrough.exchanges}
    assert {("GET", "HEAD"), ("GET", "v-2.json.gz"), ("GET", "0"), ("HEAD", "0")} <= methods
    check_budget(passthrough, rate, burst)


def test_a_restart_does_not_refill_the_budget(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """A daemon that has saved up its burst spends it, is killed, and starts again under the same load."""
    rate, burst = 30, 150
    write_cold_files(store, ns)
    daemon = start_daemon(s3__get_budget_per_sec=rate, s3__get_budget_burst=burst)
    assert get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=0").body == COLD
    asked_at = passthrough.exchanges[-1].started
    wait_until(lambda: time.monotonic() > asked_at + burst / rate, "the burst is saved up")
    with Load(ns, daemon).going_on() as load:
        wait_until(lambda: len(passthrough.exchanges) > burst, "it is spent")
        daemon.kill()
        before = len(passthrough.exchanges)
        daemon.start()
        wait_until(lambda: len(passthrough.exchanges) > before + burst, "as much is asked again")
    assert load.wrong == []
    assert None in load.answers
    assert excess([each.started for each in passthrough.exchanges], rate) > rate, "it had been saved up"
    check_budget(passthrough, rate, burst)
