"""What the resolver promises, kept by somebody who does not know how it works.

``WatchedResolver`` stands between a driver and a ``ManifestResolver``: it knows which requests
wait, which reads are under way and what they brought, and judges every answer by that alone.
"""

from __future__ import annotations

from attrs import define, field

from seekfs_core.errors import NoSuchNamespace, NoSuchVersion, ShuttingDown
from seekfs_core.manifest import Manifest
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
    NotResolved,
    ReadHead,
    ReadManifest,
    Resolved,
    ResolverAction,
    ResolverEvent,
    ResolveWanted,
    Restored,
    ServeCurrent,
    ServedOn,
    WaiterLeft,
)


@define(eq=False)
class Asked:
    ns: str
    version: int | None
    since: float


@define(eq=False)
class Known:
    """What this node has seen of a namespace."""

    head_max: int = 0
    """The highest version that HEAD ever named, in this process or one before it."""
    head_at: float = float("-inf")
    head_good: bool = False
    head_answer: int | None = None
    served: int = 0
    """The highest version that answered for the current one, over restarts."""
    restored: int = 0
    """The version that a process before this one remembered."""
    serves: bool = False
    """Whether this process has answered with a current version."""
    read: dict[int, Manifest] = field(factory=dict)
    failed_at: dict[int, float] = field(factory=dict)


@define
class WatchedResolver:
    """A resolver and the record of what it was told and has answered."""

    resolver: ManifestResolver
    now: float = 0.0
    asked: dict[int, Asked] = field(factory=dict)
    reading_heads: set[str] = field(factory=set)
    reading_manifests: set[tuple[str, int]] = field(factory=set)
    looking_for_copies: set[tuple[str, int]] = field(factory=set)
    """Those of ``reading_manifests`` that the store was not asked for yet."""
    known: dict[str, Known] = field(factory=dict)
    kept_heads: dict[str, int] = field(factory=dict)
    from_store: set[tuple[str, int]] = field(factory=set)
    keeping: set[tuple[str, int]] = field(factory=set)
    closed: bool = False

    def feed(self, event: ResolverEvent, now: float | None = None) -> tuple[ResolverAction, ...]:
        self.now = self.now if now is None else now
        self._learn(event)
        actions = self.resolver.feed(event, self.now)
        for action in actions:
            self._check(action)
        self._check_nobody_is_forgotten()
        return actions

    def restart(self) -> None:
        """Another process takes over, with what this one kept."""
        old = self.resolver
        self.closed = False
        self.resolver = ManifestResolver(old.head_ttl_seconds, old.pins, old.head_patience_seconds)
        self.asked.clear()
        self.reading_heads.clear()
        self.reading_manifests.clear()
        self.looking_for_copies.clear()
        self.from_store.clear()
        for ns, _ in self.keeping:
            # Killed before it was remembered: the node has not seen that version.
            self.of(ns).served = min(self.of(ns).served, self.kept_heads.get(ns, 0))
        self.keeping.clear()
        for ns, known in self.known.items():
            known.head_at, known.head_good, known.serves = float("-inf"), False, False
            known.head_max = self.kept_heads.get(ns, 0)
            known.read.clear()
            known.failed_at.clear()
        self.feed(Restored(dict(self.kept_heads)))

    def of(self, ns: str) -> Known:
        return self.known.setdefault(ns, Known())

    # --- what an event means ----------------------------------------------------------------

    def _learn(self, event: ResolverEvent) -> None:
        match event:
            case Closing():
                self.closed = True
            case ResolveWanted(waiter, ns, version):
                self.asked[waiter] = Asked(ns, version, self.now)
            case WaiterLeft(waiter):
                self.asked.pop(waiter, None)
            case Restored(heads):
                for ns, version in heads.items():
                    self.of(ns).head_max = max(self.of(ns).head_max, version)
                    self.kept_heads[ns] = self.of(ns).restored = self.of(ns).head_max
            case HeadRead(ns, version):
                self.reading_heads.remove(ns)
                known = self.of(ns)
                known.head_at, known.head_good, known.head_answer = self.now, version is not None, version
                known.head_max = max(known.head_max, version or 0)
            case HeadFailed(ns):
                self.reading_heads.remove(ns)
                self.of(ns).head_at, self.of(ns).head_good = self.now, False
            case ManifestRead(manifest):
                self.reading_manifests.remove((manifest.ns, manifest.version))
                self.looking_for_copies.discard((manifest.ns, manifest.version))
                self.of(manifest.ns).read[manifest.version] = manifest
            case KeepingEnded(ns, version):
                self.keeping.remove((ns, version))
            case ManifestFailed(ns, version):
                self.looking_for_copies.discard((ns, version))
                self.reading_manifests.remove((ns, version))
                self.from_store.discard((ns, version))
                self.of(ns).failed_at[version] = self.now
            case _:
                pass

    # --- what an action may be --------------------------------------------------------------

    def _check(self, action: ResolverAction) -> None:
        ttl = self.resolver.head_ttl_seconds
        match action:
            case ReadHead() | ReadManifest() | Resolved() if self.closed:
                raise AssertionError(f"{action} after the end")
            case ReadHead(ns):
                assert ns not in self.reading_heads, "HEAD is read twice at once"
                assert self.now >= self.of(ns).head_at + ttl, "HEAD is read again before its time"
                self.reading_heads.add(ns)
            case ReadManifest(ns, version):
                assert (ns, version) not in self.reading_manifests, "a manifest is read twice at once"
                failed_at = self.of(ns).failed_at.get(version)
                assert failed_at is None or self.now >= failed_at + ttl, "a failure is asked for again"
                self.reading_manifests.add((ns, version))
                self.looking_for_copies.add((ns, version))
            case FetchManifest(ns, version):
                assert (ns, version) in self.looking_for_copies, "the store is asked without looking here"
                self.looking_for_copies.remove((ns, version))
                self.from_store.add((ns, version))
            case KeepManifest(manifest):
                ns, version = manifest.ns, manifest.version
                assert (ns, version) in self.from_store, "a copy is kept again"
                self.from_store.remove((ns, version))
                assert version in self.of(ns).read, "nobody knows that it is good"
                self.keeping.add((ns, version))
            case Resolved(waiter, manifest, stale):
                self._check_resolved(self.asked.pop(waiter), manifest, stale)
            case NotResolved(waiter, error):
                self._check_refused(self.asked.pop(waiter), error)
            case ServeCurrent(manifest, until):
                self._check_current(manifest)
                known = self.of(manifest.ns)
                pinned = manifest.ns in self.resolver.pins
                assert pinned or known.head_good
                assert until == (float("inf") if pinned else known.head_at + ttl)
            case ServedOn(ns, version, instead_of):
                known = self.of(ns)
                assert ns not in self.resolver.pins
                assert version in known.read, "nobody knows that it is good"
                if instead_of is None:
                    assert not known.head_good
                else:
                    assert version < instead_of <= known.head_max
            case KeepHead(ns, version):
                assert version > self.kept_heads.get(ns, 0)
                assert version <= self.of(ns).head_max, "HEAD has not come to it"
                assert version in self.of(ns).read, "nobody knows that it is good"
                assert (ns, version) not in self.keeping, "it is not kept yet"
                self.kept_heads[ns] = version

    def _check_resolved(self, asked: Asked, manifest: Manifest, stale: bool) -> None:
        known = self.of(asked.ns)
        assert manifest.ns == asked.ns
        assert known.read[manifest.version] is manifest, "nobody read this"
        if asked.version is not None:
            assert manifest.version == asked.version
            assert not stale
            # A version above HEAD is no version yet.
            assert asked.version <= max(known.head_max, self.resolver.pins.get(asked.ns, 0))
            return
        self._check_current(manifest)
        if asked.ns in self.resolver.pins:
            assert not stale
        elif not stale:
            assert known.head_good
            # HEAD was read after the request came, or was fresh then.
            assert (
                asked.since <= known.head_at or asked.since < known.head_at + self.resolver.head_ttl_seconds
            )

    def _check_current(self, manifest: Manifest) -> None:
        """A manifest that answers for its namespace: a pin for ever, else never an older one."""
        pin = self.resolver.pins.get(manifest.ns)
        if pin is not None:
            assert manifest.version == pin
            return
        known = self.of(manifest.ns)
        assert manifest.version >= known.served, "the current version went back"
        assert manifest.version <= known.head_max
        if known.head_max in known.read:
            assert manifest.version == known.head_max, "a newer one is there"
        known.served, known.serves = manifest.version, True

    def _check_refused(self, asked: Asked, error: Exception) -> None:
        assert isinstance(error, ShuttingDown) is self.closed
        known = self.of(asked.ns)
        if asked.version is None and not self.closed:
            assert not known.serves, "there is a good one"
            before = 0 if asked.ns in self.resolver.pins else known.restored
            assert not before or before in known.failed_at, "there was a good one before the restart"
        if isinstance(error, NoSuchNamespace):
            assert known.head_max == 0
        elif isinstance(error, NoSuchVersion) and asked.version is not None:
            above = asked.version > max(known.head_max, self.resolver.pins.get(asked.ns, 0))
            assert above or asked.version in known.failed_at

    # --- what always holds ------------------------------------------------------------------

    def _check_nobody_is_forgotten(self) -> None:
        assert not (self.closed and self.asked), "somebody waits after the end"
        for asked in self.asked.values():
            under_way = asked.ns in self.reading_heads or any(
                ns == asked.ns for ns, _ in self.reading_manifests
            )
            assert under_way, "it waits for nothing"
            if asked.version is None and self.of(asked.ns).serves and asked.ns not in self.resolver.pins:
                assert self.now < asked.since + self.resolver.head_patience_seconds, "it waits too long"
        due = self.resolver.next_deadline()
        assert due is None or due > self.now, "a deadline that has passed would wake the driver for ever"
