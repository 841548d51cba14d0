"""What a segment log has in hand: segments and their states, pages on their way into them, pages that
wait for space. Records without decisions; ``seekfs_core.segments`` makes these.
"""

from __future__ import annotations

from enum import Enum

from attrs import define, field

from seekfs_core.pages import PageKey
from seekfs_core.segment_layout import SEGMENT_OVERHEAD_BYTES
from seekfs_core.segment_messages import (
    OpenFailed,
    PagePublished,
    PageWritten,
    SegmentDrained,
    SegmentEvent,
    SegmentHeld,
    SegmentUnlinked,
    UnlinkFailed,
    WriteFailed,
)


class SegmentState(Enum):
    OPEN = "open"
    SEALED = "sealed"
    FAILED = "failed"
    RETIRED = "retired"
    LEAVING = "leaving"
    STUCK = "stuck"
    GONE = "gone"


_S = SegmentState
LANDINGS: dict[tuple[SegmentState, type[SegmentEvent]], frozenset[SegmentState]] = {
    (_S.OPEN, PageWritten): frozenset({_S.OPEN}),
    (_S.OPEN, PagePublished): frozenset({_S.OPEN}),
    (_S.OPEN, WriteFailed): frozenset({_S.SEALED}),
    (_S.OPEN, OpenFailed): frozenset({_S.FAILED}),
    (_S.SEALED, PageWritten): frozenset({_S.SEALED}),
    (_S.SEALED, PagePublished): frozenset({_S.SEALED}),
    (_S.SEALED, WriteFailed): frozenset({_S.SEALED}),
    (_S.SEALED, OpenFailed): frozenset({_S.FAILED}),
    (_S.FAILED, WriteFailed): frozenset({_S.FAILED, _S.LEAVING}),
    (_S.RETIRED, SegmentHeld): frozenset({_S.RETIRED}),
    (_S.RETIRED, SegmentDrained): frozenset({_S.LEAVING}),
    (_S.LEAVING, SegmentUnlinked): frozenset({_S.GONE}),
    (_S.LEAVING, UnlinkFailed): frozenset({_S.STUCK}),
}
"""Where an event that names a segment may take it. STUCK is left by an offer, which tries again."""


@define
class Segment:
    """A segment that is claimed. ``capacity`` and ``used`` are bytes of its file."""

    number: int
    capacity: int
    gated: bool
    """Opened at the cost of another one, so that each of its pages has to be worth it."""
    state: SegmentState = SegmentState.OPEN
    used: int = 0
    placements: int = 0
    """Pages placed here that have no outcome yet."""
    copies: int = 0
    """Pages being carried over from here that have no outcome yet."""
    pages: dict[PageKey, tuple[int, int]] = field(factory=dict)
    """Offset and length of each page shown here."""

    @property
    def cost(self) -> int:
        """Bytes that it claims of the ceiling."""
        return self.capacity + SEGMENT_OVERHEAD_BYTES

    @property
    def room(self) -> int:
        """Bytes that are free behind its last record."""
        return self.capacity - self.used


@define
class Placement:
    """A page that has a place and no outcome yet; its record begins at ``offset`` of the segment."""

    segment: int
    offset: int
    nbytes: int
    source: int | None = None
    """The segment that the page is carried over from."""
    written: bool = False


@define
class Waiting:
    """An admitted page that waits for the space of segments on their way out."""

    key: PageKey
    nbytes: int
    segments: set[int]
