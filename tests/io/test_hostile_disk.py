"""The disk cache on a disk that refuses, hangs, and loses files: each fault at each touch of the disk.

What has to hold, whatever happens: a page is served right or not at all; nothing is raised and nobody is
held; the tier says that it is off, and comes back when the disk does; and after that every page it serves
is right, and what the log believes about the directory is what is there, now and after a restart.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest
from attrs import frozen

from seekfs_core.segment_work import SegmentState
from seekfs_core.tier import Use
from seekfs_io.pages.segmentstore import SegmentStore, open_segment_store
from tests.io.planes import until
from tests.io.test_segmentstore import MIB, PAGE, data, get, key, put, segments_of
from tests.support.disk import used_bytes
from tests.support.hostile_disk import Fault, Hangs, HostileDisk, Refuses, Says, Touch, Truncates, Vanishes

CEILING = 8 * MIB
PAGES = 60
HANGS_AFTER_SECONDS = 0.1
SLOW_SECONDS = 60.0
"""What a disk may take in a test that is about something else: machines that are busy are slow, too."""


class Clock:
    """The machine's, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "l2"


@pytest.fixture
def disk(path: Path) -> Iterator[HostileDisk]:
    with HostileDisk(path) as disk:
        yield disk


def opened(
    path: Path, clock: Callable[[], float] = time.monotonic, answer_seconds: float = SLOW_SECONDS
) -> SegmentStore:
    return open_segment_store(path, CEILING, clock=clock, answer_seconds_max=answer_seconds)


def is_right(store: SegmentStore, n: int) -> bool:
    """Read a page; whether it was there. AssertionError for a wrong one."""
    found = get(store, n)
    assert found is None or found == data(n), f"page {n} is wrong"
    return found is not None


def check_is_sound(store: SegmentStore, path: Path, *, lost_files: bool = False) -> None:
    """Once nothing is under way: the log, the table, the index and the directory say the same. Of files that
    somebody deletes the log hears when they are read, or when the process starts."""
    store._catch_up()
    log = store._log
    assert not log._placements
    assert not log._waiting
    assert not store._placed
    for segment in log._segments.values():
        assert (segment.placements, segment.copies) == (0, 0)
        assert segment.state in (SegmentState.OPEN, SegmentState.SEALED)
    assert not any(file.leases for file in store._files.values())
    assert log.claimed_bytes == log.shares.reserved_bytes + sum(s.cost for s in log._segments.values())
    assert used_bytes(path, [os.getpid()]) <= log.claimed_bytes <= CEILING
    files = {int(file.stem, 16) for file in segments_of(path)}
    assert files | (set(log._segments) if lost_files else set()) == set(log._segments) == set(store._files)
    assert log._homes == {page: place.file.number for page, place in store._pages.items()}
    indexed = {page: (entry.segment, entry.offset) for page, entry in store._index}
    assert {page: (at.file.number, at.offset) for page, at in store._pages.items()}.items() <= indexed.items()


EVERY = (*range(PAGES), *range(1000, 1200), *range(10_000, 10_200), 20_000)
"""Pages that any of the tests may have stored."""


def check_is_back(store: SegmentStore, path: Path, clock: Clock, *, lost_files: bool = False) -> None:
    """The disk is well again: the tier comes back, and what it serves is right, also after a restart."""
    for n in range(10_000, 10_200):
        clock.ahead += 100  # A probe is due.
        put(store, n)
        is_right(store, next((n for n in EVERY if key(n) in store._pages), n))
        if store.statistics().off_because is None and n > 10_020:
            break
    assert store.statistics().off_because is None
    assert put(store, 20_000) or put(store, 20_000)
    assert is_right(store, 20_000)
    held = [n for n in EVERY if key(n) in store]
    assert all(is_right(store, n) for n in held)
    check_is_sound(store, path, lost_files=lost_files)
    store.close()
    store = opened(path)
    lost = [n for n in held if not is_right(store, n)]
    assert not lost or lost_files
    check_is_sound(store, path)
    store.close()


@frozen
class Case:
    """A fault, where it is met, and what turns off for it; None: nothing, as it says nothing of the disk."""

    touch: Touch
    fault: Fault
    off: Use | None

    def __str__(self) -> str:
        return f"{self.touch.value} {self.fault}".replace(" ", "-")


REFUSED: list[Fault] = [Refuses(errno.EIO), Refuses(errno.ENOSPC), Refuses(errno.EROFS)]
PART = PAGE + 4096
"""Of a segment, that a page takes."""

CASES = [
    # Writing: making a segment, its blocks, its records.
    *(Case(touch, fault, Use.WRITING) for touch in (Touch.MAKE, Touch.ALLOCATE) for fault in REFUSED),
    *(Case(Touch.WRITE, fault, Use.WRITING) for fault in REFUSED),
    *(
        Case(Touch.WRITE, Refuses(number, after_bytes=at), Use.WRITING)
        for number in (errno.ENOSPC, errno.EIO)
        for at in (1, 96, 97, PAGE // 2, PAGE + 95, PAGE + 96, PART - 1, PART, PART + 1, 2 * PART + 50_000)
    ),
    *(Case(touch, Hangs(), Use.WRITING) for touch in (Touch.MAKE, Touch.ALLOCATE, Touch.WRITE)),
    Case(Touch.WRITE, Vanishes(), None),
    Case(Touch.WRITE, Truncates(), None),
    Case(Touch.WRITE, Truncates(PAGE), None),
    # The index.
    *(
        Case(touch, fault, Use.WRITING)
        for touch in (Touch.INDEX_PUT, Touch.INDEX_COMMIT)
        for fault in (*REFUSED, Hangs(), Says(lmdb.MapFullError), Says(lmdb.PanicError))
    ),
    # Reading.
    *(
        Case(touch, fault, Use.READING)
        for touch in (Touch.OPEN, Touch.READ)
        for fault in (REFUSED[0], Hangs())
    ),
    Case(Touch.OPEN, Refuses(errno.EMFILE), None),
    Case(Touch.OPEN, Refuses(errno.EACCES), Use.READING),
    Case(Touch.OPEN, Vanishes(), None),
    Case(Touch.OPEN, Truncates(), None),
    Case(Touch.READ, Vanishes(), None),
    Case(Touch.READ, Truncates(), None),
    Case(Touch.READ, Truncates(3 * PART + 1000), None),
    # Reclaiming.
    *(Case(Touch.UNLINK, fault, Use.WRITING) for fault in (*REFUSED, Hangs())),
    Case(Touch.UNLINK, Vanishes(), None),
    *(
        Case(Touch.INDEX_DELETE, fault, Use.WRITING)
        for fault in (*REFUSED, Hangs(), Says(lmdb.MapFullError), Says(lmdb.PanicError))
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_fault_at_each_touch(case: Case, path: Path, disk: HostileDisk, clock: Clock) -> None:
    """First a cache that fills, then one that gives up pages for others; read all the while."""
    seconds = HANGS_AFTER_SECONDS if isinstance(case.fault, Hangs) else SLOW_SECONDS
    store = opened(path, clock, seconds)
    for n in range(PAGES):
        put(store, n)
    store.close()
    store = opened(path, clock, seconds)
    disk.cold = True
    assert all(is_right(store, n) for n in range(10))

    disk.does(case.touch, case.fault)
    reader = threading.Thread(target=lambda: [is_right(store, n % PAGES) for n in range(200)])
    writer = threading.Thread(target=lambda: [put(store, n // 2) for n in range(2000, 2400)])
    reader.start()
    writer.start()
    reader.join(60)
    assert not reader.is_alive(), "a reader is held up"
    if isinstance(case.fault, Hangs):
        until(lambda: disk.met > 0)
        until(lambda: store.statistics().off_because is not None or not disk.hanging)
    else:
        writer.join(60)
        assert not writer.is_alive(), "a writer is held up"
    assert disk.met > 0, "the fault was never met"
    off = store.statistics().off_because
    if case.off is None:
        assert off is None
    else:
        assert off is not None
        switches = {Use.READING: store._health.reading, Use.WRITING: store._health.writing}
        assert [use for use, switch in switches.items() if switch.off_because] == [case.off]
        if isinstance(case.fault, Hangs):
            assert "no answer for" in off
        assert store.statistics().faults > 0 or isinstance(case.fault, Hangs)

    disk.heals()
    writer.join(60)
    assert not writer.is_alive()
    until(lambda: not disk.hanging)
    check_is_back(store, path, clock, lost_files=case.fault == Vanishes())


def test_a_process_without_files_loses_no_page_and_blames_no_disk(path: Path, disk: HostileDisk) -> None:
    store = opened(path)
    put(store, 1)
    store.close()
    store = opened(path)
    disk.cold = True
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        disk.does(Touch.OPEN, Refuses(number))
        assert [is_right(store, 1) for _ in range(50)] == [False] * 50
        assert disk.met == 50
        assert (store.statistics().off_because, store.statistics().faults) == (None, 0)
        disk.heals()
    assert is_right(store, 1)
    store.close()
