"""A cache directory that nobody uses, as somebody else reads it: what is in it, whether all of it can be
reached, and where its blocks are.

Written from the description of the bytes (``seekfs_io.pages.segment_format``, ``seekfs_io.pages.shelf``) and
LMDB's own library; it shares no code with what writes them.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import crc32c
import lmdb
from attrs import frozen

from tests.support.disk import BLOCK_BYTES

_ENTRY: Final = struct.Struct("<QQII")
_HEADER: Final = struct.Struct("<8sHHIQQ16s36sII")
_ALIGNMENT: Final = 4096
_HEADER_BYTES: Final = 96

MAPPING_BYTES_MAX: Final = 8192
"""What a file system may take beside a file's own blocks, to know where they are."""

_NAMES: Final = re.compile(
    r"seekfs\.layout|seekfs\.lock|seekfs\.boot|lost\+found(/.*)?"
    r"|index(/(data|lock)\.mdb)?|segments(/[0-9a-f]{16}\.seg)?"
    r"|shelf(/(heads|bucket|[a-z0-9][a-z0-9._-]*@[0-9]+\.manifest))?"
)


@frozen
class Place:
    """Where the index says that a page is. Bytes, and the CRC-32C of the page."""

    segment: int
    offset: int
    length: int
    crc32c: int

    @property
    def stop(self) -> int:
        """Where its record ends: a header, the page, and zeros up to whole blocks."""
        return self.offset + -(-(_HEADER_BYTES + self.length) // _ALIGNMENT) * _ALIGNMENT


@frozen(kw_only=True)
class Contents:
    """What was found. ``lost``: segment files that no page in the index is in."""

    pages: Mapping[bytes, Place]
    segments: Mapping[int, int]
    """Bytes of blocks of each segment file, by its number."""
    lost: frozenset[int]
    disk_bytes: int
    """Blocks of everything under the directory, itself included."""
    beside_bytes: int
    """Those of everything but the segments."""

    @property
    def reached_bytes(self) -> int:
        """Blocks of the segments that a page in the index is in, and of everything but segments."""
        reached = {place.segment for place in self.pages.values()}
        return self.beside_bytes + sum(self.segments[number] for number in reached)


def read_index(directory: Path) -> dict[bytes, Place]:
    """What the index says, from page key to place, as it is on disk."""
    environment = lmdb.open(str(directory / "index"), readonly=True, lock=False, create=False)
    try:
        with environment.begin() as transaction, transaction.cursor() as cursor:
            return {bytes(key): Place(*_ENTRY.unpack(stored)) for key, stored in cursor}
    finally:
        environment.close()


def audit(directory: Path, *, is_closed: bool) -> Contents:
    """Look at all of it; ``AssertionError`` where a page is not what and where the index says, where two
    share a byte, or where a name is not seekfs's.

    ``is_closed``: it was left by a clean end, and not by a kill, which may leave a half of a small file
    beside the whole one.
    """
    names = {str(path.relative_to(directory)) for path in directory.rglob("*")}
    if not is_closed:
        names = {name.removesuffix(".tmp") for name in names}
    strange = sorted(name for name in names if not _NAMES.fullmatch(name))
    assert strange == [], strange
    store_id = re.fullmatch(
        r"seekfs cache directory\nlayout 1\nid ([0-9a-f]{32})\n", (directory / "seekfs.layout").read_text()
    )
    assert store_id is not None
    files = {int(path.stem, 16): path for path in (directory / "segments").iterdir()}
    pages = read_index(directory)
    for key, place in pages.items():
        assert place.segment in files, f"{place} of a file that is not there"
        _check_page(files[place.segment], key, place, bytes.fromhex(store_id[1]))
    _check_apart(pages)
    segments = {}
    for number, path in files.items():
        stat = path.stat()
        segments[number] = stat.st_blocks * BLOCK_BYTES
        # All of it, since a full disk is met when it is made, and nothing behind it.
        assert is_closed is False or stat.st_size <= segments[number] <= stat.st_size + MAPPING_BYTES_MAX
    disk_bytes = sum(
        os.stat(path, follow_symlinks=False).st_blocks * BLOCK_BYTES
        for path in (directory, *directory.rglob("*"))
    )
    return Contents(
        pages=pages,
        segments=segments,
        lost=frozenset(files.keys() - {place.segment for place in pages.values()}),
        disk_bytes=disk_bytes,
        beside_bytes=disk_bytes - sum(segments.values()),
    )


def _check_page(path: Path, key: bytes, place: Place, store_id: bytes) -> None:
    with path.open("rb") as file:
        file.seek(place.offset)
        record = file.read(place.stop - place.offset)
    assert len(record) == place.stop - place.offset, f"{place} is cut"
    header, page = record[:_HEADER_BYTES], record[_HEADER_BYTES : _HEADER_BYTES + place.length]
    assert struct.unpack("<I", header[92:]) == (crc32c.crc32c(header[:92]),), place
    said = _HEADER.unpack(header[:92])
    assert said == (
        b"seekfspg", 1, 96, place.length, place.segment, place.offset, store_id, key, place.crc32c, 0
    ), place  # fmt: skip
    assert crc32c.crc32c(page) == place.crc32c, f"{place} holds other bytes"


def _check_apart(pages: Mapping[bytes, Place]) -> None:
    ends: dict[int, int] = {}
    for place in sorted(pages.values(), key=lambda place: (place.segment, place.offset)):
        assert place.offset >= ends.get(place.segment, 0), f"{place} lies in another page"
        ends[place.segment] = place.stop
