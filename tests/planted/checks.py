"""A copy of the core and its tests in which something is wrong, and which checks notice.

Everything runs in processes of its own, in a directory of its own, so that several copies can be judged
at once and the checkout is never touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

ROOT: Final = Path(__file__).resolve().parents[2]

COPIED: Final = ("seekfs_core", "seekfs_io", "seekfs_wsgi", "tests", "docs", "pyproject.toml", "justfile")
LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", "*.pyc", ".hypothesis")

TESTS_SECONDS_MAX: Final = 420.0
SIMULATOR_SECONDS_MAX: Final = 300.0
"""A bug may be that something never ends."""


@frozen
class FailedTest:
    """A test that noticed. ``is_search``: Hypothesis looked for what breaks it, a model judged."""

    name: str
    is_search: bool

    @property
    def file(self) -> str:
        return self.name.partition("::")[0]

    @property
    def short(self) -> str:
        """Without its folder, and without parameters."""
        return self.name.rpartition("/")[2].partition("[")[0].replace("::runTest", "")


@frozen
class TestsOutcome:
    """What a run of tests came to. ``note`` says why it did not come to its end, if it did not."""

    __test__ = False

    failed: tuple[FailedTest, ...] = ()
    note: str = ""

    @property
    def is_caught(self) -> bool:
        return bool(self.failed or self.note)


@frozen
class SimulatorOutcome:
    """Which seed was the first to break a promise, if any, and how that is said."""

    seed: int | None = None
    said: str = ""

    @property
    def is_caught(self) -> bool:
        return self.seed is not None or bool(self.said)


@frozen
class Workspace:
    """A copy of the checkout."""

    directory: Path = field()

    @classmethod
    def of_checkout(cls, directory: Path) -> Workspace:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, directory / name, ignore=LEFT_OUT)
            else:
                shutil.copy2(source, directory / name)
        return cls(directory)

    def apply(self, patch: Path) -> None:
        """Apply a patch; ``ValueError`` where it does not fit any more."""
        done = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", str(patch)],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            # Or git looks for a checkout around the copy, and applies nothing of what is outside of it.
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(self.directory.parent)},
        )
        if done.returncode:
            raise ValueError(f"{patch.name} does not apply: {done.stderr.strip()}")

    def run_tests(self, paths: Sequence[str], *, stop_at_first: bool = False) -> TestsOutcome:
        """Run tests of the core, without a search for smaller examples."""
        noted = self.directory / "failed.jsonl"
        noted.unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "tests.planted.noting", "--timeout=60"]
        command += ["-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=no", "-W", "ignore"]
        command += ["-x"] if stop_at_first else ["--maxfail=60"]
        note = ""
        try:
            done = self._run([*command, *paths], TESTS_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            note = "the tests did not end"
        else:
            if done.returncode not in (0, 1):
                note = f"pytest ended with {done.returncode}: {_last_line(done.stdout or done.stderr)}"
        lines = noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []
        failed = {json.loads(line)["name"]: json.loads(line)["is_search"] for line in lines}
        if failed and "Interrupted" in note:
            note = ""
        return TestsOutcome(tuple(FailedTest(*each) for each in sorted(failed.items())), note)

    def run_simulator(self, seeds: int) -> SimulatorOutcome:
        """Simulate until a promise is broken."""
        command = [sys.executable, "-m", "tests.planted.first_violation", str(seeds)]
        try:
            done = self._run(command, SIMULATOR_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            return SimulatorOutcome(None, "a seed did not end")
        if done.returncode == 0:
            return SimulatorOutcome()
        last = _last_line(done.stdout) or _last_line(done.stderr)
        seed, _, said = last.partition(" ")
        return SimulatorOutcome(int(seed), said) if seed.isdigit() else SimulatorOutcome(None, last)

    def _run(self, command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.directory / ".hypothesis"),
        }
        return subprocess.run(
            list(command),
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
