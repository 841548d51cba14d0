"""Wrong bytes in the store and on the cache disk: told about, or fetched again, never delivered."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.support.daemon import Daemon
from tests.support.dataset import MIB, PAGE_BYTES, File, some_bytes, write_dataset
from tests.support.metrics import metric
from tests.support.passthrough import Match, PassThrough, Plan

WAIT_SECONDS = 60.0


def key_of(ns: str) -> str:
    return f"namespaces/{ns}/files/a"


def flip(passthrough: PassThrough, ns: str, offset: int) -> None:
    passthrough.when(Match(method="GET", key=key_of(ns), covers=offset), Plan(flip=(offset,)))


def gets_that_touch(passthrough: PassThrough, ns: str, page: int) -> int:
    start = page * PAGE_BYTES
    return sum(1 for get in passthrough.gets(key=key_of(ns)) if Match(covers=start)(get))


def test_a_flipped_first_page_is_a_502_that_names_everything(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(32 * MIB)
    write_dataset(store, ns, {"a": File(data)}, version=3)
    daemon = start_daemon()
    flip(passthrough, ns, 17)

    answer = requests.get(f"{daemon.url}/blob?ns={ns}&path=a", timeout=WAIT_SECONDS)
    assert answer.status_code == 502
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["ns"] == ns
    assert problem["path"] == "a"
    assert problem["version"] == 3
    assert problem["key"] == key_of(ns)
    assert problem["page_id"] == 0
    assert problem["expected"] != problem["found"]
    assert problem["overwritten"] is False
    for told in ("'a'", "version 3", key_of(ns), "page 0", f"{problem['expected']:#010x}"):
        assert told in problem["detail"]
    assert gets_that_touch(passthrough, ns, 0) == 2
    # The rest of the file is as good as ever, and page 0 was never kept.
    whole = requests.get(f"{daemon.url}/blob?ns={ns}&path=a&off={PAGE_BYTES}", timeout=WAIT_SECONDS)
    assert whole.content == data[PAGE_BYTES:]


def test_a_page_flipped_on_the_way_once_is_fetched_again_and_right(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(32 * MIB)
    write_dataset(store, ns, {"a": File(data)})
    daemon = start_daemon()
    passthrough.when(
        Match(method="GET", key=key_of(ns), covers=PAGE_BYTES), Plan(flip=(PAGE_BYTES,)), times=1
    )

    answer = requests.get(f"{daemon.url}/blob?ns={ns}&path=a", timeout=WAIT_SECONDS)
    assert answer.status_code == 200
    assert answer.content == data
    ranges = sorted(get.range or (0, None) for get in passthrough.gets(key=key_of(ns)))
    assert ranges == [(0, 32 * MIB), (PAGE_BYTES, 2 * PAGE_BYTES)]


def test_a_flipped_later_page_closes_the_connection_after_the_last_good_one(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(32 * MIB)
    write_dataset(store, ns, {"a": File(data)})
    daemon = start_daemon()
    flip(passthrough, ns, 2 * PAGE_BYTES + 5)

    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=WAIT_SECONDS)
    connection.request("GET", f"/blob?ns={ns}&path=a")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.getheader("Content-Length") == str(len(data))
    with pytest.raises(http.client.IncompleteRead) as short:
        answer.read()
    assert short.value.partial == data[: 2 * PAGE_BYTES]
    connection.close()
    assert gets_that_touch(passthrough, ns, 2) == 2


def test_an_object_that_was_overwritten_is_said_to_be(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    write_dataset(store, ns, {"a": File(some_bytes(MIB, 1))})
    store.put(key_of(ns), some_bytes(MIB, 2))
    daemon = start_daemon()
    problem = requests.get(f"{daemon.url}/blob?ns={ns}&path=a", timeout=WAIT_SECONDS).json()
    assert problem["status"] == 502
    assert problem["overwritten"] is True
    assert "overwritten" in problem["detail"]


@pytest.mark.parametrize("size", [0, 7, PAGE_BYTES])
def test_an_object_that_was_overwritten_by_a_shorter_one_is_said_to_be(
    size: int, store: ObjectStore, ns: str, start_daemon: DaemonFactory
) -> None:
    """The store then answers with another range, or that there is none: no page comes that could be wrong."""
    write_dataset(store, ns, {"a": File(some_bytes(2 * PAGE_BYTES))}, version=3)
    daemon = start_daemon(s3__retry_initial_backoff_ms=1)
    store.put(key_of(ns), some_bytes(size, 9))
    answer = requests.get(f"{daemon.url}/blob?ns={ns}&path=a&off={PAGE_BYTES}", timeout=WAIT_SECONDS)
    problem = answer.json()
    assert answer.status_code == 502
    assert (problem["ns"], problem["path"], problem["version"]) == (ns, "a", 3)
    assert problem["key"] == key_of(ns)
    assert problem["overwritten"] is True
    assert "overwritten" in problem["detail"]


# --- the cache disk ---------------------------------------------------------------------------


def flip_a_byte(path: Path) -> None:
    """In the middle of the file: of a page's bytes."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x40]))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def fill_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def one_segment(daemon: Daemon) -> Path:
    """The segment file that the dataset's one page is in."""
    (segment,) = [path for path in daemon.l2.rglob("*") if path.is_file() and path.stat().st_size > MIB]
    return segment


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, fill_with_zeros])
def test_a_damaged_segment_costs_one_refetch_and_is_counted(
    damage: Callable[[Path], None],
    store: ObjectStore,
    ns: str,
    passthrough: PassThrough,
    start_daemon: DaemonFactory,
) -> None:
    data = some_bytes(PAGE_BYTES)
    write_dataset(store, ns, {"a": File(data)})
    # A segment has an eightieth of the ceiling, but room for one page at least: here, for one only.
    daemon = start_daemon(cache__l2_ssd_gib=0.25)
    url = f"{daemon.url}/blob?ns={ns}&path=a"
    assert requests.get(url, timeout=WAIT_SECONDS).content == data
    assert daemon.stop() == 0
    damage(one_segment(daemon))
    daemon.start()
    passthrough.forget()

    assert requests.get(url, timeout=WAIT_SECONDS).content == data
    assert len(passthrough.gets(key=key_of(ns))) == 1
    # Counters begin with the process: a segment that is too short is noticed when it is opened.
    assert damaged_pages(daemon) == 1
    assert requests.get(url, timeout=WAIT_SECONDS).content == data
    assert len(passthrough.gets(key=key_of(ns))) == 1


def damaged_pages(daemon: Daemon) -> float:
    """Pages of the disk tier that were found wrong: by their checksum, or because they could not be read."""
    return metric(daemon, "seekfs_tier_crc_failures_total", tier="l2") + metric(
        daemon, "seekfs_tier_faults_total", tier="l2"
    )
