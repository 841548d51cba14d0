"""What counters say about a namespace: how well caching works for it, and what to warm."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import asdict, define, field, frozen

from seekfs_core.errors import ContractViolation
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


@frozen
class WarmFile:
    """A file that is read and of which ``pages_absent`` pages are in no tier."""

    path: str
    pages_absent: int
    reads: int


@define
class WarmSearch:
    """Which files to warm: the most read ones of which pages are in no tier, ``WARM_PATHS_MAX`` of them.

    To see what a cache holds of a file costs a look at each page. So the search says which file is to be
    looked at next and hears what was seen, until there is no ``next_file``.
    """

    manifest: Manifest
    reads_by_path: Mapping[str, int]
    found: list[WarmFile] = field(factory=list, init=False)
    next_file: FileEntry | None = field(default=None, init=False)
    _rest: Iterator[FileEntry] = field(init=False)

    def __attrs_post_init__(self) -> None:
        most_read = sorted(self.reads_by_path.items(), key=lambda item: (-item[1], item[0]))
        files = self.manifest.files
        self._rest = iter([files[path] for path, _ in most_read if path in files])
        self.next_file = next(self._rest, None)

    def seen(self, pages_absent: int) -> None:
        """So many pages of ``next_file`` are in no tier. ``ContractViolation`` where there is none."""
        file = self.next_file
        if file is None:
            raise ContractViolation("pages of no file were looked for")
        if pages_absent:
            self.found.append(WarmFile(file.path, pages_absent, self.reads_by_path[file.path]))
        self.next_file = None if len(self.found) == WARM_PATHS_MAX else next(self._rest, None)


def advise(
    ns: str, manifest: Manifest | None, counts: NamespaceCounts, warm: Iterable[WarmFile]
) -> dict[str, Any]:
    """One entry of ``GET /advisor``.

    ``gets_saved`` is what reading page by page without a cache would have cost beyond
    ``gets_made``; ``hit_ratio`` the share of pages that came from a tier, None before any read.
    ``warm`` is what a ``WarmSearch`` has found.
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
        "warm": [asdict(each) for each in warm],
    }


def still_counted(reads_by_path: dict[str, int]) -> dict[str, int]:
    """The counts to go on with: all of them, or the most read half where there are too many.

    Of paths that were read equally often those that were counted first stay.
    """
    if len(reads_by_path) <= PATHS_COUNTED_MAX:
        return reads_by_path
    most_read = sorted(reads_by_path.items(), key=lambda item: -item[1])
    return dict(most_read[: PATHS_COUNTED_MAX // 2])
