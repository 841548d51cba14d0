"""What a store in trouble does beyond one request: to pages that are kept, to versions, to shared GETs."""

from __future__ import annotations

import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.e2e.http_wire import get_whole_or_cut
from tests.support.daemon import Daemon
from tests.support.dataset import MIB, File, manifest_of, some_bytes, write_dataset, write_manifest
from tests.support.hostile_store import FAULTS, Touches
from tests.support.metrics import metric
from tests.support.passthrough import Match, PassThrough, Plan
from tests.support.waiting import wait_until

WAIT_SECONDS: Final = 60.0
PAGE: Final = 64 << 10


def unreachable(daemon: Daemon) -> float:
    return metric(daemon, "seekfs_store_requests_total", outcome="unreachable")


def test_a_store_that_refuses_connections_and_then_is_there(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """HEAD of a namespace, a file, and the object behind it: each asked for while nobody listens."""
    data = some_bytes(4 * PAGE)
    write_dataset(store, ns, {"a": File(data, PAGE)})
    daemon = start_daemon(s3__retry_initial_backoff_ms=20, s3__retry_max_attempts=100)
    targets = [f"/blob?ns={ns}&path=a&len=0", f"/blob?ns={ns}&path=a", f"/test_head?ns={ns}&path=a"]
    for target in targets:
        before = unreachable(daemon)
        passthrough.down()
        with ThreadPoolExecutor(1) as reader:
            read = reader.submit(get_whole_or_cut, daemon.port, target)
            wait_until(lambda before=before: unreachable(daemon) >= before + 2, "it was refused")  # type: ignore[misc]
            passthrough.up()
            assert read.result().status == 200
    assert get_whole_or_cut(daemon.port, targets[1]).body == data
    # Each of them reached the store once, the manifest too.
    assert [(each.method, each.status) for each in passthrough.exchanges] == [
        ("GET", 200),
        ("GET", 200),
        ("GET", 206),
        ("HEAD", 200),
    ]


@pytest.mark.parametrize("name", ["reset-in-body", "short-body", "wrong-byte"])
def test_in_the_middle_of_32_mib(
    name: str, store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """Once, and for good: what was verified before is neither lost nor fetched again."""
    data = some_bytes(32 * MIB)
    key, good = f"{ns}/32-mib", 20 * MIB
    write_dataset(store, ns, {path: File(data, PAGE, key=key) for path in ("once", "always")})
    daemon = start_daemon(s3__retry_initial_backoff_ms=1, cache__l1_memory_gib=0.125)
    match, fault = Match(method="GET", key=key, covers=good), FAULTS[name]

    passthrough.when(match, fault.plan(at=good), times=1)
    got = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=once")
    assert (got.status, got.is_whole, got.body == data) == (200, True, True)
    rest = (good, good + PAGE) if name == "wrong-byte" else (good, len(data))
    assert [each.range for each in passthrough.gets(key=key)] == [(0, len(data)), rest]

    first = passthrough.when(match, fault.plan(at=good), times=1)
    again = passthrough.when(match, fault.plan(start=good, at=good))
    got = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=always")
    assert (got.status, got.is_whole, got.body == data[:good]) == (200, False, True)
    assert first.times_left == 0
    passthrough.lift(again)
    asked = len(passthrough.gets(key=key))
    got = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=always")
    assert (got.status, got.is_whole, got.body == data) == (200, True, True)
    assert [each.range for each in passthrough.gets(key=key)[asked:]] == [rest]


def test_an_object_that_is_replaced_between_a_get_and_its_retry(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """What came of the right one is kept; of the other one nothing is ever believed."""
    data, other = some_bytes(8 * PAGE, 1), some_bytes(8 * PAGE, 2)
    write_dataset(store, ns, {"a": File(data, PAGE)})
    key = f"namespaces/{ns}/files/a"
    daemon = start_daemon(s3__retry_initial_backoff_ms=1)
    passthrough.when(Match(method="GET", key=key), Plan(cut_body_at=3 * PAGE), times=1)
    passthrough.when(Match(method="GET", key=key), Plan(meanwhile=lambda: store.put(key, other)), times=1)
    got = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=a")
    assert (got.status, got.is_whole, got.body == data[: 3 * PAGE]) == (200, False, True)

    asked = len(passthrough.gets(key=key))
    got = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=a&len={3 * PAGE}")
    assert (got.status, got.body == data[: 3 * PAGE]) == (200, True)
    assert len(passthrough.gets(key=key)) == asked
    got = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=a&off={3 * PAGE}")
    assert got.problem(502, "page-corrupt")["overwritten"] is True
    # The right object is back: nothing is held against its name.
    store.put(key, data)
    assert get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=a").body == data


def test_a_namespace_that_is_known_is_served_through_every_fault(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """At its HEAD the last version is served and marked stale; at a new manifest it is served on."""
    data = some_bytes(2 * PAGE)
    files = {"a": File(data, PAGE)}
    write_dataset(store, ns, files)
    daemon = start_daemon(manifest__head_ttl_sec=0, s3__retry_initial_backoff_ms=0)
    version = 1

    def served() -> tuple[int, bool]:
        got = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=a")
        assert (got.status, got.body == data) == (200, True)
        return int(got.headers["x-seekfs-version"]), "x-seekfs-stale" in got.headers

    assert served() == (1, False)
    for name, fault in FAULTS.items():
        # 503 slows everything down, and silence takes its time: these are shown elsewhere.
        if fault.touches is Touches.RANGE or name in ("late", "slow-down", "silent", "silent-in-body"):
            continue
        rule = passthrough.when(Match(key=f"namespaces/{ns}/HEAD"), fault.plan())
        assert served() == (version, True), name
        passthrough.lift(rule)
        wait_until(lambda: served() == (version, False), f"{name} is over")  # noqa: B023

        version += 1
        bad = f"namespaces/{ns}/manifests/v-{version}.json.gz"
        rule = passthrough.when(Match(key=bad), fault.plan(at=100))
        write_manifest(store, ns, version, manifest_of(ns, version, files, {}))
        assert served()[0] == version - 1, name
        assert passthrough.gets(key=bad), name
        passthrough.lift(rule)
        wait_until(lambda: served() == (version, False), f"{name} is over")  # noqa: B023


def test_a_leader_whose_client_leaves_fails_nobody_who_follows(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """Ten read a file that one has begun to fetch; that one's connection is reset in the middle."""
    data = some_bytes(64 * PAGE)
    write_dataset(store, ns, {"a": File(data, PAGE)})
    key = f"namespaces/{ns}/files/a"
    daemon = start_daemon()
    gates = [threading.Event(), threading.Event()]
    passthrough.when(
        Match(method="GET", key=key), Plan(hold_body=((2 * PAGE, gates[0]), (8 * PAGE, gates[1])))
    )

    def in_flight() -> float:
        """Requests that the daemon is answering, beside the one that asks for this."""
        return metric(daemon, "seekfs_http_requests_in_flight") - 1

    leader = socket.create_connection(("127.0.0.1", daemon.port), WAIT_SECONDS)
    leader.sendall(f"GET /blob?ns={ns}&path=a HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_until(lambda: bool(passthrough.gets(key=key)), "the leader's GET is under way")
    with ThreadPoolExecutor(10) as pool:
        followers = [pool.submit(get_whole_or_cut, daemon.port, f"/blob?ns={ns}&path=a") for _ in range(10)]
        wait_until(lambda: in_flight() == 11, "all of them wait")
        leader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leader.close()
        # The daemon notices when it has something to send.
        gates[0].set()
        wait_until(lambda: in_flight() == 10, "the leader is gone")
        gates[1].set()
        assert [(got.result().status, got.result().body == data) for got in followers] == [(200, True)] * 10
    assert [each.range for each in passthrough.gets(key=key)] == [(0, len(data))]
