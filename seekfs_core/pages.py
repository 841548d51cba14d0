"""What names a page, wherever it is cached.

A page is (namespace, path, file hash, page id). The hash of the whole file is part of it, so a
cached page can never be served for another version's bytes, and two paths never share one.
"""

from __future__ import annotations

import hashlib
from typing import NewType

PageKey = NewType("PageKey", bytes)
"""36 bytes: a file key (32) and the page id (4, big-endian), so that a file's pages sort together."""

FileKey = NewType("FileKey", bytes)
"""32 bytes: BLAKE2b-256 of namespace, path and the file's SHA-256."""

FILE_KEY_LENGTH = 32
PAGE_KEY_LENGTH = FILE_KEY_LENGTH + 4


def file_key(ns: str, path: str, sha256: bytes) -> FileKey:
    """The identity of one file's content at one place. ``sha256`` is the digest, 32 bytes.

    A NUL ends each name: neither a namespace nor a path can hold one.
    """
    name = ns.encode("ascii") + b"\0" + path.encode("utf-8") + b"\0" + sha256
    return FileKey(hashlib.blake2b(name, digest_size=FILE_KEY_LENGTH, person=b"seekfs-page-v1").digest())


def page_key(file: FileKey, page_id: int) -> PageKey:
    """The identity of page ``page_id`` (from 0) of a file."""
    return PageKey(file + page_id.to_bytes(4, "big"))
