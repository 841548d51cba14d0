"""``justw``: when it installs, what it says when it cannot, and what an interruption leaves.

The interpreter that it is given here is a small script which makes a virtual environment of small scripts,
so that every case takes an instant and each call of pip is seen. That the real thing installs and runs is
shown by ``tests/e2e/test_two_commands.py``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]

FAKE_PYTHON = r"""#!/bin/sh
# Answers as justw asks: its version, whether it has venv, making one; in one, as pip.
case "$*" in
    *"print("*) echo "$FAKE_VERSION" ;;
    *"sys.exit("*) [ "$FAKE_VERSION" != 3.10 ] ;;
    *"import venv, ensurepip"*) [ -z "${FAKE_HAS_NO_VENV:-}" ] ;;
    *"-m venv"*)
        for directory; do :; done
        echo "venv" >>"$FAKE_LOG"
        mkdir -p "$directory/bin"
        cp "$FAKE_PYTHON" "$directory/bin/python"
        ;;
    *"import pip"*) exit 0 ;;
    *"-m pip install"*"--require-hashes"*)
        echo "pip lock" >>"$FAKE_LOG"
        bin=$(dirname "$0")
        if [ -n "${FAKE_PIP_HOLDS:-}" ]; then
            echo half >"$bin/half-installed"
            echo "$$" >"$FAKE_PIP_HOLDS"    # a named pipe: blocks until the test reads
            read -r _ <"$FAKE_PIP_HOLDS"    # and again until it writes
        fi
        [ -z "${FAKE_PIP_FAILS:-}" ] || exit 1
        {
            echo '#!/bin/sh'
            echo 'printf just; printf " <%s>" "$@"; echo'
            echo 'echo "PATH $PATH"'
        } >"$bin/just"
        chmod +x "$bin/just"
        ;;
    *"-m pip install"*"-e "*) echo "pip project" >>"$FAKE_LOG" ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


@frozen
class Checkout:
    """A directory with ``justw`` in it, and everything that its fake interpreter has been asked to do."""

    directory: Path
    env: dict[str, str]
    log: Path

    def justw(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.directory / "justw", *args], env=self.env | env, cwd="/", capture_output=True, text=True,
            timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def begin(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.directory / "justw", *args], env=self.env | env, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def done(self) -> list[str]:
        """What was installed since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


EVERYTHING = ["venv", "pip lock", "pip project"]
UPDATE = ["pip lock", "pip project"]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    directory = tmp_path / "a check[out] with 'odd' name"
    directory.mkdir()
    shutil.copy(ROOT / "justw", directory)
    (directory / "pyproject.toml").write_text("[project]\n")
    (directory / "requirements.lock").write_text("a==1\n")
    fake = tmp_path / "python3"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    env = {
        "PATH": os.environ["PATH"],
        "PYTHON": str(fake),
        "FAKE_PYTHON": str(fake),
        "FAKE_VERSION": "3.11",
        "FAKE_LOG": str(tmp_path / "log"),
    }
    return Checkout(directory, env, tmp_path / "log")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """What the fake pip waits at, when it is told to."""
    path = tmp_path / "pip holds here"
    os.mkfifo(path)
    return path


@pytest.fixture
def begun() -> Iterator[list[subprocess.Popen[str]]]:
    """Whatever a test leaves running is ended."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_first_run_installs_and_the_second_does_not_call_pip(checkout: Checkout) -> None:
    first = checkout.justw("demo", "two words", "*")
    assert first.returncode == 0, first.stderr
    assert checkout.done() == EVERYTHING
    expected = f"just <--justfile> <{checkout.directory}/justfile> <demo> <two words> <*>\n"
    assert first.stdout.startswith(expected)
    assert f"PATH {checkout.directory}/.venv/bin:" in first.stdout

    second = checkout.justw("demo", "two words", "*")
    assert (second.returncode, second.stdout, second.stderr) == (0, first.stdout, "")
    assert checkout.done() == []


@pytest.mark.parametrize("file", ["pyproject.toml", "requirements.lock"])
def test_a_change_is_installed_once_into_the_same_environment(checkout: Checkout, file: str) -> None:
    checkout.justw()
    checkout.done()
    kept = checkout.directory / ".venv" / "kept"
    kept.touch()
    with (checkout.directory / file).open("a") as opened:
        opened.write("# changed\n")
    checkout.justw()
    assert checkout.done() == UPDATE
    assert kept.exists()
    checkout.justw()
    assert checkout.done() == []


def test_a_file_that_was_only_touched_changes_nothing(checkout: Checkout) -> None:
    checkout.justw()
    checkout.done()
    os.utime(checkout.directory / "requirements.lock", (1, 1))
    checkout.justw()
    assert checkout.done() == []


def test_a_moved_directory_gets_a_new_environment(checkout: Checkout, tmp_path: Path) -> None:
    checkout.justw()
    checkout.done()
    moved = Checkout(tmp_path / "moved", checkout.env, checkout.log)
    checkout.directory.rename(moved.directory)
    assert moved.justw().returncode == 0
    assert moved.done() == EVERYTHING


def test_an_environment_whose_interpreter_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.justw()
    checkout.done()
    python = checkout.directory / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    (checkout.directory / ".venv" / ".seekfs-installed").unlink()
    assert checkout.justw().returncode == 0
    assert checkout.done() == EVERYTHING


def test_an_environment_made_by_hand_is_kept_and_brought_up_to_date(checkout: Checkout) -> None:
    checkout.justw()
    checkout.done()
    (checkout.directory / ".venv" / ".seekfs-installed").unlink()
    checkout.justw()
    assert checkout.done() == UPDATE


def test_a_failed_installation_is_not_taken_for_one(checkout: Checkout) -> None:
    failed = checkout.justw("demo", FAKE_PIP_FAILS="1")
    assert failed.returncode == 1
    assert "just <" not in failed.stdout
    assert checkout.done() == ["venv", "pip lock"]
    assert checkout.justw("demo").returncode == 0
    assert checkout.done() == EVERYTHING


@pytest.mark.parametrize("update", [False, True])
def test_a_killed_installation_is_begun_anew(
    checkout: Checkout, pipe: Path, begun: list[subprocess.Popen[str]], update: bool
) -> None:
    if update:
        checkout.justw()
        checkout.done()
        (checkout.directory / "requirements.lock").write_text("a==2\n")
    process = checkout.begin(FAKE_PIP_HOLDS=str(pipe))
    begun.append(process)
    assert pipe.read_text().strip()  # pip is half way through
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    half_installed = checkout.directory / ".venv" / "bin" / "half-installed"
    assert half_installed.exists()
    checkout.done()

    assert checkout.justw().returncode == 0
    assert checkout.done() == EVERYTHING
    assert not half_installed.exists()


def test_two_at_once_install_once(checkout: Checkout, pipe: Path, begun: list[subprocess.Popen[str]]) -> None:
    first = checkout.begin("one", FAKE_PIP_HOLDS=str(pipe))
    begun.append(first)
    assert pipe.read_text().strip()  # the first is in pip, and holds the lock
    second = checkout.begin("two")
    begun.append(second)
    pipe.write_text("go on\n")
    for process, name in ((first, "one"), (second, "two")):
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert f"<{name}>" in out
    assert checkout.done() == EVERYTHING


def test_without_the_venv_module_it_says_the_command(checkout: Checkout) -> None:
    del checkout.env["PYTHON"]
    path = f"{Path(checkout.env['FAKE_PYTHON']).parent}:{checkout.env['PATH']}"
    done = checkout.justw(FAKE_HAS_NO_VENV="1", PATH=path)
    assert done.returncode == 1
    assert "apt-get install -y python3-venv\n" in done.stderr
    assert checkout.done() == []
    assert not (checkout.directory / ".venv").exists()


def test_without_the_venv_module_of_another_python_it_names_that_ones(checkout: Checkout) -> None:
    done = checkout.justw(FAKE_HAS_NO_VENV="1")
    assert done.returncode == 1
    assert "apt-get install -y python3.11-venv\n" in done.stderr


def test_an_old_python_is_refused(checkout: Checkout) -> None:
    done = checkout.justw(FAKE_VERSION="3.10")
    assert done.returncode == 1
    assert "3.11 or newer" in done.stderr
    assert checkout.done() == []


def test_no_python_at_all(checkout: Checkout) -> None:
    done = checkout.justw(PYTHON="no-such-python")
    assert done.returncode == 1
    assert "apt-get install -y python3 python3-venv\n" in done.stderr


def test_the_real_interpreter_passes_the_checks(checkout: Checkout) -> None:
    """The questions that the fake answers are ones that a real Python understands."""
    script = (ROOT / "justw").read_text()
    functions = (
        script[script.index("say()") : script.index("\nroot=")]
        + script[script.index("check_python()") : script.index("\ninstall()")]
    )
    done = subprocess.run(
        ["sh", "-eu", "-c", f"{functions}\ncheck_python; echo $version"],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == f"{sys.version_info.major}.{sys.version_info.minor}\n"
