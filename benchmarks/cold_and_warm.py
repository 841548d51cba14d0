"""What reading through the daemon costs cold, and gains warm, against GETs straight to the store.

In each round, in turn, one reader reads a whole file

* ``direct``  from the store, in signed range GETs of the same size as the daemon's, one after the other,
* ``cold``    from a daemon that has cached nothing,
* ``L1``      from the same daemon again, its pages now in RAM,
* ``L2``      from a daemon started anew on the same directory, its pages on disk (in the page cache, mostly),

and then the same small ranges, at random places: one GET each from the store, one ``/readv`` from the daemon.
benchmarks/README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import define, field, frozen
from rich.console import Console
from rich.table import Table

from benchmarks.rig import MIB, publish, write_config, write_noise
from seekfs_io.client import Client
from seekfs_io.demo.daemon import running_daemon
from seekfs_io.devserver import DevServer
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore

WINDOW_BYTES: Final = MIB
GET_BYTES: Final = 32 * MIB
"""``s3.range_coalesce_max_mib`` as it is by default, so that both ways make GETs of one size."""

SMALL_BYTES: Final = 64 << 10
SMALL_COUNT: Final = 256
PATH: Final = "data.bin"
BUDGET: Final = {"get_budget_per_sec": 1000, "get_budget_burst": 1000}
"""More than is asked for: what a budget costs is not the question here."""


@frozen
class Reading:
    """One timed read: its length in bytes, its seconds, and what the bytes were."""

    length: int
    seconds: float
    sha256: str


def timed(pieces: Callable[[], Iterator[bytes | memoryview]]) -> Reading:
    """Read everything; hashing is outside of what is timed, piece by piece."""
    digest, length, seconds = hashlib.sha256(), 0, 0.0
    started = time.perf_counter()
    for piece in pieces():
        seconds += time.perf_counter() - started
        digest.update(piece)
        length += len(piece)
        started = time.perf_counter()
    return Reading(length, seconds + time.perf_counter() - started, digest.hexdigest())


@frozen
class Direct:
    """Reads an object as a careful S3 client does: signed range GETs, one after the other."""

    store: ObjectStore
    key: str
    size: int

    def all(self) -> Iterator[memoryview]:
        window = memoryview(bytearray(WINDOW_BYTES))
        for start in range(0, self.size, GET_BYTES):
            with self.store.get(self.key, start=start, stop=min(start + GET_BYTES, self.size)) as reader:
                while count := reader.readinto(window):
                    yield window[:count]

    def ranges(self, offsets: list[int]) -> Iterator[memoryview]:
        window = memoryview(bytearray(SMALL_BYTES))
        for start in offsets:
            with self.store.get(self.key, start=start, stop=start + SMALL_BYTES) as reader:
                filled = 0
                while filled < SMALL_BYTES and (count := reader.readinto(window[filled:])):
                    filled += count
            yield window[:filled]


@frozen
class Through:
    """Reads a file through the daemon, on one connection."""

    connection: http.client.HTTPConnection

    def all(self) -> Iterator[memoryview]:
        self.connection.request("GET", f"/blob?ns=dev&path={PATH}")
        return self._body()

    def ranges(self, offsets: list[int]) -> Iterator[memoryview]:
        items = [{"path": PATH, "off": off, "len": SMALL_BYTES} for off in offsets]
        self.connection.request("POST", "/readv?ns=dev", body=json.dumps(items))
        return self._body()

    def _body(self) -> Iterator[memoryview]:
        window = memoryview(bytearray(WINDOW_BYTES))
        with self.connection.getresponse() as response:
            if response.status != 200:
                raise SystemExit(f"the daemon answered {response.status}: {response.read().decode()}")
            while count := response.readinto(window):
                yield window[:count]


@define
class Results:
    """Seconds of every way in every round; ``length`` is what each of them read, in bytes."""

    length: int
    seconds: dict[str, list[float]] = field(factory=dict)
    gets: dict[str, list[int]] = field(factory=dict)

    def add(self, way: str, reading: Reading, expected: Reading, gets: int) -> None:
        if (reading.length, reading.sha256) != (expected.length, expected.sha256):
            raise SystemExit(f"{way}: other bytes than were published")
        self.seconds.setdefault(way, []).append(reading.seconds)
        self.gets.setdefault(way, []).append(gets)

    def table(self, title: str) -> Table:
        table = Table(title=title, title_justify="left")
        for column in ("way", "MB/s", "ratio to direct", "smallest", "largest", "GETs"):
            table.add_column(column, justify="left" if column == "way" else "right")
        direct = self.seconds["direct"]
        for way, seconds in self.seconds.items():
            ratios = [ours / theirs for ours, theirs in zip(direct, seconds, strict=True)]
            table.add_row(
                way,
                f"{self.length / statistics.median(seconds) / 1e6:.0f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f}",
                f"{max(ratios):.2f}",
                str(round(statistics.median(self.gets[way]))),
            )
        return table


@define
class Bench:
    """Everything that stays the same from round to round."""

    directory: Path
    size: int
    server: DevServer
    direct: Direct
    expected: Reading
    whole: Results
    small: Results

    def round(self, number: int, offsets: list[int]) -> None:
        """Every way once, on a cache of this round's own."""

        def ranges_of(reader: Direct | Through) -> Callable[[], Iterator[memoryview]]:
            return lambda: reader.ranges(offsets)

        l2 = self.directory / f"l2-{number}"
        self.whole.add("direct", timed(self.direct.all), self.expected, -(-self.size // GET_BYTES))
        expected_small = timed(ranges_of(self.direct))
        self.small.add("direct", expected_small, expected_small, SMALL_COUNT)

        with self._daemon(l2) as (through, client):
            with counted(client) as gets:
                cold = timed(through.all)
            self.whole.add("cold", cold, self.expected, gets())
            with counted(client) as gets:
                warm, warm_small = timed(through.all), timed(ranges_of(through))
            self.whole.add("L1", warm, self.expected, gets())
            self.small.add("L1", warm_small, expected_small, gets())
        # Each kind of read has a daemon of its own: the first one would bring pages into L1.
        with self._daemon(l2) as (through, client):
            with counted(client) as gets:
                warm = timed(through.all)
            self.whole.add("L2", warm, self.expected, gets())
        with self._daemon(l2) as (through, client):
            with counted(client) as gets:
                warm_small = timed(ranges_of(through))
            self.small.add("L2", warm_small, expected_small, gets())

    @contextlib.contextmanager
    def _daemon(self, l2: Path) -> Iterator[tuple[Through, Client]]:
        config = write_config(self.directory / "seekfs.toml", self.server.s3_config(), l2, **BUDGET)
        log = self.directory / "daemon.log"
        with running_daemon(config, self.directory, log, self.directory) as client:
            address = urlsplit(client.base_url)
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
            with contextlib.closing(connection):
                connection.connect()
                # The manifest is known and the connection is open, as in the middle of a job.
                client.head("dev", PATH)
                yield Through(connection), client


@contextlib.contextmanager
def counted(client: Client) -> Iterator[Callable[[], int]]:
    """The GETs that the daemon makes within the block, as it counts them itself."""

    def made() -> int:
        return sum(int(each["gets_made"]) for each in client.advisor()["namespaces"])

    before = made()
    found: list[int] = []
    yield lambda: found[0]
    found.append(made() - before)


def measure(directory: Path, *, size: int, rounds: int, console: Console) -> tuple[Results, Results]:
    source = write_noise(directory / PATH, size)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    whole, small = Results(size), Results(SMALL_COUNT * SMALL_BYTES)
    chooser = random.Random(1)
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(DevServer(directory=directory / "s3"))
        store = opened.enter_context(contextlib.closing(open_store(server.s3_config())))
        config = write_config(directory / "seekfs.toml", server.s3_config(), directory / "l2", **BUDGET)
        publish(config, "dev", source)
        direct = Direct(store, f"namespaces/dev/objects/{digest}", size)
        bench = Bench(directory, size, server, direct, Reading(size, 0, digest), whole, small)
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}")
            bench.round(number, [chooser.randrange(size - SMALL_BYTES) for _ in range(SMALL_COUNT)])
    return whole, small


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="just bench", description="Cold and warm reads against direct GETs."
    )
    parser.add_argument("--mib", type=int, default=256, help="size of the file")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.mib < 1 or given.rounds < 1:
        parser.error("--mib and --rounds are at least 1")
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="seekfs-bench-") as directory:
        whole, small = measure(Path(directory), size=given.mib * MIB, rounds=given.rounds, console=console)
    out = Console()
    out.print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {given.rounds} rounds; medians")
    out.print(whole.table(f"one file of {given.mib} MiB, read from its first byte to its last"))
    out.print(small.table(f"{SMALL_COUNT} ranges of {SMALL_BYTES >> 10} KiB at random places"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
