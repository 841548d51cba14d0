"""How ``cache.l1_memory_gib`` is divided, in bytes: pages in RAM, and what stands in for a disk.

With L2 on disk all of it is L1's. The ``mem`` backend has half of it, of which a part is for the
shelf of manifests that the disk would hold otherwise.
"""

from __future__ import annotations

from attrs import frozen

SHELF_PART = 16
"""The shelf has this part of the ``mem`` backend's half."""


@frozen(kw_only=True)
class MemoryShares:
    """Bytes of each; together at most the ceiling. ``l2_bytes`` and ``shelf_bytes`` are 0 with L2 on disk."""

    l1_bytes: int
    l2_bytes: int
    shelf_bytes: int


def memory_shares_of(ceiling_bytes: int, *, holds_l2: bool) -> MemoryShares:
    """The division of a ceiling on memory; ``holds_l2`` where L2 is the ``mem`` backend."""
    if not holds_l2:
        return MemoryShares(l1_bytes=ceiling_bytes, l2_bytes=0, shelf_bytes=0)
    half_bytes = ceiling_bytes // 2
    shelf_bytes = half_bytes // SHELF_PART
    return MemoryShares(l1_bytes=half_bytes, l2_bytes=half_bytes - shelf_bytes, shelf_bytes=shelf_bytes)
