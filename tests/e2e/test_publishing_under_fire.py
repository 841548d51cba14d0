"""Publishers that are killed, interrupted, not heard, not answered, or many, in front of a real store.

What is tried at each request of a publication is tried at those that a clean one has been seen to make, so
that a request which is added to it is tried as well. Whatever happened, the same must hold
(``tests.support.publications``): versions without gaps, each of them whole, nothing acknowledged lost, HEAD
never back.
"""

from __future__ import annotations

import enum
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import pytest
from attrs import define, evolve, field, frozen

from seekfs_core.names import PROBE_KEY, head_key, manifest_key
from seekfs_core.sending import PART_BYTES_MIN
from seekfs_io import publisher
from seekfs_io.config import Config, load_config
from seekfs_io.devserver import DevServer
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.support.command_line import own_environment, start
from tests.support.daemon import s3_settings, toml_of
from tests.support.dataset import some_bytes
from tests.support.exchanges import Match, Plan
from tests.support.objects import Bystander
from tests.support.passthrough import PassThrough
from tests.support.publications import (
    Files,
    Ignoring,
    Is,
    Namespace,
    RequestName,
    check_head_only_moves_forward,
    check_versions_grow,
    requests_of,
)

COMMAND_SECONDS_MAX = 120.0

SETTINGS: dict[str, object] = {
    "cache.slab_size_mib": 0.25,
    "cache.inflight_mib": 20,  # Room for four parts of the least length: they go side by side.
    "s3.retry_initial_backoff_ms": 1,
    # A budget far away: it is not what these are about.
    "s3.get_budget_per_sec": 5000,
    "s3.get_budget_burst": 1000,
}

SEED: Files = {"kept": b"kept", "changed": b"before"}
OURS: Files = {
    "kept": b"kept",
    "changed": b"after",
    "large": some_bytes(PART_BYTES_MIN + 7, 1),
    "middle": some_bytes(100_000, 2),
    "small": b"small",
}
THEIRS: Files = {"theirs": b"theirs"}


def write(directory: Path, files: Files) -> Path:
    for path, data in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return directory


# --- one publication at a time, in a bucket of its own ---------------------------------------------


@define
class Lane:
    """A bucket of its own behind a pass-through of its own, since there is one probe to a bucket; and the
    sources of publications. Used by one thread at a time."""

    store: ObjectStore
    """Past the pass-through."""
    through: ObjectStore
    config: Config
    config_file: Path
    passthrough: PassThrough
    bystander: Bystander
    ours: Path
    theirs: Path
    seed: Path
    _numbers: Iterator[int] = field(factory=count)

    def trial(self) -> Trial:
        """A namespace that has a version, in a bucket to which nobody has published before."""
        ns = f"ns-{next(self._numbers)}"
        publisher.publish(self.store, self.config, ns, [self.seed])
        self.bystander.delete(PROBE_KEY)
        self.passthrough.forget()
        return Trial(self, ns)


@frozen
class Trial:
    """One publication of ``OURS`` that something happens to, and those after it."""

    lane: Lane
    ns: str

    def publish(self, source: Path) -> publisher.PublishResult:
        return publisher.publish(self.lane.through, self.lane.config, self.ns, [source])

    def start(self) -> subprocess.Popen[bytes]:
        """The same as a process."""
        return start(["publish", self.ns, str(self.lane.ours), "--config", str(self.lane.config_file)])

    def held_at(self, request: RequestName, plan: Plan) -> subprocess.Popen[bytes]:
        """A process that has come to ``request``, and is held there by ``plan``."""
        passthrough = self.lane.passthrough
        passthrough.when(Is(request, self.ns), plan, times=1)
        process = self.start()
        try:
            passthrough.wait_until(
                lambda: process.poll() is not None or any(each.is_held for each in passthrough.exchanges)
            )
            assert process.poll() is None, process.communicate()
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return process

    def conclude(self) -> None:
        """Let another one publish, and ours again; all must be in order then."""
        others = self.publish(self.lane.theirs)
        assert (others.new, others.changed) == (True, 1)
        assert self.publish(self.lane.ours).version == 3
        namespace = Namespace(self.lane.store, self.lane.config, self.ns)
        namespace.audit([SEED, OURS, THEIRS])
        assert check_head_only_moves_forward(self.lane.passthrough.exchanges, self.ns)

    def uploads(self) -> dict[str, str]:
        return self.lane.bystander.uploads(f"namespaces/{self.ns}/")


@pytest.fixture(scope="module")
def lanes(
    seaweed: DevServer, s3_config: S3ConfigFactory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Lane]]:
    """As many as gain time where most of it is that of processes which start."""
    root = tmp_path_factory.mktemp("under-fire")
    ours, theirs, seed = (
        write(root / name, files) for name, files in (("ours", OURS), ("theirs", THEIRS), ("seed", SEED))
    )
    with ExitStack() as ended:
        made = []
        for number in range(3):
            passthrough = ended.enter_context(PassThrough("127.0.0.1", seaweed.s3_port))
            s3 = s3_config(bucket=f"under-fire-{number}", endpoint=passthrough.endpoint)
            config_file = root / f"{number}.toml"
            config_file.write_text(toml_of({**s3_settings(s3), **SETTINGS}))
            config = load_config(str(config_file), environ={})
            through = open_store(config.s3)
            direct = evolve(config.s3, endpoint=seaweed.endpoint)
            store = open_store(direct)
            ended.callback(through.close)
            ended.callback(store.close)
            store.create_bucket()
            made.append(
                Lane(store, through, config, config_file, passthrough, Bystander(direct), ours, theirs, seed)
            )
        yield made


@pytest.fixture(scope="module")
def requests(lanes: list[Lane]) -> list[RequestName]:
    """What a publication of ``OURS`` asks of the store: every kind of request that there is is among it."""
    trial = lanes[0].trial()
    assert trial.publish(lanes[0].ours).version == 2
    names = requests_of(lanes[0].passthrough.exchanges, trial.ns)
    kinds = {(name.method, name.key.partition("/")[0], name.step) for name in names}
    assert kinds == {
        ("GET", "HEAD", ""),
        ("GET", "manifests", ""),
        ("PUT", ".seekfs", ""),
        ("HEAD", "objects", ""),
        ("PUT", "objects", ""),
        ("POST", "objects", "begin"),
        ("PUT", "objects", "part 1"),
        ("PUT", "objects", "part 2"),
        ("POST", "objects", "upload"),
        ("PUT", "manifests", ""),
        ("PUT", "HEAD", ""),
    }
    return names


class Moment(enum.Enum):
    """Of a request, at which something happens to its publisher."""

    BEFORE = "before the store hears it"
    AFTER = "after the store has done it"

    def of(self, requests: list[RequestName]) -> list[RequestName]:
        """Those of which the moment is one of its own: once a read is done, the store is as it was before."""
        if self is Moment.BEFORE:
            return requests
        return [request for request in requests if request.method not in ("GET", "HEAD")]

    def plan(self, gate: threading.Event, *, is_heard: bool) -> Plan:
        """Holds a request there until ``gate`` is set; whether the store hears it then."""
        if self is Moment.BEFORE:
            return Plan(hold_request=gate, drop=None if is_heard else "request")
        return Plan(hold_head=gate)


def at_each(
    requests: list[RequestName], lanes: list[Lane], work: Callable[[Trial, RequestName], object]
) -> None:
    """Do ``work`` for each request, in a namespace of its own, several at a time."""
    idle: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        idle.put(lane)

    def one(request: RequestName) -> None:
        lane = idle.get()
        try:
            work(lane.trial(), request)
        except BaseException as error:
            error.add_note(f"at {request}")
            raise
        finally:
            idle.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(one, request) for request in requests]:
            done.result()


@pytest.mark.parametrize("moment", Moment)
def test_a_publisher_killed_at_any_request_leaves_nothing_that_the_next_one_does_not_mend(
    requests: list[RequestName], lanes: list[Lane], moment: Moment
) -> None:
    def kill(trial: Trial, request: RequestName) -> None:
        gate = threading.Event()
        process = trial.held_at(request, moment.plan(gate, is_heard=False))
        process.kill()
        process.communicate()
        gate.set()
        trial.conclude()

    at_each(moment.of(requests), lanes, kill)


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_publisher_outlives_any_request_and_any_answer_that_is_lost_once(
    requests: list[RequestName], lanes: list[Lane], lost: str
) -> None:
    def lose(trial: Trial, request: RequestName) -> None:
        plan = Plan(drop=lost)  # type: ignore[arg-type]
        trial.lane.passthrough.when(Is(request, trial.ns), plan, times=1)
        result = trial.publish(trial.lane.ours)
        assert (result.version, result.new, result.changed, result.unchanged) == (2, True, 4, 1)
        assert any(each.outcome == "dropped" for each in trial.lane.passthrough.exchanges)
        # An upload of which nobody was told cannot be forgotten by anybody.
        assert len(trial.uploads()) == (1 if (request.step, lost) == ("begin", "answer") else 0)
        trial.conclude()

    at_each(requests, lanes, lose)


@pytest.mark.parametrize("moment", Moment)
def test_a_publisher_interrupted_at_any_request_leaves_no_half_version_and_no_parts(
    requests: list[RequestName], lanes: list[Lane], moment: Moment
) -> None:
    def interrupt(trial: Trial, request: RequestName) -> None:
        gate = threading.Event()
        process = trial.held_at(request, moment.plan(gate, is_heard=True))
        process.send_signal(signal.SIGINT)
        gate.set()
        out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
        assert (process.returncode, out, err) == (130, b"", b"seekfs: interrupted\n")
        assert trial.uploads() == {}
        namespace = Namespace(trial.lane.store, trial.lane.config, trial.ns)
        namespace.audit([SEED, OURS][: len(namespace.versions())])
        trial.conclude()

    at_each(moment.of(requests), lanes, interrupt)


# --- several publishers --------------------------------------------------------------------------


def test_the_later_of_two_changes_of_one_path_fails_and_names_it_and_the_winner(lanes: list[Lane]) -> None:
    """Both looked at the same version, and the other one was quicker to make its own of it."""
    trial, gate = lanes[0].trial(), threading.Event()
    committing = RequestName("PUT", manifest_key(trial.ns, 2).removeprefix(f"namespaces/{trial.ns}/"), "", 0)
    process = trial.held_at(committing, Plan(hold_request=gate))
    winner = {"changed": b"by the winner", "another": b"one"}
    source = write(lanes[0].config_file.parent / "winner", winner)
    assert publisher.publish(lanes[0].store, lanes[0].config, trial.ns, [source]).version == 2
    gate.set()
    out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert (process.returncode, out) == (1, b"")
    assert err.decode() == (
        f"seekfs: changed by somebody else in namespace '{trial.ns}' meanwhile: 'changed' (version 2); "
        "--overwrite replaces them\n"
    )
    namespace = Namespace(lanes[0].store, lanes[0].config, trial.ns)
    namespace.audit([SEED, winner])
    # Begun again, it knows of the winner, and changes what that one has made.
    assert trial.publish(lanes[0].ours).version == 3
    namespace.audit([SEED, winner, OURS])


PUBLISHERS, REPEATS, FILES_EACH = 8, 20, 5

# Runs a command again and again, so that its time is not that of interpreters which start.
PUBLISHER = """
import sys
from pathlib import Path
from seekfs_io.cli.boundary import run
ns, config, directory, number, repeats, files = sys.argv[1:]
sys.stdin.readline()
for repeat in range(int(repeats)):
    source = Path(directory, number, str(repeat))
    source.mkdir(parents=True)
    for each in range(int(files)):
        name = f"{number}-{repeat}-{each}"
        (source / name).write_bytes(name.encode())
    status = run(["publish", ns, str(source), "--json", "--config", config])
    if status:
        sys.exit(status)
"""


def test_8_publisher_processes_at_once_lose_nothing(lanes: list[Lane], tmp_path: Path) -> None:
    lane, ns = lanes[0], "race"
    lane.passthrough.forget()
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", PUBLISHER, ns, str(lane.config_file), str(tmp_path)),
                *(str(number), str(REPEATS), str(FILES_EACH)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=own_environment(),
        )
        for number in range(PUBLISHERS)
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        with ThreadPoolExecutor(PUBLISHERS) as pool:
            ended = list(pool.map(lambda each: each.communicate(timeout=COMMAND_SECONDS_MAX), processes))
    finally:
        for process in processes:
            process.kill()
    assert [(process.returncode, err) for process, (_, err) in zip(processes, ended, strict=True)] == [
        (0, b"")
    ] * PUBLISHERS
    acknowledged: dict[int, Files] = {}
    for number, (out, _) in enumerate(ended):
        for repeat, line in enumerate(out.splitlines()):
            names = [f"{number}-{repeat}-{each}" for each in range(FILES_EACH)]
            told = json.loads(line)
            assert (told["new"], told["changed"], told["uploaded_objects"]) == (True, FILES_EACH, FILES_EACH)
            assert told["version"] not in acknowledged
            acknowledged[told["version"]] = {name: name.encode() for name in names}
    total = PUBLISHERS * REPEATS
    assert sorted(acknowledged) == list(range(1, total + 1))
    versions = Namespace(lane.store, lane.config, ns).audit(acknowledged.values())
    check_versions_grow(versions)
    for manifest in versions:
        assert acknowledged[manifest.version].keys() <= manifest.files.keys()
    assert len(versions[-1].files) == total * FILES_EACH
    check_head_only_moves_forward(lane.passthrough.exchanges, ns)
    # They did meet: somebody was refused because another one had been first.
    commits = lane.passthrough.select("PUT", key_prefix=f"namespaces/{ns}/manifests/")
    assert any(each.status == 412 for each in commits)


# --- a store that ignores conditions ---------------------------------------------------------------


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
def test_a_store_that_ignores_a_condition_is_found_out_before_anything_is_sent(
    lanes: list[Lane], condition: str
) -> None:
    trial = lanes[0].trial()
    lanes[0].passthrough.when(Match(), Plan(change_request=Ignoring(condition, lanes[0].config.s3)))
    process = trial.start()
    out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert (process.returncode, out) == (1, b"")
    assert f"the store ignores {condition} on PUT" in err.decode()
    assert "--single-writer" in err.decode()
    written = {each.key for each in lanes[0].passthrough.exchanges if each.method in ("PUT", "POST")}
    assert written == {PROBE_KEY}
    Namespace(lanes[0].store, lanes[0].config, trial.ns).audit([SEED])
    assert lanes[0].passthrough.select("PUT", head_key(trial.ns)) == []
