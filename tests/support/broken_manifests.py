"""Manifests that must be refused, by name: one table for the core's checks and for the daemon's answers.

``tree`` is a good manifest as JSON, to be broken: an empty file ``a``, ``b`` of one page and ``c`` of three.
The kinds of breaking, each with where it is to be found and what is to be said of it:

* ``CHANGED``: one thing in the tree is another;
* ``UNREADABLE``: the text is no JSON, or not that of a manifest, plain or gzipped;
* ``BADLY_STORED``: what is in the bucket is neither the text nor one gzip member of it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from tests.support.dataset import File, manifest_of

KIB: Final = 1 << 10
MIB: Final = 1 << 20

VERSION: Final = 2
"""Of every one of these manifests."""

BYTES_MAX: Final = MIB
"""``manifest.max_mib`` where they are read."""

FILES: Final = {
    "a": File(b""),
    "b": File(bytes(range(10)), 64 * KIB),
    "c": File(bytes(range(250)) * 614 + bytes(100), 64 * KIB),
}

Tree: TypeAlias = dict[str, Any]


def tree(ns: str = "dev") -> Tree:
    """A good manifest of ``FILES``; a new one each time."""
    return manifest_of(ns, VERSION, FILES, dict.fromkeys(FILES, '"e"'))


ABSENT: Final = object()
"""In place of a value: there is none."""


@frozen
class Changed:
    """``place`` is where the tree is changed, with dots (``files.1.size``), and unless said otherwise also
    ``where`` that is found. ``what`` may be several things, any of which is said: with ``|`` between them."""

    name: str
    place: str
    value: Any
    what: str
    where: str = field(kw_only=True)

    @where.default
    def _is_place(self) -> str:
        return "$" + "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in self.place.split("."))

    def apply(self, broken: Tree) -> None:
        *before, last = (int(step) if step.isdigit() else step for step in self.place.split("."))
        node: Any = broken
        for step in before:
            node = node[step]
        if self.value is ABSENT:
            del node[last]
        else:
            node[last] = self.value


@frozen
class Spoilt:
    """``spoil`` makes of the text of a good manifest what is there instead."""

    name: str
    spoil: Callable[[bytes], bytes] = field(repr=False)
    what: str
    where: str = field(default="$", kw_only=True)


CHANGED: Final = (
    Changed("another version", "version", 3, "3 where version 2 was asked for"),
    Changed("version 0", "version", 0, "versions are 1 to"),
    Changed("version over 63 bits", "version", 2**63, "versions are 1 to"),
    Changed("version as text", "version", "1", "expected `int`, got `str`"),
    Changed("version as a fraction", "version", 1.0, "expected `int`, got `float`"),
    Changed("version as a boolean", "version", True, "expected `int`, got `bool`"),
    Changed("no version", "version", ABSENT, "missing required field `version`", where="$"),
    Changed("no files", "files", ABSENT, "missing required field `files`", where="$"),
    Changed("files as an object", "files", {}, "expected `array`"),
    Changed("time as text", "created_at", "now", "expected `int`"),
    Changed("parent as text", "parents", ["x"], "expected `int`", where="$.parents[0]"),
    Changed(
        "tombstone with an empty segment",
        "tombstones",
        ["ok", "a//b"],
        "'a//b' has an empty segment",
        where="$.tombstones[1]",
    ),
    Changed("tombstone as a number", "tombstones", [1], "expected `str`", where="$.tombstones[0]"),
    Changed("no publication id but null", "publication_id", None, "expected `str`, got `null`"),
    Changed("file as a number", "files.1", 7, "expected `object`, got `int`"),
    Changed("file as null", "files.1", None, "expected `object`"),
    Changed("file without path", "files.1.path", ABSENT, "missing required field `path`", where="$.files[1]"),
    Changed("path from the root", "files.1.path", "/b", "'/b' begins with '/'"),
    Changed("path that climbs", "files.1.path", "a/../b", "has a segment '..'"),
    Changed("path with a line break", "files.1.path", "b\n", "U+000A"),
    Changed("path too long", "files.1.path", "b" * 1025, "1025 bytes"),
    Changed("path twice", "files.1.path", "c", "'c' is there twice", where="$.files[2].path"),
    Changed("path as null", "files.1.path", None, "expected `str`"),
    Changed("negative size", "files.1.size", -1, ">= 0"),
    Changed("size over 63 bits", "files.1.size", 2**63, "<= 9223372036854775807|out of range"),
    Changed("total smaller than the pages", "files.1.size", 9, "9, and the pages have 10 bytes"),
    Changed("no bytes but pages", "files.1.size", 0, "0, and the pages have 10 bytes"),
    Changed("bytes but no pages", "files.0.size", 1, "no pages for 1 bytes", where="$.files[0].page_table"),
    Changed("hash without its kind", "files.1.hash", "ab" * 32, "is not 'sha256:' and 64 hex"),
    Changed("hash too short", "files.1.hash", "sha256:" + "ab" * 31, "64 hex"),
    Changed("hash with a letter that is no digit", "files.1.hash", "sha256:" + "ag" * 32, "64 hex"),
    Changed("hash with spaces", "files.1.hash", "sha256:" + "ab" * 31 + "  ", "64 hex"),
    Changed("hash with a letter of another alphabet", "files.1.hash", "sha256:" + "ab" * 31 + "é1", "64 hex"),
    Changed("hash of a kind in capitals", "files.1.hash", "SHA256:" + "ab" * 32, "64 hex"),
    Changed("storage as text", "files.1.storage", "k", "expected `object`"),
    Changed("storage without key", "files.1.storage", {}, "missing required field `key`"),
    Changed("key that is empty", "files.1.storage.key", "", "is empty"),
    Changed("key with a segment of one dot", "files.1.storage.key", "a/./b", "has a segment '.'"),
    Changed("key that traverses", "files.1.storage.key", "a/../../b", "has a segment '..'"),
    Changed("key with a zero byte", "files.1.storage.key", "a\x00", "U+0000"),
    Changed("key too long", "files.1.storage.key", "k" * 1025, "1025 bytes"),
    Changed("etag that would be two headers", "files.1.storage.etag", '"\r\nX: y"', "printable"),
    Changed("etag as a number", "files.1.storage.etag", 1, "expected `str | null`"),
    Changed("first page not 0", "files.2.page_table.0.page_id", 1, "1, expected 0"),
    Changed("page id skipped", "files.2.page_table.1.page_id", 2, "2, expected 1"),
    Changed("gap before the first page", "files.2.page_table.0.off", 1, "1, expected 0"),
    Changed("pages that overlap", "files.2.page_table.1.off", 65535, "65535, expected 65536"),
    Changed("gap between pages", "files.2.page_table.1.off", 65537, "65537, expected 65536"),
    Changed("page shorter than the others", "files.2.page_table.1.len", 65535, "expected 65536 like"),
    Changed("page longer than the others", "files.2.page_table.1.len", 65537, "expected 65536 like"),
    Changed("last page without bytes", "files.2.page_table.2.len", 0, "0, expected 1 to 65536"),
    Changed("last page longer than the others", "files.2.page_table.2.len", 65537, "expected 1 to 65536"),
    Changed("last page of negative length", "files.2.page_table.2.len", -1, "expected 1 to 65536"),
    Changed(
        "total larger than the pages",
        "files.2.page_table.2.len",
        1,
        "153600, and the pages have 131073",
        where="$.files[2].size",
    ),
    Changed("page of no whole blocks", "files.2.page_table.0.len", 65536 + 512, "multiple of 4096"),
    Changed("page too small", "files.2.page_table.0.len", 32 * KIB, "from 65536"),
    Changed("oversized page", "files.2.page_table.0.len", 64 * MIB + 4096, "to 67108864"),
    Changed("only page without bytes", "files.1.page_table.0.len", 0, "1 to"),
    Changed("only page oversized", "files.1.page_table.0.len", 64 * MIB + 1, "1 to 67108864"),
    Changed("checksum over 32 bits", "files.2.page_table.2.crc32c", 2**32, "<= 4294967295"),
    Changed("negative checksum", "files.2.page_table.2.crc32c", -1, ">= 0"),
    Changed("checksum as a fraction", "files.2.page_table.2.crc32c", 1.0, "got `float`"),
    Changed("checksum as a boolean", "files.2.page_table.2.crc32c", True, "got `bool`"),
    Changed("checksum as text", "files.2.page_table.2.crc32c", "1", "got `str`"),
    Changed(
        "page without checksum",
        "files.2.page_table.2.crc32c",
        ABSENT,
        "missing required field `crc32c`",
        where="$.files[2].page_table[2]",
    ),
    Changed(
        "page left out",
        "files.2.page_table.1",
        ABSENT,
        "2, expected 1",
        where="$.files[2].page_table[1].page_id",
    ),
    Changed("page table that is empty", "files.2.page_table", [], "no pages for 153600 bytes"),
)


def _instead(text: bytes) -> Callable[[bytes], bytes]:
    return lambda plain: text


def _after(text: bytes) -> Callable[[bytes], bytes]:
    return lambda plain: plain + text


def _for(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def spoil(plain: bytes) -> bytes:
        assert old in plain
        return plain.replace(old, new)

    return spoil


_DEEP: Final = 200_000

UNREADABLE: Final = (
    Spoilt("nothing", _instead(b""), "truncated"),
    Spoilt("null", _instead(b"null"), "expected `object`, got `null`"),
    Spoilt("an array", _instead(b"[]"), "expected `object`, got `array`"),
    Spoilt("not JSON", _instead(b"<?xml version='1.0'?><Error/>"), "malformed"),
    Spoilt("a byte order mark", _instead(b"\xef\xbb\xbf{}"), "malformed"),
    Spoilt("two objects", _after(b"{}"), "trailing characters"),
    Spoilt("a letter behind it", _after(b"x"), "trailing characters"),
    Spoilt(
        "path that is no UTF-8", _for(b'"path":"a"', b'"path":"\xff"'), "not valid utf-8", where="$.files[0]"
    ),
    Spoilt("id that is no UTF-8", _for(b'"publication_id":"', b'"publication_id":"\xff'), "not valid utf-8"),
    Spoilt("half a surrogate", _for(b'"path":"a"', b'"path":"\\ud800"'), "malformed"),
    Spoilt(
        "number of 10,000 digits",
        _for(b'"size":0', b'"size":' + b"9" * 10_000),
        "out of range",
        where="$.files[0].size",
    ),
    Spoilt("no number", _for(b'"size":0', b'"size":NaN'), "malformed"),
    Spoilt(
        "files nested deeply",
        _instead(b'{"version":2,"files":' + b"[" * _DEEP + b"]" * _DEEP + b"}"),
        "nested too deeply",
    ),
    Spoilt(
        "unknown field nested deeply", _instead(b'{"version":2,"x":' + b'{"a":' * _DEEP), "nested too deeply"
    ),
    Spoilt(
        "unknown field of a file nested deeply",
        _instead(b'{"version":2,"files":[{"x":' + b"[" * _DEEP + b"]" * _DEEP + b"}]}"),
        "nested too deeply",
    ),
)


def _flipped(plain: bytes) -> bytes:
    stored = bytearray(gzip.compress(plain))
    stored[len(stored) // 2] ^= 0x10
    return bytes(stored)


def _bomb(_: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(64)) + packer.flush()


BADLY_STORED: Final = (
    Spoilt("gzip cut short", lambda plain: gzip.compress(plain)[:-9], "cut short"),
    Spoilt("gzip with a bit flipped", _flipped, "not a gzip member"),
    Spoilt("two gzip members", lambda plain: gzip.compress(plain) * 2, "follow the gzip member"),
    Spoilt("gzip in gzip", lambda plain: gzip.compress(gzip.compress(plain)), "malformed"),
    Spoilt("gzip bomb", _bomb, f"more than {BYTES_MAX} bytes uncompressed"),
    Spoilt("plain and too long", _after(b" " * BYTES_MAX), f"at most {BYTES_MAX} are read"),
)
