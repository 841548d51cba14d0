"""What the tests of the daemon as a process share: what it serves, waiting, and a client that is slow."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from tests.support.daemon import Daemon
from tests.support.dataset import MIB, File, some_bytes

WAIT_SECONDS: Final = 60.0
BIG: Final = some_bytes(48 * MIB, 1)
FILES: Final = {"a": File(b"0123456789"), "big": File(BIG)}

GET_A: Final = b"GET /blob?ns=dev&path=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

DaemonMaker = Callable[..., Daemon]


@contextlib.contextmanager
def slow_reader(port: int, target: str = "/blob?ns=dev&path=big") -> Iterator[http.client.HTTPResponse]:
    """An answer that has begun, and of which more is to be sent than all buffers hold."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.settimeout(WAIT_SECONDS)
        connection.connect(("127.0.0.1", port))
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200
        yield response


def received(connection: socket.socket) -> bytes:
    """Everything that comes until the daemon closes."""
    return b"".join(iter(partial(connection.recv, 1 << 20), b""))
