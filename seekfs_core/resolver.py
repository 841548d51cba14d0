"""Which manifest answers for a namespace now.

A request resolves its version once. Without a version it gets the namespace's *current* one:
HEAD is read at most once in ``head_ttl_seconds``, and the current version never goes back, not
even over a restart (``Restored``). A pin replaces HEAD. A new manifest that cannot be read or
fails its checks never replaces a good one.

A good manifest from the store is kept on the node, and after that it is remembered that HEAD named
it: a process that is killed in between must not leave behind a version without its manifest.

What was seen keeps being served while the store is down: then, and when HEAD takes longer than
``head_patience_seconds``, the last good version is handed out marked *stale*. After a restart the last good
version, also in place of a bad one, is the one that was remembered, whose manifest is still to be read.

Names that are wrong (a namespace without HEAD, a version above HEAD or without manifest) are
remembered for ``head_ttl_seconds``, so that they cost nothing twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import assert_never

from attrs import define, field

from seekfs_core.errors import (
    ContractViolation,
    NoSuchNamespace,
    NoSuchVersion,
    SeekfsError,
    ShuttingDown,
)
from seekfs_core.machine import Tick, advance
from seekfs_core.manifest import Manifest
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
    ServedOn,
    WaiterLeft,
)

HEAD_PATIENCE_SECONDS = 1.0
"""How long a read waits for HEAD, and for a new manifest, when the last good version could serve it."""

MANIFESTS_KEPT_MAX = 8
"""Manifests of other than current versions kept in memory; a job that reads one keeps it in."""

WRONG_NAMES_MAX = 10_000
"""Wrong names remembered; the oldest goes first, so that asking for junk cannot fill memory."""


KEEPING_MAX = 4
"""Manifests on their way to this node's disk at once, as they were stored. Others wait their turn, and are
kept if they are in memory still when it comes."""

KEEPING_LATER_MAX = 1000
"""Manifests that wait for that. Where the disk hangs, the oldest are forgotten."""


@define(eq=False)
class _Waiter:
    """A request. ``waits_since`` is earlier than it came where what it waits for was asked for earlier."""

    number: int
    version: int | None
    waits_since: float
    is_past_head: bool = False
    """Whether HEAD took too long, so that it gets what is known already."""
    instead_of: SeekfsError | None = None
    """What is wrong with the version that HEAD names, where it gets the one remembered over a restart."""


@define(eq=False)
class _Namespace:
    """What is known of one namespace. ``floor`` is the highest version that HEAD ever named, ``kept``
    the highest that is remembered over a restart, ``restored`` the one that was."""

    name: str
    floor: int = 0
    kept: int = 0
    restored: int = 0
    current: Manifest | None = None
    head_at: float = float("-inf")  # When HEAD was last read, or last failed to be.
    head_error: SeekfsError | None = None
    head_asked_at: float | None = None  # None: it is not being read.
    gone: bool = False
    for_head: list[_Waiter] = field(factory=list)
    for_manifest: dict[int, list[_Waiter]] = field(factory=dict)
    manifest_asked_at: dict[int, float] = field(factory=dict)
    from_store: set[int] = field(factory=set)  # Manifests that this node had no copy of.
    keeping: set[int] = field(factory=set)


@define
class ManifestResolver:
    """See the module's text. ``pins`` maps a namespace to the version that this node serves of it."""

    head_ttl_seconds: float
    pins: Mapping[str, int] = field(factory=dict)
    head_patience_seconds: float = HEAD_PATIENCE_SECONDS
    _now: float = field(default=float("-inf"), init=False)
    _closing: bool = field(default=False, init=False)
    _keeping_count: int = field(default=0, init=False)
    _to_keep: OrderedDict[tuple[str, int], None] = field(factory=OrderedDict, init=False)
    _namespaces: dict[str, _Namespace] = field(factory=dict, init=False)
    _busy: dict[str, _Namespace] = field(factory=dict, init=False)  # Those that something is read of.
    _manifests: OrderedDict[tuple[str, int], Manifest] = field(factory=OrderedDict, init=False)
    _wrong_versions: OrderedDict[tuple[str, int], tuple[float, SeekfsError]] = field(
        factory=OrderedDict, init=False
    )
    _wrong_namespaces: OrderedDict[str, float] = field(factory=OrderedDict, init=False)
    _unread_namespaces: OrderedDict[str, None] = field(factory=OrderedDict, init=False)

    def feed(self, event: ResolverEvent, now: float) -> tuple[ResolverAction, ...]:
        """One event in, the actions it calls for out; see ``seekfs_core.machine``."""
        now = advance(self._now, now)
        self._check_expected(event)
        self._now = now
        actions: list[ResolverAction] = []
        match event:
            case Restored(heads):
                for ns, version in heads.items():
                    known = self._namespaces.setdefault(ns, _Namespace(ns))
                    known.floor = max(known.floor, version)
                    known.kept = known.restored = max(known.kept, version)
            case ResolveWanted(waiter, ns, version):
                self._resolve(ns, _Waiter(waiter, version, now), actions)
            case WaiterLeft(waiter):
                self._leave(waiter)
            case HeadRead(ns, version):
                self._head_read(self._namespaces[ns], version, actions)
            case HeadFailed(ns, error):
                self._head_failed(self._namespaces[ns], error, actions)
            case ManifestRead(manifest):
                self._manifest_read(manifest, actions)
            case NotKept(ns, version):
                self._namespaces[ns].from_store.add(version)
                actions.append(FetchManifest(ns, version))
            case KeepingEnded(ns, version):
                self._namespaces[ns].keeping.remove(version)
                self._keeping_count -= 1
                self._keep_next(actions)
                self._remember_head(self._namespaces[ns], version, actions)
            case ManifestFailed(ns, version, error):
                self._manifest_failed(ns, version, error, actions)
            case Closing():
                self._close(actions)
            case Tick():
                pass
            case _:
                assert_never(event)
        self._lose_patience(actions)
        return tuple(actions)

    def next_deadline(self) -> float | None:
        """When the first request has waited as long as one does that could be served already."""
        return min(
            (
                waiter.waits_since + self.head_patience_seconds
                for ns in self._busy.values()
                for waiter in self._who_may_lose_patience(ns)
            ),
            default=None,
        )

    def _who_may_lose_patience(self, ns: _Namespace) -> Iterator[_Waiter]:
        """Those who named no version, and wait for news of a namespace of which one is known."""
        if ns.current is not None:
            for waiters in (ns.for_head, *ns.for_manifest.values()):
                yield from (waiter for waiter in waiters if waiter.version is None)
        elif ns.floor:
            yield from (waiter for waiter in ns.for_head if waiter.version is None)

    def current_versions(self) -> dict[str, Manifest]:
        """The manifest that answers for each namespace, pins included, as far as they are loaded."""
        found = {ns.name: ns.current for ns in self._namespaces.values() if ns.current is not None}
        for ns, version in self.pins.items():
            pinned = self._manifests.get((ns, version))
            if pinned is not None:
                found[ns] = pinned
        return found

    def _check_expected(self, event: ResolverEvent) -> None:
        """What has been read must have been asked for."""
        match event:
            case HeadRead(name) | HeadFailed(name):
                ns = self._namespaces.get(name)
                if ns is None or ns.head_asked_at is None:
                    raise ContractViolation(f"HEAD of {name!r} is not being read")
            case (
                ManifestRead(Manifest(ns=name, version=version))
                | NotKept(name, version)
                | ManifestFailed(name, version)
            ):
                ns = self._namespaces.get(name)
                if ns is None or version not in ns.for_manifest:
                    raise ContractViolation(
                        f"the manifest of version {version} of {name!r} is not being read"
                    )
            case KeepingEnded(name, version):
                ns = self._namespaces.get(name)
                if ns is None or version not in ns.keeping:
                    raise ContractViolation(
                        f"the manifest of version {version} of {name!r} was not to be kept"
                    )
            case _:
                pass

    # --- requests ---------------------------------------------------------------------------

    def _resolve(self, name: str, waiter: _Waiter, actions: list[ResolverAction]) -> None:
        if self._closing:
            actions.append(NotResolved(waiter.number, _closing()))
            return
        pin = self.pins.get(name)
        if waiter.version is None and pin is not None:
            waiter.version = pin
        wrong_since = self._wrong_namespaces.get(name)
        if wrong_since is not None and pin is None:
            if self._now < wrong_since + self.head_ttl_seconds:
                actions.append(NotResolved(waiter.number, _no_namespace(name)))
                return
            del self._wrong_namespaces[name]
        ns = self._namespaces.setdefault(name, _Namespace(name))
        if waiter.version is not None:
            self._resolve_version(ns, waiter, waiter.version, actions)
        elif self._head_is_fresh(ns):
            self._answer_current(ns, waiter, actions)
        elif ns.current is not None and ns.head_error is not None:
            # HEAD failed the last time: who can be served is not made to wait for it to fail again.
            self._answer_current(ns, waiter, actions)
            self._read_head(ns, actions)
        else:
            self._wait_for_head(ns, waiter, actions)

    def _answer_current(self, ns: _Namespace, waiter: _Waiter, actions: list[ResolverAction]) -> None:
        """Answer from what is known of HEAD, without reading it."""
        if ns.current is not None and ns.current.version == ns.floor:
            actions.append(Resolved(waiter.number, ns.current, self._is_stale(ns)))
        elif ns.floor:
            self._want_manifest(ns, waiter, ns.floor, actions)
        else:
            assert ns.head_error is not None  # Without an error there is a floor, or no namespace.
            actions.append(NotResolved(waiter.number, ns.head_error))

    def _resolve_version(
        self,
        ns: _Namespace,
        waiter: _Waiter,
        version: int,
        actions: list[ResolverAction],
        *,
        head_was_read: bool = False,
    ) -> None:
        if version <= max(ns.floor, self.pins.get(ns.name, 0)):
            self._want_manifest(ns, waiter, version, actions)
        elif not (head_was_read or self._head_is_fresh(ns)):
            self._wait_for_head(ns, waiter, actions)
        elif ns.head_error is not None:
            actions.append(NotResolved(waiter.number, ns.head_error))
        elif ns.floor:
            actions.append(NotResolved(waiter.number, _above_head(ns, version)))
        else:
            actions.append(NotResolved(waiter.number, _no_namespace(ns.name)))

    def _leave(self, number: int) -> None:
        for ns in self._busy.values():
            ns.for_head = [waiter for waiter in ns.for_head if waiter.number != number]
            for version, waiters in ns.for_manifest.items():
                ns.for_manifest[version] = [waiter for waiter in waiters if waiter.number != number]

    def _close(self, actions: list[ResolverAction]) -> None:
        """Nobody waits any more. What is being read is taken in all the same when it comes."""
        self._closing = True
        for ns in self._busy.values():
            for waiters in (ns.for_head, *ns.for_manifest.values()):
                actions.extend(NotResolved(waiter.number, _closing()) for waiter in waiters)
                waiters.clear()

    def _lose_patience(self, actions: list[ResolverAction]) -> None:
        for ns in list(self._busy.values()):
            if ns.head_asked_at is None and not ns.for_manifest:
                del self._busy[ns.name]
            if ns.current is None:
                self._do_without_head(ns, actions)
                continue
            ns.for_head = self._still_patient(ns, ns.for_head, True, actions)
            for version, waiters in ns.for_manifest.items():
                ns.for_manifest[version] = self._still_patient(ns, waiters, self._is_stale(ns), actions)

    def _do_without_head(self, ns: _Namespace, actions: list[ResolverAction]) -> None:
        """The version that was remembered over a restart serves who has waited for HEAD long enough."""
        if not ns.floor:
            return
        late = [waiter for waiter in ns.for_head if waiter.version is None and self._is_late(waiter)]
        ns.for_head = [waiter for waiter in ns.for_head if waiter not in late]
        for waiter in late:
            waiter.is_past_head = True
            self._want_manifest(ns, waiter, ns.floor, actions)

    def _is_late(self, waiter: _Waiter) -> bool:
        return self._now >= waiter.waits_since + self.head_patience_seconds

    def _still_patient(
        self, ns: _Namespace, waiters: list[_Waiter], stale: bool, actions: list[ResolverAction]
    ) -> list[_Waiter]:
        """Hand the last good version to those who have waited long enough; who has not.

        Who comes when it has taken that long already is not made to wait at all.
        """
        patient: list[_Waiter] = []
        for waiter in waiters:
            if waiter.version is None and self._is_late(waiter):
                assert ns.current is not None
                actions.append(Resolved(waiter.number, ns.current, stale))
            else:
                patient.append(waiter)
        return patient

    # --- HEAD -------------------------------------------------------------------------------

    def _head_is_fresh(self, ns: _Namespace) -> bool:
        return self._now < ns.head_at + self.head_ttl_seconds

    def _read_head(self, ns: _Namespace, actions: list[ResolverAction]) -> None:
        if ns.head_asked_at is None and not self._head_is_fresh(ns):
            ns.head_asked_at = self._now
            self._busy[ns.name] = ns
            actions.append(ReadHead(ns.name))

    def _wait_for_head(self, ns: _Namespace, waiter: _Waiter, actions: list[ResolverAction]) -> None:
        self._read_head(ns, actions)
        assert ns.head_asked_at is not None  # HEAD is not fresh where somebody waits for it.
        waiter.waits_since = min(waiter.waits_since, ns.head_asked_at)
        ns.for_head.append(waiter)

    def _head_read(self, ns: _Namespace, version: int | None, actions: list[ResolverAction]) -> None:
        ns.head_asked_at = None
        ns.head_at = self._now
        ns.head_error = None
        ns.gone = version is None
        if version is None:
            if ns.floor == 0:
                self._no_such_namespace(ns, actions)
                return
            # A namespace that lost its HEAD is served as it was last seen, marked stale.
            version = ns.floor
            self._say_served_on(ns, None, _no_namespace(ns.name), actions)
        # A HEAD that went back is not followed: within a node the current version never does.
        ns.floor = max(ns.floor, version)
        self._settle(ns, actions)
        self._read_news(ns, actions)

    def _read_news(self, ns: _Namespace, actions: list[ResolverAction]) -> None:
        """Have the manifest of HEAD read though nobody waits for it any more.

        Who wanted it was served what was there. Where HEAD always takes longer than one waits for it, nobody
        who comes later would ever do better.
        """
        is_old = ns.current is not None and ns.current.version < ns.floor
        if is_old and ns.name not in self.pins and not self._closing:
            self._read_manifest(ns, ns.floor, actions)

    def _head_failed(self, ns: _Namespace, error: SeekfsError, actions: list[ResolverAction]) -> None:
        ns.head_asked_at = None
        ns.head_at = self._now
        ns.head_error = error
        if ns.floor:
            self._say_served_on(ns, None, error, actions)
            self._settle(ns, actions)
            return
        waiters, ns.for_head = ns.for_head, []
        actions.extend(NotResolved(waiter.number, error) for waiter in waiters)
        self._remember_unread(ns)

    def _settle(self, ns: _Namespace, actions: list[ResolverAction]) -> None:
        """HEAD is known as well as it will be for a while: move on everyone who waited for it."""
        waiters, ns.for_head = ns.for_head, []
        for waiter in waiters:
            if waiter.version is not None:
                self._resolve_version(ns, waiter, waiter.version, actions, head_was_read=True)
            else:
                self._answer_current(ns, waiter, actions)
        if ns.current is not None and ns.current.version == ns.floor:
            self._serve(ns, ns.current, actions)

    def _serve(self, ns: _Namespace, current: Manifest, actions: list[ResolverAction]) -> None:
        if self._head_is_fresh(ns) and not self._is_stale(ns):
            actions.append(ServeCurrent(current, ns.head_at + self.head_ttl_seconds))

    def _is_stale(self, ns: _Namespace) -> bool:
        return ns.head_error is not None or ns.gone

    def _is_stale_for(self, ns: _Namespace, waiter: _Waiter) -> bool:
        return self._is_stale(ns) or (waiter.is_past_head and ns.head_asked_at is not None)

    def _no_such_namespace(self, ns: _Namespace, actions: list[ResolverAction]) -> None:
        error = _no_namespace(ns.name)
        waiters, ns.for_head = ns.for_head, []
        actions.extend(NotResolved(waiter.number, error) for waiter in waiters)
        if ns.name in self.pins:
            return  # It is served all the same, and its manifest may be on its way.
        del self._namespaces[ns.name]
        self._wrong_namespaces[ns.name] = self._now
        if len(self._wrong_namespaces) > WRONG_NAMES_MAX:
            self._wrong_namespaces.popitem(last=False)

    def _remember_unread(self, ns: _Namespace) -> None:
        """A name of which nothing is known but an error: it may be a wrong one, so these are bounded too."""
        self._unread_namespaces[ns.name] = None
        if len(self._unread_namespaces) > WRONG_NAMES_MAX:
            name, _ = self._unread_namespaces.popitem(last=False)
            oldest = self._namespaces.get(name)
            blank = oldest is not None and oldest.floor == 0 and oldest.head_asked_at is None
            if blank and name not in self.pins:
                del self._namespaces[name]

    # --- manifests --------------------------------------------------------------------------

    def _want_manifest(
        self, ns: _Namespace, waiter: _Waiter, version: int, actions: list[ResolverAction]
    ) -> None:
        if ns.current is not None and ns.current.version == version:
            actions.append(Resolved(waiter.number, ns.current, False))
            return
        known = self._manifests.get((ns.name, version))
        if known is not None:
            self._manifests.move_to_end((ns.name, version))
            actions.append(Resolved(waiter.number, known, False))
            return
        error = self._read_manifest(ns, version, actions)
        if error is not None:
            self._answer_without(ns, waiter, error, actions)
            return
        waiter.waits_since = min(waiter.waits_since, ns.manifest_asked_at[version])
        ns.for_manifest[version].append(waiter)

    def _read_manifest(
        self, ns: _Namespace, version: int, actions: list[ResolverAction]
    ) -> SeekfsError | None:
        """Have a manifest read, unless it is being read; or why it could not be a while ago."""
        if version in ns.for_manifest:
            return None
        wrong = self._wrong_versions.get((ns.name, version))
        if wrong is not None:
            since, error = wrong
            if self._now < since + self.head_ttl_seconds:
                return error
            del self._wrong_versions[ns.name, version]
        ns.for_manifest[version] = []
        ns.manifest_asked_at[version] = self._now
        self._busy[ns.name] = ns
        actions.append(ReadManifest(ns.name, version))
        return None

    def _manifest_read(self, manifest: Manifest, actions: list[ResolverAction]) -> None:
        ns = self._namespaces[manifest.ns]
        came_from_store = manifest.version in ns.from_store
        waiters = self._manifest_settled(ns, manifest.version)
        if self._becomes_current(ns, manifest, waiters):
            if ns.current is not None:
                self._keep(ns.current)
            ns.current = manifest
            self._serve(ns, manifest, actions)
            if ns.head_error is not None:
                self._say_served_on(ns, None, ns.head_error, actions)
            elif (error := next(filter(None, (waiter.instead_of for waiter in waiters)), None)) is not None:
                self._say_served_on(ns, ns.floor, error, actions)
        else:
            self._keep(manifest)
            if self.pins.get(manifest.ns) == manifest.version:
                actions.append(ServeCurrent(manifest, float("inf")))
        for waiter in waiters:
            if waiter.version is None and ns.current is not None:
                actions.append(Resolved(waiter.number, ns.current, self._is_stale_for(ns, waiter)))
            else:
                actions.append(Resolved(waiter.number, manifest, False))
        if came_from_store:
            # Kept before its version is remembered: who is killed in between can still serve the one before.
            # Where it cannot be kept it is remembered all the same, since nobody who was there is to go back.
            self._to_keep[ns.name, manifest.version] = None
            if len(self._to_keep) > KEEPING_LATER_MAX:
                self._to_keep.popitem(last=False)
            self._keep_next(actions)
        else:
            self._remember_head(ns, manifest.version, actions)

    def _keep_next(self, actions: list[ResolverAction]) -> None:
        while self._to_keep and self._keeping_count < KEEPING_MAX:
            (name, version), _ = self._to_keep.popitem(last=False)
            manifest = self._in_memory(name, version)
            if manifest is not None:
                self._namespaces[name].keeping.add(version)
                self._keeping_count += 1
                actions.append(KeepManifest(manifest))

    def _in_memory(self, name: str, version: int) -> Manifest | None:
        current = self._namespaces[name].current if name in self._namespaces else None
        if current is not None and current.version == version:
            return current
        return self._manifests.get((name, version))

    def _remember_head(self, ns: _Namespace, version: int, actions: list[ResolverAction]) -> None:
        if ns.kept < version <= ns.floor:
            ns.kept = version
            actions.append(KeepHead(ns.name, version))

    def _manifest_settled(self, ns: _Namespace, version: int) -> list[_Waiter]:
        ns.from_store.discard(version)
        del ns.manifest_asked_at[version]
        return ns.for_manifest.pop(version)

    def _becomes_current(self, ns: _Namespace, manifest: Manifest, waiters: list[_Waiter]) -> bool:
        """What HEAD names does; and what it named when a request came, unless a newer one is there.

        HEAD may have moved on while a manifest was read, to one that turns out to be bad.
        """
        if ns.name in self.pins:
            return False
        if ns.current is not None and ns.current.version > manifest.version:
            return False
        return manifest.version == ns.floor or any(waiter.version is None for waiter in waiters)

    def _manifest_failed(
        self, ns_name: str, version: int, error: SeekfsError | None, actions: list[ResolverAction]
    ) -> None:
        ns = self._namespaces[ns_name]
        waiters = self._manifest_settled(ns, version)
        final = error or NoSuchVersion(
            f"version {version} of {ns_name!r} has no manifest", ns=ns_name, version=version
        )
        self._wrong_versions[ns_name, version] = (self._now, final)
        if len(self._wrong_versions) > WRONG_NAMES_MAX:
            self._wrong_versions.popitem(last=False)
        for waiter in waiters:
            if waiter.instead_of is not None and ns.current is None:
                actions.append(NotResolved(waiter.number, waiter.instead_of))
            elif waiter.version is None and version < ns.floor:
                self._answer_current(ns, waiter, actions)  # HEAD has moved on meanwhile.
            else:
                self._answer_without(ns, waiter, final, actions)
        if ns.current is not None and version == ns.floor:
            self._say_served_on(ns, version, final, actions)
            self._serve(ns, ns.current, actions)

    def _say_served_on(
        self, ns: _Namespace, instead_of: int | None, error: SeekfsError, actions: list[ResolverAction]
    ) -> None:
        # Of one that is pinned it makes no difference, and at the end nothing is said of the store.
        if ns.current is not None and ns.name not in self.pins and not self._closing:
            actions.append(ServedOn(ns.name, ns.current.version, instead_of, error))

    def _answer_without(
        self, ns: _Namespace, waiter: _Waiter, error: SeekfsError, actions: list[ResolverAction]
    ) -> None:
        """The manifest wanted is not to be had: the last good version serves who did not name one."""
        if waiter.version is None and ns.current is None:
            # After a restart; somebody who named it may have had it read.
            ns.current = self._manifests.get((ns.name, ns.restored))
        if waiter.version is None and ns.current is not None:
            actions.append(Resolved(waiter.number, ns.current, self._is_stale_for(ns, waiter)))
        elif waiter.version is None and 0 < ns.restored < ns.floor and waiter.instead_of is None:
            waiter.instead_of = error
            self._want_manifest(ns, waiter, ns.restored, actions)
        else:
            actions.append(NotResolved(waiter.number, waiter.instead_of or error))

    def _keep(self, manifest: Manifest) -> None:
        key = (manifest.ns, manifest.version)
        self._manifests[key] = manifest
        self._manifests.move_to_end(key)
        pinned = {(ns, version) for ns, version in self.pins.items()}
        for old in [old for old in self._manifests if old not in pinned][:-MANIFESTS_KEPT_MAX]:
            del self._manifests[old]


def _closing() -> ShuttingDown:
    return ShuttingDown("the daemon is stopping")


def _no_namespace(name: str) -> NoSuchNamespace:
    return NoSuchNamespace(f"there is no namespace {name!r}: it has no HEAD", ns=name)


def _above_head(ns: _Namespace, version: int) -> NoSuchVersion:
    return NoSuchVersion(
        f"{ns.name!r} has no version {version}: its HEAD is at {ns.floor}",
        ns=ns.name,
        version=version,
        head=ns.floor,
    )
