"""The index of pages: never full, never a crash, and gone entries stay gone."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from seekfs_core.pages import PageKey
from seekfs_core.restoring import IndexEntry
from seekfs_core.segment_layout import shares_of
from seekfs_io.pages.index import IndexUnusable, PageIndex, remove_index

MIB = 1 << 20


def entry(n: int) -> IndexEntry:
    return IndexEntry(1 + n % 7, 4096 * n, 1 + n, n)


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "index", MIB)
    keys = [PageKey(random.Random(n).randbytes(36)) for n in range(300)]
    for n, key in enumerate(keys):
        index.put(key, entry(n))
    index.put(keys[0], entry(1000))
    index.close()
    index = PageIndex(tmp_path / "index", MIB)
    expected = {key: entry(n) for n, key in enumerate(keys)} | {keys[0]: entry(1000)}
    assert dict(index) == expected
    assert [key for key, _ in index] == sorted(expected)
    index.close()


def test_only_entries_that_still_name_the_place_are_dropped(tmp_path: Path) -> None:
    index = PageIndex(tmp_path / "index", MIB)
    keys = [PageKey(n.to_bytes(36, "big")) for n in range(100)]
    index.put_all((key, entry(n)) for n, key in enumerate(keys))
    index.put(keys[7], IndexEntry(99, 0, 1, 0))
    index.drop([(key, entry(n).segment, entry(n).offset) for n, key in enumerate(keys)])
    index.drop([(keys[8], 1, 0)])
    assert dict(index) == {keys[7]: IndexEntry(99, 0, 1, 0)}
    index.close()


@pytest.mark.parametrize("share", [MIB, 4 * MIB])
@pytest.mark.parametrize("one_file", [True, False], ids=["keys of one file", "keys of many files"])
def test_as_many_entries_as_the_core_allows_always_fit(tmp_path: Path, share: int, one_file: bool) -> None:
    """Filled to the last entry and turned over several times, in bulk and one by one, in any order."""
    shares = shares_of(share * 128)
    assert shares.index_bytes == share
    index = PageIndex(tmp_path / "index", share)
    chance = random.Random(5)
    held: list[tuple[PageKey, IndexEntry]] = []
    for n in range(5 * shares.entries_max):
        prefix = bytes(32) if one_file else chance.randbytes(32)
        key = PageKey(prefix + n.to_bytes(4, "big"))
        if len(held) == shares.entries_max:
            count = chance.choice((1, 1, 300, shares.entries_max // 2))
            chance.shuffle(held)
            gone, held = held[:count], held[count:]
            index.drop([(k, e.segment, e.offset) for k, e in gone])
        index.put(key, entry(n))
        held.append((key, entry(n)))
    assert dict(index) == dict(held)
    index.close()
    assert (tmp_path / "index" / "data.mdb").stat().st_size <= share


def test_an_index_that_is_too_large_or_too_short_or_no_index_is_unusable(tmp_path: Path) -> None:
    path = tmp_path / "index"
    index = PageIndex(path, 4 * MIB)
    index.put_all((PageKey(n.to_bytes(36, "big")), entry(n)) for n in range(1000))
    index.close()
    with pytest.raises(IndexUnusable, match="larger than its share"):
        PageIndex(path, 64 << 10)
    os.truncate(path / "data.mdb", (path / "data.mdb").stat().st_size - 4096 * 8)
    with pytest.raises(IndexUnusable, match="cut short"):
        PageIndex(path, 4 * MIB)
    (path / "data.mdb").write_bytes(os.urandom(65536))
    with pytest.raises(IndexUnusable):
        PageIndex(path, 4 * MIB)
    remove_index(path)
    remove_index(path)
    index = PageIndex(path, 4 * MIB)
    assert not list(index)
    index.close()
