"""From files to a bucket to a daemon and back: page geometry, versions, and objects that were there before.

Published with the command line, read through real daemons; what the store is asked is seen at the
pass-through in front of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from seekfs_io.client import Client, DaemonError, Item
from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.e2e.conftest import DaemonFactory
from tests.support.command_line import Seekfs
from tests.support.daemon import Daemon, s3_settings, toml_of
from tests.support.passthrough import Answer, PassThrough, Plan

KIB = 1 << 10
MIB = 1 << 20


@pytest.fixture
def seekfs(
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
    s3_config: S3ConfigFactory,
    passthrough: PassThrough,
) -> Seekfs:
    """Commands that work on the store behind the pass-through."""
    config = tmp_path / "publisher.toml"
    config.write_text(toml_of(s3_settings(s3_config(endpoint=passthrough.endpoint))))
    return Seekfs(capfdbinary, "--config", str(config))


def noise(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def write_all(directory: Path, contents: Mapping[str, bytes]) -> Path:
    for path, data in contents.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return directory


def assert_reads(client: Client, ns: str, contents: Mapping[str, bytes], version: int | None = None) -> None:
    """Every file, read in every way, is these bytes."""
    for path, data in contents.items():
        assert client.blob(ns, path, version=version) == data, path
        assert client.head(ns, path, version=version).length == len(data)
    items = scattered_items(contents)
    expected = [contents[path][off : off + length] for path, off, length in items]
    assert client.readv(ns, items, version) == expected
    assert [answer for _, answer in client.readv_frames(ns, items, version)] == expected
    for (path, off, length), data in zip(items[::7], expected[::7], strict=True):
        assert client.blob(ns, path, off, length, version=version) == data


def scattered_items(contents: Mapping[str, bytes]) -> list[Item]:
    """Ranges of all files in no order: at both ends, over multiples of 64 KiB, of nothing, of one byte."""
    dice = random.Random(0)
    items: list[Item] = []
    for path, data in contents.items():
        size = len(data)
        items += [
            (path, 0, 0),
            (path, size, 0),
            (path, 0, min(size, 100)),
            (path, max(0, size - 7), min(size, 7)),
        ]
        borders = list(range(64 * KIB, size, 64 * KIB))
        for border in dice.sample(borders, min(len(borders), 20)):
            items.append((path, border - 3, min(6, size - border + 3)))
        if size:
            off = dice.randrange(size)
            items += [(path, off, 1), (path, off, dice.randint(0, size - off))]
    dice.shuffle(items)
    return items


# -- page geometry ---------------------------------------------------------------------------------


def test_page_geometry_is_the_manifests_whatever_the_daemon_is_set_to(
    seekfs: Seekfs,
    ns: str,
    tmp_path: Path,
    passthrough: PassThrough,
    start_daemon: DaemonFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = {
        64 * KIB: [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 5 * 64 * KIB + 13],
        1 * MIB: [0, 1, MIB - 1, MIB, MIB + 1, 6 * MIB + 13],
        5 * MIB: [0, 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 13 * MIB + 13],
        8 * MIB: [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 17 * MIB + 13],
    }
    contents: dict[str, bytes] = {}
    for page_size, each in sizes.items():
        group = {f"pages-of-{page_size}/{size}.bin": noise(f"{page_size} {size}", size) for size in each}
        monkeypatch.setenv("SEEKFS_CACHE_SLAB_SIZE_MIB", str(page_size / MIB))
        seekfs.done("publish", ns, str(write_all(tmp_path / str(page_size), group)))
        contents |= group
    monkeypatch.delenv("SEEKFS_CACHE_SLAB_SIZE_MIB")

    listed = seekfs.done("manifest", "ls", ns, "--json").json["files"]
    assert {file["path"] for file in listed} == set(contents)
    pages = {file["path"]: (file["pages"], file["page_size"], file["key"]) for file in listed}
    for page_size, each in sizes.items():
        for size in each:
            count, found, _ = pages[f"pages-of-{page_size}/{size}.bin"]
            assert (count, found) == (-(-size // page_size), min(size, page_size))

    for slab_size_mib in (0.0625, 8):
        passthrough.forget()
        daemon = start_daemon(cache__slab_size_mib=slab_size_mib)
        with Client(daemon.url) as client:
            assert_reads(client, ns, contents)
        # Fetched are whole pages of the manifest, each of them once.
        fetched = {key: passthrough.gets(key=key) for _, _, key in pages.values()}
        for path, (_, page_size, key) in pages.items():
            ranges = [each.range for each in fetched[key]]
            covered = sorted((start, stop) for start, stop in filter(None, ranges) if stop is not None)
            assert len(covered) == len(ranges)
            assert all(start % page_size == 0 for start, _ in covered)
            assert sum(stop - start for start, stop in covered) == len(contents[path])


# -- versions --------------------------------------------------------------------------------------


V1 = {
    "same.bin": noise("same", 3 * MIB),
    "bytes.bin": noise("bytes of v1", 9 * MIB),
    "longer.bin": noise("longer, v1", 100),
    "shorter.bin": noise("shorter, v1", 20 * MIB + 1),
    "to-nothing.bin": noise("to nothing", 5),
    "from-nothing.bin": b"",
}
V2 = {
    "same.bin": V1["same.bin"],
    "bytes.bin": noise("bytes of v2", 9 * MIB),
    "longer.bin": noise("longer, v2", 10 * MIB),
    "shorter.bin": noise("shorter, v2", 8 * MIB),
    "to-nothing.bin": b"",
    "from-nothing.bin": noise("from nothing", 5),
    "new.bin": noise("new", 77),
}


@pytest.fixture
def two_versions(seekfs: Seekfs, ns: str, tmp_path: Path) -> str:
    """A namespace whose paths have other bytes and sizes in v2 than in v1."""
    for version, contents in ((1, V1), (2, V2)):
        directory = write_all(tmp_path / f"v{version}", contents)
        assert seekfs.done("publish", ns, str(directory), "--json").json["version"] == version
    return ns


def test_an_old_version_is_read_byte_for_byte_with_an_empty_cache(
    two_versions: str, start_daemon: DaemonFactory
) -> None:
    with Client(start_daemon().url) as client:
        assert_reads(client, two_versions, V1, version=1)
        assert_reads(client, two_versions, V2)
        assert_reads(client, two_versions, V2, version=2)
        # Both are cached now, under the same paths.
        assert_reads(client, two_versions, V1, version=1)
        with pytest.raises(DaemonError) as missing:
            client.blob(two_versions, "new.bin", version=1)
        assert missing.value.status == 404
        with pytest.raises(DaemonError) as above:
            client.blob(two_versions, "same.bin", version=3)
        assert above.value.status == 404


def test_pins_and_version_survive_head_moving(
    two_versions: str, seekfs: Seekfs, tmp_path: Path, start_daemon: DaemonFactory
) -> None:
    ns = two_versions
    pinned = start_daemon(manifest__pins={ns: 1}, manifest__head_ttl_sec=0)
    moving = start_daemon(manifest__head_ttl_sec=0)
    with Client(pinned.url) as of_pinned, Client(moving.url) as of_moving:
        assert_reads(of_pinned, ns, V1)
        assert_reads(of_moving, ns, V2)
        third = {**V2, "bytes.bin": noise("bytes of v3", 4 * MIB)}
        assert (
            seekfs.done("publish", ns, str(write_all(tmp_path / "v3", third)), "--json").json["version"] == 3
        )
        assert_reads(of_moving, ns, third)
        assert_reads(of_moving, ns, V2, version=2)
        assert_reads(of_moving, ns, V1, version=1)
        assert of_pinned.head(ns, "bytes.bin").version == 1
        assert_reads(of_pinned, ns, V1)
        assert_reads(of_pinned, ns, third, version=3)
    # A pin survives a restart too, with nothing cached.
    pinned.restart()
    with Client(pinned.url) as of_pinned:
        assert_reads(of_pinned, ns, V1)


def test_hash_asks_for_content_and_not_for_a_place(two_versions: str, start_daemon: DaemonFactory) -> None:
    with Client(start_daemon().url) as client:
        old = client.head(two_versions, "bytes.bin", version=1).hash
        new = client.head(two_versions, "bytes.bin").hash
        assert old != new
        assert client.blob(two_versions, "bytes.bin", hash=new) == V2["bytes.bin"]
        assert client.blob(two_versions, "bytes.bin", version=1, hash=old) == V1["bytes.bin"]
        with pytest.raises(DaemonError) as other:
            client.blob(two_versions, "bytes.bin", hash=old)
        assert (other.value.status, other.value.problem) == (404, "no-such-content")


def test_publishing_unchanged_data_uploads_nothing(
    two_versions: str, seekfs: Seekfs, tmp_path: Path, passthrough: PassThrough
) -> None:
    ns = two_versions
    passthrough.forget()
    ran = seekfs.done("publish", ns, str(tmp_path / "v2"), "--json")
    assert ran.json == {
        "ns": ns, "version": 2, "new": False, "changed": 0, "unchanged": len(V2),
        "uploaded_objects": 0, "uploaded_bytes": 0,
    }  # fmt: skip
    assert [each for each in passthrough.exchanges if each.method not in ("GET", "HEAD")] == []
    # The same content under other names is no upload either: a version, and nothing but its manifest.
    ran = seekfs.done("publish", ns, str(tmp_path / "v1"), "--as", "copy-of-v1", "--json")
    assert (ran.json["version"], ran.json["uploaded_bytes"]) == (3, 0)
    accepted = [each for each in passthrough.exchanges if each.status == 200]
    written = {each.key for each in accepted if each.method not in ("GET", "HEAD")}
    assert not [key for key in written if "/objects/" in key]
    assert f"namespaces/{ns}/manifests/v-3.json.gz" in written
    assert {each.method for each in passthrough.exchanges} <= {"GET", "HEAD", "PUT"}


def test_a_rollback_and_a_removal_are_versions_like_any_other(
    two_versions: str, seekfs: Seekfs, start_daemon: DaemonFactory
) -> None:
    ns = two_versions
    with Client(start_daemon(manifest__head_ttl_sec=0).url) as client:
        assert_reads(client, ns, V2)
        assert seekfs.done("manifest", "rollback", ns, "1", "--json").json["version"] == 3
        assert_reads(client, ns, V1)
        assert seekfs.done("manifest", "rm", ns, "bytes.bin", "--json").json["version"] == 4
        assert_reads(client, ns, {path: data for path, data in V1.items() if path != "bytes.bin"})
        with pytest.raises(DaemonError, match="no file 'bytes.bin' in version 4"):
            client.blob(ns, "bytes.bin")
        assert_reads(client, ns, V2, version=2)


# -- objects that were there before ------------------------------------------------------------------

BEFORE = {
    "plain.bin": noise("plain", 9 * MIB + 1),
    "with space/a b .bin": noise("space", 70 * KIB),
    "plus+plus.bin": noise("plus", 1000),
    "100%.bin": noise("percent", 1001),
    "looks%20escaped%2Fbut is not.bin": noise("escaped", 1002),
    "☃/é/日本.bin": noise("snowman", 1003),
    "quote'\"<&>?#;=@:,!*()[]{}|^`~$.bin": noise("marks", 1004),
    "empty": b"",
}


@pytest.fixture
def bucket_of_old(store: ObjectStore, ns: str) -> str:
    """A prefix of keys with objects under it that nobody published; their own namespace is ``ns``."""
    prefix = f"datasets/{ns}/2019 crawl/"
    for path, data in BEFORE.items():
        store.put(prefix + path, data)
    return prefix


def test_two_namespaces_one_over_objects_with_odd_keys(
    seekfs: Seekfs,
    ns: str,
    bucket_of_old: str,
    tmp_path: Path,
    passthrough: PassThrough,
    start_daemon: DaemonFactory,
) -> None:
    other = f"{ns}-b"
    published = {"plain.bin": noise("other plain", 5 * MIB), "☃/é/日本.bin": noise("other snowman", 10)}
    seekfs.done("publish", other, str(write_all(tmp_path / "other", published)))
    ran = seekfs.done("manifest", "gen", ns, "--from-prefix", bucket_of_old)
    assert ran.lines == [f"{ns} is at version 1: {len(BEFORE)} files changed"]

    # Described and not copied: nothing of them was written, and each was read once.
    data_keys = {bucket_of_old + path for path in BEFORE}
    written = {each.key for each in passthrough.exchanges if each.method not in ("GET", "HEAD")}
    assert not written & data_keys
    assert not [key for key in written if key.startswith(f"namespaces/{ns}/objects/")]
    for path, data in BEFORE.items():
        assert sum(each.bytes_sent for each in passthrough.gets(key=bucket_of_old + path)) == len(data)
    files = seekfs.done("manifest", "ls", ns, "--json").json["files"]
    assert {file["path"]: file["key"] for file in files} == {path: bucket_of_old + path for path in BEFORE}

    with Client(start_daemon().url) as client:
        assert_reads(client, ns, BEFORE)
        assert_reads(client, other, published)
        assert_reads(client, ns, BEFORE)
        for path, data in BEFORE.items():
            stat = client.test_head(ns, path)
            assert (stat["key"], stat["size"]) == (bucket_of_old + path, len(data))
    assert seekfs.done("manifest", "verify", ns).err.endswith("all as published\n")


def listing_with(keys: Mapping[str, int]) -> Answer:
    """What a store answers to a listing of these keys and sizes (ListObjectsV2)."""
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-31T12:00:00.000Z</LastModified>"
        f"<ETag>&quot;5d41402abc4b2a76b9719d911017c592&quot;</ETag><Size>{size}</Size></Contents>"
        for key, size in keys.items()
    )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    )
    return Answer(status=200, headers={"Content-Type": "application/xml"}, body=body.encode())


def test_keys_that_cannot_be_a_path_are_listed_and_left_out(
    seekfs: Seekfs, ns: str, store: ObjectStore, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    prefix = f"datasets/{ns}/"
    store.put(f"{prefix}good.bin", b"hello")
    # SeaweedFS lists no key with an empty segment, S3 does; so the pass-through lists them.
    bad = [f"{prefix}/leading", f"{prefix}a//b", f"{prefix}directory/"]
    listed = listing_with(dict.fromkeys([*bad, f"{prefix}good.bin"], 5))
    passthrough.when(lambda each: "list-type" in each.query, Plan(answer=listed))

    ran = seekfs("manifest", "gen", ns, "--from-prefix", prefix, "--json")
    assert ran.status == 1
    assert [each["key"] for each in ran.json["left_out"]] == bad
    for key in bad:
        assert f"left out {key!r}: " in ran.err
    assert "3 keys left out; --skip-invalid" in ran.err
    # What could be published was.
    assert ran.json["version"] == 1
    ran = seekfs.done("manifest", "gen", ns, "--from-prefix", prefix, "--skip-invalid", "--json")
    assert (ran.json["new"], len(ran.json["left_out"])) == (False, 3)
    with Client(start_daemon().url) as client:
        assert client.blob(ns, "good.bin") == b"hello"


def test_a_key_with_a_control_character_is_left_out_as_the_store_lists_it(
    seekfs: Seekfs, ns: str, store: ObjectStore
) -> None:
    prefix = f"datasets/{ns}/"
    for name in ("good.bin", "bell\x07.bin"):
        store.put(prefix + name, b"hello")
    ran = seekfs("manifest", "gen", ns, "--from-prefix", prefix, "--json")
    assert ran.status == 1
    assert [each["key"] for each in ran.json["left_out"]] == [f"{prefix}bell\x07.bin"]
    assert "U+0007" in ran.json["left_out"][0]["reason"]
    assert "\x07" not in ran.err


def test_the_daemon_of_one_bucket_serves_many_namespaces_apart(
    seekfs: Seekfs, ns: str, tmp_path: Path, start_daemon: DaemonFactory
) -> None:
    """The same paths and, in one case, the same bytes: nothing of one is ever the other's."""
    names = [f"{ns}-{number}" for number in range(3)]
    contents = [{"a.bin": noise(f"{number % 2}", 2 * MIB)} for number in range(3)]
    for name, content in zip(names, contents, strict=True):
        seekfs.done("publish", name, str(write_all(tmp_path / name, content)))
    daemon: Daemon = start_daemon()
    with Client(daemon.url) as client:
        for _ in range(2):
            for name, content in zip(names, contents, strict=True):
                assert_reads(client, name, content)
        advised = {entry["ns"]: entry for entry in client.advisor()["namespaces"]}
        for name in names:
            assert (advised[name]["version"], advised[name]["files"]) == (1, 1)
            assert advised[name]["gets_made"] == 1
