"""``kill -9``, again and again, at random moments of filling and reclaiming; and directories that are not to
be used as they are.

What a process that was killed had published is read out of the index that it left, by another program
(``tests.support.cache_audit``), and has to be served without a request for it. At which call a kill comes is
not left to chance in ``tests/io/test_killed_stores.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from attrs import define, field

from seekfs_core.pages import file_key, page_key
from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.e2e.http_wire import Answer, Wire, get_whole_or_cut
from tests.e2e.serving import DaemonMaker
from tests.support.cache_audit import audit
from tests.support.daemon import Daemon
from tests.support.dataset import MIB, File, manifest_of, some_bytes, write_dataset
from tests.support.disk import used_bytes
from tests.support.passthrough import PassThrough
from tests.support.sampling import Sampler
from tests.support.waiting import wait_until

SEED: Final = 7
KILLS: Final = 50
LIVES_PER_DIRECTORY: Final = 10
LIFE_BYTES_MAX: Final = 72 * MIB
"""What is read at most between two kills. Not seconds: a busy machine would never come to reclaiming."""
READERS: Final = 6
L2_BYTES: Final = 24 * MIB
KIB: Final = 1 << 10

FILES: Final = {
    **{f"small{number}": File(some_bytes(3 * MIB + 5, number), 64 * KIB) for number in range(12)},
    **{f"large{number}": File(some_bytes(5 * MIB + 7, 100 + number), MIB) for number in range(8)},
}

SETTINGS: Final = {
    "cache__slab_size_mib": 1,
    "cache__l1_memory_gib": 2 / 1024,
    "cache__l2_ssd_gib": L2_BYTES / (1 << 30),
    "cache__inflight_mib": 24,
}

Range = tuple[str, int, int]
"""Path, offset and length of a page."""


def ranges_of_keys(ns: str) -> dict[bytes, Range]:
    """Which page each key of the index is."""
    found = {}
    for entry in manifest_of(ns, 1, FILES, {})["files"]:
        crcs = [page["crc32c"] for page in entry["page_table"]]
        digest = hashlib.sha256(FILES[entry["path"]].data).digest()
        key = file_key(ns, entry["path"], digest, FILES[entry["path"]].page_bytes, crcs)
        for page in entry["page_table"]:
            found[bytes(page_key(key, page["page_id"]))] = (entry["path"], page["off"], page["len"])
    return found


@define(eq=False)
class Readers:
    """They read whole files and parts of them, some files more often than others, and compare every byte."""

    ns: str
    port: int
    whole: int = 0
    broken_off: int = 0
    bytes_compared: int = 0
    wrong: list[str] = field(factory=list)
    _may_read: threading.Event = field(factory=threading.Event)
    _stop: threading.Event = field(factory=threading.Event)
    _lock: threading.Lock = field(factory=threading.Lock)

    def let_go(self) -> None:
        self._may_read.set()

    def hold(self) -> None:
        self._may_read.clear()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._read, args=(number,)) for number in range(READERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._may_read.set()
            for thread in threads:
                thread.join()

    def _read(self, number: int) -> None:
        chance = random.Random(SEED * 1000 + number)
        while self._may_read.wait() and not self._stop.is_set():
            # What most ask for changes, so that something is always worth another one's place.
            hot = (self.whole // 20) % len(FILES)
            path = sorted(FILES)[(hot + chance.choice((0, 0, 0, 1))) % len(FILES)]
            data = FILES[path].data
            off = chance.choice((0, 0, chance.randrange(len(data))))
            try:
                answer = get_whole_or_cut(self.port, f"/blob?ns={self.ns}&path={path}&off={off}")
            except (OSError, http.client.HTTPException):
                with self._lock:
                    self.broken_off += 1
                self._stop.wait(0.005)
                continue
            self._compare(answer, path, memoryview(data)[off:])

    def _compare(self, answer: Answer, path: str, expected: memoryview) -> None:
        is_right = answer.status == 200 and answer.body == expected[: len(answer.body)]
        is_right = is_right and answer.is_whole == (len(answer.body) == len(expected))
        with self._lock:
            self.whole += answer.is_whole
            self.broken_off += not answer.is_whole
            self.bytes_compared += len(answer.body)
            if not is_right:
                self.wrong.append(f"{path}: {answer}")


def check_hits(daemon: Daemon, ns: str, store: PassThrough, published: list[Range]) -> None:
    """All of these come from disk, and are right."""
    store.forget()
    items = [{"path": path, "off": off, "len": length} for path, off, length in published]
    if items:
        with Wire(daemon.port) as wire:
            answer = wire.post(f"/readv?ns={ns}", json.dumps(items).encode())
        assert answer.status == 200, answer.body[:500]
        expected = b"".join(FILES[path].data[off : off + length] for path, off, length in published)
        assert answer.body == expected
    assert [each.target for each in store.gets(key_prefix=f"namespaces/{ns}/files/")] == []


def plant(*paths: Path) -> dict[Path, tuple[bytes, int]]:
    """Files of somebody else, and what they are."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(5000))
        os.utime(path, ns=(1, 1_234_567_890))
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@pytest.mark.timeout(400)
def test_50_kills_at_random_moments(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """0 wrong bytes, every published page a hit, the ceiling kept, and in the end no block that the index
    does not reach."""
    chance = random.Random(SEED)
    write_dataset(store, ns, FILES)
    ranges = ranges_of_keys(ns)
    daemon = start_daemon(**SETTINGS)
    theirs = plant(daemon.directory / "thesis.tex", daemon.directory / "l2.old" / "0000000000000001.seg")
    readers = Readers(ns, daemon.port)
    pids: list[int] = daemon.pids
    filling = reclaiming = hits = 0
    with readers.running(), Sampler(lambda: used_bytes(daemon.l2, pids)) as disk:
        segments: set[int] = set()
        published: list[Range] = []
        for kill in range(KILLS):
            if kill % LIVES_PER_DIRECTORY == 0:
                # Somewhere else, so that filling is killed often enough. The daemon is running only at first.
                if kill:
                    shutil.rmtree(daemon.l2)
                segments, published = set(), []
            if kill:
                daemon.start()
                pids = daemon.pids
            check_hits(daemon, ns, passthrough, published)
            readers.let_go()
            enough = readers.bytes_compared + chance.uniform(0, LIFE_BYTES_MAX)
            wait_until(lambda enough=enough: readers.bytes_compared >= enough, "enough is read")  # type: ignore[misc]
            for pid in daemon.pids:
                os.kill(pid, signal.SIGKILL)
            daemon.kill()
            readers.hold()
            contents = audit(daemon.l2, is_closed=False)
            published = [ranges[key] for key in contents.pages]
            hits += len(published)
            reclaiming += bool(segments - contents.segments.keys())
            filling += not segments - contents.segments.keys()
            segments = set(contents.segments)
        daemon.start()
        pids = daemon.pids
        check_hits(daemon, ns, passthrough, published)
    print(
        f"seed {SEED}: {KILLS} kills, {filling} while filling, {reclaiming} after segments were given up; "
        f"{readers.whole} answers and {readers.broken_off} that broke off, "
        f"{readers.bytes_compared / MIB:.0f} MiB compared; {hits} pages were hits afterwards; "
        f"at most {disk.peak / MIB:.1f} MiB of disk"
    )
    assert readers.wrong == []
    assert reclaiming >= KILLS // 5
    assert filling >= KILLS // 10
    assert L2_BYTES // 2 < disk.peak <= L2_BYTES
    assert daemon.stop() == 0

    contents = audit(daemon.l2, is_closed=True)
    assert contents.lost == frozenset()
    assert contents.reached_bytes == contents.disk_bytes
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in theirs} == theirs


@pytest.fixture
def filled(store: ObjectStore, ns: str, start_daemon: DaemonFactory) -> tuple[Daemon, list[Range]]:
    """A daemon that was stopped, and the pages that it left on disk."""
    write_dataset(store, ns, FILES)
    daemon = start_daemon(**SETTINGS)
    for path in sorted(FILES)[:4]:
        assert get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path={path}").body == FILES[path].data
    assert daemon.stop() == 0
    contents = audit(daemon.l2, is_closed=True)
    ranges = ranges_of_keys(ns)
    return daemon, [ranges[key] for key in contents.pages]


def test_an_index_of_another_boot_is_made_anew_and_costs_no_get(
    filled: tuple[Daemon, list[Range]], ns: str, passthrough: PassThrough
) -> None:
    daemon, published = filled
    assert len(published) > 10
    before = audit(daemon.l2, is_closed=True)
    (daemon.l2 / "seekfs.boot").write_bytes(b"00000000-0000-0000-0000-000000000000")
    # What it says is not looked at: an index that is believed would be found out here.
    (daemon.l2 / "index" / "data.mdb").write_bytes(os.urandom(64 * KIB))
    daemon.start()
    assert "it is of another boot of this machine" in daemon.log
    check_hits(daemon, ns, passthrough, published)
    assert daemon.stop() == 0
    after = audit(daemon.l2, is_closed=True)
    assert after.pages == before.pages
    assert after.lost == frozenset()


def everything_in(path: Path) -> Mapping[str, tuple[bytes | None, int, int]]:
    """Content, mode and time of everything there."""
    found = {}
    for each in (path, *path.rglob("*")):
        stat = each.lstat()
        content = each.read_bytes() if each.is_file() else None
        found[str(each.relative_to(path))] = (content, stat.st_mode, stat.st_mtime_ns)
    return found


def newer(l2: Path) -> str:
    (l2 / "seekfs.layout").write_bytes(b"seekfs cache directory\nlayout 9\nof the future\n")
    (l2 / "seekfs.lock").unlink()
    (l2 / "index").rename(l2 / "index9")
    return "has layout 9, of a newer seekfs"


def foreign(l2: Path) -> str:
    shutil.rmtree(l2)
    (l2 / "segments").mkdir(parents=True)
    (l2 / "segments" / "0000000000000001.seg").write_bytes(b"years of work")
    return "which is not seekfs's"


def mixed(l2: Path) -> str:
    (l2 / "seekfs.lock").unlink()
    (l2 / "segments" / "thesis.tex").write_bytes(b"years of work")
    return "holds 'segments/thesis.tex', which is not seekfs's"


def unreadable(l2: Path) -> str:
    (l2 / "seekfs.layout").write_bytes(b"layout\n")
    (l2 / "seekfs.lock").unlink()
    return "is not a layout file that seekfs wrote"


@pytest.mark.parametrize("spoil", [newer, foreign, mixed, unreadable])
def test_a_directory_that_is_not_ours_to_use_is_refused_and_nothing_in_it_changes(
    make_daemon: DaemonMaker, spoil: Callable[[Path], str]
) -> None:
    daemon = make_daemon().start()
    assert daemon.stop() == 0
    said = spoil(daemon.l2)
    before = everything_in(daemon.l2)
    daemon.spawn()
    assert daemon.wait() == 1
    last = daemon.log.splitlines()[-1]
    assert said in last
    assert "cache.l2.segment_path" in last
    assert everything_in(daemon.l2) == before
