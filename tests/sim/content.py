"""Bytes without bytes: what a page holds is said by where it was cut from which content.

A content is a number. Two pieces are the same bytes exactly if they are equal, and the checksum of a piece is
that of its description; so a simulated node moves terabytes, and a bit that flipped is seen all the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from attrs import evolve, frozen

from seekfs_core.manifest import FileEntry, file_entry, pack_crcs
from tests.sim.options import PAGE

_PIECE = struct.Struct("<QQQQ")


@frozen
class Piece:
    """Bytes [``start``, ``stop``) of a content; ``damage`` is 0 where they are as they should be."""

    content: int
    start: int
    stop: int
    damage: int = 0

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def crc(self) -> int:
        return _crc_of(self)

    def damaged(self, damage: int) -> Piece:
        """The same with some bits flipped; ``damage`` says which, and is not 0."""
        return evolve(self, damage=damage)


@lru_cache(maxsize=1 << 14)
def _crc_of(piece: Piece) -> int:
    return crc32(_PIECE.pack(piece.content, piece.start, piece.stop, piece.damage))


def sha256_of(content: int) -> bytes:
    """The digest of a content."""
    return hashlib.sha256(content.to_bytes(8, "little")).digest()


def etag_of(content: int) -> str:
    """What the store calls an object that holds this content."""
    return f'"{content:032x}"'


def page_size_of(content: int) -> int:
    """How a file of this content is cut, whoever publishes it: else its bytes would be of several pages."""
    return PAGE * (1 + content % 2)


def cut(content: int, size: int, page_size_bytes: int) -> list[Piece]:
    """The pages of a content."""
    starts = range(0, size, page_size_bytes or 1)
    return [Piece(content, start, min(size, start + page_size_bytes)) for start in starts]


def entry_of(path: str, content: int, size: int, page_size_bytes: int, key: str) -> FileEntry:
    """What a manifest says of a file with this content."""
    return file_entry(
        path=path,
        size=size,
        sha256=sha256_of(content),
        page_size_bytes=page_size_bytes,
        crcs=pack_crcs(piece.crc for piece in cut(content, size, min(page_size_bytes, size))),
        storage_key=key,
        storage_etag=etag_of(content),
    )


def is_exactly(pieces: Sequence[Piece], content: int, start: int, stop: int) -> bool:
    """Whether pieces, one after the other, are bytes [``start``, ``stop``) of this content, unharmed."""
    at = start
    for piece in pieces:
        if (piece.content, piece.start, piece.damage) != (content, at, 0):
            return False
        at = piece.stop
    return at == stop
