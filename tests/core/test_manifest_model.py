"""The format of manifests against a naive reading of the contract (``model_manifest``), both ways."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from seekfs_core.errors import ManifestInvalid
from seekfs_core.manifest import FileEntry, Manifest, pack_crcs
from seekfs_core.manifest_format import compress_manifest, decode_manifest, encode_manifest
from seekfs_core.names import path_fault
from tests.core.model_manifest import KIB, MIB, Facts, Tree, read, tree_of, written

ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
PATHS = ANY_TEXT.filter(lambda path: path_fault(path) is None)


@st.composite
def facts_of_files(draw: st.DrawFn) -> Facts:
    page, full = draw(st.sampled_from([64 * KIB, 68 * KIB, 64 * MIB])), draw(st.integers(0, 3))
    last = draw(st.sampled_from([0, 1, page - 1]))
    lengths = [page] * full + [last] * (last > 0)
    crcs = draw(st.lists(st.integers(0, 2**32 - 1), min_size=len(lengths), max_size=len(lengths)))
    return Facts(
        path=draw(PATHS),
        size=sum(lengths),
        sha256=draw(st.binary(min_size=32, max_size=32)).hex(),
        pages=tuple(zip(lengths, crcs, strict=True)),
        key=draw(PATHS | st.just("a//b")),
        etag=draw(st.none() | st.sampled_from(['"x"', "bare"])),
        sse=draw(st.none() | ANY_TEXT),
    )


@st.composite
def trees(draw: st.DrawFn, files_max: int = 4) -> Tree:
    return tree_of(
        draw(st.lists(facts_of_files(), max_size=files_max, unique_by=lambda facts: facts.path)),
        version=draw(st.integers(1, 2**63 - 1)),
        created_at=draw(st.integers(-(2**63), 2**63 - 1)),
        parents=draw(st.lists(st.integers(1, 2**63 - 1), max_size=2)),
        tombstones=sorted(draw(st.lists(PATHS, max_size=2, unique=True))),
        publication_id=draw(ANY_TEXT),
    )


def entry_of(facts: Facts) -> FileEntry:
    return FileEntry(
        path=facts.path,
        size=facts.size,
        sha256=bytes.fromhex(facts.sha256),
        page_size_bytes=facts.pages[0][0] if facts.pages else 0,
        crcs=pack_crcs(crc for _, crc in facts.pages),
        storage_key=facts.key,
        storage_etag=facts.etag,
        storage_sse=facts.sse,
    )


def manifest_of(tree: Tree) -> Manifest:
    files = read(written(tree), tree["version"])
    assert files is not None
    return Manifest(
        ns="dev",
        version=tree["version"],
        files={facts.path: entry_of(facts) for facts in files},
        created_at=tree["created_at"],
        parents=tuple(tree["parents"]),
        tombstones=tuple(tree["tombstones"]),
        publication_id=tree["publication_id"],
    )


def decode(text: bytes, version: int) -> Manifest | None:
    try:
        return decode_manifest(text, ns="dev", version=version, max_bytes=MIB)
    except ManifestInvalid:
        return None


@settings(deadline=None)
@given(trees())
def test_the_bytes_of_a_manifest_are_those_that_the_contract_has(tree: Tree) -> None:
    assert encode_manifest(manifest_of(tree)) == written(tree)


@settings(deadline=None)
@given(trees(), st.booleans(), st.booleans(), st.sampled_from([None, 1]), st.booleans())
def test_however_it_is_written_the_same_is_read(
    tree: Tree, is_ascii: bool, is_reversed: bool, indent: int | None, is_packed: bool
) -> None:
    expected = manifest_of(tree)
    if is_reversed:
        tree = {**dict(reversed(tree.items())), "files": tree["files"][::-1], "new": [{"x": None}]}
    text = json.dumps(tree, ensure_ascii=is_ascii, indent=indent).encode()
    found = decode(compress_manifest(text) if is_packed else text, tree["version"])
    assert found == expected


# --- edits, of which some make another manifest and most make none -------------------------------

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 1.0, 65535, 65536, 69632, 2**26, 2**26 + 4096, 2**32 - 1, 2**32, 2**63),
    *("", "a", "a/../b", "a//b", "/a", "a\n", "x" * 1024, "x" * 1025, "sha256:" + "AB" * 32, "v1"),
    *([], {}, [1], [None], {"key": "a"}, {"page_id": 0, "off": 0, "len": 1, "crc32c": 0}),
]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each container in the tree, with each of its keys or indices."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


@st.composite
def edited(draw: st.DrawFn) -> Tree:
    tree = copy.deepcopy(draw(trees(files_max=2)))
    for _ in range(draw(st.integers(1, 2))):
        holder, key = draw(st.sampled_from(list(places(tree))))
        match draw(st.sampled_from(["other", "gone", "twice", "next"])):
            case "gone":
                del holder[key]
            case "twice" if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case "next" if type(holder[key]) is int:
                holder[key] += draw(st.sampled_from([-1, 1]))
            case _:
                holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return tree


ONE_PAGE = Facts("a", 10, "ab" * 32, ((10, 7),), "k", None, None)
HEAD = {"version": 1, "created_at": 0, "parents": [], "tombstones": [], "publication_id": ""}


@settings(deadline=None, max_examples=400)
@given(edited())
@example(tree_of([ONE_PAGE, ONE_PAGE], **HEAD))
@example({**HEAD, "files": [{**tree_of([ONE_PAGE], **HEAD)["files"][0], "size": 11}]})
def test_what_is_refused_is_what_the_contract_refuses(tree: Tree) -> None:
    version = tree.get("version")
    asked = version if type(version) is int and 1 <= version < 2**63 else 1
    text = json.dumps(tree).encode()
    expected, found = read(text, asked), decode(text, asked)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert list(found.files.values()) == [entry_of(facts) for facts in expected]
