"""A whole world from one seed: readers, processes, publishers, a store and a disk, and a clock that jumps.

First anything may go wrong (*safety*): every oracle is asked at every step. Then everything heals, and
nothing goes wrong any more (*liveness*): whatever was begun has to come to its end, all memory has to come
back, and every file of every namespace has to be readable.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field

from seekfs_core import names
from seekfs_core.errors import CeilingExceeded, NoSuchVersion, NotFound, SeekfsError
from seekfs_core.lookup import LOOKS_MAX
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.manifest_format import pack_manifest
from seekfs_core.plan import Item, plan_read
from seekfs_core.retention import Refuse
from seekfs_core.segment_layout import SEGMENT_OVERHEAD_BYTES, Shares, record_length
from seekfs_core.testing import Chance, VirtualClock
from tests.sim.content import Piece, entry_of, is_exactly, page_size_of, sha256_of
from tests.sim.disk import SimDisk
from tests.sim.options import PAGE, Options, options_of
from tests.sim.oracles import ROUNDING, Violation
from tests.sim.process import Head, Process
from tests.sim.publishing import SimPublisher
from tests.sim.reach import message_name
from tests.sim.reading import SimRead
from tests.sim.store import Asker, SimStore, Stored, Wire
from tests.sim.tasks import Life, Steps, Tasks
from tests.sim.truth import MANIFEST_BYTES_MAX, Intent, TrueFile, Truth

EVENTS_MAX = 2_000_000
"""A world that has not ended after as many goes round in circles."""

SAFETY_SECONDS_MAX = 3600.0
LOOKS_AT_HEAD_MAX = 10
HEALING_SECONDS = 120.0
"""After this long whoever was told to come back later has done so."""


_EVERYBODY = Life()
"""Who is never killed: clients, and whoever kills."""


class Recorder(Protocol):
    """Hears of every event of every machine (``recording``)."""

    def born(self, name: str, machine: Any) -> None: ...

    def fed(self, machine: Any, now: float, event: Any, actions: tuple[Any, ...]) -> None: ...


@define(eq=False)
class World:
    """See the module's text."""

    options: Options
    recorder: Recorder | None = None
    clock: VirtualClock = field(factory=VirtualClock)
    chance: Chance = field(init=False)
    tasks: Tasks = field(init=False)
    truth: Truth = field(factory=Truth)
    store: SimStore = field(init=False)
    disk: SimDisk = field(init=False)
    processes: list[Process] = field(factory=list)
    publishers: list[SimPublisher] = field(factory=list)
    seen: Counter[str] = field(factory=Counter)
    reads_begun: int = 0
    reads_ended: int = 0
    reads_failed: int = 0
    reads_killed: int = 0
    contents: int = 0
    served: dict[tuple[str, str], int] = field(factory=dict)
    """The highest version that each process has handed out as current, by process and namespace."""
    _is_healed: bool = False
    _born: int = 0
    _feeders: int = 0
    _still_to_publish: int = 0

    def __attrs_post_init__(self) -> None:
        self.chance = Chance(random.Random(self.options.seed))
        self.tasks = Tasks(self.clock, self.chance)
        self.store = SimStore(
            self.clock,
            self.chance,
            self.options,
            began=self._request_began,
            page_came=self._page_came,
            ended=self._request_ended,
            answered=self._answered,
            applied=self._applied,
        )
        self.disk = SimDisk(self.clock, self.chance, self.options, _shares_of(self.options))

    @property
    def looks_max(self) -> int:
        """How often a read looks for a page that leaves as fast as it comes."""
        return LOOKS_MAX if self._is_healed else self.options.looks_max

    @property
    def wait_seconds_max(self) -> float:
        """How long a read may wait; when all is well, for as long as its turn takes."""
        return float("inf") if self._is_healed else self.options.wait_seconds_max

    def watch(self, name: str, machine: Any) -> Callable[[Any, float], Any]:
        """What to call in place of the machine's ``feed``."""
        feed, seen, recorder = machine.feed, self.seen, self.recorder
        if recorder is not None:
            recorder.born(name, machine)

        def watched(event: Any, now: float) -> Any:
            actions = feed(event, now)
            seen[message_name(event.__class__)] += 1
            for action in actions:
                seen[message_name(action.__class__)] += 1
                if action.__class__ is Refuse:
                    seen[f"page refused: {action.reason.name}"] += 1
            if recorder is not None:
                recorder.fed(machine, now, event, actions)
            return actions

        return watched

    # --- what the store tells ---------------------------------------------------------------

    def _request_began(self, asker: Asker, key: str, wire: Wire | None) -> None:
        if isinstance(asker, Process):
            wired = None
            if wire is not None:
                wired = (wire.number, key, wire.cuts[0][1], wire.cuts[-1][2], wire.hedge_of)
            asker.oracle.request_began(self.clock.now, key.split("/")[1], wired)

    def _page_came(self, wire: Wire, stop: int) -> None:
        if isinstance(wire.asker, Process):
            wire.asker.oracle.page_came(wire.number, stop)

    def _answered(self, asker: Asker, key: str, answer: bytes) -> None:
        """Heads and whole manifests that a process was told."""
        if not isinstance(asker, Process):
            return
        ns, kind = key.split("/")[1:3]
        if kind == "manifests":
            if self.store.objects[key].value == answer:
                version = int(key.rpartition("v-")[2].split(".")[0])
                asker.told.manifests.setdefault((ns, version), self.clock.now)
        else:
            asker.told.heads[ns] = Head(names.parse_head(answer, ns=ns), self.clock.now)

    def _request_ended(self, asker: Asker, wire: Wire | None) -> None:
        if isinstance(asker, Process):
            asker.oracle.request_ended(None if wire is None else wire.number)

    def _applied(self, key: str, there: Stored | None, stored: Stored) -> None:
        self.truth.applied(key, there, stored, self.clock.now)

    # --- the run ----------------------------------------------------------------------------

    def run(self) -> None:
        """Safety, then liveness. Raises ``Violation``, or whatever a machine raises."""
        options = self.options
        for index in range(options.namespaces):
            if index or options.first_version == 1:
                self._publish_at_first(f"ns{index}")
            else:
                self._begin_with_history("ns0", options.first_version)
        for _ in range(options.processes):
            self._start_process()
        for _ in range(options.readers):
            self._feeders += 1
            self.tasks.spawn(_EVERYBODY, self._client())
        self._still_to_publish = options.publications
        for _ in range(options.publishers):
            self.tasks.spawn(_EVERYBODY, self._publishing())
        if "killed" in options.faults or "closed" in options.faults:
            self.tasks.spawn(_EVERYBODY, self._killing())
        self._go_on(lambda: self._feeders == 0, SAFETY_SECONDS_MAX)
        self._heal()
        self._check_end()

    def _go_on(self, is_done: Callable[[], bool], seconds: float) -> None:
        until = self.clock.now + seconds
        for _ in range(EVENTS_MAX):
            due = self.clock.next_at()
            if is_done():
                return
            if due is None or due > until:
                raise Violation(f"somebody waits for ever: {self._waiting()}")
            self.clock.run_next()
        raise Violation(f"this goes round in circles: {self._waiting()}")

    def _waiting(self) -> str:
        reads = {process.name: process.reads_open for process in self.processes if process.life.is_alive}
        return f"{self._feeders} clients, open reads {reads}, {self.clock.now:.3f} s"

    def _heal(self) -> None:
        self._is_healed = True
        self.store.heal()
        self.disk.heal()
        for process in self.processes:
            process.is_closing |= not process.life.is_alive
        self.clock.run_until(self.clock.now + HEALING_SECONDS)
        if all(process.is_closing for process in self.processes):
            self._start_process()
        for process in self._living():
            self._feeders += 1
            self.tasks.spawn(_EVERYBODY, self._read_everything(process))
        self._go_on(lambda: self._feeders == 0, SAFETY_SECONDS_MAX)
        self.clock.run_until(self.clock.now + HEALING_SECONDS)

    def _check_end(self) -> None:
        for process in self._living():
            process.check_idle()
            process.check_well()
        if self.reads_begun != self.reads_ended + self.reads_killed:
            raise Violation(f"{self.reads_begun} reads began, {self.reads_ended} ended")
        for publisher in self.publishers:
            if not publisher.is_over:
                raise Violation(f"{publisher.number} does not come to its end")
        self.truth.check_acknowledged()
        if self.options.is_calm and self.reads_failed:
            raise Violation(f"{self.reads_failed} reads failed, and nothing was wrong")

    def _living(self) -> list[Process]:
        return [each for each in self.processes if each.life.is_alive and not each.is_closing]

    # --- processes --------------------------------------------------------------------------

    def _start_process(self, after: Process | None = None) -> Process:
        """``after``: in the place of this one, so that what both ask of the store is asked by one node."""
        self._born += 1
        process = Process(self, f"process {self._born}")
        if after is not None:
            process.oracle.go_on_after(after.oracle)
        self.processes.append(process)
        return process

    def _killing(self) -> Steps:
        while True:
            yield self.chance.exponential(self.options.kill_seconds)
            living = self._living()
            if self._is_healed or not living:
                return
            process = self.chance.choice(living)
            if "killed" in self.options.faults and self.chance.happens(0.7):
                self.seen["killed"] += 1
                self.reads_killed += process.reads_open
                process.kill()
            elif "closed" in self.options.faults:
                self.seen["closed"] += 1
                process.close()
            yield self.chance.choice((0.0, 0.5))
            # One that still finishes its reads is a node of its own beside the new one.
            self._start_process(None if process.life.is_alive else process)

    # --- publishers -------------------------------------------------------------------------

    def _new_file(self) -> TrueFile:
        self.contents += 1
        whole = self.chance.below(self.options.pages_max) * PAGE
        return TrueFile(self.contents, whole + self.chance.choice((0, 1, PAGE, self.chance.below(PAGE))))

    def _intent(self, ns: str) -> tuple[str, Intent]:
        paths = [f"f{index}" for index in range(self.options.files_max)]
        chosen = self.chance.sample(paths, 1 + self.chance.below(len(paths)))
        newest = self.truth.newest(ns)
        if newest and self.chance.happens(0.15 if self.truth.first(ns) == 1 else 0.3):
            return self._intent_of_nothing_new(ns, newest)
        removals = () if len(chosen) == 1 or not self.chance.happens(0.2) else (chosen.pop(),)
        number = f"publication-{len(self.truth.intents) + 1}"
        intent = self.truth.intents[number] = Intent(
            ns, {path: self._new_file() for path in sorted(chosen)}, removals
        )
        return number, intent

    def _intent_of_nothing_new(self, ns: str, version: int) -> tuple[str, Intent]:
        """To publish what is there already, some of it or all."""
        there = self.truth.files(ns, version)
        chosen = self.chance.sample(sorted(there), self.chance.below(len(there) + 1))
        number = f"publication-{len(self.truth.intents) + 1}"
        intent = self.truth.intents[number] = Intent(ns, {path: there[path] for path in sorted(chosen)}, ())
        return number, intent

    def _begin_with_history(self, ns: str, version: int) -> None:
        """Somebody has published there for long, and may have died before HEAD named the latest version."""
        self.truth.first_versions[ns] = version
        files: dict[str, TrueFile] = {}
        entries: dict[str, FileEntry] = {}
        for number_of, named in ((version, True), (version + 1, False)):
            if number_of > names.VERSION_MAX or not (named or self.chance.happens(0.5)):
                continue
            number, intent = self._intent(ns)
            paths = [f"f{index}" for index in range(self.options.files_max)] if named else list(intent.puts)
            intent.puts = {path: self._new_file() for path in paths}
            intent.removals = ()
            files |= intent.puts
            for path, file in intent.puts.items():
                key = names.content_object_key(ns, sha256_of(file.content).hex())
                self.store.begin_with(key, file.content, file.size)
                entries[path] = entry_of(path, file.content, file.size, page_size_of(file.content), key)
            manifest = Manifest(
                ns=ns,
                version=number_of,
                files=dict(entries),
                created_at=1,
                parents=() if named else (version,),
                tombstones=(),
                publication_id=number,
            )
            packed = pack_manifest(manifest, max_bytes=MANIFEST_BYTES_MAX)
            self.store.begin_with(names.manifest_key(ns, number_of), packed, len(packed))
            if named:
                body = names.format_head(version)
                self.store.begin_with(names.head_key(ns), body, len(body))

    def _publish_at_first(self, ns: str) -> None:
        """Version 1, before anything goes wrong."""
        number, intent = self._intent(ns)
        paths = [f"f{index}" for index in range(self.options.files_max)]
        intent.puts.update({path: self._new_file() for path in paths if path not in intent.puts})
        intent.removals = ()
        publisher = SimPublisher(self, number, intent)
        self.store.is_healed = True
        publisher.begin()
        self._go_on(lambda: publisher.is_over, 100.0)
        self.store.is_healed = False

    def _publishing(self) -> Steps:
        faults = self.options.faults
        while self._still_to_publish > 0 and self._feeders:
            self._still_to_publish -= 1
            if self.chance.happens(0.3):
                self.store.objects.pop(names.PROBE_KEY, None)  # Somebody has tidied up.
            yield self.chance.exponential(self.options.publication_seconds)
            number, intent = self._intent(f"ns{self.chance.below(self.options.namespaces)}")
            publisher = SimPublisher(self, number, intent)
            self.publishers.append(publisher)
            if self.chance.happens(0.02):
                publisher.manifest_bytes_max = 10  # No reader would take it.
            if "publisher is interrupted" in faults:
                publisher.interrupt_at = self.chance.sample(range(16), self.chance.below(4))
            publisher.begin()
            if "publisher dies" in faults and self.chance.happens(0.3):
                self.tasks.soon(publisher.die, self.chance.exponential(0.3))
            while not publisher.is_over:
                yield 0.05

    # --- clients ----------------------------------------------------------------------------

    def _client(self) -> Steps:
        """One that reads again and again, until as many reads as there are to be have begun."""
        while self.reads_begun < self.options.reads:
            yield self.options.pause_seconds and self.chance.exponential(self.options.pause_seconds)
            living = self._living()
            if not living:
                yield 0.5
                continue
            process = self.chance.choice(living)
            done = _Done()
            if self.chance.happens(0.02):
                self._ask_for_nothing(process)
            self._begin_read(process, done)
            while not done.is_over and process.life.is_alive:
                yield 0.01 if done.looks < 100 else 0.2
                done.looks += 1
        self._feeders -= 1

    def _ask_for_nothing(self, process: Process) -> None:
        """A request of another kind, of which nobody wants the answer any more, sooner or later."""
        ns = f"ns{self.chance.below(self.options.namespaces)}"
        cancel = process.fetcher.call(f"namespaces/{ns}/nothing", ns, lambda _: None, lambda _: None)
        process.soon(cancel, self.chance.choice((0.0, 0.01, 1.0)))

    def _begin_read(self, process: Process, done: _Done) -> None:
        self.reads_begun += 1
        process.reads_open += 1
        process.spawn(self._read(process, done))

    def _read(self, process: Process, done: _Done) -> Steps:
        """One read from beginning to end, with everything compared."""
        ns = f"ns{self.chance.below(self.options.namespaces)}"
        version: int | None = None
        if self.chance.happens(0.2):
            first = self.truth.first(ns)
            version = first + self.chance.below(self.truth.newest(ns) - first + 2)
            version = min(version, names.VERSION_MAX)
        began = self.clock.now
        try:
            manifest, stale = yield from process.resolving.resolve(ns, version)
            self._check_version(process, ns, version, manifest.version, stale, began)
            files = self.truth.files(ns, manifest.version)
            items = self._items({path: file.size for path, file in files.items()})
            plan = plan_read(manifest, items, clip=False)
            yield from self._read_items(process, SimRead, plan, items, files)
        except NoSuchVersion as error:
            self._no_such_version(process, ns, version, began, error)
        except SeekfsError as error:
            self._failed(error)
        self._ended(process, done)

    def _read_items(
        self, process: Process, make: type[SimRead], plan: Any, items: list[Item], files: Any
    ) -> Steps:
        pieces: list[tuple[Piece, int, int]] = []
        is_slow = "slow client" in self.options.faults and self.chance.happens(0.1)
        leaves_after = 0
        if "leaves" in self.options.faults and self.chance.happens(0.2):
            leaves_after = 1 + self.chance.below(6)
        read = make(
            process,
            plan,
            lambda _, piece, start, stop: pieces.append((piece, start, stop)),
            lambda: self.chance.exponential(2.0) if is_slow else 0.0,
        )
        for index, (path, off, length) in enumerate(items):
            pieces.clear()
            if index in plan.errors:
                if path in files and off + length <= files[path].size:
                    raise Violation(f"{path} is not to be had: {plan.errors[index]}")
                continue
            try:
                for steps in read.item(index, (path, off, length)):
                    yield steps
                    leaves_after -= isinstance(steps, float)
                    if leaves_after == 0 and pieces:
                        self.seen["client left"] += 1
                        read.close()
                        return
            except CeilingExceeded as error:
                file = plan.manifest.files[path]
                if min(file.page_size_bytes, file.size) <= self.options.room_bytes_max:
                    raise Violation(f"{path} has pages that fit: {error}") from error
                self.seen["read failed: CeilingExceeded"] += 1
                continue
            except SeekfsError as error:
                self._failed(error)
                continue
            got = [Piece(p.content, p.start + start, p.start + stop, p.damage) for p, start, stop in pieces]
            if items and self.chance.happens(0.05):
                read.offer_current()
            if not is_exactly(got, files[path].content, off, off + length):
                raise Violation(f"{path} [{off}, {off + length}) came as {got}, not {files[path]}")
        read.close()

    def _no_such_version(
        self, process: Process, ns: str, version: int | None, began: float, error: NoSuchVersion
    ) -> None:
        """It is above HEAD as that was known, or somebody takes away what was there."""
        if "missing" not in self.options.faults:
            head = self._head_told(process, ns, began, f"{error}")
            if version is None or self.truth.first(ns) <= version <= head.version:
                raise Violation(f"there is a version {version} of {ns!r}") from error
        self.seen["read failed: NoSuchVersion"] += 1

    def _failed(self, error: SeekfsError) -> None:
        if isinstance(error, NotFound) and not self.options.faults & {"missing", "wrong names"}:
            raise Violation(f"something is there that was not found: {error}") from error
        self.reads_failed += 1
        self.seen[f"read failed: {type(error).__name__}"] += 1
        if self._is_healed:
            raise Violation(f"a read failed when all was well: {error}") from error

    def _ended(self, process: Process, done: _Done) -> None:
        if done.is_over:
            raise Violation("a read ended twice")
        done.is_over = True
        self.reads_ended += 1
        process.reads_open -= 1

    def _items(self, sizes: dict[str, int]) -> list[Item]:
        items = []
        for _ in range(self.chance.choice((1, 1, 1, 2, 4))):
            path = self.chance.choice(sorted(sizes)) if sizes else "f0"
            size = sizes.get(path, 0)
            if "wrong names" in self.options.faults and self.chance.happens(0.1):
                path, size = self.chance.choice(("nothing", path)), size + 10
            off = self.chance.below(size + 1) if self.chance.happens(0.5) else 0
            length = (
                self.chance.below(min(size - off, 2 * PAGE) + 1) if self.chance.happens(0.7) else size - off
            )
            items.append((path, off, length))
        return items

    def _check_version(
        self, process: Process, ns: str, wanted: int | None, got: int, stale: bool, began: float
    ) -> None:
        """A version stays put, is one that HEAD came to, and the current one never goes back."""
        is_pinned = self.options.is_pinned and ns == "ns0"
        if wanted is not None or is_pinned:
            if got != (wanted if wanted is not None else self.truth.first(ns)):
                raise Violation(f"version {got} of {ns!r} in place of {wanted}")
            if wanted is not None and got > self.truth.newest(ns):
                raise Violation(f"version {got} of {ns!r}, which HEAD never named")
            return
        if got > self.truth.newest(ns):
            raise Violation(f"version {got} of {ns!r}, and HEAD is at {self.truth.newest(ns)}")
        if got < self.served.get((process.name, ns), 0):
            raise Violation(f"the current version of {ns!r} went back to {got}")
        self.served[process.name, ns] = got
        if process.has_disk and got < self.remembered(process, ns):
            raise Violation(f"the current version of {ns!r} went back over a restart to {got}")
        if not stale:
            self._check_fresh(process, ns, got, began)

    def remembered(self, process: Process, ns: str) -> int:
        """Which version this process found on the disk as the newest seen."""
        return process.found_heads.get(ns, 0)

    def _head_told(self, process: Process, ns: str, began: float, what: str) -> Head:
        """What HEAD said, which has to have been read lately: ``what`` follows from it."""
        head = process.told.heads.get(ns)
        if head is None or head.at < began - self.options.head_ttl_seconds - ROUNDING:
            raise Violation(f"{what}, and HEAD was not read")
        return head

    def _check_fresh(self, process: Process, ns: str, got: int, began: float) -> None:
        """Who is not told that a version may be stale gets what HEAD named when it was last asked, unless the
        process had no manifest of that."""
        head = self._head_told(process, ns, began, f"version {got} of {ns!r} is not marked")
        since = process.told.manifests.get((ns, head.version))
        if got < head.version and since is not None and since < began:
            raise Violation(f"version {got} of {ns!r} is older than it may be")

    def _read_everything(self, process: Process) -> Steps:
        """Every file of every namespace, when all is well again."""
        for index in range(self.options.namespaces):
            ns = f"ns{index}"
            self.reads_begun += 1
            process.reads_open += 1
            newest = self.truth.newest(ns)
            if self.options.is_pinned and index == 0:
                newest = self.truth.first(ns)
            manifest, _ = yield from process.resolving.resolve(ns, None)
            for _ in range(LOOKS_AT_HEAD_MAX):
                if manifest.version == newest:
                    break
                yield 1.0  # What was last seen answered at once, and HEAD is being read.
                manifest, _ = yield from process.resolving.resolve(ns, None)
            else:
                raise Violation(f"version {manifest.version} of {ns!r} when all is well")
            files = self.truth.files(ns, manifest.version)
            items = [(path, 0, file.size) for path, file in sorted(files.items())]
            plan = plan_read(manifest, items, clip=False)
            yield from self._read_items(process, SimRead, plan, items, files)
            self._ended(process, _Done())
        self._feeders -= 1


@define(eq=False)
class _Done:
    is_over: bool = False
    looks: int = 0


def _shares_of(options: Options) -> Shares:
    """A disk that holds a few segments of a few pages."""
    record = record_length(PAGE)
    segment = options.segment_pages * record
    reserved = 3000
    return Shares(
        ceiling_bytes=reserved + options.segments * (2 * segment + SEGMENT_OVERHEAD_BYTES),
        index_bytes=1000,
        shelf_bytes=1000,
        fixed_bytes=1000,
        segment_length_max=segment,
        entries_max=options.entries_max,
    )


def simulate(seed: int, recorder: Recorder | None = None) -> World:
    """One world, from its beginning to its end."""
    world = World(options_of(seed), recorder)
    world.run()
    return world
