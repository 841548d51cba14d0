"""Events and actions for people, and what is different between two of them.

What has an identity only (``PageSource``) is compared by what it is, since a replayed machine has others than
the recorded one. Whatever is long is cut: a file's checksums may be a million.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from seekfs_core.errors import SeekfsError
from seekfs_core.fetch_messages import PageSource
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.pages import FILE_KEY_LENGTH, PAGE_KEY_LENGTH
from seekfs_core.plan import ReadPlan
from seekfs_core.trace_classes import FIELDS

SHOWN_ITEMS_MAX: Final = 8
SHOWN_LENGTH_MAX: Final = 160


def shown(thing: object) -> str:
    """A value on one line, without what is long."""
    match thing:
        case FileEntry():
            return f"{thing.path!r} of {thing.size} bytes"
        case PageSource():
            return f"{thing.file.path!r} in version {thing.version} of {thing.ns!r}"
        case Manifest():
            return f"version {thing.version} of {thing.ns!r}"
        case ReadPlan():
            return f"a plan of {len(thing.extents)} ranges, {thing.total_bytes} bytes"
        case SeekfsError():
            return _cut(f"{type(thing).__name__}: {thing.detail}")
        case enum.Enum():
            return thing.name
        case bytes() if len(thing) == PAGE_KEY_LENGTH:
            return f"page {int.from_bytes(thing[FILE_KEY_LENGTH:], 'big')} of {thing[:4].hex()}…"
        case bytes():
            return thing.hex() if len(thing) <= 16 else f"{thing[:8].hex()}… ({len(thing)} bytes)"
        case tuple() | list() | deque() | set() | frozenset():
            first = [shown(each) for each in list(thing)[:SHOWN_ITEMS_MAX]]
            more = [f"… {len(thing)} in all"] if len(thing) > SHOWN_ITEMS_MAX else []
            return f"({', '.join(first + more)})"
        case Mapping():
            pairs = list(thing.items())[:SHOWN_ITEMS_MAX]
            first = [f"{shown(key)}: {shown(value)}" for key, value in pairs]
            more = [f"… {len(thing)} in all"] if len(thing) > SHOWN_ITEMS_MAX else []
            return f"{{{', '.join(first + more)}}}"
    if type(thing) in FIELDS:
        fields = [f"{name}={shown(value)}" for name, value in _fields(thing)]
        return f"{type(thing).__name__}({', '.join(fields)})"
    return _cut(repr(thing))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[: SHOWN_LENGTH_MAX - 1]}…"


def _fields(thing: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(thing, name)) for name in FIELDS[type(thing)]]


def difference_of(expected: Any, found: Any, where: str = "") -> str | None:
    """What is different first, as a path and both values; None where nothing is."""
    if expected is found:
        return None
    if type(expected) is not type(found):
        return _said(where, expected, found)
    match expected, found:
        case (tuple(), tuple()) | (list(), list()) | (deque(), deque()):
            if len(expected) != len(found):
                return f"{where or 'the actions'}: {len(expected)} expected, {len(found)} found"
            for at, (one, other) in enumerate(zip(expected, found, strict=True)):
                if (difference := difference_of(one, other, f"{where}[{at}]")) is not None:
                    return difference
            return None
        case Mapping(), Mapping():
            return difference_of([*expected.items()], [*found.items()], where)
        case SeekfsError(), SeekfsError():
            return difference_of(
                (expected.detail, expected.context), (found.detail, found.context), f"{where}.error"
            )
    if FIELDS.get(type(expected)):
        for name, one in _fields(expected):
            if (difference := difference_of(one, getattr(found, name), f"{where}.{name}")) is not None:
                return difference
        return None
    is_same = expected == found or (expected != expected and found != found)
    return None if is_same else _said(where, expected, found)


def _said(where: str, expected: object, found: object) -> str:
    return f"{where}: {shown(expected)} expected, {shown(found)} found"
