"""What hedging does to the tail of reads from a store that is slow for one GET in a hundred; what it costs.

Two daemons that differ in ``s3.hedge`` alone read the same files, cold, in turn; each is behind a
pass-through of its own that makes every hundredth GET wait for ``SLOW_SECONDS`` before its answer. Reads are
of one page, which is one GET, and of eight pages in one batch, which is eight GETs at once: what a batch
takes is what its slowest GET takes. There is one reader: where several share the processors, those that wait
for a slow GET leave them to the others, and the daemon that makes nobody wait seems the slower one.
benchmarks/README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import define, evolve, field
from rich.console import Console
from rich.table import Table

from benchmarks.rig import publish, write_config, write_noise
from seekfs_io.demo.daemon import running_daemon
from seekfs_io.devserver import HOST, DevServer
from tests.support.metrics import metric
from tests.support.passthrough import Exchange, PassThrough, Plan

PAGE_BYTES: Final = 64 << 10
PAGE_MIB: Final = PAGE_BYTES / (1 << 20)
SLOW_ONE_IN: Final = 100
SLOW_SECONDS: Final = 0.5
BATCH: Final = 8
LEARNING_PAGES: Final = 200
"""Read before anything is measured: a daemon that has seen nothing hedges nothing."""

PAGES: Final = 1000
"""Of the file of one round: three fifths are read by themselves, the others in batches."""


@define
class Daemon:
    """One of the two, and what it was timed at: seconds of reads, by how many pages each had."""

    url: str
    port: int
    seconds: dict[int, list[float]] = field(factory=dict)

    def read(self, ns: str, batches: Sequence[Sequence[int]]) -> list[float]:
        """Read batches of pages; the seconds that each took."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=120)
        with contextlib.closing(connection):
            return [_read(connection, ns, pages) for pages in batches]

    def count(self, name: str, **labels: str) -> int:
        return int(metric(self, name, **labels))


def _read(connection: http.client.HTTPConnection, ns: str, pages: Sequence[int]) -> float:
    items = [{"path": "data", "off": page * PAGE_BYTES, "len": PAGE_BYTES} for page in pages]
    started = time.perf_counter()
    connection.request("POST", f"/readv?ns={ns}", body=json.dumps(items))
    response = connection.getresponse()
    body = response.read()
    seconds = time.perf_counter() - started
    if response.status != 200 or len(body) != len(pages) * PAGE_BYTES:
        raise SystemExit(f"the daemon answered {response.status}, {len(body)} bytes")
    return seconds


def slow_sometimes(store: PassThrough) -> None:
    """Let every ``SLOW_ONE_IN``-th GET of a range wait."""
    count = itertools.count(1)

    def is_its_turn(exchange: Exchange) -> bool:
        return exchange.method == "GET" and exchange.range is not None and next(count) % SLOW_ONE_IN == 0

    store.when(is_its_turn, Plan(delay_seconds=SLOW_SECONDS))


@contextlib.contextmanager
def both_daemons(directory: Path, server: DevServer) -> Iterator[dict[bool, Daemon]]:
    """Without hedging and with it."""
    with contextlib.ExitStack() as opened:
        daemons: dict[bool, Daemon] = {}
        for hedge in (False, True):
            store = opened.enter_context(PassThrough(HOST, server.s3_port))
            slow_sometimes(store)
            place = directory / f"hedge-{hedge}"
            place.mkdir()
            config = write_config(
                place / "seekfs.toml",
                evolve(server.s3_config(), endpoint=store.endpoint),
                place / "l2",
                slab_size_mib=PAGE_MIB,
                range_coalesce_max_mib=PAGE_MIB,
                get_budget_per_sec=100_000,
                get_budget_burst=100_000,
                hedge=hedge,
            )
            client = opened.enter_context(running_daemon(config, place, place / "log", directory))
            daemons[hedge] = Daemon(client.base_url, urlsplit(client.base_url).port or 0)
        yield daemons


def quantile(seconds: list[float], share: float) -> float:
    """The time that this share of reads stayed below."""
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def measure(directory: Path, rounds: int, console: Console) -> dict[bool, Daemon]:
    chooser = random.Random(1)
    with DevServer(directory=directory / "s3") as server:
        config = write_config(
            directory / "seekfs.toml", server.s3_config(), directory / "l2", slab_size_mib=PAGE_MIB
        )
        for number in range(rounds + 1):
            publish(config, f"round-{number}", write_noise(directory / "data", PAGES * PAGE_BYTES, number))
        with both_daemons(directory, server) as daemons:
            for daemon in daemons.values():
                daemon.read("round-0", [[page] for page in range(LEARNING_PAGES)])
            began = {hedge: _counts(daemon) for hedge, daemon in daemons.items()}
            for number in range(1, rounds + 1):
                console.print(f"round {number} of {rounds}")
                pages = chooser.sample(range(PAGES), PAGES)
                single, rest = pages[: PAGES * 3 // 5], pages[PAGES * 3 // 5 :]
                for hedge in (False, True) if number % 2 else (True, False):
                    daemon = daemons[hedge]
                    daemon.seconds.setdefault(1, []).extend(
                        daemon.read(f"round-{number}", [[page] for page in single])
                    )
                    batches = [rest[at : at + BATCH] for at in range(0, len(rest), BATCH)]
                    daemon.seconds.setdefault(BATCH, []).extend(daemon.read(f"round-{number}", batches))
            for hedge, daemon in daemons.items():
                gets, hedges, won = (
                    after - before for after, before in zip(_counts(daemon), began[hedge], strict=True)
                )
                console.print(
                    f"hedge = {str(hedge).lower()}: {gets} GETs, {hedges} of them hedges; {won} came first"
                )
    return daemons


def _counts(daemon: Daemon) -> tuple[int, int, int]:
    return (
        daemon.count("seekfs_store_requests_started_total", kind="pages"),
        daemon.count("seekfs_store_hedges_total"),
        daemon.count("seekfs_store_hedges_won_total"),
    )


def table_of(daemons: dict[bool, Daemon]) -> Table:
    table = Table(title="milliseconds of a cold read", title_justify="left")
    for column in ("GETs a read", "hedge", "reads", "median", "p95", "p99", "p99.5", "largest"):
        table.add_column(column, justify="right")
    for count in (1, BATCH):
        for hedge, daemon in daemons.items():
            seconds = daemon.seconds[count]
            shares = [quantile(seconds, share) for share in (0.95, 0.99, 0.995, 1.0)]
            figures = [f"{1000 * each:.1f}" for each in (statistics.median(seconds), *shares)]
            table.add_row(str(count), "on" if hedge else "off", str(len(seconds)), *figures)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="just bench-late", description="Tails with hedged GETs and without."
    )
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds is at least 1")
    out = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="seekfs-bench-") as directory:
        daemons = measure(Path(directory), given.rounds, out)
    out.print(
        f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {given.rounds} rounds; "
        f"every {SLOW_ONE_IN}th GET waits {1000 * SLOW_SECONDS:.0f} ms"
    )
    out.print(table_of(daemons))
    return 0


if __name__ == "__main__":
    sys.exit(main())
