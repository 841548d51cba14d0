"""The index of the pages on disk: an LMDB environment, from page key to place.

Only written while the daemon runs, and read once, at start. Rules of this file:

* ``sync=False``: a commit is in the page cache when it returns, so it survives the death of the
  process and not that of the machine. An index of another boot is therefore not opened at all.
* Its map is exactly the share that the ceiling reserves for it, and the machine never asks for
  more entries than fit (``seekfs_core.segment_layout``). Deletions go in small transactions,
  because each one needs room for copies of the tree's pages that it touches.
* LMDB maps its file, so a file that is shorter than its own tree would kill the process: the
  length is asked about before the tree is touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import lmdb

from seekfs_core.cache_directory import INDEX_DATA_NAME
from seekfs_core.pages import PageKey
from seekfs_core.restoring import IndexDoubt, IndexEntry, doubt_of_index_file, doubt_of_index_tree
from seekfs_io.pages.segment_format import decode_entry, encode_entry

DELETIONS_PER_TRANSACTION = 32
INSERTIONS_PER_TRANSACTION = 4096


class IndexUnusable(Exception):
    """The index cannot be trusted and is to be rebuilt; the text says why."""


def raise_for(doubt: IndexDoubt | None) -> None:
    """``IndexUnusable`` for a doubt, if there is one."""
    if doubt is not None:
        raise IndexUnusable(doubt.value)


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """What LMDB says of the disk, as the ``OSError`` that the disk's own calls would raise."""
    try:
        yield
    except lmdb.Error as error:
        raise OSError(errno.EIO, str(error)) from None


class PageIndex:
    """Puts and deletes may come from many threads; LMDB lets one write at a time."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        """Open the index, or make one. ``IndexUnusable``, or ``OSError`` if the disk refuses."""
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            data = path / INDEX_DATA_NAME
            stored_bytes = data.stat().st_size if data.exists() else 0
            raise_for(doubt_of_index_file(stored_bytes, map_bytes))
            self._environment = lmdb.open(
                str(path), map_size=map_bytes, sync=False, mode=0o600, max_readers=8, max_spare_txns=1
            )
        except lmdb.Error as error:
            raise IndexUnusable(str(error)) from None
        info, stat = self._environment.info(), self._environment.stat()
        try:
            raise_for(doubt_of_index_tree(stored_bytes, (info["last_pgno"] + 1) * stat["psize"]))
        except IndexUnusable:
            self._environment.close()
            raise

    def __iter__(self) -> Iterator[tuple[PageKey, IndexEntry]]:
        """Every entry that can be one, in the order of keys. ``IndexUnusable`` if it is damaged."""
        try:
            with self._environment.begin() as transaction, transaction.cursor() as cursor:
                for key, stored in cursor:
                    entry = decode_entry(key, stored)
                    if entry is not None:
                        yield PageKey(key), entry
        except lmdb.Error as error:
            raise IndexUnusable(str(error)) from None

    def put(self, key: PageKey, entry: IndexEntry) -> None:
        """Add an entry or replace it. ``OSError`` if the disk refuses."""
        with _disk_errors(), self._environment.begin(write=True) as transaction:
            transaction.put(key, encode_entry(entry))

    def put_all(self, entries: Iterable[tuple[PageKey, IndexEntry]]) -> None:
        """Fill an index that was just made. In the order of keys, so that its pages become full ones."""
        batch: list[tuple[bytes, bytes]] = []
        for key, entry in sorted(entries, key=lambda item: item[0]):
            batch.append((key, encode_entry(entry)))
            if len(batch) == INSERTIONS_PER_TRANSACTION:
                self._put_batch(batch)
                batch.clear()
        self._put_batch(batch)

    def _put_batch(self, batch: list[tuple[bytes, bytes]]) -> None:
        with _disk_errors(), self._environment.begin(write=True) as txn, txn.cursor() as cursor:
            cursor.putmulti(batch)

    def drop(self, entries: Iterable[tuple[PageKey, int, int]]) -> None:
        """Delete entries (key, segment, offset) that still name this place, and no others. ``OSError``."""
        todo = list(entries)
        for start in range(0, len(todo), DELETIONS_PER_TRANSACTION):
            with _disk_errors(), self._environment.begin(write=True) as transaction:
                for key, segment, offset in todo[start : start + DELETIONS_PER_TRANSACTION]:
                    stored = transaction.get(key)
                    entry = None if stored is None else decode_entry(key, stored)
                    if stored is not None and (
                        entry is None or (entry.segment, entry.offset) == (segment, offset)
                    ):
                        transaction.delete(key)

    def close(self) -> None:
        """Let go of it; what was put stays. The disk is asked to have it, too: ``OSError``."""
        try:
            with _disk_errors():
                self._environment.sync(True)
        finally:
            self._environment.close()


def remove_index(path: Path) -> None:
    """Delete an index's files, so that a new one can be made."""
    if os.path.lexists(path):
        shutil.rmtree(path)
