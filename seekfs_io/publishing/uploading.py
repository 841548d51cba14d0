"""Getting the bytes of local files into the bucket, several at a time, within a bound of memory.

A file of at most ``PART_BYTES`` is read once into memory, hashed there and sent by one PUT. A
larger one is read twice: the key of content is its hash, so the hash must be known before the
first byte is sent, and the whole does not fit into memory. The first pass takes SHA-256 and page
CRCs, the second sends multipart parts and takes SHA-256 again; only when both agree are the parts
joined. (A single pass would have to upload to a temporary key and copy.) So what an ``objects/``
key holds is always its content, and a file that changes meanwhile is an error that names it.

Memory: ``Lanes`` hands out as many part-sized buffers as ``cache.inflight_mib`` has room for.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from seekfs_core.creation import Conditions
from seekfs_core.errors import SeekfsError
from seekfs_core.sending import MIB, PART_BYTES, part_size_bytes
from seekfs_io.objects.base import StoreError
from seekfs_io.objects.patient import Creation, PatientStore
from seekfs_io.publishing.digests import Digest, Digester, digest_of
from seekfs_io.publishing.inputs import FileChanged, LocalFile, Opened
from seekfs_io.publishing.progress import Progress

T = TypeVar("T")

LANES_MAX = 8
"""More uploads at once gain nothing on the links that this runs on, and cost memory."""

ABORT_WAIT_SECONDS = 5.0
"""How long an abort waits for parts under way: one that arrives after it would stay in the bucket."""


class Lanes:
    """Runs jobs on a few threads; each may hold one buffer of ``PART_BYTES``.

    ``submit`` waits for a free lane, so that no more is read than can be sent. The first job that
    fails ends the block (``with``) with its error, after the others have ended.
    """

    def __init__(self, patient: PatientStore, memory_bytes: int) -> None:
        self._patient = patient
        # One part less: the next one is read while all lanes send.
        self.count = max(1, min(LANES_MAX, memory_bytes // PART_BYTES - 1))
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="seekfs-upload")
        self._free = threading.Semaphore(self.count)
        self._jobs: set[Future[None]] = set()

    def submit(self, job: Callable[[], None]) -> Future[None]:
        """Run ``job`` on a lane, as soon as one is free. Raises what an earlier job has raised."""
        self._free.acquire()
        ended = {each for each in self._jobs if each.done()}
        self._jobs -= ended
        for each in ended:
            if each.exception() is not None:
                self._free.release()
                each.result()
        future = self._pool.submit(self._run, job)
        self._jobs.add(future)
        return future

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        finally:
            self._free.release()

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                done, _unfinished = wait(self._jobs, return_when=FIRST_EXCEPTION)
                for each in done:
                    each.result()
        except BaseException:
            self._patient.stop()
            raise
        finally:
            if kind is not None:
                self._patient.stop()
            self._pool.shutdown(wait=True, cancel_futures=True)


def read_whole(file: LocalFile, page_size_bytes: int) -> tuple[memoryview, Digest]:
    """The bytes of a small file, read once, and their digest. Raises ``InputError``."""
    with Opened(file) as opened:
        content = memoryview(bytearray(opened.size))
        opened.read_into(content)
        opened.check()
    return content, digest_of(content, page_size_bytes)


def digest_file(file: LocalFile, page_size_bytes: int, progress: Progress) -> Digest:
    """The digest of a large file, read in pieces. Raises ``InputError``."""
    digester = Digester(page_size_bytes)
    buffer = memoryview(bytearray(MIB))
    with Opened(file) as opened:
        left = opened.size
        while left:
            piece = buffer[: min(left, len(buffer))]
            opened.read_into(piece)
            digester.update(piece)
            left -= len(piece)
            progress.advance(len(piece))
        opened.check()
    return digester.digest()


def upload_parts(
    patient: PatientStore,
    lanes: Lanes,
    file: LocalFile,
    digest: Digest,
    key: str,
    progress: Progress,
    *,
    conditions: Conditions = Conditions.KEPT,
) -> Creation:
    """Send a large file to ``key`` in parts, where there is nothing yet.

    ``digest`` is that of the first pass. Whatever goes wrong, the upload is aborted: nothing is
    at ``key`` then, and no parts are left behind that would be paid for.
    """
    upload = patient.create_upload(key)
    parts: list[Future[None]] = []
    try:
        etags: dict[int, str] = {}
        sha256 = hashlib.sha256()
        with Opened(file) as opened:
            for number, length in _parts_of(digest.size):
                part = memoryview(bytearray(length))
                opened.read_into(part)
                opened.check()
                sha256.update(part)
                parts.append(lanes.submit(_part_job(patient, key, upload, number, part, etags, progress)))
                del part
        if sha256.digest() != digest.sha256:
            raise FileChanged.while_read(file)
        for each in parts:
            each.result()
        ordered = [etags[number] for number in sorted(etags)]
        creation = patient.complete_upload(key, upload, ordered, size=digest.size, conditions=conditions)
    except BaseException:
        _abort(patient, key, upload, parts)
        raise
    if not creation.created:
        _abort(patient, key, upload, parts)
    return creation


def _parts_of(size: int) -> Iterator[tuple[int, int]]:
    """Number (from 1) and length of each part."""
    part = part_size_bytes(size)
    for number, start in enumerate(range(0, size, part), 1):
        yield number, min(part, size - start)


def _part_job(
    patient: PatientStore,
    key: str,
    upload: str,
    number: int,
    part: memoryview,
    etags: dict[int, str],
    progress: Progress,
) -> Callable[[], None]:
    def send() -> None:
        etags[number] = patient.upload_part(key, upload, number, part)
        progress.advance(len(part))

    return send


def _abort(patient: PatientStore, key: str, upload: str, parts: list[Future[None]]) -> None:
    for each in parts:
        each.cancel()
    wait(parts, timeout=ABORT_WAIT_SECONDS)
    # What made us abort is what the user should hear of; a store that does not even take an abort
    # has a rule that expires uploads, or its owner has.
    with contextlib.suppress(StoreError, SeekfsError):
        patient.abort_upload(key, upload)
