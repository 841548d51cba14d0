"""What of a cache directory is believed when it is opened: its index, and then each entry.

An index is written without being flushed, so it outlives the process that wrote it and not the
machine's running. One of another boot, or one that was never finished, is not looked into: the
records say what is there. An entry is believed when all of its record lies inside a file that is
there. What the bytes are is not asked here, since each page is verified when it is first read.

Two records of one page are no error: one that was being carried over is in two segments when the
process dies, and one that was dropped and came again is twice in one. The later one is the page.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from attrs import frozen

from seekfs_core.pages import PageKey
from seekfs_core.segment_layout import record_length
from seekfs_core.segment_messages import Restored, RestoredPage, RestoredSegment


class IndexDoubt(enum.Enum):
    """Why an index is not believed, for people."""

    UNFINISHED = "it was not finished"
    OTHER_BOOT = "it is of another boot of this machine"
    UNKNOWN_BOOT = "which boot of this machine this is cannot be known"


def doubt_of_index(made_under: bytes | None, running: bytes) -> IndexDoubt | None:
    """Why an index is made anew, or None where it is believed.

    ``made_under`` is the boot that was noted when the index was whole (None: nothing was noted), and
    ``running`` the one at hand. An empty one cannot be known, and equals none.
    """
    if made_under is None:
        return IndexDoubt.UNFINISHED
    if not running:
        return IndexDoubt.UNKNOWN_BOOT
    return None if made_under == running else IndexDoubt.OTHER_BOOT


@frozen
class IndexEntry:
    """Where a page is: the record's segment and offset, and the length and CRC-32C of the page."""

    segment: int
    offset: int
    length: int
    crc32c: int


@frozen(kw_only=True)
class Restoration:
    """What a directory holds."""

    entries: Mapping[PageKey, IndexEntry]
    """The pages, each at one place."""
    event: Restored
    """The same for ``SegmentLog``, with the segments that hold none."""
    lost: tuple[tuple[PageKey, int, int], ...]
    """Key, segment and offset of what was named and is not there."""


def restored_from(
    found: Iterable[tuple[PageKey, IndexEntry]], segment_lengths: Mapping[int, int]
) -> Restoration:
    """What to believe of the entries that an index or the records themselves name, in any order.

    ``segment_lengths`` are the bytes of each segment's file, by number.
    """
    entries: dict[PageKey, IndexEntry] = {}
    lost: list[tuple[PageKey, int, int]] = []
    for key, entry in found:
        if entry.offset + record_length(entry.length) > segment_lengths.get(entry.segment, 0):
            lost.append((key, entry.segment, entry.offset))
            continue
        other = entries.get(key)
        if other is None or (entry.segment, entry.offset) > (other.segment, other.offset):
            entries[key] = entry
    pages: dict[int, list[RestoredPage]] = {number: [] for number in segment_lengths}
    for key, entry in entries.items():
        pages[entry.segment].append(RestoredPage(key, entry.offset, entry.length))
    segments = (
        RestoredSegment(number, capacity, tuple(pages[number]))
        for number, capacity in sorted(segment_lengths.items())
    )
    return Restoration(entries=entries, event=Restored(tuple(segments)), lost=tuple(lost))
