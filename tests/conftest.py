"""Fixtures that every part of the suite may use: one real S3 server, and a place of its own on it
for each test.

The server is SeaweedFS, started once for the whole run. Tests do not clean up behind themselves:
each has a namespace (``ns``) or, where it needs one, a bucket of its own (``bucket``).
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from seekfs_io.config import S3Config
from seekfs_io.devserver import DevServer
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from tests.support.daemon import Daemon, s3_settings
from tests.support.leaks import OUTPUTS, STORE_SECRET, Listener
from tests.support.passthrough import PassThrough

_numbers = itertools.count(1)

LEAKS = pytest.StashKey[list[str]]()


class S3ConfigFactory(Protocol):
    def __call__(self, **changes: object) -> S3Config: ...


class StoreFactory(Protocol):
    def __call__(self, **changes: object) -> ObjectStore: ...


class DaemonFactory(Protocol):
    def __call__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        s3: S3Config | None = None,
        by_hand: bool = False,
    ) -> Daemon: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="the long variants of tests that have one")


def pytest_sessionstart() -> None:
    logging.getLogger("seekfs").addHandler(Listener())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A secret in anything that was said in this run fails it, however its tests went."""
    leaks = OUTPUTS.leaks()
    session.config.stash[LEAKS] = leaks
    if leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    leaks = config.stash.get(LEAKS, [])
    told = f"{len(OUTPUTS.files)} logs and {OUTPUTS.texts_count} texts, {len(OUTPUTS.signatures)} signatures"
    if leaks:
        terminalreporter.section("secrets in what was said", red=True)
        for leak in leaks:
            terminalreporter.line(leak)
    elif OUTPUTS.files:
        terminalreporter.line(f"no secret in {told}")


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether a test that has a long variant is to be that one."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def seaweed() -> Iterator[DevServer]:
    """The S3 server: ``endpoint``, ``s3_port``, ``bucket``, ``s3_config(...)``."""
    with DevServer(secret_key=STORE_SECRET) as server:
        yield server


@pytest.fixture(scope="session")
def s3_config(seaweed: DevServer) -> S3ConfigFactory:
    """``s3_config(bucket=…, endpoint=…)``: how to reach the server, with fields changed."""
    return seaweed.s3_config


@pytest.fixture
def open_s3(s3_config: S3ConfigFactory) -> Iterator[StoreFactory]:
    """``open_s3(**changes)``: a store on the server, closed when the test ends."""
    opened: list[ObjectStore] = []

    def factory(**changes: object) -> ObjectStore:
        opened.append(open_store(s3_config(**changes)))
        return opened[-1]

    yield factory
    for store in opened:
        store.close()


@pytest.fixture
def store(open_s3: StoreFactory) -> ObjectStore:
    """The server's bucket, which all tests share; see ``ns``."""
    return open_s3()


def _unique_name(request: pytest.FixtureRequest) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"t{next(_numbers)}-{words}"[:50].rstrip("-")


@pytest.fixture
def ns(request: pytest.FixtureRequest) -> str:
    """A namespace that no other test of this run has."""
    return _unique_name(request)


@pytest.fixture
def bucket(request: pytest.FixtureRequest, open_s3: StoreFactory) -> str:
    """A bucket that no other test of this run has, empty."""
    name = _unique_name(request)
    assert open_s3(bucket=name).create_bucket()
    return name


@pytest.fixture
def passthrough(seaweed: DevServer) -> Iterator[PassThrough]:
    """A pass-through in front of the server; ``s3_config(endpoint=passthrough.endpoint)``."""
    with PassThrough("127.0.0.1", seaweed.s3_port) as store:
        yield store


@pytest.fixture
def aws_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """AWS's configuration file, which is not there yet, and nothing else of AWS: whoever runs the tests
    may have settings of their own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    return tmp_path / "aws-config"


@pytest.fixture
def new_daemon(tmp_path: Path, s3_config: S3ConfigFactory) -> Iterator[DaemonFactory]:
    """``new_daemon({"cache.l1_memory_gib": 0.1}, s3=…)``: a daemon that is not started yet, with a
    directory of its own. At the end of the test it is stopped and its log looked at."""
    made: list[Daemon] = []

    def factory(
        settings: Mapping[str, object] | None = None, *, s3: S3Config | None = None, by_hand: bool = False
    ) -> Daemon:
        every = {**s3_settings(s3 or s3_config()), **(settings or {})}
        made.append(Daemon(tmp_path / f"daemon{len(made)}", every, by_hand=by_hand))
        return made[-1]

    yield factory
    for daemon in made:
        daemon.close()
