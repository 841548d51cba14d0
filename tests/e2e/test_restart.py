"""What is still there after a restart, after ``kill -9`` in the middle of it, and without a store."""

from __future__ import annotations

import requests

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.support.dataset import MIB, PAGE_BYTES, File, some_bytes, write_dataset
from tests.support.metrics import metric
from tests.support.passthrough import PassThrough

WAIT_SECONDS = 60.0


def test_after_a_restart_every_page_is_a_hit(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(64 * MIB)
    write_dataset(store, ns, {"a": File(data)})
    daemon = start_daemon()
    url = f"{daemon.url}/blob?ns={ns}&path=a"
    assert requests.get(url, timeout=WAIT_SECONDS).content == data
    assert daemon.restart() == 0
    passthrough.forget()
    assert requests.get(url, timeout=WAIT_SECONDS).content == data
    assert passthrough.gets(key_prefix=f"namespaces/{ns}/files/") == []


def test_after_kill_9_while_filling_published_pages_are_hits_and_bytes_right(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """GETs after the restart cover exactly the pages that were not on disk before it."""
    data = some_bytes(256 * MIB)
    write_dataset(store, ns, {"a": File(data)})
    daemon = start_daemon(cache__l2_ssd_gib=1)
    url = f"{daemon.url}/blob?ns={ns}&path=a"
    with requests.get(url, stream=True, timeout=WAIT_SECONDS) as answer:
        for share in range(1, 4):
            # Some pages on disk, others being written or fetched: read on until that is so, then kill.
            answer.raw.read(64 * MIB)
            if metric(daemon, "seekfs_tier_pages", tier="l2") >= 2 * share:
                break
        on_disk = metric(daemon, "seekfs_tier_pages", tier="l2")
        daemon.kill()
    daemon.start()
    passthrough.forget()
    kept = metric(daemon, "seekfs_tier_pages", tier="l2")
    assert 2 <= on_disk <= kept < len(data) // PAGE_BYTES

    assert requests.get(url, timeout=WAIT_SECONDS).content == data
    fetched = sum(get.bytes_sent for get in passthrough.gets(key=f"namespaces/{ns}/files/a"))
    assert fetched == len(data) - kept * PAGE_BYTES


def test_without_a_store_what_was_seen_is_served_also_after_a_restart(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    old, new = some_bytes(9 * MIB, 1), some_bytes(9 * MIB, 2)
    write_dataset(store, ns, {"a": File(old, key=f"{ns}/1")}, version=1)
    daemon = start_daemon(manifest__head_ttl_sec=0, s3__retry_initial_backoff_ms=1)
    url = f"{daemon.url}/blob?ns={ns}&path=a"
    assert requests.get(url, timeout=WAIT_SECONDS).content == old
    write_dataset(store, ns, {"a": File(new, key=f"{ns}/2"), "b": File(new, key=f"{ns}/3")}, version=2)
    assert requests.get(url, timeout=WAIT_SECONDS).content == new

    passthrough.down()
    for _ in range(2):
        current = requests.get(url, timeout=WAIT_SECONDS)
        assert current.content == new
        assert current.headers["X-Seekfs-Stale"] == "1"
        assert current.headers["X-Seekfs-Version"] == "2"
        pinned = requests.get(f"{url}&version=1", timeout=WAIT_SECONDS)
        assert pinned.content == old
        assert pinned.headers["X-Seekfs-Version"] == "1"

        absent = requests.get(f"{daemon.url}/blob?ns={ns}&path=b", timeout=WAIT_SECONDS)
        assert absent.status_code == 503
        assert int(absent.headers["Retry-After"]) >= 1
        unknown = requests.get(f"{daemon.url}/blob?ns={ns}-other&path=a", timeout=WAIT_SECONDS)
        assert unknown.status_code == 503
        daemon.restart()

    passthrough.up()
    back = requests.get(f"{daemon.url}/blob?ns={ns}&path=b", timeout=WAIT_SECONDS)
    assert back.content == new
