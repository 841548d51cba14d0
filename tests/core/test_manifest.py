"""The list of a version's files: what is asked of it and of an entry."""

from __future__ import annotations

import pickle

import pytest

from seekfs_core import names
from seekfs_core.errors import NoSuchContent, NoSuchFile
from seekfs_core.manifest import FileEntry, Manifest, file_entry, pack_crcs
from seekfs_core.pages import file_key

KIB = 1024

UNSORTED_PATHS = ("b", "a/b", "a", "a.b", "é", "e\u0301", "\U0001f600", "\uffee", "Z")


def entry(path: str, size: int, page_size_bytes: int = 64 * KIB, fill: int = 1) -> FileEntry:
    return file_entry(
        path=path,
        size=size,
        sha256=bytes([fill]) * 32,
        page_size_bytes=page_size_bytes,
        crcs=pack_crcs(range(-(-size // page_size_bytes))),
        storage_key=names.file_object_key("dev", path),
        storage_etag='"e"',
    )


def manifest(*entries: FileEntry, version: int = 1) -> Manifest:
    return Manifest(ns="dev", version=version, files={e.path: e for e in entries})


def test_pages_of_a_file() -> None:
    file = entry("a", 150 * KIB)
    assert file.page_count == 3
    assert [file.page_extent(i) for i in range(3)] == [
        (0, 65536),
        (65536, 131072),
        (131072, 153600),
    ]
    assert file.page_crc32c(2) == 2
    for wrong in (-1, 3):
        with pytest.raises(IndexError):
            file.page_extent(wrong)
        with pytest.raises(IndexError):
            file.page_crc32c(wrong)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(NoSuchFile, match="'nope' in version 1") as caught:
        manifest(entry("a", 1)).file("nope")
    assert caught.value.context["path"] == "nope"


def test_a_file_of_exactly_this_content() -> None:
    held = manifest(entry("a", 1))
    assert held.file("a", bytes([1]) * 32) is held.file("a")
    with pytest.raises(NoSuchContent, match=f"version 1 is sha256:{'01' * 32}, not sha256:0202") as caught:
        held.file("a", bytes([2]) * 32)
    assert caught.value.context["hash"] == "sha256:" + "01" * 32
    with pytest.raises(NoSuchFile):
        held.file("nope", bytes([1]) * 32)


def test_the_file_key_is_that_of_the_content() -> None:
    held = manifest(entry("a", 1))
    key = held.file_key(held.file("a"))
    file = held.file("a")
    assert key == file_key("dev", "a", bytes([1]) * 32, file.page_size_bytes, file.crcs)
    assert held.file_key(held.file("a")) is key


def test_files_are_sorted_by_bytes_however_they_come() -> None:
    held = manifest(*(entry(path, 1) for path in UNSORTED_PATHS))
    assert list(held.files) == sorted(UNSORTED_PATHS, key=lambda path: path.encode())


def test_an_entry_is_frozen_hashable_and_pickles() -> None:
    one = entry("a", 150 * KIB)
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(entry("a", 150 * KIB))
    with pytest.raises(AttributeError):
        one.path = "b"  # type: ignore[misc]
    assert one.same_content(entry("b", 150 * KIB, 128 * KIB))
    assert not one.same_content(entry("a", 150 * KIB, fill=2))


@pytest.mark.parametrize(
    ("size", "page_size_bytes"),
    [(0, 0), (1, 1), (64 * KIB, 64 * KIB), (64 * KIB + 1, 64 * KIB), (150 * KIB, 64 * KIB)],
)
def test_a_file_of_one_page_has_pages_of_its_own_size(size: int, page_size_bytes: int) -> None:
    assert entry("a", size, page_size_bytes=64 * KIB).page_size_bytes == page_size_bytes
