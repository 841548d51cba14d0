"""The disk L2 on a real directory: restart, kill, rot, full disks, ceilings and threads."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve
from crc32c import crc32c

from seekfs_core.pages import PageKey
from seekfs_core.retention import Refusal
from seekfs_core.segment_layout import RECORD_HEADER_LENGTH, record_length, shares_of
from seekfs_core.segment_messages import CopyPage, LogEvent, PageWritten, WriteFailed
from seekfs_core.tier import READ_FAULTS_MAX, Operation
from seekfs_io.pages.base import PageStore
from seekfs_io.pages.directory import CacheRefused
from seekfs_io.pages.segment_file import SegmentFile, write_fully
from seekfs_io.pages.segment_records import Place, Records
from seekfs_io.pages.segmentstore import SegmentStore, open_segment_store
from tests.support.disk import used_bytes
from tests.support.sampling import Sampler

KIB, MIB = 1 << 10, 1 << 20
PAGE = 64 * KIB
CEILING = 32 * MIB
PAGES_THAT_FIT = 250
"""Pages of 64 KiB that surely have room under ``CEILING``."""


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


def data(n: int, length: int = PAGE) -> bytes:
    return random.Random(n).randbytes(1024) * (length // 1024) + b"~" * (length % 1024)


def put(store: PageStore, n: int, length: int = PAGE) -> bool:
    page = data(n, length)
    return store.store(key(n), memoryview(page), crc32c(page))


def get(store: PageStore, n: int, length: int = PAGE) -> bytes | None:
    """As a reader does it: all of an unverified page first, and checked. None on a miss or fault."""
    page = data(n, length)
    lease = store.lease(key(n), length, crc32c(page))
    if lease is None:
        return None
    try:
        buffer = bytearray(length)
        if not lease.readinto(memoryview(buffer), 0):
            return None
        if not lease.verified:
            if crc32c(buffer) != lease.crc32c:
                lease.condemn()
                return None
            lease.mark_verified()
        return bytes(buffer)
    finally:
        lease.release()


@contextmanager
def opened(path: Path, ceiling: int = CEILING) -> Iterator[SegmentStore]:
    store = open_segment_store(path, ceiling)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "l2"


def segments_of(path: Path) -> list[Path]:
    return sorted((path / "segments").iterdir())


def segment_of(path: Path, n: int) -> tuple[Path, int]:
    """The file that page ``n`` is in, and where its record starts."""
    for segment in segments_of(path):
        at = segment.read_bytes().find(data(n)[:1024])
        if at >= 0:
            return segment, at - RECORD_HEADER_LENGTH
    raise AssertionError(f"page {n} is in no segment")


def test_a_page_is_read_back_whole_and_in_parts(path: Path) -> None:
    with opened(path) as store:
        assert key(1) not in store
        assert store.lease(key(1), PAGE, 0) is None
        assert put(store, 1)
        assert key(1) in store
        lease = store.lease(key(1), PAGE, crc32c(data(1)))
        assert lease is not None
        assert not lease.verified
        part = bytearray(1000)
        assert lease.readinto(memoryview(part), 5000)
        assert bytes(part) == data(1)[5000:6000]
        with pytest.raises(ValueError, match="of a page of"):
            lease.readinto(memoryview(part), PAGE - 999)
        lease.mark_verified()
        lease.release()
        again = store.lease(key(1), PAGE, crc32c(data(1)))
        assert again is not None
        assert again.verified
        again.release()
        assert put(store, 1)
        statistics = store.statistics()
        assert (statistics.pages_held, statistics.bytes_held, statistics.pages_written) == (1, PAGE, 1)
        assert (statistics.faults, statistics.crc_failures, statistics.off_because) == (0, 0, None)


@pytest.mark.parametrize("length", [1, 4000, 4001, 70_001, MIB + 1])
def test_pages_of_any_length_come_back(path: Path, length: int) -> None:
    with opened(path) as store:
        for n in range(3):
            assert put(store, n, length)
        assert [get(store, n, length) for n in range(3)] == [data(n, length) for n in range(3)]


def test_a_restart_keeps_everything(path: Path) -> None:
    with opened(path) as store:
        for n in range(PAGES_THAT_FIT):
            assert put(store, n)
    with opened(path) as store:
        assert store.statistics().pages_held == PAGES_THAT_FIT
        assert all(get(store, n) == data(n) for n in range(PAGES_THAT_FIT))
        assert store.statistics().faults == 0
    assert store.lease(key(1), PAGE, crc32c(data(1))) is None
    assert not put(store, 1)
    store.close()


def test_an_index_of_another_boot_is_made_anew_from_the_records(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as store:
        for n in range(20):
            put(store, n)
    (path / "seekfs.boot").write_bytes(b"another boot")
    with opened(path) as store:
        assert "another boot" in caplog.text
        assert [get(store, n) for n in range(20)] == [data(n) for n in range(20)]
        assert put(store, 20)
    caplog.clear()
    with opened(path) as store:
        assert not caplog.text
        assert [get(store, n) for n in range(21)] == [data(n) for n in range(21)]


@pytest.mark.parametrize("damage", ["gone", "cut", "garbage", "larger than its share"])
def test_an_unusable_index_is_made_anew_from_the_records(path: Path, damage: str) -> None:
    with opened(path) as store:
        for n in range(20):
            put(store, n)
    index = path / "index" / "data.mdb"
    match damage:
        case "gone":
            index.unlink()
            (path / "seekfs.boot").unlink()
        case "cut":
            os.truncate(index, 2 * 4096)
        case "garbage":
            index.write_bytes(os.urandom(index.stat().st_size))
        case _:
            os.truncate(index, 2 * MIB)
    with opened(path) as store:
        assert [get(store, n) for n in range(20)] == [data(n) for n in range(20)]


def test_rebuilding_stops_at_bytes_that_only_look_like_a_record(path: Path) -> None:
    """A page may hold anything, whole segments of another directory included."""
    with opened(path) as store:
        put(store, 1)
    segment, offset = segment_of(path, 1)
    record = segment.read_bytes()[offset : offset + record_length(PAGE)]
    with opened(path.with_name("other")) as store:
        page = record.ljust(record_length(PAGE), b"\0")
        assert store.store(key(2), memoryview(page), crc32c(page))
    other = path.with_name("other")
    (other / "seekfs.boot").unlink()
    stored = segments_of(other)[0]
    stored.write_bytes(stored.read_bytes()[RECORD_HEADER_LENGTH:].ljust(stored.stat().st_size, b"\0"))
    with opened(other) as store:
        assert store.statistics().pages_held == 0
        assert key(1) not in store


# Rot


@pytest.mark.parametrize("damage", ["flip", "zero", "cut", "gone", "another page"])
def test_a_page_damaged_while_stopped_is_a_counted_miss_and_can_come_again(path: Path, damage: str) -> None:
    with opened(path) as store:
        for n in range(3):
            put(store, n)
    segment, offset = segment_of(path, 1)
    stored = bytearray(segment.read_bytes())
    record = record_length(PAGE)
    match damage:
        case "flip":
            stored[offset + 30_000] ^= 1
        case "zero":
            stored[offset : offset + record] = bytes(record)
        case "cut":
            del stored[offset + 100 :]
        case "another page":
            other, other_offset = segment_of(path, 0)
            stored[offset : offset + record] = other.read_bytes()[other_offset : other_offset + record]
    if damage == "gone":
        segment.unlink()
    else:
        segment.write_bytes(stored)
    lost = [n for n in range(3) if segment_of_or_none(path, n) is None] or [1]
    with opened(path) as store:
        assert get(store, 1) is None
        statistics = store.statistics()
        assert statistics.faults + statistics.crc_failures == (len(lost) if damage in ("gone", "cut") else 1)
        assert key(1) not in store
        for n in range(3):
            assert put(store, n)
            assert get(store, n) == data(n)
    with opened(path) as store:
        assert [get(store, n) for n in range(3)] == [data(n) for n in range(3)]
        assert store.statistics().faults == 0


def segment_of_or_none(path: Path, n: int) -> Path | None:
    for segment in segments_of(path):
        if data(n) in segment.read_bytes():
            return segment
    return None


@pytest.mark.parametrize("field", range(0, RECORD_HEADER_LENGTH, 4))
def test_a_damaged_header_is_found_by_whoever_reads_first(path: Path, field: int) -> None:
    with opened(path) as store:
        put(store, 1)
        segment, offset = segment_of(path, 1)
        with segment.open("r+b") as file:
            file.seek(offset + field)
            file.write(b"\xa5\x5a\xa5\x5a")
        lease = store.lease(key(1), PAGE, crc32c(data(1)))
        assert lease is not None
        assert not lease.readinto(memoryview(bytearray(100)), 700)
        lease.release()
        assert key(1) not in store
        assert store.statistics().faults == 1


def test_an_entry_that_disagrees_with_the_manifest_is_a_fault(path: Path) -> None:
    with opened(path) as store:
        put(store, 1)
        assert store.lease(key(1), PAGE, 1) is None
        assert key(1) not in store
        put(store, 1)
        assert store.lease(key(1), PAGE + 1, crc32c(data(1))) is None
        put(store, 1)
        other = b"other bytes under the same key"
        assert store.store(key(1), memoryview(other), crc32c(other))
        assert store.statistics().faults == 3


def test_a_condemned_page_stays_gone_after_a_restart(path: Path) -> None:
    with opened(path) as store:
        put(store, 1)
        put(store, 2)
        lease = store.lease(key(1), PAGE, crc32c(data(1)))
        assert lease is not None
        lease.condemn()
        lease.release()
        assert store.statistics().crc_failures == 1
    with opened(path) as store:
        assert key(1) not in store
        assert get(store, 2) == data(2)


# The ceiling


def sampled(path: Path) -> Sampler:
    """How much disk a directory takes, looked at all the time."""
    return Sampler(lambda: used_bytes(path, [os.getpid()]), interval_seconds=0.002)


def churn(store: PageStore, pages: range, length: int, seed: int, steps: int) -> None:
    """Read and store so that new pages keep displacing old ones."""
    chance = random.Random(seed)
    at = 0
    for _ in range(steps):
        at += chance.choice((0, 0, 0, 1))
        n = pages[(at + chance.randrange(8)) % len(pages)]
        found = get(store, n, length)
        assert found in (None, data(n, length))
        if found is None:
            put(store, n, length)


@pytest.mark.parametrize(
    ("ceiling", "length", "steps"),
    [(16 * MIB, 16 * KIB, 4000), (16 * MIB, PAGE, 2000), (16 * MIB, 700 * KIB, 400), (64 * MIB, 8 * MIB, 80)],
)
def test_disk_use_stays_under_the_ceiling_at_every_sample(
    path: Path, ceiling: int, length: int, steps: int
) -> None:
    fit = ceiling // length
    with opened(path, ceiling) as store, sampled(path) as sampling:
        for n in range(2 * fit):
            put(store, n, length)
        churn(store, range(2 * fit, 6 * fit), length, 1, steps)
        statistics = store.statistics()
        assert statistics.pages_evicted > 0
        assert statistics.bytes_held > ceiling * 0.6
    assert len(sampling.samples) > 3
    assert ceiling * 0.7 < sampling.peak <= ceiling


def test_a_lower_ceiling_is_met_before_anything_is_served(path: Path) -> None:
    with opened(path, 64 * MIB) as store:
        for n in range(500):
            put(store, n)
    with opened(path, 16 * MIB) as store:
        assert used_bytes(path, [os.getpid()]) <= 16 * MIB
        held = [n for n in range(500) if key(n) in store]
        assert len(held) > 150
        assert all(get(store, n) == data(n) for n in held)


def test_a_page_too_long_for_the_ceiling_is_refused(path: Path) -> None:
    with opened(path, 4 * MIB) as store:
        assert not put(store, 1, 4 * MIB)
        assert put(store, 2)
        assert store.statistics().refusals == {Refusal.TOO_LARGE: 1}


def test_the_index_has_room_for_as_many_of_the_smallest_pages_as_the_ceiling_allows(path: Path) -> None:
    ceiling = 8 * MIB
    with opened(path, ceiling) as store, sampled(path) as sampling:
        entries = shares_of(ceiling).entries_max
        for n in range(entries + 50):
            put(store, n, 10)
        churn(store, range(entries, 3 * entries), 10, 2, 4000)
        statistics = store.statistics()
        assert statistics.off_because is None
        assert statistics.faults == 0
        assert entries * 0.8 < statistics.pages_held <= entries
    assert sampling.peak <= ceiling


def test_a_page_that_is_being_read_outlives_its_segment(path: Path) -> None:
    with opened(path, 16 * MIB) as store:
        put(store, 0)
        lease = store.lease(key(0), PAGE, crc32c(data(0)))
        assert lease is not None
        churn(store, range(1, 900), PAGE, 3, 3000)
        assert store.statistics().pages_evicted > 0
        buffer = bytearray(PAGE)
        assert lease.readinto(memoryview(buffer), 0)
        assert bytes(buffer) == data(0)
        lease.release()
        assert used_bytes(path, [os.getpid()]) <= 16 * MIB


def test_a_segment_is_given_up_when_a_reader_who_slipped_in_has_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path, 16 * MIB) as store:
        for n in range(300):
            put(store, n)
        held = [n for n in range(300) if key(n) in store]
        leases = {n: store.lease(key(n), PAGE, crc32c(data(n))) for n in held}
        monkeypatch.setattr(SegmentStore, "_leased", lambda _: frozenset())  # They came just after this.
        for n in range(1000, 1010):
            put(store, n)
            put(store, n)
        monkeypatch.undo()
        gone = [n for n in held if key(n) not in store]
        assert gone
        full = used_bytes(path, [os.getpid()])
        assert full <= 16 * MIB
        segments = set(segments_of(path))
        for n, lease in leases.items():
            assert lease is not None
            buffer = bytearray(PAGE)
            assert lease.readinto(memoryview(buffer), 0)
            assert bytes(buffer) == data(n)
            lease.release()
        assert set(segments_of(path)) == segments
        put(store, 0)  # Whoever stores next does what readers have left to be done.
        assert segments - set(segments_of(path))
        assert store.statistics().pages_evicted == len(gone)


def test_hot_pages_survive_a_scan_of_pages_that_are_worth_a_place(path: Path) -> None:
    with opened(path, 16 * MIB) as store:
        hot = range(100)
        for _ in range(3):
            for n in hot:
                get(store, n) or put(store, n)
        for n in range(1000, 1600):
            put(store, n)
            put(store, n)
            get(store, hot[n % 100])
            get(store, hot[(n + 50) % 100])
        assert store.statistics().pages_evicted > 100
        assert sum(key(n) in store for n in hot) > 90


# Kill


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from tests.io.test_segmentstore import get, key, data, put
from seekfs_io.pages.segmentstore import open_segment_store

store = open_segment_store(Path(sys.argv[1]), int(sys.argv[2]))
start = int(sys.stdin.readline())
for n in range(start, start + 100_000):
    for _ in range(2):  # Asked for twice in a row, a page is worth another one's place.
        kept = put(store, n)
    if kept:
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
"""


def write_until_killed(path: Path, ceiling: int, start: int, count: int) -> list[int]:
    """Pages that a process said it had stored before it was killed in the middle of the next."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(ceiling), str(Path(__file__).parents[2])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(f"{start}\n")
        writer.stdin.flush()
        stored = [int(writer.stdout.readline()) for _ in range(count)]
        writer.send_signal(signal.SIGKILL)
        stored += map(int, writer.stdout.read().split())
        return stored
    finally:
        writer.kill()
        writer.communicate()


def test_what_was_stored_before_a_kill_is_there_after_it(path: Path) -> None:
    stored: list[int] = []
    for _ in range(3):
        stored += write_until_killed(path, 1 << 30, len(stored) and stored[-1] + 10, 25)
    with opened(path, 1 << 30) as store:
        assert [n for n in stored if get(store, n) != data(n)] == []
        statistics = store.statistics()
        assert (statistics.faults, statistics.crc_failures) == (0, 0)
    # Each process went on in the segment that the last one had begun.
    assert len(segments_of(path)) == 1


def test_kills_while_segments_are_given_up_lose_no_space_and_serve_no_wrong_byte(path: Path) -> None:
    ceiling = 8 * MIB
    for round_ in range(4):
        stored = write_until_killed(path, ceiling, 1000 * round_, 150)
        with opened(path, ceiling) as store:
            held = [n for n in range(1000 * (round_ + 1)) if key(n) in store]
            assert all(get(store, n) == data(n) for n in held)
            assert len(set(stored[-20:]) & set(held)) >= 20
            statistics = store.statistics()
            assert (statistics.faults, statistics.crc_failures) == (0, 0)
            assert used_bytes(path, [os.getpid()]) <= ceiling
            on_disk = sum(segment.stat().st_size for segment in segments_of(path))
            assert statistics.bytes_held > 0.5 * on_disk


# Disks that refuse


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Until the end, the kernel refuses to make any file longer than this: a full disk, nearly."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_disk_that_takes_nothing_turns_writing_off_until_a_probe_works(path: Path) -> None:
    clock = Clock()
    store = open_segment_store(path, CEILING, clock=clock)
    put(store, 0)
    segments = len(segments_of(path))
    with file_size_limit(8192):
        for n in range(1, 40):
            put(store, n)
        off = store.statistics().off_because
        assert off is not None
        assert "File too large" in off
        faults = store.statistics().faults
        for n in range(1, 40):
            assert not put(store, n)
        assert store.statistics().faults == faults
        assert get(store, 0) == data(0)
        clock.now += 1
        assert not put(store, 1)
        assert store.statistics().faults == faults + 1
    assert not put(store, 1)
    assert store.statistics().refusals == {Refusal.FAILED: 2, Refusal.OFF: 78}
    clock.now += 2
    assert put(store, 1)
    assert store.statistics().off_because is None
    for n in range(40):
        assert put(store, n)
    assert all(get(store, n) == data(n) for n in range(40))
    store.close()
    assert len(segments_of(path)) >= segments
    with opened(path) as store:
        assert all(get(store, n) == data(n) for n in range(40))


def test_a_disk_that_reads_nothing_turns_reading_off_until_a_probe_works(path: Path) -> None:
    clock = Clock()
    store = open_segment_store(path, CEILING, clock=clock)
    for n in range(30):
        put(store, n)
    store.close()
    store = open_segment_store(path, CEILING, clock=clock)
    broken = segments_of(path)
    for segment in broken:
        segment.rename(segment.with_suffix(".away"))
        segment.mkdir()
    for n in range(READ_FAULTS_MAX):
        assert key(n) in store
        assert get(store, n) is None
    off = store.statistics().off_because
    assert off is not None
    assert "reading" in off
    assert key(20) not in store
    assert store.lease(key(20), PAGE, crc32c(data(20))) is None
    clock.now += 1
    assert key(20) in store
    assert get(store, 20) is None  # The probe; it fails.
    clock.now += 1
    assert key(21) not in store
    for segment in broken:
        segment.rmdir()
        segment.with_suffix(".away").rename(segment)
    clock.now += 1
    probe = store.lease(key(21), PAGE, crc32c(data(21)))
    assert probe is not None
    assert store.lease(key(22), PAGE, crc32c(data(22))) is None
    probe.release()  # Not put to use: the next one is the probe.
    assert get(store, 22) == data(22)
    assert store.statistics().off_because is None
    assert store.statistics().faults == READ_FAULTS_MAX + 1
    assert get(store, 21) == data(21)
    store.close()


def reading_turned_off(path: Path, clock: Clock) -> SegmentStore:
    """A store of 30 pages whose reading is off, with a probe due one second later; its files are whole."""
    store = open_segment_store(path, CEILING, clock=clock)
    for n in range(30):
        put(store, n)
    store.close()
    store = open_segment_store(path, CEILING, clock=clock)
    segments = segments_of(path)
    for segment in segments:
        segment.rename(segment.with_suffix(".away"))
        segment.mkdir()
    for n in range(READ_FAULTS_MAX):
        assert get(store, n) is None
    for segment in segments:
        segment.rmdir()
        segment.with_suffix(".away").rename(segment)
    assert store.statistics().off_because is not None
    return store


def test_a_probe_that_meets_a_deleted_file_is_made_again_by_the_next_reader(path: Path) -> None:
    clock = Clock()
    store = reading_turned_off(path, clock)
    segments = segments_of(path)
    clock.now += 1
    for segment in segments:
        segment.rename(segment.with_suffix(".away"))
    assert get(store, 20) is None
    for segment in segments:
        segment.with_suffix(".away").rename(segment)
    assert key(21) in store
    assert get(store, 21) == data(21)
    assert store.statistics().off_because is None
    store.close()


def test_a_deleted_file_turns_neither_reading_nor_writing_off(path: Path) -> None:
    with opened(path) as store:
        for n in range(2 * READ_FAULTS_MAX):
            put(store, n)
    with opened(path) as store:
        for segment in segments_of(path):
            segment.unlink()
        assert not put(store, 100)  # Into a segment that was begun by the last one and is not there.
        assert store.statistics().off_because is None
        assert put(store, 100)
        assert not any(get(store, n) for n in range(2 * READ_FAULTS_MAX))
        assert store.statistics().off_because is None
        assert get(store, 100) == data(100)


def test_nothing_is_read_to_be_carried_over_while_reading_is_off(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[CopyPage] = []
    copy_page = SegmentStore._copy_page

    def noted(store: SegmentStore, action: CopyPage) -> LogEvent:
        asked.append(action)
        return copy_page(store, action)

    def read(*_: object) -> bool:
        raise OSError(errno.EIO, "read all the same")

    monkeypatch.setattr(SegmentStore, "_copy_page", noted)
    clock = Clock()
    store = open_segment_store(path, 16 * MIB, clock=clock)
    for n in range(250):
        put(store, n)
    for n in range(250):
        assert get(store, n) == data(n) or key(n) not in store
    for _ in range(READ_FAULTS_MAX):
        store._health.failed(Operation.READ, OSError(errno.EIO, "no"))
    monkeypatch.setattr(Records, "read", read)
    for n in range(1000, 1010):
        put(store, n)
        put(store, n)
    assert asked
    assert store.statistics().pages_evicted > 0
    assert store.statistics().faults == 0
    store.close()


def test_every_page_on_offer_is_written_or_refused_and_what_is_carried_over_is_neither(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[PageKey] = []
    copy = SegmentStore._copy

    def noted(store: SegmentStore, key: PageKey, old: Place, page: Place) -> bool:
        copied.append(key)
        return copy(store, key, old, page)

    monkeypatch.setattr(SegmentStore, "_copy", noted)
    kept = refused = 0
    with opened(path, 16 * MIB) as store:
        for n in [*range(250), *(n for n in range(1000, 1010) for _ in range(2))]:
            if n == 1000:
                for hit in range(250):
                    get(store, hit)
            is_news = key(n) not in store
            is_kept = put(store, n)
            kept, refused = kept + (is_kept and is_news), refused + (not is_kept)
        statistics = store.statistics()
    assert copied
    assert statistics.pages_written == kept
    assert sum(statistics.refusals.values()) == refused > 0


def test_a_page_is_copied_from_where_the_log_has_it_and_from_nowhere_else(path: Path) -> None:
    with opened(path) as store:
        put(store, 0)
        put(store, 1)
        place = store._pages[key(1)]
        number, record = place.file.number, record_length(PAGE)
        copy = CopyPage(key(1), number, place.offset, number, 10 * record, PAGE)
        for wrong in (evolve(copy, source_offset=0), evolve(copy, nbytes=PAGE - 1)):
            with pytest.raises(AssertionError):
                store._copy_page(wrong)
        assert store._copy_page(evolve(copy, source=number + 1)) == WriteFailed(key(1), number)
        assert store._copy_page(copy) == PageWritten(key(1), number)


def test_a_page_that_rots_is_found_when_it_is_carried_over(path: Path) -> None:
    with opened(path) as store:
        put(store, 0)
    segment, at = segment_of(path, 0)
    with segment.open("r+b") as file:
        file.seek(at + RECORD_HEADER_LENGTH + PAGE - 1)
        file.write(b"!")
    with opened(path) as store:
        place = store._pages[key(0)]
        number = place.file.number
        copy = CopyPage(key(0), number, place.offset, number, 10 * record_length(PAGE), PAGE)
        assert store._copy_page(copy) == WriteFailed(key(0), number)
        assert key(0) not in store
        assert (store.statistics().crc_failures, store.statistics().faults) == (1, 0)


def test_a_segment_that_cannot_be_deleted_stays_claimed_and_is_tried_again(path: Path) -> None:
    with opened(path, 8 * MIB) as store:
        for n in range(200):
            put(store, n)
        stuck = segments_of(path)[0]
        for segment in segments_of(path):
            segment.rename(segment.with_suffix(".away"))
            segment.mkdir()
        put(store, 500)
        put(store, 500)
        off = store.statistics().off_because
        assert off is not None
        assert "deleting" in off
        for directory in list(path.glob("segments/*.seg")):
            directory.rmdir()
            directory.with_suffix(".away").rename(directory)
        assert stuck.exists()
        assert used_bytes(path, [os.getpid()]) <= 8 * MIB


# Threads


def test_readers_and_writers_at_once_see_right_bytes_only(path: Path) -> None:
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            churn(store, range(400), PAGE, seed, 600)
        except BaseException as error:
            errors.append(error)

    with opened(path, 12 * MIB) as store, sampled(path) as sampling:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        statistics = store.statistics()
        assert statistics.pages_evicted > 0
        assert (statistics.faults, statistics.crc_failures, statistics.off_because) == (0, 0, None)
    assert sampling.peak <= 12 * MIB
    with opened(path, 12 * MIB) as store:
        held = [n for n in range(400) if key(n) in store]
        assert len(held) == statistics.pages_held
        assert all(get(store, n) == data(n) for n in held)


@pytest.mark.parametrize("works", [True, False])
def test_a_writer_waits_for_the_segment_that_another_one_is_making(
    path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    begun, proceed = threading.Event(), threading.Event()
    make = SegmentFile.make

    def make_late(file: SegmentFile, moves: Callable[[], None]) -> None:
        begun.set()
        assert proceed.wait(30)
        if not works:
            file.path.mkdir()  # So that making it fails.
        make(file, moves)

    monkeypatch.setattr(SegmentFile, "make", make_late)
    kept: dict[int, bool] = {}
    # A segment has room for four pages.
    with opened(path, 80 * 4 * record_length(PAGE)) as store:
        threads = [threading.Thread(target=lambda n=n: kept.update({n: put(store, n)})) for n in range(3)]
        threads[0].start()
        assert begun.wait(30)
        for thread in threads[1:]:
            thread.start()
        assert not any(key(n) in store for n in range(3))
        proceed.set()
        for thread in threads:
            thread.join()
        assert kept.get(0) is works
        assert all(get(store, n) == data(n) for n in range(3) if kept[n])
        if works:
            assert kept == dict.fromkeys(range(3), True)
        else:
            for directory in path.glob("segments/*.seg"):
                directory.rmdir()


def test_closing_waits_for_a_writer_that_is_under_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, proceed = threading.Event(), threading.Event()
    make = SegmentFile.make

    def make_late(file: SegmentFile, moves: Callable[[], None]) -> None:
        begun.set()
        assert proceed.wait(30)
        make(file, moves)

    monkeypatch.setattr(SegmentFile, "make", make_late)
    store = open_segment_store(path, CEILING)
    kept: list[bool] = []
    writer = threading.Thread(target=lambda: kept.append(put(store, 1)))
    writer.start()
    assert begun.wait(30)
    closer = threading.Thread(target=store.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    proceed.set()
    writer.join()
    closer.join()
    with opened(path) as store:
        assert get(store, 1) == data(1)


def test_closing_waits_no_longer_than_it_may_and_the_last_writer_lets_go_of_the_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, proceed = threading.Event(), threading.Event()
    make = SegmentFile.make

    def make_late(file: SegmentFile, moves: Callable[[], None]) -> None:
        begun.set()
        assert proceed.wait(30)
        make(file, moves)

    monkeypatch.setattr(SegmentFile, "make", make_late)
    store = open_segment_store(path, CEILING)
    writer = threading.Thread(target=lambda: put(store, 1))
    writer.start()
    assert begun.wait(30)
    store.close(0.01)
    assert "1 pages are still being written" in caplog.text
    assert not put(store, 2)
    with pytest.raises(CacheRefused, match="in use already"):
        open_segment_store(path, CEILING)
    proceed.set()
    writer.join()
    store.close()
    with opened(path) as store:
        assert get(store, 1) == data(1)


def test_closing_waits_for_writers_and_leaves_leases_readable(path: Path) -> None:
    store = open_segment_store(path, CEILING)
    put(store, 1)
    lease = store.lease(key(1), PAGE, crc32c(data(1)))
    assert lease is not None
    assert lease.readinto(memoryview(bytearray(10)), 0)
    threads = [
        threading.Thread(target=lambda seed=seed: [put(store, n) for n in range(seed, 300, 4)])
        for seed in range(2, 6)
    ]
    for thread in threads:
        thread.start()
    store.close()
    for thread in threads:
        thread.join()
    buffer = bytearray(PAGE)
    assert lease.readinto(memoryview(buffer), 0)
    assert bytes(buffer) == data(1)
    lease.release()
    with opened(path) as store:
        held = [n for n in range(400) if key(n) in store]
        assert all(get(store, n) == data(n) for n in held)


def test_a_clock_that_runs_ahead_makes_no_disk_hang(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who replays decisions hands in a clock of their own; a disk takes of this machine's time."""
    ticks = itertools.count(0, 1000)
    store = open_segment_store(path, CEILING, clock=lambda: float(next(ticks)))

    def write_slowly(fd: int, views: Sequence[memoryview], offset: int, moves: Callable[[], None]) -> None:
        threading.Event().wait(0.2)  # Longer than it takes to look at the clock.
        write_fully(fd, views, offset, moves)

    monkeypatch.setattr("seekfs_io.pages.segment_records.write_fully", write_slowly)
    assert all(put(store, n) for n in range(3))
    assert store.statistics().off_because is None
    store.close()
