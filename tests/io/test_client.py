"""The client against answers of every kind: right ones, refusals, and what breaks off half-way.

``responses`` stands in for the daemon where only the reading of an answer is in question; where the
connection itself is (a cut, nobody there, a fork) a socket on loopback does.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import crc32c
import pytest
import requests
import responses

from seekfs_core.errors import BadRequest, InvalidName
from seekfs_io.client import BadAnswer, Client, DaemonError, DaemonUnreachable, ShortRead

URL = "http://127.0.0.1:7070"
FRAMES = "application/x-seekfs-frames"
PROBLEM = {
    "type": "urn:seekfs:problem:no-such-file",
    "title": "No such file",
    "status": 404,
    "detail": "dev at version 3 has no file 'a.bin'",
    "request_id": "r-17",
    "path": "a.bin",
}


def frame(status: int, payload: bytes) -> bytes:
    """A frame as the contract describes it, written out by hand."""
    return (
        status.to_bytes(4, "little")
        + crc32c.crc32c(payload).to_bytes(4, "little")
        + len(payload).to_bytes(8, "little")
        + payload
    )


@pytest.fixture
def daemon() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(URL) as client:
        yield client


def add_blob(
    daemon: responses.RequestsMock, body: bytes, announced: int | None = None, stale: bool = False
) -> None:
    size = len(body) if announced is None else announced
    more = {"X-Seekfs-Stale": "1"} if stale else {}
    daemon.get(
        f"{URL}/blob",
        body=body,
        headers={"Content-Length": str(size), "ETag": '"sha256:ab"', "X-Seekfs-Version": "3", **more},
        auto_calculate_content_length=False,
    )


# -- /blob ---------------------------------------------------------------------------------------


def test_blob_names_every_parameter_once_and_encodes_it_once(
    daemon: responses.RequestsMock, client: Client
) -> None:
    add_blob(daemon, b"four")
    path = "a b/100%+☃&=.bin"
    assert client.blob("dev", path, 5, 4, version=3, hash="ab" * 32) == b"four"
    sent = daemon.calls[0].request
    assert sent.url == (
        f"{URL}/blob?ns=dev&path=a%20b/100%25%2B%E2%98%83%26%3D.bin&version=3&hash={'ab' * 32}&off=5&len=4"
    )
    assert sent.headers["Accept-Encoding"] == "identity"


def test_open_blob_gives_the_facts_and_the_bytes_in_pieces(
    daemon: responses.RequestsMock, client: Client
) -> None:
    add_blob(daemon, bytes(range(256)) * 8192, stale=True)
    with client.open_blob("dev", "a.bin") as body:
        assert (body.length, body.hash, body.version, body.stale) == (2 << 20, "sha256:ab", 3, True)
        assert body.read(3) == b"\0\1\2"
        view = bytearray(5)
        assert body.readinto(view) == 5
        assert bytes(view) == b"\3\4\5\6\7"
        assert [len(piece) for piece in body] == [1 << 20, (1 << 20) - 8]
        assert body.read() == body.read(10) == b""


def test_an_empty_blob_is_no_error(daemon: responses.RequestsMock, client: Client) -> None:
    add_blob(daemon, b"")
    assert client.blob("dev", "empty") == b""


def test_a_body_shorter_than_announced_is_never_returned(
    daemon: responses.RequestsMock, client: Client
) -> None:
    add_blob(daemon, b"only this", announced=4096)
    with pytest.raises(ShortRead, match=r"/blob broke off after \d+ of 4096 bytes") as caught:
        client.blob("dev", "a.bin")
    assert caught.value.context["expected"] == 4096


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "4", "Content-Encoding": "gzip"}])
def test_a_body_of_unknown_length_is_refused(
    daemon: responses.RequestsMock, client: Client, headers: dict[str, str]
) -> None:
    daemon.get(f"{URL}/blob", body=b"four", headers=headers, auto_calculate_content_length=False)
    with pytest.raises(BadAnswer, match="cannot be told whole"):
        client.blob("dev", "a.bin")


def test_head_reads_the_facts_and_no_body(daemon: responses.RequestsMock, client: Client) -> None:
    daemon.head(
        f"{URL}/blob",
        headers={"Content-Length": "1073741824", "ETag": '"sha256:ab"', "X-Seekfs-Version": "7"},
        auto_calculate_content_length=False,
    )
    head = client.head("dev", "a.bin")
    assert (head.length, head.hash, head.version, head.stale) == (1 << 30, "sha256:ab", 7, False)


def test_head_of_what_is_not_there_says_what_is_not_there(
    daemon: responses.RequestsMock, client: Client
) -> None:
    daemon.head(f"{URL}/blob", status=404)
    daemon.get(f"{URL}/blob", json=PROBLEM, status=404)
    with pytest.raises(DaemonError, match="has no file 'a.bin'"):
        client.head("dev", "a.bin")


def test_an_answer_without_a_version_is_not_a_daemons(daemon: responses.RequestsMock, client: Client) -> None:
    daemon.head(f"{URL}/blob", headers={"Content-Length": "7"}, auto_calculate_content_length=False)
    with pytest.raises(BadAnswer, match="named no version: is it a seekfs daemon"):
        client.head("dev", "a.bin")


# -- /readv --------------------------------------------------------------------------------------

ITEMS = [("b.bin", 4, 3), ("a.bin", 0, 0), ("b.bin", 0, 4)]


def add_readv(daemon: responses.RequestsMock, body: bytes, content_type: str) -> None:
    daemon.post(
        f"{URL}/readv",
        body=body,
        content_type=content_type,
        auto_calculate_content_length=True,
    )


def test_readv_cuts_the_body_in_request_order(daemon: responses.RequestsMock, client: Client) -> None:
    add_readv(daemon, b"xyzabcd", "application/octet-stream")
    assert client.readv("dev", ITEMS, version=9) == [b"xyz", b"", b"abcd"]
    sent = daemon.calls[0].request
    assert sent.url == f"{URL}/readv?ns=dev&version=9"
    assert json.loads(sent.body or b"") == [{"path": p, "off": off, "len": size} for p, off, size in ITEMS]


def test_readv_refuses_a_body_of_another_length(daemon: responses.RequestsMock, client: Client) -> None:
    # One byte too few would shift every item behind it.
    add_readv(daemon, b"xyabcd", "application/octet-stream")
    with pytest.raises(BadAnswer, match="announced 6 bytes for ranges of 7"):
        client.readv("dev", ITEMS)


def test_frames_join_into_items_and_a_bad_item_fails_alone(
    daemon: responses.RequestsMock, client: Client
) -> None:
    problem = json.dumps(PROBLEM).encode()
    body = (
        frame(206, b"xy") + frame(200, b"z")
        + frame(206, b"void") + frame(404, problem)
        + frame(200, b"")
    )  # fmt: skip
    add_readv(daemon, body, FRAMES)
    answers = list(client.readv_frames("dev", ITEMS))
    assert answers[0] == (0, b"xyz")
    assert answers[2] == (2, b"")
    index, failure = answers[1]
    assert index == 1
    assert isinstance(failure, DaemonError)
    assert (failure.status, failure.problem, failure.request_id) == (404, "no-such-file", "r-17")
    assert daemon.calls[0].request.headers["Accept"] == FRAMES


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda body: body[:-1] + b"?", BadAnswer, "CRC-32C"),
        (lambda body: body[:-1], ShortRead, "broke off"),
        (lambda body: body[:20], ShortRead, "broke off"),
        (lambda body: body[:19], ShortRead, "broke off"),
        (lambda body: body + b"!", BadAnswer, "goes on after the last"),
        (lambda body: b"\x64" + body[1:], BadAnswer, "status 100"),
        (lambda body: body[:8] + b"\xff" * 8 + body[16:], BadAnswer, "18446744073709551615 bytes"),
    ],
)
def test_a_spoilt_frame_is_never_returned(
    daemon: responses.RequestsMock,
    client: Client,
    spoil: Callable[[bytes], bytes],
    error: type[Exception],
    words: str,
) -> None:
    whole = frame(200, b"xyz")
    add_readv(daemon, spoil(whole + frame(200, b"abcd")), FRAMES)
    with pytest.raises(error, match=words):
        list(client.readv_frames("dev", [("a", 0, 3), ("a", 3, 4)]))


def test_frames_of_another_type_are_refused(daemon: responses.RequestsMock, client: Client) -> None:
    add_readv(daemon, frame(200, b"xyz"), "application/octet-stream")
    with pytest.raises(BadAnswer, match="not application/x-seekfs-frames"):
        list(client.readv_frames("dev", [("a", 0, 3)]))


# -- errors --------------------------------------------------------------------------------------


def test_a_problem_document_becomes_an_exception_that_can_be_pickled(
    daemon: responses.RequestsMock, client: Client
) -> None:
    daemon.get(f"{URL}/blob", json=PROBLEM, status=404, content_type="application/problem+json")
    with pytest.raises(DaemonError) as caught:
        client.blob("dev", "a.bin")
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert error.status == 404
        assert error.detail == "dev at version 3 has no file 'a.bin'"
        assert error.request_id == "r-17"
        assert error.problem == "no-such-file"
        assert error.context["path"] == "a.bin"
        assert "status 404, request r-17" in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>nginx</html>", b"[1]", b"\xff\xfe", b'{"detail": 7}'])
def test_an_error_without_a_document_still_names_status_and_url(
    daemon: responses.RequestsMock, client: Client, body: bytes
) -> None:
    daemon.get(f"{URL}/blob", body=body, status=502)
    with pytest.raises(DaemonError) as caught:
        client.blob("dev", "a.bin")
    assert caught.value.status == 502
    assert str(caught.value)


def test_a_redirect_is_not_followed(daemon: responses.RequestsMock, client: Client) -> None:
    daemon.get(f"{URL}/blob", status=302, headers={"Location": "http://elsewhere.invalid/"})
    with pytest.raises(BadAnswer, match="302: is it a seekfs daemon"):
        client.blob("dev", "a.bin")


@pytest.mark.parametrize("body", [b"[]", b"hello", b"\xff"])
def test_json_that_is_no_object_is_refused(
    daemon: responses.RequestsMock, client: Client, body: bytes
) -> None:
    daemon.get(f"{URL}/advisor", body=body, auto_calculate_content_length=True)
    with pytest.raises(BadAnswer, match="is it a seekfs daemon"):
        client.advisor()


@pytest.mark.parametrize("url", ["127.0.0.1:7070", "unix:", "unix:/a\nb", f"unix:/{'x' * 107}", "http://", "http://h:0", "http://h:x", "ftp://h", "http://h?a"])  # fmt: skip # noqa: E501
def test_an_address_that_cannot_be_one_is_named(url: str) -> None:
    with pytest.raises(BadRequest, match="is no address of a daemon"):
        Client(url)


def test_a_name_that_is_no_unicode_is_refused_before_it_is_sent(client: Client) -> None:
    name = os.fsdecode(b"\xff.bin")
    with pytest.raises(InvalidName):
        client.blob("dev", name)
    with pytest.raises(InvalidName):
        client.readv("dev", [(name, 0, 1)])


# -- the small calls -----------------------------------------------------------------------------


def test_the_small_calls_ask_for_what_they_say(daemon: responses.RequestsMock, client: Client) -> None:
    document = {"key": "k"}
    for call in ("test_head", "test_s3", "test_stream", "advisor"):
        daemon.get(f"{URL}/{call}", json=document, auto_calculate_content_length=True)
    daemon.get(f"{URL}/healthz", body=b"ok\n", auto_calculate_content_length=True)
    daemon.get(f"{URL}/metrics", body=b"a 1\n", auto_calculate_content_length=True)
    daemon.get(f"{URL}/readyz", json={"reasons": ["no"]}, status=503, auto_calculate_content_length=True)
    assert client.test_head("dev", "a") == client.test_head(key="k") == document
    assert client.test_s3("dev", "a", off=1, length=2) == document
    assert client.test_stream("dev", "a", 0) == document
    assert client.advisor() == document
    assert client.health()
    assert client.metrics() == "a 1\n"
    ready = client.ready()
    assert (ready.ready, ready.document) == (False, {"reasons": ["no"]})
    queries = [str(call.request.url).removeprefix(URL) for call in daemon.calls]
    assert queries[:4] == [
        "/test_head?ns=dev&path=a",
        "/test_head?key=k",
        "/test_s3?ns=dev&path=a&off=1&len=2",
        "/test_stream?ns=dev&path=a&page_id=0",
    ]


# -- the connection ------------------------------------------------------------------------------


@contextmanager
def listener(serve: Callable[[socket.socket, int], Any]) -> Iterator[str]:
    """A server on loopback that hands each connection, and its number, to ``serve``."""
    server = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def accept() -> None:
        number = 0
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            thread = threading.Thread(target=handle, args=(connection, number))
            thread.start()
            threads.append(thread)
            number += 1

    def handle(connection: socket.socket, number: int) -> None:
        with connection:
            serve(connection, number)

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        acceptor.join()
        for thread in threads:
            thread.join()


def receive_head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(4096)
        if not piece:
            return b""
        data += piece
    return data


def answer(body: bytes, announced: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (announced, body)


def test_nobody_there_names_the_url_and_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(DaemonUnreachable, match=f"127.0.0.1:{port}: Connection refused$") as caught:
            client.health()
    assert pickle.loads(pickle.dumps(caught.value)).context["url"] == f"http://127.0.0.1:{port}"


def test_an_answer_that_never_comes_is_told_apart() -> None:
    silent = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        receive_head(connection)
        silent.wait(30)

    with listener(serve) as url, Client(url, read_timeout_seconds=0.2) as client:
        with pytest.raises(DaemonUnreachable, match="timed out"):
            client.health()
        silent.set()


def test_a_connection_closed_before_the_answer_is_told_apart() -> None:
    with listener(lambda connection, _: receive_head(connection)) as url, Client(url) as client:
        with pytest.raises(DaemonUnreachable, match="closed without an answer"):
            client.health()


class Credulous(requests.adapters.HTTPAdapter):
    """An adapter, as a user may bring one, that does not hold bodies against their length."""

    def send(self, *given: Any, **more: Any) -> requests.Response:
        response = super().send(*given, **more)
        response.raw.enforce_content_length = False
        return response


@pytest.mark.parametrize("adapter", [requests.adapters.HTTPAdapter, Credulous])
def test_a_connection_cut_in_the_body_is_a_short_read(adapter: type[requests.adapters.HTTPAdapter]) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        receive_head(connection)
        connection.sendall(answer(b"x" * 1000, 2000))

    with listener(serve) as url, requests.Session() as session, Client(url, session) as client:
        session.mount("http://", adapter())
        with pytest.raises(ShortRead, match="of 2000 bytes"):
            client.blob("dev", "a.bin")


def test_a_body_that_stops_is_told_apart_from_one_that_ends() -> None:
    silent = threading.Event()

    def serve(connection: socket.socket, number: int) -> None:
        receive_head(connection)
        connection.sendall(answer(b"x" * 1000, 2000))
        silent.wait(30)

    with listener(serve) as url, Client(url, read_timeout_seconds=0.2) as client:
        with pytest.raises(DaemonUnreachable, match="stopped sending"):
            client.blob("dev", "a.bin")
        silent.set()


def serve_its_number(connection: socket.socket, number: int) -> None:
    """Answers every request of one connection with that connection's number."""
    while head := receive_head(connection):
        body = b"" if b"path=empty" in head else b"%d" % number
        connection.sendall(answer(body, len(body)))


def test_a_connection_is_used_again_after_a_whole_body_and_dropped_after_part_of_one() -> None:
    with listener(serve_its_number) as url, Client(url) as client:
        assert [client.blob("dev", "a") for _ in range(3)] == [b"0"] * 3
        assert client.blob("dev", "empty") == b""
        assert client.blob("dev", "a") == b"0"
        with client.open_blob("dev", "a"):
            pass
        assert client.blob("dev", "a") == b"1"


@contextmanager
def held(locks: list[Any]) -> Iterator[None]:
    """``locks`` in the hands of another thread, as it may have them when a process forks."""
    has_them, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            has_them.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has_them.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def locks_of(session: requests.Session) -> list[Any]:
    """Those that requests and urllib3 take when they open, use or close a connection."""
    pools = session.get_adapter(URL).poolmanager.pools  # type: ignore[attr-defined]
    queues = [pools[key].pool for key in list(pools.keys())]
    return [session.cookies._cookies_lock, pools.lock, *[queue.mutex for queue in queues]]  # type: ignore[attr-defined]


def forked(work: Callable[[], bytes]) -> bytes:
    """What ``work`` returns in a child process; a child that hangs is ended by its alarm."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The listener's threads do not survive the fork, and nobody in the child needs them.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # pragma: no cover: measured in the parent only
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)
            os.write(writer, work())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as told:
        return told.read()


@pytest.mark.parametrize("own", [True, False])
def test_a_fork_does_not_share_the_connection(own: bool) -> None:
    """Parent and child on one socket would read each other's answers."""
    with listener(serve_its_number) as url:
        with requests.Session() as session, Client(url, None if own else session) as client:
            assert client.blob("dev", "a") == b"0"
            assert forked(lambda: client.blob("dev", "a")) == b"1"
            assert client.blob("dev", "a") == b"0"


@pytest.mark.parametrize("own", [True, False])
def test_a_fork_waits_for_no_lock_that_a_thread_of_the_parent_has(own: bool) -> None:
    with listener(serve_its_number) as url:
        with requests.Session() as session, Client(url, None if own else session) as client:
            assert client.blob("dev", "a") == b"0"

            def read_and_close() -> bytes:
                data = client.blob("dev", "a") + client.blob("dev", "a")
                client.close()
                gc.collect()
                return data

            def close() -> bytes:
                client.close()
                return b"closed"

            with held(locks_of(client._session)):
                assert forked(read_and_close) == b"11"
            with held(locks_of(client._session)):
                assert forked(close) == b"closed"
            assert client.blob("dev", "a") == b"0"


class Remembering(requests.adapters.HTTPAdapter):
    """An adapter, as a user may bring one, that needs more than what it pickles."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        super().__init__()

    def init_poolmanager(self, *given: Any, **more: Any) -> None:
        self.told.append("pools")
        super().init_poolmanager(*given, **more)


def test_a_session_that_was_handed_in_stays_the_same_after_a_fork() -> None:
    with listener(serve_its_number) as url, requests.Session() as session, Client(url, session) as client:
        adapter = Remembering([])
        session.mount("http://", adapter)
        session.cookies.set("of", "the user")

        def read() -> bytes:
            client.blob("dev", "a")
            same = session.get_adapter(url) is adapter and session.cookies["of"] == "the user"
            return f"{same} {adapter.told}".encode()

        assert forked(read) == b"True ['pools', 'pools']"


def test_a_session_that_was_handed_in_is_used_and_left_open(daemon: responses.RequestsMock) -> None:
    daemon.get(f"{URL}/healthz", body=b"ok", auto_calculate_content_length=True)
    with requests.Session() as session:
        session.headers["X-Job"] = "train-7"
        with Client(URL, session) as client:
            assert client.health()
        assert daemon.calls[0].request.headers["X-Job"] == "train-7"
        assert Client(URL, session).health()
