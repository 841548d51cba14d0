"""The data plane as an embedder uses it: real machines, real threads, a real store on a directory.

Faults are put in between the plane and its store. What they mean to HTTP clients is shown against
SeaweedFS in ``tests/e2e``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest
from attrs import evolve

from seekfs_core.errors import (
    CeilingExceeded,
    DeadlineExceeded,
    FailureKind,
    NoSuchNamespace,
    PageCorrupt,
    SeekfsError,
    ShuttingDown,
    StoreAnswered,
    StoreFailure,
    StoreTimeout,
    StoreUnavailable,
)
from seekfs_core.manifest import Manifest
from seekfs_core.plan import Item, plan_read
from seekfs_io import resolving
from seekfs_io.config import ApiConfig, CacheConfig, Config, L2Config, ManifestConfig, S3Config
from seekfs_io.dataplane import DataPlane
from seekfs_io.objects import open_store
from seekfs_io.pages.ram import PageBuffer, RamPages
from seekfs_io.pages.segment_file import write_fully
from seekfs_io.pages.segmentstore import SegmentStore
from seekfs_io.pages.shelf import ManifestShelf
from tests.io.troubled_store import TroubledStore
from tests.support.dataset import File, manifest_of, some_bytes, write_dataset, write_manifest

KIB = 1 << 10
MIB = 1 << 20
PAGE = 64 * KIB

BUSY = StoreFailure(kind=FailureKind.BUSY, detail="the store is busy", status=503, code="SlowDown")


class Planes(Protocol):
    def __call__(
        self,
        *,
        l1_mib: float = 16,
        inflight_mib: float = 8,
        l2_mib: float = 256,
        coalesce_kib: float = 256,
        deadline_seconds: float = 20,
        attempts: int = 3,
        backend: str = "segmentstore",
    ) -> DataPlane: ...


@pytest.fixture
def store(tmp_path: Path) -> TroubledStore:
    inner = open_store(S3Config(engine="file", endpoint=str(tmp_path / "store")))
    inner.create_bucket()
    return TroubledStore(inner)


@pytest.fixture
def planes(tmp_path: Path, store: TroubledStore) -> Iterator[Planes]:
    opened: list[DataPlane] = []

    def factory(
        *,
        l1_mib: float = 16,
        inflight_mib: float = 8,
        l2_mib: float = 256,
        coalesce_kib: float = 256,
        deadline_seconds: float = 20,
        attempts: int = 3,
        backend: str = "segmentstore",
    ) -> DataPlane:
        directory = tmp_path / f"l2-{len(opened)}"
        config = Config(
            cache=CacheConfig(
                slab_size_mib=PAGE / MIB,
                l1_memory_gib=l1_mib / 1024,
                l2_ssd_gib=l2_mib / 1024,
                inflight_mib=inflight_mib,
                l2=L2Config(backend=backend, segment_path=str(directory)),
            ),
            s3=S3Config(
                range_coalesce_max_mib=coalesce_kib / 1024,
                get_budget_per_sec=5000,
                get_budget_burst=1000,
                retry_max_attempts=attempts,
                retry_initial_backoff_ms=1,
            ),
            manifest=ManifestConfig(head_ttl_sec=3600),
            api=ApiConfig(request_deadline_sec=deadline_seconds),
        )
        plane = DataPlane(config, store=store)
        opened.append(plane)
        return plane

    yield factory
    for plane in opened:
        if plane.readiness().ready:
            assert all_room_returns(plane), plane.statistics()
            plane.close(5)


def all_room_returns(plane: DataPlane) -> bool:
    """Whether every buffer comes back once nothing is read any more; write-behind may still be at it."""
    for _ in range(500):
        statistics = plane.statistics()
        if not (statistics.fetch.room_bytes_used or statistics.fetch.in_flight):
            return True
        threading.Event().wait(0.01)
    return False


def read(plane: DataPlane, items: list[Item], ns: str = "dev") -> bytes:
    plan = plan_read(plane.resolve(ns).manifest, items, clip=False)
    with plane.read(plan) as stream:
        return b"".join(bytes(view) for view in stream)


def read_version(plane: DataPlane, version: int, items: list[Item], ns: str = "dev") -> bytes:
    with plane.read(plan_read(plane.resolve(ns, version).manifest, items, clip=False)) as stream:
        return b"".join(bytes(view) for view in stream)


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


def test_a_view_fails_after_its_step_instead_of_showing_other_bytes(
    store: TroubledStore, planes: Planes
) -> None:
    write_dataset(store.inner, "dev", {"a": File(some_bytes(2 * PAGE), PAGE)})
    plane = planes()
    plan = plan_read(plane.resolve("dev").manifest, [("a", 0, 2 * PAGE)], clip=False)
    with plane.read(plan) as stream:
        pieces = iter(stream)
        first = next(pieces)
        next(pieces)
        with pytest.raises(ValueError, match="released"):
            bytes(first)


def test_the_last_view_fails_once_its_stream_is_closed(store: TroubledStore, planes: Planes) -> None:
    """Its page goes back with the stream, and the memory is another page's before the generator is gone."""
    write_dataset(store.inner, "dev", {"a": File(some_bytes(2 * PAGE), PAGE)})
    plane = planes(l1_mib=0.1)
    plan = plan_read(plane.resolve("dev").manifest, [("a", 0, 2 * PAGE)], clip=False)
    stream = plane.read(plan)
    pieces = iter(stream)
    last = next(pieces)
    stream.close()
    with pytest.raises(ValueError, match="released"):
        bytes(last)


def test_room_comes_back_where_there_is_no_memory_for_it(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = some_bytes(PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes(l1_mib=0.01)  # Room for no page: what was read is on disk alone.
    read(plane, [("a", 0, PAGE)])
    assert all_room_returns(plane)  # The writer's hold too, or RAM would have it still.
    with monkeypatch.context() as patch:
        patch.setattr(RamPages, "take", no_memory)
        with pytest.raises(MemoryError):
            read(plane, [("a", 0, PAGE)])
    assert all_room_returns(plane), plane.statistics()
    assert read(plane, [("a", 0, PAGE)]) == data


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

    def write_slowly(fd: int, views: Sequence[memoryview], offset: int) -> None:
        writing.set()
        threading.Event().wait(0.3)  # Longer than it takes to look for the page and not find it yet.
        write_fully(fd, views, offset)

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


def test_a_plane_that_is_closed_ends_reads_that_wait(store: TroubledStore, planes: Planes) -> None:
    write_dataset(store.inner, "dev", {"a": File(some_bytes(PAGE), PAGE)})
    plane = planes()
    plane.resolve("dev")
    store.gate = threading.Event()
    with ThreadPoolExecutor(1) as readers:
        waiting = readers.submit(read, plane, [("a", 0, 1)])
        until(lambda: bool(store.gets_of("/files/")))
        plane.close(0)
        assert isinstance(waiting.exception(30), ShuttingDown)
        store.gate.set()


def test_after_the_end_every_item_of_a_batch_fails_at_once(store: TroubledStore, planes: Planes) -> None:
    """And not each after the time that a read may wait, one after the other."""
    write_dataset(store.inner, "dev", {"a": File(some_bytes(8 * PAGE), PAGE)})
    plane = planes(deadline_seconds=3600)
    items = [("a", page * PAGE, PAGE) for page in range(8)]
    plan = plan_read(plane.resolve("dev").manifest, items, clip=True)
    read(plane, [("a", 0, PAGE)])
    with plane.read(plan) as stream:
        assert sum(map(len, stream.item(0))) == PAGE
        plane.close(5)
        for item in range(1, 8):
            with pytest.raises(ShuttingDown):
                list(stream.item(item))


def test_a_page_on_disk_is_not_waited_for_after_the_end(store: TroubledStore, planes: Planes) -> None:
    data = some_bytes(4 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes(l1_mib=0.1, deadline_seconds=3600)
    plan = plan_read(plane.resolve("dev").manifest, [("a", 0, len(data))], clip=False)
    assert read(plane, [("a", 0, len(data))]) == data
    until(lambda: plane.statistics().tiers[1].pages_held == 4)
    with plane.read(plan) as stream:
        pieces = iter(stream)
        next(pieces)
        plane.close(5)
        with pytest.raises(ShuttingDown):
            list(pieces)


def test_after_the_end_nothing_is_asked_of_the_store(store: TroubledStore, planes: Planes) -> None:
    write_dataset(store.inner, "dev", {"a": File(b"a", PAGE)})
    plane = planes(deadline_seconds=3600)
    plane.close(5)
    asked = len(store.gets)
    with pytest.raises(ShuttingDown):
        plane.resolve("dev")
    with pytest.raises(ShuttingDown):
        plane.stat_object("namespaces/dev/HEAD")
    with pytest.raises(ShuttingDown):
        plane.fetch_object("namespaces/dev/HEAD")
    assert len(store.gets) == asked
    assert plane.statistics().fetch.calls_started == 0


def test_a_page_that_does_not_fit_memory_any_more_leaves_its_segment_free(
    store: TroubledStore, tmp_path: Path, planes: Planes
) -> None:
    """Pages came to disk while ``inflight_mib`` was larger: refused, and nobody stays in their segment."""
    data = some_bytes(2 * MIB)
    write_dataset(store.inner, "dev", {"a": File(data, 2 * MIB)})
    roomy = planes(inflight_mib=8)
    assert read(roomy, [("a", 0, len(data))]) == data
    roomy.close(5)
    config = evolve(roomy.config, cache=evolve(roomy.config.cache, inflight_mib=1))
    plane = DataPlane(config, store=store)
    try:
        for _ in range(3):
            with pytest.raises(CeilingExceeded):
                read(plane, [("a", 0, 1)])
        assert isinstance(plane._l2, SegmentStore)
        assert [file.leases for file in plane._l2._files.values()] == [0]
    finally:
        plane.close(5)


def test_slices_of_one_page_in_a_row_count_it_once_wherever_it_is(
    store: TroubledStore, planes: Planes
) -> None:
    data = some_bytes(2 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes(l1_mib=0.01)
    assert read(plane, [("a", 0, len(data))]) == data
    until(lambda: plane.statistics().tiers[1].pages_held == 2)
    assert read(plane, [("a", 0, PAGE)]) == data[:PAGE]  # Read back whole, and checked.
    before = plane.statistics()
    items = [("a", 100 * at, 10) for at in range(5)]
    assert read(plane, items) == b"".join(data[off : off + 10] for _, off, _ in items)
    after = plane.statistics()
    assert after.pages_from["l2"] - before.pages_from["l2"] == 1
    assert after.bytes_from["l2"] - before.bytes_from["l2"] == 50


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


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does; AssertionError if it does not."""
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to pass")


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
