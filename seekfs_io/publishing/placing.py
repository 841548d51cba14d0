"""``seekfs put``: local files to objects under ``files/``, where nothing is ever changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import frozen

from seekfs_core.errors import PublishConflict
from seekfs_core.names import check_namespace, file_object_key, object_key_fault
from seekfs_core.sending import is_sent_whole
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStat, ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.digests import Digest
from seekfs_io.publishing.inputs import Input, InputError, LocalFile, collect_inputs
from seekfs_io.publishing.progress import SILENT, Progress
from seekfs_io.publishing.scanning import Scanner
from seekfs_io.publishing.uploading import Lanes, digest_file, read_whole, upload_parts


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
    uploaded: list[int] = []
    window_bytes = config.s3.range_coalesce_max_bytes
    page_size_bytes = config.cache.slab_size_bytes
    for file in files:
        progress.expect(file.size)

    def holds(key: str, digest: Digest, scanner: Scanner) -> bool:
        return scanner.scan(key, page_size_bytes).digest.sha256 == digest.sha256

    def refuse_other(file: LocalFile, digest: Digest, there: ObjectStat, scanner: Scanner) -> None:
        if there.size != digest.size or not holds(there.key, digest, scanner):
            raise PublishConflict(
                f"{there.key} is there already, with other bytes; seekfs put never changes an object",
                key=there.key,
                paths=[file.path],
            )

    with (
        Scanner(
            patient,
            window_bytes=window_bytes,
            memory_bytes=config.cache.inflight_bytes // 2,
            objects_count=len(files),
            progress=SILENT,
        ) as scanner,
        Lanes(patient, config.cache.inflight_bytes // 2) as lanes,
    ):

        def put_small(file: LocalFile) -> None:
            progress.describe(file.path)
            key = file_object_key(ns, file.path)
            content, digest = read_whole(file, page_size_bytes)
            # Asked first: a store that ignores If-None-Match must not lose an object to us.
            there = patient.stat(key)
            if there is None:
                creation = patient.create(key, content)
                there = ObjectStat(key=key, size=creation.size, etag=creation.etag)
                if creation.created:
                    uploaded.append(digest.size)
                    progress.advance(file.size)
                    return
            refuse_other(file, digest, there, scanner)
            progress.advance(file.size)

        def put_large(file: LocalFile) -> None:
            progress.describe(file.path)
            key = file_object_key(ns, file.path)
            digest = digest_file(file, page_size_bytes, progress)
            there = patient.stat(key)
            if there is None:
                progress.expect(digest.size)
                creation = upload_parts(patient, lanes, file, digest, key, progress)
                if creation.created:
                    uploaded.append(digest.size)
                    return
                there = ObjectStat(key=key, size=creation.size, etag=creation.etag)
            refuse_other(file, digest, there, scanner)

        for file in files:
            if is_sent_whole(file.size):
                lanes.submit(_bound(put_small, file))
            else:
                put_large(file)
    return PutResult(
        ns=ns,
        paths=tuple(file.path for file in files),
        keys=tuple(file_object_key(ns, file.path) for file in files),
        uploaded=len(uploaded),
        uploaded_bytes=sum(uploaded),
    )


def _bound(work: Callable[[LocalFile], None], file: LocalFile) -> Callable[[], None]:
    return lambda: work(file)
