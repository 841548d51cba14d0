"""A disk that does as it is told: faults, put in where the disk cache touches its files.

It is a real directory; what is asked of it goes through, unless a fault is set for that touch of the disk.
Which touches there are, and which faults, is data, so that a test is a table of both::

    with HostileDisk(tmp_path / "l2") as disk:
        store = open_segment_store(tmp_path / "l2", CEILING)
        disk.does(Touch.WRITE, Refuses(errno.ENOSPC, after_bytes=100_000))
        ...                         # disk.met counts how often the fault was met
        disk.heals()                # and what hung goes on

Within the block, calls of ``os`` on files below the directory are looked at, ``pathlib``'s and ``shutil``'s
among them, and so are LMDB's transactions; everything else in the process is left alone. One disk at a time.

A fault that is set for a read also makes the kernel's memory of the file useless: the bytes are not at hand.
With ``cold`` that holds without a fault, too, so that every read has to wait for the disk.

=============  ==========================================================================
touch          is
=============  ==========================================================================
MAKE           creating a segment's file
ALLOCATE       reserving its blocks
OPEN           opening a segment that is there
READ           reading from a segment
WRITE          writing into a segment
UNLINK         deleting a segment
INDEX_PUT      putting an entry into LMDB
INDEX_DELETE   deleting one
INDEX_COMMIT   committing a transaction of LMDB
INDEX_SYNC     flushing LMDB's file, at the end
SHELF_READ     reading a manifest, or a note beside it
SHELF_WRITE    writing one, under its temporary name
SHELF_RENAME   giving it its own name
SHELF_UNLINK   deleting one
=============  ==========================================================================

=============  ==========================================================================
fault          is
=============  ==========================================================================
Refuses        the call fails with this error, or from the k-th byte on that is written
Hangs          the call does not return before the disk heals, and then does its work
Vanishes       the file is deleted just before the call
Truncates      the file is cut to so many bytes just before the call
Says           LMDB fails with this error of its own
=============  ==========================================================================
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import lmdb
from attrs import field, frozen

HANG_SECONDS_MAX = 60.0
"""A test that forgets to heal its disk ends all the same."""


class Touch(Enum):
    """One way in which the disk is touched; see the module's text."""

    MAKE = "make"
    ALLOCATE = "allocate"
    OPEN = "open"
    READ = "read"
    WRITE = "write"
    UNLINK = "unlink"
    INDEX_PUT = "index put"
    INDEX_DELETE = "index delete"
    INDEX_COMMIT = "index commit"
    INDEX_SYNC = "index sync"
    SHELF_READ = "shelf read"
    SHELF_WRITE = "shelf write"
    SHELF_RENAME = "shelf rename"
    SHELF_UNLINK = "shelf unlink"


@frozen
class Refuses:
    """``errno``; of writes, those that would go beyond ``after_bytes`` since the fault was set write up to
    there first."""

    errno: int
    after_bytes: int = 0

    def __str__(self) -> str:
        return errno.errorcode[self.errno] + (f" after {self.after_bytes}" if self.after_bytes else "")


@frozen
class Hangs:
    """Until the disk heals."""

    def __str__(self) -> str:
        return "hangs"


@frozen
class Vanishes:
    """The file, just before."""

    def __str__(self) -> str:
        return "vanishes"


@frozen
class Truncates:
    """The file, just before, to ``length`` bytes."""

    length: int = 0

    def __str__(self) -> str:
        return f"cut to {self.length}"


@frozen
class Says:
    """An error of LMDB's own."""

    error: type[lmdb.Error] = field()

    def __str__(self) -> str:
        return self.error.__name__


Fault: TypeAlias = Refuses | Hangs | Vanishes | Truncates | Says


class HostileDisk:
    """See the module's text. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.touches: Counter[Touch] = Counter()
        """How often the disk was touched, and how; what was at hand for a read did not touch it."""
        self.met = 0
        """How often a fault was met since it was set."""
        self.hanging = 0
        """How many calls hang now."""
        self.cold = False
        self.gate: Callable[[Touch], Fault | None] = lambda _: None
        """Asked at each touch for which no fault is set; for faults that come by chance."""
        self._root = f"{os.path.realpath(directory)}{os.sep}"
        self._faults: dict[Touch, Fault] = {}
        self._written: Counter[Touch] = Counter()
        self._lock = threading.Lock()
        self._healed = threading.Event()
        self._undo: list[tuple[object, str, object]] = []

    def does(self, touch: Touch, fault: Fault) -> None:
        """From now on, until the disk heals."""
        with self._lock:
            self._faults[touch] = fault
            self._written[touch] = 0
            self.met = 0
            self._healed.clear()

    def heals(self) -> None:
        """No fault any more; what hangs goes on."""
        with self._lock:
            self._faults.clear()
            self.gate = lambda _: None
            self._healed.set()

    # --- what a touch meets -----------------------------------------------------------------

    def _meets(self, touch: Touch, path: str | None = None) -> None:
        """Raise, hang, or change the file first, as the fault says."""
        with self._lock:
            self.touches[touch] += 1
            fault = self._faults.get(touch) or self.gate(touch)
            if fault is None or (isinstance(fault, Refuses) and fault.after_bytes):
                return
            self.met += 1
            healed = self._healed
            self.hanging += isinstance(fault, Hangs)
        match fault:
            case Refuses(number):
                raise OSError(number, os.strerror(number), path)
            case Hangs():
                healed.wait(HANG_SECONDS_MAX)
                with self._lock:
                    self.hanging -= 1
            case Vanishes() if path is not None:
                _undisturbed["unlink"](path)
            case Truncates(length) if path is not None:
                os.truncate(path, length)
            case Says(error):
                raise error(f"mdb: {error.__name__}")

    def _room(self, touch: Touch, wanted: int) -> int:
        """How many of ``wanted`` bytes may still be written; raises where that is none."""
        with self._lock:
            fault = self._faults.get(touch)
            if not isinstance(fault, Refuses) or not fault.after_bytes:
                return wanted
            left = fault.after_bytes - self._written[touch]
            if left < wanted:
                self.met += 1
            if left <= 0:
                raise OSError(fault.errno, os.strerror(fault.errno))
            self._written[touch] += min(left, wanted)
            return min(left, wanted)

    def _is_cold(self) -> bool:
        with self._lock:
            fault = self._faults.get(Touch.READ) or self.gate(Touch.READ)
            return self.cold or fault is not None

    def _part(self, path: object) -> tuple[str, str] | None:
        """Which directory inside, and the path; None for what is not below this disk's directory."""
        if not isinstance(path, str | os.PathLike):
            return None
        full = os.path.abspath(os.fsdecode(path))
        if not full.startswith((self._root, f"{os.path.abspath(self.directory)}{os.sep}")):
            return None
        return full.split(os.sep)[-2], full

    def _part_of(self, fd: int) -> tuple[str, str] | None:
        try:
            return self._part(os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)"))
        except OSError:
            return None

    # --- putting it in ----------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._replace(os, "open", self._open)
        self._replace(os, "posix_fallocate", self._fallocate)
        self._replace(os, "preadv", self._preadv)
        self._replace(os, "pwritev", self._pwritev)
        self._replace(os, "unlink", self._unlink)
        self._replace(os, "replace", self._rename)
        self._replace(os, "write", self._write)
        self._replace(io, "open", self._open_file)
        self._replace(lmdb, "open", self._open_index)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heals()
        while self._undo:
            where, name, was = self._undo.pop()
            setattr(where, name, was)

    def _replace(self, where: object, name: str, new: object) -> None:
        self._undo.append((where, name, getattr(where, name)))
        setattr(where, name, new)

    def _open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        match self._part(path):
            case ("segments", full):
                self._meets(Touch.MAKE if flags & os.O_CREAT else Touch.OPEN, full)
            case ("shelf", full) if flags & os.O_CREAT:
                self._meets(Touch.SHELF_WRITE, full)
        return _undisturbed["open"](path, flags, *more, **named)  # type: ignore[no-any-return]

    def _fallocate(self, fd: int, offset: int, length: int) -> None:
        match self._part_of(fd):
            case ("segments", full):
                self._meets(Touch.ALLOCATE, full)
        _undisturbed["posix_fallocate"](fd, offset, length)

    def _preadv(self, fd: int, views: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        match self._part_of(fd):
            case ("segments", full):
                if flags & os.RWF_NOWAIT:
                    if self._is_cold():
                        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                else:
                    self._meets(Touch.READ, full)
        return _undisturbed["preadv"](fd, views, offset, flags)  # type: ignore[no-any-return]

    def _pwritev(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        match self._part_of(fd):
            case ("segments", full):
                self._meets(Touch.WRITE, full)
                room = self._room(Touch.WRITE, sum(map(len, views)))
                views = [b"".join(views)[:room]]  # type: ignore[list-item]
        return _undisturbed["pwritev"](fd, views, offset)  # type: ignore[no-any-return]

    def _write(self, fd: int, stored: Any) -> int:
        match self._part_of(fd):
            case ("shelf", _):
                stored = stored[: self._room(Touch.SHELF_WRITE, len(stored))]
        return _undisturbed["write"](fd, stored)  # type: ignore[no-any-return]

    def _unlink(self, path: Any, **named: Any) -> None:
        match self._part(path):
            case ("segments", full):
                self._meets(Touch.UNLINK, full)
            case ("shelf", full):
                self._meets(Touch.SHELF_UNLINK, full)
        _undisturbed["unlink"](path, **named)

    def _rename(self, old: Any, new: Any, **named: Any) -> None:
        match self._part(old):
            case ("shelf", full):
                self._meets(Touch.SHELF_RENAME, full)
        _undisturbed["replace"](old, new, **named)

    def _open_file(self, file: Any, *more: Any, **named: Any) -> Any:
        match self._part(file):
            case ("shelf", full):
                self._meets(Touch.SHELF_READ, full)
        return builtins.open(file, *more, **named)

    def _open_index(self, path: str, **named: Any) -> Any:
        environment = _undisturbed["lmdb.open"](path, **named)
        return environment if self._part(path) is None else _Environment(environment, self._index_meets)

    def _index_meets(self, touch: Touch) -> None:
        """As LMDB says it."""
        try:
            self._meets(touch)
        except OSError as error:
            kind = lmdb.DiskError if error.errno == errno.ENOSPC else lmdb.Error
            raise kind(f"mdb: {error.strerror}") from None


_undisturbed: dict[str, Any] = {
    **{
        name: getattr(os, name)
        for name in ("open", "posix_fallocate", "preadv", "pwritev", "unlink", "replace", "write")
    },
    "lmdb.open": lmdb.open,
}


class _Environment:
    """An environment of LMDB's whose writing transactions meet faults."""

    def __init__(self, inner: Any, meets: Callable[[Touch], None]) -> None:
        self._inner = inner
        self._meets = meets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def begin(self, **named: Any) -> Any:
        transaction = self._inner.begin(**named)
        return _Transaction(transaction, self._meets) if named.get("write") else transaction

    def sync(self, force: bool) -> None:
        self._meets(Touch.INDEX_SYNC)
        self._inner.sync(force)


class _Transaction:
    def __init__(self, inner: Any, meets: Callable[[Touch], None]) -> None:
        self._inner = inner
        self._meets = meets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, key: bytes, value: bytes) -> bool:
        self._meets(Touch.INDEX_PUT)
        return bool(self._inner.put(key, value))

    def delete(self, key: bytes) -> bool:
        self._meets(Touch.INDEX_DELETE)
        return bool(self._inner.delete(key))

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._meets(Touch.INDEX_COMMIT)
            except BaseException as refused:
                self._inner.__exit__(type(refused), refused, None)
                raise
        self._inner.__exit__(kind, error, trace)
