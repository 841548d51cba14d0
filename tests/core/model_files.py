"""Files, manifests and reads to test with: any geometry, and contents that can be computed.

What a page is, is said here a second time and naively, by cutting a byte string.
"""

from __future__ import annotations

import hashlib
import zlib

from hypothesis import strategies as st

from seekfs_core.manifest import FileEntry, Manifest, pack_crcs
from seekfs_core.plan import Item

KIB = 1024
NS = "dev"


def cut(content: bytes, page_size_bytes: int) -> list[bytes]:
    """The pages of a content."""
    return [content[at : at + page_size_bytes] for at in range(0, len(content), page_size_bytes or 1)]


def content_of(path: str, size: int) -> bytes:
    """``size`` bytes in which no two places look alike, and no two paths."""
    block = hashlib.sha256(path.encode()).digest()
    return b"".join(hashlib.sha256(block + at.to_bytes(8, "big")).digest() for at in range(-(-size // 32)))[
        :size
    ]


def file_of(path: str, content: bytes, page_size_bytes: int) -> FileEntry:
    """The entry of a file with this content. The stand-in for CRC-32C is CRC-32: the core only compares."""
    page = min(page_size_bytes, len(content))
    return FileEntry(
        path=path,
        size=len(content),
        sha256=hashlib.sha256(content).digest(),
        page_size_bytes=page,
        crcs=pack_crcs(zlib.crc32(part) for part in cut(content, page)),
        storage_key=f"namespaces/{NS}/files/{path}",
        storage_etag='"good"',
    )


def blank_file(path: str, size: int, page_size_bytes: int) -> FileEntry:
    """An entry without a content; the checksum of page ``i`` is ``i``."""
    page = min(page_size_bytes, size)
    return FileEntry(
        path=path,
        size=size,
        sha256=hashlib.sha256(path.encode()).digest(),
        page_size_bytes=page,
        crcs=pack_crcs(range(-(-size // page) if page else 0)),
        storage_key=f"namespaces/{NS}/files/{path}",
        storage_etag='"good"',
    )


def manifest_of(*files: FileEntry, version: int = 1, ns: str = NS) -> Manifest:
    return Manifest(ns=ns, version=version, files={file.path: file for file in files})


# Small pages make for many of them; 64 KiB is the smallest that a manifest may have.
geometries = st.one_of(
    st.tuples(st.integers(0, 300), st.integers(1, 40)),
    st.tuples(st.integers(0, 400 * KIB), st.sampled_from([64 * KIB, 68 * KIB, 128 * KIB])),
    st.sampled_from([(0, 7), (1, 7), (1, 1), (7, 7), (8, 7), (6, 7), (64 * KIB, 64 * KIB)]),
)
"""Size of a file and of its pages, in bytes."""


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest of one to three files of any geometry, and what is in them."""
    contents: dict[str, bytes] = {}
    files: list[FileEntry] = []
    for path in ("a", "b/☃", "c")[: draw(st.integers(1, 3))]:
        size, page_size_bytes = draw(geometries)
        contents[path] = content_of(path, size)
        files.append(file_of(path, contents[path], page_size_bytes))
    return manifest_of(*files), contents


@st.composite
def items_of(draw: st.DrawFn, contents: dict[str, bytes], count_max: int = 8) -> list[Item]:
    """Ranges inside the files, in any order, repeated, of no length, to the end."""
    items: list[Item] = []
    for _ in range(draw(st.integers(0, count_max))):
        path = draw(st.sampled_from(sorted(contents)))
        size = len(contents[path])
        off = draw(st.one_of(st.integers(0, size), st.just(size), st.just(0)))
        length = draw(st.one_of(st.integers(0, size - off), st.just(size - off), st.just(0)))
        items.append((path, off, length))
    return items
