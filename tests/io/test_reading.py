"""One read of a data plane: what it holds and lets go of, and what a failure is to it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve

from seekfs_core.errors import CeilingExceeded, FailureKind, PageCorrupt, StoreFailure
from seekfs_core.plan import plan_read
from seekfs_io.config import ApiConfig, CacheConfig, Config, L2Config
from seekfs_io.dataplane import DataPlane
from seekfs_io.objects import open_store
from seekfs_io.pages.segmentstore import SegmentStore
from tests.conftest import S3ConfigFactory
from tests.io.planes import MIB, PAGE, Planes, all_room_returns, read, until
from tests.io.troubled_store import TroubledStore
from tests.support.dataset import File, some_bytes, write_dataset
from tests.support.passthrough import Match, PassThrough, Plan

LONG = 2 * PAGE
"""Pages of this length are more than an L1 of 0.1 MiB keeps: they are on disk alone."""

BUSY = StoreFailure(kind=FailureKind.BUSY, detail="the store is busy", status=503, code="SlowDown")


@pytest.fixture
def store(troubled: TroubledStore) -> TroubledStore:
    return troubled


def leases(plane: DataPlane) -> list[int]:
    """How many read from each segment at this moment."""
    assert isinstance(plane._l2, SegmentStore)
    return [file.leases for file in plane._l2._files.values()]


@contextmanager
def on_disk_alone(plane: DataPlane, path: str, size: int) -> Iterator[None]:
    """A file of ``LONG`` pages, of which each is on disk and was read back once, and none is in RAM."""
    read(plane, [(path, 0, size)])
    until(lambda: plane.statistics().tiers[1].pages_held == -(-size // LONG))
    assert all_room_returns(plane)
    read(plane, [(path, 0, size)])
    yield


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
    data = some_bytes(2 * LONG)
    write_dataset(store.inner, "dev", {"a": File(data, LONG)})
    plane = planes(l1_mib=0.1)
    with on_disk_alone(plane, "a", len(data)):
        before = plane.statistics()
        items = [("a", 100 * at, 10) for at in range(5)]
        assert read(plane, items) == b"".join(data[off : off + 10] for _, off, _ in items)
        after = plane.statistics()
        assert after.pages_from["l2"] - before.pages_from["l2"] == 1
        assert after.bytes_from["l2"] - before.bytes_from["l2"] == 50


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


def test_a_read_that_is_closed_in_the_middle_of_a_page_on_disk_leaves_its_segment(
    store: TroubledStore, planes: Planes
) -> None:
    """Also while somebody has the iterator still, so that nothing is collected."""
    data = some_bytes(LONG)
    write_dataset(store.inner, "dev", {"a": File(data, LONG)})
    plane = planes(l1_mib=0.1)
    with on_disk_alone(plane, "a", LONG):
        stream = plane.read(plan_read(plane.resolve("dev").manifest, [("a", 7, 100)], clip=False))
        pieces = iter(stream)
        view = next(pieces)
        assert bytes(view) == data[7:107]
        assert leases(plane) == [1]
        stream.close()
        assert leases(plane) == [0]
        with pytest.raises(ValueError, match="released"):
            bytes(view)


def test_memory_that_somebody_still_looks_at_is_nobody_elses(store: TroubledStore, planes: Planes) -> None:
    """What still holds the last view's buffer stops the close with an error, and everything else is let go
    of all the same."""
    first, second = some_bytes(LONG, 1), some_bytes(LONG, 2)
    write_dataset(store.inner, "dev", {"a": File(first, LONG), "b": File(second, LONG)})
    plane = planes(l1_mib=0.1)
    stream = plane.read(plan_read(plane.resolve("dev").manifest, [("a", 0, LONG)], clip=False))
    view = next(iter(stream))
    export = pickle.PickleBuffer(view)
    with pytest.raises(BufferError):
        stream.close()
    for _ in range(20):
        assert read(plane, [("b", 0, LONG)]) == second
    assert bytes(export) == first
    assert plane.statistics().reads == 21
    until(lambda: plane.statistics().fetch.in_flight == 0)
    export.release()
    stream._let_go()


def test_windows_on_disk_are_read_through_memory_that_the_ceiling_knows(
    store: TroubledStore, planes: Planes
) -> None:
    write_dataset(store.inner, "dev", {"a": File(some_bytes(4 * LONG), LONG)})
    plane = planes(l1_mib=0.1, inflight_mib=1)
    with on_disk_alone(plane, "a", 4 * LONG):
        ledger = plane._ram._ledger
        assert ledger.spare_bytes > 0
        streams = []
        for page in range(4):
            items = [("a", page * LONG, 100)]
            stream = plane.read(plan_read(plane.resolve("dev").manifest, items, clip=False))
            streams.append(stream)
            next(iter(stream))
            assert ledger.room_bytes + ledger.spare_bytes <= MIB
        assert ledger.room_bytes == plane.statistics().fetch.room_bytes_used > 0
        for stream in streams:
            stream.close()


def test_items_of_one_bad_page_share_no_traceback(store: TroubledStore, planes: Planes) -> None:
    """One error that was raised for each of 65,536 items would hold on to as many frames."""
    data = some_bytes(PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes()
    items = [("a", at, 1) for at in range(50)]
    plan = plan_read(plane.resolve("dev").manifest, items, clip=True)
    store.inner.put("namespaces/dev/files/a", bytes(PAGE))
    depths = set()
    with plane.read(plan) as stream:
        for item in range(len(items)):
            with pytest.raises(PageCorrupt) as raised:
                list(stream.item(item))
            depths.add(len(raised.traceback))
    assert len(depths) <= 2  # That of the first, which waited, and that of all others.


def test_a_failure_ahead_that_has_passed_is_none(store: TroubledStore, planes: Planes) -> None:
    """The store was in trouble while a read looked ahead, and is well when the read comes there."""
    data = some_bytes(8 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes(coalesce_kib=64, attempts=1)
    plan = plan_read(plane.resolve("dev").manifest, [("a", 0, len(data))], clip=False)
    store.trouble = lambda key, start, stop: BUSY if "/files/" in key and start else None
    with plane.read(plan) as stream:
        pieces = iter(stream)
        found = bytes(next(pieces))
        until(lambda: plane.statistics().fetch.outcomes.get("busy", 0) >= 1)
        until(lambda: plane.statistics().fetch.in_flight == 0)
        store.trouble = lambda key, start, stop: None
        found += b"".join(map(bytes, pieces))
    assert found == data


def test_a_page_that_is_wrong_ahead_is_not_asked_for_a_third_time(
    store: TroubledStore, planes: Planes
) -> None:
    data = some_bytes(2 * PAGE)
    write_dataset(store.inner, "dev", {"a": File(data, PAGE)})
    plane = planes(coalesce_kib=64)
    plan = plan_read(plane.resolve("dev").manifest, [("a", 0, len(data))], clip=False)
    store.inner.put("namespaces/dev/files/a", data[:PAGE] + bytes(PAGE))
    with plane.read(plan) as stream:
        pieces = iter(stream)
        next(pieces)
        until(lambda: plane.statistics().fetch.pages_refused == 2)
        with pytest.raises(PageCorrupt):
            list(pieces)
    assert store.gets_of("/files/") == [(0, PAGE), (PAGE, 2 * PAGE), (PAGE, 2 * PAGE)]


def test_a_slow_client_does_not_keep_from_others_what_it_holds_ahead(
    store: TroubledStore, planes: Planes
) -> None:
    """Its client takes nothing any more; what came ahead of it has taken all the room."""
    data = some_bytes(8 * LONG)
    write_dataset(store.inner, "dev", {"a": File(data, LONG), "b": File(data, LONG)})
    plane = planes(l1_mib=0.1, inflight_mib=1, coalesce_kib=128, deadline_seconds=60)
    plan = plan_read(plane.resolve("dev").manifest, [("a", 0, len(data))], clip=False)
    slow = [plane.read(plan) for _ in range(4)]
    kept = [bytes(next(iter(stream))) for stream in slow]
    assert kept == [data[:LONG]] * 4
    assert read(plane, [("b", 0, len(data))]) == data
    for stream in slow:
        stream.close()


def test_a_disk_that_hangs_while_a_manifest_is_kept_holds_up_no_reader(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(store.inner, "dev", {"a": File(b"a", PAGE)})
    for name in ("one", "two", "three", "four", "five", "six"):
        write_dataset(store.inner, name, {"a": File(name.encode(), PAGE)})
    plane = planes(gets=1)
    hanging = threading.Event()
    monkeypatch.setattr("seekfs_io.pages.shelf.ManifestShelf.keep", lambda *_: hanging.wait(60))
    try:
        for name in ("one", "two", "three", "four", "five", "six"):
            assert read(plane, [("a", 0, len(name))], name) == name.encode()
    finally:
        hanging.set()


@pytest.mark.parametrize(("key", "step"), [("files/a", 1000), ("manifests/v-1.json.gz", 1)])
def test_a_store_that_trickles_is_given_up_and_keeps_nothing_from_anybody(
    s3_config: S3ConfigFactory, passthrough: PassThrough, ns: str, tmp_path: Path, key: str, step: int
) -> None:
    """Bytes come all the time, so that no read of them times out: the page, or the manifest, does not."""
    data = some_bytes(PAGE)
    config = s3_config(endpoint=passthrough.endpoint, retry_initial_backoff_ms=1, read_timeout_sec=30)
    direct = open_store(s3_config())
    write_dataset(direct, ns, {"a": File(data, PAGE)})
    direct.close()
    gates = [threading.Event() for _ in range(60)]
    trickle = Plan(hold_body=tuple((step * at, gate) for at, gate in enumerate(gates, 1)))
    passthrough.when(Match(method="GET", key=f"namespaces/{ns}/{key}"), trickle, times=1)
    plane = DataPlane(
        Config(
            cache=CacheConfig(
                slab_size_mib=PAGE / MIB,
                l1_memory_gib=1 / 64,
                l2_ssd_gib=1 / 4,
                inflight_mib=8,
                l2=L2Config(segment_path=str(tmp_path / "l2")),
            ),
            s3=config,
            api=ApiConfig(request_deadline_sec=12),
        )
    )
    stopped = threading.Event()

    def open_gates() -> None:
        for gate in gates:
            if stopped.wait(0.25):
                break
            gate.set()

    drip = threading.Thread(target=open_gates)
    drip.start()
    try:
        assert read(plane, [("a", 0, PAGE)], ns) == data
    finally:
        stopped.set()
        drip.join()
        for gate in gates:
            gate.set()
        plane.close(5)
    assert plane.statistics().fetch.outcomes["timed_out"] == 1
    assert len(passthrough.select("GET", f"namespaces/{ns}/{key}")) == 2
