"""The daemon as a process: how it starts, what it refuses, how it ends, and what it tells of itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seekfs_core.cache_directory import BOOT_NAME
from seekfs_io.pages.directory import claim
from tests.e2e.http_wire import Wire, raw_connection, read_answer
from tests.e2e.serving import BIG, GET_A, WAIT_SECONDS, DaemonMaker, received, slow_reader
from tests.support.dataset import MIB
from tests.support.metrics import metric
from tests.support.waiting import wait_until


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def listing(directory: str | Path) -> set[str]:
    return {os.path.join(where, name) for where, _, names in os.walk(directory) for name in names}


# -- starting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "gunicorn"])
def test_both_ways_start_the_same_daemon(make_daemon: DaemonMaker, by_hand: bool) -> None:
    shared_before = {name for name in os.listdir("/dev/shm") if "gunicorn" in name}
    daemon = make_daemon(by_hand=by_hand).start()
    with Wire(daemon.port) as wire:
        answer = wire.get("/blob?ns=dev&path=a")
        assert answer.body == b"0123456789"
        assert answer.headers["connection"] == "keep-alive"
        assert len(answer.headers["x-request-id"]) == 16
        assert wire.get("/blob?ns=dev&path=big").body == BIG
        # Longer than gunicorn's own limit for a request line is.
        assert wire.get(f"/blob?ns=dev&path={'%61' * 1024}&hash={'0' * 64}").status == 404
    # One master, one worker, and the threads that were not asked for are 16.
    assert len(daemon.pids) == 2
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log
    for line in daemon.log.splitlines():
        assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [a-z_.]+: ", line), line
    assert listing(daemon.directory / "home") == set()
    assert {name for name in os.listdir("/dev/shm") if "gunicorn" in name} == shared_before


def test_the_log_as_json(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon(log__format="json").start()
    with Wire(daemon.port) as wire:
        request_id = wire.get("/blob?ns=dev&path=none").headers["x-request-id"]
        wire.get("/blob?ns=dev&path=%zz")
    assert daemon.stop() == 0
    events = [json.loads(line) for line in daemon.log.splitlines()]
    (refused,) = [event for event in events if event.get("request_id") == request_id]
    assert "none" in refused["message"]
    assert any("Listening at" in event["message"] for event in events)


def test_the_command_line_goes_before_the_file(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon(api__listen="127.0.0.1:1")
    daemon.arguments = (f"--listen=127.0.0.1:{daemon.port}", "--threads=3", "--workers=1")
    daemon.start()
    with Wire(daemon.port) as wire:
        assert wire.get("/healthz").body == b"ok"


def test_a_unix_socket(make_daemon: DaemonMaker, tmp_path: Path) -> None:
    path = tmp_path / "s"
    daemon = make_daemon(api__listen=f"unix:{path}").spawn()
    wait_until(path.exists, "the socket is there")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_SECONDS)
        connection.connect(str(path))
        connection.sendall(b"GET /blob?ns=dev&path=big HTTP/1.1\r\nHost: x\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert read_answer(response).body == BIG
    second = make_daemon(api__listen=f"unix:{path}").spawn()
    assert second.wait() == 1
    assert "in use" in second.log
    assert daemon.stop() == 0
    assert not path.exists()


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "gunicorn"])
def test_every_mistake_of_the_configuration_is_named_and_nothing_starts(
    make_daemon: DaemonMaker, by_hand: bool
) -> None:
    daemon = make_daemon(
        by_hand=by_hand, api__listn="x", s3__max_inflight_gets=-1, cache__slab_size_mib="big"
    ).spawn()
    assert daemon.wait() == 2
    lines = daemon.log.splitlines()
    assert len(lines) == 3, daemon.log
    for key in ("api.listn", "s3.max_inflight_gets", "cache.slab_size_mib"):
        assert sum(key in line for line in lines) == 1


@pytest.mark.parametrize(
    ("by_hand", "arguments"),
    [(False, ("--workers=2",)), (False, ("--workers", "99")), (True, ("--workers=2",))],
)
def test_more_than_one_worker_is_refused_in_a_sentence(
    make_daemon: DaemonMaker, by_hand: bool, arguments: tuple[str, ...]
) -> None:
    daemon = make_daemon(by_hand=by_hand, arguments=arguments).spawn()
    assert daemon.wait() == 2
    assert "one process holds the caches" in daemon.log.splitlines()[-1]


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "gunicorn"])
def test_an_engine_that_is_not_installed_is_refused_before_a_worker_is_started(
    make_daemon: DaemonMaker, by_hand: bool
) -> None:
    daemon = make_daemon(by_hand=by_hand, s3__engine="crt", s3__endpoint="http://127.0.0.1:1").spawn()
    assert daemon.wait() == 2
    assert "seekfs[crt]" in daemon.log.splitlines()[-1]
    assert "Booting worker" not in daemon.log


def test_web_concurrency_is_not_ours(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon(environ={"WEB_CONCURRENCY": "4"}).start()
    assert len(daemon.pids) == 2


@pytest.mark.parametrize(
    "arguments",
    [("--workers=0",), ("--threads=x",), ("--threads=0",), ("--port=1",), ("file",), ("--listen=nowhere",)],
)
def test_wrong_arguments(make_daemon: DaemonMaker, arguments: tuple[str, ...]) -> None:
    daemon = make_daemon(arguments=arguments).spawn()
    assert daemon.wait() == 2
    assert daemon.log


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "gunicorn"])
def test_what_is_at_the_path_of_the_socket_is_never_deleted(
    make_daemon: DaemonMaker, tmp_path: Path, by_hand: bool
) -> None:
    path = tmp_path / "thesis.tex"
    path.write_text("years of work")
    daemon = make_daemon(by_hand=by_hand, api__listen=f"unix:{path}").spawn()
    assert daemon.wait() == 1
    assert f"cannot listen on unix:{path}: there is a file" in daemon.log.splitlines()[-1]
    assert path.read_text() == "years of work"


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "gunicorn"])
def test_a_directory_of_somebody_else_is_refused_in_a_sentence(
    make_daemon: DaemonMaker, tmp_path: Path, by_hand: bool
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("years of work")
    daemon = make_daemon(by_hand=by_hand, cache__l2__segment_path=str(theirs)).spawn()
    assert daemon.wait() == 1
    assert "thesis.tex" in daemon.log.splitlines()[-1]
    assert os.listdir(theirs) == ["thesis.tex"]


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "gunicorn"])
@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("cache.l2_ssd_gib", {"cache__l2_ssd_gib": 0.008}),
        ("cache.l1_memory_gib", {"cache__l1_memory_gib": 0.01, "cache__l2__backend": "mem"}),
        ("cache.l1_memory_gib", {"cache__l1_memory_gib": 0.0078125}),
    ],
)
def test_a_ceiling_without_room_for_a_page_is_refused_before_anything_starts(
    make_daemon: DaemonMaker, by_hand: bool, key: str, given: dict[str, object]
) -> None:
    daemon = make_daemon(by_hand=by_hand, **given).spawn()
    assert daemon.wait() == 2
    assert f"{key}: {next(iter(given.values())):g} GiB has no room for one page of 8 MiB" in daemon.log
    assert "Booting worker" not in daemon.log


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "gunicorn"])
def test_what_only_the_worker_finds_out_ends_the_master_too(
    make_daemon: DaemonMaker, tmp_path: Path, by_hand: bool
) -> None:
    """What is in the directory has the right names, and is read when the tier is opened, in the worker."""
    claim(tmp_path / "l2").release()
    (tmp_path / "l2" / BOOT_NAME).mkdir()
    daemon = make_daemon(by_hand=by_hand, cache__l2__segment_path=str(tmp_path / "l2")).spawn()
    assert daemon.wait() not in (0, 2)
    (line,) = [line for line in daemon.log.splitlines() if "cannot start" in line]
    assert "cache.l2.segment_path" in line
    assert daemon.log.count("Booting worker") == 1


def test_a_second_daemon_of_the_same_directory_is_refused(make_daemon: DaemonMaker, tmp_path: Path) -> None:
    first = make_daemon(cache__l2__segment_path=str(tmp_path / "l2")).start()
    second = make_daemon(cache__l2__segment_path=str(tmp_path / "l2")).spawn()
    assert second.wait() == 1
    assert "in use" in second.log.splitlines()[-1]
    with Wire(first.port) as wire:
        assert wire.get("/blob?ns=dev&path=a").status == 200


def test_a_port_that_is_taken_is_a_sentence(make_daemon: DaemonMaker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = make_daemon(api__listen=f"127.0.0.1:{port}").spawn()
        assert daemon.wait() == 1
    assert f"cannot listen on 127.0.0.1:{port}" in daemon.log.splitlines()[-1]


def test_what_gunicorn_is_told_goes_before_the_configuration(make_daemon: DaemonMaker) -> None:
    """Where the configured port is another daemon's, ``--bind`` is the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = make_daemon(by_hand=True, api__listen=listen)
        daemon.arguments = ("--bind", f"127.0.0.1:{daemon.port}")
        daemon.start()
        with Wire(daemon.port) as wire:
            assert wire.get("/blob?ns=dev&path=a").body == b"0123456789"
        assert daemon.stop() == 0
        daemon.arguments = ("--bind", listen)
        assert daemon.spawn().wait() == 1
    assert f"cannot listen on {listen}" in daemon.log.splitlines()[-1]


# -- the end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_streams_finish_and_nobody_new_comes_in(make_daemon: DaemonMaker, number: signal.Signals) -> None:
    daemon = make_daemon().start()
    with Wire(daemon.port) as idle, slow_reader(daemon.port) as response:
        assert idle.get("/healthz").status == 200
        received = response.read(1 * MIB)
        os.kill(daemon.pid, number)
        wait_until(lambda: refuses(daemon.port), "the port is closed")
        assert received + response.read() == BIG
    assert daemon.wait() == 0


def test_who_has_asked_for_nothing_does_not_hold_the_end_up(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon(api__drain_sec=3600, api__send_timeout_sec=3600).start()
    with Wire(daemon.port) as idle, raw_connection(daemon.port, b"GET /blob?ns=dev") as half_sent:
        assert idle.get("/healthz").status == 200
        assert daemon.stop() == 0
        assert received(half_sent).startswith(b"HTTP/1.1 408 ")


def test_nobody_who_got_a_connection_is_reset_by_the_end(make_daemon: DaemonMaker) -> None:
    """Clients that make a connection for each request, up to the moment when they are refused one."""
    answered: list[bytes] = []

    def ask_until_refused(port: int) -> None:
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
            except ConnectionRefusedError:
                return
            with connection:
                connection.sendall(GET_A)
                answered.append(received(connection)[-10:])

    for _ in range(3):
        daemon = make_daemon().start()
        answered.clear()
        with ThreadPoolExecutor(16) as pool:
            clients = [pool.submit(ask_until_refused, daemon.port) for _ in range(16)]
            wait_until(lambda: len(answered) > 500, "they are at it")
            assert daemon.stop() == 0
            for client in clients:
                client.result()
        assert set(answered) == {b"0123456789"}


def test_a_stream_that_does_not_end_is_cut_after_drain_sec(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon(api__drain_sec=1).start()
    with slow_reader(daemon.port) as response:
        assert daemon.stop() == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()


def test_a_second_signal_ends_at_once(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon(api__drain_sec=3600).start()
    pids = daemon.pids
    with slow_reader(daemon.port):
        os.kill(daemon.pid, signal.SIGTERM)
        wait_until(lambda: refuses(daemon.port), "the port is closed")
        os.kill(daemon.pid, signal.SIGTERM)
        assert daemon.wait() == -signal.SIGTERM
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all processes have ended")


def test_sigquit_does_not_wait_for_streams(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon(api__drain_sec=3600).start()
    with slow_reader(daemon.port) as response:
        os.kill(daemon.pid, signal.SIGQUIT)
        assert daemon.wait() == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()


def test_a_master_that_is_killed_takes_its_worker_along_and_the_port_is_free(
    make_daemon: DaemonMaker,
) -> None:
    daemon = make_daemon().start()
    with slow_reader(daemon.port):
        daemon.kill()
    daemon.start()
    with Wire(daemon.port) as wire:
        assert wire.get("/blob?ns=dev&path=a").status == 200


def test_a_worker_that_is_killed_is_replaced(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon().start()
    (worker,) = set(daemon.pids) - {daemon.pid}
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: set(daemon.pids) - {daemon.pid, worker}, "another worker is there")
    daemon.wait_until_ready()


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2, signal.SIGUSR1])
def test_signals_of_gunicorn_that_would_start_another_process_do_nothing(
    make_daemon: DaemonMaker, number: signal.Signals
) -> None:
    daemon = make_daemon().start()
    pids = daemon.pids
    os.kill(daemon.pid, number)
    wait_until(lambda: f"Handling signal: {number.name[3:].lower()}" in daemon.log, "it was handled")
    with Wire(daemon.port) as wire:
        assert wire.get("/healthz").status == 200
    assert daemon.pids == pids


def test_pages_that_wait_for_the_disk_are_written_before_the_end(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon().start()
    with Wire(daemon.port) as wire:
        assert wire.get("/blob?ns=dev&path=big").body == BIG
    assert daemon.restart() == 0
    with Wire(daemon.port) as wire:
        assert wire.get("/blob?ns=dev&path=big").body == BIG
    assert metric(daemon, "seekfs_store_requests_started_total", kind="pages") == 0
    assert metric(daemon, "seekfs_tier_crc_failures_total", tier="l2") == 0


# -- what it tells -------------------------------------------------------------------------------------


def test_what_reads_cost_is_in_the_metrics_and_the_advice(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon().start()
    with Wire(daemon.port) as wire:
        assert wire.get("/blob?ns=dev&path=big").body == BIG
        assert wire.get("/blob?ns=dev&path=big").body == BIG
        advice = json.loads(wire.get("/advisor").body)
    assert metric(daemon, "seekfs_store_requests_started_total", kind="pages") == 2
    assert metric(daemon, "seekfs_store_bytes_received_total") == len(BIG)
    count = "seekfs_http_request_duration_seconds_count"
    assert metric(daemon, count, endpoint="/blob", status="2xx") == 2
    assert metric(daemon, "seekfs_http_body_bytes_total", endpoint="/blob") == 2 * len(BIG)
    (dev,) = advice["namespaces"]
    assert (dev["ns"], dev["version"], dev["files"], dev["bytes"]) == ("dev", 1, 2, len(BIG) + 10)
    assert dev["gets_made"] == 2
    assert sum(dev["bytes_from"].values()) == 2 * len(BIG)


def test_looking_past_the_cache(make_daemon: DaemonMaker) -> None:
    daemon = make_daemon(api__debug=True).start()
    key = "namespaces/dev/files/a"
    with Wire(daemon.port) as wire:
        head = json.loads(wire.get("/test_head?ns=dev&path=a").body)
        assert (head["key"], head["size"]) == (key, 10)
        assert head["etag"]
        assert json.loads(wire.get(f"/test_head?key={key}").body) == head
        wire.get("/test_head?key=nothing").problem(502, "store-answered-wrongly")
        got = json.loads(wire.get("/test_s3?ns=dev&path=a&off=4&len=100").body)
        assert (got["key"], got["off"], got["len"], got["bytes"], got["status"]) == (key, 4, 100, 6, 206)
        assert got["seconds"] >= 0
        staged = json.loads(wire.get("/test_stream?ns=dev&path=big&page_id=3").body)
        assert (staged["page_id"], staged["off"], staged["len"]) == (3, 24 * MIB, 8 * MIB)
        assert (staged["tier"], staged["bytes_fetched"]) == ("l2", 8 * MIB)
        assert json.loads(wire.get("/test_stream?ns=dev&path=big&page_id=3").body)["bytes_fetched"] == 0
        wire.get("/test_stream?ns=dev&path=big&page_id=6").problem(416, "range-not-satisfiable")
