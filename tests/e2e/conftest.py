"""The real daemon in front of the real store, with a counting pass-through between, or of a directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from seekfs_io.config import S3Config
from seekfs_io.devserver import DevServer
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from tests.conftest import DaemonFactory as NewDaemon
from tests.conftest import S3ConfigFactory
from tests.e2e.serving import FILES, DaemonMaker
from tests.support.daemon import Daemon
from tests.support.dataset import write_dataset
from tests.support.passthrough import PassThrough


class DaemonFactory(Protocol):
    def __call__(self, **settings: object) -> Daemon: ...


@pytest.fixture
def start_daemon(
    new_daemon: NewDaemon, passthrough: PassThrough, s3_config: S3ConfigFactory
) -> DaemonFactory:
    """``start_daemon(**settings)``: a running daemon behind ``passthrough``, ended with the test.

    Settings are keys of seekfs.toml with ``__`` for the dot.
    """

    def factory(**settings: object) -> Daemon:
        # A budget far away, so that tests of other things do not wait for it.
        roomy = {"s3.get_budget_per_sec": 2000, "s3.get_budget_burst": 200}
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        return new_daemon({**roomy, **dotted}, s3=s3_config(endpoint=passthrough.endpoint)).start()

    return factory


@pytest.fixture(scope="module")
def front(seaweed: DevServer) -> Iterator[PassThrough]:
    """What ``passthrough`` is, for a daemon that all tests of a module share."""
    with PassThrough("127.0.0.1", seaweed.s3_port) as front:
        yield front


@pytest.fixture(scope="module")
def module_store(s3_config: S3ConfigFactory) -> Iterator[ObjectStore]:
    """What ``store`` is, for fixtures of such a daemon and its tests."""
    store = open_store(s3_config())
    yield store
    store.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Of a daemon on the ``file`` engine: what is tested here does not depend on the store."""
    root = tmp_path_factory.mktemp("store")
    store = open_store(S3Config(engine="file", endpoint=str(root)))
    store.create_bucket()
    write_dataset(store, "dev", FILES)
    store.close()
    return {"s3.engine": "file", "s3.endpoint": str(root), "api.drain_sec": 20}


@pytest.fixture
def make_daemon(tmp_path: Path, settings: dict[str, object]) -> Iterator[DaemonMaker]:
    """``make_daemon(by_hand=…, arguments=…, **settings)``: not started yet, ended with the test."""
    made: list[Daemon] = []

    def make(
        by_hand: bool = False,
        arguments: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
        **more: object,
    ) -> Daemon:
        dotted = {name.replace("__", "."): value for name, value in more.items()}
        made.append(
            Daemon(
                tmp_path / f"daemon{len(made)}",
                {**settings, **dotted},
                by_hand=by_hand,
                arguments=arguments,
                environ=environ or {},
            )
        )
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()
