"""``seekfs put``: local files to objects under ``files/``, where nothing is ever changed."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from seekfs_core.names import check_namespace, file_object_key, object_key_fault
from seekfs_core.transfer_layout import put_layout_of
from seekfs_core.uploads import KeyKind, Uploads
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.digests import Digest
from seekfs_io.publishing.inputs import Input, InputError, collect_inputs
from seekfs_io.publishing.lanes import Lanes
from seekfs_io.publishing.progress import SILENT, Progress
from seekfs_io.publishing.scanning import Scanner
from seekfs_io.publishing.uploading import Uploader


@frozen(kw_only=True)
class PutResult:
    """``keys`` of all objects, in the order of their paths; ``uploaded`` counts those that were
    not there before."""

    ns: str
    paths: tuple[str, ...]
    keys: tuple[str, ...]
    uploaded: int
    uploaded_bytes: int


def put(
    store: ObjectStore,
    config: Config,
    ns: str,
    inputs: Iterable[Input],
    *,
    as_path: str | None = None,
    progress: Progress = SILENT,
) -> PutResult:
    """Upload files under ``files/`` of a namespace, and publish nothing.

    What is there already is never changed: the same bytes are fine, others are an error.
    """
    check_namespace(ns)
    files = collect_inputs(inputs, as_path)
    faults = [(file, fault) for file in files if (fault := object_key_fault(file_object_key(ns, file.path)))]
    if faults:
        raise InputError("\n".join(f"{file.path}: its key in the bucket {fault}" for file, fault in faults))
    patient = PatientStore.of(store, config.s3)
    page_size_bytes = config.cache.slab_size_bytes
    layout = put_layout_of(
        config.cache.inflight_bytes, config.s3.range_coalesce_max_bytes, [file.size for file in files]
    )
    uploads = Uploads(ns=ns, kind=KeyKind.PATH, part_bytes=layout.upload.part_bytes)
    for file in files:
        progress.expect(file.size)
    with (
        Scanner(patient, layout.scan, progress=SILENT) as scanner,
        Lanes(patient, layout.upload) as lanes,
    ):

        def compare(key: str, digest: Digest) -> bool:
            # On the scanner's threads: files come from many lanes, and there is memory for a few.
            (scanned,) = scanner.map(lambda each: scanner.scan(each, page_size_bytes), [key])
            return scanned.digest.sha256 == digest.sha256

        uploader = Uploader(
            uploads,
            layout=layout.upload,
            patient=patient,
            lanes=lanes,
            page_size_bytes=page_size_bytes,
            progress=progress,
            compare=compare,
        )
        uploader.add_all(files)
    return PutResult(
        ns=ns,
        paths=tuple(file.path for file in files),
        keys=tuple(file_object_key(ns, file.path) for file in files),
        uploaded=uploads.objects_created,
        uploaded_bytes=uploads.bytes_created,
    )
