"""What ``just soak`` runs, for a few seconds: that it does all that it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
SECONDS_MAX = 200.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*arguments)``: a soak as a process, with a temporary directory of its own."""
    started: list[subprocess.Popen[str]] = []

    def factory(*arguments: str) -> subprocess.Popen[str]:
        (tmp_path / "temporary").mkdir()
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.soak", *arguments],
                cwd=REPOSITORY,
                env={
                    "PATH": str(Path(sys.executable).parent),
                    "HOME": str(tmp_path),
                    "TMPDIR": str(tmp_path / "temporary"),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield factory
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def check_nothing_is_left(directory: Path) -> None:
    assert list((directory / "temporary").iterdir()) == []
    told = os.fsencode(directory)
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                environment = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            except OSError:
                continue  # It has ended.
            assert told not in environment, process.name


@pytest.mark.timeout(300)
def test_a_soak_of_seconds(start: Start, tmp_path: Path) -> None:
    result = tmp_path / "result.md"
    process = start("0.12", "--seed", "5", "--output", str(result))
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, err
    assert out == result.read_text() + "\n"
    rows = dict(re.findall(r"^\| (.*?) \| (.*) \|$", out, re.MULTILINE))
    assert rows["wrong answers"] == "0"
    for what in ("reads", "bytes compared", "whole answers", "requests to the store", "of these met a fault"):
        assert int(rows[what].replace(",", "")) > 0, what
    for ceiling in ("L1", "L2", "disk", "inflight", "memory", "requests to the store at one time"):
        assert " of " in rows[f"{ceiling}, at most"]
    assert int(rows["kills (SIGKILL) and restarts"]) > 0
    assert re.search(r"^ +[0-9]+ s: [0-9]+ reads, .* 0 wrong, ", err, re.MULTILINE)
    check_nothing_is_left(tmp_path)


def test_a_soak_that_is_ended_before_its_time_leaves_nothing_either(start: Start, tmp_path: Path) -> None:
    process = start("5")
    directory = tmp_path / "temporary"
    wait_until(lambda: list(directory.glob("seekfs-soak-*/stopped/l2/segments/*")), "the last daemon reads")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 130, err
    check_nothing_is_left(tmp_path)
