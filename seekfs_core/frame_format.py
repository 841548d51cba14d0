"""The frames of a batch's answer on the wire (docs/SPEC.md, section 4, ``/readv``): 16 bytes, then a payload.

Both who sends and who receives frames takes the format from here.
"""

from __future__ import annotations

import struct
from typing import Final

from seekfs_core.manifest import PAGE_SIZE_BYTES_MAX

MEDIA_TYPE: Final = "application/x-seekfs-frames"

HEADER: Final = struct.Struct("<IIQ")
"""Status, CRC-32C of the payload, length of the payload in bytes. 16 bytes, little-endian."""

LAST: Final = 200
"""The item's last frame."""

MORE: Final = 206
"""More of this item follows. Any other status is that of a problem document: the item has failed."""


def is_failure(status: int) -> bool:
    """Whether a frame says that its item has failed, and earlier frames of it are void."""
    return 400 <= status <= 599


def ends_item(status: int) -> bool:
    """Whether a frame is the last of its item, or says that it has failed."""
    return status == LAST or is_failure(status)


PAYLOAD_BYTES_MAX: Final = PAGE_SIZE_BYTES_MAX
"""A frame holds at most one page."""
