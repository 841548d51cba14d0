"""Looking at versions: loading one, comparing two, and reading one back to verify it."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from seekfs_core.errors import BadRequest, NoSuchNamespace, NoSuchObject, NoSuchVersion, StoreAnswered
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.names import VERSION_MAX, check_namespace, check_path
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


@frozen(kw_only=True)
class Diff:
    """From one version to another: paths, sorted by their bytes. ``moved`` are files of the same
    content that lie at another key."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[str, ...]


def load(store: ObjectStore, config: Config, ns: str, version: int | None = None) -> Manifest:
    """A version of a namespace, checked: the current one, or ``version``.

    Raises ``NoSuchNamespace``, ``NoSuchVersion`` and ``ManifestInvalid``.
    """
    return _load(PatientStore.of(store, config.s3), config, ns, version)


def _load(patient: PatientStore, config: Config, ns: str, version: int | None) -> Manifest:
    check_namespace(ns)
    if version is not None:
        check_version(version)
    head = read_head(patient, ns)
    if head is None:
        raise NoSuchNamespace(f"there is no namespace {ns!r}", ns=ns)
    if version is not None and version > head:
        raise no_version(ns, version, head)
    return existing(patient, config, ns, head if version is None else version, head)


def existing(patient: PatientStore, config: Config, ns: str, version: int, head: int) -> Manifest:
    """A version that must be there, since ``head`` is the current one; or ``NoSuchVersion``."""
    manifest = read_manifest(patient, ns, version, bytes_max=config.manifest.max_bytes)
    if manifest is None:
        raise no_version(ns, version, head)
    return manifest


def check_version(version: int) -> None:
    """Raises ``BadRequest`` for a number that no version can have."""
    if not 1 <= version <= VERSION_MAX:
        raise BadRequest(f"{version} is no version; versions are 1 to {VERSION_MAX}")


def no_version(ns: str, version: int, head: int) -> NoSuchVersion:
    """The error for a version that is not there, or above HEAD."""
    return NoSuchVersion(
        f"there is no version {version} of namespace {ns!r}, whose current version is {head}",
        ns=ns,
        version=version,
    )


def diff(old: Manifest, new: Manifest) -> Diff:
    """What ``new`` has that ``old`` has not, and the reverse."""
    both = [path for path in new.files if path in old.files]
    changed = {path for path in both if not old.files[path].same_content(new.files[path])}
    return Diff(
        added=tuple(path for path in new.files if path not in old.files),
        removed=tuple(path for path in old.files if path not in new.files),
        changed=tuple(path for path in both if path in changed),
        moved=tuple(
            path
            for path in both
            if path not in changed and old.files[path].storage_key != new.files[path].storage_key
        ),
    )


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

    there = patient.stat(entry.storage_key)
    if there is None:
        return [differs("the object is gone")]
    if there.size != entry.size:
        return [differs(f"the object has {there.size} bytes, the manifest {entry.size}")]
    try:
        digest = scanner.scan(entry.storage_key, entry.page_size_bytes or 1, there).digest
    except (NoSuchObject, StoreAnswered) as error:
        return [differs(error.detail)]
    found = [
        differs(f"page {page_id} has CRC-32C {crc:#010x}, the manifest {entry.page_crc32c(page_id):#010x}")
        for page_id, crc in enumerate(digest.crcs)
        if crc != entry.page_crc32c(page_id)
    ]
    if digest.sha256 != entry.sha256:
        found.append(differs(f"the bytes are sha256:{digest.sha256.hex()}, the manifest's {entry.hash_text}"))
    return found
