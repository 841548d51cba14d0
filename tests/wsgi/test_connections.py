"""seekfs_wsgi.connections: no wait for a client is without end, and no end is noisy."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]

from seekfs_wsgi.connections import ClientSocket, Connection
from seekfs_wsgi.sending import Disconnected

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


def test_a_client_that_stops_reading_is_given_up(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    ours, _ = pair
    ours.set_patience(0.05)
    with caplog.at_level(logging.INFO), pytest.raises(Disconnected, match="stopped reading"):
        ours.sendall(bytes(64 << 20))
    assert ours.has_stopped_reading
    assert caplog.records[0].getMessage().startswith("127.0.0.1:")


def test_a_client_that_stops_sending_is_given_up(pair: Pair) -> None:
    ours, _ = pair
    ours.set_patience(0.05)
    with pytest.raises(Disconnected, match="stopped sending"):
        ours.recv(100)
    assert not ours.has_stopped_reading


def test_a_client_that_sends_a_byte_at_a_time_is_given_up(pair: Pair) -> None:
    ours, client = pair

    def receive_for_ever() -> None:
        while True:
            client.sendall(b"x")
            assert ours.recv(100)

    ours.set_patience(30)
    ours.expect_within(0.05)
    with pytest.raises(Disconnected, match=r"more than 0\.05 seconds"):
        receive_for_ever()
    ours.expect_within(30)
    client.sendall(b"y")
    assert ours.recv(100)


def test_what_nobody_waits_for_has_all_the_time(pair: Pair) -> None:
    ours, _ = pair
    ours.expect_within(-1)
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(100)


@pytest.mark.parametrize("seconds", [0.000_000_1, 0.25, 1, 1.5, 86_400])
def test_patience_is_never_for_ever(pair: Pair, seconds: float) -> None:
    ours, _ = pair
    ours.set_patience(seconds)
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        assert any(ours.getsockopt(socket.SOL_SOCKET, option, 16))


def test_where_nobody_waited_nobody_is_given_up(pair: Pair) -> None:
    ours, _ = pair
    ours.set_patience(0.05)
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(100)


def test_a_client_that_reset_is_gone(pair: Pair) -> None:
    ours, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(Disconnected):
        ours.recv(100)
    with pytest.raises(Disconnected):
        ours.sendall(b"x")


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
    assert ours.recv(1) == b""
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
    held.cut()
    assert ours.recv(1) == b""
    with pytest.raises(Disconnected):
        ours.sendall(b"x")
