"""Looking at versions: loading one, and reading one back to verify it."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from seekfs_core.errors import SeekfsError
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.names import check_namespace, check_path
from seekfs_core.revisions import (
    check_version,
    content_differences,
    is_difference,
    no_version,
    size_difference,
    version_asked,
)
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.driving import read_head, read_manifest
from seekfs_io.publishing.progress import SILENT, Progress
from seekfs_io.publishing.scanning import Scanner, scanner_of


@frozen(kw_only=True)
class Difference:
    """What verifying found: ``what`` is a sentence about the file at ``path``."""

    path: str
    key: str
    what: str


@frozen(kw_only=True)
class Verified:
    """``differences`` is empty where every byte is that of the manifest."""

    ns: str
    version: int
    files: int
    bytes: int
    differences: tuple[Difference, ...]


def load(store: ObjectStore, config: Config, ns: str, version: int | None = None) -> Manifest:
    """A version of a namespace, checked: the current one, or ``version``.

    Raises ``NoSuchNamespace``, ``NoSuchVersion`` and ``ManifestInvalid``.
    """
    return _load(PatientStore.of(store, config.s3), config, ns, version)


def _load(patient: PatientStore, config: Config, ns: str, version: int | None) -> Manifest:
    check_namespace(ns)
    if version is not None:
        check_version(version)  # Before the store is asked anything.
    head = read_head(patient, ns)
    asked = version_asked(ns, version, head)
    return existing(patient, config, ns, asked, head or asked)


def existing(patient: PatientStore, config: Config, ns: str, version: int, head: int) -> Manifest:
    """A version that must be there, since ``head`` is the current one; or ``NoSuchVersion``."""
    manifest = read_manifest(patient, ns, version, bytes_max=config.manifest.max_bytes)
    if manifest is None:
        raise no_version(ns, version, head)
    return manifest


def verify(
    store: ObjectStore,
    config: Config,
    ns: str,
    version: int | None = None,
    paths: Sequence[str] = (),
    *,
    progress: Progress = SILENT,
) -> Verified:
    """Read every byte of a version back, past all caches, and say what differs from its manifest."""
    patient = PatientStore.of(store, config.s3)
    manifest = _load(patient, config, ns, version)
    entries = [manifest.file(check_path(path)) for path in paths] or list(manifest.files.values())
    for entry in entries:
        progress.expect(entry.size)
    with scanner_of(patient, config, len(entries), progress) as scanner:
        found = scanner.map(lambda entry: _differences(patient, scanner, entry), entries)
    return Verified(
        ns=ns,
        version=manifest.version,
        files=len(entries),
        bytes=sum(entry.size for entry in entries),
        differences=tuple(difference for each in found for difference in each),
    )


def _differences(patient: PatientStore, scanner: Scanner, entry: FileEntry) -> list[Difference]:
    def differs(what: str) -> Difference:
        return Difference(path=entry.path, key=entry.storage_key, what=what)

    try:
        there = patient.stat(entry.storage_key)
        wrong_size = size_difference(entry, None if there is None else there.size)
        if wrong_size is not None:
            return [differs(wrong_size)]  # No need to read it.
        digest = scanner.scan(entry.storage_key, entry.page_size_bytes or 1, there).digest
    except SeekfsError as error:
        if not is_difference(error):
            raise
        return [differs(error.detail)]
    found = content_differences(entry, digest.size, digest.crcs, digest.sha256)
    return [differs(what) for what in found]
