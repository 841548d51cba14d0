"""Datasets written by a hand of their own: a second writer of the bucket's format.

It shares no code with seekfs, so a reader and a writer in there cannot agree on a mistake.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

import crc32c
from attrs import field, frozen

from seekfs_io.objects.base import ObjectStore

MIB = 1 << 20
PAGE_BYTES = 8 * MIB


@frozen
class File:
    """What a file of a dataset is to be. ``key`` defaults to its place under ``files/``."""

    data: bytes = field(repr=False)
    page_bytes: int = PAGE_BYTES
    key: str | None = None


def some_bytes(length: int, seed: int = 0) -> bytes:
    """Bytes that no two seeds share and no compression or pattern hides: the same ones every time."""
    source = random.Random(f"seekfs {seed}")
    # In pieces: one number of 256 MiB is more than getrandbits makes.
    return b"".join(source.randbytes(min(MIB, length - start)) for start in range(0, length, MIB))


def manifest_of(
    ns: str, version: int, files: Mapping[str, File], etags: Mapping[str, str | None]
) -> dict[str, Any]:
    """Manifest v1 as the contract describes it."""
    entries = []
    for path in sorted(files, key=lambda path: path.encode()):
        file = files[path]
        pages = [
            file.data[start : start + file.page_bytes] for start in range(0, len(file.data), file.page_bytes)
        ]
        entries.append(
            {
                "path": path,
                "size": len(file.data),
                "hash": "sha256:" + hashlib.sha256(file.data).hexdigest(),
                "page_table": [
                    {
                        "page_id": page_id,
                        "off": page_id * file.page_bytes,
                        "len": len(page),
                        "crc32c": crc32c.crc32c(page),
                    }
                    for page_id, page in enumerate(pages)
                ],
                "storage": {"key": key_of(ns, path, file), "etag": etags.get(path), "sse": None},
            }
        )
    return {
        "version": version,
        "created_at": 1712345678,
        "parents": [version - 1] if version > 1 else [],
        "tombstones": [],
        "publication_id": f"{version:032x}",
        "files": entries,
    }


def key_of(ns: str, path: str, file: File) -> str:
    return file.key or f"namespaces/{ns}/files/{path}"


def write_dataset(store: ObjectStore, ns: str, files: Mapping[str, File], version: int = 1) -> None:
    """Upload files, a manifest of exactly these, and HEAD."""
    etags = {path: store.put(key_of(ns, path, file), file.data) for path, file in files.items()}
    write_manifest(store, ns, version, manifest_of(ns, version, files, etags))


def write_manifest(store: ObjectStore, ns: str, version: int, manifest: dict[str, Any]) -> None:
    stored = gzip.compress(json.dumps(manifest, separators=(",", ":"), ensure_ascii=False).encode())
    store.put(f"namespaces/{ns}/manifests/v-{version}.json.gz", stored)
    store.put(f"namespaces/{ns}/HEAD", f"v-{version}\n".encode())
