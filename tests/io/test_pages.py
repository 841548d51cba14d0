"""The L2 and the shelf that a configuration asks for, and what it is told when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from crc32c import crc32c

from seekfs_core.pages import PageKey
from seekfs_io.config import Config, ConfigError, load_config
from seekfs_io.pages import open_page_store, open_shelf
from seekfs_io.pages.memory import MemoryPageStore
from seekfs_io.pages.segmentstore import SegmentStore
from seekfs_io.pages.shelf import ManifestShelf, MemoryShelf

GIB, MIB = 1 << 30, 1 << 20


def config(path: Path, **keys: object) -> Config:
    overrides: dict[str, object] = {"cache.l2.segment_path": str(path), "cache.l2_ssd_gib": 64 * MIB / GIB}
    overrides |= {name.replace("__", "."): value for name, value in keys.items()}
    return load_config(overrides=overrides, environ={})


@pytest.mark.parametrize("shelf_first", [True, False])
def test_pages_and_shelf_share_a_directory_whichever_is_opened_first(
    tmp_path: Path, shelf_first: bool
) -> None:
    wanted = config(tmp_path / "l2")
    for _ in range(2):
        if shelf_first:
            shelf, store = open_shelf(wanted), open_page_store(wanted)
        else:
            store, shelf = open_page_store(wanted), open_shelf(wanted)
        assert isinstance(store, SegmentStore)
        assert isinstance(shelf, ManifestShelf)
        assert store.store(PageKey(bytes(36)), memoryview(b"page"), crc32c(b"page"))
        shelf.keep("dev", 1, b"manifest")
        shelf.keep_head("dev", 1)
        assert store.statistics().bytes_ceiling == 64 * MIB
        with pytest.raises(ConfigError, match="in use already"):
            open_page_store(wanted)
        with pytest.raises(ConfigError, match="in use already"):
            open_shelf(wanted)
        store.close()
        shelf.close()
    store, shelf = open_page_store(wanted), open_shelf(wanted)
    assert PageKey(bytes(36)) in store
    assert shelf.load("dev", 1) == b"manifest"
    assert shelf.heads() == {"dev": 1}
    store.close()
    shelf.close()


def test_the_memory_backend_needs_no_directory(tmp_path: Path) -> None:
    wanted = config(tmp_path / "l2", cache__l2__backend="mem", cache__l1_memory_gib=0.0625)
    store, shelf = open_page_store(wanted), open_shelf(wanted)
    assert isinstance(store, MemoryPageStore)
    assert isinstance(shelf, MemoryShelf)
    assert store.statistics().bytes_ceiling == 30 * MIB
    assert not (tmp_path / "l2").exists()


def test_a_ceiling_without_room_for_a_page_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        open_page_store(config(tmp_path / "l2", cache__l2_ssd_gib=9 * MIB / GIB))
    (problem,) = refused.value.problems
    assert problem.where == "cache.l2_ssd_gib"
    assert "no room for one page of 8 MiB" in problem.what
    assert "0.01 GiB would do" in problem.what
    assert not (tmp_path / "l2").exists()
    store = open_page_store(config(tmp_path / "l2", cache__l2_ssd_gib=0.01))
    page = bytes(8 * MIB)
    assert store.store(PageKey(bytes(36)), memoryview(page), crc32c(page))
    store.close()


def test_memory_without_room_for_a_page_is_refused_in_a_sentence(tmp_path: Path) -> None:
    wanted = config(tmp_path, cache__l2__backend="mem", cache__l1_memory_gib=16 * MIB / GIB)
    with pytest.raises(ConfigError, match="no room for one page of 8 MiB"):
        open_page_store(wanted)


def test_a_directory_of_somebody_else_is_a_problem_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    for open_it in (open_page_store, open_shelf):
        with pytest.raises(ConfigError) as refused:
            open_it(config(tmp_path))
        (problem,) = refused.value.problems
        assert problem.where == "cache.l2.segment_path"
        assert "thesis.tex" in problem.what
