"""The daemon of the demo: a process of its own, started as a user would, that cannot outlive us."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import seekfs_io
from seekfs_core.errors import SeekfsError
from seekfs_io import keeper
from seekfs_io.client import BadAnswer, Client, DaemonError, DaemonUnreachable, ShortRead
from seekfs_io.devserver import HOST, free_ports

START_TIMEOUT_SECONDS: Final = 60.0
STOP_GRACE_SECONDS: Final = 30.0
"""What the daemon may take to end before it is killed; nobody reads from it any more."""

POLL_SECONDS: Final = 0.05
LOG_TAIL_LINES: Final = 20


class DaemonDidNotStart(SeekfsError):
    """The daemon ended, or was not ready in time; the detail has the end of its log."""

    slug, title = "daemon-did-not-start", "The daemon did not start"


class DaemonFailed(SeekfsError):
    """A read failed; the detail has the end of the daemon's log beside the client's error."""

    slug, title = "daemon-failed", "The daemon failed"


@contextlib.contextmanager
def running_daemon(config: Path, directory: Path, log: Path, temporary: Path) -> Iterator[Client]:
    """Start the daemon with this configuration, wait until it can serve, and stop it in the end.

    Everything it writes beside its cache goes into ``directory``, what it says into ``log``.
    ``temporary`` holds all of it, and is removed if this process is killed.
    """
    port = free_ports(1)[0]
    serve = [sys.executable, "-m", "seekfs_wsgi.serve", f"--config={config}", f"--listen={HOST}:{port}"]
    keep = [sys.executable, "-I", "-S", keeper.__file__]
    options = [f"--owner={os.getpid()}", f"--grace={STOP_GRACE_SECONDS}", f"--orphan={temporary}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*keep, *options, "--", *serve],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=daemon_environment(os.environ, directory),
            # Not in the terminal's group: Ctrl-C is for us to hear, and the daemon for us to stop.
            start_new_session=True,
        )
    try:
        with Client(f"http://{HOST}:{port}") as client:
            _wait_until_ready(process, client, log)
            yield client
    except (DaemonError, DaemonUnreachable, ShortRead, BadAnswer) as error:
        # Its log is about to be removed, and is where the reason is.
        raise DaemonFailed(f"{error}; the daemon's last words:\n{_tail(log)}") from error
    finally:
        _stop(process)


def daemon_environment(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Ours, less what would configure the child otherwise, and with ``directory`` for its files."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("SEEKFS_", "GUNICORN_"))}
    package_root = str(Path(seekfs_io.__file__).parents[1])
    return {
        **kept,
        "TMPDIR": str(directory),
        "PYTHONDONTWRITEBYTECODE": "1",
        # The child's modules are this program's, whatever directory either was started in.
        "PYTHONPATH": os.pathsep.join(filter(None, [package_root, kept.get("PYTHONPATH")])),
    }


def _wait_until_ready(process: subprocess.Popen[bytes], client: Client, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DaemonDidNotStart(f"the daemon ended with status {process.returncode}:\n{_tail(log)}")
        with contextlib.suppress(DaemonUnreachable):
            if client.ready().ready:
                return
        time.sleep(POLL_SECONDS)
    raise DaemonDidNotStart(f"the daemon was not ready within {START_TIMEOUT_SECONDS:.0f} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The keeper ends the daemon; without it the kernel does."""
    process.terminate()
    try:
        process.wait(2 * STOP_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
