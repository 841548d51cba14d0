"""What may be asked of the versions of a namespace, and how two of them, or one and its bytes, compare.

Pure functions over manifests. How a version comes to be published is in ``seekfs_core.publication``.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from seekfs_core.errors import (
    BadRequest,
    NoSuchFile,
    NoSuchNamespace,
    NoSuchObject,
    NoSuchVersion,
    SeekfsError,
    StoreAnswered,
    StoreRefused,
)
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.names import VERSION_MAX
from seekfs_core.rebase import Change, is_change


@frozen(kw_only=True)
class Diff:
    """From one version to another: paths, sorted by their bytes. ``moved`` are files of the same
    content in another object: at another key, or overwritten."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[str, ...]


def diff(old: Manifest, new: Manifest) -> Diff:
    """What ``new`` has that ``old`` has not, and the reverse."""
    both = [path for path in new.files if path in old.files and is_change(old.files[path], new.files[path])]
    moved = {path for path in both if old.files[path].same_content(new.files[path])}
    return Diff(
        added=tuple(path for path in new.files if path not in old.files),
        removed=tuple(path for path in old.files if path not in new.files),
        changed=tuple(path for path in both if path not in moved),
        moved=tuple(path for path in both if path in moved),
    )


def check_version(version: int) -> None:
    """Raises ``BadRequest`` for a number that no version can have."""
    if not 1 <= version <= VERSION_MAX:
        raise BadRequest(f"{version} is no version; versions are 1 to {VERSION_MAX}")


def version_asked(ns: str, version: int | None, head: int | None) -> int:
    """The version that is meant, where HEAD of ``ns`` names ``head`` (None: there is no HEAD).

    None means the current one. Raises ``BadRequest``, ``NoSuchNamespace`` and ``NoSuchVersion``.
    """
    if version is not None:
        check_version(version)
    if head is None:
        raise NoSuchNamespace(f"there is no namespace {ns!r}", ns=ns)
    if version is not None and version > head:
        raise no_version(ns, version, head)
    return head if version is None else version


def no_version(ns: str, version: int, head: int) -> NoSuchVersion:
    """The error for a version that is not there, or above HEAD."""
    return NoSuchVersion(
        f"there is no version {version} of namespace {ns!r}, whose current version is {head}",
        ns=ns,
        version=version,
    )


def removal(
    ns: str, base: Manifest | None, paths: Sequence[str], *, overwrite: bool, created_at: int
) -> Change:
    """The change that takes ``paths`` out of ``base``, each once.

    Raises ``NoSuchNamespace`` where nothing was published, and ``NoSuchFile`` naming every path that
    is not there: a misspelt path is not a file that is gone already.
    """
    if base is None:
        raise NoSuchNamespace(f"there is no namespace {ns!r}", ns=ns)
    wanted = tuple(dict.fromkeys(paths))
    missing = [path for path in wanted if path not in base.files]
    if missing:
        raise NoSuchFile(
            f"not in version {base.version} of namespace {ns!r}: " + ", ".join(map(repr, missing)),
            ns=ns,
            paths=missing,
            version=base.version,
        )
    return Change(puts={}, removals=wanted, overwrite=overwrite, created_at=created_at)


def restoration(old: Manifest, *, created_at: int) -> Change:
    """The change that makes everything as it was in ``old``."""
    return Change(puts=old.files, exact=True, created_at=created_at)


def size_difference(entry: FileEntry, size: int | None) -> str | None:
    """What is wrong with an object of ``size`` bytes (None: there is none) that should be ``entry``'s."""
    if size is None:
        return "the object is gone"
    if size != entry.size:
        return f"the object has {size} bytes, the manifest {entry.size}"
    return None


def content_differences(entry: FileEntry, size: int, crcs: Sequence[int], sha256: bytes) -> list[str]:
    """What is wrong with ``size`` bytes that were read: their number, or each page by its CRC-32C and
    the whole by its hash. ``crcs`` are those of pages of the entry's length."""
    wrong_size = size_difference(entry, size)
    if wrong_size is not None:
        return [wrong_size]  # The object was replaced since it was asked for its size.
    found = [
        f"page {page_id} has CRC-32C {crc:#010x}, the manifest {entry.page_crc32c(page_id):#010x}"
        for page_id, crc in enumerate(crcs)
        if crc != entry.page_crc32c(page_id)
    ]
    if sha256 != entry.sha256:
        found.append(f"the bytes are sha256:{sha256.hex()}, the manifest's {entry.hash_text}")
    return found


def is_difference(error: SeekfsError) -> bool:
    """Whether an error says that one file is not as its manifest has it: its object is gone, keeps
    changing, or is answered wrongly for. Everything else would be said of the next file as well."""
    return isinstance(error, NoSuchObject | StoreAnswered) and not isinstance(error, StoreRefused)
