"""The cache directory never holds more than its ceiling, whatever is read through it."""

from __future__ import annotations

import random

import pytest
import requests

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.support.dataset import MIB, File, some_bytes, write_dataset
from tests.support.disk import disk_sampler, used_bytes
from tests.support.metrics import metric

WAIT_SECONDS = 60.0
CEILING_BYTES = 64 * MIB


@pytest.mark.timeout(600)
def test_64_mib_of_disk_under_1_gib_of_reads(
    store: ObjectStore, ns: str, start_daemon: DaemonFactory
) -> None:
    """Pages of 1 MiB and 8 MiB, some read again and again, so that the tier admits, evicts and reclaims."""
    files = {
        **{f"small{number}": File(some_bytes(16 * MIB, number), 1 * MIB) for number in range(6)},
        **{f"large{number}": File(some_bytes(16 * MIB, 100 + number)) for number in range(4)},
    }
    write_dataset(store, ns, files)
    daemon = start_daemon(cache__l2_ssd_gib=CEILING_BYTES / (1 << 30), cache__l1_memory_gib=0.016)
    choice = random.Random(5)
    read = 0
    with disk_sampler(daemon.l2, daemon.pid) as disk:
        while read < 1024 * MIB:
            # Two of three reads go to a set that nearly fits, the rest to all: epochs beside scans.
            hot = ("small0", "small1", "small2")
            path = choice.choice(hot if choice.random() < 0.67 else sorted(files))
            answer = requests.get(f"{daemon.url}/blob?ns={ns}&path={path}", timeout=WAIT_SECONDS)
            assert answer.content == files[path].data
            read += len(answer.content)
    print(f"at most {disk.peak / MIB:.1f} MiB in {len(disk.samples)} samples")
    assert len(disk.samples) > 100
    assert disk.peak <= CEILING_BYTES
    # It was used, and gave up pages for others: a tier that keeps nothing would pass the above.
    assert disk.peak > CEILING_BYTES // 2
    assert metric(daemon, "seekfs_tier_pages_evicted_total", tier="l2") > 0
    assert metric(daemon, "seekfs_tier_bytes", tier="l2") <= CEILING_BYTES
    assert daemon.stop() == 0
    assert used_bytes(daemon.l2, []) <= CEILING_BYTES
