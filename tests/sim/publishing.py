"""Publishers: the publication's machine between the store and whoever stops it half way."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from attrs import define, field

from seekfs_core import names
from seekfs_core.errors import FailureKind, ManifestInvalid, StoreFailure
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.manifest_format import decode_manifest, pack_manifest
from seekfs_core.publication import Publication
from seekfs_core.publication_protocol import (
    COMMITTING,
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
from seekfs_core.rebase import Change
from seekfs_core.retry import RetryPolicy
from seekfs_core.testing import Timer
from tests.sim.content import entry_of, page_size_of, sha256_of
from tests.sim.store import FAILURES
from tests.sim.tasks import Life, Signal, Steps
from tests.sim.truth import MANIFEST_BYTES_MAX, Intent, TrueFile

if TYPE_CHECKING:
    from tests.sim.world import World

UPLOADS_MAX = 20


@define(eq=False)
class SimPublisher:
    """Publishes one change, unless it dies on the way."""

    world: World
    number: str
    intent: Intent
    life: Life = field(factory=Life)
    name: str = "publisher"
    outcome: Published | Failed | BrokenOff | None = None
    manifest_bytes_max: int = MANIFEST_BYTES_MAX
    interrupt_at: Sequence[int] = ()
    """At which of its steps somebody wants it to end."""
    _steps: int = 0
    _machine: Publication = field(init=False)
    _feed: Callable[[Event, float], tuple[Action, ...]] = field(init=False)
    _packed: bytes = b""
    _alarm: Timer | None = None
    _break_off: Callable[[], object] | None = None
    _asked: int = 0
    """The requests so far; the answer of one that was broken off is nobody's."""

    def __attrs_post_init__(self) -> None:
        rng = random.Random(self.world.chance.below(1 << 30))
        policy = RetryPolicy(
            attempts_max=self.world.chance.choice((1, 2, 4)),
            backoff_seconds_initial=0.05,
            backoff_seconds_max=1.0,
        )
        self._machine = Publication(ns=self.intent.ns, publication_id=self.number, policy=policy, rng=rng)
        self._feed = self.world.watch(self.number, self._machine)

    @property
    def is_over(self) -> bool:
        return self.outcome is not None or not self.life.is_alive

    def begin(self) -> None:
        if 0 in self.interrupt_at:
            self.interrupt()
        if not self.is_over:
            self._tell(Begin(reads_first=self.world.chance.happens(0.3)))

    def _tell(self, event: Event) -> None:
        self._steps += 1
        if self._steps in self.interrupt_at:
            self.world.tasks.soon(self.interrupt, self.world.chance.choice((0.0, 0.001, 0.1)))
        self._take(self._feed(event, self.world.clock.now))

    def _take(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Prepared():
                    if self.world.chance.happens(0.5):
                        self._tell(Prove())
                    else:
                        self.world.tasks.spawn(self.life, self._upload())
                case ConditionsProven():
                    self.world.tasks.spawn(self.life, self._upload())
                case PackManifest(manifest):
                    self._pack(manifest)
                case Published():
                    self._acknowledged(action)
                case Failed(error):
                    self.outcome = action
                    # What is in doubt, and what is there without HEAD, was not refused.
                    is_certain = "not known" not in error.detail and not error.context.get("committed")
                    self.intent.is_refused = is_certain
                case BrokenOff(left):
                    self.outcome = action
                    self.intent.is_refused = left is None
                case _:
                    self._ask(action)
        self._disturb()
        due = self._machine.next_deadline()
        if self._alarm is not None:
            self._alarm.cancel()
        clock = self.world.clock
        self._alarm = None if due is None else clock.call_at(max(due, clock.now), self._ring)

    def _disturb(self) -> None:
        """Ticks come at any time, and so does somebody who wants it to end."""
        if self.world.store.is_healed:
            return
        chance, state = self.world.chance, self._machine.state
        if chance.happens(0.02):
            self.world.tasks.soon(self._ring, 0.001)
        is_late = state is State.BACKING_OFF or state in COMMITTING or state is State.PROBING_AGAIN
        if is_late and "publisher is interrupted" in self.world.options.faults and chance.happens(0.35):
            self.world.tasks.soon(self.interrupt, chance.choice((0.0, 0.01)))

    def _ring(self) -> None:
        if not self.is_over:
            self._tell(Tick())

    def _acknowledged(self, action: Published) -> None:
        self.outcome = action
        self.intent.is_acknowledged = True
        if action.new:
            assert action.manifest is not None
            self.intent.version = action.manifest.version

    def _pack(self, manifest: Manifest) -> None:
        event: Event = Packed()
        try:
            self._packed = pack_manifest(manifest, max_bytes=self.manifest_bytes_max)
        except ManifestInvalid as error:
            event = CheckFailed(error)
        self._asked += 1
        number = self._asked

        def packed() -> None:
            if not self.is_over and number == self._asked:
                self._tell(event)

        self.world.tasks.soon(packed, self.world.chance.choice((0.0, 0.001, 0.1)))

    # --- requests ---------------------------------------------------------------------------

    def _ask(self, request: Request) -> None:
        self._asked += 1
        number = self._asked

        def answer(event: Event) -> None:
            if not self.is_over and number == self._asked:
                self._break_off = None
                self._tell(self._on_the_way(event))

        def written(failure: StoreFailure | None) -> None:
            answer(Written() if failure is None else StoreFailed(failure))

        store = self.world.store
        if self._is_cut_off(0.1):
            kinds = [kind for kind in FAILURES if kind not in ("missing", "changed")]
            failure = FAILURES[self.world.chance.choice(kinds)]
            self.world.tasks.soon(lambda: answer(StoreFailed(failure)), 0.001)
            return
        match request:
            case ReadHead(key):
                self._break_off = store.read(self, key, _nothing, lambda it: answer(self._head(it)))
            case ReadManifest(key, version):
                self._break_off = store.read(
                    self, key, _nothing, lambda it: answer(self._manifest(version, it))
                )
            case WriteProbe(key, if_match):
                self._break_off = store.put(
                    key,
                    PROBE_BODY,
                    len(PROBE_BODY),
                    create_only=if_match is None,
                    if_match=if_match,
                    done=written,
                )
            case WriteManifest(key, _, create_only):
                self._break_off = store.put(
                    key, self._packed, len(self._packed), create_only=create_only, if_match=None, done=written
                )
            case WriteHead(key, body, create_only, if_match):
                self._break_off = store.put(
                    key, body, len(body), create_only=create_only, if_match=if_match, done=written
                )

        def too_long() -> None:
            if not self.is_over and number == self._asked and self._break_off is not None:
                break_off, self._break_off = self._break_off, None
                break_off()
                self._tell(StoreFailed(StoreFailure(kind=FailureKind.TIMED_OUT, detail="no answer")))

        self.world.tasks.soon(too_long, 5.0)

    def _is_cut_off(self, share: float) -> bool:
        world = self.world
        is_possible = "publisher is cut off" in world.options.faults and not world.store.is_healed
        return is_possible and world.chance.happens(share)

    def _on_the_way(self, event: Event) -> Event:
        """An answer that came, and what is heard of it by one who is cut off again and again."""
        chance = self.world.chance
        if not self._is_cut_off(0.2):
            return event
        if isinstance(event, HeadRead) and event.version and chance.happens(0.1):
            return HeadRead(event.version, None)
        if isinstance(event, HeadRead | ManifestRead) and chance.happens(0.3):
            return CheckFailed(ManifestInvalid("not what it should be", ns=self.intent.ns))
        return StoreFailed(StoreFailure(kind=FailureKind.CUT_SHORT, detail="the connection broke"))

    def _head(self, answer: bytes | StoreFailure) -> Event:
        if isinstance(answer, StoreFailure):
            return HeadRead(None, None) if answer.kind is FailureKind.MISSING else StoreFailed(answer)
        key = names.head_key(self.intent.ns)
        try:
            return HeadRead(
                names.parse_head(answer, ns=self.intent.ns), self.world.store.etag_with(key, answer)
            )
        except ManifestInvalid as error:
            return CheckFailed(error)

    def _manifest(self, version: int, answer: bytes | StoreFailure) -> Event:
        if isinstance(answer, StoreFailure):
            if answer.kind is FailureKind.MISSING:
                return ManifestRead(version, None)
            return StoreFailed(answer)
        try:
            manifest = decode_manifest(
                answer, ns=self.intent.ns, version=version, max_bytes=MANIFEST_BYTES_MAX
            )
        except ManifestInvalid as error:
            return CheckFailed(error)
        return ManifestRead(version, manifest)

    # --- uploads ----------------------------------------------------------------------------

    def _upload(self) -> Steps:
        """Every file's content, under the name of its content; then the change is ready."""
        puts = {}
        for path, file in self.intent.puts.items():
            key = names.content_object_key(self.intent.ns, sha256_of(file.content).hex())
            is_there = yield from self._put(key, file)
            if not is_there:
                return  # It gives up, without a word to anybody: as good as dead.
            puts[path] = entry_of(path, file.content, file.size, page_size_of(file.content), key)
        if not self.is_over:
            overwrite = self.world.chance.happens(0.7)
            change = Change(puts=puts, removals=self.intent.removals, overwrite=overwrite, created_at=1)
            self._tell(ChangeReady(change))

    def _put(self, key: str, file: TrueFile) -> Generator[float | Signal, None, bool]:
        for _ in range(UPLOADS_MAX):
            signal, answers = Signal(), list[StoreFailure | None]()

            def done(
                failure: StoreFailure | None,
                signal: Signal = signal,
                answers: list[StoreFailure | None] = answers,
            ) -> None:
                answers.append(failure)
                signal.send()

            self.world.store.put(key, file.content, file.size, create_only=True, if_match=None, done=done)
            self.world.tasks.soon(signal.send, 3.0)
            yield signal
            there = self.world.store.objects.get(key)
            if there is not None and there.value == file.content:
                return True
            yield 0.1
        self.life.is_alive = False
        return False

    # --- the end ----------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Somebody wants it to end; what is under way counts as lost."""
        if not self.life.is_alive:
            return
        if self.outcome is not None:
            self._feed(Interrupted(), self.world.clock.now)  # And it may well be told when it is over.
            return
        self._asked += 1
        break_off, self._break_off = self._break_off, None
        if break_off is not None:
            break_off()
        self._tell(Interrupted())

    def die(self) -> None:
        self.life.is_alive = False
        if self._break_off is not None:
            self._break_off()


def _nothing() -> None:
    """Nobody wants to hear that a piece has come."""
