"""SHA-256 of a file and CRC-32C of its pages, in one pass over its bytes."""

from __future__ import annotations

import hashlib
from array import array

from attrs import frozen
from crc32c import crc32c

from seekfs_core.manifest import FileEntry, file_entry, pack_crcs

HASH_BYTES_AT_ONCE = 1024 * 1024
"""Both sums are taken of this much at a time, while it is in the processor's cache."""


@frozen(kw_only=True)
class Digest:
    """What a file's bytes come to. ``crcs`` has one CRC-32C for each page of ``page_size_bytes``
    (the last may be shorter)."""

    size: int
    sha256: bytes
    page_size_bytes: int
    crcs: array[int]

    def entry(self, path: str, storage_key: str, storage_etag: str | None) -> FileEntry:
        """The file of a manifest that has these bytes."""
        return file_entry(
            path=path,
            size=self.size,
            sha256=self.sha256,
            page_size_bytes=self.page_size_bytes,
            crcs=self.crcs,
            storage_key=storage_key,
            storage_etag=storage_etag,
        )


class Digester:
    """Takes a file's bytes in order, in pieces of any length."""

    def __init__(self, page_size_bytes: int) -> None:
        self._page_size_bytes = page_size_bytes
        self._sha256 = hashlib.sha256()
        self._crcs: array[int] = pack_crcs(())
        self._crc = 0
        self._in_page = 0
        self._size = 0

    def update(self, piece: memoryview) -> None:
        """The next bytes of the file."""
        at = 0
        while at < len(piece):
            count = min(HASH_BYTES_AT_ONCE, len(piece) - at, self._page_size_bytes - self._in_page)
            part = piece[at : at + count]
            self._sha256.update(part)
            self._crc = crc32c(part, self._crc)
            self._in_page += count
            at += count
            if self._in_page == self._page_size_bytes:
                self._end_page()
        self._size += len(piece)

    def _end_page(self) -> None:
        self._crcs.append(self._crc)
        self._crc = self._in_page = 0

    def digest(self) -> Digest:
        """Of everything so far; no more may follow."""
        if self._in_page:
            self._end_page()
        return Digest(
            size=self._size,
            sha256=self._sha256.digest(),
            page_size_bytes=self._page_size_bytes,
            crcs=self._crcs,
        )


def digest_of(content: bytes | memoryview, page_size_bytes: int) -> Digest:
    """The digest of bytes that are in memory."""
    digester = Digester(page_size_bytes)
    digester.update(memoryview(content))
    return digester.digest()
