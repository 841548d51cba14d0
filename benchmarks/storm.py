"""How often a store is asked that answers 503 to everything for half a minute, and how soon it is asked
again.

One daemon behind a pass-through that counts requests as the store sees them. Readers always want more than
the budget allows, so the rate is the budget's while the store is well. Printed is the rate of every second,
and drawn with ``--plot FILE`` (SVG, PNG or PDF). benchmarks/README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import define, evolve, field
from rich.console import Console

from benchmarks.rig import publish, write_config, write_noise
from seekfs_io.demo.daemon import running_daemon
from seekfs_io.devserver import HOST, DevServer
from tests.support.hostile_store import FAULTS
from tests.support.passthrough import Match, PassThrough

PAGE_BYTES: Final = 64 << 10
PAGE_MIB: Final = PAGE_BYTES / (1 << 20)
BUDGET_PER_SECOND: Final = 50
CALM_SECONDS: Final = 10
BACK_SECONDS_MAX: Final = 60
READERS: Final = 12
PAGES: Final = 8000
"""More than are read at the budget's rate from beginning to end."""

BAR_COLUMNS: Final = 50


@define
class Rates:
    """Requests that the store saw in each second of the run; ``began`` and ``ended`` are the storm's."""

    counts: list[int]
    began: int
    ended: int
    full: float

    def back_after(self) -> int | None:
        """How many seconds after the storm a second is within a tenth of the full rate again."""
        for second in range(self.ended, len(self.counts)):
            if self.counts[second] >= 0.9 * self.full:
                return second - self.ended + 1
        return None


@define
class Readers:
    """Ask for one page after the other, none of them twice, and do not wait when they are refused."""

    port: int
    statuses: Counter[int] = field(factory=Counter)
    _pages: Iterator[int] = field(factory=itertools.count)
    _stop: threading.Event = field(factory=threading.Event)
    _lock: threading.Lock = field(factory=threading.Lock)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._read) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _read(self) -> None:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=180)
        for page in self._pages:
            if self._stop.is_set() or page >= PAGES:
                break
            connection.request("GET", f"/blob?ns=dev&path=data&off={page * PAGE_BYTES}&len={PAGE_BYTES}")
            response = connection.getresponse()
            response.read()
            with self._lock:
                self.statuses[response.status] += 1
        connection.close()


def measure(directory: Path, storm_seconds: int, console: Console) -> Rates:
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(DevServer(directory=directory / "s3"))
        store = opened.enter_context(PassThrough(HOST, server.s3_port))
        s3 = evolve(server.s3_config(), endpoint=store.endpoint)
        config = write_config(
            directory / "seekfs.toml",
            s3,
            directory / "l2",
            slab_size_mib=PAGE_MIB,
            range_coalesce_max_mib=PAGE_MIB,
            get_budget_per_sec=BUDGET_PER_SECOND,
            get_budget_burst=10,
        )
        publish(config, "dev", write_noise(directory / "data", PAGES * PAGE_BYTES))
        client = opened.enter_context(running_daemon(config, directory, directory / "log", directory))
        readers = Readers(urlsplit(client.base_url).port or 0)
        store.take_exchanges()
        with readers.running():
            started = time.monotonic()
            time.sleep(CALM_SECONDS)
            console.print(f"{CALM_SECONDS} s of calm are over; {storm_seconds} s of 503 begin")
            rule = store.when(Match(method="GET"), FAULTS["slow-down"].plan())
            began = time.monotonic()
            time.sleep(storm_seconds)
            store.lift(rule)
            ended = time.monotonic()
            console.print("the storm is over")
            rates = _rates(store, started, began, ended)
            while rates.back_after() is None and time.monotonic() < ended + BACK_SECONDS_MAX:
                time.sleep(1.0)
                rates = _rates(store, started, began, ended)
            time.sleep(CALM_SECONDS / 2)
            rates = _rates(store, started, began, ended)
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(readers.statuses.items()))
        console.print(f"answers of the daemon, by status: {answers}")
    return rates


def _rates(store: PassThrough, started: float, began: float, ended: float) -> Rates:
    times = [exchange.started - started for exchange in store.exchanges]
    counts = Counter(int(at) for at in times if at >= 0)
    # The last second is not over.
    full = sum(counts[second] for second in range(2, CALM_SECONDS)) / (CALM_SECONDS - 2)
    whole = [counts[second] for second in range(int(time.monotonic() - started))]
    return Rates(whole, round(began - started), round(ended - started), full)


def draw(rates: Rates, path: Path) -> None:
    """Rate against time, the storm shaded."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.step(range(len(rates.counts)), rates.counts, where="post")
    axes.axvspan(rates.began, rates.ended, alpha=0.15, label="the store answers 503")
    axes.set_xlabel("seconds")
    axes.set_ylabel("requests a second, at the store")
    axes.set_ylim(bottom=0)
    axes.legend(loc="center")
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="just bench-storm", description="The rate in a storm of 503s.")
    parser.add_argument("--seconds", type=int, default=30, help="how long the storm lasts")
    parser.add_argument("--plot", type=Path, help="draw it into this file")
    given = parser.parse_args()
    if given.seconds < 1:
        parser.error("--seconds is at least 1")
    out = Console(width=110)
    with tempfile.TemporaryDirectory(prefix="seekfs-bench-") as directory:
        rates = measure(Path(directory), given.seconds, out)
    out.print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}; budget {BUDGET_PER_SECOND} a second")
    for second, count in enumerate(rates.counts):
        mark = "503" if rates.began <= second < rates.ended else ""
        bar = "#" * round(BAR_COLUMNS * count / max(rates.counts))
        out.print(f"{second:4} s {mark:>4} {count:4} {bar}", highlight=False)
    lowest = min(rates.counts[rates.began + 1 : rates.ended] or [0])
    back = rates.back_after()
    out.print(
        f"full rate {rates.full:.1f} a second, lowest in the storm {lowest}; "
        + ("not back within a minute" if back is None else f"full again in second {back} after it")
    )
    if given.plot is not None:
        draw(rates, given.plot)
        out.print(f"drawn into {given.plot}")
    return 0 if back is not None else 1


if __name__ == "__main__":
    sys.exit(main())
