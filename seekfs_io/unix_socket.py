"""HTTP over a Unix socket, for ``requests``: an adapter that leads to one socket.

A URL has no place for the path of a socket, so ``root_url`` makes one with a scheme of its own, whose host
is the path in hexadecimal digits: requests finds adapters by the beginning of a URL without regard to
capitals, and two paths that differ in nothing else are two sockets.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


def root_url(path: str) -> str:
    """What the URLs of the daemon on a socket begin with, and where its adapter is mounted."""
    return f"http+unix://{os.fsencode(path).hex()}"


class UnixSocketAdapter(HTTPAdapter):
    """Sends every request to the socket at ``path``, past any proxy; keeps ``pool_maxsize`` connections."""

    __attrs__ = [*HTTPAdapter.__attrs__, "_path"]

    def __init__(self, path: str, *, pool_maxsize: int) -> None:
        self._path = path
        super().__init__(pool_connections=1, pool_maxsize=pool_maxsize)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **more: Any) -> None:
        super().init_poolmanager(connections, maxsize, block=block, **more)
        self._pool = _Pool("localhost", maxsize=maxsize, block=block, socket_path=self._path)

    def get_connection_with_tls_context(self, *given: Any, **more: Any) -> HTTPConnectionPool:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        return request.path_url

    def close(self) -> None:
        super().close()
        self._pool.close()


class _Connection(HTTPConnection):
    def __init__(self, *given: Any, socket_path: str, **more: Any) -> None:
        super().__init__(*given, **more)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        seconds = self.timeout or 0
        # While the socket's backlog is full, a connect that may not block is refused at once; this one waits.
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        code = self.sock.connect_ex(self._socket_path)
        if code:
            code = errno.ETIMEDOUT if code == errno.EAGAIN else code
            raise OSError(code, os.strerror(code))
        self.sock.settimeout(self.timeout)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection
