"""``seekfs publish``: local files to content-addressed objects, and a version that has them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from seekfs_core.creation import Conditions
from seekfs_core.errors import PublishConflict
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.names import check_namespace, content_object_key
from seekfs_core.rebase import Change
from seekfs_core.sending import is_asked_for_first, is_sent_whole
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStat, ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.digests import Digest
from seekfs_io.publishing.driving import PublishResult, publishing_of
from seekfs_io.publishing.inputs import Input, LocalFile, collect_inputs
from seekfs_io.publishing.progress import SILENT, Progress
from seekfs_io.publishing.uploading import Lanes, digest_file, read_whole, upload_parts


def publish(
    store: ObjectStore,
    config: Config,
    ns: str,
    inputs: Iterable[Input],
    *,
    as_path: str | None = None,
    overwrite: bool = False,
    single_writer: bool = False,
    progress: Progress = SILENT,
) -> PublishResult:
    """Upload files by content, and publish a version that has them.

    Files that the current version has with the same content are not uploaded, and if all are like
    that no version is made. See ``publishing.uploading`` for why files of more than 32 MiB are
    read twice, and ``publishing.inputs`` for what FILE and DIR mean.
    """
    check_namespace(ns)
    files = collect_inputs(inputs, as_path)
    patient = PatientStore.of(store, config.s3)
    publishing = publishing_of(patient, config, ns, single_writer)
    base = publishing.begin()
    with Lanes(patient, config.cache.inflight_bytes) as lanes:
        upload = _ContentUpload(
            patient=patient,
            lanes=lanes,
            ns=ns,
            base=base,
            page_size_bytes=config.cache.slab_size_bytes,
            prove=publishing.prove,
            single_writer=single_writer,
            progress=progress,
        )
        for file in files:
            progress.expect(file.size)
        for file in files:
            upload.add(file)
    progress.describe("publishing")
    entries = upload.entries()
    change = Change(puts=entries, overwrite=overwrite, created_at=int(time.time()))
    published = publishing.publish(change)
    before = {} if base is None else base.files
    changed = sum(before.get(path) != entry for path, entry in entries.items())
    return PublishResult(
        ns=ns,
        version=0 if published.manifest is None else published.manifest.version,
        new=published.new,
        manifest=published.manifest,
        changed=changed,
        unchanged=len(files) - changed,
        uploaded_objects=upload.objects,
        uploaded_bytes=upload.bytes,
    )


class _ContentUpload:
    """Uploads what the base does not have, each content once."""

    def __init__(
        self,
        *,
        patient: PatientStore,
        lanes: Lanes,
        ns: str,
        base: Manifest | None,
        page_size_bytes: int,
        prove: Callable[[], None],
        single_writer: bool,
        progress: Progress,
    ) -> None:
        self._patient = patient
        self._lanes = lanes
        self._ns = ns
        self._base = {} if base is None else base.files
        self._page_size_bytes = page_size_bytes
        self._prove = prove
        self._conditions = Conditions.TRIED if single_writer else Conditions.KEPT
        self._progress = progress
        self._lock = threading.Lock()
        self._there: dict[str, str | None] = {
            entry.storage_key: entry.storage_etag
            for entry in self._base.values()
            if entry.storage_key == content_object_key(ns, entry.sha256.hex())
        }
        """ETags of the contents that are in the bucket, by key; None while on its way, or unknown."""
        self._unchanged: dict[str, FileEntry] = {}
        self._digests: dict[str, Digest] = {}
        self.objects = 0
        self.bytes = 0

    def entries(self) -> dict[str, FileEntry]:
        """All files that were added, by path; once the lanes have ended."""
        entries = dict(self._unchanged)
        for path, digest in self._digests.items():
            key = content_object_key(self._ns, digest.sha256.hex())
            entries[path] = digest.entry(path, key, self._there[key])
        return entries

    def add(self, file: LocalFile) -> None:
        """Take one file; small ones are read and sent by another thread."""
        if is_sent_whole(file.size):
            self._lanes.submit(lambda: self._add_small(file))
        else:
            self._add_large(file)

    def _add_small(self, file: LocalFile) -> None:
        self._progress.describe(file.path)
        content, digest = read_whole(file, self._page_size_bytes)
        key = content_object_key(self._ns, digest.sha256.hex())
        if self._take_unchanged(file, digest) or self._take_known(file, digest, key):
            self._progress.advance(file.size)
            return
        self._prove()
        there = self._patient.stat(key) if is_asked_for_first(digest.size) else None
        if there is None:
            creation = self._patient.create(key, content, conditions=self._conditions)
            there = ObjectStat(key=key, size=creation.size, etag=creation.etag)
            if creation.created:
                self._count(digest.size)
        self._finish(file, digest, there)
        self._progress.advance(file.size)

    def _add_large(self, file: LocalFile) -> None:
        self._progress.describe(file.path)
        digest = digest_file(file, self._page_size_bytes, self._progress)
        key = content_object_key(self._ns, digest.sha256.hex())
        if self._take_unchanged(file, digest) or self._take_known(file, digest, key):
            return
        self._prove()
        there = self._patient.stat(key)
        if there is None:
            self._progress.expect(digest.size)
            creation = upload_parts(
                self._patient,
                self._lanes,
                file,
                digest,
                key,
                self._progress,
                conditions=self._conditions,
            )
            there = ObjectStat(key=key, size=creation.size, etag=creation.etag)
            self._count(digest.size)
        self._finish(file, digest, there)

    def _take_unchanged(self, file: LocalFile, digest: Digest) -> bool:
        """The base has this content at this path: its entry stays as it is."""
        entry = self._base.get(file.path)
        if entry is None or entry.sha256 != digest.sha256 or entry.size != digest.size:
            return False
        self._unchanged[file.path] = entry
        return True

    def _take_known(self, file: LocalFile, digest: Digest, key: str) -> bool:
        """The content is in the bucket, or on its way there for another path; else it is ours to send."""
        with self._lock:
            if key in self._there:
                self._digests[file.path] = digest
                return True
            self._there[key] = None
            return False

    def _finish(self, file: LocalFile, digest: Digest, there: ObjectStat) -> None:
        if there.size != digest.size:
            raise PublishConflict(
                f"{there.key} is there with {there.size} bytes, and its name says other content "
                f"({digest.size} bytes); somebody else has written it",
                key=there.key,
            )
        with self._lock:
            self._there[there.key] = there.etag
            self._digests[file.path] = digest

    def _count(self, size: int) -> None:
        with self._lock:
            self.objects += 1
            self.bytes += size
