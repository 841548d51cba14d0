"""The driver of ``seekfs_core.publication``: carries out its requests, one after the other.

Each request is made once, without ``PatientStore``'s retries: which one is made again, and what a lost
answer means, is the machine's to say.
"""

from __future__ import annotations

import copy
import logging
import secrets
import threading

from attrs import frozen

from seekfs_core.budget import RequestKind
from seekfs_core.creation import Conditions
from seekfs_core.errors import ManifestInvalid, SeekfsError, ShuttingDown, is_absence
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.manifest_format import decode_manifest, pack_manifest
from seekfs_core.names import HEAD_BYTES_MAX, head_key, manifest_key, parse_head
from seekfs_core.publication import Publication
from seekfs_core.publication_protocol import (
    PROBE_BODY,
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
    Milestone,
    Packed,
    PackManifest,
    Prepared,
    Prove,
    Published,
    ReadHead,
    ReadManifest,
    Request,
    StoreFailed,
    WriteHead,
    WriteManifest,
    WriteProbe,
    Written,
)
from seekfs_core.rebase import Change
from seekfs_io.config import Config
from seekfs_io.objects.base import StoreError
from seekfs_io.objects.patient import PatientStore
from seekfs_io.objects.whole import Fetched, fetch_whole

_log = logging.getLogger("seekfs.publishing")


class Publishing:
    """One publication: ``begin``, then ``prove`` before anything is uploaded, then ``publish``."""

    def __init__(
        self,
        patient: PatientStore,
        ns: str,
        *,
        manifest_bytes_max: int,
        single_writer: bool = False,
    ) -> None:
        self._patient = patient
        self._ns = ns
        self._manifest_bytes_max = manifest_bytes_max
        self._machine = Publication(
            ns=ns,
            publication_id=secrets.token_hex(16),
            policy=patient.policy,
            rng=patient.rng,
            conditions=Conditions.of(single_writer=single_writer),
        )
        self._lock = threading.Lock()
        self._proof: SeekfsError | bool = False
        self._packed = b""  # Of the last manifest that was to be packed.

    @property
    def conditions(self) -> Conditions:
        """Under which objects that the version is to have are written."""
        return self._machine.conditions

    def begin(self, *, reads_first: bool = False) -> Manifest | None:
        """The version to build on, or None where nothing was ever published.

        ``reads_first`` is explained at ``Begin``.
        """
        prepared = self._until_milestone(Begin(reads_first))
        assert isinstance(prepared, Prepared)
        return prepared.base

    def prove(self) -> None:
        """Return once it is known that the store honours conditions. Asks once; thread-safe."""
        with self._lock:
            if self._proof is False:
                try:
                    proven = self._until_milestone(Prove())
                except SeekfsError as error:
                    self._proof = error  # What the others that wait here hear as well.
                    raise
                except KeyboardInterrupt:
                    self._proof = ShuttingDown("interrupted")
                    raise
                assert isinstance(proven, ConditionsProven)
                self._proof = True
            if isinstance(self._proof, SeekfsError):
                raise self._proof

    def publish(self, change: Change) -> Published:
        """Make the change. An interruption that comes too late to prevent the version does not
        leave it without HEAD: it is raised when HEAD has been moved."""
        published = self._until_milestone(ChangeReady(change))
        assert isinstance(published, Published)
        return published

    def _until_milestone(self, event: Event) -> Prepared | ConditionsProven | Published:
        """Feed ``event``, and carry out what follows. An interruption is the machine's to judge, and is
        raised when it says that it is over."""
        interruption: KeyboardInterrupt | None = None
        step: Event | Milestone = event
        while True:
            try:
                while not isinstance(step, Milestone):
                    step = self._step(step)
                break
            except KeyboardInterrupt as caught:
                interruption, step = caught, Interrupted()
        match step:
            case Failed(error) if interruption is None:
                raise error
            case Failed(error) | BrokenOff(SeekfsError() as error):
                # Nobody is told the error of what was interrupted.
                _log.warning("%s", error.detail)
        if interruption is not None:
            raise interruption
        assert not isinstance(step, Failed | BrokenOff)
        return step

    def _step(self, event: Event) -> Event | Milestone:
        """What comes of ``event``: the next one, or what was to be reached."""
        actions = self._feed(event)
        if not actions:
            return self._wait()
        (action,) = actions
        return action if isinstance(action, Milestone) else self._carry_out(action)

    def _feed(self, event: Event) -> tuple[Action, ...]:
        """Interrupted at any point of it, the machine is as before, or has taken the event and its
        action is lost; either way it is told so, as of a request that was broken off."""
        machine = copy.copy(self._machine)
        actions = machine.feed(event, self._patient.clock())
        self._machine = machine
        return actions

    def _wait(self) -> Tick:
        due = self._machine.next_deadline()
        assert due is not None
        self._patient.pause(due - self._patient.clock())
        return Tick()

    def _carry_out(self, action: Request | PackManifest) -> Event:
        try:
            match action:
                case ReadHead(key):
                    return self._read_head(key)
                case ReadManifest(key, version):
                    return self._read_manifest(key, version)
                case WriteProbe(key, if_match):
                    self._put(key, PROBE_BODY, create_only=if_match is None, if_match=if_match)
                case PackManifest(manifest):
                    self._packed = pack_manifest(manifest, max_bytes=self._manifest_bytes_max)
                    return Packed()
                case WriteManifest(key, _, create_only):
                    self._put(key, self._packed, create_only=create_only)
                case WriteHead(key, body, create_only, if_match):
                    self._put(key, body, create_only=create_only, if_match=if_match)
        except StoreError as error:
            return StoreFailed(error.failure)
        except ManifestInvalid as error:
            return CheckFailed(error)
        return Written()

    def _read_head(self, key: str) -> Event:
        held = self._fetch(key, HEAD_BYTES_MAX)
        if held is None:
            return HeadRead(None, None)
        return HeadRead(parse_head(held.stored, ns=self._ns), held.etag)

    def _read_manifest(self, key: str, version: int) -> Event:
        held = self._fetch(key, self._manifest_bytes_max)
        if held is None:
            return ManifestRead(version, None)
        manifest = decode_manifest(
            held.stored, ns=self._ns, version=version, max_bytes=self._manifest_bytes_max
        )
        return ManifestRead(version, manifest)

    def _fetch(self, key: str, bytes_max: int) -> Fetched | None:
        """None where there is no such object."""
        try:
            return self._patient.once(
                RequestKind.GET, lambda store: fetch_whole(store, key, bytes_max=bytes_max)
            )
        except StoreError as error:
            if not is_absence(error.failure):
                raise
        return None

    def _put(self, key: str, body: bytes, *, create_only: bool, if_match: str | None = None) -> None:
        self._patient.once(
            RequestKind.WRITE,
            lambda store: store.put(key, body, if_none_match=create_only, if_match=if_match),
        )


def read_head(patient: PatientStore, ns: str) -> int | None:
    """The version that HEAD of a namespace names; None where there is no HEAD."""
    held = patient.fetch(head_key(ns), bytes_max=HEAD_BYTES_MAX)
    return None if held is None else parse_head(held.stored, ns=ns)


def read_manifest(patient: PatientStore, ns: str, version: int, *, bytes_max: int) -> Manifest | None:
    """One version, checked; None where there is no such manifest."""
    held = patient.fetch(manifest_key(ns, version), bytes_max=bytes_max)
    if held is None:
        return None
    return decode_manifest(held.stored, ns=ns, version=version, max_bytes=bytes_max)


@frozen(kw_only=True)
class PublishResult:
    """What came of a publication. ``new`` is False where nothing had to change; ``version`` is the
    current one then (0 if nothing was ever published).

    ``changed`` and ``unchanged`` count the files that were asked for, by what the version has otherwise
    than its base (``seekfs_core.rebase.counts_of``); ``uploaded_bytes`` and ``uploaded_objects`` what was
    sent to the store.
    """

    ns: str
    version: int
    new: bool
    manifest: Manifest | None
    changed: int = 0
    unchanged: int = 0
    uploaded_objects: int = 0
    uploaded_bytes: int = 0


def publishing_of(patient: PatientStore, config: Config, ns: str, single_writer: bool) -> Publishing:
    """A publication of ``ns``, as the configuration says."""
    return Publishing(patient, ns, manifest_bytes_max=config.manifest.max_bytes, single_writer=single_writer)


def result_of(publishing: Publishing, change: Change, ns: str) -> PublishResult:
    """Publish a change for which nothing was uploaded."""
    published = publishing.publish(change)
    return PublishResult(
        ns=ns,
        version=0 if published.manifest is None else published.manifest.version,
        new=published.new,
        manifest=published.manifest,
        changed=published.counts.changed,
        unchanged=published.counts.unchanged,
    )
