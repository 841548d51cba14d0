"""What ``seekfs_core.publication`` says where it ends without success: whether anything was written, and
what to do about it."""

from __future__ import annotations

from seekfs_core import names
from seekfs_core.errors import ConditionsNotHonoured, ManifestInvalid, PublishError, SeekfsError


def not_honoured(why: str) -> ConditionsNotHonoured:
    """The store does not take, or not keep, the conditions that all of publishing rests on."""
    return ConditionsNotHonoured(
        f"{why}: two publishers could overwrite each other's versions. "
        "--single-writer publishes all the same, where only one ever runs at a time"
    )


def base_is_missing(ns: str, version: int) -> ManifestInvalid:
    """HEAD names a version that is not there."""
    key = names.manifest_key(ns, version)
    return ManifestInvalid(
        f"HEAD of namespace {ns!r} names version {version}, and there is no {key}",
        ns=ns,
        version=version,
    )


def last_version(ns: str) -> PublishError:
    """There is no number left."""
    return PublishError(f"namespace {ns!r} is at the last version there can be", ns=ns)


def always_late(key: str, times: int) -> PublishError:
    """Others were first, more often than is waited for."""
    return PublishError(f"others were first {times} times in a row at {key}", key=key)


def in_doubt(ns: str, version: int, error: SeekfsError) -> PublishError:
    """Giving up on a write that may still arrive, or may have."""
    return PublishError(
        f"whether version {version} of namespace {ns!r} was published is not known: "
        f"{error.detail}; publishing the same again settles it",
        ns=ns,
        version=version,
    )


def without_head(ns: str, version: int, error: SeekfsError) -> PublishError:
    """The version is committed, and HEAD does not name it."""
    return PublishError(
        f"version {version} of namespace {ns!r} is written, and HEAD could not be moved "
        f"to it: {error.detail}; the next publish moves it",
        ns=ns,
        version=version,
        committed=True,
    )
