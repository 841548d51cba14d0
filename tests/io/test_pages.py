"""The L2 and the shelf that a configuration asks for, and what it is told when it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import evolve
from crc32c import crc32c

from seekfs_core.pages import PageKey
from seekfs_core.plan import plan_read
from seekfs_io.config import Config, ConfigError, S3Config, load_config
from seekfs_io.dataplane import DataPlane
from seekfs_io.objects import open_store
from seekfs_io.pages import identity_of, open_page_store, open_shelf
from seekfs_io.pages.memory import MemoryPageStore
from seekfs_io.pages.segmentstore import SegmentStore
from seekfs_io.pages.shelf import ManifestShelf, MemoryShelf
from tests.support.dataset import File, write_dataset

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


def test_a_relative_root_is_another_bucket_in_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found.append(identity_of(S3Config(engine="file")))
    assert found[0] != found[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("b")
    for root in (
        "b/.seekfs/store",
        "./b/.seekfs/store/",
        "link/.seekfs/store",
        f"file://{tmp_path}/b/.seekfs/store",
    ):
        assert identity_of(S3Config(engine="file", endpoint=root)) == found[1]


def test_one_directory_is_never_answered_for_with_what_another_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine ``file`` has a relative root unless it is given one, and both may share a cache."""
    answers = []
    for name, versions in (("a", 2), ("b", 1), ("a", 0)):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        wanted = config(tmp_path / "l2", s3__engine="file", cache__slab_size_mib=1 / 16)
        store = open_store(wanted.s3)
        for version in range(1, versions + 1):
            content = f"{name}'s version {version}".encode()
            write_dataset(store, "dev", {"f.bin": File(content, key=f"{version}.bin")}, version)
        plane = DataPlane(wanted)
        resolution = plane.resolve("dev")
        with plane.read(plan_read(resolution.manifest, [("f.bin", 0, 13)], clip=False)) as stream:
            answers.append((resolution.version, b"".join(bytes(view) for view in stream)))
        plane.close(5)
    assert answers == [(2, b"a's version 2"), (1, b"b's version 1"), (2, b"a's version 2")]


def test_a_root_whose_name_is_no_utf8_has_an_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / os.fsdecode(b"\xff")
    directory.mkdir()
    monkeypatch.chdir(directory)
    assert identity_of(S3Config(engine="file")) != identity_of(S3Config(engine="file", endpoint="/data"))


def test_servers_that_may_have_another_bucket_of_that_name_are_told_apart() -> None:
    configs = [
        S3Config(),
        S3Config(region="cn-north-1"),
        S3Config(endpoint="http://store:9000"),
        S3Config(endpoint="http://store:9000", bucket="other"),
        S3Config(engine="file", endpoint="/http://store:9000"),
    ]
    assert len({identity_of(config) for config in configs}) == len(configs)
    same = S3Config(engine="crt", endpoint="HTTP://Store:9000/", region="eu-west-1")
    assert identity_of(same) == identity_of(configs[2])


def test_a_directory_of_somebody_else_is_a_problem_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    for open_it in (open_page_store, open_shelf):
        with pytest.raises(ConfigError) as refused:
            open_it(config(tmp_path))
        (problem,) = refused.value.problems
        assert problem.where == "cache.l2.segment_path"
        assert "thesis.tex" in problem.what
