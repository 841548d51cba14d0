"""The second tier of pages (L2), as the data plane sees it.

Hit, miss and fault are three outcomes. A fault (an unreadable or falsified page) is counted
by the tier, drops the page, and looks like a miss: a cache may slow a read, never fail or
falsify it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attrs import field, frozen

from seekfs_core.pages import PageKey
from seekfs_core.retention import Refusal

CLOSE_SECONDS_DEFAULT = 60.0


class PageLease(Protocol):
    """A page that cannot be reclaimed while it is held. Belongs to one thread; release it once."""

    length: int
    crc32c: int

    @property
    def keeps_view(self) -> bool:
        """Whether the disk hangs in a ``readinto`` of this lease: it still may write into that view, so
        nobody is to use that memory any more."""
        ...

    @property
    def verified(self) -> bool:
        """Whether this process has already read the whole page back and found its CRC right.
        Until then a reader reads all of it and calls ``mark_verified`` or ``condemn``."""
        ...

    def readinto(self, view: memoryview, offset: int) -> bool:
        """Fill ``view`` with the page's bytes from ``offset``; False on a fault (the page is
        dropped and counted). Look at ``keeps_view`` then."""
        ...

    def mark_verified(self) -> None:
        """The whole page was read in this process and its CRC-32C was right."""
        ...

    def condemn(self) -> None:
        """The page's bytes are wrong: drop it from the tier and count a CRC failure."""
        ...

    def release(self) -> None: ...


@frozen(kw_only=True)
class TierStatistics:
    """Counters since the process started, and what the tier holds now. Bytes throughout."""

    name: str
    bytes_held: int
    bytes_ceiling: int
    pages_held: int
    pages_written: int = 0
    refusals: Mapping[Refusal, int] = field(factory=dict)
    """How many pages it has not admitted, and why; what is not in it is 0."""
    pages_evicted: int = 0
    crc_failures: int = 0
    faults: int = 0
    off_because: str | None = None
    """Why the tier has turned itself off, or None while it serves."""


class PageStore(Protocol):
    """An L2. Calls may come from many threads at once."""

    name: str
    """``segmentstore`` or ``mem``."""

    def __contains__(self, key: PageKey) -> bool:
        """Whether a lease would be granted now. A table lookup: no I/O."""
        ...

    def lease(self, key: PageKey, length: int, crc32c: int) -> PageLease | None:
        """Hold a page for reading; None on a miss.

        ``length`` and ``crc32c`` are the manifest's: an entry that differs is a fault.
        """
        ...

    def store(self, key: PageKey, page: memoryview, crc32c: int) -> bool:
        """Keep a verified page; False when it was not admitted or could not be written.

        Blocks for the disk write: called by write-behind threads only. Never raises for the
        disk's sake.
        """
        ...

    def tell_hits(self) -> None:
        """Have the policy hear of the pages that were leased. It does so now and then by itself, too."""
        ...

    def statistics(self) -> TierStatistics: ...

    def close(self, timeout_seconds: float = CLOSE_SECONDS_DEFAULT) -> None:
        """Make what was stored durable across a restart of the process, and let go of the files.

        Returns when that is done, or when the bound has passed because a disk hangs; never raises.
        """
        ...
