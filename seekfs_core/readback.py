"""What of a page on disk is believed, and how much of it is read when a slice of it is wanted.

Only a whole page can be checked. So the first time a process reads a page back it reads all of it,
and whenever it reads all of it, it checks it. After that first time a small slice is read by
itself: random reads of 4 KiB would otherwise cost a page each. A slice that is most of the page
brings all of it, which RAM may then keep.
"""

from __future__ import annotations

import enum
from typing import assert_never

from seekfs_core.tier import Outcome

WINDOW_BYTES = 256 * 1024
"""What is read at once of a slice that is read by itself, and so the memory that this takes."""

WHOLE_PAGE_SHARE = 0.5
"""From this share of a page on, reading the rest with it costs less than coming back for it."""


def reads_whole_page(*, verified: bool, slice_bytes: int, page_bytes: int) -> bool:
    """Whether to read a page whole for a slice of it. ``verified``: by this process, earlier."""
    return not verified or slice_bytes >= page_bytes * WHOLE_PAGE_SHARE


class PageLoss(enum.Enum):
    """Why a page on disk is dropped. Each loss is a miss: the page is fetched again."""

    DISAGREES = "it is not the page that the manifest means"
    UNREADABLE = "it cannot be read"
    DAMAGED = "its record is damaged"
    WRONG_CRC = "its CRC is wrong"

    @property
    def is_fault(self) -> bool:
        """Whether it counts as a fault of the tier; wrong bytes are counted as CRC failures."""
        return self is not PageLoss.WRONG_CRC


def loss_in_reading(outcome: Outcome) -> PageLoss | None:
    """What is lost of a page when reading it had this outcome; None: nothing, it may be read later."""
    match outcome:
        case Outcome.DAMAGED:
            return PageLoss.DAMAGED
        case Outcome.VANISHED | Outcome.REFUSED | Outcome.HUNG:
            return PageLoss.UNREADABLE
        case Outcome.DONE | Outcome.STARVED | Outcome.UNTRIED | Outcome.CAME_BACK:
            return None
        case _:
            assert_never(outcome)


def disagreement(held: tuple[int, int], wanted: tuple[int, int]) -> PageLoss | None:
    """What is wrong with a page that is held for another one: ``held`` by the tier, ``wanted`` by the
    manifest, as length in bytes and CRC-32C. The manifest is right."""
    return None if held == wanted else PageLoss.DISAGREES


def corruption(found_crc32c: int, wanted_crc32c: int) -> PageLoss | None:
    """What is wrong with a page of which all bytes were read back; None: it counts as verified from now on.

    ``found_crc32c`` is the CRC-32C of those bytes, ``wanted_crc32c`` what the page was held for.
    """
    return None if found_crc32c == wanted_crc32c else PageLoss.WRONG_CRC
