"""One segment's file: made whole, read and written at offsets, counted while anybody is in it.

``pread`` and ``pwrite``, no memory map: an unreadable block or a file cut short is an error that
can be met, where a map would kill the process.

Rules of this file: ``enter`` and ``leave`` wait for no disk, since every hit passes through them, and so
does nothing else under their lock; a descriptor is opened at the first read, and closed only when nobody
is in.
"""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from seekfs_core.disk_watch import RESERVED_AT_ONCE_BYTES, STEP_BYTES
from seekfs_core.restoring import RecordHeader, believed_record
from seekfs_core.segment_layout import RECORD_HEADER_LENGTH, record_length
from seekfs_io.pages.segment_format import decode_header


class SegmentFile:
    """A segment of ``capacity`` bytes. ``leases`` counts who is in it, readers and writers."""

    __slots__ = (
        "_closing",
        "_fd",
        "_lock",
        "_made",
        "_opening",
        "_retired",
        "_there",
        "capacity",
        "leases",
        "number",
        "path",
    )

    def __init__(self, path: Path, number: int, capacity: int, *, made: bool) -> None:
        self.path = path
        self.number = number
        self.capacity = capacity
        self.leases = 0
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._fd = -1
        self._retired = False
        self._closing = False
        self._there = made
        self._made = threading.Event()
        if made:
            self._made.set()

    def make(self, moves: Callable[[], None] = lambda: None) -> None:
        """Create the file with all its blocks, so that a full disk is met here; ``OSError``.

        ``moves`` is called between its steps: some file systems have to write every block for that.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            for start in range(0, self.capacity, RESERVED_AT_ONCE_BYTES):
                moves()
                os.posix_fallocate(fd, start, min(RESERVED_AT_ONCE_BYTES, self.capacity - start))
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        self._there = True

    def settle(self) -> None:
        """``make`` has come to its end, well or not, and whoever waits for it may go on."""
        self._made.set()

    def wait_until_made(self) -> bool:
        """Whether the file is there, once ``make`` has come to its end."""
        self._made.wait()
        return self._there

    def enter(self) -> bool:
        """Be counted as being in the segment; False when it lets nobody in any more."""
        with self._lock:
            if self._retired:
                return False
            self.leases += 1
            return True

    def stay(self) -> None:
        """Be counted once more, while somebody is in: for what is left behind and leaves later."""
        with self._lock:
            self.leases += 1

    def leave(self) -> bool:
        """Take one ``enter`` or ``stay`` back. True for the last one to leave a retired segment."""
        with self._lock:
            self.leases -= 1
            if self.leases:
                return False
            if self._closing or self._retired:
                self._close_locked()
            return self._retired

    def retire(self) -> bool:
        """Let nobody in any more; True when nobody is in now."""
        with self._lock:
            self._retired = True
            if not self.leases:
                self._close_locked()
            return not self.leases

    def close(self) -> bool:
        """Close the descriptor, now or when the last one leaves; True when it is closed now."""
        with self._lock:
            self._closing = True
            return self._close_if_idle_locked()

    def close_if_idle(self) -> bool:
        """Close the descriptor if nobody is in; it is opened again when needed."""
        with self._lock:
            return self._close_if_idle_locked()

    def _close_if_idle_locked(self) -> bool:
        if self.leases:
            return False
        self._close_locked()
        return True

    def _close_locked(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    @property
    def open_descriptor(self) -> int | None:
        """The file, for somebody who is in, if it is open already."""
        fd = self._fd
        return fd if fd >= 0 else None

    def descriptor(self, descriptors: Descriptors) -> int:
        """The open file, for somebody who is in; ``OSError``."""
        fd = self._fd
        if fd >= 0:
            return fd
        # Two readers do not open it twice. Who enters or leaves does not wait for a disk that hangs here.
        with self._opening:
            if self._fd < 0:
                opened = _open_existing(self.path)
                with self._lock:
                    self._fd = opened
            fd = self._fd
        descriptors.opened(self)
        return fd


def files_max() -> int | None:
    """How many files this process may open; None: any number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft < 0 else soft


class Descriptors:
    """How many segments may have their files open while nobody is in them."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._lock = threading.Lock()
        self._files: OrderedDict[int, SegmentFile] = OrderedDict()

    def opened(self, file: SegmentFile) -> None:
        """A file was opened; the one that has been open longest and has nobody in it may be closed."""
        with self._lock:
            self._files[file.number] = file
            self._files.move_to_end(file.number)
            surplus = len(self._files) - self._count_max
            oldest = list(self._files.values())[: max(0, surplus)]
        for other in oldest:
            if other is not file and other.close_if_idle():
                self.closed(other)

    def closed(self, file: SegmentFile) -> None:
        with self._lock:
            self._files.pop(file.number, None)


def _open_existing(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDWR | flags)
    except OSError as error:
        # A disk that the kernel has made read-only still serves what it holds.
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return os.open(path, os.O_RDONLY | flags)


def read_at_hand(fd: int, views: Sequence[memoryview], offset: int) -> int:
    """Fill the views from ``offset`` as far as the kernel has the bytes in memory; how many that were.

    It waits for no disk. Where the file system cannot tell, or the disk would say no, that is none.
    """
    try:
        return os.preadv(fd, views, offset, os.RWF_NOWAIT)
    except OSError:
        return 0


def read_fully(
    fd: int, views: Sequence[memoryview], offset: int, moves: Callable[[], None] = lambda: None
) -> bool:
    """Fill the views from ``offset``; False when the file ends before they are full. ``OSError``.

    ``moves`` is called between its steps.
    """
    todo = [view for view in views if len(view)]
    while todo:
        count = os.preadv(fd, _step(todo), offset)
        if not count:
            return False
        offset += count
        if todo := after(todo, count):
            moves()
    return True


def write_fully(
    fd: int, views: Sequence[memoryview], offset: int, moves: Callable[[], None] = lambda: None
) -> None:
    """Write all of the views at ``offset``; ``OSError``. ``moves`` is called between its steps."""
    todo = [view for view in views if len(view)]
    while todo:
        count = os.pwritev(fd, _step(todo), offset)
        if not count:
            raise OSError(errno.EIO, "the disk took no bytes")
        offset += count
        if todo := after(todo, count):
            moves()


def _step(views: list[memoryview]) -> list[memoryview]:
    """The front of the views."""
    left = STEP_BYTES
    step = []
    for view in views:
        step.append(view[:left])
        left -= len(step[-1])
        if not left:
            break
    return step


def after(views: Sequence[memoryview], count: int) -> list[memoryview]:
    """What is left of the views behind their first ``count`` bytes."""
    rest = []
    for view in views:
        if count >= len(view):
            count -= len(view)
        else:
            rest.append(view[count:])
            count = 0
    return rest


def walk_records(path: Path, number: int, store_id: bytes, segment_bytes: int) -> list[RecordHeader]:
    """The records at the front of a segment, up to the first place where there is none. ``OSError``."""
    found: list[RecordHeader] = []
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        offset = 0
        while (
            header := believed_record(
                decode_header(os.pread(fd, RECORD_HEADER_LENGTH, offset)),
                store_id=store_id,
                segment=number,
                offset=offset,
                segment_bytes=segment_bytes,
            )
        ) is not None:
            found.append(header)
            offset += record_length(header.length)
    finally:
        os.close(fd)
    return found
