"""Each fault of the store, once and for good, at each thing that a daemon asks for (issue row 2).

What a reader gets is the status of the contract's table (docs/SPEC.md, section 4) or the right bytes, and the
store is asked as often as the retries allow and no more. Pages that were verified before are not asked for
again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from attrs import frozen

from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.e2e.http_wire import Answer, get_whole_or_cut
from tests.support.daemon import Daemon, s3_settings
from tests.support.dataset import File, manifest_of, some_bytes, write_manifest
from tests.support.hostile_store import FAULTS, Touches
from tests.support.passthrough import Match, PassThrough, Plan

NS: Final = "store-faults"
PAGE: Final = 64 << 10
DATA: Final = some_bytes(8 * PAGE, 1)
GOOD: Final = 3 * PAGE
"""In the middle of a GET: so many bytes have come and are verified."""

TRIES: Final = 3
"""``s3.retry_max_attempts``, as it is by default."""


@frozen
class Outcome:
    """What a reader gets when a fault does not pass. ``is_passing``: it is asked for again."""

    status: int
    is_passing: bool


PASSES_503 = Outcome(503, is_passing=True)
PASSES_502 = Outcome(502, is_passing=True)
PASSES_504 = Outcome(504, is_passing=True)
STAYS_502 = Outcome(502, is_passing=False)
STAYS_404 = Outcome(404, is_passing=False)
NOTHING = Outcome(200, is_passing=False)

OUTCOMES: Final = {
    "late": NOTHING,
    "closed": PASSES_503,
    "reset": PASSES_503,
    "answer-lost": PASSES_503,
    "reset-in-head": PASSES_503,
    "silent": PASSES_504,
    "no-http": PASSES_503,
    "internal-error": PASSES_503,
    "bad-gateway": PASSES_503,
    "slow-down": PASSES_503,
    "access-denied": STAYS_502,
    "no-such-key": STAYS_502,
    "no-such-bucket": STAYS_502,
    "moved": STAYS_502,
    "short-body": PASSES_502,
    "reset-in-body": PASSES_502,
    "silent-in-body": PASSES_504,
    "wrong-byte": PASSES_502,
    "another-range": PASSES_502,
    "longer-range": PASSES_502,
    "shorter-length": PASSES_502,
    "oversized-range": PASSES_502,
    "no-range": PASSES_502,
    "whole-for-a-range": PASSES_502,
}
"""Of a GET of a file. Of other things the same, but for these:"""

OUTCOMES_ELSEWHERE: Final = {
    ("head", "no-such-key"): STAYS_404,
    ("manifest", "no-such-key"): STAYS_404,
    # Neither has a checksum to tell bytes that were changed on the way from bytes that were written so.
    ("head", "wrong-byte"): STAYS_502,
    ("manifest", "wrong-byte"): STAYS_502,
}

PLACES: Final = {
    "first": Touches.RANGE,  # The first GET of a file.
    "middle": Touches.RANGE,  # A GET some of whose pages have come.
    "object": Touches.ANY,  # HEAD of the object behind /test_head.
    "head": Touches.BODY,  # GET of the namespace's HEAD.
    "manifest": Touches.BODY,
}
"""What is asked for, and the faults that there are for such requests."""

SLOW: Final = {"silent", "silent-in-body", "slow-down"}
"""They take seconds by their nature, and are met at the same time."""

_TOUCHED: Final = {
    Touches.ANY: {Touches.ANY},
    Touches.BODY: {Touches.ANY, Touches.BODY},
    Touches.RANGE: {Touches.ANY, Touches.BODY, Touches.RANGE},
}


@frozen
class Case:
    place: str
    name: str
    is_every_try: bool

    def __str__(self) -> str:
        return f"{self.place}-{self.name}-{'every' if self.is_every_try else 'once'}"

    @property
    def key(self) -> str:
        return f"{NS}/{self}"

    @property
    def outcome(self) -> Outcome:
        return OUTCOMES_ELSEWHERE.get((self.place, self.name), OUTCOMES[self.name])

    @property
    def is_failure(self) -> bool:
        return self.outcome.status != 200 and (self.is_every_try or not self.outcome.is_passing)

    @property
    def tries(self) -> int:
        """Requests from the first one on that meets the fault."""
        if not self.outcome.is_passing:
            return 1
        if self.name == "wrong-byte":
            return 2  # The page alone, once more.
        return TRIES if self.is_every_try else 2


CASES: Final = [
    Case(place, name, is_every_try)
    for place, touches in PLACES.items()
    for name in OUTCOMES
    if FAULTS[name].touches in _TOUCHED[touches]
    for is_every_try in (False, True)
]


@pytest.fixture(scope="module")
def store(module_store: ObjectStore) -> ObjectStore:
    """With one namespace in it that has a file for each case that reads one."""
    files = {str(case): File(DATA, PAGE, key=case.key) for case in CASES}
    write_manifest(module_store, NS, 1, manifest_of(NS, 1, files, {}))
    return module_store


DaemonStarter = Callable[..., Daemon]


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory, s3_config: S3ConfigFactory, front: PassThrough
) -> Iterator[DaemonStarter]:
    """``start(**settings)``: a daemon behind ``front``, ended with the module."""
    with contextlib.ExitStack() as started:

        def start(**settings: object) -> Daemon:
            every = {
                "s3.get_budget_per_sec": 5000,
                "s3.get_budget_burst": 500,
                "s3.retry_initial_backoff_ms": 1,
                # What is known of a name is known to the end of the test.
                "manifest.head_ttl_sec": 3600,
                **{name.replace("__", "."): value for name, value in settings.items()},
            }
            directory = tmp_path_factory.mktemp("store-faults")
            config = s3_settings(s3_config(endpoint=front.endpoint))
            return started.enter_context(Daemon(directory, {**config, **every}))

        yield start


@pytest.fixture(scope="module")
def daemon(start: DaemonStarter, store: ObjectStore) -> Daemon:
    return start()


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in SLOW], ids=str)
def test_a_fault(case: Case, daemon: Daemon, front: PassThrough, store: ObjectStore) -> None:
    check(case, daemon, front, store)


def test_faults_that_take_their_time(start: DaemonStarter, front: PassThrough, store: ObjectStore) -> None:
    """Where the store is silent, and where it asks to be asked later: all of these at once."""
    silent, busy = start(s3__read_timeout_sec=1), start()
    cases = [case for case in CASES if case.name in SLOW]
    with ThreadPoolExecutor(len(cases)) as pool:
        checks = {
            case: pool.submit(check, case, busy if case.name == "slow-down" else silent, front, store)
            for case in cases
        }
    failed = {str(case): check.exception() for case, check in checks.items()}
    assert {case: repr(error) for case, error in failed.items() if error is not None} == {}


def check(case: Case, daemon: Daemon, front: PassThrough, store: ObjectStore) -> None:
    match case.place:
        case "first" | "middle":
            check_file(case, daemon, front, store)
        case "object":
            check_object(case, daemon, front, store)
        case _:
            check_own_object(case, daemon, front, store)


def check_status(case: Case, got: Answer) -> None:
    assert got.status == case.outcome.status, got.body
    assert got.headers["content-type"] == "application/problem+json"
    assert json.loads(got.body)["detail"]
    assert ("retry-after" in got.headers) == (got.status == 503)


def check_file(case: Case, daemon: Daemon, front: PassThrough, store: ObjectStore) -> None:
    store.put(case.key, DATA)
    fault, match = FAULTS[case.name], Match(method="GET", key=case.key)
    good = GOOD if case.place == "middle" else 0
    before = 0
    if good and fault.touches is not Touches.BODY:
        # It meets the GET that asks for the rest.
        front.when(match, Plan(cut_body_at=good), times=1)
        before = 1
    if good and fault.touches is Touches.BODY:
        first = front.when(match, fault.plan(at=good + 5), times=1)
        again = front.when(match, fault.plan(start=good, at=good + 5)) if case.is_every_try else first
    else:
        again = front.when(match, fault.plan(start=good, at=good + 5), None if case.is_every_try else 1)
    target = f"/blob?ns={NS}&path={case}"
    got = get_whole_or_cut(daemon.port, target)
    assert len(front.gets(key=case.key)) == min(before + case.tries, TRIES)
    if not case.is_failure:
        assert (got.status, got.is_whole, got.body == DATA) == (200, True, True)
        return
    if good:
        assert (got.status, got.is_whole, got.body == DATA[:good]) == (200, False, True)
    else:
        check_status(case, got)
    front.lift(again)

    asked = len(front.gets(key=case.key))
    got = get_whole_or_cut(daemon.port, target)
    assert (got.status, got.is_whole, got.body == DATA) == (200, True, True)
    # A wrong page is the only one that is missing; otherwise it is all that had not come.
    missing = (good, good + PAGE if case.name == "wrong-byte" else len(DATA))
    assert [each.range for each in front.gets(key=case.key)[asked:]] == [missing]


def check_object(case: Case, daemon: Daemon, front: PassThrough, store: ObjectStore) -> None:
    store.put(case.key, DATA)
    match = Match(method="HEAD", key=case.key)
    rule = front.when(match, FAULTS[case.name].plan(), None if case.is_every_try else 1)
    target = f"/test_head?ns={NS}&path={case}"
    got = get_whole_or_cut(daemon.port, target)
    assert len(front.select("HEAD", case.key)) == case.tries
    if case.is_failure:
        check_status(case, got)
        if not case.is_every_try:
            return
        front.lift(rule)
        got = get_whole_or_cut(daemon.port, target)
    assert got.status == 200, got.body
    assert json.loads(got.body)["size"] == len(DATA)


def check_own_object(case: Case, daemon: Daemon, front: PassThrough, store: ObjectStore) -> None:
    """HEAD of a namespace that nothing is known of, or its manifest."""
    ns = str(case)
    store.put(case.key, DATA)
    write_manifest(store, ns, 1, manifest_of(ns, 1, {"a": File(DATA, PAGE, key=case.key)}, {}))
    key = f"namespaces/{ns}/HEAD" if case.place == "head" else f"namespaces/{ns}/manifests/v-1.json.gz"
    at = 2 if case.place == "head" else 50
    match = Match(method="GET", key=key)
    front.when(match, FAULTS[case.name].plan(at=at), None if case.is_every_try else 1)
    for _ in range(2):
        got = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=a")
        if case.is_failure:
            check_status(case, got)
        else:
            assert (got.status, got.is_whole, got.body == DATA) == (200, True, True)
            assert got.headers["x-seekfs-version"] == "1"
            assert "x-seekfs-stale" not in got.headers
        # Neither what was found out nor that it was not is asked for twice.
        assert len(front.gets(key=key)) == case.tries
