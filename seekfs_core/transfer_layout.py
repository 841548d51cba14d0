"""How ``cache.inflight_mib`` is divided when files are sent and objects are read through, in bytes.

Sending holds one buffer for each part, or whole file, that is read or on its way. Reading through
holds, for each object that is hashed, the GET that is hashed and those that run ahead of it.

Little memory makes buffers shorter before it makes them fewer, so that reading and sending still
overlap. There are two things that it cannot make shorter: S3 takes no part under 5 MiB, and no more
than 10,000 of them, so a file of 5 TiB has parts of 525 MiB. Sending holds one such buffer even where
``inflight_mib`` is smaller. All else stays within it, but for the mebibyte by which a large file is hashed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from attrs import frozen

from seekfs_core.sending import MIB, PART_BYTES, PART_BYTES_MIN, is_sent_whole, part_size_bytes

BUFFERS_WANTED: Final = 4
"""Parts, and GETs, are made shorter until so many fit: one is read while others are sent or hashed."""

LANES_MAX: Final = 8
"""More uploads at once gain nothing on the links that this runs on, and cost memory."""

HASHERS_MAX: Final = 8
"""Objects hashed at once; SHA-256 leaves the interpreter's lock, so a core each."""

AHEAD_MAX: Final = 8
"""GETs of one object under way at once: a single connection to S3 gives some 90 MB/s."""

WINDOW_BYTES_MIN: Final = MIB
"""GETs are not made shorter than this to have several: their number is bounded by the budget."""


@frozen(kw_only=True)
class UploadLayout:
    """``part_bytes`` is the length of a part, and of the largest file that is sent whole. At most
    ``buffers`` parts and whole files are in memory, and ``lanes`` of them are sent at once."""

    part_bytes: int
    buffers: int
    lanes: int

    def is_beside_others(self, size: int) -> bool:
        """Whether a file of ``size`` bytes takes one lane, beside others. One that is sent in parts has all
        lanes for these: such files go one after the other, and each is whole the sooner."""
        return is_sent_whole(size, self.part_bytes)


@frozen(kw_only=True)
class ScanLayout:
    """``hashers`` objects are read at once, each by ``ahead`` GETs of ``window_bytes``."""

    window_bytes: int
    hashers: int
    ahead: int


@frozen(kw_only=True)
class PutLayout:
    """Of sending files where something may be already, which is read back then."""

    upload: UploadLayout
    scan: ScanLayout


def upload_layout_of(memory_bytes: int, sizes: Collection[int]) -> UploadLayout:
    """For files of these sizes, of which one is at least there; buffers are counted by the largest."""
    part_bytes = min(PART_BYTES, max(PART_BYTES_MIN, memory_bytes // BUFFERS_WANTED // MIB * MIB))
    largest = max(sizes)
    longest = largest if is_sent_whole(largest, part_bytes) else part_size_bytes(largest, part_bytes)
    # One more than is sent: the next one is read meanwhile.
    buffers = max(1, min(LANES_MAX + 1, memory_bytes // max(1, longest)))
    return UploadLayout(part_bytes=part_bytes, buffers=buffers, lanes=max(1, buffers - 1))


def scan_layout_of(memory_bytes: int, window_bytes_max: int, objects_count: int) -> ScanLayout:
    """For reading ``objects_count`` objects by GETs of at most ``window_bytes_max``."""
    fair_bytes = max(memory_bytes // BUFFERS_WANTED, min(WINDOW_BYTES_MIN, memory_bytes))
    window_bytes = max(1, min(window_bytes_max, fair_bytes))
    windows = max(1, memory_bytes // window_bytes)
    hashers = max(1, min(HASHERS_MAX, objects_count, windows // 2))
    return ScanLayout(
        window_bytes=window_bytes, hashers=hashers, ahead=max(1, min(AHEAD_MAX, windows // hashers))
    )


def put_layout_of(memory_bytes: int, window_bytes_max: int, sizes: Collection[int]) -> PutLayout:
    """Half of the memory for sending, the other for reading back."""
    half_bytes = memory_bytes // 2
    return PutLayout(
        upload=upload_layout_of(half_bytes, sizes),
        scan=scan_layout_of(memory_bytes - half_bytes, window_bytes_max, len(sizes)),
    )
