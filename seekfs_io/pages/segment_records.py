"""Records in segment files: a header that says whose page it is, the page, and padding.

A record is read by its ``Place``. The first read of one by this process reads its header too, and
believes nothing where that is not exactly the page's. What fails is an ``OSError``, as the disk
says it, or False for a record that is damaged; ``seekfs_io.pages.segmentstore`` makes faults of both.

What the kernel has in memory is copied by who reads. For the rest the disk is waited for, on a thread that
can be left behind: ``DiskHangs`` says that it was, and then the memory that was to be filled is that
thread's, and the segment's file stays open, until the disk has answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crc32c import crc32c

from seekfs_core.pages import PageKey
from seekfs_core.restoring import RecordHeader
from seekfs_core.segment_layout import RECORD_HEADER_LENGTH
from seekfs_core.tier import Operation
from seekfs_io.pages.disk_calls import DiskCalls
from seekfs_io.pages.segment_file import (
    Descriptors,
    SegmentFile,
    after,
    read_at_hand,
    read_fully,
    write_fully,
)
from seekfs_io.pages.segment_format import decode_header, encode_header, padding_of

COPY_WINDOW_BYTES = 1 << 20


class Place:
    """Where a page is. Shared by the table, and by every lease on it."""

    __slots__ = ("crc32c", "file", "identified", "length", "offset", "verified")

    def __init__(self, file: SegmentFile, offset: int, length: int, crc32c: int) -> None:
        self.file = file
        self.offset = offset
        self.length = length
        self.crc32c = crc32c
        self.identified = False
        """Whether this process has read the record's header and found it to be this page's."""
        self.verified = False
        """Whether this process has read the whole page back and found its CRC right."""


class Records:
    """Reads and writes records of one store. Thread-safe: it holds nothing that changes."""

    def __init__(
        self,
        store_id: bytes,
        descriptors: Descriptors,
        calls: DiskCalls,
        left: Callable[[SegmentFile], None],
    ) -> None:
        """``left`` is told when the disk has let go of a segment that a read was given up in."""
        self._store_id = store_id
        self._descriptors = descriptors
        self._calls = calls
        self._left = left

    def read(self, key: PageKey, place: Place, view: memoryview, offset: int) -> bool:
        """Fill ``view`` from byte ``offset`` of the page; False where the record is not whole or not its.

        ``OSError``; ``DiskHangs`` where ``view`` is to be used by nobody any more.
        """
        if offset < 0 or offset + len(view) > place.length:
            raise ValueError(f"bytes {offset} to {offset + len(view)} of a page of {place.length}")
        start = place.offset + RECORD_HEADER_LENGTH + offset
        if place.identified:
            return self._fill(place.file, [view], start)
        header = bytearray(RECORD_HEADER_LENGTH)
        if offset == 0:
            if not self._fill(place.file, [memoryview(header), view], place.offset):
                return False
        elif not self._fill(place.file, [memoryview(header)], place.offset):
            return False
        if decode_header(header) != self._header_of(key, place):
            return False
        place.identified = True
        return offset == 0 or self._fill(place.file, [view], start)

    def _fill(self, file: SegmentFile, views: Sequence[memoryview], start: int) -> bool:
        fd = file.open_descriptor
        count = 0 if fd is None else read_at_hand(fd, views, start)
        rest = after(views, count)
        return not rest or self._calls.wait_for(
            Operation.READ,
            lambda moves: read_fully(file.descriptor(self._descriptors), rest, start + count, moves),
            stays=file.stay,
            came_back=lambda: self._left(file),
        )

    def write(self, key: PageKey, place: Place, page: memoryview) -> bool:
        """Write a whole record. True: all of it is in the file. ``OSError``."""
        header = memoryview(encode_header(self._header_of(key, place)))
        self._put(place.file, [header, page, memoryview(padding_of(place.length))], place.offset)
        return True

    def copy(self, key: PageKey, place: Place, read: Callable[[memoryview, int], bool]) -> int | None:
        """Write a record whose page ``read`` brings in pieces, by offset; None as soon as it says False.

        The CRC-32C of what was copied. The header says what it should be, so that rot on the way is found at
        the next read, too. ``OSError``, and whatever ``read`` raises.
        """
        crc = 0
        window = memoryview(bytearray(min(COPY_WINDOW_BYTES, place.length)))
        header = [memoryview(encode_header(self._header_of(key, place)))]
        for start in range(0, place.length, len(window)):
            view = window[: place.length - start]
            if not read(view, start):
                return None
            crc = crc32c(view, crc)
            if start == 0:
                self._put(place.file, [*header, view], place.offset)
            else:
                self._put(place.file, [view], place.offset + RECORD_HEADER_LENGTH + start)
        return crc

    def _put(self, file: SegmentFile, views: Sequence[memoryview], start: int) -> None:
        with self._calls.under_way(Operation.WRITE) as moves:
            write_fully(file.descriptor(self._descriptors), views, start, moves)

    def _header_of(self, key: PageKey, place: Place) -> RecordHeader:
        return RecordHeader(
            store_id=self._store_id,
            segment=place.file.number,
            offset=place.offset,
            key=key,
            length=place.length,
            crc32c=place.crc32c,
        )
