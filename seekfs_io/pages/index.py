"""The index of the pages on disk: an LMDB environment, from page key to place.

Only written while the daemon runs, and read once, at start. Rules of this file:

* ``sync=False``: a commit is in the page cache when it returns, so it survives the death of the
  process and not that of the machine. An index of another boot is therefore not opened at all.
* Its map is exactly the share that the ceiling reserves for it, and the machine never asks for
  more entries than fit (``seekfs_core.segment_layout``). Deletions go in small transactions,
  because each one needs room for copies of the tree's pages that it touches.
* LMDB maps its file, so a file that is shorter than its own tree would kill the process (SIGBUS): the
  length is asked about before the tree is touched, when it is opened and before each transaction. What
  somebody cuts off in the middle of one is not met.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import lmdb

from seekfs_core.cache_directory import INDEX_DATA_NAME
from seekfs_core.pages import PageKey
from seekfs_core.restoring import (
    IndexDoubt,
    IndexEntry,
    doubt_of_index_file,
    doubt_of_index_tree,
    doubt_of_open_index,
)
from seekfs_io.pages.segment_format import decode_entry, encode_entry

DELETIONS_PER_TRANSACTION = 32
INSERTIONS_PER_TRANSACTION = 4096


class IndexUnusable(Exception):
    """The index cannot be trusted and is to be rebuilt; the text says why."""


def raise_for(doubt: IndexDoubt | None) -> None:
    """``IndexUnusable`` for a doubt, if there is one."""
    if doubt is not None:
        raise IndexUnusable(doubt.value)


class PageIndex:
    """Puts and deletes may come from many threads; one writes at a time."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        """Open the index, or make one. ``IndexUnusable``, or ``OSError`` if the disk refuses."""
        self._path = path
        self._map_bytes = map_bytes
        self._writing = threading.Lock()
        self._is_broken = False
        path.mkdir(mode=0o700, exist_ok=True)
        self._environment = self._open()
        self._length = self._length_now()

    def _open(self) -> lmdb.Environment:
        data = self._path / INDEX_DATA_NAME
        stored_bytes = data.stat().st_size if data.exists() else 0
        raise_for(doubt_of_index_file(stored_bytes, self._map_bytes))
        try:
            environment = lmdb.open(
                str(self._path),
                map_size=self._map_bytes,
                sync=False,
                mode=0o600,
                max_readers=8,
                max_spare_txns=1,
            )
        except lmdb.Error as error:
            raise IndexUnusable(str(error)) from None
        info, stat = environment.info(), environment.stat()
        try:
            raise_for(doubt_of_index_tree(stored_bytes, (info["last_pgno"] + 1) * stat["psize"]))
        except IndexUnusable:
            environment.close()
            raise
        return environment

    def _length_now(self) -> int:
        return (self._path / INDEX_DATA_NAME).stat().st_size

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[lmdb.Transaction]:
        """A write transaction. ``OSError`` for all that the disk, or LMDB, says against it."""
        with self._writing:
            try:
                if self._is_broken:
                    self._environment.close()
                    self._environment = self._open()
                    self._is_broken = False
                raise_for(doubt_of_open_index(self._length, self._length_now()))
                with self._environment.begin(write=True) as transaction:
                    yield transaction
                self._length = self._length_now()
            except lmdb.PanicError as error:
                # The disk refused what it cannot do without: it takes nothing more until it is opened anew.
                self._is_broken = True
                raise OSError(errno.EIO, str(error)) from None
            except (lmdb.Error, IndexUnusable, FileNotFoundError) as error:
                raise OSError(errno.EIO, str(error)) from None

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
        with self._transaction() as transaction:
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
        with self._transaction() as transaction, transaction.cursor() as cursor:
            cursor.putmulti(batch)

    def drop(
        self, entries: Iterable[tuple[PageKey, int, int]], moves: Callable[[], None] = lambda: None
    ) -> None:
        """Delete entries (key, segment, offset) that still name this place, and no others. ``OSError``.

        ``moves`` is called before each transaction.
        """
        todo = list(entries)
        for start in range(0, len(todo), DELETIONS_PER_TRANSACTION):
            moves()
            with self._transaction() as transaction:
                for key, segment, offset in todo[start : start + DELETIONS_PER_TRANSACTION]:
                    stored = transaction.get(key)
                    entry = None if stored is None else decode_entry(key, bytes(stored))
                    if stored is not None and (
                        entry is None or (entry.segment, entry.offset) == (segment, offset)
                    ):
                        transaction.delete(key)

    def close(self) -> None:
        """Let go of it; what was put stays. The disk is asked to have it, too: ``OSError``."""
        try:
            self._environment.sync(True)
        except lmdb.Error as error:
            raise OSError(errno.EIO, str(error)) from None
        finally:
            self._environment.close()


def remove_index(path: Path) -> None:
    """Delete an index's files, so that a new one can be made."""
    if os.path.lexists(path):
        shutil.rmtree(path)
