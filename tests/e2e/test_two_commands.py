"""Two commands on a fresh machine: what ``./justw demo`` needs, does and leaves behind.

A clone in an empty directory, its first run, which installs, and a second one. The second is looked at
closely: pip is taken away before it, and the listings of the temporary directory, the home directory, the
clone and the process table are the same before and after, Python's caches apart.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS_MAX = 900
SETTLE_SECONDS_MAX = 30

# The first run fetches and installs some fifty packages, and both bring up a server and move 200 MiB.
pytestmark = pytest.mark.timeout(2 * RUN_SECONDS_MAX)


def listing(directory: Path) -> dict[str, tuple[int, int]]:
    """Every name under a directory with its kind and size, Python's caches apart."""
    found = {}
    for parent, directories, files in os.walk(directory):
        if "__pycache__" in directories:
            directories.remove("__pycache__")
        for name in [*directories, *files]:
            path = Path(parent, name)
            status = path.lstat()
            is_directory = path.is_dir() and not path.is_symlink()
            found[str(path.relative_to(directory))] = (status.st_mode, 0 if is_directory else status.st_size)
    return found


def dead_sockets() -> set[str]:
    """Sockets in /tmp that nothing listens on any more.

    Servers put some there by habit, whatever they are told about temporary directories; those of a server
    that is up, whoever's it is, do not count.
    """
    alive = Path("/proc/net/unix").read_text()
    return {path.name for path in Path("/tmp").iterdir() if path.is_socket() and f" {path}\n" not in alive}


def dead_sockets_since(before: set[str]) -> set[str]:
    """What has come to ``dead_sockets``; somebody else's server may be in the middle of tidying up."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while (found := dead_sockets() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def processes_of(directory: Path) -> list[str]:
    """The command lines of all processes that were started with a path under ``directory``.

    It is in the environment (as ``TMPDIR`` at least) or the arguments of everything that a run starts.
    """
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                arguments = (process / "cmdline").read_bytes()
                if os.fsencode(directory) in (process / "environ").read_bytes() + b"\0" + arguments:
                    found.append(arguments.replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue  # it has ended, or is another user's
    return found


def justw(clone: Path, *, home: Path | None, temporary: Path) -> subprocess.CompletedProcess[str]:
    """``./justw demo`` as somebody who has just cloned would run it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SEEKFS_", "AWS_", "VIRTUAL_ENV", "PYTEST_"))
    }
    # This environment's own programs must not be found: the clone brings what it needs.
    path = [part for part in kept["PATH"].split(":") if not part.startswith(str(ROOT))]
    env = kept | {"PATH": ":".join(path), "TMPDIR": str(temporary)}
    if home is not None:
        env["HOME"] = str(home)
    return subprocess.run(
        [clone / "justw", "demo"],
        cwd=clone,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )


def test_a_fresh_clone_runs_the_demo_and_leaves_nothing_behind(tmp_path: Path) -> None:
    clone, home, temporary = tmp_path / "a fresh clone", tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    command: list[str | Path] = ["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone]
    subprocess.run(command, check=True, timeout=60, capture_output=True)

    # pip finds its own configuration and cache where they always are.
    first = justw(clone, home=None, temporary=temporary)
    assert first.returncode == 0, first.stdout + first.stderr
    assert listing(temporary) == {}

    for packages in clone.glob(".venv/lib/python*/site-packages/pip"):
        shutil.rmtree(packages)
    assert not list(clone.glob(".venv/lib/python*/site-packages/pip"))
    before = (listing(clone), listing(home), listing(temporary))
    sockets = dead_sockets()

    second = justw(clone, home=home, temporary=temporary)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "justw:" not in second.stderr
    after = (listing(clone), listing(home), listing(temporary))
    for was, now in zip(before, after, strict=True):
        assert now == was
    assert dead_sockets_since(sockets) == set()
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("where", ["environment", "arguments"])
def test_a_process_that_stays_would_be_seen(tmp_path: Path, where: str) -> None:
    assert processes_of(tmp_path) == []
    arguments = ["sh", "-c", "echo up; read -r _", *([str(tmp_path / "x")] if where == "arguments" else [])]
    env = {"PATH": os.environ["PATH"]} | ({"TMPDIR": str(tmp_path / "x")} if where == "environment" else {})
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    try:
        # The kernel shows the arguments of a process a moment after ``Popen`` has returned.
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert len(processes_of(tmp_path)) == 1
    finally:
        process.communicate()


def test_a_file_that_stays_would_be_seen(tmp_path: Path) -> None:
    before = listing(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").touch()
    assert listing(tmp_path) == before
    (tmp_path / "left").touch()
    assert listing(tmp_path) != before


def test_a_socket_that_stays_would_be_seen() -> None:
    path = Path(f"/tmp/seekfs-test-{os.getpid()}.sock")
    before = dead_sockets()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            assert path.name not in dead_sockets()
        assert path.name in dead_sockets() - before
    finally:
        path.unlink(missing_ok=True)
