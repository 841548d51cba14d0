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

PAYLOAD_BYTES_MAX: Final = PAGE_SIZE_BYTES_MAX
"""A frame holds at most one page."""
