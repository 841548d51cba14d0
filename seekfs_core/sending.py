"""How a file goes to the store: whole or in parts, and whether it is asked for first.

How long a part may be is for memory to say (``seekfs_core.transfer_layout``); here is what the store says.
"""

from __future__ import annotations

from typing import Final

MIB: Final = 1024 * 1024

PART_BYTES: Final = 32 * MIB
"""The length of a part where memory allows: long enough that the request costs nothing beside its bytes."""

PART_BYTES_MIN: Final = 5 * MIB
"""What S3 takes for a part that is not the last."""

PARTS_MAX: Final = 10_000
"""What S3 allows of one upload."""

ASK_FIRST_BYTES: Final = 64 * 1024
"""Content longer than this is asked for by a HEAD before it is sent; sending less costs no more
than asking, and a create-only PUT says as well whether it was there."""


def is_sent_whole(size: int, part_bytes: int) -> bool:
    """Whether a file of ``size`` bytes is one PUT, read into memory once; else it is hashed first and sent
    in parts."""
    return size <= part_bytes


def is_asked_for_first(size: int) -> bool:
    """Whether content of ``size`` bytes that may be there already is looked for before it is sent."""
    return size > ASK_FIRST_BYTES


def part_size_bytes(size: int, part_bytes: int) -> int:
    """The length of every part but the last, for a file of ``size`` bytes: ``part_bytes``, or as many more
    whole mebibytes as it takes to have no more than ``PARTS_MAX`` parts."""
    least = -(-size // PARTS_MAX)
    return max(part_bytes, -(-least // MIB) * MIB)
