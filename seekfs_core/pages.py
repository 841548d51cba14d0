"""What names a page, wherever it is cached.

A page is (namespace, path, file hash, page table, page id). The hash of the whole file is part of
it, so a cached page can never be served for another version's bytes, and two paths never share one.
So is the page table, its CRCs and the length of its pages: two versions may have cut the same bytes
differently, and page 1 of one is not page 1 of the other. What is found under a key is therefore
always what this very manifest says, even where another one lies about a hash.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from typing import NewType

PageKey = NewType("PageKey", bytes)
"""36 bytes: a file key (32) and the page id (4, big-endian), so that a file's pages sort together."""

FileKey = NewType("FileKey", bytes)
"""32 bytes: BLAKE2b-256 of namespace, path, the file's SHA-256 and its page table."""

FILE_KEY_LENGTH = 32
PAGE_KEY_LENGTH = FILE_KEY_LENGTH + 4


def file_key(ns: str, path: str, sha256: bytes, page_size_bytes: int, crcs: Sequence[int]) -> FileKey:
    """The identity of one file's content at one place, as one page table cuts it.

    ``sha256`` is the digest, 32 bytes; ``crcs`` has a CRC-32C for each page of ``page_size_bytes``.
    A NUL ends each name: neither a namespace nor a path can hold one.
    """
    key = hashlib.blake2b(digest_size=FILE_KEY_LENGTH, person=b"seekfs-page-v2")
    key.update(ns.encode("ascii") + b"\0" + path.encode("utf-8") + b"\0" + sha256)
    key.update(page_size_bytes.to_bytes(8, "little"))
    key.update(array("I", crcs))  # In this machine's byte order: a key never leaves its node.
    return FileKey(key.digest())


def page_key(file: FileKey, page_id: int) -> PageKey:
    """The identity of page ``page_id`` (from 0) of a file."""
    return PageKey(file + page_id.to_bytes(4, "big"))
