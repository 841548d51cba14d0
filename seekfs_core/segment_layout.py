"""The sizes of the disk cache: what a page takes in a segment, and how a ceiling is divided.

Everything here is a pure function of configured numbers, in bytes.
"""

from __future__ import annotations

from attrs import frozen

RECORD_HEADER_LENGTH = 96
RECORD_ALIGNMENT = 4096

SEGMENT_LENGTH_MAX = 1 << 30
SEGMENTS_PER_CEILING = 80
"""A segment is at most this part of the ceiling: giving one up costs about 1 % of the pages."""

SEGMENT_OVERHEAD_BYTES = 8192
"""Charged for each segment on top of its capacity: what a file system needs to map its blocks."""

FIXED_BYTES = 256 << 10
"""Layout, lock and boot files, LMDB's reader table, and the directories themselves."""

INDEX_BYTES_MIN = 1 << 20
INDEX_BYTES_FIXED = 128 << 10
INDEX_BYTES_PER_ENTRY = 512
"""Reserved in the index for each page. An entry takes 70 bytes of a tree whose nodes may be only a
quarter full, which makes 280; the rest is for the copies that a copy-on-write tree makes."""


def record_length(page_length: int) -> int:
    """Bytes of a segment that a page of ``page_length`` bytes takes, header and padding included."""
    return -(-(RECORD_HEADER_LENGTH + page_length) // RECORD_ALIGNMENT) * RECORD_ALIGNMENT


@frozen(kw_only=True)
class Shares:
    """How a ceiling is divided, in bytes; what is left of it is for segments."""

    ceiling_bytes: int
    index_bytes: int
    shelf_bytes: int
    fixed_bytes: int
    segment_length_max: int
    entries_max: int

    @property
    def reserved_bytes(self) -> int:
        return self.index_bytes + self.shelf_bytes + self.fixed_bytes

    @property
    def page_length_max(self) -> int:
        """The longest page that can be kept at all; less than 1 when there is none."""
        room = self.ceiling_bytes - self.reserved_bytes - SEGMENT_OVERHEAD_BYTES
        return room // RECORD_ALIGNMENT * RECORD_ALIGNMENT - RECORD_HEADER_LENGTH

    def has_room_for(self, page_length: int) -> bool:
        """Whether a page of ``page_length`` bytes can be kept at all."""
        return page_length <= self.page_length_max


def shares_of(ceiling_bytes: int) -> Shares:
    """The division of a ceiling: 1/128 (at least 1 MiB) index, 1/16 shelf, the rest segments."""
    index_bytes = max(INDEX_BYTES_MIN, ceiling_bytes // 128 // RECORD_ALIGNMENT * RECORD_ALIGNMENT)
    return Shares(
        ceiling_bytes=ceiling_bytes,
        index_bytes=index_bytes,
        shelf_bytes=ceiling_bytes // 16,
        fixed_bytes=FIXED_BYTES,
        segment_length_max=min(SEGMENT_LENGTH_MAX, ceiling_bytes // SEGMENTS_PER_CEILING),
        entries_max=(index_bytes - INDEX_BYTES_FIXED) // INDEX_BYTES_PER_ENTRY,
    )


CEILING_STEP_BYTES = 1 << 20


def ceiling_for(page_length: int) -> int:
    """A ceiling, in bytes, that has room for one page, and hardly a mebibyte more than that takes."""
    ceiling_bytes = CEILING_STEP_BYTES
    while not shares_of(ceiling_bytes).has_room_for(page_length):
        ceiling_bytes += CEILING_STEP_BYTES
    return ceiling_bytes
