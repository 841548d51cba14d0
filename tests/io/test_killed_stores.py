"""A process that works on a cache directory is killed at each call that changes the disk, one after the
other.

What must hold of the directory then, whichever call it was: the pages that had been published and not given
up are hits, no byte is wrong, no space is lost, the next process goes on as if nothing had been, and what is
not seekfs's is as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import frozen
from crc32c import crc32c

from seekfs_io.pages.directory import claim
from seekfs_io.pages.segmentstore import SegmentStore
from seekfs_io.pages.shelf import ManifestShelf
from tests.io.dying_store import (
    CEILING,
    FULL,
    HALVED,
    LOWER_CEILING,
    PAGE,
    SCRIPTS,
    SHELF_CEILING,
    data,
    fill,
    held,
    key,
    opened,
    put,
)
from tests.support.cache_audit import audit

REPOSITORY: Final = Path(__file__).parents[2]
FOREIGN: Final = "lost+found/years-of-work"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full")
    plant(path)
    fill(path)
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a file system of its own."""
    path = tmp_path_factory.mktemp("bare")
    plant(path)
    return path


def plant(path: Path) -> None:
    (path / FOREIGN).parent.mkdir()
    (path / FOREIGN).write_bytes(b"years of work")
    os.utime(path / FOREIGN, ns=(1, 1_234_567_890))


@frozen(kw_only=True)
class Run:
    """What came of one run. ``states``: the pages held after each step that was finished."""

    directory: Path
    ended: int
    calls: list[str] | None
    states: list[set[int]]


class Victims:
    """Runs of one script on copies of one template, each in a process of its own."""

    def __init__(self, script: str, template: Path, work: Path) -> None:
        self._work = work
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.io.dying_store", script, str(template)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, step: int, *, is_half: bool) -> Run:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        directory = self._work / f"{step}-{is_half:d}"
        self._process.stdin.write(f"{step} {is_half:d} {directory}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        states = [set(state) for state in answer["states"]]
        return Run(directory=directory, ended=answer["ended"], calls=answer["calls"], states=states)

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def victims(request: pytest.FixtureRequest, bare: Path, full: Path, tmp_path: Path) -> Iterator[Victims]:
    script = request.node.callspec.params["script"]
    started = Victims(script, bare if script == "make" else full, tmp_path)
    yield started
    started.close()


def read(store: SegmentStore, n: int) -> bytes | None:
    """As a reader does it: None on a miss, and for a page that is found to be wrong."""
    lease = store.lease(key(n), PAGE, crc32c(data(n)))
    if lease is None:
        return None
    page = bytearray(PAGE)
    try:
        if not lease.readinto(memoryview(page), 0):
            return None
        if crc32c(page) != lease.crc32c:
            lease.condemn()
            return None
        lease.mark_verified()
        return bytes(page)
    finally:
        lease.release()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_kill_at_any_call_that_changes_the_disk(script: str, victims: Victims, full: Path) -> None:
    whole = victims.run(0, is_half=False)
    assert whole.ended == 0
    assert whole.calls is not None
    start = {"make": set(), "empty": set()}.get(script, set(range(FULL)) & set(indexed(full)))
    ceiling = LOWER_CEILING if script == "shrink" else CEILING
    deaths = [(step, False) for step in range(1, len(whole.calls) + 1)]
    deaths += [(step, True) for step, name in enumerate(whole.calls, 1) if name in HALVED]
    print(f"{script}: {len(deaths)} kills, at {', '.join(sorted(set(whole.calls)))}")
    for step, is_half in deaths:
        killed = victims.run(step, is_half=is_half)
        at = f"{script}: killed at call {step}, {whole.calls[step - 1]}{' half done' if is_half else ''}"
        assert (killed.ended, killed.states) == (-9, whole.states[: len(killed.states)]), at
        before = killed.states[-1] if killed.states else start
        after = whole.states[len(killed.states)] if len(killed.states) < len(whole.states) else before
        try:
            check_in_another_boot(killed.directory, ceiling)
            check(killed.directory, ceiling, before, after)
        except Exception as error:
            raise AssertionError(at) from error
        shutil.rmtree(killed.directory)


def indexed(path: Path) -> list[int]:
    return [int.from_bytes(each, "big") for each in audit(path, is_closed=True).pages]


def check(path: Path, ceiling: int, before: set[int], after: set[int]) -> None:
    """``before`` and ``after`` are the pages held around the step that was being done."""
    check_shelf(path)
    with opened(path, ceiling) as store:
        hits = set(held(store))
        assert before & after <= hits <= before | after
        wrong = [n for n in hits if read(store, n) != data(n)]
        assert wrong == []
        statistics = store.statistics()
        assert (statistics.faults, statistics.crc_failures) == (0, 0)
    contents = audit(path, is_closed=True)
    assert {int.from_bytes(each, "big") for each in contents.pages} == hits
    check_space(path, ceiling)
    with opened(path, ceiling) as store:
        assert set(held(store)) == hits
        for n in range(FULL + 100, FULL + 140):
            for _ in range(2):
                put(store, n)
        newest = [n for n in range(FULL + 130, FULL + 140) if read(store, n) == data(n)]
        assert len(newest) == 10
    check_space(path, ceiling)


def check_space(path: Path, ceiling: int) -> None:
    contents = audit(path, is_closed=True)
    assert contents.lost == frozenset()
    assert contents.reached_bytes == contents.disk_bytes <= ceiling
    # What is not here any more would be found, too: a copy of the template holds it with its time.
    foreign = path / FOREIGN
    assert (foreign.read_bytes(), foreign.stat().st_mtime_ns) == (b"years of work", 1_234_567_890)


def check_shelf(path: Path) -> None:
    """Whatever is on it is whole, and what HEAD is known to be can be served."""
    claimed = claim(path)
    claimed.use("shelf")
    shelf = ManifestShelf(claimed.shelf_path, SHELF_CEILING, bucket=b"bucket", claimed=claimed)
    try:
        version = shelf.heads().get("dev")
        if version is not None:
            assert shelf.load("dev", version) == bytes([version]) * 45_000
        for other in range(1, 6):
            assert shelf.load("dev", other) in (None, bytes([other]) * 45_000)
    finally:
        shelf.close()


def check_in_another_boot(path: Path, ceiling: int) -> None:
    """The same death, and then the machine starts again: the records are all there is to go by, and what one
    of them lacks is found when it is read."""
    copy = path.with_name(f"{path.name}-booted")
    shutil.copytree(path, copy)
    check_shelf(copy)
    if (copy / "seekfs.boot").exists():
        (copy / "seekfs.boot").write_bytes(b"a boot before this one")
    with opened(copy, ceiling) as store:
        wrong = [n for n in held(store) if read(store, n) not in (None, data(n))]
        assert wrong == []
        assert store.statistics().crc_failures <= 1
    with opened(copy, ceiling):
        pass  # A segment that is left with nothing in it goes at the next start.
    check_space(copy, ceiling)
    shutil.rmtree(copy)
