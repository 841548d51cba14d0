"""When the daemon asks its store, from both sides: late GETs, a store that is down, namespaces' budgets."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import requests

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.e2e.http_wire import get_whole_or_cut
from tests.support.daemon import Daemon
from tests.support.dataset import File, some_bytes, write_dataset
from tests.support.metrics import metric
from tests.support.passthrough import Match, PassThrough, Plan
from tests.support.waiting import wait_until

PAGE: Final = 64 << 10
ONE_PAGE_A_GET: Final = {"s3__range_coalesce_max_mib": PAGE / (1 << 20)}
WAIT_SECONDS: Final = 60.0


def target(ns: str, page: int) -> str:
    return f"/blob?ns={ns}&path=a&off={page * PAGE}&len={PAGE}"


def get(daemon: Daemon, ns: str, page: int) -> requests.Response:
    return requests.get(daemon.url + target(ns, page), timeout=WAIT_SECONDS)


# --- late GETs ------------------------------------------------------------------------------


def test_a_get_whose_first_byte_is_late_is_made_twice_and_the_one_that_comes_first_is_taken(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(130 * PAGE)
    write_dataset(store, ns, {"a": File(data, PAGE)})
    daemon = start_daemon(**ONE_PAGE_A_GET, s3__hedge_min_ms=1)
    with requests.Session() as session:
        for page in range(120):  # Until it knows how long this store takes.
            got = session.get(daemon.url + target(ns, page), timeout=WAIT_SECONDS)
            assert got.content == data[page * PAGE : (page + 1) * PAGE]
    before = metric(daemon, "seekfs_store_hedges_won_total")

    gate = threading.Event()
    late = Match(method="GET", key=f"namespaces/{ns}/files/a", covers=125 * PAGE)
    passthrough.when(late, Plan(hold_head=gate), times=1)
    assert get(daemon, ns, 125).content == data[125 * PAGE : 126 * PAGE]
    asked = [each for each in passthrough.gets(key=f"namespaces/{ns}/files/a") if late(each)]
    assert [each.range for each in asked] == [(125 * PAGE, 126 * PAGE)] * 2
    assert metric(daemon, "seekfs_store_hedges_won_total") == before + 1
    # The first was given up: its connection is closed, and nothing of it is in flight.
    wait_until(lambda: metric(daemon, "seekfs_store_requests_in_flight") == 0, "the other GET has ended")
    assert metric(daemon, "seekfs_store_requests_total", outcome="overtaken") >= 1
    assert metric(daemon, "seekfs_inflight_bytes") == 0
    gate.set()


def test_with_hedging_off_a_late_get_is_waited_for(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(130 * PAGE)
    write_dataset(store, ns, {"a": File(data, PAGE)})
    daemon = start_daemon(**ONE_PAGE_A_GET, s3__hedge=False, s3__hedge_min_ms=1)
    with requests.Session() as session:
        for page in range(120):
            session.get(daemon.url + target(ns, page), timeout=WAIT_SECONDS)
    late = Match(method="GET", key=f"namespaces/{ns}/files/a", covers=125 * PAGE)
    passthrough.when(late, Plan(delay_seconds=1.0), times=1)
    assert get(daemon, ns, 125).content == data[125 * PAGE : 126 * PAGE]
    assert len([each for each in passthrough.gets(key=f"namespaces/{ns}/files/a") if late(each)]) == 1


# --- a store that is down -------------------------------------------------------------------


def test_a_store_that_is_down_is_left_alone_and_asked_again_when_it_may_be_up(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(40 * PAGE)
    write_dataset(store, ns, {"a": File(data, PAGE)})
    daemon = start_daemon(
        **ONE_PAGE_A_GET,
        s3__breaker_failures=4,
        s3__breaker_probe_sec=0.2,
        s3__breaker_probe_max_sec=0.4,
        s3__retry_max_attempts=1,
    )
    assert get(daemon, ns, 0).status_code == 200
    passthrough.down()
    refused = ""
    for page in range(1, 30):
        got = get_whole_or_cut(daemon.port, target(ns, page))
        problem = got.problem(503, "store-unavailable")
        assert int(got.headers["retry-after"]) == problem["retry_after"] >= 1
        refused = str(problem["detail"])
        if "was not asked" in refused:
            break
    assert "requests in a row have failed, the last with" in refused
    assert metric(daemon, "seekfs_breaker_open") == 1
    assert metric(daemon, "seekfs_breaker_opened_total") == 1

    # What is cached is served, and costs nothing; what is not is refused without a request.
    asked = metric(daemon, "seekfs_store_requests_started_total", kind="pages")
    assert get(daemon, ns, 0).content == data[:PAGE]
    for _ in range(50):
        get_whole_or_cut(daemon.port, target(ns, 31))
    # A probe every 0.4 s at most, however often it is asked; fifty requests would be fifty GETs.
    assert metric(daemon, "seekfs_store_requests_started_total", kind="pages") <= asked + 25
    passthrough.up()
    wait_until(lambda: get(daemon, ns, 31).status_code == 200, "a probe is answered")
    assert metric(daemon, "seekfs_breaker_open") == 0
    assert get(daemon, ns, 32).content == data[32 * PAGE : 33 * PAGE]


# --- budgets of namespaces ------------------------------------------------------------------


def test_a_namespace_beyond_its_budget_is_told_so_and_no_other_hears_of_it(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(8 * PAGE)
    slow = f"{ns}-slow"
    for each in (ns, slow):
        write_dataset(store, each, {"a": File(data, PAGE)})
    daemon = start_daemon(
        **ONE_PAGE_A_GET,
        s3__namespace_budgets={slow: {"get_per_sec": 1, "get_burst": 4}},
        manifest__head_ttl_sec=3600,
        api__request_deadline_sec=3,
    )
    assert get(daemon, slow, 0).content == data[:PAGE]
    with ThreadPoolExecutor(7) as pool:
        answers = list(pool.map(lambda page: get_whole_or_cut(daemon.port, target(slow, page)), range(1, 8)))
    refused = [answer for answer in answers if answer.status != 200]
    # Seven at once at one a second, of which each waits three seconds at most.
    assert 2 <= len(refused) <= 4
    for answer in refused:
        assert answer.problem(429, "budget-spent")["ns"] == slow
        assert int(answer.headers["retry-after"]) >= 1

    for page in range(8):
        assert get(daemon, ns, page).content == data[page * PAGE : (page + 1) * PAGE]
    times = [each.started for each in passthrough.exchanges if each.key.startswith(f"namespaces/{slow}/")]
    for first, since in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= 1.0 * (times[last] - since) + 4 + 1
