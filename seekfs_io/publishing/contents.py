"""``seekfs publish``: local files to content-addressed objects, and a version that has them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from seekfs_core.manifest import FileEntry
from seekfs_core.names import check_namespace
from seekfs_core.rebase import Change, files_of
from seekfs_core.transfer_layout import upload_layout_of
from seekfs_core.uploads import Kept, KeyKind, Placed, Uploads
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.digests import Digest
from seekfs_io.publishing.driving import PublishResult, publishing_of
from seekfs_io.publishing.inputs import Input, collect_inputs
from seekfs_io.publishing.lanes import Lanes
from seekfs_io.publishing.progress import SILENT, Progress
from seekfs_io.publishing.uploading import Uploader


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

    Files that the current version has with the same content are not uploaded where their objects are
    there still, and if all are like that no version is made. See ``publishing.uploading`` for why large
    files are read twice, and ``publishing.inputs`` for what FILE and DIR mean.
    """
    check_namespace(ns)
    files = collect_inputs(inputs, as_path)
    patient = PatientStore.of(store, config.s3)
    publishing = publishing_of(patient, config, ns, single_writer)
    base = publishing.begin()
    layout = upload_layout_of(config.cache.inflight_bytes, [file.size for file in files])
    uploads = Uploads(
        ns=ns,
        kind=KeyKind.CONTENT,
        part_bytes=layout.part_bytes,
        conditions=publishing.conditions,
        base=files_of(base),
    )
    for file in files:
        progress.expect(file.size)
    with Lanes(patient, layout) as lanes:
        uploader = Uploader(
            uploads,
            layout=layout,
            patient=patient,
            lanes=lanes,
            page_size_bytes=config.cache.slab_size_bytes,
            progress=progress,
            prove=publishing.prove,
        )
        uploader.add_all(files)
    progress.describe("publishing")
    entries = {
        path: _entry_of(path, placement, uploader.digests[path])
        for path, placement in uploads.placements().items()
    }
    change = Change(puts=entries, overwrite=overwrite, created_at=int(time.time()))
    published = publishing.publish(change)
    return PublishResult(
        ns=ns,
        version=0 if published.manifest is None else published.manifest.version,
        new=published.new,
        manifest=published.manifest,
        changed=published.counts.changed,
        unchanged=published.counts.unchanged,
        uploaded_objects=uploads.objects_created,
        uploaded_bytes=uploads.bytes_created,
    )


def _entry_of(path: str, placement: Kept | Placed, digest: Digest) -> FileEntry:
    match placement:
        case Kept(entry):
            return entry
        case Placed(key, etag):
            return digest.entry(path, key, etag)
