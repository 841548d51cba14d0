"""A process that works on a cache directory and kills itself at a chosen call that changes the disk.

    python -m tests.io.dying_store SCRIPT TEMPLATE

``SCRIPT`` is one of ``SCRIPTS``, ``TEMPLATE`` a directory that it begins from. For each line ``STEP HALF
DIRECTORY`` on stdin a child of its own copies the template to ``DIRECTORY``, runs the script on it and kills
itself (SIGKILL) just before call number ``STEP`` (from 1; 0: never), or with ``HALF`` 1 in the middle of it,
where a call can have a middle (``HALVED``). One line of JSON answers: how it ended, the names of its calls if
it came to its end, and the pages that it held after each step of the script that it finished.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import lmdb
from crc32c import crc32c

from seekfs_core.pages import PageKey
from seekfs_io.pages.directory import claim
from seekfs_io.pages.segmentstore import SegmentStore, open_segment_store
from seekfs_io.pages.shelf import ManifestShelf

MIB: Final = 1 << 20
CEILING: Final = 3 * MIB
"""Room for 36 segments of 9 pages."""

LOWER_CEILING: Final = CEILING - (256 << 10)

PAGE: Final = 4000
FULL: Final = 400
"""More pages than there is room for."""

SHELF_CEILING: Final = 192 << 10

ANSWER_SECONDS: Final = 3600.0
"""A machine that is busy with other things is not taken for a disk that hangs."""

Say = Callable[[SegmentStore], None]


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


def data(n: int) -> bytes:
    return (b"page %8d " % n) * (PAGE // 14) + b"~" * (PAGE % 14)


def put(store: SegmentStore, n: int) -> bool:
    page = data(n)
    return store.store(key(n), memoryview(page), crc32c(page))


def hit(store: SegmentStore, n: int) -> None:
    lease = store.lease(key(n), PAGE, crc32c(data(n)))
    if lease is not None:
        lease.release()


def held(store: SegmentStore) -> list[int]:
    return [n for n in range(2 * FULL) if key(n) in store]


@contextlib.contextmanager
def opened(path: Path, ceiling: int = CEILING) -> Iterator[SegmentStore]:
    ticks = itertools.count(1)
    # The same decisions every time: nothing depends on how fast this machine is.
    store = open_segment_store(
        path, ceiling, clock=lambda: float(next(ticks)), answer_seconds_max=ANSWER_SECONDS
    )
    try:
        yield store
    finally:
        store.close()


def fill(path: Path) -> None:
    """The template of most scripts: full, and closed."""
    with opened(path) as store:
        for n in range(FULL):
            put(store, n)


# The scripts


def make(path: Path, say: Say) -> None:
    """A directory from nothing, some pages, manifests and HEADs."""
    with opened(path) as store:
        say(store)
        for n in range(12):
            put(store, n)
            say(store)
        claimed = claim(path)
        claimed.use("shelf")
        shelf = ManifestShelf(claimed.shelf_path, SHELF_CEILING, bucket=b"bucket", claimed=claimed)
        for version in range(1, 6):
            # Three of them fill it, so that the others displace the first.
            shelf.keep("dev", version, bytes([version]) * 45_000)
            shelf.keep_head("dev", version)
            say(store)
        shelf.close()


def reclaim(path: Path, say: Say) -> None:
    """New pages displace old ones, and those that are read meanwhile are carried over."""
    with opened(path) as store:
        say(store)
        for n in range(FULL, FULL + 22):
            for warm in range(0, FULL, 3):
                hit(store, warm)
            for _ in range(2):  # Asked for twice in a row, a page is worth another one's place.
                put(store, n)
                say(store)


def shrink(path: Path, say: Say) -> None:
    """The ceiling is lower than what is there."""
    with opened(path, LOWER_CEILING) as store:
        say(store)


def make_anew(path: Path, say: Say) -> None:
    """The index is of another boot."""
    (path / "seekfs.boot").write_bytes(b"another boot")
    with opened(path) as store:
        say(store)
        hit(store, 3)


def empty(path: Path, say: Say) -> None:
    """The directory is of an older layout."""
    (path / "seekfs.layout").write_bytes(b"seekfs cache directory\nlayout 0\n")
    with opened(path) as store:
        say(store)
        put(store, 7)
        say(store)


SCRIPTS: Final = {script.__name__: script for script in (make, reclaim, shrink, make_anew, empty)}


# Dying

HALVED: Final = frozenset({"write", "pwritev", "posix_fallocate"})
"""Calls of which a kill may leave a half."""


class Steps:
    """Counts calls that change the disk, and dies at one of them."""

    def __init__(self, fatal: int, *, is_half: bool) -> None:
        self.names: list[str] = []
        self._fatal = fatal
        self._is_half = is_half

    def reached(self, name: str, half: Callable[[], object] | None = None) -> None:
        self.names.append(name)
        if len(self.names) == self._fatal:
            if self._is_half:
                assert half is not None
                half()
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From here on. Calls are the real ones; ``lmdb`` is C, and is met where it begins to commit."""
        for name in ("mkdir", "rmdir", "unlink", "replace", "utime"):
            self._wrap(name)
        self._wrap("open", counts=lambda path, flags, *_, **__: bool(flags & os.O_CREAT))
        write, pwritev, fallocate = os.write, os.pwritev, os.posix_fallocate
        self._wrap("write", lambda fd, view: write(fd, memoryview(view)[: len(view) // 2]))
        self._wrap("pwritev", lambda fd, views, offset: pwritev(fd, _half(views), offset))
        self._wrap("posix_fallocate", lambda fd, offset, length: fallocate(fd, offset, length // 2))
        real = lmdb.open

        def opened(*arguments: Any, **named: Any) -> _Environment:
            self.reached("lmdb.open")
            return _Environment(real(*arguments, **named), self)

        lmdb.open = opened  # type: ignore[assignment]  # a class in the stubs, a function that makes one here

    def _wrap(
        self,
        name: str,
        half: Callable[..., object] | None = None,
        counts: Callable[..., bool] = lambda *_, **__: True,
    ) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if counts(*arguments, **named):
                self.reached(name, None if half is None else lambda: half(*arguments, **named))
            return real(*arguments, **named)

        setattr(os, name, call)


def _half(views: Sequence[memoryview | bytearray]) -> list[memoryview]:
    """The first half of what they hold."""
    left = sum(map(len, views)) // 2
    halves = []
    for view in views:
        halves.append(memoryview(view)[:left])
        left -= len(halves[-1])
    return [view for view in halves if len(view)]


class _Environment:
    """An LMDB environment whose commits are counted."""

    def __init__(self, real: lmdb.Environment, steps: Steps) -> None:
        self._real = real
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @contextlib.contextmanager
    def begin(self, write: bool = False) -> Iterator[lmdb.Transaction]:
        with self._real.begin(write=write) as transaction:
            yield transaction
            if write:
                self._steps.reached("commit")


def run(script: str, template: str, step: int, is_half: bool, path: Path, said: int) -> None:
    """In the child: all of it, and the end."""
    shutil.copytree(template, path)
    tell = os.write
    steps = Steps(step, is_half=is_half)
    steps.watch()

    def say(store: SegmentStore) -> None:
        tell(said, json.dumps(held(store)).encode() + b"\n")

    SCRIPTS[script](path, say)
    tell(said, json.dumps({"calls": steps.names}).encode() + b"\n")


def main() -> None:
    script, template = sys.argv[1:]
    for line in sys.stdin:
        step, is_half, directory = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run(script, template, int(step), is_half == "1", Path(directory), writing)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            states = [json.loads(each) for each in said.read().splitlines()]
        _, status = os.waitpid(child, 0)
        calls = states.pop()["calls"] if states and isinstance(states[-1], dict) else None
        answer = {"ended": os.waitstatus_to_exitcode(status), "calls": calls, "states": states}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
