"""The real daemon in front of the real store, with a counting pass-through between them."""

from __future__ import annotations

from typing import Protocol

import pytest

from tests.conftest import DaemonFactory as NewDaemon
from tests.conftest import S3ConfigFactory
from tests.support.daemon import Daemon
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
