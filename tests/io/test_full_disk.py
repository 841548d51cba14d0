"""The disk cache on a file system that is really full, and that is what the kernel and LMDB say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from seekfs_io.pages.segmentstore import SegmentStore, open_segment_store
from tests.io.test_segmentstore import MIB, data, get, key, put
from tests.support.cache_audit import audit
from tests.support.small_disk import SmallDisk, small_disk

CEILING = 64 * MIB
"""Much more than the file system has."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", 24 * MIB) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(str(error))


def opened(disk: SmallDisk) -> SegmentStore:
    ticks = itertools.count(0, 100)  # A probe is due at every look.
    return open_segment_store(disk.path / "l2", CEILING, clock=lambda: float(next(ticks)))


def fill_until_off(store: SegmentStore, numbers: Iterator[int]) -> str:
    for n in numbers:
        put(store, n)
        off = store.statistics().off_because
        if off is not None:
            return off
    raise AssertionError("there is room without end")


def check_is_back(store: SegmentStore, disk: SmallDisk, numbers: Iterator[int]) -> None:
    """It serves what it held, and what comes now, also after a restart; and the disk holds nothing else."""
    before = [n for n in range(100_000) if key(n) in store]
    news = list(itertools.islice(numbers, 40))
    assert all(put(store, n) for n in news)
    assert store.statistics().off_because is None
    assert all(get(store, n) == data(n) for n in (*before, *news))
    store.close()
    store = opened(disk)
    assert all(get(store, n) == data(n) for n in (*before, *news))
    assert store.statistics().faults == 0
    store.close()
    contents = audit(disk.path / "l2", is_closed=True)
    assert {int.from_bytes(page, "big") for page in contents.pages} == {*before, *news}
    assert contents.lost == frozenset()
    assert contents.reached_bytes == contents.disk_bytes


def test_no_room_for_another_segment(disk: SmallDisk) -> None:
    store, numbers = opened(disk), itertools.count()
    off = fill_until_off(store, numbers)
    assert off == "making a segment: No space left on device"
    held = [n for n in range(100_000) if key(n) in store]
    assert len(held) > 100
    assert all(get(store, n) == data(n) for n in held)
    # A probe that is made in vain changes nothing.
    assert fill_until_off(store, numbers) == off
    assert [n for n in range(100_000) if key(n) in store] == held
    disk.grow(96 * MIB)
    check_is_back(store, disk, numbers)


def test_no_room_for_the_index(disk: SmallDisk) -> None:
    """The segment is there with all its blocks; it is LMDB that needs another."""
    store, numbers = opened(disk), itertools.count()
    assert put(store, next(numbers))
    disk.fill()
    off = fill_until_off(store, numbers)
    assert off == "writing the index: mdb_txn_commit: No space left on device"
    held = [n for n in range(100_000) if key(n) in store]
    assert all(get(store, n) == data(n) for n in held)
    disk.drain()
    check_is_back(store, disk, numbers)
