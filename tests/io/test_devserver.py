"""The development S3 server: starts, is ready, stays in its directory, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seekfs_io.devserver import DevServer, DevServerError, free_ports, main, s3_config_of
from seekfs_io.objects.sdk import open_sdk_store
from tests.support.objects import listed


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def leftovers(server: DevServer) -> list[Path]:
    """The sockets that the server makes outside of its directory."""
    pid = server.pid
    assert pid is not None
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return [Path(value) for flag, value in itertools.pairwise(arguments) if flag == "--unlink"]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def open_files(pid: int) -> list[str]:
    """What a process has open; a running one closes files while they are looked at."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return found


def test_it_takes_objects_as_soon_as_it_has_started_and_leaves_nothing_behind() -> None:
    with DevServer(bucket="own-bucket") as server:
        store = open_sdk_store(server.s3_config())
        assert listed(store) == []
        store.put("a", b"bytes")
        with store.get("a") as reader:
            assert reader.size == 5
        store.close()
        sockets = leftovers(server)
        assert any(path.exists() for path in sockets)
        home, keeper = server.home, server.pid
        assert home is not None
        assert keeper is not None
        assert (home / "data").is_dir()
        weed = children(keeper)
        assert len(weed) == 1
        # All that it writes is in its directory: no other file is open.
        opened = open_files(weed[0])
        files = [path for path in opened if path.startswith("/") and not path.startswith(("/dev/", "/sys/"))]
        assert files
        assert all(path.startswith(str(home)) for path in files)
    assert not home.exists()
    assert not any(path.exists() for path in sockets)
    assert not is_alive(keeper)
    assert not is_alive(weed[0])


def test_it_listens_on_loopback_only(seaweed: DevServer) -> None:
    assert seaweed.pid is not None
    (weed,) = children(seaweed.pid)
    inodes = set()
    for target in open_files(weed):
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{weed}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1].partition(":")[0])
    assert listening
    assert set(listening) == {"0100007F"}


def test_what_it_was_given_stays_and_is_found_again(tmp_path: Path) -> None:
    for expected in ([], ["a"]):
        with DevServer(directory=tmp_path / "s3") as server:
            store = open_sdk_store(server.s3_config())
            assert [each.key for each in listed(store)] == expected
            store.put("a", b"bytes")
            store.close()


OWNER = """
import sys, time
from seekfs_io.devserver import DevServer
server = DevServer().start()
print(server.pid, server.home, flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_an_owner_that_is_killed(death: signal.Signals, tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=environ)
    assert owner.stdout is not None
    try:
        pid, _, _ = owner.stdout.readline().partition(" ")
        keeper = int(pid)
        (weed,) = children(keeper)
        arguments = Path(f"/proc/{keeper}/cmdline").read_text().split("\0")
        sockets = [Path(value) for flag, value in itertools.pairwise(arguments) if flag == "--unlink"]
    finally:
        owner.send_signal(death)
        owner.wait()
        owner.stdout.close()
    wait_until(lambda: not is_alive(weed) and not is_alive(keeper))
    assert not any(path.exists() for path in sockets)
    assert list(tmp_path.iterdir()) == []


def test_it_does_not_outlive_its_keeper() -> None:
    server = DevServer().start()
    try:
        assert server.pid is not None
        (weed,) = children(server.pid)
        sockets = leftovers(server)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(weed))
    finally:
        server.stop()
        for path in sockets:
            path.unlink(missing_ok=True)


def test_a_port_that_is_taken_is_said_so(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DevServerError, match=f"port {port} of 127.0.0.1 is taken by something else"):
            DevServer(port=port).start()


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "s3"
    yield directory
    main(["down", "--directory", str(directory)])


def test_its_directory_may_be_deeper_than_the_path_of_a_socket(tmp_path: Path) -> None:
    with (
        DevServer(directory=tmp_path / ("deep" * 30)) as server,
        contextlib.closing(open_sdk_store(server.s3_config())) as store,
    ):
        store.put("a", b"bytes")
        assert store.head("a").size == 5


def test_up_and_down(detached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_ports(1)[0]
    up = ["up", "--directory", str(detached), "--port", str(port)]
    down = ["down", "--directory", str(detached)]
    assert main(down) == 0
    assert "was not up" in capsys.readouterr().out
    assert main(up) == 0
    assert f"is up: http://127.0.0.1:{port}" in capsys.readouterr().out
    store = open_sdk_store(s3_config_of(port))
    store.put("kept", b"bytes")
    store.close()
    assert main(up) == 0
    assert "is up already" in capsys.readouterr().out
    assert main(["up", "--directory", str(detached.parent / "other"), "--port", str(port)]) == 1
    assert "is taken by something else" in capsys.readouterr().err
    assert main(["up", "--directory", str(detached), "--port", str(port + 1)]) == 1
    assert f"is up on port {port}" in capsys.readouterr().err
    assert main(down) == 0
    assert "is down" in capsys.readouterr().out
    assert main(up) == 0
    store = open_sdk_store(s3_config_of(port))
    assert [each.key for each in listed(store)] == ["kept"]
    store.close()


def test_a_server_that_was_killed_is_not_up(detached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_ports(1)[0]
    up = ["up", "--directory", str(detached), "--port", str(port)]
    assert main(up) == 0
    state = json.loads((detached / "server.json").read_text())
    (weed,) = children(state["pid"])
    os.kill(weed, signal.SIGKILL)
    wait_until(lambda: not is_alive(state["pid"]))
    # Another process may have that number by now; its start time tells them apart.
    state["pid"] = os.getpid()
    (detached / "server.json").write_text(json.dumps(state))
    capsys.readouterr()
    assert main(up) == 0
    assert "is up: " in capsys.readouterr().out


def test_a_server_that_ends_by_itself_says_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filerldb2").write_text("a file where a directory should be")
    with pytest.raises(DevServerError, match="ended by itself; its last words:\n.*filerldb2"):
        DevServer(directory=tmp_path).start()
