"""The driver of the manifest resolver: ``seekfs_io.resolving`` and its shelf, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from attrs import define, field

from seekfs_core.errors import SeekfsError, StoreFailure, error_of, is_absence
from seekfs_core.heads import KnownHeads
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.manifest_format import decode_manifest, pack_manifest
from seekfs_core.names import head_key, manifest_key, parse_head
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
    ResolverAction,
    ResolverEvent,
    ResolveWanted,
    Restored,
    ServeCurrent,
    WaiterLeft,
)
from seekfs_core.shelf import FoundManifest, KeptLoss, ShelfRetention
from seekfs_core.testing import Timer
from seekfs_core.tier import Operation
from tests.sim.disk import DiskError
from tests.sim.tasks import NOW, Signal, Steps
from tests.sim.truth import MANIFEST_BYTES_MAX

if TYPE_CHECKING:
    from tests.sim.process import Process


@define(eq=False)
class _Waiter:
    signal: Signal = field(factory=Signal)
    answer: Resolved | NotResolved | None = None
    is_late: bool = False


@define(eq=False)
class SimShelf:
    """Manifests and heads on the disk, or only for as long as the process lives where it has none."""

    process: Process
    retention: ShelfRetention
    has_disk: bool
    own: dict[tuple[str, int], bytes] = field(factory=dict)
    queue: deque[Callable[[], Steps]] = field(factory=deque)
    """What is to be kept, one after the other."""
    _is_keeping: bool = False

    @property
    def manifests(self) -> dict[tuple[str, int], bytes]:
        return self.process.world.disk.manifests if self.has_disk else self.own

    def load(self, ns: str, version: int) -> Generator[float | Signal, None, bytes | None]:
        if not self.retention.used((ns, version)):
            return None
        if not self.has_disk:
            return self.own.get((ns, version))
        disk = self.process.world.disk
        try:
            stored: bytes | None = yield from disk.operate(
                self.process.life, Operation.READ, lambda: disk.manifests.get((ns, version))
            )
        except DiskError:
            self.retention.lost((ns, version), KeptLoss.UNREADABLE)
            return None
        if stored is None:
            self.retention.lost((ns, version), KeptLoss.VANISHED)
            self.retention.gone((ns, version))
            return None
        self.retention.loaded((ns, version))
        return stored

    def soon(self, job: Callable[[], Steps]) -> None:
        """Keep something, when what came before is kept."""
        self.queue.append(job)
        if not self._is_keeping:
            self._is_keeping = True
            self.process.spawn(self._keep_all())

    def _keep_all(self) -> Steps:
        while self.queue:
            yield from self.queue.popleft()()
        self._is_keeping = False

    def keep(self, ns: str, version: int, stored: bytes) -> Steps:
        name = (ns, version)
        if self.retention.wants(name):
            victims = self.retention.room_for(name, len(stored))
            if victims is not None:
                for victim in victims:
                    self.manifests.pop(victim, None)
                    self.retention.gone(victim)
                yield from self._write(lambda: self.manifests.__setitem__(name, stored), name, len(stored))

    def _write(self, do: Callable[[], None], name: tuple[str, int], length: int) -> Steps:
        try:
            if self.has_disk:
                yield from self.process.world.disk.operate(self.process.life, Operation.WRITE, do)
            else:
                do()
        except DiskError:
            return
        self.retention.kept(name, length)

    def keep_head(self, ns: str, version: int) -> Steps:
        self.retention.heads.learn(ns, version)
        heads = self.retention.heads.to_write(1 << 16)
        if heads is None or not self.has_disk:
            return
        disk = self.process.world.disk

        def write() -> None:
            disk.heads.clear()
            disk.heads.update(heads)

        try:
            yield from disk.operate(self.process.life, Operation.WRITE, write)
        except DiskError:
            self.retention.heads.refused()


@define(eq=False)
class SimResolving:
    """Answers which manifest a request reads from."""

    process: Process
    resolver: ManifestResolver
    shelf: SimShelf
    served: dict[str, int] = field(factory=dict)
    """The highest version that answered for each namespace."""
    _serving: dict[str, tuple[float, Manifest]] = field(factory=dict)
    _waiters: dict[int, _Waiter] = field(factory=dict)
    _to_keep: dict[tuple[str, int], bytes] = field(factory=dict)
    _numbers: int = 0
    _alarm: Timer | None = None
    _feed_resolver: Callable[[ResolverEvent, float], tuple[ResolverAction, ...]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._feed_resolver = self.process.watch("resolver", self.resolver)
        self.tell(Restored(self.shelf.retention.heads.versions()))

    def resolve(self, ns: str, version: int | None) -> Generator[float | Signal, None, tuple[Manifest, bool]]:
        """The manifest, and whether it is stale. Raises ``SeekfsError``."""
        clock = self.process.world.clock
        if version is None:
            serving = self._serving.get(ns)
            if serving is not None and clock.now < serving[0]:
                return serving[1], False
        self._numbers += 1
        number = self._numbers
        waiter = self._waiters[number] = _Waiter()
        self.tell(ResolveWanted(number, ns, version))
        patience = Patience(self.process.world.wait_seconds_max)
        patience.begin(clock.now)

        def late() -> None:
            waiter.is_late = True
            waiter.signal.send()

        timer = clock.call_later(patience.seconds_left(clock.now), late)
        while waiter.answer is None and not waiter.is_late:
            yield waiter.signal
        timer.cancel()
        match waiter.answer:
            case Resolved(_, manifest, stale):
                return manifest, stale
            case NotResolved(_, error):
                raise error
        del self._waiters[number]
        self.tell(WaiterLeft(number))
        raise patience.spent(f"the manifest of {ns!r}", ns=ns)

    def tell(self, event: ResolverEvent) -> None:
        jobs: list[Callable[[], object]] = []
        for action in self._feed_resolver(event, self.process.world.clock.now):
            self._carry_out(action, jobs)
        self._set_alarm()
        for job in jobs:
            job()

    def _carry_out(self, action: ResolverAction, jobs: list[Callable[[], object]]) -> None:
        match action:
            case ReadHead(ns):
                jobs.append(lambda: self._read_head(ns))
            case ReadManifest(ns, version):
                jobs.append(lambda: self.process.spawn(self._look_on_shelf(ns, version)))
            case FetchManifest(ns, version):
                jobs.append(lambda: self._fetch_manifest(ns, version))
            case Resolved(waiter) | NotResolved(waiter):
                if (waiting := self._waiters.pop(waiter, None)) is not None:
                    waiting.answer = action
                    waiting.signal.send()
            case ServeCurrent(manifest, until):
                self._serving[manifest.ns] = (until, manifest)
            case KeepManifest(manifest):
                stored = self._to_keep.get((manifest.ns, manifest.version))
                jobs.append(lambda: self.shelf.soon(lambda: self._keep(manifest, stored)))
            case KeepHead(ns, version):
                jobs.append(lambda: self.shelf.soon(lambda: self.shelf.keep_head(ns, version)))

    def _read_head(self, ns: str) -> None:
        key = head_key(ns)

        def answered(stored: bytes) -> None:
            try:
                event: ResolverEvent = HeadRead(ns, parse_head(stored, ns=ns))
            except SeekfsError as error:
                event = HeadFailed(ns, error)
            self.tell(event)

        def failed(failure: StoreFailure) -> None:
            if is_absence(failure):
                self.tell(HeadRead(ns, None))
            else:
                self.tell(HeadFailed(ns, error_of(failure, key=key, ns=ns)))

        self.process.fetcher.call(key, ns, answered, failed)

    def _look_on_shelf(self, ns: str, version: int) -> Steps:
        yield NOW
        stored = yield from self.shelf.load(ns, version)
        kept: Manifest | None = None
        if stored is not None:
            try:
                kept = decode_manifest(stored, ns=ns, version=version, max_bytes=MANIFEST_BYTES_MAX)
            except SeekfsError:
                self.shelf.retention.lost((ns, version), KeptLoss.REFUSED)
        self.tell(NotKept(ns, version) if kept is None else ManifestRead(kept))

    def _fetch_manifest(self, ns: str, version: int) -> None:
        key = manifest_key(ns, version)

        def answered(stored: bytes) -> None:
            try:
                manifest = decode_manifest(stored, ns=ns, version=version, max_bytes=MANIFEST_BYTES_MAX)
            except SeekfsError as error:
                self.tell(ManifestFailed(ns, version, error))
                return
            self._to_keep[ns, version] = stored
            self.tell(ManifestRead(manifest))
            del self._to_keep[ns, version]

        def failed(failure: StoreFailure) -> None:
            error = None if is_absence(failure) else error_of(failure, key=key, ns=ns, version=version)
            self.tell(ManifestFailed(ns, version, error))

        self.process.fetcher.call(key, ns, answered, failed)

    def _keep(self, manifest: Manifest, stored: bytes | None) -> Steps:
        packed = stored or pack_manifest(manifest, max_bytes=MANIFEST_BYTES_MAX)
        yield from self.shelf.keep(manifest.ns, manifest.version, packed)
        self.tell(KeepingEnded(manifest.ns, manifest.version))

    def _set_alarm(self) -> None:
        due = self.resolver.next_deadline()
        if self._alarm is not None:
            if due is not None and self._alarm.when == due and not self._alarm.is_over:
                return
            self._alarm.cancel()
        clock = self.process.world.clock
        self._alarm = None if due is None else clock.call_at(max(due, clock.now), self._ring)

    def _ring(self) -> None:
        if self.process.life.is_alive:
            self.tell(Tick())

    def close(self) -> None:
        self.tell(Closing())


def shelf_of(process: Process, *, has_disk: bool, pins: dict[str, int], ceiling_bytes: int) -> SimShelf:
    """The shelf of a process that starts now, with what is on the disk."""
    heads = KnownHeads()
    retention = ShelfRetention(ceiling_bytes, heads, pins)
    shelf = SimShelf(process, retention, has_disk)
    if has_disk:
        disk = process.world.disk
        found = [
            FoundManifest(name=name, used_at=used_at, nbytes=len(stored))
            for used_at, (name, stored) in enumerate(disk.manifests.items())
        ]
        retention.restored(found)
        for name in retention.surplus():
            disk.manifests.pop(name, None)
            retention.gone(name)
        heads.restore(dict(disk.heads))
    return shelf
