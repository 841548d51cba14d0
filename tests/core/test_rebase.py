"""Rebasing one change onto another's version: what conflicts, and what comes out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core.manifest import FileEntry, Manifest, pack_crcs
from seekfs_core.rebase import (
    PATHS_NAMED_MAX,
    Change,
    Counts,
    conflict_of,
    conflicts,
    counts_of,
    is_change,
    merged_files,
)
from seekfs_core.revisions import diff

PATHS = ("a", "b", "c")


def entry(path: str, content: int, key: str = "k", etag: str = "e", pages: int = 1) -> FileEntry:
    return FileEntry(
        path=path,
        size=100,
        sha256=bytes([content]) * 32,
        page_size_bytes=100 // pages,
        crcs=pack_crcs([content] * pages),
        storage_key=key,
        storage_etag=etag,
    )


def version(number: int, files: dict[str, int]) -> Manifest:
    return Manifest(ns="dev", version=number, files={p: entry(p, c) for p, c in files.items()})


contents = st.dictionaries(st.sampled_from(PATHS), st.integers(1, 3))


@settings(deadline=None)
@given(contents, contents, contents, st.sets(st.sampled_from(PATHS)))
def test_three_way_merge_path_by_path(
    before: dict[str, int], now: dict[str, int], puts: dict[str, int], removals: set[str]
) -> None:
    """The rule, path by path, written without regard to the code: git's three-way merge."""
    removals -= set(puts)
    change = Change(puts={p: entry(p, c) for p, c in puts.items()}, removals=tuple(sorted(removals)))
    snapshot, base = version(1, before), version(2, now)
    expected_conflicts = []
    expected: dict[str, int] = {}
    for path in PATHS:
        old, theirs = before.get(path), now.get(path)
        touched = path in puts or path in removals
        ours = puts.get(path) if touched else theirs
        if touched and theirs not in (old, ours):
            expected_conflicts.append(path)
        if ours is not None:
            expected[path] = ours
    assert conflicts(change, snapshot, base) == tuple(expected_conflicts)
    merged = merged_files(change, snapshot, base)
    assert {p: f.sha256[0] for p, f in merged.items()} == expected
    asked_for = {*puts, *removals}
    changed = sum(now.get(path) != expected.get(path) for path in PATHS)
    assert counts_of(change, base, merged) == Counts(changed=changed, unchanged=len(asked_for) - changed)


@given(contents, contents)
def test_going_back_is_about_every_file(old: dict[str, int], now: dict[str, int]) -> None:
    base, change = version(2, now), Change(puts=version(1, old).files, exact=True)
    merged = merged_files(change, base, base)
    assert {p: f.sha256[0] for p, f in merged.items()} == old
    changed = sum(now.get(path) != old.get(path) for path in PATHS)
    assert counts_of(change, base, merged) == Counts(
        changed=changed, unchanged=len(old.keys() | now.keys()) - changed
    )


@pytest.mark.parametrize(
    ("new", "changes"),
    [
        (entry("a", 1), False),
        (entry("a", 1, pages=4), False),
        (entry("a", 2), True),
        (entry("a", 1, key="other"), True),
        (entry("a", 1, etag="other"), True),
        (None, True),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_what_counts_as_a_change(new: FileEntry | None, changes: bool, exact: bool) -> None:
    """The same for whoever asks: what is merged, counted, found to conflict, and shown as a difference."""
    old = entry("a", 1)
    base = Manifest(ns="dev", version=1, files={"a": old})
    assert is_change(old, new) is is_change(new, old) is changes
    puts = {} if new is None else {"a": new}
    change = Change(puts=puts, removals=() if puts or exact else ("a",), exact=exact)
    merged = merged_files(change, base, base)
    assert merged.get("a") is (new if changes else old)
    assert counts_of(change, base, merged) == Counts(changed=int(changes), unchanged=int(not changes))
    theirs = Manifest(ns="dev", version=2, files=puts)
    ours = Change(puts={"a": entry("a", 3)})
    assert bool(conflicts(ours, base, theirs)) is changes
    found = diff(base, theirs)
    assert bool(found.removed or found.changed or found.moved) is changes


def test_where_both_brought_the_same_content_the_first_ones_place_stays() -> None:
    theirs = Manifest(ns="dev", version=1, files={"a": entry("a", 1, "theirs")})
    change = Change(puts={"a": entry("a", 1, "ours")})
    assert merged_files(change, None, theirs)["a"].storage_key == "theirs"
    # But a publisher that began with that version may well say where the bytes lie now.
    assert merged_files(change, theirs, theirs)["a"].storage_key == "ours"


def test_a_long_conflict_is_told_shortly_and_kept_in_full() -> None:
    paths = [f"p{i:03}" for i in range(100)]
    base = version(3, dict.fromkeys(paths, 1))
    change = Change(puts={p: entry(p, 2) for p in paths})
    conflict = conflict_of("dev", change, None, base, dict.fromkeys(paths, 3))
    assert conflict is not None
    assert conflict.detail.count("(version 3)") == PATHS_NAMED_MAX
    assert "and 90 more" in conflict.detail
    assert conflict.context["paths"] == paths
