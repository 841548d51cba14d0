"""How a file goes to the store: whole or in parts, and whether it is asked for first."""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024

PART_BYTES: Final = 32 * MIB
"""The length of a part, and the largest file that is read into memory once and sent by one PUT."""

PARTS_MAX: Final = 10_000
"""What S3 allows of one upload."""

ASK_FIRST_BYTES: Final = 64 * 1024
"""Content longer than this is asked for by a HEAD before it is sent; sending less costs no more
than asking, and a create-only PUT says as well whether it was there."""


def is_sent_whole(size: int) -> bool:
    """Whether a file of ``size`` bytes is one PUT, read once; else it is hashed first and sent in parts."""
    return size <= PART_BYTES


def is_asked_for_first(size: int) -> bool:
    """Whether content of ``size`` bytes that may be there already is looked for before it is sent."""
    return size > ASK_FIRST_BYTES


def part_size_bytes(size: int) -> int:
    """The length of every part but the last, for a file of ``size`` bytes: whole mebibytes."""
    least = -(-size // PARTS_MAX)
    return max(PART_BYTES, -(-least // MIB) * MIB)
