"""Publishing against a real S3 server and a real directory.

``place`` runs a test on both engines. What becomes of lost answers and of races is tested
exhaustively in ``tests/core/test_publication.py``; here are the same things as they really happen,
between real requests, through a pass-through that drops them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import crc32c
import pytest
from attrs import frozen

from seekfs_core.errors import (
    ConditionsNotHonoured,
    InvalidName,
    ManifestInvalid,
    NoSuchFile,
    NoSuchNamespace,
    NoSuchObject,
    NoSuchVersion,
    PublishConflict,
    PublishError,
    SeekfsError,
    StoreAnswered,
    StoreRefused,
    StoreUnavailable,
)
from seekfs_core.manifest import Manifest
from seekfs_core.names import PROBE_KEY, file_object_key, head_key, manifest_key
from seekfs_core.sending import PART_BYTES
from seekfs_io import publisher
from seekfs_io.config import Config, load_config
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from seekfs_io.publisher import FileChanged, InputError
from seekfs_io.publishing.progress import Silent
from tests.conftest import S3ConfigFactory
from tests.support.daemon import s3_settings
from tests.support.dataset import some_bytes
from tests.support.objects import listed
from tests.support.passthrough import Answer, Exchange, Match, PassThrough, Plan

MIB = 1 << 20


@frozen
class Place:
    """A bucket, the configuration that reaches it, and a namespace of the test's own."""

    store: ObjectStore
    config: Config
    ns: str

    def keys(self, prefix: str = "") -> list[str]:
        return [each.key for each in listed(self.store, prefix)]

    def read(self, key: str) -> bytes:
        with self.store.get(key) as body:
            view = memoryview(bytearray(body.size))
            at = 0
            while at < body.size:
                at += body.readinto(view[at:])
            return bytes(view)

    def load(self, version: int | None = None) -> Manifest:
        return publisher.load(self.store, self.config, self.ns, version)

    def content(self, version: int | None = None) -> dict[str, bytes]:
        """Every file of a version, checked by hand against its hash and its page table."""
        files = {}
        for path, entry in self.load(version).files.items():
            data = self.read(entry.storage_key)
            assert hashlib.sha256(data).digest() == entry.sha256
            assert len(data) == entry.size
            for page_id in range(entry.page_count):
                start, stop = entry.page_extent(page_id)
                assert crc32c.crc32c(data[start:stop]) == entry.page_crc32c(page_id)
            files[path] = data
        return files


def configure(settings: dict[str, object], **more: object) -> Config:
    # Everything that the file at the top of the repository could say otherwise.
    fixed = {"s3.engine": "sdk", "s3.retry_initial_backoff_ms": 1}
    return load_config(None, {**fixed, **settings, **more}, environ={})


@pytest.fixture(params=["sdk", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path, ns: str) -> Iterator[Place]:
    if request.param == "file":
        settings: dict[str, object] = {"s3.engine": "file", "s3.endpoint": str(tmp_path / "store")}
    else:
        settings = s3_settings(request.getfixturevalue("s3_config")())
    config = configure(settings, **{"cache.slab_size_mib": 0.25})
    store = open_store(config.s3)
    store.create_bucket()
    yield Place(store, config, ns)
    store.close()


@pytest.fixture
def s3(s3_config: S3ConfigFactory, ns: str) -> Iterator[Place]:
    config = configure(s3_settings(s3_config()), **{"cache.slab_size_mib": 0.25})
    store = open_store(config.s3)
    yield Place(store, config, ns)
    store.close()


@pytest.fixture
def through(passthrough: PassThrough, s3_config: S3ConfigFactory, ns: str) -> Iterator[Place]:
    """The same server, behind the pass-through."""
    config = configure(s3_settings(s3_config(endpoint=passthrough.endpoint)), **{"cache.slab_size_mib": 0.25})
    store = open_store(config.s3)
    yield Place(store, config, ns)
    store.close()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def publish(place: Place, *inputs: Path, **options: object) -> publisher.PublishResult:
    return publisher.publish(place.store, place.config, place.ns, inputs, **options)  # type: ignore[arg-type]


FILES = {
    "empty": b"",
    "one": b"1",
    "sub/page": some_bytes(256 * 1024, 1),
    "sub/more": some_bytes(256 * 1024 + 1, 2),
    "a b+%☃/é": some_bytes(600_000, 3),
}


# --- publish --------------------------------------------------------------------------------------


def test_what_is_published_is_there_byte_for_byte(place: Place, tmp_path: Path) -> None:
    result = publish(place, write(tmp_path / "in", FILES))
    assert (result.version, result.new, result.changed, result.unchanged) == (1, True, 5, 0)
    assert (result.uploaded_objects, result.uploaded_bytes) == (5, sum(map(len, FILES.values())))
    assert place.content() == FILES
    assert place.read(head_key(place.ns)) == b"v-1\n"
    entry = place.load().file("sub/more")
    assert entry.storage_key == f"namespaces/{place.ns}/objects/{entry.sha256.hex()}"
    assert entry.storage_etag == place.store.head(entry.storage_key).etag
    assert (entry.page_size_bytes, entry.page_count) == (256 * 1024, 2)


def test_the_stored_manifest_is_what_the_contract_says(place: Place, tmp_path: Path) -> None:
    """Read by hand, as another program would."""
    publish(place, write(tmp_path / "in", {"b": b"2", "a": b"1"}))
    stored = json.loads(gzip.decompress(place.read(manifest_key(place.ns, 1))))
    assert list(stored) == ["version", "created_at", "parents", "tombstones", "publication_id", "files"]
    assert [file["path"] for file in stored["files"]] == ["a", "b"]
    assert stored["files"][0]["hash"] == "sha256:" + hashlib.sha256(b"1").hexdigest()
    assert stored["files"][0]["page_table"] == [
        {"page_id": 0, "off": 0, "len": 1, "crc32c": crc32c.crc32c(b"1")}
    ]


def test_publishing_the_same_again_uploads_nothing_and_makes_no_version(place: Place, tmp_path: Path) -> None:
    source = write(tmp_path / "in", FILES)
    publish(place, source)
    before = {each.key: each.last_modified for each in listed(place.store, f"namespaces/{place.ns}/")}
    again = publish(place, source)
    assert (again.version, again.new, again.changed, again.unchanged) == (1, False, 0, 5)
    assert (again.uploaded_objects, again.uploaded_bytes) == (0, 0)
    assert {each.key: each.last_modified for each in listed(place.store, f"namespaces/{place.ns}/")} == before


def test_publishing_the_same_again_looks_at_each_object_once_and_puts_nothing(
    through: Place, passthrough: PassThrough, tmp_path: Path
) -> None:
    source = write(tmp_path / "in", FILES)
    publish(through, source)
    passthrough.forget()
    publish(through, source)
    assert [each.method for each in passthrough.exchanges] == ["GET"] * 3 + ["HEAD"] * 5 + ["GET"]
    assert len({each.key for each in passthrough.select("HEAD")}) == 5


def test_a_version_keeps_what_it_does_not_change(place: Place, tmp_path: Path) -> None:
    publish(place, write(tmp_path / "1", FILES))
    changed = {"one": b"other", "new": b"new", "sub/page": FILES["sub/page"]}
    result = publish(place, write(tmp_path / "2", changed))
    assert (result.version, result.changed, result.unchanged) == (2, 2, 1)
    assert result.uploaded_objects == 2
    assert place.content(2) == {**FILES, **changed}
    assert place.content(1) == FILES
    assert place.load(2).parents == (1,)


def test_one_content_is_sent_once(place: Place, tmp_path: Path) -> None:
    same = some_bytes(100_000)
    result = publish(place, write(tmp_path / "1", {"a": same, "b": same, "c": same}))
    assert (result.changed, result.uploaded_objects) == (3, 1)
    etags = {entry.storage_etag for entry in place.load().files.values()}
    assert len(etags) == 1
    assert None not in etags
    again = publish(place, write(tmp_path / "2", {"d": same}))
    assert (again.version, again.uploaded_objects) == (2, 0)
    assert place.content(2) == dict.fromkeys("abcd", same)


def test_what_an_interrupted_publish_left_behind_is_not_sent_again(
    through: Place, passthrough: PassThrough, tmp_path: Path
) -> None:
    large, small = some_bytes(100_000), b"small"
    for data in (large, small):
        through.store.put(f"namespaces/{through.ns}/objects/{hashlib.sha256(data).hexdigest()}", data)
    passthrough.forget()
    result = publish(through, write(tmp_path / "in", {"large": large, "small": small}))
    assert (result.uploaded_objects, result.version) == (0, 1)
    sent = [each for each in passthrough.select("PUT") if "/objects/" in each.key]
    assert [each.status for each in sent] == [412]  # The small one: asking would have cost as much.


def test_something_else_under_a_contents_key_is_refused(place: Place, tmp_path: Path) -> None:
    data = some_bytes(100_000)
    key = f"namespaces/{place.ns}/objects/{hashlib.sha256(data).hexdigest()}"
    place.store.put(key, b"not this")
    with pytest.raises(PublishConflict, match="somebody else has written it"):
        publish(place, write(tmp_path / "in", {"a": data}))


def test_large_files_go_in_parts(place: Place, tmp_path: Path) -> None:
    data = some_bytes(PART_BYTES + MIB + 5)
    result = publish(place, write(tmp_path / "in", {"large": data, "exact": data[:PART_BYTES]}))
    assert result.uploaded_bytes == len(data) + PART_BYTES
    assert place.content() == {"large": data, "exact": data[:PART_BYTES]}
    again = publish(place, write(tmp_path / "2", {"moved": data}))
    assert again.uploaded_objects == 0
    assert publisher.verify(place.store, place.config, place.ns).differences == ()


class Meddle(Silent):
    """Does something when the work says that so many bytes more are expected."""

    def __init__(self, size: int, deed: Callable[[], object], times: int = 1) -> None:
        self.size, self.deed, self.times = size, deed, times

    def expect(self, size_bytes: int) -> None:
        if size_bytes == self.size:
            self.times -= 1
            if self.times == 0:
                self.deed()


def test_a_large_file_that_changes_between_the_passes(
    through: Place, passthrough: PassThrough, tmp_path: Path
) -> None:
    """Even where size and time are those of before: the second hash tells."""
    size = PART_BYTES + 5
    source = write(tmp_path / "in", {"large": some_bytes(size)}) / "large"

    def change() -> None:
        seen = source.stat()
        with source.open("r+b") as opened:
            opened.seek(17)
            opened.write(b"changed")
        os.utime(source, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    with pytest.raises(FileChanged, match="large changed while it was being read"):
        publish(through, source, progress=Meddle(size, change, times=2))
    assert through.keys(f"namespaces/{through.ns}/") == []
    begun = [each for each in passthrough.select("POST") if "uploads" in each.query]
    aborted = [each for each in passthrough.select("DELETE") if "uploadId" in each.query]
    assert (len(begun), [each.status for each in aborted]) == (1, [204])


def test_an_upload_that_fails_is_aborted_and_nothing_is_published(
    through: Place, passthrough: PassThrough, tmp_path: Path
) -> None:
    def is_second_part(exchange: Exchange) -> bool:
        return exchange.query.get("partNumber") == "2"

    passthrough.when(is_second_part, Plan(answer=Answer.error(403, "AccessDenied")))
    with pytest.raises(StoreAnswered, match="AccessDenied"):
        publish(through, write(tmp_path / "in", {"large": some_bytes(PART_BYTES + 5)}))
    assert [each.status for each in passthrough.select("DELETE")] == [204]
    assert through.keys(f"namespaces/{through.ns}/") == []


@pytest.mark.parametrize("drop", ["request", "answer"])
def test_every_request_of_a_large_publish_dropped_once(
    through: Place, passthrough: PassThrough, tmp_path: Path, drop: str
) -> None:
    """Each kind of request loses its connection once: before the store hears of it, or after."""
    seen: set[tuple[str, str, str]] = set()

    def first_of_its_kind(exchange: Exchange) -> bool:
        if "uploads" in exchange.query:
            return False  # Begun twice is begun twice: an id whose answer is lost cannot be known.
        kind = (exchange.method, exchange.key, exchange.query.get("partNumber", ""))
        if kind in seen:
            return False
        seen.add(kind)
        return True

    files = {"large": some_bytes(PART_BYTES + 5), "small": b"small", "middle": some_bytes(100_000)}
    passthrough.when(first_of_its_kind, Plan(drop=drop))  # type: ignore[arg-type]
    result = publish(through, write(tmp_path / "in", files))
    assert result.version == 1
    passthrough.forget()
    assert through.content() == files
    # And the next publisher finds everything in order.
    assert publish(through, tmp_path / "in").new is False


def test_an_interruption_aborts_the_upload(through: Place, passthrough: PassThrough, tmp_path: Path) -> None:
    size = PART_BYTES + 5
    source = write(tmp_path / "in", {"large": some_bytes(size)})

    class Interrupt(Silent):
        parts = 0

        def advance(self, size_bytes: int) -> None:
            # Progress of whole parts is told by the lanes; the digest's pieces are of 1 MiB.
            if size_bytes == PART_BYTES:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(through, source, progress=Interrupt())
    assert [each.status for each in passthrough.select("DELETE")] == [204]
    assert through.keys(f"namespaces/{through.ns}/") == []


class InterruptedOnce:
    """A store whose answer to one PUT meets Ctrl-C. Everything else is the store's own."""

    def __init__(self, store: ObjectStore, key_part: str, *, sent: bool) -> None:
        self._store, self._key_part, self._sent, self._left = store, key_part, sent, 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put(self, key: str, *args: object, **kwargs: object) -> object:
        if self._key_part in key and self._left:
            self._left = 0
            if self._sent:
                self._store.put(key, *args, **kwargs)  # type: ignore[arg-type]
            raise KeyboardInterrupt
        return self._store.put(key, *args, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("key_part", ["/manifests/", "/HEAD"])
def test_an_interruption_of_the_commit_never_leaves_half_of_it(
    place: Place, tmp_path: Path, key_part: str, sent: bool
) -> None:
    source = write(tmp_path / "in", FILES)
    store = InterruptedOnce(place.store, key_part, sent=sent)
    with pytest.raises(KeyboardInterrupt):
        publisher.publish(store, place.config, place.ns, [source])  # type: ignore[arg-type]
    assert place.read(head_key(place.ns)) == b"v-1\n"
    assert place.content() == FILES


def test_an_interruption_before_the_commit_publishes_nothing(place: Place, tmp_path: Path) -> None:
    store = InterruptedOnce(place.store, "/objects/", sent=True)
    with pytest.raises(KeyboardInterrupt):
        publisher.publish(store, place.config, place.ns, [write(tmp_path / "in", FILES)])  # type: ignore[arg-type]
    with pytest.raises(NoSuchNamespace):
        place.load()


def test_inputs_are_checked_before_the_store_is_spoken_to(tmp_path: Path, ns: str) -> None:
    config = configure({"s3.endpoint": "http://127.0.0.1:1"})
    store = open_store(config.s3)
    with pytest.raises(InputError):
        publisher.publish(store, config, ns, [tmp_path / "nowhere"])
    with pytest.raises(InputError):
        publisher.put(store, config, ns, [tmp_path / "nowhere"])
    with pytest.raises(InvalidName):
        publisher.publish(store, config, "Not A Namespace", [tmp_path])
    with pytest.raises(StoreUnavailable):
        publisher.publish(store, config, ns, [write(tmp_path / "in", {"a": b"1"})])


def test_two_publishers_at_once_both_survive(s3: Place, tmp_path: Path) -> None:
    count = 8
    gate = threading.Barrier(count)

    def one(number: int) -> int:
        source = write(tmp_path / str(number), {f"of-{number}": str(number).encode()})
        gate.wait()
        return publish(s3, source).version

    with ThreadPoolExecutor(count) as pool:
        versions = list(pool.map(one, range(count)))
    assert sorted(versions) == list(range(1, count + 1))
    assert s3.content() == {f"of-{number}": str(number).encode() for number in range(count)}
    for version in range(2, count + 1):
        assert s3.load(version).parents == (version - 1,)


class Between(Silent):
    """Lets another publish when everything is uploaded and nothing is published yet."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self.deed = deed

    def describe(self, text: str) -> None:
        if text == "publishing":
            self.deed()


def test_two_changes_of_one_path(place: Place, tmp_path: Path) -> None:
    publish(place, write(tmp_path / "0", {"a": b"0", "b": b"0"}))
    theirs, ours = write(tmp_path / "1", {"a": b"1"}), write(tmp_path / "2", {"a": b"2", "b": b"2"})
    between = Between(lambda: publish(place, theirs))
    with pytest.raises(PublishConflict, match=r"'a' \(version 2\)") as caught:
        publish(place, ours, progress=between)
    assert caught.value.context["paths"] == ["a"]
    assert place.content() == {"a": b"1", "b": b"0"}
    publish(place, write(tmp_path / "1", {"a": b"3"}))
    result = publish(place, ours, progress=between, overwrite=True)
    assert place.content(result.version) == {"a": b"2", "b": b"2"}


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_uploaded(
    through: Place, passthrough: PassThrough, tmp_path: Path
) -> None:
    passthrough.when(Match(method="PUT", key=PROBE_KEY), Plan(answer=Answer(status=200)))
    source = write(tmp_path / "in", FILES)
    with pytest.raises(ConditionsNotHonoured, match="--single-writer"):
        publish(through, source)
    assert through.keys(f"namespaces/{through.ns}/") == []
    through.store.put(file_object_key(through.ns, "a"), b"1")
    with pytest.raises(ConditionsNotHonoured):
        publisher.generate(through.store, through.config, through.ns)
    assert publish(through, source, single_writer=True).version == 1
    assert through.content() == FILES


# --- put ------------------------------------------------------------------------------------------


def test_put_uploads_and_publishes_nothing(place: Place, tmp_path: Path) -> None:
    source = write(tmp_path / "in", FILES)
    result = publisher.put(place.store, place.config, place.ns, [source])
    assert result.uploaded == 5
    assert result.paths == tuple(sorted(FILES))
    assert place.keys(f"namespaces/{place.ns}/") == sorted(file_object_key(place.ns, p) for p in FILES)
    assert {path: place.read(file_object_key(place.ns, path)) for path in FILES} == FILES


def test_put_takes_what_is_there_for_done_and_never_changes_it(place: Place, tmp_path: Path) -> None:
    large = some_bytes(PART_BYTES + 1)
    source = write(tmp_path / "in", {"a": b"same", "large": large})
    publisher.put(place.store, place.config, place.ns, [source])
    assert publisher.put(place.store, place.config, place.ns, [source]).uploaded == 0
    for path, data in (("a", b"diff"), ("a", b"longer"), ("large", bytes(len(large)))):
        other = write(tmp_path / "other", {path: data}) / path
        with pytest.raises(PublishConflict, match="is there already, with other bytes"):
            publisher.put(place.store, place.config, place.ns, [other])
    assert place.read(file_object_key(place.ns, "a")) == b"same"
    assert place.read(file_object_key(place.ns, "large")) == large


def test_put_of_a_path_whose_key_would_be_too_long(place: Place, tmp_path: Path) -> None:
    long = "/".join(["x" * 100] * 10)
    source = write(tmp_path / "in", {"a": b"1"}) / "a"
    with pytest.raises(InputError, match="key in the bucket is 10.. bytes long"):
        publisher.put(place.store, place.config, place.ns, [source], as_path=long)


@pytest.mark.parametrize("drop", ["request", "answer"])
def test_put_through_lost_answers(
    through: Place, passthrough: PassThrough, tmp_path: Path, drop: str
) -> None:
    files = {"large": some_bytes(PART_BYTES + 5), "small": b"small"}
    source = write(tmp_path / "in", files)
    for path in files:
        for method in ("PUT", "HEAD"):
            match = Match(method=method, key=file_object_key(through.ns, path))
            passthrough.when(match, Plan(drop=drop), times=1)  # type: ignore[arg-type]
    publisher.put(through.store, through.config, through.ns, [source])
    assert {path: through.read(file_object_key(through.ns, path)) for path in files} == files


# --- manifest gen ---------------------------------------------------------------------------------


def test_a_version_of_what_was_put(place: Place, tmp_path: Path) -> None:
    publisher.put(place.store, place.config, place.ns, [write(tmp_path / "in", FILES)])
    result = publisher.generate(place.store, place.config, place.ns, ["one", "sub/more"])
    assert result.left_out == ()
    assert place.content() == {path: FILES[path] for path in ("one", "sub/more")}
    result = publisher.generate(place.store, place.config, place.ns)
    assert result.published.version == 2
    assert (result.published.changed, result.published.unchanged) == (3, 2)
    assert place.content() == FILES
    assert place.load().file("one").storage_key == file_object_key(place.ns, "one")
    again = publisher.generate(place.store, place.config, place.ns).published
    assert (again.new, again.changed, again.unchanged) == (False, 0, 5)


def test_another_page_size_alone_is_no_change_and_an_overwritten_object_is_one(
    place: Place, tmp_path: Path
) -> None:
    publisher.put(place.store, place.config, place.ns, [write(tmp_path / "in", FILES)])
    publisher.generate(place.store, place.config, place.ns)
    smaller = attrs.evolve(place.config, cache=attrs.evolve(place.config.cache, slab_size_mib=0.125))
    for result in (
        publisher.generate(place.store, smaller, place.ns).published,
        publisher.publish(place.store, smaller, place.ns, [tmp_path / "in"]),
    ):
        assert (result.new, result.version, result.changed, result.unchanged) == (False, 1, 0, 5)
    key, data = file_object_key(place.ns, "sub/page"), FILES["sub/page"]
    upload = place.store.create_upload(key)
    place.store.complete_upload(key, upload, [place.store.upload_part(key, upload, 1, data)])
    assert place.store.head(key).etag != place.load().file("sub/page").storage_etag
    result = publisher.generate(place.store, smaller, place.ns).published
    assert (result.version, result.changed, result.unchanged) == (2, 1, 4)
    assert place.load().file("sub/page").storage_etag == place.store.head(key).etag
    assert publisher.diff(place.load(1), place.load()).moved == ("sub/page",)


def test_a_version_of_objects_that_were_there_before(s3: Place) -> None:
    """With keys that no shell would like, and some that cannot be a path."""
    prefix = f"raw {s3.ns}/"
    objects = {"a b+%☃": b"1", "plus+plus": b"2", "per%20cent": b"3", "d/é": some_bytes(300_000), "~": b""}
    for name, data in objects.items():
        s3.store.put(prefix + name, data)
    s3.store.put(prefix + "tab\there", b"left out")
    result = publisher.generate(s3.store, s3.config, s3.ns, from_prefix=prefix)
    assert [each.key for each in result.left_out] == [prefix + "tab\there"]
    assert "U+0009" in result.left_out[0].reason
    assert s3.content() == objects
    assert s3.load().file("d/é").storage_key == prefix + "d/é"
    named = publisher.generate(s3.store, s3.config, f"{s3.ns}.2", ["d/é"], from_prefix=prefix)
    assert list(named.published.manifest.files if named.published.manifest else ()) == ["d/é"]


def test_keys_that_end_in_a_slash_or_have_an_empty_segment_are_left_out(
    through: Place, passthrough: PassThrough
) -> None:
    """SeaweedFS makes one slash of two and a folder of a key that ends in one: the listing is S3's."""
    through.store.put(f"{through.ns}/ok", b"1")
    contents = "".join(
        f"<Contents><Key>{through.ns}/{name}</Key><Size>1</Size>"
        '<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag></Contents>'
        for name in ("a%2F%2Fb", "dir/", "ok")
    )
    listing = (
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>'
        f"<EncodingType>url</EncodingType>{contents}</ListBucketResult>"
    )
    answer = Answer(status=200, headers={"Content-Type": "application/xml"}, body=listing.encode())
    passthrough.when(lambda exchange: "list-type" in exchange.query, Plan(answer=answer))
    result = publisher.generate(through.store, through.config, through.ns, from_prefix=f"{through.ns}/")
    assert [each.key for each in result.left_out] == [f"{through.ns}/a//b", f"{through.ns}/dir/"]
    assert "empty segment" in result.left_out[0].reason
    assert "ends with '/'" in result.left_out[1].reason
    assert result.folder_markers == ()
    assert through.content() == {"ok": b"1"}


def test_each_object_is_read_once_in_large_gets_bound_to_one_etag(
    through: Place, passthrough: PassThrough
) -> None:
    config = configure(
        s3_settings(through.config.s3), **{"s3.range_coalesce_max_mib": 1, "cache.slab_size_mib": 0.25}
    )
    data = some_bytes(5 * MIB + 3)
    key = file_object_key(through.ns, "a")
    etag = through.store.put(key, data)
    passthrough.forget()
    publisher.generate(through.store, config, through.ns)
    gets = passthrough.gets(key)
    assert sorted(get.range for get in gets if get.range) == [
        (start, min(start + MIB, len(data))) for start in range(0, len(data), MIB)
    ]
    assert {get.request.get("if-match") for get in gets} == {etag}
    assert not passthrough.select("HEAD", key)
    assert through.content() == {"a": data}


def test_an_object_replaced_while_it_is_read(through: Place, s3: Place, passthrough: PassThrough) -> None:
    """Begun again with the new one; one that is replaced again and again is an error."""
    config = configure(
        s3_settings(through.config.s3), **{"s3.range_coalesce_max_mib": 1, "cache.slab_size_mib": 0.25}
    )
    key = file_object_key(through.ns, "a")
    through.store.put(key, some_bytes(3 * MIB, 0))
    versions = iter(range(1, 100))

    def replace_before_last(exchange: Exchange) -> bool:
        if exchange.method == "GET" and exchange.key == key and exchange.range == (2 * MIB, 3 * MIB):
            number = next(versions)
            if number <= limit:
                s3.store.put(key, some_bytes(3 * MIB, number))
        return False

    passthrough.when(replace_before_last, Plan())
    limit = 1
    publisher.generate(through.store, config, through.ns)
    assert s3.content() == {"a": some_bytes(3 * MIB, 1)}
    limit = 100
    with pytest.raises(StoreAnswered, match="changed while it was being read"):
        publisher.generate(through.store, config, through.ns)


def test_what_is_not_there(place: Place) -> None:
    with pytest.raises(NoSuchObject, match="no object under"):
        publisher.generate(place.store, place.config, place.ns)
    with pytest.raises(NoSuchObject, match="'namespaces/.*/files/x', 'namespaces/.*/files/y'"):
        publisher.generate(place.store, place.config, place.ns, ["x", "y"])
    with pytest.raises(InvalidName):
        publisher.generate(place.store, place.config, place.ns, ["a//b"])
    assert place.keys(f"namespaces/{place.ns}/") == []


def test_gets_are_paid_for_out_of_the_budget(through: Place, passthrough: PassThrough) -> None:
    """At 50 a second and a burst of 2, at most 2 + 50·t start in any t seconds."""
    config = configure(
        s3_settings(through.config.s3), **{"s3.get_budget_per_sec": 50, "s3.get_budget_burst": 2}
    )
    for number in range(20):
        through.store.put(file_object_key(through.ns, f"{number:02}"), b"1")
    passthrough.forget()
    publisher.generate(through.store, config, through.ns)
    starts = sorted(each.started for each in passthrough.exchanges if each.method in ("GET", "HEAD"))
    assert len(starts) >= 22
    # Of the whole run, so that a thread that was held up between its turn and its request is no matter.
    assert len(starts) <= 2 + 50 * (starts[-1] - starts[0]) + 2


# --- rm, rollback, looking --------------------------------------------------------------------------


def test_rm(place: Place, tmp_path: Path) -> None:
    publish(place, write(tmp_path / "in", FILES))
    result = publisher.remove(place.store, place.config, place.ns, ["one", "sub/page", "one"])
    assert (result.version, result.changed) == (2, 2)
    assert set(place.load().files) == set(FILES) - {"one", "sub/page"}
    assert place.load().tombstones == ("one", "sub/page")
    assert place.content(1) == FILES
    with pytest.raises(NoSuchFile, match="'gone', 'one'"):
        publisher.remove(place.store, place.config, place.ns, ["empty", "gone", "one"])
    assert place.load().version == 2


def test_rollback(place: Place, tmp_path: Path) -> None:
    publish(place, write(tmp_path / "1", FILES))
    publish(place, write(tmp_path / "2", {"one": b"other", "new": b"new"}))
    result = publisher.rollback(place.store, place.config, place.ns, 1)
    # "one" as it was and "new" gone; the others are as they were all along.
    assert (result.version, result.changed, result.unchanged) == (3, 2, 4)
    assert place.content() == FILES
    again = publisher.rollback(place.store, place.config, place.ns, 3)
    assert (again.new, again.changed, again.unchanged) == (False, 0, 5)
    with pytest.raises(NoSuchVersion, match="whose current version is 3"):
        publisher.rollback(place.store, place.config, place.ns, 4)


def test_a_namespace_or_version_that_is_not_there(place: Place, tmp_path: Path) -> None:
    for call in (
        place.load,
        lambda: publisher.rollback(place.store, place.config, place.ns, 1),
        lambda: publisher.remove(place.store, place.config, place.ns, ["a"]),
        lambda: publisher.verify(place.store, place.config, place.ns),
    ):
        with pytest.raises(NoSuchNamespace):
            call()
    publish(place, write(tmp_path / "in", {"a": b"1"}))
    with pytest.raises(NoSuchVersion):
        place.load(2)
    with pytest.raises(SeekfsError, match="versions are 1 to"):
        place.load(0)


def test_a_version_above_head_is_not_there_for_readers(place: Place, tmp_path: Path) -> None:
    publish(place, write(tmp_path / "1", {"a": b"1"}))
    publish(place, write(tmp_path / "2", {"a": b"2"}))
    place.store.put(head_key(place.ns), b"v-1\n")
    with pytest.raises(NoSuchVersion):
        place.load(2)
    # The next publisher builds on it all the same.
    assert publish(place, write(tmp_path / "3", {"b": b"3"})).version == 3
    assert place.content() == {"a": b"2", "b": b"3"}


def test_a_broken_version_above_head_stops_publishing_and_is_named(place: Place, tmp_path: Path) -> None:
    publish(place, write(tmp_path / "1", {"a": b"1"}))
    place.store.put(manifest_key(place.ns, 2), gzip.compress(b'{"version":2,"files":{}}'))
    with pytest.raises(ManifestInvalid, match=r"manifest v-2 .*\$\.files: expected `array`"):
        publish(place, write(tmp_path / "2", {"b": b"2"}))
    assert place.read(head_key(place.ns)) == b"v-1\n"


def test_a_manifest_that_readers_would_refuse_is_not_written(place: Place, tmp_path: Path) -> None:
    settings = {"s3.engine": place.config.s3.engine, "s3.endpoint": place.config.s3.endpoint}
    config = configure({**s3_settings(place.config.s3), **settings}, **{"manifest.max_mib": 1 / 1024})
    source = write(tmp_path / "in", {f"file-{number}": b"" for number in range(20)})
    with pytest.raises(ManifestInvalid, match=r"manifest\.max_mib"):
        publisher.publish(place.store, config, place.ns, [source])
    assert not [key for key in place.keys(f"namespaces/{place.ns}/") if "manifests" in key]


def test_diff(place: Place, tmp_path: Path) -> None:
    publisher.put(
        place.store, place.config, place.ns, [write(tmp_path / "1", {"a": b"1", "b": b"1", "m": b"1"})]
    )
    publisher.generate(place.store, place.config, place.ns)
    publisher.remove(place.store, place.config, place.ns, ["b", "m"])
    publish(place, write(tmp_path / "2", {"a": b"2", "c": b"3", "m": b"1"}))
    assert publisher.diff(place.load(1), place.load()) == publisher.Diff(
        added=("c",), removed=("b",), changed=("a",), moved=("m",)
    )
    assert publisher.diff(place.load(), place.load()) == publisher.Diff(
        added=(), removed=(), changed=(), moved=()
    )


def test_verify_says_what_differs(place: Place, tmp_path: Path) -> None:
    data = some_bytes(600_000)
    files = {"fine": b"fine", "page": data, "size": b"size", "gone": b"gone", "empty": b""}
    publisher.put(place.store, place.config, place.ns, [write(tmp_path / "in", files)])
    publisher.generate(place.store, place.config, place.ns)
    good = publisher.verify(place.store, place.config, place.ns)
    assert (good.files, good.bytes, good.differences) == (5, 600_012, ())

    flipped = bytearray(data)
    flipped[300_000] ^= 1
    place.store.put(file_object_key(place.ns, "page"), bytes(flipped))
    place.store.put(file_object_key(place.ns, "size"), b"longer")
    # Renamed in the manifest rather than deleted in the bucket: seekfs deletes nothing.
    manifest = json.loads(gzip.decompress(place.read(manifest_key(place.ns, 1))))
    for file in manifest["files"]:
        if file["path"] == "gone":
            file["storage"]["key"] += ".moved away"
    place.store.put(manifest_key(place.ns, 1), json.dumps(manifest).encode())

    bad = publisher.verify(place.store, place.config, place.ns, 1)
    whats = {(each.path, " ".join(each.what.split(" ", 2)[:2])) for each in bad.differences}
    assert whats == {
        ("gone", "the object"),
        ("page", "page 1"),
        ("page", "the bytes"),
        ("size", "the object"),
    }
    found = {each.path: each.what for each in bad.differences}
    assert found["gone"] == "the object is gone"
    assert found["size"] == "the object has 6 bytes, the manifest 4"
    assert publisher.verify(place.store, place.config, place.ns, 1, ["fine"]).differences == ()
    with pytest.raises(NoSuchFile):
        publisher.verify(place.store, place.config, place.ns, 1, ["nope"])


def test_an_object_that_grows_while_it_is_verified_is_a_difference(
    through: Place, s3: Place, passthrough: PassThrough, tmp_path: Path
) -> None:
    """Asked for its size it was right; by the time that it is read it has more pages."""
    publisher.put(s3.store, s3.config, s3.ns, [write(tmp_path / "in", {"a": some_bytes(600_000)})])
    publisher.generate(s3.store, s3.config, s3.ns)
    key = file_object_key(s3.ns, "a")

    def replace(exchange: Exchange) -> bool:
        if exchange.method == "GET" and exchange.key == key:
            s3.store.put(key, some_bytes(900_000))
        return False

    passthrough.when(replace, Plan())
    found = publisher.verify(through.store, through.config, through.ns)
    assert [each.what for each in found.differences] == ["the object has 900000 bytes, the manifest 600000"]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_who_may_not_read_is_told_so_and_not_that_files_differ(
    through: Place, passthrough: PassThrough, tmp_path: Path, method: str
) -> None:
    publish(through, write(tmp_path / "in", {"a": b"1", "b": b"2"}))
    key = through.load().file("a").storage_key
    rule = Match(method=method, key=key)
    passthrough.when(rule, Plan(answer=Answer.error(403, "AccessDenied")))
    with pytest.raises(StoreRefused, match="403"):
        publisher.verify(through.store, through.config, through.ns)
    passthrough.forget()
    passthrough.when(rule, Plan(answer=Answer(status=400)))
    (found,) = publisher.verify(through.store, through.config, through.ns).differences
    assert found.path == "a"


def test_a_publish_whose_head_could_not_be_moved_says_so(
    through: Place, passthrough: PassThrough, tmp_path: Path
) -> None:
    passthrough.when(
        Match(method="PUT", key=head_key(through.ns)), Plan(answer=Answer.error(403, "AccessDenied")), times=1
    )
    source = write(tmp_path / "in", {"a": b"1"})
    with pytest.raises(PublishError, match="version 1 .* is written, and HEAD could not be moved"):
        publish(through, source)
    again = publish(through, source)
    assert (again.version, again.new) == (1, False)
    assert through.content() == {"a": b"1"}


def test_a_missing_bucket_is_told(s3_config: S3ConfigFactory, tmp_path: Path, ns: str) -> None:
    config = configure(s3_settings(s3_config(bucket="never-made")))
    store = open_store(config.s3)
    with pytest.raises(StoreAnswered, match="NoSuchBucket"):
        publisher.publish(store, config, ns, [write(tmp_path / "in", {"a": b"1"})])
    store.close()
