"""The end of a data plane: whoever waits is told at once, and nothing else is begun."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from seekfs_core.errors import FailureKind, ShuttingDown, StoreFailure
from seekfs_core.pages import page_key
from seekfs_core.plan import plan_read
from seekfs_io.dataplane import DataPlane
from seekfs_io.pages.shelf import ManifestShelf
from tests.io.planes import PAGE, Planes, read, until
from tests.io.troubled_store import TroubledStore
from tests.support.dataset import File, some_bytes, write_dataset


@pytest.fixture
def store(troubled: TroubledStore) -> TroubledStore:
    return troubled


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


def test_what_is_on_its_way_to_the_shelf_gets_there_and_is_remembered(
    store: TroubledStore, planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plane is closed while a slow disk has its first manifest; the next one has no store."""
    write_dataset(store.inner, "dev", {"a": File(b"a", PAGE)})
    plane = planes()
    going_on = threading.Event()
    keep = ManifestShelf.keep

    def keep_slowly(shelf: ManifestShelf, ns: str, version: int, stored: bytes) -> None:
        assert going_on.wait(30)
        keep(shelf, ns, version, stored)

    monkeypatch.setattr(ManifestShelf, "keep", keep_slowly)
    assert plane.resolve("dev").version == 1
    with ThreadPoolExecutor(1) as closer:
        closing = closer.submit(plane.close, 30)
        until(lambda: plane._resolving._closed)
        going_on.set()
        closing.result(60)
    store.trouble = lambda key, start, stop: StoreFailure(kind=FailureKind.UNREACHABLE, detail="no store")
    later = DataPlane(plane.config, store=store)
    try:
        found = later.resolve("dev")
        assert (found.version, found.stale) == (1, True)
    finally:
        later.close(5)


def test_a_page_that_is_offered_to_the_disk_after_the_end_is_waited_for_by_nobody(
    store: TroubledStore, planes: Planes
) -> None:
    write_dataset(store.inner, "dev", {"a": File(some_bytes(PAGE), PAGE)})
    plane = planes()
    read(plane, [("a", 0, PAGE)])
    manifest = plane.resolve("dev").manifest
    key = page_key(manifest.file_key(manifest.file("a")), 0)
    plane.close(5)
    plane._fetcher.offer(key)
    assert not plane._fetcher._to_write
    plane._fetcher.await_written(key, 3600)
