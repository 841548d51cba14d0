"""The reads of the demo: which ones, how long they take, and whether every byte is right.

A *pass* reads some files as ranges, others in batches, the rest whole: each kind its own files, so that
in the first pass all of them are cold. The second, of exactly the same reads, is warm. Only the time in
which the daemon is waited for counts; reading the local copy and comparing does not.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import define, frozen

from seekfs_core.errors import SeekfsError
from seekfs_io.client import Client, DaemonError, Item
from seekfs_io.demo.dataset import KIB, MIB, Dataset

RANGES_COUNT: Final = 200
BATCHES_COUNT: Final = 16
BATCH_ITEMS_COUNT: Final = 128
PIECE_SIZE_BYTES: Final = 4 * MIB
PAGE_SIZE_BYTES: Final = 8 * MIB
"""The default, which the demo publishes with."""

WHOLE_PREFIXES: Final = ("weights/", "train/rest")
BATCHED_PREFIXES: Final = ("pylib/", "notes/")
"""What is not read whole or in batches is read as ranges."""

MISSING_PATH: Final = "there/is/no such file"


class BytesDiffer(SeekfsError):
    """What was read is not what was published. The detail says where."""

    slug, title = "bytes-differ", "What was read is not what was published"


@frozen
class Reads:
    """What one pass reads, in order."""

    ranges: tuple[Item, ...]
    batches: tuple[tuple[Item, ...], ...]
    wholes: tuple[str, ...]


@define
class Tally:
    """How many reads, how many bytes they gave, and how long the daemon was waited for."""

    reads: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        self.reads += other.reads
        self.bytes += other.bytes
        self.seconds += other.seconds


def choose_reads(dataset: Dataset) -> Reads:
    """The same on every run: random places, over page borders, nothing at all, the last byte."""
    dice = random.Random(f"reads of version {dataset.version}")
    sizes = {path: file.stat().st_size for path, file in sorted(dataset.files.items())}
    wholes = tuple(path for path in sizes if path.startswith(WHOLE_PREFIXES))
    batched = [path for path in sizes if path.startswith(BATCHED_PREFIXES)]
    ranged = [path for path in sizes if path not in wholes and path not in batched]

    def somewhere(paths: Sequence[str], longest: int) -> Item:
        path = dice.choice(paths)
        off = dice.randint(0, sizes[path])
        return path, off, min(dice.randint(0, longest), sizes[path] - off)

    borders = [
        (path, border - 1_000, 2_000)
        for path in ranged
        for border in range(PAGE_SIZE_BYTES, sizes[path] - 1_000, PAGE_SIZE_BYTES)
    ]
    tails = [(path, sizes[path] - 1, 1) for path in ranged if sizes[path]]
    ranges = [*borders, *tails, *(somewhere(ranged, MIB) for _ in range(RANGES_COUNT))]
    dice.shuffle(ranges)
    batches = [
        tuple(somewhere(batched, 100 * KIB) for _ in range(BATCH_ITEMS_COUNT))
        for _ in range(BATCHES_COUNT if batched else 0)
    ]
    return Reads(tuple(ranges), tuple(batches), wholes)


def read_ranges(client: Client, ns: str, dataset: Dataset, reads: Reads) -> Tally:
    """Each range by its own request."""
    tally = Tally()
    for path, off, length in reads.ranges:
        began = time.perf_counter()
        data = client.blob(ns, path, off, length, version=dataset.version)
        tally.seconds += time.perf_counter() - began
        _compare(dataset, path, off, data, length)
        tally.reads += 1
        tally.bytes += length
    return tally


def read_batches(client: Client, ns: str, dataset: Dataset, reads: Reads) -> Tally:
    """Batches, every other one framed, with an item in its middle that cannot be read."""
    tally = Tally()
    for number, items in enumerate(reads.batches):
        began = time.perf_counter()
        if number % 2 == 0:
            found = client.readv(ns, items, version=dataset.version)
        else:
            found = _framed_around_a_gap(client, ns, dataset, items)
        tally.seconds += time.perf_counter() - began
        for (path, off, length), data in zip(items, found, strict=True):
            _compare(dataset, path, off, data, length)
            tally.bytes += length
        tally.reads += len(items)
    return tally


def _framed_around_a_gap(client: Client, ns: str, dataset: Dataset, items: Sequence[Item]) -> list[bytes]:
    middle = len(items) // 2
    asked = [*items[:middle], (MISSING_PATH, 0, 1), *items[middle:]]
    found: list[bytes] = []
    for index, answer in client.readv_frames(ns, asked, version=dataset.version):
        if index == middle:
            if not isinstance(answer, DaemonError) or answer.status != 404:
                raise BytesDiffer(f"a batch answered {answer!r} for {MISSING_PATH!r}, which nobody published")
        elif isinstance(answer, DaemonError):
            raise answer
        else:
            found.append(answer)
    return found


def read_wholes(client: Client, ns: str, dataset: Dataset, reads: Reads) -> Tally:
    """Files from their first byte to their last, as streams."""
    return read_files(client, ns, dataset, reads.wholes)


def read_files(client: Client, ns: str, dataset: Dataset, paths: Iterable[str]) -> Tally:
    """These files, whole."""
    tally = Tally()
    for path in paths:
        with dataset.files[path].open("rb") as local:
            began = time.perf_counter()
            with client.open_blob(ns, path, version=dataset.version) as body:
                tally.seconds += time.perf_counter() - began
                off = 0
                while True:
                    began = time.perf_counter()
                    piece = body.read(PIECE_SIZE_BYTES)
                    tally.seconds += time.perf_counter() - began
                    _check(dataset, path, off, piece, local.read(len(piece) or 1))
                    if not piece:
                        break
                    off += len(piece)
        tally.reads += 1
        tally.bytes += off
    return tally


def _compare(dataset: Dataset, path: str, off: int, data: bytes, length: int) -> None:
    _check(dataset, path, off, data, _local(dataset.files[path], off, length))


def _local(file: Path, off: int, length: int) -> bytes:
    with file.open("rb") as local:
        local.seek(off)
        return local.read(length)


def _check(dataset: Dataset, path: str, off: int, data: bytes, expected: bytes) -> None:
    if data == expected:
        return
    where = f"{path!r} of version {dataset.version}"
    if len(data) != len(expected):
        raise BytesDiffer(f"{where}: {len(data)} bytes came from offset {off}, not {len(expected)}")
    first = next(index for index, (one, other) in enumerate(zip(data, expected, strict=True)) if one != other)
    raise BytesDiffer(
        f"{where}: the byte at offset {off + first} is {data[first]:#04x}, not {expected[first]:#04x}"
    )
