"""The bytes on disk: a record in a segment, an entry of the index, the layout file.

Changing any of these is a new ``LAYOUT_VERSION``; the tests hold them byte for byte.

A record is a header of 96 bytes, the page, and zeros up to a multiple of 4 KiB. Little-endian::

    offset length
         0      8  magic, b"seekfspg"
         8      2  layout version
        10      2  length of this header, 96
        12      4  length of the page
        16      8  number of the segment
        24      8  offset of the record in the segment
        32     16  identity of the cache directory
        48     36  page key
        84      4  CRC-32C of the page
        88      4  zero
        92      4  CRC-32C of the 92 bytes before

Place and directory are part of it, so that neither a misdirected write nor bytes that merely look
like a record, inside some page, are ever taken for one.

An entry of the index is 24 bytes under its page key: segment (8), offset (8), length of the page
(4), CRC-32C of the page (4).
"""

from __future__ import annotations

import re
import struct

from attrs import frozen
from crc32c import crc32c

from seekfs_core.pages import PAGE_KEY_LENGTH, PageKey
from seekfs_core.restoring import IndexEntry, RecordHeader
from seekfs_core.segment_layout import RECORD_ALIGNMENT, RECORD_HEADER_LENGTH

LAYOUT_VERSION = 1
STORE_ID_LENGTH = 16

_MAGIC = b"seekfspg"
_HEADER = struct.Struct("<8sHHIQQ16s36sII")
_HEADER_CRC = struct.Struct("<I")
_ENTRY = struct.Struct("<QQII")
assert _HEADER.size + _HEADER_CRC.size == RECORD_HEADER_LENGTH


def encode_header(header: RecordHeader) -> bytes:
    body = _HEADER.pack(
        _MAGIC,
        LAYOUT_VERSION,
        RECORD_HEADER_LENGTH,
        header.length,
        header.segment,
        header.offset,
        header.store_id,
        header.key,
        header.crc32c,
        0,
    )
    return body + _HEADER_CRC.pack(crc32c(body))


def decode_header(stored: bytes | bytearray) -> RecordHeader | None:
    """The header at the front of ``stored``, or None if there is none of this layout, whole."""
    if len(stored) < RECORD_HEADER_LENGTH:
        return None
    body = bytes(stored[: _HEADER.size])
    (crc,) = _HEADER_CRC.unpack_from(stored, _HEADER.size)
    magic, version, header_length, length, segment, offset, store_id, key, page_crc, zero = _HEADER.unpack(
        body
    )
    if (magic, version, header_length, zero) != (_MAGIC, LAYOUT_VERSION, RECORD_HEADER_LENGTH, 0):
        return None
    if crc != crc32c(body) or length < 1:
        return None
    return RecordHeader(
        store_id=store_id, segment=segment, offset=offset, key=PageKey(key), length=length, crc32c=page_crc
    )


def padding_of(length: int) -> bytes:
    """The zeros behind a page of ``length`` bytes."""
    return bytes(-(RECORD_HEADER_LENGTH + length) % RECORD_ALIGNMENT)


def encode_entry(entry: IndexEntry) -> bytes:
    return _ENTRY.pack(entry.segment, entry.offset, entry.length, entry.crc32c)


def decode_entry(key: bytes, stored: bytes) -> IndexEntry | None:
    """The entry, or None if it cannot be one."""
    if len(key) != PAGE_KEY_LENGTH or len(stored) != _ENTRY.size:
        return None
    entry = IndexEntry(*_ENTRY.unpack(stored))
    if entry.length < 1 or entry.offset % RECORD_ALIGNMENT:
        return None
    return entry


_LAYOUT = re.compile(rb"seekfs cache directory\nlayout ([0-9]{1,9})\n(?:id ([0-9a-f]{32})\n)?")


@frozen
class Layout:
    """The layout file: which version wrote the directory, and the directory's identity."""

    version: int
    store_id: bytes | None


def encode_layout(store_id: bytes) -> bytes:
    return b"seekfs cache directory\nlayout %d\nid %s\n" % (LAYOUT_VERSION, store_id.hex().encode())


def decode_layout(stored: bytes) -> Layout | None:
    """What a layout file says, of whatever version; None if it is not one.

    Only the first two lines are promised to stay as they are.
    """
    found = _LAYOUT.match(stored)
    if found is None:
        return None
    version = int(found[1])
    store_id = bytes.fromhex(found[2].decode()) if found[2] else None
    if version == LAYOUT_VERSION and (store_id is None or found.end() != len(stored)):
        return None
    return Layout(version, store_id)
