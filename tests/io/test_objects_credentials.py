"""The AWS credential chain: credentials are found, renewed while running, and waited for no longer than
needed."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seekfs_core.errors import FailureKind
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.credentials import CredentialChain
from seekfs_io.seaweed import ACCESS_KEY
from tests.conftest import StoreFactory
from tests.support.credentials import Container, Program
from tests.support.leaks import MARK, STORE_SECRET
from tests.support.objects import drain, failure_of
from tests.support.passthrough import Answer, Exchange, PassThrough, Plan

pytestmark = pytest.mark.usefixtures("aws_config")

EXPIRED = Plan(answer=Answer.error(400, "ExpiredToken"))


class ChainFactory:
    """``chain(...)``: a store of the chain's credentials behind the pass-through."""

    def __init__(self, open_s3: StoreFactory, endpoint: str) -> None:
        self._open_s3 = open_s3
        self._endpoint = endpoint

    def __call__(self, **changes: object) -> ObjectStore:
        keys = {"access_key_id": None, "secret_access_key": None}
        return self._open_s3(endpoint=self._endpoint, **keys, **changes)


@pytest.fixture
def chain(open_s3: StoreFactory, passthrough: PassThrough) -> ChainFactory:
    return ChainFactory(open_s3, passthrough.endpoint)


@pytest.fixture
def key(store: ObjectStore, ns: str) -> str:
    store.put(f"{ns}/a", b"content")
    return f"{ns}/a"


def keys_of(passthrough: PassThrough) -> list[str]:
    """The access key of each request."""
    found = [
        re.search(r"Credential=([^/]+)/", each.request.get("authorization") or "")
        for each in passthrough.exchanges
    ]
    return [each[1] if each else "" for each in found]


def signed_by(access_key: str) -> Callable[[Exchange], bool]:
    return lambda exchange: f"Credential={access_key}/" in (exchange.request.get("authorization") or "")


def accepted_once(passthrough: PassThrough, access_key: str) -> None:
    """The store takes these credentials for one request, and calls them expired from then on."""
    passthrough.when(signed_by(access_key), Plan(answer=Answer(status=200, body=b"old content")), times=1)
    passthrough.when(signed_by(access_key), EXPIRED)


@pytest.fixture
def program(tmp_path: Path, aws_config: Path) -> Program:
    return Program(tmp_path / "program", aws_config)


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    with Container(MARK) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/x")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", MARK)
        yield server
        server.shutdown()
        thread.join()


# --- found --------------------------------------------------------------------------------------


def test_credentials_of_the_environment(
    chain: ChainFactory, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", STORE_SECRET)
    assert drain(chain(), key) == b"content"


def test_a_session_token_of_the_environment(
    chain: ChainFactory, passthrough: PassThrough, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", MARK)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "env-token")
    passthrough.when(signed_by("from-env"), Plan(answer=Answer(status=404)))
    failure_of(lambda: chain().get("a"))
    assert passthrough.exchanges[0].request.get("x-amz-security-token") == "env-token"


def test_credentials_of_a_profile_in_the_shared_file(
    chain: ChainFactory, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "aws-credentials").write_text(
        f"[default]\naws_access_key_id = other\naws_secret_access_key = x\n"
        f"[jobs]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {STORE_SECRET}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "jobs")
    assert drain(chain(), key) == b"content"


def test_credentials_of_a_program_are_looked_up_once(chain: ChainFactory, key: str, program: Program) -> None:
    program.says(ACCESS_KEY, minutes=60)
    store = chain()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: drain(store, key), range(16))) == {b"content"}
    assert program.runs == 1


def test_credentials_of_a_container(chain: ChainFactory, key: str, container: Container) -> None:
    store = chain()
    assert drain(store, key) == drain(store, key) == b"content"
    assert container.asked == 1


# --- renewed ------------------------------------------------------------------------------------


@pytest.fixture(params=["program", "container", "shared file"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], None]:
    """Whatever knows credentials: what is returned makes it know those of another access key."""
    match request.param:
        case "program":
            program: Program = request.getfixturevalue("program")
            return program.says
        case "container":
            container: Container = request.getfixturevalue("container")
            return lambda access_key: setattr(container, "access_key", access_key)
        case _:
            return lambda access_key: _write_shared_file(tmp_path / "aws-credentials", access_key)


def _write_shared_file(path: Path, access_key: str) -> None:
    path.write_text(f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {STORE_SECRET}\n")


def test_credentials_that_expire_while_running_are_renewed_once(
    chain: ChainFactory, key: str, passthrough: PassThrough, source: Callable[[str], None]
) -> None:
    source("old")
    accepted_once(passthrough, "old")
    store = chain()
    assert drain(store, key) == b"old content"
    source(ACCESS_KEY)
    failure = failure_of(lambda: store.get(key))
    assert (failure.kind, failure.code) == (FailureKind.STALE_SIGNATURE, "ExpiredToken")
    assert drain(store, key) == drain(store, key) == b"content"
    assert keys_of(passthrough) == ["old", "old", ACCESS_KEY, ACCESS_KEY]


def test_credentials_may_expire_again_and_again(
    chain: ChainFactory, key: str, passthrough: PassThrough, program: Program
) -> None:
    known = ["one", "two", ACCESS_KEY]
    for each in known[:2]:
        accepted_once(passthrough, each)
    program.says(known[0])
    store = chain()
    for following in known[1:]:
        drain(store, key)
        program.says(following)
        assert failure_of(lambda: store.get(key)).kind is FailureKind.STALE_SIGNATURE
    assert drain(store, key) == b"content"
    assert keys_of(passthrough) == ["one", "one", "two", "two", ACCESS_KEY]


def test_many_requests_with_expired_credentials_share_one_renewal(
    chain: ChainFactory, key: str, passthrough: PassThrough, program: Program
) -> None:
    program.says("old")
    gate = threading.Event()
    passthrough.when(signed_by("old"), Plan(answer=Answer.error(400, "ExpiredToken"), hold_request=gate))
    store = chain()
    with ThreadPoolExecutor(16) as pool:
        failures = [pool.submit(failure_of, lambda: store.get(key)) for _ in range(16)]
        passthrough.wait_until(lambda: len(passthrough.exchanges) == 16)
        program.says(ACCESS_KEY)
        gate.set()
        assert {each.result().kind for each in failures} == {FailureKind.STALE_SIGNATURE}
        assert set(pool.map(lambda _: drain(store, key), range(16))) == {b"content"}
    assert program.runs == 2


def test_new_credentials_that_are_refused_as_well_are_the_last_word(
    chain: ChainFactory, key: str, passthrough: PassThrough, program: Program
) -> None:
    program.says("first")
    accepted_once(passthrough, "first")
    passthrough.when(signed_by("second"), EXPIRED)
    store = chain()
    drain(store, key)
    program.says("second")
    assert failure_of(lambda: store.get(key)).kind is FailureKind.STALE_SIGNATURE
    program.says("third")
    assert failure_of(lambda: store.get(key)).kind is FailureKind.DENIED
    assert keys_of(passthrough) == ["first", "first", "second"]
    assert program.runs == 2


def test_the_same_credentials_again_are_no_reason_to_ask_again(
    chain: ChainFactory, key: str, passthrough: PassThrough, program: Program
) -> None:
    program.says("first")
    passthrough.when(signed_by("first"), EXPIRED)
    failure = failure_of(lambda: chain().get(key))
    assert (failure.kind, failure.code, program.runs) == (FailureKind.DENIED, "ExpiredToken", 2)


def test_credentials_of_the_configuration_are_not_renewed(
    open_s3: StoreFactory, passthrough: PassThrough, key: str
) -> None:
    passthrough.when(lambda _: True, EXPIRED)
    failure = failure_of(lambda: open_s3(endpoint=passthrough.endpoint, session_token="t").get(key))
    assert (failure.kind, failure.code) == (FailureKind.DENIED, "ExpiredToken")


def test_a_renewal_that_fails_may_pass(
    chain: ChainFactory, key: str, passthrough: PassThrough, program: Program
) -> None:
    program.says("old")
    accepted_once(passthrough, "old")
    store = chain()
    drain(store, key)
    program.says_text(MARK)
    failure = failure_of(lambda: store.get(key))
    # It had credentials before, so that it is not set up wrongly.
    assert (failure.kind, failure.status, failure.code) == (FailureKind.UNREACHABLE, 400, "ExpiredToken")
    assert "ExpiredToken: scripted; no credentials from the program" in failure.detail
    assert MARK not in failure.detail
    program.says(ACCESS_KEY)
    assert failure_of(lambda: store.get(key)).kind is FailureKind.STALE_SIGNATURE
    assert drain(store, key) == b"content"


def test_a_slow_renewal_holds_up_nobody_while_the_old_ones_are_good(
    program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    chain = CredentialChain(30.0, time.time, lambda: now[0])
    program.says("first", minutes=20)
    first = chain.held()
    program.hold()
    program.says("second", minutes=60)
    now[0] = 400.0
    # They are good for 13 minutes more, and others are being looked for.
    assert chain.held() == chain.held() == first
    now[0] = 1300.0
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(chain.held) for _ in range(4)]
        program.let_go()
        assert {each.result().keys.access_key for each in waiting} == {"second"}
    assert chain.held().number == 2
    assert program.runs == 2
    assert not caplog.records


def test_nobody_waits_for_ever_for_a_program_that_hangs(program: Program) -> None:
    program.says("first")
    program.hold()
    chain = CredentialChain(0.05, time.time)
    failures = [failure_of(chain.held) for _ in range(2)]
    assert {each.kind for each in failures} == {FailureKind.UNREACHABLE}
    assert failures[0].detail == "no credentials: the AWS credential chain has found none in 0.05 s"
    program.let_go()
    patient = CredentialChain(30.0, time.time)
    (program.home / "gate").unlink()
    assert patient.held().keys.access_key == "first"


class Heard(logging.Handler):
    """What is logged, on whichever thread."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.some = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.some.set()


def test_a_renewal_ahead_of_the_end_that_fails_is_one_line_in_the_log(program: Program) -> None:
    now = [0.0]
    chain = CredentialChain(30.0, time.time, lambda: now[0])
    program.says("first", minutes=20)
    first = chain.held()
    heard = Heard()
    logging.getLogger("seekfs.store").addHandler(heard)
    try:
        program.says_text(MARK)
        now[0] = 400.0
        assert chain.held() == first
        assert heard.some.wait(30)
        assert chain.held() == chain.held() == first
    finally:
        logging.getLogger("seekfs.store").removeHandler(heard)
    assert program.runs == 2
    (line,) = heard.lines
    assert line == (
        "the credentials at hand stay in use; they could not be renewed: no credentials from the program of "
        "the AWS profile (credential_process): what it says is not JSON"
    )


def test_a_source_that_comes_back_is_believed(
    chain: ChainFactory, key: str, container: Container, aws_config: Path, program: Program
) -> None:
    """A chain that fails is asked again with the next request."""
    program.says_text(MARK)
    store = chain()
    assert failure_of(lambda: store.get(key)).kind is FailureKind.DENIED
    program.says(ACCESS_KEY)
    assert drain(store, key) == b"content"
