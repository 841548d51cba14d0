"""What a cache directory holds when it is opened: the index's word, checked, or the records' own.

An index is believed when it was made under this boot of the machine, has its size, and can be
read; then each entry has to lie inside a file that is there. Otherwise it is made anew from the
headers of the records, one small read a page, segment by segment up to the first place without
one. Either way pages are verified when they are first read.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

from attrs import define, field

from seekfs_core.pages import PageKey
from seekfs_core.segment_layout import Shares, record_length
from seekfs_io.pages.directory import (
    PATH_KEY,
    SEGMENT_NAME,
    CacheDirectory,
    CacheRefused,
    segment_path,
    write_file,
)
from seekfs_io.pages.index import IndexUnusable, PageIndex, remove_index
from seekfs_io.pages.segment_file import walk_records
from seekfs_io.pages.segment_format import IndexEntry

log = logging.getLogger("seekfs.cache")

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")

Pages = list[tuple[PageKey, IndexEntry]]


@define
class Found:
    """Segments by number, each with its length in bytes and the pages known to be in it."""

    index: PageIndex
    segments: dict[int, tuple[int, Pages]]
    entries_lost: int = 0
    """Entries of the index whose bytes are not there."""

    _new_boot: tuple[Path, bytes] | None = field(default=None, alias="new_boot")

    def settle(self, entries: Iterable[tuple[PageKey, IndexEntry]]) -> None:
        """Fill an index that was made anew with what is kept, and only then believe it from now on."""
        if self._new_boot is None:
            return
        try:
            self.index.put_all(entries)
            write_file(*self._new_boot)
        except OSError as error:
            raise CacheRefused(PATH_KEY, f"the index cannot be written: {error}") from None


def recover(directory: CacheDirectory, shares: Shares) -> Found:
    """Open the index, or make a new one; ``CacheRefused`` when the disk does not allow either."""
    try:
        lengths = _segment_lengths(directory.segments_path)
        boot = _boot_id()
        try:
            index, segments, lost = _from_index(directory, shares, lengths, boot)
            return Found(index, segments, lost)
        except IndexUnusable as reason:
            if lengths:
                log.warning("the index in %s is made anew: %s", directory.path, reason)
        directory.boot_path.unlink(missing_ok=True)
        remove_index(directory.index_path)
        index = PageIndex(directory.index_path, shares.index_bytes)
        segments = _from_records(directory, lengths)
        return Found(index, segments, new_boot=(directory.boot_path, boot))
    except (OSError, IndexUnusable) as error:
        raise CacheRefused(PATH_KEY, f"{str(directory.path)!r} cannot be used: {error}") from None


def _segment_lengths(path: Path) -> dict[int, int]:
    lengths = {}
    for entry in path.iterdir():
        name = SEGMENT_NAME.fullmatch(entry.name)
        if name is not None:
            lengths[int(name[1], 16)] = entry.lstat().st_size
    return dict(sorted(lengths.items()))


def _boot_id() -> bytes:
    """Which boot of the machine this is; empty when that cannot be known, which equals no boot."""
    with contextlib.suppress(OSError):
        return BOOT_ID_PATH.read_bytes().strip()
    return b""


def _from_index(
    directory: CacheDirectory, shares: Shares, lengths: dict[int, int], boot: bytes
) -> tuple[PageIndex, dict[int, tuple[int, Pages]], int]:
    try:
        stored_boot = directory.boot_path.read_bytes()
    except FileNotFoundError:
        raise IndexUnusable("it was not finished") from None
    if not boot or stored_boot != boot:
        raise IndexUnusable("it is of another boot of this machine")
    index = PageIndex(directory.index_path, shares.index_bytes)
    segments: dict[int, tuple[int, Pages]] = {number: (length, []) for number, length in lengths.items()}
    stale = []
    try:
        for key, entry in index:
            length, pages = segments.get(entry.segment, (0, []))
            if entry.offset + record_length(entry.length) <= length:
                pages.append((key, entry))
            else:
                stale.append((key, entry.segment, entry.offset))
    except IndexUnusable:
        index.close()
        raise
    if stale:
        log.warning("%d pages in %s are lost: their bytes are not there", len(stale), directory.path)
        with contextlib.suppress(OSError):  # Then they are found again at the next start.
            index.drop(stale)
    return index, segments, len(stale)


def _from_records(directory: CacheDirectory, lengths: dict[int, int]) -> dict[int, tuple[int, Pages]]:
    places: dict[PageKey, IndexEntry] = {}
    for number, length in lengths.items():
        try:
            path = segment_path(directory, number)
            headers = walk_records(path, number, directory.store_id, length)
        except OSError as error:
            log.warning("segment %d in %s cannot be read: %s", number, directory.path, error)
            continue
        for header in headers:
            # A page that was being carried over is in two segments; the later one stays.
            places[header.key] = IndexEntry(number, header.offset, header.length, header.crc32c)
    segments: dict[int, tuple[int, Pages]] = {number: (length, []) for number, length in lengths.items()}
    for key, entry in places.items():
        segments[entry.segment][1].append((key, entry))
    return segments
