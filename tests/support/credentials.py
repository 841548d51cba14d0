"""Whatever knows credentials: a program, a container's endpoint. Both know those that they are told."""

from __future__ import annotations

import http.server
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from seekfs_io.seaweed import ACCESS_KEY
from tests.support.leaks import STORE_SECRET

PROGRAM = """
import os, pathlib, sys
home = pathlib.Path(sys.argv[1])
with open(home / "runs", "a") as runs:
    runs.write("run\\n")
if (home / "gate").exists():
    (home / "gate").read_text()
sys.stdout.write((home / "answer").read_text())
"""


class Program:
    """A ``credential_process`` that prints what it is told to. With ``gate`` it waits to be let go on."""

    def __init__(self, home: Path, config: Path) -> None:
        self.home = home
        home.mkdir()
        (home / "program.py").write_text(PROGRAM)
        config.write_text(f"[default]\ncredential_process = {sys.executable} {home / 'program.py'} {home}\n")

    def says(self, access_key: str, secret: str = STORE_SECRET, minutes: float | None = None) -> None:
        answer: dict[str, object] = {"Version": 1, "AccessKeyId": access_key, "SecretAccessKey": secret}
        if minutes is not None:
            end = datetime.now(UTC) + timedelta(minutes=minutes)
            answer["Expiration"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.says_text(json.dumps(answer))

    def says_text(self, text: str) -> None:
        new = self.home / "new"
        new.write_text(text)
        new.replace(self.home / "answer")

    def hold(self) -> None:
        os.mkfifo(self.home / "gate")

    def let_go(self) -> None:
        """Returns when one that is held goes on."""
        (self.home / "gate").write_text("go")

    @property
    def runs(self) -> int:
        return len((self.home / "runs").read_text().splitlines())


class Container(http.server.ThreadingHTTPServer):
    """The endpoint of a container, which asks for a token."""

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _ContainerHandler)
        self.token = token
        self.access_key = ACCESS_KEY
        self.asked = 0


class _ContainerHandler(http.server.BaseHTTPRequestHandler):
    server: Container

    def do_GET(self) -> None:
        self.server.asked += 1
        end = datetime.now(UTC) + timedelta(hours=6)
        body = json.dumps(
            {
                "AccessKeyId": self.server.access_key,
                "SecretAccessKey": STORE_SECRET,
                "Token": "",
                "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ).encode()
        self.send_response(200 if self.headers["Authorization"] == self.server.token else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass
