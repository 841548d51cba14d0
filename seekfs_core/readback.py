"""How much of a page on disk is read when a slice of it is wanted.

Only a whole page can be checked. So the first time a process reads a page back it reads all of it,
and whenever it reads all of it, it checks it. After that first time a small slice is read by
itself: random reads of 4 KiB would otherwise cost a page each. A slice that is most of the page
brings all of it, which RAM may then keep.
"""

from __future__ import annotations

WINDOW_BYTES = 256 * 1024
"""What is read at once of a slice that is read by itself, and so the memory that this takes."""

WHOLE_PAGE_SHARE = 0.5
"""From this share of a page on, reading the rest with it costs less than coming back for it."""


def reads_whole_page(*, verified: bool, slice_bytes: int, page_bytes: int) -> bool:
    """Whether to read a page whole for a slice of it. ``verified``: by this process, earlier."""
    return not verified or slice_bytes >= page_bytes * WHOLE_PAGE_SHARE
