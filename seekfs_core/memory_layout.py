"""What ``cache.l1_memory_gib`` comes to, and how it is divided, in bytes: pages in RAM, and what stands
in for a disk.

With L2 on disk all of it is L1's. The ``mem`` backend has half of it, of which a part is for the
shelf of manifests that the disk would hold otherwise.

``memory_for`` and ``buffers_for`` are the least that works: a tier without room for a single page would
never hold one.
"""

from __future__ import annotations

from attrs import frozen

from seekfs_core.retention import ram_charge

USABLE_PART = 2
"""Pages have at most this part of the memory there is: buffers, trainers and the kernel's own cache
live on the same machine."""

SHELF_PART = 16
"""The shelf has this part of the ``mem`` backend's half."""


@frozen(kw_only=True)
class MemoryShares:
    """Bytes of each; together at most the ceiling. ``l2_bytes`` and ``shelf_bytes`` are 0 with L2 on disk."""

    l1_bytes: int
    l2_bytes: int
    shelf_bytes: int


def memory_ceiling_of(asked_bytes: int, available_bytes: int | None) -> int:
    """The ceiling of pages in memory, where ``asked_bytes`` were asked for and ``available_bytes`` are all
    that the machine or the control group has; None: unknown, no cap."""
    if available_bytes is None:
        return asked_bytes
    return min(asked_bytes, available_bytes // USABLE_PART)


def memory_shares_of(ceiling_bytes: int, *, holds_l2: bool) -> MemoryShares:
    """The division of a ceiling on memory; ``holds_l2`` where L2 is the ``mem`` backend."""
    if not holds_l2:
        return MemoryShares(l1_bytes=ceiling_bytes, l2_bytes=0, shelf_bytes=0)
    half_bytes = ceiling_bytes // 2
    shelf_bytes = half_bytes // SHELF_PART
    return MemoryShares(l1_bytes=half_bytes, l2_bytes=half_bytes - shelf_bytes, shelf_bytes=shelf_bytes)


def memory_for(page_length: int, *, holds_l2: bool) -> int:
    """The smallest ceiling on memory under which each tier in it keeps a page of ``page_length`` bytes."""
    charge = ram_charge(page_length)
    if not holds_l2:
        return charge
    # L2's share of a half is ceil(15/16 of it), and the smaller one: its smallest half with the charge in it.
    return 2 * ((charge - 1) * SHELF_PART // (SHELF_PART - 1) + 1)


def buffers_for(page_length: int) -> int:
    """The smallest room for page buffers in which a page of ``page_length`` bytes can be fetched, and read
    back from disk. One GET may have all of it (``seekfs_core.room``), and GETs are cut to fit."""
    return page_length
