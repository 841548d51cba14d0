"""What may be in a cache directory, and what becomes of one that is found.

::

    seekfs.layout      magic, layout version and identity; made before, and removed after, what is below
    seekfs.lock        locked (flock) by the one process that uses the directory
    seekfs.boot        the boot under which the index was made
    index/             LMDB
    segments/          0000000000000001.seg, ...
    shelf/             manifests and known HEADs (``seekfs_core.shelf``)

Nothing but these names is ever deleted, and a directory that holds any other name is refused:
somebody's data may be there, or an operator's mistake. A small file is written under its name and
``TEMPORARY_SUFFIX`` first, so those names are ours too.

A layout file that cannot be read as one is no proof that what is beside it is ours. One of a newer seekfs
is: that one's names are not known here, and what it holds is not this one's to delete. One of an older
seekfs is believed as far as the names go, and the directory starts empty.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from seekfs_core.shelf import is_shelf_file

LAYOUT_NAME: Final = "seekfs.layout"
LOCK_NAME: Final = "seekfs.lock"
BOOT_NAME: Final = "seekfs.boot"
INDEX_NAME: Final = "index"
INDEX_DATA_NAME: Final = "data.mdb"
INDEX_LOCK_NAME: Final = "lock.mdb"
SEGMENTS_NAME: Final = "segments"
SHELF_NAME: Final = "shelf"
TEMPORARY_SUFFIX: Final = ".tmp"

CONTENT_NAMES: Final = (INDEX_NAME, BOOT_NAME, BOOT_NAME + TEMPORARY_SUFFIX, SEGMENTS_NAME, SHELF_NAME)
"""What a directory that starts empty loses."""

MADE_BEFORE_LAYOUT: Final = frozenset({LOCK_NAME, LAYOUT_NAME + TEMPORARY_SUFFIX})
"""What a process that was killed while it made a directory may leave without a layout file."""

TOLERATED_NAMES: Final = frozenset({"lost+found"})
"""The root of a file system of its own has this, and it is nobody's data."""

_SEGMENT_FILE = re.compile(r"([0-9a-f]{16})\.seg")


def segment_file(number: int) -> str:
    """The name of a segment's file."""
    return f"{number:016x}.seg"


def segment_in(file: str) -> int | None:
    """Which segment a file of this name is, or None: no segment has that name."""
    found = _SEGMENT_FILE.fullmatch(file)
    return None if found is None else int(found[1], 16)


def is_index_file(file: str) -> bool:
    """Whether LMDB gives a file this name."""
    return file in (INDEX_DATA_NAME, INDEX_LOCK_NAME)


INNER: Final[Mapping[str, Callable[[str], bool]]] = {
    SEGMENTS_NAME: lambda file: segment_in(file) is not None,
    INDEX_NAME: is_index_file,
    SHELF_NAME: lambda file: is_shelf_file(file.removesuffix(TEMPORARY_SUFFIX)),
}
"""The directories inside, and which names are ours there."""


class Fate(enum.Enum):
    """What becomes of a directory, by its layout file."""

    MADE = "there is none, so it is made"
    USED = "it is of this layout"
    EMPTIED = "it is of an older layout"
    REFUSED_NEWER = "it is of a newer layout"
    REFUSED_UNKNOWN = "what is there is no layout file"


def fate_of(*, is_there: bool, layout: int | None, own_layout: int) -> Fate:
    """What becomes of a directory whose layout file is there or not and says ``layout`` (None: it is no
    layout file). Before it is used or emptied, its names are looked at: ``foreign_name``."""
    if not is_there:
        return Fate.MADE
    if layout is None:
        return Fate.REFUSED_UNKNOWN
    if layout > own_layout:
        return Fate.REFUSED_NEWER
    return Fate.USED if layout == own_layout else Fate.EMPTIED


def foreign_beside_no_layout(names: Collection[str]) -> str | None:
    """A name for which a directory is refused before anything is made in it, the lock included, or None.

    ``names`` are all that it holds; where one of them is the layout file, that is read first.
    """
    if LAYOUT_NAME in names:
        return None
    return _first_of(names, lambda name: name in MADE_BEFORE_LAYOUT or name in TOLERATED_NAMES)


def foreign_name(names: Collection[str], inner: Mapping[str, Collection[str]]) -> str | None:
    """A name that nobody but somebody else gave, or None: then all of it is ours.

    ``names`` are those in a directory with a layout file, ``inner`` those in each directory of ``INNER`` that
    is there.
    """
    known = {LAYOUT_NAME, *CONTENT_NAMES, *MADE_BEFORE_LAYOUT, *TOLERATED_NAMES}
    foreign = _first_of(names, known.__contains__)
    if foreign is not None:
        return foreign
    for directory, is_ours in INNER.items():
        foreign = _first_of(inner.get(directory, ()), is_ours)
        if foreign is not None:
            return f"{directory}/{foreign}"
    return None


def _first_of(names: Iterable[str], is_ours: Callable[[str], bool]) -> str | None:
    return min((name for name in names if not is_ours(name)), default=None)


DESCRIPTORS_MAX: Final = 512


def descriptors_max(files_max: int | None) -> int:
    """How many segments may have their files open while nobody is in them, in a process that may open
    ``files_max`` files (None: any number): a quarter, since connections need the rest."""
    return DESCRIPTORS_MAX if files_max is None else max(8, min(DESCRIPTORS_MAX, files_max // 4))
