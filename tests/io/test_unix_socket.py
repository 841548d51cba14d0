"""HTTP over a Unix socket: that requests reach the one that was named, and what is said where none do."""

from __future__ import annotations

import os
import pickle
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests

from seekfs_io.client import Client, DaemonUnreachable
from seekfs_io.unix_socket import UnixSocketAdapter, root_url


class Handler(BaseHTTPRequestHandler):
    """Answers with the number of the connection, the path of the socket, the target and ``Host``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        words = [str(self.server.number), self.server.path, self.path, self.headers["Host"]]
        body = os.fsencode("|".join(words))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, *given: object) -> None:
        """Nothing: nobody reads it."""


class Server(socketserver.UnixStreamServer):
    """Serves one connection after the other."""

    request_queue_size = 0

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.path = str(path)
        super().__init__(self.path, Handler)

    def process_request(self, request: object, client_address: object) -> None:
        self.number += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """A server on a socket; the address of it as a daemon."""
    with Server(path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"unix:{path}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["s", "a b%2F+☃?#", os.fsdecode(b"\xff"), "x" * 20])
def test_a_request_reaches_the_socket_that_was_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with serving(path) as url, Client(url) as client:
        expected = f"0|{path}|/blob?ns=dev&path=a%20b|localhost"
        assert client.blob("dev", "a b") == os.fsencode(expected)
        assert client.base_url == url
        assert client.blob("dev", "b").startswith(b"0|"), "it is another connection"


def test_a_relative_path_is_one_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(Path("s")), Client("unix:./s") as client:
        assert client.blob("dev", "a").startswith(b"0|s|")


def test_a_session_of_ones_own_leads_to_several_sockets_and_past_its_proxies(tmp_path: Path) -> None:
    small, capital = tmp_path / "s", tmp_path / "S"
    with serving(small) as first, serving(capital) as second, requests.Session() as session:
        session.proxies = {"all": "http://127.0.0.1:1", "http": "http://127.0.0.1:1"}
        for url in (first, second, first, second):  # The later ones have the connections of the earlier.
            assert (
                Client(url, session).blob("dev", "a").startswith(f"0|{url.removeprefix('unix:')}|".encode())
            )


def test_a_session_may_be_pickled(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(path), requests.Session() as session:
        session.mount(root_url(str(path)), UnixSocketAdapter(str(path), pool_maxsize=3))
        with pickle.loads(pickle.dumps(session)) as again:
            assert again.get(f"{root_url(str(path))}/x").status_code == 200


def test_nobody_there_is_told_with_the_address(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path}/none") as client:
        with pytest.raises(DaemonUnreachable, match=f"^no answer from unix:{tmp_path}/none: No such file"):
            client.health()
    with Server(tmp_path / "left"):
        pass
    with Client(f"unix:{tmp_path}/left") as client:
        with pytest.raises(DaemonUnreachable, match="left: Connection refused$"):
            client.health()


def test_a_full_backlog_is_waited_for(tmp_path: Path) -> None:
    """A connect that may not block would be refused with EAGAIN."""
    path = tmp_path / "s"
    told: list[bytes] = []

    def ask() -> None:
        with Client(f"unix:{path}") as client:
            told.append(client.blob("dev", "a"))

    with Server(path) as server:
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(str(path))
            with Client(f"unix:{path}", connect_timeout_seconds=0.05) as client:
                with pytest.raises(DaemonUnreachable, match="timed out"):
                    client.health()
            asking = threading.Thread(target=ask)
            asking.start()
        server.handle_request()
        server.handle_request()
        asking.join()
    assert told[0].endswith(b"|localhost")
