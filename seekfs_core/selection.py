"""Which objects that are in the bucket already become the files of a version: pure functions over keys.

What a user has named must be there, and be possible, or nothing is published. What was only found, by
listing a prefix, is left out and told of where no file can be made of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from attrs import frozen

from seekfs_core.errors import BadRequest, NoSuchObject
from seekfs_core.names import NoPath, check_path, is_folder_marker, path_of_key


@frozen
class LeftOut:
    """A key of the bucket of which no file can be made, and why."""

    key: str
    reason: str


@frozen
class Selection:
    """The keys of the files, by path; and what was left out. ``folder_markers`` are keys of objects that only
    stand for folders, so that it is no failure that they are no files."""

    keys: Mapping[str, str]
    left_out: tuple[LeftOut, ...] = ()
    folder_markers: tuple[str, ...] = ()


def select_named(prefix: str, paths: Iterable[str]) -> Selection:
    """The objects of ``paths``, each once. Raises ``InvalidName``, and ``BadRequest`` for an object that
    cannot be a file."""
    keys = {path: prefix + check_path(path) for path in paths}
    for key in keys.values():
        named = path_of_key(prefix, key)
        if isinstance(named, NoPath):
            raise BadRequest(f"key {key!r}: {named.reason}")
    return Selection(keys)


def select_listed(prefix: str, listed: Mapping[str, int]) -> Selection:
    """All objects of a listing of ``prefix`` that can be files; ``listed`` is the size of each in bytes, by
    key. Raises ``NoSuchObject`` where there is nothing that is or could be meant."""
    keys: dict[str, str] = {}
    left_out: list[LeftOut] = []
    folder_markers: list[str] = []
    for key, size_bytes in listed.items():
        path = path_of_key(prefix, key)
        if is_folder_marker(key, size_bytes):
            folder_markers.append(key)
        elif isinstance(path, NoPath):
            left_out.append(LeftOut(key, path.reason))
        else:
            keys[path] = key
    if not keys and not left_out:
        raise NoSuchObject(f"there is no object under {prefix!r}", key=prefix)
    return Selection(keys, tuple(left_out), tuple(folder_markers))


def check_all_there(named: Selection, there: Collection[str]) -> None:
    """Raises ``NoSuchObject``, with all keys that were named and are not ``there``."""
    missing = [key for key in named.keys.values() if key not in there]
    if missing:
        raise NoSuchObject("no such object: " + ", ".join(map(repr, missing)), keys=missing)
