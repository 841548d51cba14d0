"""Reading objects of the bucket once, to learn their digests: for manifests of what is there
already, and to verify.

How one object is read, so that a digest is never one of two contents, is for ``seekfs_core.scan`` to say.
Several are hashed at once; how many, and by how many GETs of how many bytes, is
``seekfs_core.transfer_layout``'s to say.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from attrs import frozen

from seekfs_core.scan import (
    Begin,
    DigestWindow,
    Fail,
    Finish,
    Look,
    Looked,
    ObjectScan,
    ReadWindow,
    Restart,
    ScanAction,
    ScanEvent,
    WindowRead,
)
from seekfs_core.transfer_layout import ScanLayout, scan_layout_of
from seekfs_core.uploads import There
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStat
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.digests import Digest, Digester
from seekfs_io.publishing.lanes import await_all
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
        """``work`` of each item, on the hashing threads; in the order of the items. An error ends it: no
        more items are begun."""
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
        await_all(futures)
        return [result for future in futures if (result := future.result()) is not None]

    def scan(self, key: str, page_size_bytes: int, known: ObjectStat | None = None) -> Scanned:
        """Read one object; as the work of ``map``, which bounds how many are read at once. ``known`` is
        what a listing has just said of it.

        Raises ``NoSuchObject`` where there is none, and ``StoreAnswered`` where it keeps changing, or
        where that could not be seen.
        """
        reading = _Reading(self._patient, self._get_pool, key, page_size_bytes, self._progress)
        scan = ObjectScan(key=key, window_bytes=self._window_bytes, ahead=self._ahead)
        event: ScanEvent | Scanned = Begin(None if known is None else _there(known))
        try:
            while not isinstance(event, Scanned):
                event = reading.carry_out(scan.feed(event, self._patient.clock()))
        finally:
            reading.cancel()
        return event


class _Reading:
    """One object, its digest so far and its GETs under way."""

    def __init__(
        self,
        patient: PatientStore,
        pool: ThreadPoolExecutor,
        key: str,
        page_size_bytes: int,
        progress: Progress,
    ) -> None:
        self._patient = patient
        self._pool = pool
        self._key = key
        self._page_size_bytes = page_size_bytes
        self._progress = progress
        self._digester = Digester(page_size_bytes)
        self._under_way: deque[Future[tuple[memoryview, There | None]]] = deque()
        self._window = memoryview(b"")

    def carry_out(self, actions: Sequence[ScanAction]) -> ScanEvent | Scanned:
        """Do as the machine says; what came of the last, or of the oldest GET."""
        for action in actions:
            match action:
                case Look():
                    stat = self._patient.stat(self._key)
                    return Looked(None if stat is None else _there(stat))
                case Restart():
                    self.cancel()
                    self._digester = Digester(self._page_size_bytes)
                    self._progress.describe(self._key)
                case ReadWindow():
                    self._under_way.append(self._pool.submit(self._get, action))
                case DigestWindow():
                    self._digester.update(self._window)
                    self._progress.advance(len(self._window))
                case Finish(etag):
                    return Scanned(self._key, etag, self._digester.digest())
                case Fail(error):
                    raise error
        self._window, there = self._under_way.popleft().result()
        return WindowRead(there)

    def cancel(self) -> None:
        """Let nothing more begin, and forget what has come."""
        for each in self._under_way:
            each.cancel()
        self._under_way.clear()

    def _get(self, wanted: ReadWindow) -> tuple[memoryview, There | None]:
        window = memoryview(bytearray(wanted.stop - wanted.start))
        got = self._patient.read_range(self._key, window, wanted.start, if_match=wanted.etag)
        return window, None if got is None else _there(got)


def _there(stat: ObjectStat) -> There:
    return There(size=stat.size, etag=stat.etag)


def scanner_of(patient: PatientStore, config: Config, objects_count: int, progress: Progress) -> Scanner:
    """A scanner within the configuration's bounds."""
    layout = scan_layout_of(config.cache.inflight_bytes, config.s3.range_coalesce_max_bytes, objects_count)
    return Scanner(patient, layout, progress=progress)
