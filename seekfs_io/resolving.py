"""The thread driver of the manifest resolver.

HEAD and manifests are read as calls of the fetcher, so they are budgeted and retried like every
other request. Decoding a manifest of a million files takes seconds; it happens on the thread that
read it, outside every lock.

The common case costs a dictionary lookup: the resolver says until when a manifest answers for its
namespace without asking (``ServeCurrent``).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial

from attrs import frozen

from seekfs_core.closing import THREADS_SECONDS_MAX
from seekfs_core.errors import ManifestInvalid, SeekfsError, StoreFailure, bug_of, error_of, is_absence
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.manifest_format import decode_manifest, pack_manifest
from seekfs_core.names import HEAD_BYTES_MAX, head_key, manifest_key, parse_head
from seekfs_core.patience import Patience
from seekfs_core.resolver import ManifestResolver
from seekfs_core.resolver_messages import (
    Closing,
    FetchManifest,
    HeadFailed,
    HeadRead,
    KeepHead,
    KeepingEnded,
    KeepManifest,
    ManifestFailed,
    ManifestRead,
    NotKept,
    NotResolved,
    ReadHead,
    ReadManifest,
    Resolved,
    ResolverEvent,
    ResolveWanted,
    Restored,
    ServeCurrent,
    ServedOn,
    WaiterLeft,
)
from seekfs_core.shelf import KEEPING, LOOKING
from seekfs_io.fetching import Fetcher
from seekfs_io.objects.base import ReadableStore
from seekfs_io.objects.whole import Watch, fetch_whole
from seekfs_io.pages.shelf import Shelf
from seekfs_io.threads import DaemonPool, run_all
from seekfs_io.tracing import NO_TRACE, NoTrace

log = logging.getLogger("seekfs.resolve")


@frozen
class Resolution:
    """What a request reads from, first byte to last. ``stale``: HEAD could not be read meanwhile."""

    ns: str
    version: int
    manifest: Manifest
    stale: bool


class Resolving:
    """Answers which manifest a request reads from. Thread-safe."""

    def __init__(
        self,
        store: ReadableStore,
        fetcher: Fetcher,
        shelf: Shelf,
        resolver: ManifestResolver,
        *,
        manifest_bytes_max: int,
        wait_seconds_max: float,
        clock: Callable[[], float],
        tracer: NoTrace = NO_TRACE,
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._shelf = shelf
        self._resolver = resolver
        self._feed_resolver = tracer.watch("resolver", resolver)
        self._manifest_bytes_max = manifest_bytes_max
        self._wait_seconds_max = wait_seconds_max
        self._clock = clock
        self._lock = threading.Lock()
        self._alarm = threading.Condition(self._lock)
        self._closed = False
        self._serving: dict[str, tuple[float, Resolution]] = {}
        self._waiters: dict[int, queue.SimpleQueue[Resolved | NotResolved]] = {}
        self._next_waiter = 1
        self._to_keep: dict[tuple[str, int], bytes] = {}
        self._pool = DaemonPool("seekfs-shelf", LOOKING)
        self._keepers = DaemonPool("seekfs-keep", KEEPING)
        self._keeping = 0
        self._kept = threading.Condition(self._lock)
        self._tell(Restored(shelf.heads()))
        self._timer = threading.Thread(target=self._keep_time, name="seekfs-resolver", daemon=True)
        self._timer.start()

    def resolve(self, ns: str, version: int | None = None) -> Resolution:
        """The manifest of the current version, or of ``version``. Raises ``SeekfsError``."""
        if version is None:
            serving = self._serving.get(ns)
            if serving is not None and self._clock() < serving[0]:
                return serving[1]
        inbox: queue.SimpleQueue[Resolved | NotResolved] = queue.SimpleQueue()
        with self._lock:
            number, self._next_waiter = self._next_waiter, self._next_waiter + 1
            self._waiters[number] = inbox
            jobs = self._feed(ResolveWanted(number, ns, version))
        run_all(jobs)
        patience = Patience(self._wait_seconds_max)
        patience.begin(self._clock())
        try:
            answer = inbox.get(timeout=patience.seconds_left(self._clock()))
        except queue.Empty:
            with self._lock:
                self._waiters.pop(number, None)
                jobs = self._feed(WaiterLeft(number))
            run_all(jobs)
            raise patience.spent(f"the manifest of {ns!r}", ns=ns) from None
        match answer:
            case Resolved(_, manifest, stale):
                return Resolution(ns, manifest.version, manifest, stale)
            case NotResolved(_, error):
                raise error

    def current(self) -> dict[str, Manifest]:
        """The manifests that answer for their namespaces now, as far as they are loaded."""
        with self._lock:
            return self._resolver.current_versions()

    def close(self) -> None:
        """Answer whoever waits, and let nobody wait any more."""
        with self._lock:
            jobs = self._feed(Closing())
            self._closed = True
            self._alarm.notify_all()
        run_all(jobs)
        self._pool.close(THREADS_SECONDS_MAX)

    def await_kept(self, timeout_seconds: float) -> None:
        """Until what was read is on the shelf, and remembered, or the bound has passed. After ``close``."""
        with self._lock:
            self._kept.wait_for(lambda: not self._keeping, timeout_seconds)
        self._keepers.close(THREADS_SECONDS_MAX)

    # --- the machine ------------------------------------------------------------------------

    def _tell(self, event: ResolverEvent) -> None:
        with self._lock:
            jobs = self._feed(event)
        run_all(jobs)

    def _feed(self, event: ResolverEvent) -> list[Callable[[], None]]:
        jobs: list[Callable[[], None]] = []
        for action in self._feed_resolver(event, self._clock()):
            match action:
                case ReadHead(ns):
                    jobs.append(partial(self._read_head, ns))
                case ReadManifest(ns, version):
                    jobs.append(partial(self._read_kept, ns, version))
                case FetchManifest(ns, version):
                    jobs.append(partial(self._fetch_manifest, ns, version))
                case Resolved(waiter) | NotResolved(waiter):
                    inbox = self._waiters.pop(waiter, None)
                    if inbox is not None:
                        inbox.put(action)
                case ServeCurrent(manifest, until):
                    resolution = Resolution(manifest.ns, manifest.version, manifest, False)
                    self._serving[manifest.ns] = (until, resolution)
                case ServedOn():
                    jobs.append(partial(_log_served_on, action))
                case KeepManifest(manifest):
                    stored = self._to_keep.get((manifest.ns, manifest.version))
                    self._keep_soon(partial(self._keep, manifest, stored), jobs)
                case KeepHead(ns, version):
                    self._keep_soon(partial(self._shelf.keep_head, ns, version), jobs)
        self._alarm.notify_all()
        return jobs

    def _keep_time(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                due = self._resolver.next_deadline()
                if due is None or due > self._clock():
                    self._alarm.wait(None if due is None else max(0.0, due - self._clock()))
                    continue
                jobs = self._feed(Tick())
            run_all(jobs)

    # --- HEAD and manifests -----------------------------------------------------------------

    def _read_head(self, ns: str) -> None:
        key = head_key(ns)

        def run(watch: Watch) -> Callable[[], None]:
            held = fetch_whole(self._store, key, bytes_max=HEAD_BYTES_MAX, watch=watch)
            return lambda: self._tell(_head_event(ns, held.stored))

        def failed(failure: StoreFailure) -> None:
            if is_absence(failure):
                self._tell(HeadRead(ns, None))
                return
            self._tell(HeadFailed(ns, error_of(failure, key=key, ns=ns)))

        self._fetcher.call(run, failed, ns)

    def _read_kept(self, ns: str, version: int) -> None:
        def look_on_shelf() -> None:
            kept: Manifest | None = None
            try:
                stored = self._shelf.load(ns, version)
                if stored is not None:
                    kept = self._decode(stored, ns, version)
            except SeekfsError as error:
                log.warning("the copy kept of a manifest is of no use: %s", error.detail)
                self._shelf.refuse(ns, version)
            except Exception:
                # A bug, but not one that may leave readers waiting for ever.
                log.exception("looking for a copy of version %d of %r", version, ns)
            self._tell(NotKept(ns, version) if kept is None else ManifestRead(kept))

        self._pool.submit(look_on_shelf)

    def _fetch_manifest(self, ns: str, version: int) -> None:
        key = manifest_key(ns, version)

        def run(watch: Watch) -> Callable[[], None]:
            held = fetch_whole(self._store, key, bytes_max=self._manifest_bytes_max, watch=watch)
            return lambda: self._take_manifest(ns, version, held.stored)

        def failed(failure: StoreFailure) -> None:
            if is_absence(failure):
                self._tell(ManifestFailed(ns, version, None))
                return
            error = error_of(failure, key=key, ns=ns, version=version)
            self._tell(ManifestFailed(ns, version, error))

        self._fetcher.call(run, failed, ns)

    def _take_manifest(self, ns: str, version: int, stored: bytes) -> None:
        began = time.perf_counter()
        try:
            manifest = self._decode(stored, ns, version)
        except SeekfsError as error:
            self._tell(ManifestFailed(ns, version, error))
            return
        log.info(
            "version %d of %r: %d files, decoded in %.3f s",
            version,
            ns,
            len(manifest.files),
            time.perf_counter() - began,
            extra={"facts": {"ns": ns, "version": version}},
        )
        with self._lock:
            self._to_keep[ns, version] = stored
        try:
            self._tell(ManifestRead(manifest))
        finally:
            with self._lock:
                self._to_keep.pop((ns, version), None)

    def _keep_soon(self, job: Callable[[], None], jobs: list[Callable[[], None]]) -> None:
        """Have ``job`` done by the keepers; under the lock, submitted without it."""

        def run() -> None:
            try:
                job()
            finally:
                with self._lock:
                    self._keeping -= 1
                    self._kept.notify_all()

        self._keeping += 1
        jobs.append(partial(self._keepers.submit, run))

    def _keep(self, manifest: Manifest, stored: bytes | None) -> None:
        try:
            if stored is None:  # It had to wait its turn.
                stored = pack_manifest(manifest, max_bytes=self._manifest_bytes_max)
            self._shelf.keep(manifest.ns, manifest.version, stored)
        finally:
            self._tell(KeepingEnded(manifest.ns, manifest.version))

    def _decode(self, stored: bytes, ns: str, version: int) -> Manifest:
        """Raises ``SeekfsError`` and nothing else: whoever waits for a manifest has to hear of it."""
        try:
            return decode_manifest(stored, ns=ns, version=version, max_bytes=self._manifest_bytes_max)
        except SeekfsError:
            raise
        except Exception as error:
            log.exception("decoding version %d of %r", version, ns)
            key = manifest_key(ns, version)
            raise error_of(bug_of(error), key=key, ns=ns, version=version) from None


def _head_event(ns: str, held: bytes) -> ResolverEvent:
    try:
        return HeadRead(ns, parse_head(held, ns=ns))
    except SeekfsError as error:
        return HeadFailed(ns, error)


def _log_served_on(action: ServedOn) -> None:
    """Nobody's request has failed, and somebody should know all the same. What is wrong in the bucket stays
    wrong until a person has mended it; the store may be well again by itself."""
    error = action.error
    log.log(
        logging.ERROR if isinstance(error, ManifestInvalid) else logging.WARNING,
        "version %d of %r is served on, %s: %s",
        action.version,
        action.ns,
        "as HEAD cannot be read" if action.instead_of is None else f"in place of version {action.instead_of}",
        error.detail,
        extra={"facts": {**error.context, "ns": action.ns, "version": action.version}},
    )
