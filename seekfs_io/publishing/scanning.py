"""Reading objects of the bucket once, to learn their digests: for manifests of what is there
already, and to verify.

All GETs of one object are bound by If-Match to one ETag, so that a digest is never one of two
contents. GETs run ahead of the hashing, and several objects are hashed at once; how many, and of how
many bytes each, is ``seekfs_core.transfer_layout``'s to say.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from attrs import frozen

from seekfs_core.errors import (
    NoSuchObject,
    SeekfsError,
    StoreAnswered,
    check_can_be_bound,
    is_same_object,
)
from seekfs_core.retry import is_begun_again
from seekfs_core.transfer_layout import ScanLayout, scan_layout_of
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStat
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.digests import Digest, Digester
from seekfs_io.publishing.progress import Progress

T = TypeVar("T")
U = TypeVar("U")


@frozen
class Scanned:
    """One object, read from its first byte to its last. ``etag`` is that of all these bytes."""

    key: str
    etag: str | None
    digest: Digest


class Scanner:
    """Reads objects and digests them, several at a time. A context manager."""

    def __init__(self, patient: PatientStore, layout: ScanLayout, *, progress: Progress) -> None:
        self._patient = patient
        self._window_bytes = layout.window_bytes
        self._ahead = layout.ahead
        self._progress = progress
        self._hash_pool = ThreadPoolExecutor(layout.hashers, thread_name_prefix="seekfs-hash")
        self._get_pool = ThreadPoolExecutor(layout.hashers * layout.ahead, thread_name_prefix="seekfs-get")

    def __enter__(self) -> Scanner:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._patient.stop()
        self._hash_pool.shutdown(wait=True, cancel_futures=True)
        self._get_pool.shutdown(wait=True, cancel_futures=True)

    def map(self, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
        """``work`` of each item, on the hashing threads; in the order of the items. The first
        error ends it."""
        failed = threading.Event()

        def one(item: T) -> U | None:
            if failed.is_set():
                return None
            try:
                return work(item)
            except BaseException:
                failed.set()
                raise

        futures = [self._hash_pool.submit(one, item) for item in items]
        for future in futures:
            if future.exception() is not None:
                raise _first_error(futures)
        return [result for future in futures if (result := future.result()) is not None]

    def scan(self, key: str, page_size_bytes: int, known: ObjectStat | None = None) -> Scanned:
        """Read one object; as the work of ``map``, which bounds how many are read at once. ``known`` is
        what a listing has just said of it.

        Raises ``NoSuchObject`` where there is none, and ``StoreAnswered`` where it keeps changing, or
        where that could not be seen.
        """
        reads = 0
        while is_begun_again(reads):
            stat = known if known is not None and not reads else self._patient.stat(key)
            reads += 1
            if stat is None:
                raise NoSuchObject(f"there is no object {key!r}", key=key)
            self._progress.describe(key)
            digest = self._digest(key, page_size_bytes, stat)
            if digest is not None:
                return Scanned(key, stat.etag, digest)
        raise StoreAnswered(f"{key!r} changed while it was being read", key=key)

    def _digest(self, key: str, page_size_bytes: int, stat: ObjectStat) -> Digest | None:
        """None where the object is another one now."""
        digester = Digester(page_size_bytes)
        starts = range(0, stat.size, self._window_bytes)
        check_can_be_bound(key, stat.etag, gets_count=len(starts))
        under_way: deque[Future[memoryview | None]] = deque()
        try:
            for start in starts:
                under_way.append(self._get_pool.submit(self._get, key, start, stat, len(starts)))
                if len(under_way) < self._ahead:
                    continue
                if not self._take(digester, under_way.popleft()):
                    return None
            while under_way:
                if not self._take(digester, under_way.popleft()):
                    return None
        finally:
            for each in under_way:
                each.cancel()
        return digester.digest()

    def _get(self, key: str, start: int, stat: ObjectStat, gets_count: int) -> memoryview | None:
        view = memoryview(bytearray(min(self._window_bytes, stat.size - start)))
        got = self._patient.read_range(key, view, start, if_match=stat.etag)
        if got is None:
            return None
        before, now = (stat.size, stat.etag), (got.size, got.etag)
        return view if is_same_object(before, now, gets_count=gets_count) else None

    def _take(self, digester: Digester, window: Future[memoryview | None]) -> bool:
        view = window.result()
        if view is None:
            return False
        digester.update(view)
        self._progress.advance(len(view))
        return True


def _first_error(futures: Sequence[Future[U]]) -> BaseException:
    """The error that says most: one that a caller can act on, before one that follows from it."""
    errors = [error for each in futures if each.done() and (error := each.exception()) is not None]
    return next((error for error in errors if isinstance(error, SeekfsError)), errors[0])


def scanner_of(patient: PatientStore, config: Config, objects_count: int, progress: Progress) -> Scanner:
    """A scanner within the configuration's bounds."""
    layout = scan_layout_of(config.cache.inflight_bytes, config.s3.range_coalesce_max_bytes, objects_count)
    return Scanner(patient, layout, progress=progress)
