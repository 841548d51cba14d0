"""A daemon whose cache is on a file system that is full, seen from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.support.cache_audit import audit
from tests.support.daemon import Daemon
from tests.support.dataset import MIB, File, some_bytes, write_dataset
from tests.support.metrics import metric
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.waiting import wait_until

WAIT_SECONDS = 60.0
DATA = some_bytes(96 * MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", 48 * MIB) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.mark.timeout(300)
def test_a_full_disk_costs_the_disk_cache_and_nothing_else(
    store: ObjectStore, ns: str, disk: SmallDisk, start_daemon: DaemonFactory
) -> None:
    """It is off, says so, and comes back by itself; every read is right, and ready it is all the while."""
    write_dataset(store, ns, {"a": File(DATA, MIB)})
    daemon = start_daemon(
        cache__l2__segment_path=str(disk.path / "l2"), cache__l2_ssd_gib=0.125, cache__l1_memory_gib=0.016
    )

    def read() -> None:
        answer = requests.get(f"{daemon.url}/blob?ns={ns}&path=a", timeout=WAIT_SECONDS)
        assert answer.content == DATA

    def is_on() -> bool:
        return metric(daemon, "seekfs_tier_up", tier="l2") == 1

    assert readiness(daemon) == {"ready": True, "reasons": []}
    read()
    wait_until(lambda: not is_on(), "the disk is full")
    (reason,) = readiness(daemon)["reasons"]
    assert "making a segment: No space left on device" in reason
    held = metric(daemon, "seekfs_tier_bytes", tier="l2")
    assert held > 16 * MIB
    sent = metric(daemon, "seekfs_store_bytes_received_total")
    read()
    # What is there is served, and not asked for again.
    assert metric(daemon, "seekfs_store_bytes_received_total") <= sent + len(DATA) - held
    assert "writing the disk cache" in daemon.log
    assert daemon.log.count("No space left on device") < 20

    disk.grow(512 * MIB)

    def comes_back() -> bool:
        read()
        return is_on()

    wait_until(comes_back, "there is room again")
    assert readiness(daemon) == {"ready": True, "reasons": []}
    assert "is back" in daemon.log
    assert daemon.stop() == 0
    contents = audit(disk.path / "l2", is_closed=True)
    assert contents.lost == frozenset()
    assert contents.reached_bytes == contents.disk_bytes


def readiness(daemon: Daemon) -> dict[str, Any]:
    answer = requests.get(f"{daemon.url}/readyz", timeout=WAIT_SECONDS)
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document
