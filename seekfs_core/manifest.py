"""The list of a version's files: what it is, how it is read and checked, how it is written.

A manifest comes from the network and may be anything: cut short, a gzip bomb, nested a million
deep, written by another program with another idea of the format. ``decode_manifest`` either
returns a ``Manifest`` of which everything below holds, or raises ``ManifestInvalid`` naming what
is wrong and where (``$.files[3].page_table[2].crc32c``):

* pages are contiguous from 0, cover exactly ``size``, and their ids are consecutive;
* all pages of a file but the last have one length, a multiple of 4 KiB from 64 KiB to 64 MiB;
* CRCs are integers of 32 bits, hashes well-formed, paths and keys valid, paths unique;
* the version is the one asked for.

It decodes in two steps, because a page table is three quarters of a manifest: first the outer
object with every file left as raw JSON, then one file after the other into small wire structs,
which are checked, packed into a ``FileEntry`` and dropped. So the peak is the JSON and the
packed entries, never a tree of all pages.

Deterministic are the uncompressed bytes; gzip's differ between implementations. Equality of two
manifests is therefore always that of ``encode_manifest``.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from typing import Annotated, NoReturn

import msgspec
from attrs import field, frozen

from seekfs_core import names
from seekfs_core.errors import ManifestInvalid, NoSuchContent, NoSuchFile
from seekfs_core.pages import FileKey, file_key

PAGE_SIZE_BYTES_MIN = 64 * 1024
PAGE_SIZE_BYTES_MAX = 64 * 1024 * 1024
PAGE_SIZE_BYTES_MULTIPLE = 4096
"""So that pages begin where blocks of a disk do."""

FILE_SIZE_BYTES_MAX = 2**63 - 1

_CRC32C_MAX = 2**32 - 1
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW_BITS = 31
"""zlib's way to say: a gzip member, its checksum and length verified at the end."""

_HASH_PREFIX = "sha256:"
_HASH_TEXT_LENGTH = len(_HASH_PREFIX) + 64


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
                f"no file {_short(path)} in version {self.version} of namespace {self.ns!r}",
                ns=self.ns,
                path=path,
                version=self.version,
            )
        if sha256 is not None and sha256 != entry.sha256:
            raise NoSuchContent(
                f"{_short(path)} of {self.ns!r} in version {self.version} is {entry.hash_text}, "
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


# --- reading -----------------------------------------------------------------------------------
# Only what has a meaning here is named; msgspec steps over every other field. `version` and
# `files` must be there, the rest of the outer object has defaults: other writers leave it out.


class _WirePage(msgspec.Struct, gc=False):
    page_id: int
    off: int
    len: int
    crc32c: Annotated[int, msgspec.Meta(ge=0, le=_CRC32C_MAX)]


class _WireStorage(msgspec.Struct, gc=False):
    key: str
    etag: str | None = None
    sse: str | None = None


class _WireFile(msgspec.Struct, gc=False):
    path: str
    size: Annotated[int, msgspec.Meta(ge=0, le=FILE_SIZE_BYTES_MAX)]
    hash: str
    page_table: list[_WirePage]
    storage: _WireStorage


class _WireManifest(msgspec.Struct, gc=False):
    version: int
    files: list[msgspec.Raw]
    created_at: int = 0
    parents: list[int] = []
    tombstones: list[str] = []
    publication_id: str = ""


_outer_decoder = msgspec.json.Decoder(_WireManifest)
_file_decoder = msgspec.json.Decoder(_WireFile)


class _Fault(Exception):
    """What is wrong and where, on its way to ``decode_manifest``, which knows the manifest's name."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(where, what)
        self.where = where
        self.what = what


def decode_manifest(stored: bytes, *, ns: str, version: int, max_bytes: int) -> Manifest:
    """The manifest that an object holds: gzip of one member, or plain JSON.

    At most ``max_bytes`` are decompressed. Raises ``ManifestInvalid``, whose ``context`` has
    ``ns``, ``version`` and ``where``.
    """
    try:
        return _checked_manifest(_plain_bytes(stored, max_bytes), ns, version)
    except _Fault as fault:
        raise ManifestInvalid(
            f"manifest v-{version} of namespace {ns!r}: {fault.where}: {fault.what}",
            ns=ns,
            version=version,
            where=fault.where,
        ) from None


def _plain_bytes(stored: bytes, max_bytes: int) -> bytes:
    if not stored.startswith(_GZIP_MAGIC):
        if len(stored) > max_bytes:
            raise _Fault("$", f"{len(stored)} bytes; at most {max_bytes} are read (manifest.max_mib)")
        return stored
    member = zlib.decompressobj(_GZIP_WINDOW_BITS)
    try:
        plain = member.decompress(stored, max_bytes + 1)
    except zlib.error as error:
        raise _Fault("$", f"not a gzip member: {error}") from None
    if len(plain) > max_bytes:
        raise _Fault("$", f"more than {max_bytes} bytes uncompressed (manifest.max_mib)")
    if not member.eof:
        raise _Fault("$", f"the gzip member is cut short, after {len(stored)} bytes")
    if member.unused_data:
        raise _Fault("$", f"{len(member.unused_data)} bytes follow the gzip member")
    return plain


def _checked_manifest(plain: bytes, ns: str, version: int) -> Manifest:
    try:
        wire = _outer_decoder.decode(plain)
    except (ValueError, RecursionError) as error:
        _fail(error, "$")
    if not 1 <= wire.version <= names.VERSION_MAX:
        raise _Fault("$.version", f"{wire.version}; versions are 1 to {names.VERSION_MAX}")
    if wire.version != version:
        raise _Fault("$.version", f"{wire.version} where version {version} was asked for")
    for index, path in enumerate(wire.tombstones):
        fault = names.path_fault(path)
        if fault is not None:
            raise _Fault(f"$.tombstones[{index}]", f"{_short(path)} {fault}")
    files: dict[str, FileEntry] = {}
    decode = _file_decoder.decode
    for index, raw in enumerate(wire.files):
        try:
            entry = _checked_file(decode(raw))
        except _Fault as fault_of_file:
            where = f"$.files[{index}]{fault_of_file.where}"
            raise _Fault(where, fault_of_file.what) from None
        except (ValueError, RecursionError) as error:
            _fail(error, f"$.files[{index}]")
        if entry.path in files:
            raise _Fault(f"$.files[{index}].path", f"{_short(entry.path)} is there twice")
        files[entry.path] = entry
    return Manifest(
        ns=ns,
        version=version,
        files=files,
        created_at=wire.created_at,
        parents=tuple(wire.parents),
        tombstones=tuple(wire.tombstones),
        publication_id=wire.publication_id,
    )


def _checked_file(wire: _WireFile) -> FileEntry:
    path = wire.path
    fault = names.path_fault(path)
    if fault is not None:
        raise _Fault(".path", f"{_short(path)} {fault}")
    sha256 = _sha256_of(wire.hash)
    storage = wire.storage
    fault = names.object_key_fault(storage.key)
    if fault is not None:
        raise _Fault(".storage.key", f"{_short(storage.key)} {fault}")
    etag = storage.etag
    # An ETag is sent back in If-Match: a line break in it would be another header.
    if etag is not None and not (etag.isascii() and etag.isprintable()):
        raise _Fault(".storage.etag", f"{_short(etag)} is not printable ASCII")
    table = wire.page_table
    page_size_bytes = _checked_page_size_bytes(table, wire.size)
    return FileEntry(
        path=path,
        size=wire.size,
        sha256=sha256,
        page_size_bytes=page_size_bytes,
        crcs=array("I", [page.crc32c for page in table]),
        storage_key=storage.key,
        storage_etag=etag,
        storage_sse=storage.sse,
    )


def _sha256_of(text: str) -> bytes:
    if len(text) == _HASH_TEXT_LENGTH and text.startswith(_HASH_PREFIX):
        try:
            digest = bytes.fromhex(text[len(_HASH_PREFIX) :])
        except ValueError:
            digest = b""
        # fromhex steps over spaces: 64 characters that make 32 bytes had none.
        if len(digest) == 32:
            return digest
    raise _Fault(".hash", f"{_short(text)} is not 'sha256:' and 64 hex digits")


def _checked_page_size_bytes(table: list[_WirePage], size: int) -> int:
    """The length of a file's pages, after every check of its page table."""
    if not table:
        if size:
            raise _Fault(".page_table", f"no pages for {size} bytes")
        return 0
    page_size_bytes = table[0].len
    last = len(table) - 1
    if last:
        _check_page_size("[0].len", page_size_bytes)
    elif not 1 <= page_size_bytes <= PAGE_SIZE_BYTES_MAX:
        raise _Fault(".page_table[0].len", f"{page_size_bytes}; a page has 1 to {PAGE_SIZE_BYTES_MAX} bytes")
    off = 0
    for index, page in enumerate(table):
        if page.page_id != index:
            raise _Fault(f".page_table[{index}].page_id", f"{page.page_id}, expected {index}")
        if page.off != off:
            raise _Fault(f".page_table[{index}].off", f"{page.off}, expected {off}")
        length = page.len
        if length != page_size_bytes and (index != last or not 1 <= length < page_size_bytes):
            allowed = f"1 to {page_size_bytes}" if index == last else f"{page_size_bytes} like the first page"
            raise _Fault(f".page_table[{index}].len", f"{length}, expected {allowed}")
        off += length
    if off != size:
        raise _Fault(".size", f"{size}, and the pages have {off} bytes")
    return page_size_bytes


def _check_page_size(where: str, page_size_bytes: int) -> None:
    if (
        not PAGE_SIZE_BYTES_MIN <= page_size_bytes <= PAGE_SIZE_BYTES_MAX
        or page_size_bytes % PAGE_SIZE_BYTES_MULTIPLE
    ):
        raise _Fault(
            f".page_table{where}",
            f"{page_size_bytes}; pages of a file of several have a multiple of {PAGE_SIZE_BYTES_MULTIPLE} "
            f"bytes from {PAGE_SIZE_BYTES_MIN} to {PAGE_SIZE_BYTES_MAX}",
        )


def _fail(error: Exception, where: str) -> NoReturn:
    """Tell msgspec's refusals, UTF-8 faults and nesting beyond the interpreter's stack as one."""
    if isinstance(error, RecursionError):
        raise _Fault(where, "nested too deeply") from None
    if isinstance(error, UnicodeDecodeError):
        raise _Fault(where, f"not valid UTF-8: {error.reason}") from None
    what, _, place = str(error).partition(" - at `$")
    if not what.startswith("JSON "):
        what = what[:1].lower() + what[1:]
    raise _Fault(where + place.removesuffix("`"), what) from None


def _short(text: str) -> str:
    return repr(text) if len(text) <= 200 else f"{text[:200]!r}..."


# --- writing -----------------------------------------------------------------------------------


class _WireFileOut(msgspec.Struct, gc=False):
    path: str
    size: int
    hash: str
    page_table: list[_WirePage]
    storage: _WireStorage


class _WireManifestOut(msgspec.Struct, gc=False):
    version: int
    created_at: int
    parents: tuple[int, ...]
    tombstones: tuple[str, ...]
    publication_id: str


_encoder = msgspec.json.Encoder()
_BATCH_FILES = 1024
"""Files encoded at once: enough to make calls cheap, few enough that their pages are no memory."""


def encode_manifest(manifest: Manifest) -> bytes:
    """The uncompressed bytes of a manifest: UTF-8, no spaces, fields in the contract's order,
    files sorted by the bytes of their path. The same manifest always gives the same bytes."""
    head = _encoder.encode(
        _WireManifestOut(
            version=manifest.version,
            created_at=manifest.created_at,
            parents=manifest.parents,
            tombstones=tuple(sorted(manifest.tombstones)),
            publication_id=manifest.publication_id,
        )
    )
    out = bytearray(head[:-1] + b',"files":[')
    batch: list[_WireFileOut] = []
    for entry in sorted(manifest.files.values(), key=attrgetter("path")):
        batch.append(_wire_file(entry))
        if len(batch) == _BATCH_FILES:
            _append(out, batch)
    _append(out, batch)
    if out.endswith(b","):
        out.pop()
    out += b"]}"
    return bytes(out)


def _append(out: bytearray, batch: list[_WireFileOut]) -> None:
    if batch:
        out += _encoder.encode(batch)[1:-1]
        out += b","
        batch.clear()


def _wire_file(entry: FileEntry) -> _WireFileOut:
    size, page_size_bytes = entry.size, entry.page_size_bytes
    table = [
        _WirePage(page_id, start, min(page_size_bytes, size - start), crc)
        for page_id, (start, crc) in enumerate(
            zip(range(0, size, page_size_bytes or 1), entry.crcs, strict=True)
        )
    ]
    return _WireFileOut(
        path=entry.path,
        size=size,
        hash=entry.hash_text,
        page_table=table,
        storage=_WireStorage(entry.storage_key, entry.storage_etag, entry.storage_sse),
    )


def pack_manifest(manifest: Manifest, *, max_bytes: int) -> bytes:
    """What is stored for a manifest. Raises ``ManifestInvalid`` for one that ``decode_manifest`` would
    refuse for its length: it must not be written."""
    plain = encode_manifest(manifest)
    if len(plain) > max_bytes:
        raise ManifestInvalid(
            f"the manifest of version {manifest.version} would have {len(plain)} bytes; readers take "
            f"at most {max_bytes} (manifest.max_mib)",
            ns=manifest.ns,
            version=manifest.version,
        )
    return compress_manifest(plain)


def compress_manifest(plain: bytes) -> bytes:
    """What is stored: one gzip member without a name or a time, so that nothing of the machine
    that wrote it is in there."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP_WINDOW_BITS)
    return packer.compress(plain) + packer.flush()
