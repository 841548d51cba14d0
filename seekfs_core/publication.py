"""The steps that publish a version, so that nothing acknowledged is lost, whoever dies when.

The create-only PUT of ``manifests/v-{N+1}.json.gz`` is the commit; HEAD is a pointer that any
publisher may move forward and none moves back (docs/SPEC.md, section 2). Everything else here
follows from two rules: *never believe that a write failed* (an answer may have been lost, so the
object is read back and its publication id says whose it is), and *never overwrite* (a refused
create means that somebody else was first: their version becomes the base of ours).

::

    Begin ─► READING_HEAD ─► READING_BASE ─► LOOKING_AHEAD ─┐ ─► PREPARED    Prepared(base)
                 N               v-N          v-N+1.. ◄─────┘        │
                                                                     │  the driver uploads, and
                                                                     ▼  feeds ChangeReady
             ┌─────────────────────────────── LOOKING_AHEAD, merge, conflicts?
             │                                                       │
             │ somebody else's            PROBING_* (once) ──────────┤
             │                                                       ▼
             │                                                    PACKING
             │                                                       ▼
             └──────── READING_BACK ◄── refused or no answer ── CREATING
                           │ ours                                    │ created
                           └──────────────► MOVING_HEAD ◄────────────┘ ─► DONE    Published
                                             ▲   │ refused or no answer
                                             └─ CHECKING_HEAD

Where the change is made of objects that are there (``Begin.reads_first``), PROBING_* comes before PREPARED.

Every action but ``PackManifest`` and the milestones (``Prepared``, ``ConditionsProven``, ``Published``,
``Failed``, ``BrokenOff``) is one request, answered by exactly one event. Failed requests that may pass
are made again after the delay that the retry policy says (state ``BACKING_OFF``), a bounded number of
times.

``Interrupted`` may be fed at any time. While no request to create a version is out, it ends the
publication, and nothing was published. Later it could leave a version that HEAD does not name; so the
request under way counts as lost, and the publication goes on to its end. A second one ends it all the
same.

What counts as a conflict is judged against the base as it was when the publication began, before
anything was uploaded: a path that we change, that another version has changed since, and not to
the same content.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field

from seekfs_core import names
from seekfs_core.creation import Conditions
from seekfs_core.errors import (
    ContractViolation,
    FailureKind,
    SeekfsError,
    ShuttingDown,
    StoreFailure,
    error_of,
    refuses_conditions,
)
from seekfs_core.machine import Tick, advance
from seekfs_core.manifest import Manifest
from seekfs_core.publication_errors import (
    always_late,
    base_is_missing,
    in_doubt,
    last_version,
    not_honoured,
    without_head,
)
from seekfs_core.publication_protocol import (
    COMMITTING,
    OVER,
    TRANSITIONS,
    Action,
    Begin,
    BrokenOff,
    ChangeReady,
    CheckFailed,
    ConditionsProven,
    Event,
    Failed,
    HeadRead,
    Interrupted,
    ManifestRead,
    Packed,
    PackManifest,
    Prepared,
    Prove,
    Published,
    ReadHead,
    ReadManifest,
    Request,
    State,
    StoreFailed,
    WriteHead,
    WriteManifest,
    WriteProbe,
    Written,
)
from seekfs_core.rebase import (
    Change,
    Counts,
    conflict_of,
    counts_of,
    files_of,
    is_change,
    merged_files,
    version_of,
)
from seekfs_core.retry import RetryPolicy, as_busy, is_passing

PROBE_WRONG_ETAG = '"00000000000000000000000000000000"'
"""Looks like an MD5, as most ETags do, and is that of no content anybody knows."""

RACES_MAX = 64
"""Lost races in a row before a publisher gives up: each means that another one got through."""

RACE_BACKOFF_GROWTH_MAX = 8
"""A lost race is waited out for at most this many initial backoffs: the store is well."""

_REFUSALS = frozenset({FailureKind.DENIED, FailureKind.REDIRECTED})
"""Answers to a write that say for certain that this request did nothing, nor will another."""


@define(kw_only=True)
class Publication:
    """Publishes one change to one namespace; made for one use.

    ``publication_id`` must be of no other publication, ever (128 random bits do). ``policy``
    says how often and when requests are made again, ``rng`` jitters it. ``conditions`` is at first
    ``Conditions.of`` who publishes: a single writer skips the proof that the store honours them, and does
    without where it refuses requests that carry any. A shallow copy is a machine of its own, but for
    ``rng``.
    """

    ns: str
    publication_id: str
    policy: RetryPolicy
    rng: random.Random
    conditions: Conditions = Conditions.KEPT

    state: State = field(default=State.NEW, init=False)
    _now: float = field(default=float("-inf"), init=False)
    _due: float | None = field(default=None, init=False)
    _request: Request | None = field(default=None, init=False)
    """The request under way, or the one that waits for ``_due``."""
    _resume: State = field(default=State.NEW, init=False)
    _attempts: int = field(default=0, init=False)
    """How often ``_request`` was made."""
    _races_lost: int = field(default=0, init=False)

    _reads_first: bool = field(default=False, init=False)
    _is_prepared: bool = field(default=False, init=False)
    _head: int = field(default=0, init=False)
    _head_etag: str | None = field(default=None, init=False)
    _base: Manifest | None = field(default=None, init=False)
    _snapshot: Manifest | None = field(default=None, init=False)
    _change: Change | None = field(default=None, init=False)
    _winners: dict[str, int] = field(factory=dict, init=False)
    """Which version last changed a path that we change too, since the snapshot."""
    _next: Manifest | None = field(default=None, init=False)
    """The version that we try to create."""
    _counts: Counts = field(default=Counts(changed=0, unchanged=0), init=False)
    """What ``_next`` changes, or would."""
    _write_failure: StoreFailure | None = field(default=None, init=False)
    """Why the last attempt to create ``_next``, or to move HEAD, is in doubt."""
    _write_attempts: int = field(default=0, init=False)
    _committed: bool = field(default=False, init=False)
    _proven: bool = field(default=False, init=False)
    _interrupted: bool = field(default=False, init=False)

    # --- the one way in ---------------------------------------------------------------------------

    def feed(self, event: Event, now: float) -> tuple[Action, ...]:
        """What follows from ``event``; see ``seekfs_core.machine``."""
        row = TRANSITIONS.get((self.state, type(event)))
        if row is None and not isinstance(event, Tick):
            raise ContractViolation(f"{type(event).__name__} while {self.state.value}")
        if (
            isinstance(event, ManifestRead)
            and isinstance(self._request, ReadManifest)
            and event.version != self._request.version
        ):
            raise ContractViolation(f"v-{event.version} read where v-{self._request.version} was asked for")
        self._now = advance(self._now, now)
        if row is None:
            return ()
        handler: Callable[[Publication, Any], tuple[Action, ...]] = getattr(type(self), row[0])
        actions = handler(self, event)
        assert self.state in row[1], (self.state, event)
        return actions

    def next_deadline(self) -> float | None:
        """When ``Tick`` is wanted, in monotonic seconds; None while a request is under way."""
        return self._due

    # --- where we are -----------------------------------------------------------------------------

    def _on_begin(self, event: Begin) -> tuple[Action, ...]:
        self._reads_first = event.reads_first
        return self._make(State.READING_HEAD, ReadHead(names.head_key(self.ns)))

    def _on_head(self, event: HeadRead) -> tuple[Action, ...]:
        self._head, self._head_etag = event.version or 0, event.etag
        if event.version is None:
            return self._look_ahead()
        return self._make(State.READING_BASE, self._read(event.version))

    def _on_base(self, event: ManifestRead) -> tuple[Action, ...]:
        if event.manifest is None:
            return self._fail(base_is_missing(self.ns, event.version))
        return self._adopt(event.manifest)

    def _on_ahead(self, event: ManifestRead) -> tuple[Action, ...]:
        if event.manifest is None:
            return self._at_tip()
        return self._adopt(event.manifest)

    def _adopt(self, manifest: Manifest) -> tuple[Action, ...]:
        """A checked version above our base (or at it) becomes the base."""
        self._note_winners(manifest)
        self._base = manifest
        return self._look_ahead()

    def _note_winners(self, manifest: Manifest) -> None:
        if self._change is None:
            return
        before, after = files_of(self._base), manifest.files
        paths = (*self._change.puts, *self._change.removals)
        changed = (path for path in paths if is_change(before.get(path), after.get(path)))
        self._winners = self._winners | dict.fromkeys(changed, manifest.version)

    def _look_ahead(self) -> tuple[Action, ...]:
        version = self._base_version() + 1
        if version > names.VERSION_MAX:
            return self._at_tip()
        return self._make(State.LOOKING_AHEAD, self._read(version))

    def _at_tip(self) -> tuple[Action, ...]:
        """No version is above the base: hand it out, or go on with the change."""
        if self._change is not None:
            return self._rebase(self._change)
        self._snapshot = self._base
        if self._reads_first and self._must_prove():
            return self._probe()
        return self._prepared()

    def _prepared(self) -> tuple[Action, ...]:
        self._is_prepared = True
        self._settle(State.PREPARED)
        return (Prepared(self._base),)

    def _on_change(self, event: ChangeReady) -> tuple[Action, ...]:
        self._change = event.change
        return self._look_ahead()

    # --- the change -------------------------------------------------------------------------------

    def _rebase(self, change: Change) -> tuple[Action, ...]:
        base = self._base
        conflict = conflict_of(self.ns, change, self._snapshot, base, self._winners)
        if conflict is not None:
            return self._fail(conflict)
        files = merged_files(change, self._snapshot, base)
        self._counts = counts_of(change, base, files)
        if files == files_of(base):
            return self._settle_on(base, new=False)
        version = self._base_version() + 1
        if version > names.VERSION_MAX:
            return self._fail(last_version(self.ns))
        self._next = Manifest(
            ns=self.ns,
            version=version,
            files=files,
            created_at=change.created_at,
            parents=() if base is None else (base.version,),
            tombstones=tuple(path for path in files_of(base) if path not in files),
            publication_id=self.publication_id,
        )
        if self._must_prove():
            return self._probe()
        return self._pack(self._next)

    # --- the proof --------------------------------------------------------------------------------

    def _must_prove(self) -> bool:
        return not self._proven and self.conditions is Conditions.KEPT

    def _on_prove(self, _: Prove) -> tuple[Action, ...]:
        if self._must_prove():
            return self._probe()
        return (ConditionsProven(),)

    @property
    def _conditional(self) -> bool:
        return self.conditions is not Conditions.REFUSED

    def _probe(self) -> tuple[Action, ...]:
        return self._make(State.PROBING_CREATE, WriteProbe(names.PROBE_KEY, None))

    def _on_probe_created(self, _: Written) -> tuple[Action, ...]:
        return self._make(State.PROBING_AGAIN, WriteProbe(names.PROBE_KEY, None))

    def _on_probe_there(self, event: StoreFailed) -> tuple[Action, ...]:
        if event.failure.kind is not FailureKind.PRECONDITION:
            return self._on_request_failed(event)
        return self._make(State.PROBING_MATCH, WriteProbe(names.PROBE_KEY, PROBE_WRONG_ETAG))

    def _on_match_refused(self, event: StoreFailed) -> tuple[Action, ...]:
        # A store that looks first and finds that somebody has removed the probe says 404; that
        # is a refusal too.
        if event.failure.kind not in (FailureKind.PRECONDITION, FailureKind.MISSING):
            return self._on_request_failed(event)
        self._proven = True
        if self._next is not None:
            return self._pack(self._next)
        if not self._is_prepared:
            return self._prepared()
        self._settle(State.PREPARED)
        return (ConditionsProven(),)

    def _on_not_honoured(self, _: Written) -> tuple[Action, ...]:
        condition = "If-None-Match" if self.state is State.PROBING_AGAIN else "If-Match"
        return self._fail(not_honoured(f"the store ignores {condition} on PUT"))

    # --- the commit -------------------------------------------------------------------------------

    def _pack(self, manifest: Manifest) -> tuple[Action, ...]:
        self._settle(State.PACKING)
        return (PackManifest(manifest),)

    def _on_packed(self, _: Packed) -> tuple[Action, ...]:
        assert self._next is not None
        key = names.manifest_key(self.ns, self._next.version)
        return self._make(State.CREATING, WriteManifest(key, self._next, self._conditional))

    def _on_created(self, _: Written) -> tuple[Action, ...]:
        assert self._next is not None
        return self._commit(self._next)

    def _commit(self, manifest: Manifest) -> tuple[Action, ...]:
        self._committed = True
        self._races_lost = self._write_attempts = 0
        return self._settle_on(manifest, new=True)

    def _on_create_failed(self, event: StoreFailed) -> tuple[Action, ...]:
        """Refused, or the answer was lost: who created that version?"""
        assert self._next is not None
        failure = event.failure
        self.conditions = self.conditions.after(failure)
        if failure.kind in _REFUSALS and not self._write_attempts:
            return self._fail(error_of(failure, key=names.manifest_key(self.ns, self._next.version)))
        self._write_failure = failure
        self._write_attempts += 1
        return self._make(State.READING_BACK, self._read(self._next.version))

    def _on_read_back(self, event: ManifestRead) -> tuple[Action, ...]:
        assert self._next is not None
        assert self._write_failure is not None
        theirs = event.manifest
        if theirs is None:
            return self._create_again(self._write_failure)
        if theirs.publication_id == self.publication_id:
            return self._commit(theirs)
        self._write_attempts = 0
        self._note_winners(theirs)
        self._base = theirs
        self._next = None
        key = names.manifest_key(self.ns, theirs.version)
        return self._race_lost(key, State.LOOKING_AHEAD, self._read(theirs.version + 1))

    def _create_again(self, failure: StoreFailure) -> tuple[Action, ...]:
        """Nobody has created the version: the request did not arrive, or was refused for nothing."""
        assert self._next is not None
        key = names.manifest_key(self.ns, self._next.version)
        if failure.kind in (FailureKind.PRECONDITION, FailureKind.MISSING):
            failure = as_busy(failure)
        delay = self.policy.delay(failure, self._write_attempts, self.rng)
        if delay is None:
            return self._in_doubt(error_of(failure, key=key))
        return self._wait(delay, State.CREATING, WriteManifest(key, self._next, self._conditional))

    def _in_doubt(self, error: SeekfsError) -> tuple[Action, ...]:
        return self._fail(self._left_behind(error))

    # --- HEAD -------------------------------------------------------------------------------------

    def _settle_on(self, manifest: Manifest | None, *, new: bool) -> tuple[Action, ...]:
        """``manifest`` is the current version; done when HEAD says so."""
        self._next, self._base = (manifest if new else None), manifest
        if self._head >= self._base_version():
            return self._publish()
        return self._move_head()

    def _move_head(self) -> tuple[Action, ...]:
        request = self._head_request()
        return self._without_etag() if request is None else self._make(State.MOVING_HEAD, request)

    def _without_etag(self) -> tuple[Action, ...]:
        return self._fail(not_honoured("HEAD has no ETag, so it cannot be moved safely"))

    def _head_request(self) -> WriteHead | None:
        exists, etag = self._head > 0, self._head_etag
        if exists and etag is None and self.conditions is Conditions.KEPT:
            return None
        return WriteHead(
            names.head_key(self.ns),
            names.format_head(self._base_version()),
            create_only=self._conditional and not exists,
            if_match=etag if self._conditional and exists else None,
        )

    def _on_head_moved(self, _: Written) -> tuple[Action, ...]:
        self._head = self._base_version()
        return self._publish()

    def _publish(self) -> tuple[Action, ...]:
        self._settle(State.DONE)
        return (Published(self._base, new=self._next is not None, counts=self._counts),)

    def _on_move_failed(self, event: StoreFailed) -> tuple[Action, ...]:
        failure = event.failure
        self.conditions = self.conditions.after(failure)
        if failure.kind in _REFUSALS:
            return self._fail(error_of(failure, key=names.head_key(self.ns)))
        self._write_failure = failure
        self._write_attempts += 1
        return self._make(State.CHECKING_HEAD, ReadHead(names.head_key(self.ns)))

    def _on_head_checked(self, event: HeadRead) -> tuple[Action, ...]:
        assert self._write_failure is not None
        self._head, self._head_etag = event.version or 0, event.etag
        if self._head >= self._base_version():
            return self._publish()
        request, key = self._head_request(), names.head_key(self.ns)
        if request is None:
            return self._without_etag()
        if not is_passing(self._write_failure.kind):
            self._write_attempts = 0
            return self._race_lost(key, State.MOVING_HEAD, request)
        delay = self.policy.delay(self._write_failure, self._write_attempts, self.rng)
        if delay is None:
            return self._fail(error_of(self._write_failure, key=key))
        return self._wait(delay, State.MOVING_HEAD, request)

    # --- requests, backoff and the end ------------------------------------------------------------

    def _read(self, version: int) -> ReadManifest:
        return ReadManifest(names.manifest_key(self.ns, version), version)

    def _make(self, state: State, request: Request) -> tuple[Action, ...]:
        self.state, self._request, self._attempts, self._due = state, request, 1, None
        return (request,)

    def _settle(self, state: State) -> None:
        self.state, self._request, self._due = state, None, None

    def _wait(self, delay: float, resume: State, request: Request) -> tuple[Action, ...]:
        self._request, self._resume = request, resume
        self._due = self._now + delay
        self.state = State.BACKING_OFF
        return ()

    def _on_due(self, _: Tick) -> tuple[Action, ...]:
        if self._due is None or self._now < self._due or self._request is None:
            return ()
        self.state, self._due = self._resume, None
        return (self._request,)

    def _on_request_failed(self, event: StoreFailed) -> tuple[Action, ...]:
        """A read or a probe failed: make it again, or give up."""
        assert self._request is not None
        failure, request = event.failure, self._request
        delay = self.policy.delay(failure, self._attempts, self.rng)
        if delay is not None:
            self._attempts += 1
            return self._wait(delay, self.state, request)
        if isinstance(request, WriteProbe):
            if refuses_conditions(failure):
                return self._fail(not_honoured(f"the store answered a conditional PUT so: {failure.detail}"))
            failure = evolve(failure, detail=f"the probe for conditional writes failed: {failure.detail}")
        error = error_of(failure, key=request.key)
        return self._in_doubt(error) if self.state is State.READING_BACK else self._fail(error)

    def _race_lost(self, key: str, resume: State, request: Request) -> tuple[Action, ...]:
        """Somebody else was first: wait a little, so that publishers do not march in step."""
        self._races_lost += 1
        patience = RetryPolicy(
            attempts_max=RACES_MAX,
            backoff_seconds_initial=self.policy.backoff_seconds_initial,
            backoff_seconds_max=self.policy.backoff_seconds_initial * RACE_BACKOFF_GROWTH_MAX,
        )
        busy = StoreFailure(kind=FailureKind.BUSY, detail="other publishers were first")
        delay = patience.delay(busy, self._races_lost, self.rng)
        if delay is None:
            return self._fail(always_late(key, RACES_MAX))
        self._attempts = 1
        return self._wait(delay, resume, request)

    def _on_interrupted(self, _: Interrupted) -> tuple[Action, ...]:
        state = self._resume if self.state is State.BACKING_OFF else self.state
        half_done = self._next is not None and state in COMMITTING
        if self._interrupted or not half_done:
            if self.state not in OVER:
                self._settle(State.BROKEN_OFF)
            return (BrokenOff(self._left_behind(ShuttingDown("interrupted")) if half_done else None),)
        self._interrupted = True
        if self.state is State.BACKING_OFF:
            return ()
        handler, _landings = TRANSITIONS[self.state, StoreFailed]
        lost = StoreFailed(StoreFailure(kind=FailureKind.CUT_SHORT, detail="interrupted"))
        actions: tuple[Action, ...] = getattr(self, handler)(lost)
        return actions

    def _on_check_failed(self, event: CheckFailed) -> tuple[Action, ...]:
        # What was read back may be what we wrote, damaged since.
        return self._in_doubt(event.error) if self.state is State.READING_BACK else self._fail(event.error)

    def _fail(self, error: SeekfsError) -> tuple[Action, ...]:
        self._settle(State.FAILED)
        return (Failed(self._left_behind(error) if self._committed else error),)

    def _left_behind(self, error: SeekfsError) -> SeekfsError:
        """What is to be said of a version of ours that is, or may be, in the bucket without HEAD."""
        if self._committed:
            return without_head(self.ns, self._base_version(), error)
        assert self._next is not None
        return in_doubt(self.ns, self._next.version, error)

    def _base_version(self) -> int:
        return version_of(self._base)
