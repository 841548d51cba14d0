"""Clients that misbehave, in front of the real daemon: none holds it up, and each is told what was wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.e2e.http_wire import Wire, exchange, raw_connection, read_answer
from tests.e2e.serving import BIG, DaemonMaker, received, slow_reader
from tests.support.daemon import Daemon
from tests.support.dataset import MIB
from tests.support.metrics import metric
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]) -> Iterator[Daemon]:
    """A daemon that waits one second for a client, with two threads only."""
    quick = {"api.send_timeout_sec": 1}
    directory = tmp_path_factory.mktemp("impatient")
    with Daemon(directory, {**settings, **quick}, arguments=("--threads=2",)) as running:
        yield running


def test_clients_that_stop_reading_do_not_hold_the_daemon(impatient: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        stuck = [stack.enter_context(slow_reader(impatient.port)) for _ in range(2)]
        # Both threads are with them, until the daemon gives up on one.
        with Wire(impatient.port) as wire:
            assert wire.get("/blob?ns=dev&path=a").body == b"0123456789"
        for response in stuck:
            wait_until(lambda: impatient.log.count("stopped reading") >= 2, "both were given up")
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                response.read()


def test_clients_that_read_next_to_nothing_do_not_hold_the_daemon(impatient: Daemon) -> None:
    """Never silent for ``send_timeout_sec``, and never done."""
    before = impatient.log.count("stopped reading")
    over = threading.Event()

    def trickle(response: http.client.HTTPResponse) -> None:
        with contextlib.suppress(OSError, http.client.IncompleteRead):  # It was given up.
            while response.read(1) and not over.wait(0.1):
                pass

    with contextlib.ExitStack() as stack:
        readers = [
            threading.Thread(target=trickle, args=(stack.enter_context(slow_reader(impatient.port)),))
            for _ in range(2)
        ]
        for reader in readers:
            reader.start()
        stack.callback(over.set)
        with Wire(impatient.port) as wire:
            assert wire.get("/blob?ns=dev&path=a").body == b"0123456789"
            wait_until(lambda: impatient.log.count("stopped reading") >= before + 2, "both were given up")
            # The one that is left is that for the metrics themselves.
            wait_until(lambda: metric(impatient, IN_FLIGHT) == 1, "their threads are free")
        over.set()
        for reader in readers:
            reader.join()


def problem_in(answer: bytes, status: int) -> dict[str, Any]:
    """The problem document of an answer that was the connection's last."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} "), answer[:500]
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["content-length"] == str(len(body))
    document = json.loads(body)
    assert document["status"] == status
    assert document["request_id"] == headers["x-request-id"]
    return dict(document)


def check_logged(daemon: Daemon, document: dict[str, Any]) -> None:
    """Once, and it may come a moment after the answer."""
    request_id = document["request_id"]
    wait_until(lambda: request_id in daemon.log, "the log has it")
    assert sum(request_id in line for line in daemon.log.splitlines()) == 1


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]) -> Iterator[Daemon]:
    """A daemon with two threads that has little time for what a client sends."""
    quick = {"api.send_timeout_sec": 1, "api.request_deadline_sec": 2, "api.request_max_mib": 1}
    directory = tmp_path_factory.mktemp("strict")
    with Daemon(directory, {**settings, **quick}, arguments=("--threads=2",)) as running:
        yield running


IN_FLIGHT = "seekfs_http_requests_in_flight"

POST = b"POST /readv?ns=dev HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HALF_SENT = [
    b"GET /blob?ns=dev",
    POST + b"Content-Length: 9\r\n\r\n[",
    CHUNKED + b"5\r\n[",
    CHUNKED,
    # For a thread to read, but never for all of them.
    POST + b"Content-Length: 900000\r\n\r\n[",
    CHUNKED + b"20000\r\n" + b" " * 70_000,
]


def test_requests_that_do_not_come_to_their_end_hold_nobody_up(make_daemon: DaemonMaker) -> None:
    """They are given up only after an hour: who is answered was not waiting for that."""
    patient = {"api__send_timeout_sec": 3600, "api__request_deadline_sec": 3600}
    daemon = make_daemon(arguments=("--threads=2",), **patient).start()
    with contextlib.ExitStack() as stack:
        for sent in HALF_SENT * 10:
            stack.enter_context(raw_connection(daemon.port, sent))
        for _ in range(10):
            with Wire(daemon.port) as wire:
                assert wire.get("/blob?ns=dev&path=a").body == b"0123456789"
                assert wire.post("/readv?ns=dev", b'[{"path":"a","off":1,"len":2}]').body == b"12"


def test_a_large_body_that_was_read_makes_room_for_the_next(make_daemon: DaemonMaker) -> None:
    """While its answer is still being sent: of two threads, one at a time may be reading."""
    daemon = make_daemon(arguments=("--threads=2",), api__send_timeout_sec=3600).start()
    padding = b" " * 70_000
    head = POST + b"Content-Length: %d\r\n\r\n"
    everything = b'[{"path":"big","off":0,"len":%d}]' % len(BIG) + padding
    with raw_connection(daemon.port, head % len(everything) + everything) as slow:
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        with Wire(daemon.port) as wire:
            body = b'[{"path":"a","off":1,"len":2}]' + padding
            assert wire.post("/readv?ns=dev", body).body == b"12"


@pytest.mark.parametrize("sent", HALF_SENT, ids=lambda sent: repr(sent[-30:]))
def test_clients_that_stop_sending_are_told(strict: Daemon, sent: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for connection in [stack.enter_context(raw_connection(strict.port, sent)) for _ in range(4)]:
            document = problem_in(received(connection), 408)
            assert ("send_timeout" if sent == HALF_SENT[0] else "request_deadline") in document["detail"]
            check_logged(strict, document)


@pytest.mark.parametrize("sent", HALF_SENT, ids=lambda sent: repr(sent[-30:]))
def test_a_request_that_ends_half_way_is_malformed(strict: Daemon, sent: bytes) -> None:
    with raw_connection(strict.port, sent) as connection:
        connection.shutdown(socket.SHUT_WR)
        document = problem_in(received(connection), 400)
    assert "ended" in document["detail"]
    check_logged(strict, document)


def test_clients_that_send_a_byte_at_a_time_do_not_hold_the_daemon(strict: Daemon) -> None:
    """Never silent for ``send_timeout_sec``, and never done."""
    over = threading.Event()

    def trickle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # It was given up.
            while not over.wait(0.1):
                connection.sendall(b"a")

    with contextlib.ExitStack() as stack:
        stack.callback(over.set)
        threads = []
        for beginning in (b"GET /healthz HTTP/1.1\r\nX: ", POST + b"Content-Length: 9999\r\n\r\n") * 4:
            stuck = stack.enter_context(raw_connection(strict.port, beginning))
            threads.append(threading.Thread(target=trickle, args=(stuck,)))
            threads[-1].start()
            stack.callback(received, stuck)
        with Wire(strict.port) as wire:
            assert wire.get("/blob?ns=dev&path=a").body == b"0123456789"
        wait_until(lambda: "head did not come" in strict.log, "a head was given up")
        wait_until(lambda: "body did not come" in strict.log, "a body was given up")
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (CHUNKED + b"4000001", 413),
        (CHUNKED + b"4000001\r\n", 413),
        (CHUNKED + b"f" * 16 + b"\r\n", 413),
        (CHUNKED + b"f" * 30 + b"\r\n[]", 413),
        (CHUNKED + b"f" * 10_000 + b"\r\n", 413),
        (CHUNKED + b"20000\r\n" + b" " * 0x20000 + b"\r\nffffff\r\n", 413),
        (POST + b"Content-Length: 1048577\r\n\r\n", 413),
        (CHUNKED + b"-1\r\n", 400),
        (CHUNKED + b"2\r\n[]]", 400),
        (CHUNKED + b"20000\r\n" + b" " * 0x20000 + b"x", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 70_000, 431),
    ],
    ids=lambda value: repr(value)[-20:],
)
def test_what_will_never_be_a_request_is_answered_at_once(strict: Daemon, sent: bytes, status: int) -> None:
    """The client leaves its side open, and is not waited for: there is no 408."""
    document = problem_in(exchange(strict.port, sent), status)
    if status == 413:
        assert document["bytes_max"] == MIB
    check_logged(strict, document)


def test_a_body_that_nobody_asked_for_is_no_second_answer(strict: Daemon) -> None:
    for beginning in (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", POST.replace(b"/readv", b"/nowhere")):
        # The framing is right, and only gunicorn looks at a trailer's fields.
        sent = beginning + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nHost: y\r\n\r\n"
        assert exchange(strict.port, sent).count(b"HTTP/1.1 ") == 1
    # Nor is it waited for: that would end in a 408.
    sent = POST.replace(b"/readv", b"/nowhere") + b"Content-Length: 900000\r\n\r\n["
    answer = exchange(strict.port, sent)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_large_bodies_are_read_and_their_connections_kept(strict: Daemon) -> None:
    item = b'{"path":"a","off":0,"len":1}'
    body = b"[" + b",".join([item] * 5000) + b"]"

    def post(chunked: bool) -> bool:
        with Wire(strict.port) as wire:
            for _ in range(3):
                sent = iter([body[:70_000], body[70_000:]]) if chunked else body
                answer = wire.post("/readv?ns=dev", sent)
                assert answer.body == b"0" * 5000
                assert answer.headers["connection"] == "keep-alive"
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(post, [True, False] * 4))


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(strict: Daemon) -> None:
    with raw_connection(
        strict.port, POST + b"Content-Length: 30\r\nExpect: 100-continue\r\n\r\n"
    ) as connection:
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'[{"path":"a","off":1,"len":2}]')
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert read_answer(response).body == b"12"


def test_the_daemon_is_seen_to_live_while_every_thread_is_with_a_slow_client(
    make_daemon: DaemonMaker,
) -> None:
    daemon = make_daemon(arguments=("--threads=2",)).start()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(raw_connection(daemon.port))
            connection.sendall(b"GET /blob?ns=dev&path=big HTTP/1.1\r\nHost: x\r\n\r\n" * 9)
        with Wire(daemon.port) as wire:
            # Both threads and the one that answers this; the other two clients wait.
            wait_until(lambda: metric(daemon, IN_FLIGHT) == 3, "every thread is busy")
            for _ in range(20):
                assert wire.get("/healthz").body == b"ok"
                assert wire.get("/readyz").status == 200
            assert metric(daemon, IN_FLIGHT) == 3


def test_connections_on_which_nothing_is_sent_hold_no_thread(impatient: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(raw_connection(impatient.port)) for _ in range(40)]
        # A thread each for five seconds, as gunicorn has it, would be 100 seconds of waiting.
        with Wire(impatient.port) as wire:
            assert wire.get("/healthz").body == b"ok"
        for connection in idle:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for connection in idle:
            assert received(connection).endswith(b"ok")


def test_a_client_that_leaves_half_way_is_no_error(impatient: Daemon) -> None:
    for _ in range(5):
        with slow_reader(impatient.port) as response:
            response.read(100_000)
    with Wire(impatient.port) as wire:
        assert wire.get("/blob?ns=dev&path=big").body == BIG
    cut_off = partial(metric, impatient, "seekfs_http_answers_cut_off_total", endpoint="/blob")
    wait_until(lambda: cut_off() >= 5, "all five are counted")
    impatient.check_log()


def test_a_slow_client_that_goes_on_reading_gets_everything(impatient: Daemon) -> None:
    """Slower than ``send_timeout_sec`` in all, at a few hundred KiB a second."""
    with slow_reader(impatient.port, "/blob?ns=dev&path=big&len=2097152") as response:
        received = bytearray()
        pause = threading.Event()
        while piece := response.read(16 * 1024):
            received += piece
            pause.wait(0.05)
    assert received == BIG[: 2 * MIB]


@pytest.mark.parametrize(
    "header", ["SCRIPT_NAME: /elsewhere", "PATH_INFO: /metrics", "X-Forwarded-Proto: https"]
)
def test_what_only_a_proxy_would_say_changes_nothing(impatient: Daemon, header: str) -> None:
    sent = (
        f"GET /healthz HTTP/1.1\r\nHost: x\r\n{header}\r\nX-Forwarded-Ssl: off\r\nConnection: close\r\n\r\n"
    )
    answer = exchange(impatient.port, sent.encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nok")


def test_pipelined_requests_are_answered_in_order(impatient: Daemon) -> None:
    requests = b"".join(
        f"GET /blob?ns=dev&path=a&off={off}&len=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode() for off in range(9)
    )
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = exchange(impatient.port, requests + last).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"%d" % off for off in range(9)] + [
        b"ok"
    ]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"get /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/3.0\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"POST /readv HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nExpect: miracles\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_http_is_a_problem_document_too(impatient: Daemon, sent: bytes, status: int) -> None:
    check_logged(impatient, problem_in(exchange(impatient.port, sent), status))


def test_a_target_that_is_not_escaped_is_told_so(impatient: Daemon) -> None:
    sent = "GET /blob?ns=dev&path=☃ HTTP/1.1\r\n\r\n".encode()
    assert "percent-encoded" in problem_in(exchange(impatient.port, sent), 400)["detail"]


def test_many_clients_at_once(impatient: Daemon) -> None:
    def read(number: int) -> bool:
        with Wire(impatient.port) as wire:
            first = number * 1_000_003 % (40 * MIB)
            return all(
                wire.get(f"/blob?ns=dev&path=big&off={off}&len=4096").body == BIG[off : off + 4096]
                for off in range(first, first + 20 * 4096, 4096)
            )

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(read, range(64)))
