"""The real daemon under gunicorn, as a process of its own on a free port.

    with Daemon(tmp_path, {"s3.endpoint": …, "cache.l1_memory_gib": 0.0625}) as daemon:
        requests.get(f"{daemon.url}/blob?ns=dev&path=a")
        daemon.kill()
        daemon.start()          # the same directory, port and configuration

Settings are dotted keys of ``seekfs.toml`` and go through a real file. The log is captured, and at
the end of the block it must show neither a traceback nor a signature.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
from attrs import define, field

from seekfs_io.config import S3Config
from seekfs_io.devserver import free_ports
from tests.support.leaks import OUTPUTS, found_in
from tests.support.processes import is_alive, tree

REPOSITORY = Path(__file__).parents[2]

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 90.0
POLL_SECONDS = 0.02

# What a log never shows, whatever has happened.
_NEVER_LOGGED = ("Traceback (most recent call last)", " traceback=", '"traceback":')


class DaemonFailed(AssertionError):
    """The daemon ended or did not become ready; the text holds its log."""


def s3_settings(config: S3Config) -> dict[str, object]:
    """The settings of a configuration that differ from the defaults, as dotted keys."""
    default = S3Config()
    return {
        f"s3.{each.name}": getattr(config, each.name)
        for each in attrs.fields(S3Config)
        if getattr(config, each.name) != getattr(default, each.name)
    }


def toml_of(settings: Mapping[str, object]) -> str:
    """Dotted keys as TOML; strings, numbers and booleans are written alike in JSON."""

    def written(value: object) -> str:
        if isinstance(value, Mapping):
            pairs = ", ".join(f"{json.dumps(name)} = {written(each)}" for name, each in value.items())
            return f"{{ {pairs} }}"
        return json.dumps(value)

    return "".join(f"{key} = {written(value)}\n" for key, value in settings.items())


@define(eq=False)
class Daemon:
    """``directory`` holds its configuration, log, home, and unless set otherwise its L2.

    ``by_hand`` starts it as ``gunicorn -c gunicorn.conf.py``, else as ``seekfs serve`` would.
    ``arguments`` and ``environ`` are added to its command line and environment.
    """

    directory: Path
    settings: Mapping[str, object] = field(factory=dict)
    by_hand: bool = field(default=False, kw_only=True)
    arguments: tuple[str, ...] = field(default=(), kw_only=True)
    environ: Mapping[str, str] = field(factory=dict, kw_only=True)
    port: int = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.port = free_ports(1)[0]
        self.directory.mkdir(parents=True, exist_ok=True)
        OUTPUTS.kept(self.log_path)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of gunicorn's master."""
        assert self._process is not None
        return self._process.pid

    @property
    def running_pid(self) -> int | None:
        """The same, or None while there is none: for those who look from another thread."""
        process = self._process
        return None if process is None else process.pid

    @property
    def pids(self) -> list[int]:
        return tree(self.pid)

    @property
    def l2(self) -> Path:
        return Path(str(self._effective()["cache.l2.segment_path"]))

    @property
    def config_path(self) -> Path:
        return self.directory / "seekfs.toml"

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    @property
    def log(self) -> str:
        """Everything on stderr and stdout, over all starts."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def _effective(self) -> dict[str, object]:
        defaults = {
            "api.listen": f"127.0.0.1:{self.port}",
            "cache.l2.segment_path": str(self.directory / "l2"),
            "cache.l1_memory_gib": 0.0625,
            "cache.l2_ssd_gib": 1,
            "cache.inflight_mib": 64,
        }
        return {**defaults, **self.settings}

    def spawn(self) -> Self:
        """Start it without waiting for anything."""
        assert self._process is None, "it is running already"
        self.config_path.write_text(toml_of(self._effective()), encoding="utf-8")
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        environ = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
            "HOME": str(home),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environ,
        }
        if self.by_hand:
            command = [
                str(Path(sys.executable).with_name("gunicorn")),
                "-c",
                str(REPOSITORY / "gunicorn.conf.py"),
            ]
            environ["SEEKFS_CONFIG"] = str(self.config_path)
        else:
            command = [sys.executable, "-m", "seekfs_wsgi.serve", "--config", str(self.config_path)]
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [*command, *self.arguments],
                cwd=home,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def start(self) -> Self:
        """Start it and return when ``/readyz`` answers 200."""
        self.spawn()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while self._readiness() != 200:
            assert self._process is not None
            if self._process.poll() is not None:
                raise DaemonFailed(f"it ended with {self._process.returncode}:\n{self.log}")
            if time.monotonic() > deadline:
                raise DaemonFailed(f"it is not ready:\n{self.log}")
            time.sleep(POLL_SECONDS)

    def _readiness(self) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def stop(self) -> int:
        """SIGTERM; the exit status when it has ended."""
        assert self._process is not None, "it is not running"
        pids = self.pids
        self._process.terminate()
        try:
            status = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonFailed(f"it does not end:\n{self.log}") from None
        self._process = None
        _wait_for_the_end_of(pids)
        return status

    def kill(self) -> None:
        """``kill -9`` of gunicorn's master; returns when its workers have ended too."""
        assert self._process is not None, "it is not running"
        pids = self.pids
        self._process.kill()
        self._process.wait()
        self._process = None
        _wait_for_the_end_of(pids)

    def restart(self) -> int:
        """Stop and start; the exit status of the first."""
        status = self.stop()
        self.start()
        return status

    def wait(self, seconds: float = READY_SECONDS_MAX) -> int:
        """The exit status of a daemon that ends by itself."""
        assert self._process is not None
        status = self._process.wait(seconds)
        self._process = None
        return status

    def check_log(self) -> None:
        log = self.log
        for text in _NEVER_LOGGED:
            assert text not in log, f"{text!r} in the log:\n{log}"
        assert found_in(log) is None, f"{found_in(log)!r} in the log"

    def end(self) -> None:
        """End it, however it stands."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        self._process = None

    def close(self) -> None:
        """The same, and look at its log, and at what it tells of itself."""
        try:
            if self._process is not None and self._process.poll() is None:
                self._hear_it_out()
        finally:
            self.end()
        self.check_log()

    def _hear_it_out(self) -> None:
        for target in ("/metrics", "/readyz"):
            # It may be stopping, or be on a socket of another kind.
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                with contextlib.closing(connection):
                    connection.request("GET", target)
                    OUTPUTS.said(connection.getresponse().read(), f"{target} of {self.directory}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _wait_for_the_end_of(pids: list[int]) -> None:
    """Of processes that are ending; one that stays is killed and reported."""
    deadline = time.monotonic() + 10.0
    while left := [pid for pid in pids if is_alive(pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise DaemonFailed(f"processes {left} outlived the daemon's master")
        time.sleep(POLL_SECONDS)
