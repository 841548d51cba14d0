"""The real daemon in front of the real store, with a counting pass-through between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from seekfs_io.devserver import DevServer
from tests.conftest import S3ConfigFactory
from tests.support.daemon import Daemon, s3_settings
from tests.support.passthrough import PassThrough


class DaemonFactory(Protocol):
    def __call__(self, name: str = "daemon", **settings: object) -> Daemon: ...


@pytest.fixture
def through(seaweed: DevServer) -> Iterator[PassThrough]:
    """The store as the daemon sees it: what is asked of it is counted, and can be told to misbehave."""
    with PassThrough("127.0.0.1", seaweed.s3_port) as between:
        yield between


@pytest.fixture
def start_daemon(tmp_path: Path, through: PassThrough, s3_config: S3ConfigFactory) -> Iterator[DaemonFactory]:
    """``start_daemon(**settings)``: a running daemon behind ``through``, ended with the test.

    Settings are keys of seekfs.toml with ``__`` for the dot. ``name`` is its directory's.
    """
    started: list[Daemon] = []

    def factory(name: str = "daemon", **settings: object) -> Daemon:
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        store = s3_settings(s3_config(endpoint=through.endpoint))
        # A budget far away, so that tests of other things do not wait for it.
        roomy = {"s3.get_budget_per_sec": 2000, "s3.get_budget_burst": 200}
        daemon = Daemon(tmp_path / name, {**store, **roomy, **dotted})
        started.append(daemon)
        return daemon.start()

    yield factory
    for daemon in started:
        daemon.close()
