"""seekfs_wsgi.connections: no wait for a client is without end, and no end is noisy."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from werkzeug.exceptions import RequestTimeout

from seekfs_core.errors import BadRequest
from seekfs_wsgi.arrival import Arrival, Limits, Stage
from seekfs_wsgi.connections import TAKEN_BYTES_MIN, ClientSocket, Connection, Waiting, deafen
from seekfs_wsgi.sending import CutOff, Disconnected

Pair = tuple[ClientSocket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Ours and the client's, over TCP as it is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    client.settimeout(30)
    ours = ClientSocket(accepted.family, accepted.type, accepted.proto, accepted.detach())
    with ours, client:
        yield ours, client


LIMITS = Limits(
    request_line_bytes_max=8190,
    held_bytes_max=1024,
    body_bytes_max=1 << 20,
    head_seconds_max=1,
    body_seconds_max=2,
)
HEAD = b"POST /readv HTTP/1.1\r\nContent-Length: %d\r\n\r\n"


def receive(ours: ClientSocket) -> bool:
    """Until the next stage of the request, or its end."""
    before = ours.arrival.stage
    ours.setblocking(True)
    has_more = True
    while has_more and ours.arrival.stage is before:
        has_more = ours.receive()
    return has_more


@pytest.fixture
def asked(pair: Pair) -> Pair:
    """A request is awaited."""
    pair[0].await_request(Arrival(LIMITS))
    return pair


# -- a request comes in --------------------------------------------------------------------------------


def test_what_was_received_is_read_again_by_the_parser(asked: Pair) -> None:
    ours, client = asked
    client.sendall(HEAD % 4)
    assert receive(ours)
    client.sendall(b"[12]")
    assert receive(ours)
    assert ours.arrival.is_whole
    assert ours.recv(4) == b"POST"
    assert ours.recv(1000) == (HEAD % 4)[4:] + b"[12]"
    # The client is there and silent: whoever reads on does not wait for it.
    assert ours.recv(1000) == b""


def test_what_the_parser_read_ahead_comes_first(asked: Pair) -> None:
    ours, client = asked
    client.sendall(HEAD % 0 + b"GET /second")
    assert receive(ours)
    ours.await_request(Arrival(LIMITS), ours.recv(1000)[len(HEAD % 0) :])
    assert ours.arrival.stage is Stage.HEAD
    client.sendall(b" HTTP/1.1\r\n\r\n")
    assert receive(ours)
    assert ours.arrival.path == b"/second"
    assert ours.recv(1000) == b"GET /second HTTP/1.1\r\n\r\n"


def test_no_more_is_kept_than_may_be(asked: Pair) -> None:
    ours, client = asked
    client.sendall(HEAD % 100_000 + b"x" * 10_000)
    assert receive(ours)
    assert ours.arrival.stage is Stage.LARGE
    assert len(ours.recv(100_000)) == LIMITS.held_bytes_max


def test_the_end_of_the_client_is_told(asked: Pair) -> None:
    ours, client = asked
    client.sendall(HEAD % 4 + b"[1")
    client.shutdown(socket.SHUT_WR)
    while ours.receive():
        pass
    with pytest.raises(BadRequest, match="after 2 of 4 bytes"):
        raise ours.arrival.refusal or AssertionError


def reading(asked: Pair, sent: bytes) -> tuple[ClientSocket, socket.socket, list[str]]:
    """A large body that a thread reads, all that had come already taken; and what it tells others."""
    ours, client = asked
    told: list[str] = []
    client.sendall(sent)
    while ours.arrival.stage is not Stage.LARGE:
        assert receive(ours)
    ours.when_read = lambda: told.append("read")
    ours.read_until = time.monotonic() + 60
    while ours._received:
        ours.recv(1 << 20)
    return ours, client, told


def test_a_thread_reads_a_large_body_to_its_end_and_no_further(asked: Pair) -> None:
    ours, client, told = reading(asked, HEAD % 3000)
    client.sendall(b"x" * 2999)
    left = 2999
    while left:
        left -= len(ours.recv(1000))
    assert told == []
    client.sendall(b"x")
    assert ours.recv(1000) == b"x"
    assert told == ["read"]
    assert ours.recv(1000) == b""


def test_a_large_body_that_ends_early_is_refused_to_its_reader(asked: Pair) -> None:
    ours, client, told = reading(asked, HEAD % 3000)
    client.close()
    with pytest.raises(BadRequest, match="after 0 of 3000 bytes"):
        ours.recv(1000)
    assert told == ["read"]


def test_a_large_body_that_is_malformed_is_refused_to_its_reader(asked: Pair) -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    ours, client, told = reading(asked, head + b"1000\r\n" + b"x" * (LIMITS.held_bytes_max - len(head) - 6))
    client.sendall(b"x" * 4096)
    with pytest.raises(BadRequest, match="not the end of a chunk"):
        list(iter(lambda: ours.recv(1000), b""))
    assert told == ["read"]


@pytest.mark.parametrize("seconds", [-1.0, 0.05])
def test_a_large_body_that_does_not_come_is_given_up(asked: Pair, seconds: float) -> None:
    ours, _, told = reading(asked, HEAD % 3000)
    ours.read_until = time.monotonic() + seconds
    with pytest.raises(RequestTimeout):
        ours.recv(100)
    assert told == ["read"]


def test_a_large_body_that_comes_a_byte_at_a_time_is_given_up(asked: Pair) -> None:
    ours, client, _ = reading(asked, HEAD % 1_000_000)
    ours.read_until = time.monotonic() + 0.05

    def receive_for_ever() -> None:
        while True:
            client.sendall(b"x")
            assert ours.recv(1)

    with pytest.raises(RequestTimeout):
        receive_for_ever()


def test_a_client_that_reset_is_gone(asked: Pair) -> None:
    ours, client, _ = reading(asked, HEAD % 3000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(Disconnected):
        ours.recv(100)
    with pytest.raises(Disconnected):
        ours.sendall(b"x")


# -- an answer goes out --------------------------------------------------------------------------------


def test_a_client_that_stops_reading_is_given_up(pair: Pair) -> None:
    ours, client = pair
    ours.set_patience(0.05)
    host, port = client.getsockname()
    with pytest.raises(CutOff, match=f"the client {host}:{port} stopped reading: it took"):
        ours.sendall(bytes(64 << 20))
    assert ours.has_stopped_reading


@pytest.mark.parametrize("piece_bytes", [64 << 20, 100])
def test_a_client_that_reads_a_byte_at_a_time_is_given_up(pair: Pair, piece_bytes: int) -> None:
    """However the answer is cut into pieces."""
    ours, client = pair
    over = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):  # It was given up.
            while client.recv(1) and not over.wait(0.001):
                pass

    def send_for_ever() -> None:
        while True:
            ours.sendall(bytes(piece_bytes))

    ours.set_patience(0.3)
    thread = threading.Thread(target=trickle)
    thread.start()
    with pytest.raises(Disconnected, match="stopped reading"):
        send_for_ever()
    over.set()
    client.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_client_is_judged_by_what_it_takes_not_by_how_long_it_takes(pair: Pair) -> None:
    ours, _ = pair
    ours.set_patience(0.3)
    # As after a thousand waits of which each was long enough, behind each of which enough was taken.
    for _ in range(1000):
        ours._note_taken(TAKEN_BYTES_MIN - 1, 0.2)
        ours._note_taken(1, 0.2)
    ours._note_taken(1, 0.2)
    with pytest.raises(Disconnected, match=r"took 2 bytes in 0\.4 seconds"):
        ours._note_taken(1, 0.2)


def test_where_nobody_waited_nobody_is_given_up(pair: Pair) -> None:
    ours, _ = pair
    ours.set_patience(0.05)
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.sendall(bytes(64 << 20))
    assert not ours.send_at_once(b"x")
    assert not ours.has_stopped_reading


@pytest.mark.parametrize("seconds", [0.000_000_1, 0.25, 1, 1.5, 86_400])
def test_patience_is_never_for_ever(pair: Pair, seconds: float) -> None:
    ours, client = pair
    ours.set_patience(seconds)
    assert any(ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16))
    # A client that takes what it is sent is never given up.
    for _ in range(100):
        ours.sendall(b"x" * 10)
        assert client.recv(10)


# -- waiting -------------------------------------------------------------------------------------------


def test_who_began_to_wait_first_runs_out_first(pair: Pair) -> None:
    first, second = connection(pair[0]), connection(pair[0])
    waiting = Waiting(30)
    assert waiting.due() == math.inf
    assert waiting.expired(math.inf) == []
    waiting.add(first)
    waiting.add(second)
    assert waiting.due() == first.timeout
    assert waiting.expired(first.timeout - 1) == []
    assert waiting.expired(math.inf) == [first, second]
    waiting.cap(5.0)
    assert (first.timeout, second.timeout) == (5.0, 5.0)
    waiting.remove(first)
    assert waiting.expired(5.0) == [second]
    assert len(waiting) == 1


def test_a_deaf_listener_accepts_who_was_there_and_nobody_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as late:
        with socket.create_connection(server.getsockname()):
            deafen(server)
            late.setblocking(False)
            with pytest.raises(BlockingIOError):
                late.connect(server.getsockname())
            server.settimeout(30)
            server.accept()[0].close()
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()


# -- the end of a connection ---------------------------------------------------------------------------


def connection(ours: ClientSocket) -> Connection:
    return Connection(Config(), ours, ("127.0.0.1", 1), ("127.0.0.1", 2))


def test_goodbye_to_a_client_that_has_more_to_say(pair: Pair) -> None:
    ours, client = pair
    leaving = connection(ours)
    client.sendall(b"unread" * 1000)
    assert leaving.say_goodbye()
    assert client.recv(10) == b"", "it sees the end"
    client.sendall(b"more")
    client.shutdown(socket.SHUT_WR)
    ours.settimeout(30)
    while leaving.drain():
        pass
    leaving.close()


def test_goodbye_to_a_client_that_is_gone(pair: Pair) -> None:
    ours, client = pair
    client.close()
    ours.settimeout(30)
    assert not ours.throw_away(1)
    assert not connection(ours).say_goodbye()


def test_what_a_client_does_not_read_is_thrown_away(pair: Pair) -> None:
    ours, client = pair
    ours.set_patience(0.05)
    with pytest.raises(Disconnected):
        ours.sendall(bytes(64 << 20))
    leaving = connection(ours)
    assert not leaving.say_goodbye()
    leaving.close()
    with pytest.raises(ConnectionResetError):
        list(iter(lambda: client.recv(1 << 20), b""))


def test_cutting_wakes_who_waits(pair: Pair) -> None:
    ours, _ = pair
    held = connection(ours)
    ours.setblocking(True)
    held.cut("the daemon stops")
    assert not ours.throw_away(1)
    with pytest.raises(CutOff, match="the daemon stops"):
        ours.sendall(b"x")
