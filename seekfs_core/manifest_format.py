"""How the list of a version's files is read and checked, and how it is written.

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
from operator import attrgetter
from typing import Annotated, NoReturn

import msgspec

from seekfs_core.errors import ManifestInvalid
from seekfs_core.manifest import (
    FILE_SIZE_BYTES_MAX,
    PAGE_SIZE_BYTES_MAX,
    PAGE_SIZE_BYTES_MIN,
    PAGE_SIZE_BYTES_MULTIPLE,
    FileEntry,
    Manifest,
)
from seekfs_core.names import VERSION_MAX, is_etag, object_key_fault, path_fault, shown

_CRC32C_MAX = 2**32 - 1
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW_BITS = 31
"""zlib's way to say: a gzip member, its checksum and length verified at the end."""

_HASH_PREFIX = "sha256:"
_HASH_TEXT_LENGTH = len(_HASH_PREFIX) + 64


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
    if not 1 <= wire.version <= VERSION_MAX:
        raise _Fault("$.version", f"{wire.version}; versions are 1 to {VERSION_MAX}")
    if wire.version != version:
        raise _Fault("$.version", f"{wire.version} where version {version} was asked for")
    for index, path in enumerate(wire.tombstones):
        fault = path_fault(path)
        if fault is not None:
            raise _Fault(f"$.tombstones[{index}]", f"{shown(path)} {fault}")
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
            raise _Fault(f"$.files[{index}].path", f"{shown(entry.path)} is there twice")
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
    fault = path_fault(path)
    if fault is not None:
        raise _Fault(".path", f"{shown(path)} {fault}")
    sha256 = _sha256_of(wire.hash)
    storage = wire.storage
    fault = object_key_fault(storage.key)
    if fault is not None:
        raise _Fault(".storage.key", f"{shown(storage.key)} {fault}")
    etag = storage.etag
    if etag and not is_etag(etag):
        raise _Fault(".storage.etag", f"{shown(etag)} is not printable ASCII")
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
    raise _Fault(".hash", f"{shown(text)} is not 'sha256:' and 64 hex digits")


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
