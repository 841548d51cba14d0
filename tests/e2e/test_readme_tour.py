"""The tour of the README, command by command, with the output that it shows.

The README is the script: every ``sh`` block of the tour is run as it stands, in the order of the text, in
a copy of the project; the ``text`` block behind one is what it must print, ``...`` standing for anything. So
the README cannot promise what does not work.

The tour uses the ports that it names, 9000 and 7070, and ``/tmp/warm.bin``; a file that is there already is
put back afterwards.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field, frozen

ROOT = Path(__file__).resolve().parents[2]
SECTION = "## A five-minute tour\n"
DAEMON = "just run-sdk"
DAEMON_PORT = 7070
PORTS = (9000, DAEMON_PORT)
WARM = Path("/tmp/warm.bin")
COMMAND_SECONDS_MAX = 120

CURL = '''\
#!{python}
"""As much of curl as the README uses: curl -s [-d BODY] URL."""
import shutil, sys, urllib.error, urllib.request
arguments = sys.argv[1:]
url = arguments.pop()
body = None
while arguments:
    flag = arguments.pop(0)
    if flag == "-d":
        body = arguments.pop(0).encode()
    elif flag != "-s":
        sys.exit(f"curl: the stand-in does not know {{flag}}")
request = urllib.request.Request(url, data=body)
opener = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
try:
    answer = opener.open(request, timeout=60)
except urllib.error.HTTPError as error:
    answer = error
with answer:
    shutil.copyfileobj(answer, sys.stdout.buffer)
'''


MIDNIGHT_COMMANDER = """\
#!/bin/sh
# The other program called mc, which the recipes must not take for MinIO's.
[ "$*" = --version ] && echo "GNU Midnight Commander 4.8.29"
"""


@frozen
class Step:
    """One ``sh`` block: its commands, and what they print in all, or None where that is not shown."""

    commands: tuple[str, ...]
    shown: str | None


def tour() -> tuple[Step, ...]:
    """The steps of the README's tour."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split(SECTION, 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, flags=re.DOTALL | re.MULTILINE)
    steps = []
    for index, (language, body) in enumerate(blocks):
        if language == "sh":
            follows = blocks[index + 1] if index + 1 < len(blocks) else ("", "")
            commands = tuple(body.replace("\\\n", " ").splitlines())
            steps.append(Step(commands, follows[1] if follows[0] == "text" else None))
    return tuple(steps)


def pattern(shown: str) -> re.Pattern[str]:
    """What matches the output that is shown: ``...`` is anything, alone on a line any lines or none."""
    lines = []
    for line in shown.splitlines():
        if line == "...":
            lines.append(r"(?:[^\n]*\n)*")
        else:
            lines.append(r"[^\n]*".join(re.escape(piece) for piece in line.split("...")) + r"\n")
    return re.compile("".join(lines))


@define
class Terminal:
    """Runs commands as somebody at a prompt does: in one directory, what was exported staying exported."""

    directory: Path
    env: dict[str, str]
    exports: list[str] = field(factory=list)

    def script(self, command: str) -> list[str]:
        return ["bash", "-euc", "\n".join([*self.exports, command])]

    def run(self, command: str) -> str:
        done = subprocess.run(
            self.script(command),
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if command.startswith("export "):
            self.exports.append(command)
        return done.stdout


@contextlib.contextmanager
def in_its_own_terminal(terminal: Terminal, command: str, log: Path) -> Iterator[None]:
    """A command that stays in the foreground, stopped as Ctrl-C does; it must end with status 0 or 130."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            terminal.script(command),
            cwd=terminal.directory,
            env=terminal.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_ready(process, log)
        yield
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=COMMAND_SECONDS_MAX) in (0, 130), log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + COMMAND_SECONDS_MAX
    while True:
        assert process.poll() is None, f"{DAEMON} ended by itself:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"{DAEMON} is not ready:\n{log.read_text()}"
        connection = http.client.HTTPConnection("127.0.0.1", DAEMON_PORT, timeout=10)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)


@pytest.fixture
def ports() -> None:
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                pytest.fail(
                    f"the tour uses port {port}, which cannot be had: {error}; stop what listens there"
                )


@pytest.fixture
def warm_bin(tmp_path: Path) -> Iterator[None]:
    """``/tmp/warm.bin`` as it was before."""
    aside = tmp_path / "warm.bin"
    if WARM.exists():
        shutil.copy2(WARM, aside)
    yield
    WARM.unlink(missing_ok=True)
    if aside.exists():
        shutil.copy2(aside, WARM)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project as it is now, with this environment as its ``.venv``."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    copy = tmp_path / "a copy"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    return copy


@pytest.fixture
def terminal(project: Path, tmp_path: Path, ports: None, warm_bin: None) -> Iterator[Terminal]:
    (tmp_path / "home").mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mc").write_text(MIDNIGHT_COMMANDER)
    if shutil.which("curl") is None:
        (programs / "curl").write_text(CURL.format(python=sys.executable))
    for program in programs.iterdir():
        program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEEKFS_", "AWS_"))}
    path = f"{programs}:{os.environ['PATH']}"
    env = {**kept, "PATH": path, "HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    yield Terminal(project, env)
    subprocess.run(
        [sys.executable, "-m", "seekfs_io.devserver", "down", "--directory", project / ".seekfs" / "s3"],
        stdin=subprocess.DEVNULL,
        timeout=COMMAND_SECONDS_MAX,
        check=True,
    )


def test_every_command_of_the_tour_does_what_the_readme_says(terminal: Terminal, tmp_path: Path) -> None:
    with contextlib.ExitStack() as running:
        for step in tour():
            printed = ""
            for command in step.commands:
                if command == DAEMON:
                    running.enter_context(in_its_own_terminal(terminal, command, tmp_path / "daemon.log"))
                else:
                    printed += terminal.run(command)
            if step.shown is not None:
                assert pattern(step.shown).fullmatch(printed), f"{step.commands} printed\n{printed}"


def test_the_tour_has_the_commands_that_a_newcomer_needs() -> None:
    commands = [command for step in tour() for command in step.commands]
    recipes = [shlex.split(command)[1:] for command in commands if command.startswith("just ")]
    assert recipes[:5] == [
        ["s3-up"],
        ["mc-alias"],
        ["mc-mb"],
        ["mc-upload-ns", "/tmp/warm.bin", "warm.bin", "dev"],
        ["manifest-gen", "dev", "warm.bin"],
    ]
    assert ["run-sdk"] in recipes
    calls = " ".join(command for command in commands if command.startswith("curl "))
    for call in ("/test_head?", "/blob?", "len=4096", "/readv?"):
        assert call in calls


@pytest.mark.parametrize(
    ("shown", "printed", "matches"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ('{"size":3,"etag":"..."}\n', '{"size":3,"etag":"x y"}\n', True),
        ('{"size":3,"etag":"..."}\n', '{"size":4,"etag":"x y"}\n', False),
        ("a...\n", "ab\nc\n", False),
        ("a\n...\n", "a\nb\nc\n", True),
        ("...\n", "", True),
    ],
)
def test_shown_output_is_compared_to_the_letter(shown: str, printed: str, matches: bool) -> None:
    assert bool(pattern(shown).fullmatch(printed)) is matches
