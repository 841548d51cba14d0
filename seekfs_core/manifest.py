"""The list of a version's files: what it is, and what can be asked of it.

How it is read and checked, and written, is in ``seekfs_core.manifest_format``. What is here holds of every
manifest, wherever it came from: ``decode_manifest`` has checked it, or a publication made it so.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping

import msgspec
from attrs import field, frozen

from seekfs_core.errors import NoSuchContent, NoSuchFile
from seekfs_core.names import shown
from seekfs_core.pages import FileKey, file_key

PAGE_SIZE_BYTES_MIN = 64 * 1024
PAGE_SIZE_BYTES_MAX = 64 * 1024 * 1024
PAGE_SIZE_BYTES_MULTIPLE = 4096
"""So that pages begin where blocks of a disk do."""

FILE_SIZE_BYTES_MAX = 2**63 - 1


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One file of one version. Immutable; ``crcs`` must not be changed by whoever holds it.

    A msgspec struct and not an attrs class: a namespace may have a million of them, and these
    are made in a seventh of the time and are no work for the cycle collector (they hold strings,
    bytes, integers and one array, so there is no cycle to find).
    """

    path: str
    size: int
    """Bytes."""

    sha256: bytes
    """The digest of the file's bytes, 32 bytes."""

    page_size_bytes: int
    """The length of every page but the last. A file that is one page has its own size here,
    because a page table says no more; a file of 0 bytes has 0."""

    crcs: array[int] | tuple[int, ...]
    """The CRC-32C (Castagnoli) of each page; as ``pack_crcs`` keeps them, four bytes each."""

    storage_key: str
    """The key of the bucket that holds the bytes."""

    storage_etag: str | None = None
    """With its quotes, as the store sent it. A hint, never proof."""

    storage_sse: str | None = None
    """The server-side encryption that the store named, if any."""

    def __hash__(self) -> int:
        return hash((self.path, self.sha256))  # An array has no hash.

    @property
    def hash_text(self) -> str:
        """``sha256:`` and 64 lower-case hex digits."""
        return "sha256:" + self.sha256.hex()

    @property
    def page_count(self) -> int:
        return len(self.crcs)

    def page_extent(self, page_id: int) -> tuple[int, int]:
        """The bytes [start, stop) of the file that are page ``page_id``; ``IndexError`` past the last."""
        if not 0 <= page_id < len(self.crcs):
            raise IndexError(f"page {page_id} of {self.path!r}, which has {len(self.crcs)}")
        start = page_id * self.page_size_bytes
        return start, min(start + self.page_size_bytes, self.size)

    def page_crc32c(self, page_id: int) -> int:
        """The CRC-32C of page ``page_id``; ``IndexError`` past the last."""
        if not 0 <= page_id < len(self.crcs):
            raise IndexError(f"page {page_id} of {self.path!r}, which has {len(self.crcs)}")
        return self.crcs[page_id]

    def same_content(self, other: FileEntry) -> bool:
        """Whether both are the same bytes, wherever these lie and however they are paged."""
        return self.sha256 == other.sha256 and self.size == other.size


def file_entry(
    *,
    path: str,
    size: int,
    sha256: bytes,
    page_size_bytes: int,
    crcs: array[int],
    storage_key: str,
    storage_etag: str | None,
) -> FileEntry:
    """The entry of a file that was cut into pages of ``page_size_bytes``, of which the last, or the only
    one, may be shorter."""
    return FileEntry(
        path=path,
        size=size,
        sha256=sha256,
        page_size_bytes=min(page_size_bytes, size),
        crcs=crcs,
        storage_key=storage_key,
        storage_etag=storage_etag,
    )


def pack_crcs(crcs: Iterable[int]) -> array[int]:
    """CRC-32Cs as a ``FileEntry`` keeps them."""
    packed = array("I", crcs)
    assert packed.itemsize == 4  # On every platform that CPython has.
    return packed


def _count(items: Collection[object]) -> str:
    return f"<{len(items)}>"  # A million of them do not belong into a log line.


def _sorted_by_path(files: Mapping[str, FileEntry]) -> Mapping[str, FileEntry]:
    # The order of code points is that of UTF-8 bytes: the encoding was made so.
    previous = ""
    for path in files:
        if path < previous:
            return {path: files[path] for path in sorted(files)}
        previous = path
    return files


@frozen(kw_only=True)
class Manifest:
    """One version of a namespace. ``files`` is sorted by the bytes of its paths.

    ``created_at`` is seconds since 1970 and informational; ``parents`` are the versions that
    this one was made from; ``tombstones`` the parent's paths that it drops; ``publication_id``
    tells its publisher that it was its own.
    """

    ns: str
    version: int
    files: Mapping[str, FileEntry] = field(converter=_sorted_by_path, repr=_count)
    created_at: int = 0
    parents: tuple[int, ...] = ()
    tombstones: tuple[str, ...] = field(default=(), repr=_count)
    publication_id: str = ""
    # A cache of a pure function's results: two threads that fill it at once write the same.
    _file_keys: dict[str, FileKey] = field(factory=dict, init=False, eq=False, repr=False)

    def file(self, path: str, sha256: bytes | None = None) -> FileEntry:
        """The file at ``path``, or ``NoSuchFile``. With ``sha256`` (32 bytes) exactly that content, or
        ``NoSuchContent``."""
        entry = self.files.get(path)
        if entry is None:
            raise NoSuchFile(
                f"no file {shown(path)} in version {self.version} of namespace {self.ns!r}",
                ns=self.ns,
                path=path,
                version=self.version,
            )
        if sha256 is not None and sha256 != entry.sha256:
            raise NoSuchContent(
                f"{shown(path)} of {self.ns!r} in version {self.version} is {entry.hash_text}, "
                f"not sha256:{sha256.hex()}",
                ns=self.ns,
                path=path,
                version=self.version,
                hash=entry.hash_text,
            )
        return entry

    def file_key(self, entry: FileEntry) -> FileKey:
        """What the pages of ``entry``, one of this manifest's files, are cached under."""
        key = self._file_keys.get(entry.path)
        if key is None:
            key = file_key(self.ns, entry.path, entry.sha256, entry.page_size_bytes, entry.crcs)
            self._file_keys[entry.path] = key
        return key

    @property
    def total_bytes(self) -> int:
        """The sum of the files' sizes."""
        return sum(entry.size for entry in self.files.values())
