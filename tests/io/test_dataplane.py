"""The data plane as an embedder uses it: real machines, real threads, a real store on a directory.

Faults are put in between the plane and its store. What they mean to HTTP clients is shown against
SeaweedFS in ``tests/e2e``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seekfs_core.errors import (
    CeilingExceeded,
    DeadlineExceeded,
    FailureKind,
    NoSuchNamespace,
    PageCorrupt,
    SeekfsError,
    StoreAnswered,
    StoreFailure,
    StoreTimeout,
    StoreUnavailable,
)
from seekfs_core.manifest import Manifest
from seekfs_core.plan import Item, plan_read
from seekfs_io import resolving
from seekfs_io.pages.ram import PageBuffer, RamPages
from seekfs_io.pages.segment_file import write_fully
from seekfs_io.pages.shelf import ManifestShelf
from tests.io.planes import KIB, MIB, PAGE, Planes, all_room_returns, read, read_version, until
from tests.io.troubled_store import TroubledStore
from tests.support.dataset import File, manifest_of, some_bytes, write_dataset, write_manifest

BUSY = StoreFailure(kind=FailureKind.BUSY, detail="the store is busy", status=503, code="SlowDown")


@pytest.fixture
def store(troubled: TroubledStore) -> TroubledStore:
    return troubled


def test_a_cold_read_costs_one_get_a_window_and_a_warm_one_none(store: TroubledStore, planes: Planes) -> None:
    data = some_bytes(10 * PAGE + 1)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes()
    for _ in range(2):
        assert read(plane, [("a", 0, len(data))]) == data
    window = 4 * PAGE
    assert store.gets_of("/files/") == [(0, window), (window, 2 * window), (2 * window, len(data))]
    assert plane.statistics().pages_from["l1"] >= 11


def test_only_pages_that_are_asked_for_are_fetched(store: TroubledStore, planes: Planes) -> None:
    data = some_bytes(8 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes()
    items = [("a", 3 * PAGE, 1), ("a", 0, 10), ("a", 5 * PAGE - 1, 2)]
    assert read(plane, items) == b"".join(data[off : off + length] for _, off, length in items)
    assert store.gets_of("/files/") == [(0, PAGE), (3 * PAGE, 4 * PAGE), (4 * PAGE, 6 * PAGE)]


def test_the_same_bytes_cut_another_way_are_other_pages(store: TroubledStore, planes: Planes) -> None:
    """Page 1 of one version is not page 1 of the other, in no tier and under no GET that is shared."""
    data = some_bytes(8 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    write_dataset(store.inner, "dev", {"a": File(data, 2 * PAGE)}, version=2)
    plane = planes(l1_mib=1)
    plans = [
        plan_read(plane.resolve("dev", version).manifest, [("a", 0, len(data))], clip=False)
        for version in (1, 2, 1, 2)
    ]
    for plan in plans:  # From the store, and then from RAM or disk.
        with plane.read(plan) as stream:
            assert b"".join(bytes(view) for view in stream) == data
    cold = planes()
    with ThreadPoolExecutor(8) as readers:
        for found in readers.map(
            lambda version: read_version(cold, version, [("a", PAGE, 3 * PAGE)]), [1, 2] * 8
        ):
            assert found == data[PAGE : 4 * PAGE]


def test_a_hash_that_lies_serves_nobody_other_bytes(store: TroubledStore, planes: Planes) -> None:
    """Two versions that claim one hash for different bytes: each gets its own, as its page table says."""
    old, new = some_bytes(3 * PAGE, 1), some_bytes(3 * PAGE, 2)
    write_dataset(store.inner, "dev", {"a": File(old, PAGE, "old")})
    liar = manifest_of("dev", 2, {"a": File(new, PAGE, "new")}, {})
    liar["files"][0]["hash"] = manifest_of("dev", 1, {"a": File(old, PAGE)}, {})["files"][0]["hash"]
    store.inner.put("new", new)
    write_manifest(store.inner, "dev", 2, liar)
    plane = planes()
    for version, expected in ((1, old), (2, new), (1, old), (2, new)):
        assert read_version(plane, version, [("a", 0, len(expected))]) == expected


def test_a_bug_of_ours_is_asked_once_and_is_not_the_stores(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(store.inner, "dev", {"a": File(some_bytes(PAGE), PAGE)})
    plane = planes()
    plane.resolve("dev")
    asked = []

    def broken(*_: object, **__: object) -> None:
        asked.append(1)
        raise TypeError("a bug")

    monkeypatch.setattr(TroubledStore, "get", broken)
    with pytest.raises(SeekfsError, match="internal error: TypeError") as raised:
        read(plane, [("a", 0, 1)])
    assert (raised.value.status, len(asked)) == (500, 1)


def test_many_readers_of_a_cold_page_share_one_get(store: TroubledStore, planes: Planes) -> None:
    data = some_bytes(PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes()
    plane.resolve("dev")
    store.gate = threading.Event()
    with ThreadPoolExecutor(32) as readers:
        reads = [readers.submit(read, plane, [("a", 0, PAGE)]) for _ in range(32)]
        until(lambda: bool(store.gets_of("/files/")))
        store.gate.set()
        assert all(each.result(30) == data for each in reads)
    assert len(store.gets_of("/files/")) == 1


def test_a_leader_that_leaves_does_not_fail_who_came_after_it(store: TroubledStore, planes: Planes) -> None:
    data = some_bytes(2 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    impatient = planes(deadline_seconds=0.2)
    impatient.resolve("dev")
    store.gate = threading.Event()
    with ThreadPoolExecutor(2) as readers:
        leader = readers.submit(read, impatient, [("a", 0, 1)])
        until(lambda: bool(store.gets_of("/files/")))
        assert isinstance(leader.exception(30), DeadlineExceeded)
        follower = readers.submit(read, impatient, [("a", 0, 1)])
        store.gate.set()
        assert follower.result(30) == data[:1]
    assert len(store.gets_of("/files/")) == 1


def test_pages_before_a_broken_body_are_kept_and_the_retry_asks_for_the_rest(
    store: TroubledStore, planes: Planes
) -> None:
    data = some_bytes(4 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    cut = StoreFailure(kind=FailureKind.CUT_SHORT, detail="the connection broke")
    troubles = [(PAGE * 2 + 5, cut)]
    store.trouble = lambda key, start, stop: troubles.pop() if troubles and "/files/" in key else None
    plane = planes()
    assert read(plane, [("a", 0, len(data))]) == data
    assert store.gets_of("/files/") == [(0, 4 * PAGE), (2 * PAGE, 4 * PAGE)]


@pytest.mark.parametrize(
    ("kind", "error", "requests"),
    [
        (FailureKind.UNREACHABLE, StoreUnavailable, 3),
        (FailureKind.BUSY, StoreUnavailable, 3),
        (FailureKind.TIMED_OUT, StoreTimeout, 3),
        (FailureKind.BAD_ANSWER, StoreAnswered, 3),
        (FailureKind.CUT_SHORT, StoreAnswered, 3),
        (FailureKind.DENIED, StoreAnswered, 1),
        (FailureKind.MISSING, StoreAnswered, 1),
        (FailureKind.REDIRECTED, StoreAnswered, 1),
    ],
)
def test_what_a_store_that_keeps_failing_means(
    kind: FailureKind, error: type[SeekfsError], requests: int, store: TroubledStore, planes: Planes
) -> None:
    write_dataset(store.inner, "dev", {"a": File(some_bytes(PAGE), PAGE)})
    failure = StoreFailure(kind=kind, detail="it failed")
    store.trouble = lambda key, start, stop: failure if "/files/" in key else None
    plane = planes()
    with pytest.raises(error, match=r"it failed.*namespaces/dev/files/a"):
        read(plane, [("a", 0, 10)])
    assert len(store.gets_of("/files/")) == requests


def test_a_page_that_is_wrong_twice_fails_its_items_and_no_other(
    store: TroubledStore, planes: Planes
) -> None:
    data = some_bytes(4 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes()
    plan = plan_read(
        plane.resolve("dev").manifest,
        [("a", 0, PAGE), ("a", PAGE - 1, 3), ("a", PAGE + 7, 5), ("a", 2 * PAGE, PAGE)],
        clip=True,
    )
    store.inner.put("namespaces/dev/files/a", data[:PAGE] + bytes(PAGE) + data[2 * PAGE :])
    with plane.read(plan) as stream:
        assert b"".join(map(bytes, stream.item(0))) == data[:PAGE]
        second = stream.item(1)
        assert bytes(next(second)) == data[PAGE - 1 : PAGE]
        with pytest.raises(PageCorrupt, match="page 1 of 'a'"):
            next(second)
        with pytest.raises(PageCorrupt):
            list(stream.item(2))
        assert b"".join(map(bytes, stream.item(3))) == data[2 * PAGE : 3 * PAGE]
    touching = [each for each in store.gets_of("/files/") if each[0] <= PAGE < (each[1] or 0)]
    assert len(touching) == 2


def test_a_page_larger_than_all_room_is_refused_with_the_key_to_change(
    store: TroubledStore, planes: Planes
) -> None:
    write_dataset(store.inner, "dev", {"a": File(some_bytes(3 * MIB), 2 * MIB), "b": File(b"b", PAGE)})
    plane = planes(inflight_mib=1)
    with pytest.raises(CeilingExceeded, match="cache.inflight_mib"):
        read(plane, [("a", 0, 1)])
    assert read(plane, [("b", 0, 1)]) == b"b"


def test_room_comes_back_where_there_is_no_memory_for_it(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = some_bytes(2 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, 2 * PAGE)})
    plane = planes(l1_mib=0.1)  # Room for no page of this length: what was read is on disk alone.
    read(plane, [("a", 0, 2 * PAGE)])
    assert all_room_returns(plane)  # The writer's hold too, or RAM would have it still.
    with monkeypatch.context() as patch:
        patch.setattr(RamPages, "take", no_memory)
        with pytest.raises(MemoryError):
            read(plane, [("a", 0, 2 * PAGE)])
    assert all_room_returns(plane), plane.statistics()
    assert read(plane, [("a", 0, 2 * PAGE)]) == data


def no_memory(_pages: RamPages, _length: int) -> PageBuffer:
    raise MemoryError


def test_a_small_slice_of_a_page_known_to_be_good_is_read_from_disk_alone(
    store: TroubledStore, planes: Planes
) -> None:
    data = some_bytes(4 * MIB)
    write_dataset(store.inner, "dev", {"a": File(data, MIB), "b": File(some_bytes(MIB, 1), MIB)})
    plane = planes(l1_mib=1, coalesce_kib=1024)
    read(plane, [("a", 0, len(data))])
    until(lambda: plane.statistics().write_behind_bytes == 0)
    assert read(plane, [("a", 0, len(data))]) == data  # Every page is read back whole once, and checked.
    gets = len(store.gets)
    before = plane.statistics().bytes_from["l2"]
    assert read(plane, [("a", 5, 300 * KIB)]) == data[5 : 5 + 300 * KIB]
    assert plane.statistics().bytes_from["l2"] == before + 300 * KIB
    assert len(store.gets) == gets


def test_a_small_slice_fits_the_smallest_room(store: TroubledStore, planes: Planes) -> None:
    data = some_bytes(2 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes(l1_mib=0.07, inflight_mib=0.125)
    assert read(plane, [("a", 0, len(data))]) == data
    until(lambda: plane.statistics().write_behind_bytes == 0)
    for _ in range(2):
        assert read(plane, [("a", 5, 10), ("a", PAGE + 5, 10)]) == data[5:15] + data[PAGE + 5 : PAGE + 15]
    assert plane.statistics().bytes_from["l2"] > 0


def test_a_batch_that_comes_back_to_pages_that_no_tier_keeps_fetches_each_once(
    store: TroubledStore, planes: Planes
) -> None:
    files = {name: File(some_bytes(MIB, number), MIB) for number, name in enumerate("abc")}
    write_dataset(store.inner, "dev", files)
    # L1 has room for no page, and pages are written to disk only after the last reader has them.
    plane = planes(l1_mib=0.1, inflight_mib=16, coalesce_kib=1024)
    items: list[Item] = [(name, off, 10) for off in range(0, 1000, 10) for name in "abc"]
    assert read(plane, items) == b"".join(files[name].data[off : off + 10] for name, off, _ in items)
    assert len(store.gets_of("/files/")) == 3


def test_a_staged_page_is_on_disk_under_its_own_key(store: TroubledStore, planes: Planes) -> None:
    data = some_bytes(3 * PAGE - 5)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes()
    staged = plane.stage_page("dev", "a", 2)
    assert (staged.off, staged.len, staged.tier) == (2 * PAGE, PAGE - 5, "l2")
    assert staged.bytes_fetched == PAGE - 5
    assert plane.stage_page("dev", "a", 2).bytes_fetched == 0
    assert store.gets_of("/files/") == [(2 * PAGE, 3 * PAGE - 5)]


def test_a_page_that_is_staged_while_it_is_being_written_is_on_disk(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(store.inner, "dev", {"a": File(some_bytes(PAGE), PAGE)})
    plane = planes()
    writing = threading.Event()

    def write_slowly(fd: int, views: Sequence[memoryview], offset: int, moves: Callable[[], None]) -> None:
        writing.set()
        threading.Event().wait(0.3)  # Longer than it takes to look for the page and not find it yet.
        write_fully(fd, views, offset, moves)

    monkeypatch.setattr("seekfs_io.pages.segment_records.write_fully", write_slowly)
    read(plane, [("a", 0, PAGE)])
    assert writing.wait(30)
    with ThreadPoolExecutor(4) as pool:
        staged = list(pool.map(lambda _: plane.stage_page("dev", "a", 0), range(4)))
    assert [each.tier for each in staged] == ["l2"] * 4


def test_a_manifest_for_which_there_is_no_memory_fails_who_waits_for_it(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(store.inner, "dev", {"a": File(b"a", PAGE)})
    plane = planes()

    def no_memory_to_decode(*_: object, **__: object) -> Manifest:
        raise MemoryError

    monkeypatch.setattr(resolving, "decode_manifest", no_memory_to_decode)
    for _ in range(2):
        with pytest.raises(SeekfsError, match=r"MemoryError .*dev/manifests/v-1") as raised:
            plane.resolve("dev")
        assert raised.value.status == 500  # Nobody says that the manifest is wrong.


def test_a_shelf_that_breaks_unforeseen_fails_nobody(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(store.inner, "dev", {"a": File(b"a", PAGE)})
    plane = planes()

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ManifestShelf, "load", broken)
    assert plane.resolve("dev").version == 1


def test_a_manifest_is_on_the_shelf_before_its_version_is_remembered(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed in between leaves a version that can be served without the store."""
    write_dataset(store.inner, "dev", {"a": File(b"a", PAGE)})
    found: list[bool] = []
    keep_head = ManifestShelf.keep_head

    def noting(shelf: ManifestShelf, ns: str, version: int) -> None:
        found.append(shelf.load(ns, version) is not None)
        keep_head(shelf, ns, version)

    monkeypatch.setattr(ManifestShelf, "keep_head", noting)
    planes().resolve("dev")
    until(lambda: bool(found))
    assert found == [True]


def test_wrong_names_cost_one_request(store: TroubledStore, planes: Planes) -> None:
    plane = planes()
    for _ in range(5):
        with pytest.raises(NoSuchNamespace):
            plane.resolve("nobody")
    assert len(store.gets) == 1


@pytest.mark.parametrize("backend", ["segmentstore", "mem"])
@pytest.mark.parametrize("seed", range(6))
def test_random_batches_under_tiny_ceilings_and_faults(
    seed: int, backend: str, store: TroubledStore, planes: Planes
) -> None:
    """16 threads, ceilings for a few pages, one GET in ten busy: right bytes or a refusal, no deadlock,
    ceilings held at every look, and all room back at the end (see the fixture)."""
    choice = random.Random(seed)
    files = {
        f"f{number}": File(
            some_bytes(choice.randrange(3 * MIB), number), choice.choice([PAGE, 2 * PAGE, MIB])
        )
        for number in range(12)
    }
    write_dataset(store.inner, "dev", files)
    faults = random.Random(seed)
    store.trouble = lambda key, start, stop: BUSY if stop is not None and faults.random() < 0.1 else None
    l1_mib, inflight_mib = choice.choice([2.5, 10, 100]), choice.choice([1, 2, 5])
    plane = planes(l1_mib=l1_mib, inflight_mib=inflight_mib, l2_mib=16, coalesce_kib=1024)

    def work(number: int) -> int:
        mine = random.Random(1000 * seed + number)
        right = 0
        for _ in range(6):
            items: list[Item] = []
            for _ in range(mine.randrange(1, 30)):
                path = mine.choice(sorted(files))
                off = mine.randrange(len(files[path].data) + 1)
                items.append((path, off, mine.randrange(len(files[path].data) - off + 1)))
            try:
                got = read(plane, items)
            except StoreUnavailable:
                continue
            assert got == b"".join(files[path].data[off : off + length] for path, off, length in items)
            right += 1
            statistics = plane.statistics()
            assert statistics.fetch.room_bytes_used <= inflight_mib * MIB
            assert all(tier.bytes_held <= tier.bytes_ceiling for tier in statistics.tiers)
        return right

    with ThreadPoolExecutor(16) as workers:
        assert sum(workers.map(work, range(16), timeout=120)) > 48


def test_a_page_that_rots_after_it_was_checked_is_found_when_it_is_read_whole_again(
    store: TroubledStore, planes: Planes, tmp_path: Path
) -> None:
    data = some_bytes(MIB)
    write_dataset(store.inner, "dev", {"a": File(data, MIB)})
    plane = planes(l1_mib=0.1, l2_mib=64)
    read(plane, [("a", 0, MIB)])
    until(lambda: plane.statistics().write_behind_bytes == 0)
    assert read(plane, [("a", 0, MIB)]) == data
    (segment,) = [
        path for path in (tmp_path / "l2-0").rglob("*") if path.is_file() and path.stat().st_size > MIB
    ]
    with segment.open("r+b") as file:
        file.seek(MIB // 2)
        file.write(bytes(64))
    assert read(plane, [("a", 0, MIB)]) == data
    assert len(store.gets_of("/files/")) == 2
