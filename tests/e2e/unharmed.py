"""A daemon in front of a real store that must be as it was when everything has been sent to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from seekfs_io.config import S3Config
from seekfs_io.objects import open_store
from tests.e2e.http_wire import Wire
from tests.support.daemon import Daemon, s3_settings
from tests.support.dataset import write_dataset
from tests.support.malformed.base import BATCH, BATCH_DATA, FILES, NS, OLD, SETTINGS
from tests.support.metrics import metric
from tests.support.waiting import wait_until


def write_versions(config: S3Config) -> dict[str, object]:
    """Make the bucket with both versions of the dataset in it; the settings of a daemon that serves it."""
    store = open_store(config)
    assert store.create_bucket()
    write_dataset(store, NS, OLD, version=1)
    write_dataset(store, NS, FILES, version=2)
    store.close()
    # A budget far away: nobody is to wait for it.
    return {**s3_settings(config), "s3.get_budget_per_sec": 2000, "s3.get_budget_burst": 200, **SETTINGS}


@contextlib.contextmanager
def unharmed(directory: Path, settings: dict[str, object], *arguments: str) -> Iterator[Daemon]:
    """It runs, and at the end it is well and no worker was replaced."""
    with Daemon(directory, settings, arguments=arguments) as daemon:
        before = daemon.pids
        yield daemon
        check_well(daemon)
        assert daemon.pids == before, "a worker was replaced"


def check_well(daemon: Daemon) -> None:
    """Healthy, with nothing left over, and its bytes are right."""
    with Wire(daemon.port) as wire:
        assert wire.get("/healthz").body == b"ok"
        assert wire.get("/readyz").status == 200
        for path, file in FILES.items():
            assert wire.get(f"/blob?ns={NS}&path={quote(path, safe='')}").body == file.data
        assert wire.post(f"/readv?ns={NS}", BATCH).body == BATCH_DATA
        in_flight = "seekfs_http_requests_in_flight"
        wait_until(lambda: metric(daemon, in_flight) == 1, "only this one is in flight")
    daemon.check_log()
