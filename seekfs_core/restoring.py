"""What of a cache directory is believed when it is opened: its index, then each entry, and its shelf.

An index is written without being flushed, so it outlives the process that wrote it and not the
machine's running. One of another boot, or one that was never finished, is not looked into: the
records say what is there. Nor is one whose file has not its length: LMDB maps it, and a tree that
goes on behind the end of its file would kill the process. An entry is believed when all of its record
lies inside a file that is there. What the bytes are is not asked here, since each page is verified when
it is first read.

Records are walked from the front of a segment up to the first place where there is none. A record says
where it is and whose, so neither a misdirected write nor a page that merely looks like one is taken for it.

Two records of one page are no error: one that was being carried over is in two segments when the
process dies, and one that was dropped and came again is twice in one. The later one is the page.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping

from attrs import frozen

from seekfs_core.pages import PageKey
from seekfs_core.segment_layout import record_length
from seekfs_core.segment_messages import Restored, RestoredPage, RestoredSegment


class IndexDoubt(enum.Enum):
    """Why an index is not believed, for people."""

    UNFINISHED = "it was not finished"
    OTHER_BOOT = "it is of another boot of this machine"
    UNKNOWN_BOOT = "which boot of this machine this is cannot be known"
    TOO_LONG = "it is larger than its share of the ceiling"
    CUT_SHORT = "it has been cut short"


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


def doubt_of_index_file(stored_bytes: int, share_bytes: int) -> IndexDoubt | None:
    """Why the file of an index is not opened, or None; it may have ``share_bytes`` of the ceiling."""
    return IndexDoubt.TOO_LONG if stored_bytes > share_bytes else None


def doubt_of_index_tree(stored_bytes: int, tree_bytes: int) -> IndexDoubt | None:
    """Why the tree in a file of ``stored_bytes`` (0: it was made just now) is not looked into, or None.

    ``tree_bytes`` is how far the tree says that it goes.
    """
    return IndexDoubt.CUT_SHORT if 0 < stored_bytes < tree_bytes else None


def doubt_of_open_index(known_bytes: int, stored_bytes: int) -> IndexDoubt | None:
    """Why an index that is in use is not written any more, or None. Its file never becomes shorter by itself;
    it was ``known_bytes`` long, and is ``stored_bytes`` now."""
    return IndexDoubt.CUT_SHORT if stored_bytes < known_bytes else None


class ShelfDoubt(enum.Enum):
    """Why a shelf of manifests is not believed, for people."""

    UNFINISHED = "which bucket it was filled from is not known"
    OTHER_BUCKET = "it was filled from another bucket"


def doubt_of_shelf(filled_from: bytes | None, bucket: bytes) -> ShelfDoubt | None:
    """Why a shelf starts empty, or None where it is believed.

    ``filled_from`` is the identity of the bucket that was noted in it (None: nothing was, or what was is
    damaged), ``bucket`` that of the one at hand. What a shelf holds would be served in place of the other's.
    """
    if filled_from is None:
        return ShelfDoubt.UNFINISHED
    return None if filled_from == bucket else ShelfDoubt.OTHER_BUCKET


@frozen
class IndexEntry:
    """Where a page is: the record's segment and offset, and the length and CRC-32C of the page."""

    segment: int
    offset: int
    length: int
    crc32c: int


@frozen(kw_only=True)
class RecordHeader:
    """What a record says of itself. ``offset`` and ``length`` in bytes; ``length`` is the page's."""

    store_id: bytes
    segment: int
    offset: int
    key: PageKey
    length: int
    crc32c: int


def believed_record(
    header: RecordHeader | None, *, store_id: bytes, segment: int, offset: int, segment_bytes: int
) -> RecordHeader | None:
    """The record at ``offset`` of a segment's file of ``segment_bytes``, or None: there the walk ends.

    ``header`` is what was found there, None where that is no header. The next record begins
    ``record_length(header.length)`` later.
    """
    if header is None or (header.store_id, header.segment, header.offset) != (store_id, segment, offset):
        return None
    return header if offset + record_length(header.length) <= segment_bytes else None


def entries_of(records: Iterable[RecordHeader] | None) -> Iterator[tuple[PageKey, IndexEntry]]:
    """What the records of one segment say is there; None: they cannot be read.

    Then the segment counts as empty, so that its space comes back: what cannot be read serves nobody.
    """
    for header in records or ():
        yield header.key, IndexEntry(header.segment, header.offset, header.length, header.crc32c)


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
