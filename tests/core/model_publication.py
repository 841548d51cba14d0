"""A bucket that loses answers, and publishers that meet in it.

The bucket is a dictionary that honours conditions. A publisher here is the machine and the one
request that it has under way; a *fate* says what becomes of a request. After a run the chain
of versions is recomputed by a model that knows nothing of the machine (``check_chain``): nothing
acknowledged may be missing, nothing may be there twice, nothing that failed for certain may be
there at all.
"""

from __future__ import annotations

import enum
import itertools
import random
from collections.abc import Iterator

from attrs import define, field

from seekfs_core import names
from seekfs_core.creation import Conditions
from seekfs_core.errors import (
    FailureKind,
    ManifestInvalid,
    SeekfsError,
    StoreFailure,
)
from seekfs_core.machine import Tick
from seekfs_core.manifest import FileEntry, Manifest, pack_crcs
from seekfs_core.publication import Publication
from seekfs_core.publication_protocol import (
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
    StoreFailed,
    WriteHead,
    WriteManifest,
    WriteProbe,
    Written,
)
from seekfs_core.rebase import Change, Counts
from seekfs_core.retry import RetryPolicy

NS = "dev"
PACKED = Packed()
POLICY = RetryPolicy(attempts_max=3, backoff_seconds_initial=0.1)


def entry(path: str, content: int, key: str = "") -> FileEntry:
    return FileEntry(
        path=path,
        size=1,
        sha256=bytes([content]) * 32,
        page_size_bytes=1,
        crcs=pack_crcs([content]),
        storage_key=key or f"namespaces/dev/objects/{content}",
    )


def change(*puts: tuple[str, int], rm: tuple[str, ...] = (), overwrite: bool = False) -> Change:
    files = {path: entry(path, content) for path, content in puts}
    return Change(puts=files, removals=rm, overwrite=overwrite, created_at=1)


def published(manifest: Manifest | None, *, changed: int = 0, unchanged: int = 0) -> Published:
    """A version is made where something has changed, and only there."""
    return Published(manifest, new=changed > 0, counts=Counts(changed=changed, unchanged=unchanged))


def failed(kind: FailureKind) -> StoreFailed:
    return StoreFailed(StoreFailure(kind=kind, detail=f"the store was {kind.value}"))


class Fate(enum.Enum):
    FINE = "fine"
    LOST = "done, and the answer lost"
    NEVER_ARRIVED = "never arrived"
    LATE = "no answer, and done later"
    BUSY = "503"


@define
class Bucket:
    """Objects by key. ``puts`` counts the writes that were carried out, by key."""

    objects: dict[str, tuple[object, str]] = field(factory=dict)
    late: list[Request] = field(factory=list)
    puts: dict[str, int] = field(factory=dict)
    ignores_none_match: bool = False
    ignores_match: bool = False
    refuses_conditions: bool = False
    refuses_match: bool = False
    without_etags: bool = False

    def serve(self, request: Request) -> Event:
        match request:
            case ReadHead(key):
                body, etag = self.objects.get(key, (None, None))
                if body is None:
                    return HeadRead(None, None)
                assert isinstance(body, bytes)
                return HeadRead(names.parse_head(body, ns=NS), None if self.without_etags else etag)
            case ReadManifest(key, version):
                found = self.objects.get(key)
                if found is None:
                    return ManifestRead(version, None)
                if isinstance(found[0], ManifestInvalid):
                    return CheckFailed(found[0])
                assert isinstance(found[0], Manifest)
                return ManifestRead(version, found[0])
            case WriteProbe(key, if_match):
                return self._put(key, b"probe", create_only=if_match is None, if_match=if_match)
            case WriteManifest(key, manifest, create_only):
                return self._put(key, manifest, create_only=create_only, if_match=None)
            case WriteHead(key, body, create_only, if_match):
                return self._put(key, body, create_only=create_only, if_match=if_match)

    def _put(self, key: str, value: object, *, create_only: bool, if_match: str | None) -> Event:
        is_refused = (create_only and self.refuses_conditions) or (
            if_match is not None and (self.refuses_conditions or self.refuses_match)
        )
        if is_refused:
            failure = StoreFailure(kind=FailureKind.BAD_ANSWER, detail="501 NotImplemented", status=501)
            return StoreFailed(failure)
        there = self.objects.get(key)
        if create_only and there is not None and not self.ignores_none_match:
            return failed(FailureKind.PRECONDITION)
        if if_match is not None and not self.ignores_match:
            if there is None:
                return failed(FailureKind.MISSING)
            if there[1] != if_match:
                return failed(FailureKind.PRECONDITION)
        if key == names.head_key(NS) and there is not None:
            assert isinstance(value, bytes)
            assert isinstance(there[0], bytes)
            assert names.parse_head(value, ns=NS) > names.parse_head(there[0], ns=NS), "HEAD moved back"
        self.puts[key] = self.puts.get(key, 0) + 1
        self.objects[key] = (value, f'"{hash(value) if isinstance(value, bytes) else id(value)}"')
        return Written()

    def deliver_late(self) -> None:
        for request in self.late:
            self.serve(request)
        self.late.clear()

    def head(self) -> int:
        body = self.objects.get(names.head_key(NS), (b"0", ""))[0]
        assert isinstance(body, bytes)
        return names.parse_head(body, ns=NS) if body != b"0" else 0

    def chain(self) -> list[Manifest]:
        """v-1, v-2, ... as long as they are there."""
        versions: list[Manifest] = []
        for n in itertools.count(1):
            found = self.objects.get(names.manifest_key(NS, n))
            if found is None:
                return versions
            assert isinstance(found[0], Manifest)
            versions.append(found[0])
        raise AssertionError


@define
class Publisher:
    """The machine, what it publishes, and its request under way."""

    bucket: Bucket
    id: str
    change: Change
    prove_first: bool = False
    single_writer: bool = False
    machine: Publication = field(init=False)
    request: Request | None = field(default=None, init=False)
    asked: list[Request] = field(factory=list, init=False)
    now: float = 0.0
    outcome: Published | Failed | BrokenOff | None = field(default=None, init=False)
    interruptions: int = field(default=0, init=False)
    packing: Event = PACKED
    reads_first: bool = False
    dead: bool = False

    def __attrs_post_init__(self) -> None:
        self.machine = Publication(
            ns=NS,
            publication_id=self.id,
            policy=POLICY,
            rng=random.Random(7),
            conditions=Conditions.of(single_writer=self.single_writer),
        )
        self._take(self.machine.feed(Begin(self.reads_first), self.now))

    def _take(self, actions: tuple[Action, ...]) -> None:
        self.request = None
        for action in actions:
            match action:
                case Prepared():
                    event: Event = Prove() if self.prove_first else ChangeReady(self.change)
                    self._take(self.machine.feed(event, self.now))
                case ConditionsProven():
                    self._take(self.machine.feed(ChangeReady(self.change), self.now))
                case PackManifest():
                    self._take(self.machine.feed(self.packing, self.now))
                case Published() | Failed() | BrokenOff():
                    self.outcome = action
                case _:
                    assert self.request is None, "two requests at once"
                    self.request = action
                    self.asked.append(action)

    @property
    def over(self) -> bool:
        return self.dead or self.outcome is not None

    def step(self, fate: Fate = Fate.FINE) -> None:
        """One request, or one wait."""
        if self.request is None:
            due = self.machine.next_deadline()
            assert due is not None, f"stuck: {self.machine.state}"
            self.now = max(self.now, due)
            self._take(self.machine.feed(Tick(), self.now))
            return
        request = self.request
        event: Event
        match fate:
            case Fate.FINE:
                event = self.bucket.serve(request)
            case Fate.LOST:
                self.bucket.serve(request)
                event = failed(FailureKind.TIMED_OUT)
            case Fate.NEVER_ARRIVED:
                event = failed(FailureKind.UNREACHABLE)
            case Fate.LATE:
                if not isinstance(request, ReadHead | ReadManifest):
                    self.bucket.late.append(request)
                event = failed(FailureKind.TIMED_OUT)
            case Fate.BUSY:
                event = failed(FailureKind.BUSY)
        self._take(self.machine.feed(event, self.now))

    def interrupt(self, *, applied: bool) -> None:
        """Break off the request under way, which the bucket may have heard of."""
        if self.request is not None and applied:
            self.bucket.serve(self.request)
        self.interruptions += 1
        self._take(self.machine.feed(Interrupted(), self.now))

    def run(self, fates: Iterator[Fate] | None = None) -> Published | Failed | BrokenOff:
        for _ in range(2000):
            if self.outcome is not None:
                return self.outcome
            self.step(next(fates, Fate.FINE) if fates and self.request else Fate.FINE)
        raise AssertionError("a publication that does not end")

    def published(self) -> Manifest:
        outcome = self.run()
        assert isinstance(outcome, Published), outcome
        assert outcome.manifest is not None
        return outcome.manifest

    def error(self) -> SeekfsError:
        outcome = self.run()
        assert isinstance(outcome, Failed), outcome
        return outcome.error


_ids = itertools.count()


def publish(bucket: Bucket, *puts: tuple[str, int], rm: tuple[str, ...] = ()) -> Manifest:
    return Publisher(bucket, f"p{next(_ids)}", change(*puts, rm=rm)).published()


def contents(manifest: Manifest) -> dict[str, int]:
    return {path: file.sha256[0] for path, file in manifest.files.items()}


def certain(error: SeekfsError) -> bool:
    """Whether the error says for certain that nothing was published."""
    return "not known" not in error.detail and not error.context.get("committed")


def check_chain(bucket: Bucket, publishers: list[Publisher]) -> None:
    """The model: each version is the one before with its publisher's change made to it."""
    chain = bucket.chain()
    by_id = {p.id: p for p in publishers}
    assert [m.version for m in chain] == list(range(1, len(chain) + 1))
    assert bucket.head() <= len(chain)
    for key, times in bucket.puts.items():
        assert "/manifests/" not in key or times == 1, "a manifest was overwritten"
    seen: set[str] = set()
    before: dict[str, int] = {}
    for manifest in chain:
        assert manifest.publication_id not in seen, "published twice"
        seen.add(manifest.publication_id)
        assert manifest.parents == ((manifest.version - 1,) if manifest.version > 1 else ())
        if manifest.publication_id in by_id:
            mine = by_id[manifest.publication_id].change
            after = {} if mine.exact else {p: c for p, c in before.items() if p not in mine.removals}
            after.update({path: file.sha256[0] for path, file in mine.puts.items()})
            assert contents(manifest) == after, "another's change was lost"
            outcome = by_id[manifest.publication_id].outcome
            if isinstance(outcome, Published):
                changed = sum(before.get(path) != after.get(path) for path in before.keys() | after.keys())
                assert outcome.counts.changed == changed, "counted wrongly"
        assert set(manifest.tombstones) == set(before) - set(contents(manifest))
        before = contents(manifest)
    for publisher in publishers:
        if isinstance(publisher.outcome, Published) and publisher.outcome.new:
            assert publisher.id in seen, "acknowledged and lost"
            assert publisher.outcome.manifest is not None
            assert bucket.head() >= publisher.outcome.manifest.version
        if isinstance(publisher.outcome, Failed) and certain(publisher.outcome.error):
            assert publisher.id not in seen, "said to have failed, and published"
        if isinstance(publisher.outcome, BrokenOff) and publisher.interruptions == 1:
            assert publisher.id not in seen, "broken off, and published"
