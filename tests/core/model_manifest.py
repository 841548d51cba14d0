"""Manifests as docs/SPEC.md, section 2, has them, said a second time and naively: as trees of JSON.

``written`` makes the text of a manifest; ``read`` says what a text holds, or nothing where it is to be
refused. Neither knows the module that it is held against.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any, TypeAlias

from attrs import frozen

KIB = 1 << 10
MIB = 1 << 20

Tree: TypeAlias = dict[str, Any]


class Refused(Exception):
    """This is no manifest."""


@frozen
class Facts:
    """What a manifest says of one file."""

    path: str
    size: int
    sha256: str
    pages: tuple[tuple[int, int], ...]
    """Length and CRC-32C of each."""
    key: str
    etag: str | None
    sse: str | None


def file_tree(facts: Facts) -> Tree:
    table = []
    off = 0
    for page_id, (length, crc) in enumerate(facts.pages):
        table.append({"page_id": page_id, "off": off, "len": length, "crc32c": crc})
        off += length
    return {
        "path": facts.path,
        "size": facts.size,
        "hash": f"sha256:{facts.sha256}",
        "page_table": table,
        "storage": {"key": facts.key, "etag": facts.etag, "sse": facts.sse},
    }


def tree_of(files: Sequence[Facts], **head: Any) -> Tree:
    ordered = sorted(files, key=lambda facts: facts.path.encode())
    names = ("version", "created_at", "parents", "tombstones", "publication_id")
    return {**{name: head[name] for name in names}, "files": [file_tree(facts) for facts in ordered]}


def written(tree: Tree) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


def _the(kind: type, value: Any) -> Any:
    """``value``, which has to be of this kind: 1.0 and true are no numbers of bytes."""
    if type(value) is not kind:
        raise Refused
    return value


def _field(tree: Any, name: str, kind: type) -> Any:
    if name not in _the(dict, tree):
        raise Refused
    return _the(kind, tree[name])


def _text_or_none(tree: Tree, name: str) -> str | None:
    value = tree.get(name)
    return None if value is None else str(_the(str, value))


def _segments(text: str) -> list[str]:
    if not text or len(text.encode()) > KIB or any(unicodedata.category(each) == "Cc" for each in text):
        raise Refused
    if {".", ".."} & {*text.split("/")}:
        raise Refused
    return text.split("/")


def _path(text: str) -> str:
    if "" in _segments(text):
        raise Refused
    return text


def _pages(table: list[Any], size: int) -> tuple[tuple[int, int], ...]:
    pages = []
    off = 0
    for page_id, page in enumerate(table):
        length, crc = _field(page, "len", int), _field(page, "crc32c", int)
        if (_field(page, "page_id", int), _field(page, "off", int)) != (page_id, off):
            raise Refused
        if not 0 <= crc < 1 << 32 or length < 1:
            raise Refused
        pages.append((length, crc))
        off += length
    if off != size:
        raise Refused
    lengths = [length for length, _ in pages]
    if lengths and (lengths[0] > 64 * MIB or {*lengths[:-1]} - {lengths[0]} or lengths[-1] > lengths[0]):
        raise Refused
    if len(lengths) > 1 and (lengths[0] < 64 * KIB or lengths[0] % (4 * KIB)):
        raise Refused
    return tuple(pages)


def _file(tree: Any) -> Facts:
    size, digest = _field(tree, "size", int), _field(tree, "hash", str)
    storage = _field(tree, "storage", dict)
    key, etag = _field(storage, "key", str), _text_or_none(storage, "etag")
    _segments(key)
    if not 0 <= size < 1 << 63:
        raise Refused
    kind, _, digits = digest.partition(":")
    if kind != "sha256" or len(digits) != 64 or {*digits} - {*"0123456789abcdefABCDEF"}:
        raise Refused
    if etag and not all(" " <= each <= "~" for each in etag):
        raise Refused
    return Facts(
        _path(_field(tree, "path", str)),
        size,
        digits.lower(),
        _pages(_field(tree, "page_table", list), size),
        key,
        etag,
        _text_or_none(storage, "sse"),
    )


def read(text: bytes, version: int) -> list[Facts] | None:
    """What a manifest says of its files, sorted; None where it is to be refused."""
    try:
        tree = json.loads(text)
        if _field(tree, "version", int) != version or not 1 <= version < 1 << 63:
            return None
        for number in _the(list, tree.get("parents", [])):
            _the(int, number)
        for path in _the(list, tree.get("tombstones", [])):
            _path(_the(str, path))
        _the(int, tree.get("created_at", 0))
        _the(str, tree.get("publication_id", ""))
        files = [_file(each) for each in _field(tree, "files", list)]
    except (Refused, ValueError):
        return None
    if len({facts.path for facts in files}) != len(files):
        return None
    return sorted(files, key=lambda facts: facts.path.encode())
