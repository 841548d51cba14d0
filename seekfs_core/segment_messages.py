"""What ``SegmentLog`` is told, and what it answers. Offsets and lengths are bytes."""

from __future__ import annotations

from typing import assert_never

from attrs import frozen

from seekfs_core.machine import Tick
from seekfs_core.pages import PageKey
from seekfs_core.retention import HitsSeen, Refuse

# Events


@frozen
class PageOffered:
    """A verified page of ``nbytes`` could be kept. ``leased`` are the segments that somebody reads
    from at this moment: they are not given up for it, since their space would not come back yet.

    ``is_probe``: with it is found out whether the disk can be written again, so it is worth a place in any
    case. A full cache that admits nobody would never find out."""

    key: PageKey
    nbytes: int
    leased: frozenset[int] = frozenset()
    is_probe: bool = False


@frozen
class PageWritten:
    """All bytes of a placed or copied page are in its segment's file."""

    key: PageKey
    segment: int


@frozen
class PagePublished:
    """A written page is in the index. Answered by ``Reveal``, or by ``DropEntries`` if it has been
    dropped meanwhile."""

    key: PageKey
    segment: int


@frozen
class WriteFailed:
    """A placed page could not be written, copied or put into the index."""

    key: PageKey
    segment: int


@frozen
class OpenFailed:
    """A segment's file could not be made or allocated. Its placements are reported one by one."""

    segment: int


@frozen
class PageDropped:
    """A page turned out unreadable or wrong, and is to be forgotten. Unknown keys are ignored."""

    key: PageKey


@frozen
class SegmentHeld:
    """A retired segment still has readers."""

    segment: int


@frozen
class SegmentDrained:
    """A retired segment has no reader any more, and never will."""

    segment: int


@frozen
class SegmentUnlinked:
    """A segment's file is gone, and so is its space."""

    segment: int


@frozen
class UnlinkFailed:
    """A segment's file could not be removed."""

    segment: int


@frozen
class RestoredPage:
    key: PageKey
    offset: int
    nbytes: int


@frozen
class RestoredSegment:
    """A segment found at start, with the pages in it that the index knows."""

    segment: int
    capacity: int
    pages: tuple[RestoredPage, ...]


@frozen
class Restored:
    """What was found at start: the first event, if there is one. Keys are unique throughout."""

    segments: tuple[RestoredSegment, ...]


@frozen
class EntriesKept:
    """The index could not delete entries (key, segment, offset): they are there until it can."""

    entries: tuple[tuple[PageKey, int, int], ...]


LogEvent = (
    PageOffered
    | PageWritten
    | PagePublished
    | WriteFailed
    | OpenFailed
    | HitsSeen
    | PageDropped
    | SegmentHeld
    | SegmentDrained
    | SegmentUnlinked
    | UnlinkFailed
    | EntriesKept
    | Restored
    | Tick
)


SegmentEvent = (
    PageWritten
    | PagePublished
    | WriteFailed
    | OpenFailed
    | SegmentHeld
    | SegmentDrained
    | SegmentUnlinked
    | UnlinkFailed
)

# Actions


@frozen
class OpenSegment:
    """Make a segment's file and allocate ``capacity`` bytes; ``OpenFailed`` if that fails."""

    segment: int
    capacity: int


@frozen
class WritePage:
    """Write the offered page's record; then ``PageWritten`` or ``WriteFailed``."""

    key: PageKey
    segment: int
    offset: int


@frozen
class CopyPage:
    """Copy a page's record between segments, unless it was dropped since; then ``PageWritten`` or
    ``WriteFailed``. Where it still is in ``source``, it is there at ``source_offset`` and of ``nbytes``."""

    key: PageKey
    source: int
    source_offset: int
    segment: int
    offset: int
    nbytes: int


@frozen
class Publish:
    """Put a page into the index, in place of what is there; then ``PagePublished`` or ``WriteFailed``."""

    key: PageKey
    segment: int
    offset: int
    nbytes: int


@frozen
class Reveal:
    """Let readers find the page, here and nowhere else."""

    key: PageKey
    segment: int
    offset: int
    nbytes: int


@frozen
class RetireSegment:
    """Let nobody find these pages and nobody into the segment any more; then ``SegmentHeld`` if
    somebody is in it, or ``SegmentDrained``."""

    segment: int
    pages: tuple[RestoredPage, ...]


@frozen
class DropEntries:
    """Take entries out of the index that still say exactly this: (key, segment, offset). ``EntriesKept`` if
    that fails."""

    entries: tuple[tuple[PageKey, int, int], ...]


@frozen
class UnlinkSegment:
    """Remove a segment's file; then ``SegmentUnlinked`` (also if there was none) or ``UnlinkFailed``."""

    segment: int


LogAction = (
    OpenSegment
    | WritePage
    | CopyPage
    | Publish
    | Reveal
    | Refuse
    | RetireSegment
    | DropEntries
    | UnlinkSegment
)


def outcome_of_failure(action: LogAction) -> LogEvent | None:
    """What to tell the log of an action that came to nothing, whatever the reason; None: nothing."""
    match action:
        case OpenSegment(segment):
            return OpenFailed(segment)
        case WritePage() | CopyPage() | Publish():
            return WriteFailed(action.key, action.segment)
        case UnlinkSegment(segment):
            return UnlinkFailed(segment)
        case DropEntries(entries):
            return EntriesKept(entries)
        case Reveal() | Refuse() | RetireSegment():
            return None
        case _:
            assert_never(action)
