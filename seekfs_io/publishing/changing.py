"""``seekfs manifest rm`` and ``rollback``: versions made of what older ones had."""

from __future__ import annotations

import time
from collections.abc import Sequence

from seekfs_core.names import check_namespace, check_path
from seekfs_core.revisions import check_version, removal, restoration, version_asked
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.driving import PublishResult, publishing_of, result_of
from seekfs_io.publishing.inspecting import existing


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
    for path in paths:
        check_path(path)
    publishing = publishing_of(PatientStore.of(store, config.s3), config, ns, single_writer)
    base = publishing.begin()
    change = removal(ns, base, paths, overwrite=overwrite, created_at=int(time.time()))
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
    version_asked(ns, version, None if base is None else base.version)
    assert base is not None
    old = base
    if version != base.version:
        old = existing(patient, config, ns, version, base.version)
    change = restoration(old, created_at=int(time.time()))
    return result_of(publishing, change, ns)
