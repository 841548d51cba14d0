"""``seekfs manifest rm`` and ``rollback``: versions made of what older ones had."""

from __future__ import annotations

import time
from collections.abc import Sequence

from seekfs_core.errors import NoSuchFile, NoSuchNamespace
from seekfs_core.names import check_namespace, check_path
from seekfs_core.rebase import Change
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.driving import PublishResult, publishing_of, result_of
from seekfs_io.publishing.inspecting import check_version, existing, no_version


def remove(
    store: ObjectStore,
    config: Config,
    ns: str,
    paths: Sequence[str],
    *,
    overwrite: bool = False,
    single_writer: bool = False,
) -> PublishResult:
    """Publish a version without these files. Raises ``NoSuchFile`` where one is not there."""
    check_namespace(ns)
    wanted = tuple(dict.fromkeys(check_path(path) for path in paths))
    publishing = publishing_of(PatientStore.of(store, config.s3), config, ns, single_writer)
    base = publishing.begin()
    if base is None:
        raise NoSuchNamespace(f"there is no namespace {ns!r}", ns=ns)
    missing = [path for path in wanted if path not in base.files]
    if missing:
        raise NoSuchFile(
            f"not in version {base.version} of namespace {ns!r}: " + ", ".join(map(repr, missing)),
            ns=ns,
            paths=missing,
            version=base.version,
        )
    change = Change(puts={}, removals=wanted, overwrite=overwrite, created_at=int(time.time()))
    return result_of(publishing, change, ns)


def rollback(
    store: ObjectStore, config: Config, ns: str, version: int, *, single_writer: bool = False
) -> PublishResult:
    """Publish the content of ``version`` as a new version. Raises ``PublishConflict`` where
    somebody else published meanwhile."""
    check_namespace(ns)
    check_version(version)
    patient = PatientStore.of(store, config.s3)
    publishing = publishing_of(patient, config, ns, single_writer)
    base = publishing.begin()
    if base is None:
        raise NoSuchNamespace(f"there is no namespace {ns!r}", ns=ns)
    if version > base.version:
        raise no_version(ns, version, base.version)
    old = base
    if version != base.version:
        old = existing(patient, config, ns, version, base.version)
    change = Change(puts=old.files, exact=True, created_at=int(time.time()))
    return result_of(publishing, change, ns)
