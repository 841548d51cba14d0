"""Uploading against a real S3 server that is made to refuse conditions, to have something already, or to
give no ETags; and with little memory.

What is decided is tested in ``tests/core/test_uploads.py`` and its neighbours.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seekfs_core.errors import ConditionsNotHonoured, PublishConflict, StoreAnswered
from seekfs_core.names import content_object_key, file_object_key
from seekfs_core.sending import MIB, PART_BYTES, PART_BYTES_MIN
from seekfs_core.transfer_layout import put_layout_of
from seekfs_io import publisher
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectReader, ObjectStore
from tests.conftest import S3ConfigFactory, StoreFactory
from tests.io.test_publisher import Meddle, Place, configure, publish, write
from tests.support.daemon import s3_settings
from tests.support.dataset import some_bytes
from tests.support.objects import Bystander
from tests.support.passthrough import Answer, Exchange, Match, PassThrough, Plan

PlaceFactory = Callable[..., Place]


@pytest.fixture
def new_place(
    passthrough: PassThrough, s3_config: S3ConfigFactory, open_s3: StoreFactory, ns: str
) -> PlaceFactory:
    """``new_place(**{"cache.inflight_mib": 1})``: the server behind the pass-through."""
    s3 = s3_settings(s3_config(endpoint=passthrough.endpoint))

    def factory(**settings: object) -> Place:
        config = configure(s3, **{"cache.slab_size_mib": 0.25, **settings})
        return Place(open_s3(endpoint=passthrough.endpoint), config, ns)

    return factory


def content_key(ns: str, data: bytes) -> str:
    return content_object_key(ns, hashlib.sha256(data).hexdigest())


# --- conditions ---------------------------------------------------------------------------------


def is_conditional(exchange: Exchange) -> bool:
    return exchange.request.get("if-none-match") is not None or (
        exchange.method == "PUT" and exchange.request.get("if-match") is not None
    )


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_single_writer_publishes_to_a_store_that_refuses_conditions(
    new_place: PlaceFactory, passthrough: PassThrough, tmp_path: Path, status: int, code: str
) -> None:
    place = new_place()
    files = {"large": some_bytes(PART_BYTES + 5), "small": b"small", "middle": some_bytes(100_000), "z": b"z"}
    source = write(tmp_path / "in", files)
    passthrough.when(is_conditional, Plan(answer=Answer.error(status, code)))
    with pytest.raises(ConditionsNotHonoured, match="--single-writer"):
        publish(place, source)
    assert place.keys(f"namespaces/{place.ns}/") == []
    result = publish(place, source, single_writer=True)
    assert (result.version, result.uploaded_objects) == (1, len(files))
    assert place.content() == files
    # The large file was first, and has taught the others: nothing else was sent twice.
    refused = [each for each in passthrough.exchanges if is_conditional(each) and "/objects/" in each.key]
    assert [(each.method, each.key) for each in refused] == [("POST", content_key(place.ns, files["large"]))]
    again = publish(place, write(tmp_path / "2", {"a": b"a", "b": b"small"}), single_writer=True)
    assert (again.version, again.uploaded_objects) == (2, 1)
    assert place.content() == {**files, "a": b"a", "b": b"small"}


def test_a_single_writer_keeps_the_conditions_that_a_store_takes(
    new_place: PlaceFactory, passthrough: PassThrough, tmp_path: Path
) -> None:
    place = new_place()
    files = {"large": some_bytes(PART_BYTES + 5), "small": b"small"}
    publish(place, write(tmp_path / "in", files), single_writer=True)
    sent = [
        each
        for each in passthrough.exchanges
        if "/objects/" in each.key
        and (each.method, set(each.query) - {"x-id"}) in (("PUT", set()), ("POST", {"uploadId"}))
    ]
    assert len(sent) == 2
    assert all(map(is_conditional, sent))
    assert place.content() == files


def test_a_single_writer_looks_before_it_writes_where_conditions_may_be_ignored(
    new_place: PlaceFactory, passthrough: PassThrough, tmp_path: Path
) -> None:
    """Of content that is short, too: nobody has proven that the PUT would leave it alone."""
    place = new_place()
    place.store.put(content_key(place.ns, b"small"), b"something else")
    passthrough.forget()
    with pytest.raises(PublishConflict, match="somebody else has written it"):
        publish(place, write(tmp_path / "in", {"small": b"small"}), single_writer=True)
    assert passthrough.select("PUT", content_key(place.ns, b"small")) == []


# --- what is there already ----------------------------------------------------------------------


def test_a_large_content_that_somebody_else_was_quicker_with_is_not_counted(
    new_place: PlaceFactory, passthrough: PassThrough, tmp_path: Path
) -> None:
    place, data = new_place(), some_bytes(PART_BYTES + 5)
    key = content_key(place.ns, data)
    # When the file is about to be read a second time: it was looked for, and was not there.
    rival = Meddle(len(data), lambda: place.store.put(key, data), times=2)
    result = publish(place, write(tmp_path / "in", {"large": data}), progress=rival)
    assert (result.uploaded_objects, result.uploaded_bytes, result.changed) == (0, 0, 1)
    assert place.content() == {"large": data}
    assert place.load().file("large").storage_etag == place.store.head(key).etag
    # And the parts were forgotten.
    assert [each.status for each in passthrough.select("DELETE", key)] == [204]


def test_put_meets_an_object_that_came_while_it_was_sending(
    new_place: PlaceFactory, passthrough: PassThrough, tmp_path: Path
) -> None:
    place, data = new_place(), some_bytes(PART_BYTES + 5)
    key = file_object_key(place.ns, "large")
    source = write(tmp_path / "in", {"large": data})
    rival = Meddle(len(data), lambda: place.store.put(key, data), times=2)
    result = publisher.put(place.store, place.config, place.ns, [source], progress=rival)
    assert (result.uploaded, result.uploaded_bytes) == (0, 0)
    other = write(tmp_path / "2", {"other": bytes(len(data))})
    key = file_object_key(place.ns, "other")
    rival = Meddle(len(data), lambda: place.store.put(key, data), times=2)
    with pytest.raises(PublishConflict, match="other is there already, with other bytes"):
        publisher.put(place.store, place.config, place.ns, [other], progress=rival)
    assert place.read(key) == data


# --- what the base names, and is not there any more ------------------------------------------------


@pytest.fixture
def bystander(s3_config: S3ConfigFactory) -> Bystander:
    return Bystander(s3_config())


def test_objects_that_are_gone_are_sent_again(
    new_place: PlaceFactory, passthrough: PassThrough, bystander: Bystander, tmp_path: Path
) -> None:
    place = new_place(**{"cache.inflight_mib": 1})
    files = {"large": some_bytes(PART_BYTES_MIN + 7), "middle": some_bytes(100_000), "small": b"1"}
    source = write(tmp_path / "in", {**files, "there": b"there", "same": b"1"})
    publish(place, source)
    keys = {content_key(place.ns, data) for data in files.values()}
    for key in keys:
        bystander.delete(key)
    assert len(publisher.verify(place.store, place.config, place.ns).differences) == 4
    passthrough.forget()
    result = publish(place, source)
    assert (result.uploaded_objects, result.uploaded_bytes) == (3, sum(map(len, files.values())))
    assert publisher.verify(place.store, place.config, place.ns).differences == ()
    assert publisher.verify(place.store, place.config, place.ns, 1).differences == ()
    looked = [each.key for each in passthrough.select("HEAD") if "/objects/" in each.key]
    assert sorted(set(looked)) == sorted([*keys, content_key(place.ns, b"there")])
    # And once more there is nothing to do.
    again = publish(place, source)
    assert (again.version, again.new, again.uploaded_objects) == (result.version, False, 0)


def test_an_object_of_another_size_in_the_place_of_content_is_refused(
    new_place: PlaceFactory, bystander: Bystander, tmp_path: Path
) -> None:
    place = new_place()
    source = write(tmp_path / "in", {"a": b"content"})
    publish(place, source)
    key = content_key(place.ns, b"content")
    place.store.put(key, b"something else")
    with pytest.raises(PublishConflict, match=f"{key} is there with 14 bytes, and its name says other"):
        publish(place, source)
    # Until it is out of the way.
    bystander.delete(key)
    assert publish(place, source).uploaded_objects == 1
    assert place.content() == {"a": b"content"}


def test_files_that_lie_elsewhere_are_looked_at_there_and_sent_as_content_where_they_are_not(
    new_place: PlaceFactory, bystander: Bystander, tmp_path: Path
) -> None:
    place = new_place()
    files = {"gone": b"gone", "replaced": b"replaced", "longer": b"longer", "there": b"there"}
    source = write(tmp_path / "in", files)
    publisher.put(place.store, place.config, place.ns, [source])
    publisher.generate(place.store, place.config, place.ns)
    assert publish(place, source).new is False
    bystander.delete(file_object_key(place.ns, "gone"))
    place.store.put(file_object_key(place.ns, "replaced"), b"REPLACED")
    place.store.put(file_object_key(place.ns, "longer"), b"longer now")
    result = publish(place, source)
    assert (result.version, result.changed, result.unchanged, result.uploaded_objects) == (2, 3, 1, 3)
    assert {path: entry.storage_key for path, entry in place.load().files.items()} == {
        path: file_object_key(place.ns, path) if path == "there" else content_key(place.ns, data)
        for path, data in files.items()
    }
    assert place.content() == files


def test_objects_are_looked_at_side_by_side(
    new_place: PlaceFactory, passthrough: PassThrough, tmp_path: Path
) -> None:
    """None is answered before all have been asked for."""
    place = new_place()
    source = write(tmp_path / "in", {f"{number}": f"{number}".encode() for number in range(8)})
    publish(place, source)
    answers = threading.Event()
    passthrough.when(Match(method="HEAD"), Plan(hold_head=answers))
    with ThreadPoolExecutor(1) as other:
        publishing = other.submit(publish, place, source)
        passthrough.wait_until(lambda: len(passthrough.select("HEAD")) == 8)
        answers.set()
        assert publishing.result().new is False


# --- symbolic links -----------------------------------------------------------------------------


def test_a_cache_that_is_made_of_links_is_sent_once_a_content(
    new_place: PlaceFactory, tmp_path: Path
) -> None:
    """As the caches of data hubs are laid out: snapshots of links to blobs."""
    place = new_place()
    blobs = write(tmp_path / "blobs", {"1f": some_bytes(100_000), "2e": b"small"})
    for link, blob in {"one/a.bin": "1f", "one/b.txt": "2e", "two/a.bin": "1f"}.items():
        (tmp_path / "snapshots" / link).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "snapshots" / link).symlink_to(blobs / blob)
    (tmp_path / "snapshots" / "latest").symlink_to("two")
    files = {
        "one/a.bin": some_bytes(100_000),
        "one/b.txt": b"small",
        "two/a.bin": some_bytes(100_000),
        "latest/a.bin": some_bytes(100_000),
    }
    assert publish(place, tmp_path / "snapshots").uploaded_objects == 2
    assert place.content() == files
    assert publisher.put(place.store, place.config, place.ns, [tmp_path / "snapshots"]).uploaded == 4


# --- little memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [publisher.publish, publisher.put])
def test_with_little_memory_parts_are_as_short_as_the_store_takes_them(
    new_place: PlaceFactory, passthrough: PassThrough, tmp_path: Path, command: Callable[..., object]
) -> None:
    place = new_place(**{"cache.inflight_mib": 1})
    files = {"large": some_bytes(2 * PART_BYTES_MIN + 7), "exact": some_bytes(PART_BYTES_MIN), "small": b"1"}
    source = write(tmp_path / "in", files)
    command(place.store, place.config, place.ns, [source])
    parts = {
        each.query["partNumber"]: each.body_bytes_received
        for each in passthrough.exchanges
        if "partNumber" in each.query
    }
    assert parts == {"1": PART_BYTES_MIN, "2": PART_BYTES_MIN, "3": 7}
    if command is publisher.put:
        # Again, so that all of it is read back and compared: in windows that fit.
        passthrough.forget()
        assert publisher.put(place.store, place.config, place.ns, [source]).uploaded == 0
        publisher.generate(place.store, place.config, place.ns)
        lengths = {
            each.range[1] - each.range[0]
            for each in passthrough.select("GET")
            if "/files/" in each.key and each.range is not None and each.range[1] is not None
        }
        assert max(lengths) == MIB
    assert place.content() == files


class CountsObjects:
    """A store that counts of how many objects GETs are open at once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._open: list[str] = []
        self._other = threading.Event()
        self.peak = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def get(self, key: str, **options: object) -> ObjectReader:
        with self._lock:
            self._open.append(key)
            self.peak = max(self.peak, len(set(self._open)))
            if self.peak > 1:
                self._other.set()
        # A moment in which another one would come, if it could.
        self._other.wait(0.05)
        try:
            return self._store.get(key, **options)  # type: ignore[arg-type]
        finally:
            with self._lock:
                self._open.remove(key)


def test_put_reads_no_more_objects_back_at_once_than_it_has_memory_for(tmp_path: Path, ns: str) -> None:
    config = configure(
        {"s3.engine": "file", "s3.endpoint": str(tmp_path / "store")},
        **{"cache.slab_size_mib": 0.25, "cache.inflight_mib": 4},
    )
    sizes = [600_000] * 10
    layout = put_layout_of(config.cache.inflight_bytes, config.s3.range_coalesce_max_bytes, sizes)
    assert layout.upload.lanes > layout.scan.hashers == 1
    store = open_store(config.s3)
    store.create_bucket()
    source = write(
        tmp_path / "in", {f"{number}": some_bytes(size, number) for number, size in enumerate(sizes)}
    )
    publisher.put(store, config, ns, [source])
    counting = CountsObjects(store)
    assert publisher.put(counting, config, ns, [source]).uploaded == 0  # type: ignore[arg-type]
    assert counting.peak == 1
    store.close()


# --- ETags --------------------------------------------------------------------------------------


def test_an_object_without_an_etag_is_not_read_by_several_gets(
    new_place: PlaceFactory, passthrough: PassThrough
) -> None:
    place = new_place(**{"s3.range_coalesce_max_mib": 1})
    place.store.put(file_object_key(place.ns, "long"), some_bytes(MIB + 1))
    place.store.put(file_object_key(place.ns, "short"), some_bytes(MIB))
    without = Plan(change_head=lambda head: head.without("etag"))
    for name in ("long", "short"):
        passthrough.when(Match(key=file_object_key(place.ns, name)), without)
    key = file_object_key(place.ns, "long")
    with pytest.raises(StoreAnswered, match=f"the store gives no ETag for '{key}', so reads of it cannot be"):
        publisher.generate(place.store, place.config, place.ns, ["long"])
    assert passthrough.gets(key) == []
    publisher.generate(place.store, place.config, place.ns, ["short"])
    assert place.content() == {"short": some_bytes(MIB)}
    assert place.load().file("short").storage_etag is None
