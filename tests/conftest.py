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
from typing import Any, Protocol

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
TOLD = pytest.StashKey[list[int]]()
"""How many logs, texts and signatures were looked through."""


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


def _leaks(stash: pytest.Stash) -> list[str]:
    none: list[str] = []
    return stash.get(LEAKS, none)


def _told(stash: pytest.Stash) -> list[int]:
    nothing = [0, 0, 0]
    return stash.get(TOLD, nothing)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="the long variants of tests that have one")


def pytest_sessionstart() -> None:
    logging.getLogger("seekfs").addHandler(Listener())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A secret in anything that was said in this run fails it, however its tests went."""
    leaks = OUTPUTS.leaks()
    counts = [len(OUTPUTS.files), OUTPUTS.texts_count, len(OUTPUTS.signatures)]
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["leaks"], output["told"] = leaks, counts  # One of several processes: the first one tells.
        return
    stash = session.config.stash
    leaks += _leaks(stash)
    stash[LEAKS] = leaks
    stash[TOLD] = [mine + others for mine, others in zip(counts, _told(stash), strict=True)]
    if leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """One of several processes has ended, with what it found in all that its tests said."""
    stash: pytest.Stash = node.config.stash
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    leaks: list[str] = output.get("leaks", [])
    counts: list[int] = output.get("told", [0, 0, 0])
    stash[LEAKS] = _leaks(stash) + leaks
    stash[TOLD] = [before + more for before, more in zip(_told(stash), counts, strict=True)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    leaks = _leaks(config.stash)
    files, texts, signatures = config.stash[TOLD]
    if leaks:
        terminalreporter.section("secrets in what was said", red=True)
        for leak in leaks:
            terminalreporter.line(leak)
    elif files:
        terminalreporter.line(f"no secret in {files} logs and {texts} texts, {signatures} signatures")


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
