"""What a cache directory holds when it is opened: the index's word, checked, or the records' own.

What is believed is ``seekfs_core.restoring``'s to say. An index that is not, that has not its size or
cannot be read, is made anew from the headers of the records, one small read a page, segment by
segment up to the first place without one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import define, field

from seekfs_core.cache_directory import segment_in
from seekfs_core.pages import PageKey
from seekfs_core.restoring import (
    IndexEntry,
    RecordHeader,
    Restoration,
    doubt_of_index,
    entries_of,
    restored_from,
)
from seekfs_core.segment_layout import Shares
from seekfs_io.pages.directory import PATH_KEY, CacheDirectory, CacheRefused, segment_path, write_file
from seekfs_io.pages.index import IndexUnusable, PageIndex, raise_for, remove_index
from seekfs_io.pages.segment_file import walk_records

log = logging.getLogger("seekfs.cache")

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")


@define
class Recovered:
    """What is in the directory, and the index of it."""

    index: PageIndex
    restoration: Restoration
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


def recover(directory: CacheDirectory, shares: Shares) -> Recovered:
    """Open the index, or make a new one; ``CacheRefused`` when the disk does not allow either."""
    try:
        lengths = _segment_lengths(directory.segments_path)
        boot = _boot_id()
        try:
            return _from_index(directory, shares, lengths, boot)
        except IndexUnusable as reason:
            if lengths:
                log.warning("the index in %s is made anew: %s", directory.path, reason)
        directory.boot_path.unlink(missing_ok=True)
        remove_index(directory.index_path)
        index = PageIndex(directory.index_path, shares.index_bytes)
        restoration = restored_from(_walk(directory, lengths), lengths)
        return Recovered(index, restoration, new_boot=(directory.boot_path, boot))
    except (OSError, IndexUnusable) as error:
        raise CacheRefused(PATH_KEY, f"{str(directory.path)!r} cannot be used: {error}") from None


def _segment_lengths(path: Path) -> dict[int, int]:
    lengths = {}
    for entry in path.iterdir():
        number = segment_in(entry.name)
        if number is not None:
            lengths[number] = entry.lstat().st_size
    return dict(sorted(lengths.items()))


def _boot_id() -> bytes:
    """Which boot of the machine this is; empty when that cannot be known."""
    with contextlib.suppress(OSError):
        return BOOT_ID_PATH.read_bytes().strip()
    return b""


def _from_index(directory: CacheDirectory, shares: Shares, lengths: dict[int, int], boot: bytes) -> Recovered:
    made_under = None
    with contextlib.suppress(FileNotFoundError):
        made_under = directory.boot_path.read_bytes()
    raise_for(doubt_of_index(made_under, boot))
    index = PageIndex(directory.index_path, shares.index_bytes)
    try:
        restoration = restored_from(index, lengths)
    except IndexUnusable:
        index.close()
        raise
    if lost := restoration.lost:
        log.warning("%d pages in %s are lost: their bytes are not there", len(lost), directory.path)
        with contextlib.suppress(OSError):  # Then they are found again at the next start.
            index.drop(lost)
    return Recovered(index, restoration)


def _walk(directory: CacheDirectory, lengths: dict[int, int]) -> Iterator[tuple[PageKey, IndexEntry]]:
    """What the records of all segments say of themselves."""
    for number, length in lengths.items():
        records: list[RecordHeader] | None = None
        try:
            records = walk_records(segment_path(directory, number), number, directory.store_id, length)
        except OSError as error:
            log.warning("segment %d in %s cannot be read: %s", number, directory.path, error)
        yield from entries_of(records)
