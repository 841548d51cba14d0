"""``seekfs demo`` as a process: a whole round, one that is interrupted, one that finds a wrong byte.

However it ends, nothing of it is left: no process, no file in the temporary directory or the home, no
socket of a server. Only ``kill -9``, which leaves it no time, leaves its directory.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command_line import REPOSITORY, start

DEMO_SECONDS_MAX = 240.0
STOP_SECONDS_MAX = 120.0
POLL_SECONDS = 0.02


def sockets_of_servers(pids: list[int]) -> set[Path]:
    """What the S3 server leaves outside of its directory, as its keeper was told."""
    found: set[Path] = set()
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue  # it has ended
        found |= {Path(file) for option, file in itertools.pairwise(words) if option == "--unlink"}
    return found


def processes_with(directory: Path) -> list[int]:
    """All processes that have ``directory`` in their environment or arguments, but for this one."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                told = (process / "environ").read_bytes() + b"\0" + (process / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended
            if os.fsencode(directory) in told:
                found.append(int(process.name))
    return found


class Demo:
    """One running demo with a temporary directory and a home of its own."""

    def __init__(self, directory: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.temporary = directory / "tmp"
        self.home = directory / "home"
        for each in (self.temporary, self.home):
            each.mkdir()
        self._said = directory / "stderr"
        self._printed = directory / "stdout"
        self.sockets: set[Path] = set()
        own = {"TMPDIR": str(self.temporary), "HOME": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}
        with self._said.open("wb") as err, self._printed.open("wb") as out:
            self.process = start(
                ["demo", *arguments],
                stdout=out,
                stderr=err,
                cwd=self.home,
                environ={**own, **(environ or {})},
                new_session=True,
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    @property
    def printed(self) -> str:
        return self._printed.read_text()

    def wait_for(self, words: str) -> None:
        """Until it has said these words."""
        deadline = time.monotonic() + DEMO_SECONDS_MAX
        while words not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(POLL_SECONDS)
        self.sockets |= sockets_of_servers(processes_with(self.temporary))

    def end(self, seconds: float) -> int:
        """Its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.said}") from None

    def assert_nothing_left(self) -> None:
        assert "Traceback" not in self.said
        assert list(self.temporary.rglob("*")) == []
        assert list(self.home.rglob("*")) == []
        assert processes_with(self.temporary) == []
        assert self.sockets
        assert not [file for file in self.sockets if file.exists()]

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    made: list[Demo] = []

    def factory(*arguments: str, environ: dict[str, str] | None = None) -> Demo:
        made.append(Demo(tmp_path, *arguments, environ=environ))
        return made[-1]

    yield factory
    for each in made:
        each.kill()


def test_a_round_says_its_steps_and_counts_what_caching_saved(demo: Callable[..., Demo]) -> None:
    # Neither the configuration nor the proxies of whoever calls it are the demo's.
    strange = {
        "SEEKFS_S3_ENGINE": "file",
        "SEEKFS_CACHE_L2_BACKEND": "mem",
        "http_proxy": "http://127.0.0.1:1",
    }
    running = demo("--json", environ=strange)
    running.wait_for("the daemon serves")
    assert running.end(DEMO_SECONDS_MAX) == 0, running.said
    steps = [line.split("s  ", 1)[1] for line in running.said.splitlines()]
    wanted = [
        r"starting an S3 server",
        r"making files",
        r"made \d+ files, 200\.\d MiB",
        r"published version 1: uploaded \d+ objects, 200\.\d MiB",
        r"the daemon serves on http://127\.0\.0\.1:\d+",
        r"reading version 1 cold: \d+ ranges, \d+ in \d+ batches, \d+ files whole",
        r"reading version 1 warm",
        r"published version 2: uploaded 6 objects, 48\.\d MiB",
        r"reading version 2 cold",
        r"reading v1, beside v2",
        r"every byte was right; the daemon made \d+ GETs for 248\.\d MiB of pages",
        r"stopping everything, removing everything",
    ]
    following = iter(steps)
    for pattern in wanted:
        assert any(re.match(pattern, step) for step in following), (pattern, running.said)
    rows = {row["name"]: row for row in json.loads(running.printed)["reads"]}
    for name in ("v1, ranges", "v1, batches", "v1, whole files", "v2, what it changes"):
        row = rows[name]
        assert row["cold"]["bytes"] == row["warm"]["bytes"] > 0
        assert row["gets_made"] > 0
        assert row["gets_saved"] > 0
    for name in ("v1, every file", "v2, every file", "v1, beside v2"):
        assert rows[name]["gets_made"] == 0
        assert rows[name]["gets_saved"] > 0
    assert rows["v1, beside v2"]["bytes"] == rows["v1, every file"]["bytes"] >= 200 << 20
    made = sum(row["gets_made"] for row in rows.values())
    assert f"the daemon made {made} GETs" in running.said
    running.assert_nothing_left()


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGINT, "publishing version 1"),
        (signal.SIGTERM, "starting the daemon"),
        (signal.SIGINT, "reading version 1 cold"),
    ],
)
def test_an_interrupted_round_leaves_nothing(
    demo: Callable[..., Demo], number: signal.Signals, step: str
) -> None:
    running = demo()
    running.wait_for(step)
    assert len(running.sockets) == 5
    running.process.send_signal(number)
    running.wait_for("stopping everything")
    # Somebody is impatient; what stops everything is not itself stopped.
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGTERM)
    assert running.end(STOP_SECONDS_MAX) == 130, running.said
    assert running.said.endswith("seekfs: interrupted\n")
    assert running.printed == ""
    running.assert_nothing_left()


def test_a_byte_that_differs_ends_the_round_with_a_reason(demo: Callable[..., Demo]) -> None:
    running = demo()
    running.wait_for("starting the daemon")
    (copy,) = running.temporary.glob("seekfs-demo-*/v1/train/rest.bin")
    with copy.open("r+b") as file:
        # What was published is right, so it is this copy that will seem to be what was read wrongly.
        file.seek(10_000_000)
        found = file.read(1)[0]
        file.seek(10_000_000)
        file.write(bytes([found ^ 0xFF]))
    assert running.end(DEMO_SECONDS_MAX) == 1
    reason = running.said.splitlines()[-1]
    assert reason == (
        "seekfs: 'train/rest.bin' of version 1: the byte at offset 10000000 is"
        f" {found:#04x}, not {found ^ 0xFF:#04x}"
    )
    assert running.printed == ""
    running.assert_nothing_left()


def test_a_killed_demo_leaves_nothing(demo: Callable[..., Demo]) -> None:
    running = demo()
    running.wait_for("reading version 1 cold")
    assert len(processes_with(running.temporary)) > 3
    running.process.kill()
    running.process.wait()
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while left := processes_with(running.temporary):
        assert time.monotonic() < deadline, left
        time.sleep(POLL_SECONDS)
    assert list(running.temporary.iterdir()) == []


def test_without_the_s3_server_it_says_what_to_install(tmp_path: Path) -> None:
    # A Python with the same packages, and no programs beside it.
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    path = os.pathsep.join([str(REPOSITORY), *site.getsitepackages()])
    ran = subprocess.run(
        [python, "-m", "seekfs_io.cli", "demo"],
        env={"PATH": os.defpath, "PYTHONPATH": path, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert ran.stderr.decode().splitlines()[-1] == (
        "seekfs: the demo needs an S3 server, SeaweedFS, and it is not installed: pip install 'seekfs[dev]'"
    )
    assert os.listdir(tmp_path) == ["bin"]
