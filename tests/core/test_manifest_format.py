"""The format of manifests: exact bytes, every check with the place it names, and whatever a network may
send."""

from __future__ import annotations

import contextlib
import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core import names
from seekfs_core.errors import ManifestInvalid
from seekfs_core.manifest import FileEntry, Manifest, pack_crcs
from seekfs_core.manifest_format import (
    compress_manifest,
    decode_manifest,
    encode_manifest,
    pack_manifest,
)
from tests.core.test_manifest import KIB, UNSORTED_PATHS, entry, manifest
from tests.support.broken_manifests import CHANGED, UNREADABLE, VERSION, Changed, Spoilt, tree

MIB = 1024 * KIB


def decode(stored: bytes, *, version: int = 1, max_bytes: int = MIB) -> Manifest:
    return decode_manifest(stored, ns="dev", version=version, max_bytes=max_bytes)


def decode_tree(tree: dict[str, Any]) -> Manifest:
    return decode(json.dumps(tree).encode(), version=VERSION)


GOLDEN = (
    b'{"version":42,"created_at":1712345678,"parents":[41],"tombstones":["old","z\xe2\x98\x83"],'
    b'"publication_id":"0badcafe","files":['
    b'{"path":"a","size":0,"hash":"sha256:0000000000000000000000000000000000000000000000000000000000000000",'
    b'"page_table":[],"storage":{"key":"namespaces/dev/files/a","etag":null,"sse":null}},'
    b'{"path":"\xe2\x98\x83","size":65537,'
    b'"hash":"sha256:abababababababababababababababababababababababababababababababab",'
    b'"page_table":[{"page_id":0,"off":0,"len":65536,"crc32c":4294967295},'
    b'{"page_id":1,"off":65536,"len":1,"crc32c":0}],'
    b'"storage":{"key":"old/a b//c","etag":"\\"e\\"","sse":"AES256"}}]}'
)


def golden() -> Manifest:
    snowman = FileEntry(
        path="☃",
        size=65537,
        sha256=b"\xab" * 32,
        page_size_bytes=65536,
        crcs=pack_crcs([0xFFFFFFFF, 0]),
        storage_key="old/a b//c",
        storage_etag='"e"',
        storage_sse="AES256",
    )
    empty = FileEntry(
        path="a",
        size=0,
        sha256=bytes(32),
        page_size_bytes=0,
        crcs=pack_crcs([]),
        storage_key="namespaces/dev/files/a",
    )
    return Manifest(
        ns="dev",
        version=42,
        files={"☃": snowman, "a": empty},
        created_at=1712345678,
        parents=(41,),
        tombstones=("z☃", "old"),
        publication_id="0badcafe",
    )


def test_the_exact_bytes_of_a_manifest() -> None:
    """Other programs read these: a change here is a new version of the format."""
    assert encode_manifest(golden()) == GOLDEN
    assert encode_manifest(Manifest(ns="dev", version=1, files={})) == (
        b'{"version":1,"created_at":0,"parents":[],"tombstones":[],"publication_id":"","files":[]}'
    )


def test_the_exact_bytes_are_read_back() -> None:
    read = decode(GOLDEN, version=42)
    assert encode_manifest(read) == GOLDEN
    assert list(read.files) == ["a", "☃"]
    assert read.files == golden().files
    assert read.file("☃").hash_text == "sha256:" + "ab" * 32
    assert read.parents == (41,)
    assert read.publication_id == "0badcafe"
    assert read.total_bytes == 65537


def test_gzip_has_no_name_and_no_time_and_is_read_by_others() -> None:
    stored = compress_manifest(GOLDEN)
    assert stored[:4] == b"\x1f\x8b\x08\x00"
    assert stored[4:8] == b"\0\0\0\0"
    assert stored == compress_manifest(GOLDEN)
    assert gzip.decompress(stored) == GOLDEN
    assert decode(gzip.compress(GOLDEN), version=42) == decode(GOLDEN, version=42)


def test_many_files_are_encoded_in_batches_without_a_seam() -> None:
    many = manifest(*(entry(f"{i:05}", i % 7) for i in range(1024 * 2)))
    assert len(json.loads(encode_manifest(many))["files"]) == 2048
    assert decode(encode_manifest(many)) == many
    one_more = manifest(*many.files.values(), entry("z", 1))
    assert decode(encode_manifest(one_more)) == one_more


def test_files_are_sorted_by_bytes_however_they_were_written() -> None:
    held = manifest(*(entry(path, 1) for path in UNSORTED_PATHS))
    unsorted = json.loads(encode_manifest(held))
    unsorted["files"].reverse()
    assert decode(json.dumps(unsorted).encode()) == held


def test_unknown_fields_are_ignored_everywhere() -> None:
    broken = tree()
    broken["new"] = {"deep": [1, {"x": None}]}
    broken["files"][2]["new"] = 1.5
    broken["files"][2]["storage"]["new"] = "x"
    broken["files"][2]["page_table"][0]["new"] = True
    assert decode_tree(broken) == decode_tree(tree())


def test_fields_that_other_writers_leave_out() -> None:
    bare = tree()
    for name in ("created_at", "parents", "tombstones", "publication_id"):
        del bare[name]
    for file in bare["files"]:
        file["storage"] = {"key": "k"}
    read = decode_tree(bare)
    assert (read.created_at, read.parents, read.tombstones, read.publication_id) == (0, (), (), "")
    assert read.file("a").storage_etag is None


@pytest.mark.parametrize("fault", CHANGED, ids=lambda fault: fault.name)
def test_what_fails_a_check_is_named_with_its_place(fault: Changed) -> None:
    broken = tree()
    fault.apply(broken)
    with pytest.raises(ManifestInvalid) as caught:
        decode_tree(broken)
    error = caught.value
    assert error.context == {"ns": "dev", "version": VERSION, "where": fault.where}
    assert f"manifest v-{VERSION} of namespace 'dev': {fault.where}: " in error.detail
    assert any(part in error.detail.lower() for part in fault.what.lower().split("|")), error.detail


@pytest.mark.parametrize("size", [1, 4095, 64 * KIB, 10 * MIB, 64 * MIB])
def test_a_file_of_one_page_may_have_any_size_up_to_the_largest_page(size: int) -> None:
    read = decode(encode_manifest(manifest(entry("a", size, 64 * MIB))))
    assert read.file("a").page_size_bytes == size


def test_a_hash_in_capitals_is_the_same_hash() -> None:
    broken = tree()
    broken["files"][1]["hash"] = "sha256:" + "AB" * 32
    assert decode_tree(broken).file("b").hash_text == "sha256:" + "ab" * 32


@pytest.mark.parametrize("fault", UNREADABLE, ids=lambda fault: fault.name)
def test_what_is_no_manifest_at_all(fault: Spoilt) -> None:
    stored = fault.spoil(encode_manifest(decode_tree(tree())))
    for form in (stored, compress_manifest(stored)):
        with pytest.raises(ManifestInvalid) as caught:
            decode(form, version=VERSION)
        assert caught.value.context["where"] == fault.where
        assert fault.what in caught.value.detail.lower()
        assert "jSON" not in caught.value.detail


def test_plain_and_gzip_cut_at_every_byte() -> None:
    for stored in (GOLDEN, compress_manifest(GOLDEN)):
        for length in range(len(stored)):
            with pytest.raises(ManifestInvalid):
                decode(stored[:length], version=42)


def test_every_byte_of_a_gzip_member_flipped() -> None:
    """Some flips are harmless (the header's time, padding); none gives another manifest."""
    stored = compress_manifest(GOLDEN)
    wanted = decode(GOLDEN, version=42)
    for index in range(len(stored)):
        flipped = bytearray(stored)
        flipped[index] ^= 0x10
        with contextlib.suppress(ManifestInvalid):
            assert decode(bytes(flipped), version=42) == wanted


@pytest.mark.parametrize("junk", [b"x", b"\0", compress_manifest(b""), compress_manifest(GOLDEN)])
def test_anything_after_the_member_is_refused(junk: bytes) -> None:
    with pytest.raises(ManifestInvalid, match="follow the gzip member"):
        decode(compress_manifest(GOLDEN) + junk, version=42)


def test_the_limit_is_exact_and_the_same_for_both_forms() -> None:
    for stored in (GOLDEN, compress_manifest(GOLDEN)):
        assert decode(stored, version=42, max_bytes=len(GOLDEN)).version == 42
        with pytest.raises(ManifestInvalid, match=r"manifest\.max_mib"):
            decode(stored, version=42, max_bytes=len(GOLDEN) - 1)


def test_what_would_be_refused_is_not_packed() -> None:
    read = decode(GOLDEN, version=42)
    stored = pack_manifest(read, max_bytes=len(GOLDEN))
    assert stored == compress_manifest(GOLDEN)
    with pytest.raises(ManifestInvalid, match=r"would have .* at most .* \(manifest\.max_mib\)") as raised:
        pack_manifest(read, max_bytes=len(GOLDEN) - 1)
    assert raised.value.context["version"] == 42


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b" " * MIB) for _ in range(256)) + packer.flush()
    assert len(bomb) < 512 * KIB
    tracemalloc.start()
    try:
        with pytest.raises(ManifestInvalid, match="more than 1048576 bytes uncompressed"):
            decode(bomb, max_bytes=MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * MIB


def test_an_error_is_short_whatever_it_is_about() -> None:
    broken = tree()
    broken["files"][1]["path"] = "x" * 500_000
    with pytest.raises(ManifestInvalid) as caught:
        decode_tree(broken)
    assert len(caught.value.detail) < 500


path_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda p: names.path_fault(p) is None
)


@st.composite
def entries(draw: st.DrawFn) -> FileEntry:
    size = draw(st.integers(0, 400 * KIB))
    page = draw(st.sampled_from([64 * KIB, 68 * KIB, 128 * KIB]))
    count = -(-size // page)
    return FileEntry(
        path=draw(path_text),
        size=size,
        sha256=draw(st.binary(min_size=32, max_size=32)),
        page_size_bytes=min(size, page),
        crcs=pack_crcs(draw(st.lists(st.integers(0, 2**32 - 1), min_size=count, max_size=count))),
        storage_key=draw(path_text),
        storage_etag=draw(st.none() | st.just('"x"')),
        storage_sse=draw(st.none() | st.text(st.characters(codec="utf-8"), max_size=5)),
    )


@settings(deadline=None)
@given(
    st.lists(entries(), max_size=6),
    st.integers(1, names.VERSION_MAX),
    st.lists(path_text, max_size=3, unique=True),
    st.text(st.characters(codec="utf-8"), max_size=5),
)
def test_what_is_written_is_read_back(
    files: list[FileEntry], version: int, tombstones: list[str], publication_id: str
) -> None:
    written = Manifest(
        ns="dev",
        version=version,
        files={f.path: f for f in files},
        created_at=1,
        parents=(version - 1,),
        tombstones=tuple(sorted(tombstones)),
        publication_id=publication_id,
    )
    plain = encode_manifest(written)
    assert decode(plain, version=version) == written
    assert encode_manifest(decode(compress_manifest(plain), version=version)) == plain
    json.loads(plain)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=100).map(compress_manifest))
def test_no_bytes_give_anything_but_a_manifest_or_a_refusal(stored: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        decode(stored)
