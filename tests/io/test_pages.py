"""The L2 and the shelf that a configuration asks for, and what it is told when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
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


@pytest.mark.parametrize("backend", ["segmentstore", "mem"])
def test_a_ceiling_that_is_not_refused_has_room_for_a_page(tmp_path: Path, backend: str) -> None:
    keys: dict[str, object] = {"cache__l2__backend": backend, "cache__slab_size_mib": 0.25}
    with pytest.raises(ConfigError) as refused:
        config(tmp_path / "l2", cache__l2_ssd_gib=0.0001, cache__l1_memory_gib=0.0001, **keys)
    allowed = {problem.where: problem.what.split()[-4] for problem in refused.value.problems}
    assert set(allowed) == {"cache.l1_memory_gib"} | (
        {"cache.l2_ssd_gib"} if backend == "segmentstore" else set()
    )
    store = open_page_store(config(tmp_path / "l2", **keys, **allowed))
    page = bytes(256 << 10)
    assert store.store(PageKey(bytes(36)), memoryview(page), crc32c(page))
    store.close()


def test_a_configuration_that_was_made_by_hand_is_refused_for_its_ceilings_too(tmp_path: Path) -> None:
    wanted = config(tmp_path / "l2")
    with pytest.raises(ConfigError, match=r"cache\.l2_ssd_gib: 0\.008 GiB has no room for one page"):
        open_page_store(evolve(wanted, cache=evolve(wanted.cache, l2_ssd_gib=0.008)))
    assert not (tmp_path / "l2").exists()


def test_a_directory_of_somebody_else_is_a_problem_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    for open_it in (open_page_store, open_shelf):
        with pytest.raises(ConfigError) as refused:
            open_it(config(tmp_path))
        (problem,) = refused.value.problems
        assert problem.where == "cache.l2.segment_path"
        assert "thesis.tex" in problem.what
