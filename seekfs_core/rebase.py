"""What a version does to its base, and whether that can be done to another base: pure functions.

A publisher takes a *snapshot* of the namespace when it begins, before it uploads anything. By the
time it publishes, others may have published too: its change is made to their newest version,
unless both changed the same path.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from seekfs_core.errors import PublishConflict
from seekfs_core.manifest import FileEntry, Manifest

PATHS_NAMED_MAX = 10
"""Paths that a conflict's sentence names; all of them are in its context."""


@frozen(kw_only=True)
class Change:
    """What a version does to its base.

    ``puts`` are files by path and ``removals`` paths that go; a path is in one of them at most.
    ``exact`` means that ``puts`` is everything (rollback): such a change cannot be rebased.
    ``overwrite`` lets it win over a change of the same path by somebody else.
    ``created_at`` is seconds since 1970, informational.
    """

    puts: Mapping[str, FileEntry]
    removals: tuple[str, ...] = ()
    exact: bool = False
    overwrite: bool = False
    created_at: int = 0


@frozen(kw_only=True)
class Counts:
    """Of the files that a change is about, how many the version has otherwise than its base."""

    changed: int
    unchanged: int


def is_change(old: FileEntry | None, new: FileEntry | None) -> bool:
    """Whether ``new`` in the place of ``old`` changes a version; None is no file.

    Other bytes do, and the same bytes in another object: at another key, or overwritten, since GETs
    are bound to the ETag. How the bytes are cut into pages does not.
    """
    if old is None or new is None:
        return old is not new
    return (
        not old.same_content(new)
        or old.storage_key != new.storage_key
        or old.storage_etag != new.storage_etag
    )


def conflicts(change: Change, snapshot: Manifest | None, base: Manifest | None) -> tuple[str, ...]:
    """The paths that ``change`` and somebody else both changed since ``snapshot``, sorted.

    The same content given to one path twice is no conflict, nor is removing it twice.
    """
    before, now = files_of(snapshot), files_of(base)
    found = []
    for path in (*change.puts, *change.removals):
        theirs = now.get(path)
        if not is_change(before.get(path), theirs):
            continue
        ours = change.puts.get(path)
        if theirs is None and ours is None:
            continue
        if theirs is not None and ours is not None and theirs.same_content(ours):
            continue
        found.append(path)
    return tuple(sorted(found))


def conflict_of(
    ns: str,
    change: Change,
    snapshot: Manifest | None,
    base: Manifest | None,
    winners: Mapping[str, int],
) -> PublishConflict | None:
    """Why ``change`` cannot be made to ``base``, or None. ``winners`` says which version since
    ``snapshot`` was the last to change a path of ours."""
    if change.exact:
        if version_of(base) == version_of(snapshot):
            return None
        return PublishConflict(
            f"namespace {ns!r} moved from version {version_of(snapshot)} to {version_of(base)} meanwhile",
            ns=ns,
            winner=version_of(base),
        )
    paths = () if change.overwrite else conflicts(change, snapshot, base)
    if not paths:
        return None
    shown = ", ".join(f"{path!r} (version {winners[path]})" for path in paths[:PATHS_NAMED_MAX])
    more = len(paths) - PATHS_NAMED_MAX
    return PublishConflict(
        f"changed by somebody else in namespace {ns!r} meanwhile: {shown}"
        + (f" and {more} more" if more > 0 else "")
        + "; --overwrite replaces them",
        ns=ns,
        paths=list(paths),
        winner=max(winners[path] for path in paths),
        winners={path: winners[path] for path in paths},
    )


def merged_files(change: Change, snapshot: Manifest | None, base: Manifest | None) -> dict[str, FileEntry]:
    """The files of ``base`` with ``change`` made to them.

    An entry that the change does not change stays as it is, and so does one of somebody else who gave
    the path the very content that we bring.
    """
    before, now = files_of(snapshot), files_of(base)
    files = {} if change.exact else dict(now)
    for path in change.removals:
        files.pop(path, None)
    for path, ours in change.puts.items():
        theirs = now.get(path)
        if theirs is None or _replaces(ours, before.get(path), theirs):
            files[path] = ours
        else:
            files[path] = theirs
    return files


def _replaces(ours: FileEntry, before: FileEntry | None, theirs: FileEntry) -> bool:
    if theirs.same_content(ours) and is_change(before, theirs):
        return False  # They were first, with the same.
    return is_change(theirs, ours)


def counts_of(change: Change, base: Manifest | None, files: Mapping[str, FileEntry]) -> Counts:
    """What ``change`` came to, whose result on ``base`` is ``files``. One that is ``exact`` is about
    every file of either."""
    before = files_of(base)
    paths = {*change.puts, *change.removals}
    if change.exact:
        paths.update(before)
    changed = sum(is_change(before.get(path), files.get(path)) for path in paths)
    return Counts(changed=changed, unchanged=len(paths) - changed)


def files_of(manifest: Manifest | None) -> Mapping[str, FileEntry]:
    """The files of a version; none where nothing was ever published."""
    return {} if manifest is None else manifest.files


def version_of(manifest: Manifest | None) -> int:
    """The version's number; 0 where nothing was ever published."""
    return 0 if manifest is None else manifest.version
