"""What ``seekfs_core.publication`` hears and says, and when it may: its words and its grammar.

Every ``Request`` is answered by exactly one event, and so is ``PackManifest``. The driver turns
manifests into bytes and back; the machine handles their values.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import frozen

from seekfs_core.errors import ManifestInvalid, SeekfsError, StoreFailure
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.rebase import Change, Counts

PROBE_BODY = b"seekfs writes this to see that the store honours If-None-Match and If-Match on PUT.\n"

# --- events --------------------------------------------------------------------------------------


@frozen
class Begin:
    """Start: read HEAD.

    ``reads_first``: the change is made of objects in the bucket, and reading these may take hours. So the
    store's conditions are proven before ``Prepared``, and not before the first upload (``Prove``) or the
    manifest, whichever comes first.
    """

    reads_first: bool = False


@frozen
class HeadRead:
    """Answers ``ReadHead``: ``version`` is None where there is no HEAD yet. ``etag`` as sent."""

    version: int | None
    etag: str | None


@frozen
class ManifestRead:
    """Answers ``ReadManifest``; ``manifest`` is None where there is no such object."""

    version: int
    manifest: Manifest | None


@frozen
class CheckFailed:
    """Answers ``ReadHead`` or ``ReadManifest``: the object is there and is not what it should be.
    Or ``PackManifest``: no reader would take it."""

    error: ManifestInvalid


@frozen
class Packed:
    """Answers ``PackManifest``: the bytes are at hand."""


@frozen
class Written:
    """Answers ``WriteProbe``, ``WriteManifest`` or ``WriteHead``: the store says it is done."""


@frozen
class StoreFailed:
    """Answers any request: it failed, or its answer was lost. A 404 on a read is no failure."""

    failure: StoreFailure


@frozen
class Prove:
    """Asks, while ``PREPARED``, that the store's conditions be proven before anything is uploaded."""


@frozen
class ChangeReady:
    """What is to be published: every object that it names has been uploaded."""

    change: Change


@frozen
class Interrupted:
    """Whoever runs this wants it to end; any request under way has been broken off."""


Event: TypeAlias = (
    Begin
    | HeadRead
    | ManifestRead
    | CheckFailed
    | Packed
    | Written
    | StoreFailed
    | Prove
    | ChangeReady
    | Interrupted
    | Tick
)


# --- actions -------------------------------------------------------------------------------------


@frozen
class ReadHead:
    key: str


@frozen
class ReadManifest:
    key: str
    version: int


@frozen
class WriteProbe:
    """PUT ``PROBE_BODY``: create-only, or with ``If-Match`` where ``if_match`` is not None."""

    key: str
    if_match: str | None


@frozen
class PackManifest:
    """Turn a manifest into the bytes that are stored, and keep them for ``WriteManifest``. Seconds, for a
    million files."""

    manifest: Manifest


@frozen
class WriteManifest:
    """PUT the manifest that was packed, create-only unless ``create_only`` is False (``single_writer``)."""

    key: str
    manifest: Manifest
    create_only: bool


@frozen
class WriteHead:
    """PUT ``body``: create-only, or with ``If-Match``, or (``single_writer``) with neither."""

    key: str
    body: bytes
    create_only: bool
    if_match: str | None


@frozen
class Prepared:
    """The base is known: None where nothing was ever published. Now hash, upload, ``ChangeReady``."""

    base: Manifest | None


@frozen
class ConditionsProven:
    """The store honours conditions (or nobody asked): uploading may begin."""


@frozen
class Published:
    """Done. ``manifest`` is the current version; ``new`` is False where nothing had to change
    (``manifest`` is None then if nothing was ever published). ``counts`` is what the change came to."""

    manifest: Manifest | None
    new: bool
    counts: Counts


@frozen
class Failed:
    """Over, without success; ``error`` says whether anything was written."""

    error: SeekfsError


@frozen
class BrokenOff:
    """Over, since it was interrupted: nothing is half done, or it was the second time.

    ``left`` says what is in the bucket then, or may be.
    """

    left: SeekfsError | None = None


Request: TypeAlias = ReadHead | ReadManifest | WriteProbe | WriteManifest | WriteHead
Milestone: TypeAlias = Prepared | ConditionsProven | Published | Failed | BrokenOff
Action: TypeAlias = Request | PackManifest | Milestone


# --- states and transitions ------------------------------------------------------------------------


class State(enum.Enum):
    NEW = "new"
    READING_HEAD = "reading HEAD"
    READING_BASE = "reading the version that HEAD names"
    LOOKING_AHEAD = "looking for a version above the base"
    PREPARED = "the base is known; waiting for the change"
    PROBING_CREATE = "proving: the probe is created, or is there"
    PROBING_AGAIN = "proving: creating it again must be refused"
    PROBING_MATCH = "proving: replacing it by a wrong ETag must be refused"
    PACKING = "turning the next version into bytes"
    CREATING = "creating the next version"
    READING_BACK = "reading who created the next version"
    MOVING_HEAD = "moving HEAD to the version"
    CHECKING_HEAD = "reading how far HEAD is"
    BACKING_OFF = "waiting to make a request again"
    DONE = "published"
    FAILED = "failed"
    BROKEN_OFF = "broken off"


S = State
_ANYWHERE = frozenset(
    {S.READING_HEAD, S.READING_BASE, S.LOOKING_AHEAD, S.PROBING_CREATE, S.PROBING_AGAIN, S.PROBING_MATCH}
    | {S.CREATING, S.READING_BACK, S.MOVING_HEAD, S.CHECKING_HEAD}
)
"""Where a request waits to be made again, and so where a backoff can lead."""

_AT_TIP = frozenset({S.PREPARED, S.PROBING_CREATE, S.PACKING, S.MOVING_HEAD, S.DONE, S.FAILED})

_RETRY = frozenset({S.BACKING_OFF, S.FAILED})

COMMITTING = frozenset({S.CREATING, S.READING_BACK, S.MOVING_HEAD, S.CHECKING_HEAD})
"""Where a version of ours may exist that HEAD does not name yet, if there is one to create."""

OVER = frozenset({S.DONE, S.FAILED, S.BROKEN_OFF})

_BEFORE_COMMIT = frozenset(S) - COMMITTING - OVER - {S.BACKING_OFF}

TRANSITIONS: Mapping[tuple[State, type[Any]], tuple[str, frozenset[State]]] = {
    (S.NEW, Begin): ("_on_begin", frozenset({S.READING_HEAD})),
    (S.READING_HEAD, HeadRead): ("_on_head", frozenset({S.READING_BASE, S.LOOKING_AHEAD})),
    (S.READING_HEAD, CheckFailed): ("_on_check_failed", frozenset({S.FAILED})),
    (S.READING_HEAD, StoreFailed): ("_on_request_failed", _RETRY),
    (S.READING_BASE, ManifestRead): (
        "_on_base",
        frozenset({S.LOOKING_AHEAD, S.PREPARED, S.PROBING_CREATE, S.FAILED}),
    ),
    (S.READING_BASE, CheckFailed): ("_on_check_failed", frozenset({S.FAILED})),
    (S.READING_BASE, StoreFailed): ("_on_request_failed", _RETRY),
    (S.LOOKING_AHEAD, ManifestRead): ("_on_ahead", _AT_TIP | {S.LOOKING_AHEAD}),
    (S.LOOKING_AHEAD, CheckFailed): ("_on_check_failed", frozenset({S.FAILED})),
    (S.LOOKING_AHEAD, StoreFailed): ("_on_request_failed", _RETRY),
    (S.PREPARED, Prove): ("_on_prove", frozenset({S.PREPARED, S.PROBING_CREATE})),
    (S.PREPARED, ChangeReady): ("_on_change", frozenset({S.LOOKING_AHEAD, S.MOVING_HEAD, S.DONE, S.FAILED})),
    (S.PROBING_CREATE, Written): ("_on_probe_created", frozenset({S.PROBING_AGAIN})),
    (S.PROBING_CREATE, StoreFailed): ("_on_probe_there", frozenset({S.PROBING_MATCH}) | _RETRY),
    (S.PROBING_AGAIN, Written): ("_on_not_honoured", frozenset({S.FAILED})),
    (S.PROBING_AGAIN, StoreFailed): ("_on_probe_there", frozenset({S.PROBING_MATCH}) | _RETRY),
    (S.PROBING_MATCH, Written): ("_on_not_honoured", frozenset({S.FAILED})),
    (S.PROBING_MATCH, StoreFailed): ("_on_match_refused", frozenset({S.PREPARED, S.PACKING}) | _RETRY),
    (S.PACKING, Packed): ("_on_packed", frozenset({S.CREATING})),
    (S.PACKING, CheckFailed): ("_on_check_failed", frozenset({S.FAILED})),
    (S.CREATING, Written): ("_on_created", frozenset({S.MOVING_HEAD, S.FAILED})),
    (S.CREATING, StoreFailed): ("_on_create_failed", frozenset({S.READING_BACK, S.FAILED})),
    (S.READING_BACK, ManifestRead): (
        "_on_read_back",
        frozenset({S.BACKING_OFF, S.MOVING_HEAD, S.FAILED}),
    ),
    (S.READING_BACK, CheckFailed): ("_on_check_failed", frozenset({S.FAILED})),
    (S.READING_BACK, StoreFailed): ("_on_request_failed", _RETRY),
    (S.MOVING_HEAD, Written): ("_on_head_moved", frozenset({S.DONE})),
    (S.MOVING_HEAD, StoreFailed): ("_on_move_failed", frozenset({S.CHECKING_HEAD, S.FAILED})),
    (S.CHECKING_HEAD, HeadRead): (
        "_on_head_checked",
        frozenset({S.BACKING_OFF, S.DONE, S.FAILED}),
    ),
    (S.CHECKING_HEAD, CheckFailed): ("_on_check_failed", frozenset({S.FAILED})),
    (S.CHECKING_HEAD, StoreFailed): ("_on_request_failed", _RETRY),
    (S.BACKING_OFF, Tick): ("_on_due", _ANYWHERE | {S.BACKING_OFF}),
    (S.CREATING, Interrupted): ("_on_interrupted", frozenset({S.READING_BACK, S.BROKEN_OFF})),
    (S.READING_BACK, Interrupted): ("_on_interrupted", _RETRY | {S.BROKEN_OFF}),
    (S.MOVING_HEAD, Interrupted): ("_on_interrupted", frozenset({S.CHECKING_HEAD, S.BROKEN_OFF})),
    (S.CHECKING_HEAD, Interrupted): ("_on_interrupted", _RETRY | {S.BROKEN_OFF}),
    (S.BACKING_OFF, Interrupted): ("_on_interrupted", frozenset({S.BACKING_OFF, S.BROKEN_OFF})),
    **{(state, Interrupted): ("_on_interrupted", frozenset({S.BROKEN_OFF})) for state in _BEFORE_COMMIT},
    **{(state, Interrupted): ("_on_interrupted", frozenset({state})) for state in OVER},
}
"""(state, event) to (handler, states in which it may end). ``Tick`` is harmless everywhere else."""

del S
