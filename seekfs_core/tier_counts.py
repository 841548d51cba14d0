"""The tiers, in the order in which a page is looked for, and what counts of pages by tier say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

RAM: Final = "l1"
DISK: Final = "l2"
"""Or the memory that stands in for a disk."""

STORE: Final = "store"
CACHES: Final = (RAM, DISK)
TIERS: Final = (*CACHES, STORE)


@frozen(kw_only=True)
class Looks:
    """How often a cache was asked for a page that it had, and that it had not."""

    hits: int
    misses: int


def looks_of(pages_from: Mapping[str, int]) -> dict[str, Looks]:
    """The looks into each cache, in order; ``pages_from`` is how many pages were found in which tier.

    A cache is asked for what the ones before it have not: a page counts a miss of each of those.
    """
    looks = {}
    left = sum(pages_from.get(tier, 0) for tier in TIERS)
    for tier in CACHES:
        hits = pages_from.get(tier, 0)
        left -= hits
        looks[tier] = Looks(hits=hits, misses=left)
    return looks


def hit_ratio(pages_from: Mapping[str, int]) -> float | None:
    """The share of pages that came from a cache; None before there was any."""
    pages = sum(pages_from.get(tier, 0) for tier in TIERS)
    return 1 - pages_from.get(STORE, 0) / pages if pages else None
