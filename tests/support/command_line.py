"""``seekfs`` as a test runs it: in this process through the console script's own function, or as a
process of its own where signals, pipes and terminals are the subject."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
from attrs import frozen

from seekfs_io.cli.boundary import run
from tests.support.leaks import OUTPUTS

TEXT_BYTES_MAX = 1 << 20
"""What a command prints may be a file's bytes: this much is looked through."""

REPOSITORY = Path(__file__).parents[2]


@frozen
class Ran:
    """One command that was run: its exit status and what it printed."""

    status: int
    out: bytes
    err: str

    def __attrs_post_init__(self) -> None:
        assert "Traceback" not in self.err, self.err
        for said in (self.out[:TEXT_BYTES_MAX], self.err):
            OUTPUTS.said(said, "a command")

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Seekfs:
    """Runs commands in this process. ``options`` are put behind the words of every command."""

    def __init__(self, capture: pytest.CaptureFixture[bytes], *options: str) -> None:
        self._capture = capture
        self._options = options

    def __call__(self, *arguments: str) -> Ran:
        self._capture.readouterr()
        status = run([*arguments, *self._options])
        out, err = self._capture.readouterr()
        return Ran(status, out, err.decode())

    def done(self, *arguments: str) -> Ran:
        """The same, for a command that must succeed."""
        ran = self(*arguments)
        assert ran.status == 0, ran
        return ran


def command(*arguments: str) -> list[str]:
    """What runs ``seekfs`` as a process."""
    return [sys.executable, "-m", "seekfs_io.cli", *arguments]


def own_environment() -> dict[str, str]:
    """The environment of such a process, without the variables of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEEKFS_", "AWS_"))}
    return {**kept, "PYTHONPATH": str(REPOSITORY)}


def start(
    arguments: Sequence[str],
    *,
    stdout: int | IO[Any] | None = subprocess.PIPE,
    stderr: int | IO[Any] | None = subprocess.PIPE,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """``seekfs`` as a process, in its own environment."""
    return subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env={**own_environment(), **(environ or {})},
        start_new_session=new_session,
    )
