"""What a real read says it did, from each tier, alone and beside others, well and in trouble."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import requests

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.support.daemon import Daemon
from tests.support.dataset import MIB, File, some_bytes, write_dataset
from tests.support.passthrough import Match, PassThrough, Plan
from tests.support.waiting import wait_until

PAGE: Final = MIB
WAIT_SECONDS: Final = 60.0


def explain(daemon: Daemon, ns: str, path: str = "a", **parameters: object) -> dict[str, Any]:
    query = {"ns": ns, "path": path, "explain": 1, **parameters}
    answer = requests.get(f"{daemon.url}/blob", params=query, timeout=WAIT_SECONDS)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    explanation = answer.json()
    assert isinstance(explanation, dict)
    assert explanation["request_id"] == answer.headers["X-Request-Id"]
    assert (
        0
        <= sum(explanation["waited"].values())
        <= explanation["seconds"] + 1e-3 + explanation["waited"]["manifest"]
    )
    return explanation


def tiers(explanation: dict[str, Any]) -> list[str]:
    return [page["tier"] for page in explanation["pages"]]


def test_the_tiers_and_the_gets_of_a_read_and_none_of_either_for_what_it_did_not_do(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(6 * PAGE)
    write_dataset(store, ns, {"a": File(data, PAGE)})
    daemon = start_daemon(s3__range_coalesce_max_mib=2)
    cold = explain(daemon, ns, len=3 * PAGE + 1)
    assert tiers(cold) == ["store"] * 4
    key = f"namespaces/{ns}/files/a"
    assert [(get["key"], get["start"], get["stop"]) for get in cold["gets"]] == [
        (key, 0, 2 * PAGE),
        (key, 2 * PAGE, 4 * PAGE),
    ]
    # Two at once: which one comes to the store first is nobody's promise.
    asked = sorted(each.range for each in passthrough.gets(key=key) if each.range is not None)
    assert asked == [(0, 2 * PAGE), (2 * PAGE, 4 * PAGE)]
    assert cold["bytes"] == 3 * PAGE + 1
    assert cold["waited"]["store"] > 0
    assert cold["waited"]["manifest"] > 0
    assert all(get["asked_by_this_read"] for get in cold["gets"])

    warm = explain(daemon, ns, len=3 * PAGE + 1)
    assert tiers(warm) == ["l1"] * 4
    assert warm["gets"] == []
    assert sum(warm["waited"].values()) == warm["waited"]["manifest"]

    assert daemon.restart() == 0
    from_disk = explain(daemon, ns, len=3 * PAGE + 1)
    assert tiers(from_disk) == ["l2"] * 4
    assert from_disk["gets"] == []
    assert from_disk["waited"]["disk"] > 0


def test_who_waits_for_a_get_of_another_read_says_so(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    write_dataset(store, ns, {"a": File(some_bytes(PAGE), PAGE)})
    daemon = start_daemon()
    gate = threading.Event()
    match = Match(method="GET", key=f"namespaces/{ns}/files/a")
    passthrough.when(match, Plan(hold_head=gate))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(explain, daemon, ns)
        wait_until(lambda: any(map(match, passthrough.exchanges)), "the GET is at the store")
        second = pool.submit(explain, daemon, ns)
        # It is under way as soon as its own request is counted as one that is not answered.
        wait_until(lambda: _in_flight(daemon) == 3, "both reads are under way")
        gate.set()
        leader, follower = first.result(), second.result()
    assert leader["waited"]["store"] > 0
    assert leader["waited"]["single_flight"] == 0
    assert follower["gets"] == [
        {**leader["gets"][0], **{name: follower["gets"][0][name] for name in ("wanted_at", "started_at")}}
        | {"asked_by_this_read": False}
    ]
    assert follower["waited"]["single_flight"] > 0
    assert follower["waited"]["store"] == follower["waited"]["budget"] == 0


def _in_flight(daemon: Daemon) -> float:
    """Requests that are being answered, the one that asks included."""
    text = requests.get(f"{daemon.url}/metrics", timeout=WAIT_SECONDS).text
    (line,) = [line for line in text.splitlines() if line.startswith("seekfs_http_requests_in_flight ")]
    return float(line.split()[1])


def test_waiting_for_the_budget_is_told_apart_from_waiting_for_the_store(
    store: ObjectStore, ns: str, start_daemon: DaemonFactory
) -> None:
    write_dataset(store, ns, {"a": File(some_bytes(4 * PAGE), PAGE)})
    daemon = start_daemon(
        s3__get_budget_per_sec=2,
        s3__get_budget_burst=1,
        s3__range_coalesce_max_mib=1,
        manifest__head_ttl_sec=600,
    )
    explanation = explain(daemon, ns)
    # HEAD, the manifest and four GETs, half a second apart from the first.
    assert explanation["waited"]["budget"] > 0.5
    assert explanation["waited"]["manifest"] > 0.5
    assert len(explanation["gets"]) == 4


def test_a_read_that_fails_is_explained_and_kept_with_the_slowest(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    write_dataset(store, ns, {path: File(some_bytes(PAGE), PAGE) for path in ("a", "b", "c")})
    daemon = start_daemon(s3__retry_initial_backoff_ms=1)
    passthrough.when(Match(method="GET", key=f"namespaces/{ns}/files/b"), Plan(drop="request"))
    failed = explain(daemon, ns, "b")
    assert [(each["status"], each["path"]) for each in failed["failed"]] == [(503, "b")]
    assert failed["waited"]["store"] > 0

    passthrough.when(Match(method="GET", key=f"namespaces/{ns}/files/c"), Plan(delay_seconds=0.5))
    explain(daemon, ns, "a")
    late = requests.get(f"{daemon.url}/blob?ns={ns}&path=c", timeout=WAIT_SECONDS)
    items = json.dumps([{"path": path, "off": 0, "len": 9} for path in ("a", "b")])
    batch = requests.post(
        f"{daemon.url}/readv?ns={ns}",
        data=items,
        headers={"Accept": "application/x-seekfs-frames"},
        timeout=WAIT_SECONDS,
    )
    slow = requests.get(f"{daemon.url}/slow", timeout=WAIT_SECONDS).json()
    assert slow["slowest"][0]["request_id"] == late.headers["X-Request-Id"]
    assert slow["slowest"][0]["waited"]["store"] >= 0.5
    assert [each["request_id"] for each in slow["failed"]] == [
        batch.headers["X-Request-Id"],
        failed["request_id"],
    ]
    assert slow["failed"][0]["ago"] < 60
