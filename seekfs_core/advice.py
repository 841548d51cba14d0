"""What counters say about a namespace: how well caching works for it, and what to warm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.tier_counts import hit_ratio

WARM_PATHS_MAX = 10
"""Files suggested for warming: enough to act on, few enough to read."""

PATHS_COUNTED_MAX = 10_000
"""Paths whose reads are counted, per namespace; the least read half goes when there are more."""


@frozen(kw_only=True)
class NamespaceCounts:
    """What reads of a namespace took, in pages and bytes by tier (``seekfs_core.tier_counts``)."""

    gets_made: int
    pages_from: Mapping[str, int]
    bytes_from: Mapping[str, int]
    reads_by_path: Mapping[str, int]


def advise(
    ns: str, manifest: Manifest | None, counts: NamespaceCounts, pages_absent: Callable[[FileEntry], int]
) -> dict[str, Any]:
    """One entry of ``GET /advisor``.

    ``gets_saved`` is what reading page by page without a cache would have cost beyond
    ``gets_made``; ``hit_ratio`` the share of pages that came from a tier, None before any read.
    ``warm`` names the most read files of which pages are in no tier. ``pages_absent`` counts these
    of a file; it is asked only for files that are read.
    """
    pages = sum(counts.pages_from.values())
    return {
        "ns": ns,
        "version": None if manifest is None else manifest.version,
        "files": None if manifest is None else len(manifest.files),
        "bytes": None if manifest is None else manifest.total_bytes,
        "gets_made": counts.gets_made,
        "gets_saved": max(0, pages - counts.gets_made),
        "bytes_from": dict(counts.bytes_from),
        "hit_ratio": hit_ratio(counts.pages_from),
        "warm": [] if manifest is None else _warm(manifest, counts.reads_by_path, pages_absent),
    }


def still_counted(reads_by_path: dict[str, int]) -> dict[str, int]:
    """The counts to go on with: all of them, or the most read half where there are too many.

    Of paths that were read equally often those that were counted first stay.
    """
    if len(reads_by_path) <= PATHS_COUNTED_MAX:
        return reads_by_path
    most_read = sorted(reads_by_path.items(), key=lambda item: -item[1])
    return dict(most_read[: PATHS_COUNTED_MAX // 2])


def _warm(
    manifest: Manifest, reads_by_path: Mapping[str, int], pages_absent: Callable[[FileEntry], int]
) -> list[dict[str, Any]]:
    warm: list[dict[str, Any]] = []
    for path, reads in sorted(reads_by_path.items(), key=lambda item: (-item[1], item[0])):
        file = manifest.files.get(path)
        if file is not None and (absent := pages_absent(file)):
            warm.append({"path": path, "pages_absent": absent, "reads": reads})
            if len(warm) == WARM_PATHS_MAX:
                break
    return warm
