"""The bytes on disk. A test here that fails means: bump ``LAYOUT_VERSION``, or undo the change."""

from __future__ import annotations

import pytest
from attrs import evolve
from crc32c import crc32c

from seekfs_core.pages import PageKey
from seekfs_core.restoring import IndexEntry, RecordHeader
from seekfs_core.segment_layout import RECORD_HEADER_LENGTH, record_length
from seekfs_io.pages.segment_format import (
    LAYOUT_VERSION,
    Layout,
    decode_entry,
    decode_header,
    decode_layout,
    encode_entry,
    encode_header,
    encode_layout,
    padding_of,
)

HEADER = RecordHeader(
    store_id=bytes(range(16)),
    segment=0x0102030405060708,
    offset=0x1112131415161000,
    key=PageKey(bytes(range(100, 136))),
    length=0x00800000,
    crc32c=0xCAFEBABE,
)
HEADER_BYTES = bytes.fromhex(
    "7365656b66737067"  # seekfspg
    "0100"  # layout version
    "6000"  # header length
    "00008000"  # page length
    "0807060504030201"  # segment
    "0010161514131211"  # offset
    "000102030405060708090a0b0c0d0e0f"  # directory
    "6465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f8081828384858687"  # page key
    "bebafeca"  # CRC-32C of the page
    "00000000"
)


def test_a_header_is_these_bytes() -> None:
    stored = encode_header(HEADER)
    assert stored[:-4] == HEADER_BYTES
    assert stored[-4:] == crc32c(HEADER_BYTES).to_bytes(4, "little")
    assert len(stored) == RECORD_HEADER_LENGTH
    assert decode_header(stored) == HEADER
    assert decode_header(bytearray(stored) + b"the page") == HEADER


@pytest.mark.parametrize("index", range(RECORD_HEADER_LENGTH))
def test_a_header_with_any_byte_changed_is_none(index: int) -> None:
    stored = bytearray(encode_header(HEADER))
    stored[index] ^= 0x40
    assert decode_header(stored) is None


@pytest.mark.parametrize("length", range(RECORD_HEADER_LENGTH))
def test_a_header_cut_anywhere_is_none(length: int) -> None:
    assert decode_header(encode_header(HEADER)[:length]) is None


def test_zeros_and_a_header_of_no_page_are_none() -> None:
    assert decode_header(bytes(RECORD_HEADER_LENGTH)) is None
    assert decode_header(encode_header(evolve(HEADER, length=0))) is None


@pytest.mark.parametrize("length", [1, 3999, 4000, 4001, 65536, 8 << 20])
def test_padding_fills_a_record_up(length: int) -> None:
    padding = padding_of(length)
    assert RECORD_HEADER_LENGTH + length + len(padding) == record_length(length)
    assert not any(padding)
    assert len(padding) < 4096


def test_an_entry_is_these_bytes() -> None:
    entry = IndexEntry(0x0102030405060708, 0x1112131415161000, 0x00800000, 0xCAFEBABE)
    stored = bytes.fromhex("0807060504030201001016151413121100008000bebafeca")
    assert encode_entry(entry) == stored
    assert decode_entry(bytes(36), stored) == entry


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        (bytes(35), encode_entry(IndexEntry(1, 0, 1, 0))),
        (bytes(36), encode_entry(IndexEntry(1, 0, 1, 0))[:-1]),
        (bytes(36), encode_entry(IndexEntry(1, 0, 0, 0))),
        (bytes(36), encode_entry(IndexEntry(1, 100, 1, 0))),
    ],
)
def test_an_entry_that_cannot_be_one_is_none(key: bytes, entry: bytes) -> None:
    assert decode_entry(key, entry) is None


def test_a_layout_file_is_these_bytes() -> None:
    stored = encode_layout(bytes(range(16)))
    assert stored == b"seekfs cache directory\nlayout 1\nid 000102030405060708090a0b0c0d0e0f\n"
    assert decode_layout(stored) == Layout(LAYOUT_VERSION, bytes(range(16)))


def test_other_layouts_are_recognised_by_their_first_two_lines() -> None:
    assert decode_layout(b"seekfs cache directory\nlayout 0\n") == Layout(0, None)
    later = decode_layout(b"seekfs cache directory\nlayout 2\nwhatever is there\n")
    assert later is not None
    assert later.version == 2


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"seekfs cache directory\n",
        b"seekfs cache directory\nlayout one\n",
        b"seekfs cache directory\nlayout 1\n",
        encode_layout(bytes(16))[:-1],
        encode_layout(bytes(16)) + b"more\n",
        b"\0" * 68,
    ],
)
def test_what_is_no_layout_file_is_none(stored: bytes) -> None:
    assert decode_layout(stored) is None
