"""What goes into and comes out of the manifest resolver (``seekfs_core.resolver``): events and actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from attrs import frozen

from seekfs_core.errors import SeekfsError
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest

# --- events ---------------------------------------------------------------------------------


@frozen
class Restored:
    """What an earlier process of this node had seen: the current version of each namespace."""

    heads: Mapping[str, int]


@frozen
class ResolveWanted:
    """A request wants the current version of ``ns``, or ``version`` of it."""

    waiter: int
    ns: str
    version: int | None


@frozen
class WaiterLeft:
    """A request no longer waits."""

    waiter: int


@frozen
class HeadRead:
    """HEAD of a namespace names this version, or None: there is no HEAD."""

    ns: str
    version: int | None


@frozen
class HeadFailed:
    """HEAD of a namespace could not be read, or holds something else than a version."""

    ns: str
    error: SeekfsError


@frozen
class ManifestRead:
    manifest: Manifest


@frozen
class NotKept:
    """This node has no copy of a manifest, or a damaged one."""

    ns: str
    version: int


@frozen
class ManifestFailed:
    """A manifest could not be read or fails its checks; with None there is no such object."""

    ns: str
    version: int
    error: SeekfsError | None


@frozen
class KeepingEnded:
    """Answers ``KeepManifest``: it can be read after a restart now, or could not be kept."""

    ns: str
    version: int


@frozen
class Closing:
    """Nobody waits any more, from now on."""


ResolverEvent: TypeAlias = (
    Restored
    | ResolveWanted
    | WaiterLeft
    | HeadRead
    | HeadFailed
    | ManifestRead
    | NotKept
    | ManifestFailed
    | KeepingEnded
    | Closing
    | Tick
)

# --- actions --------------------------------------------------------------------------------


@frozen
class ReadHead:
    """Read ``namespaces/{ns}/HEAD``."""

    ns: str


@frozen
class ReadManifest:
    """Read the copy of a manifest that is kept on this node; ``NotKept`` if there is no good one."""

    ns: str
    version: int


@frozen
class FetchManifest:
    """Read a manifest from the store."""

    ns: str
    version: int


@frozen
class Resolved:
    waiter: int
    manifest: Manifest
    stale: bool


@frozen
class NotResolved:
    waiter: int
    error: SeekfsError


@frozen
class ServeCurrent:
    """Until ``until`` (monotonic seconds) this manifest answers for its namespace without asking."""

    manifest: Manifest
    until: float


@frozen
class KeepManifest:
    """Keep on this node, as it was stored, a manifest that came from the store; if there is room."""

    manifest: Manifest


@frozen
class KeepHead:
    """Remember over a restart that HEAD had come to this version, whose manifest is good.

    What HEAD names is remembered only then: the last good version is what a restart without a
    store can serve.
    """

    ns: str
    version: int


@frozen
class ServedOn:
    """HEAD cannot be read, or the version ``instead_of`` that it names cannot be had, for ``error``. No
    request fails for that: those that name no version get ``version`` on. Said once for every time that
    it was tried."""

    ns: str
    version: int
    instead_of: int | None
    error: SeekfsError


ResolverAction: TypeAlias = (
    ReadHead
    | ReadManifest
    | FetchManifest
    | Resolved
    | NotResolved
    | ServeCurrent
    | ServedOn
    | KeepManifest
    | KeepHead
)
