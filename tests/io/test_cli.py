"""The command line by itself: exit statuses, where things are printed, what is refused, and how.

A command is run in this process through ``run``, the very function of the console script, or as a
process of its own where signals and pipes are the subject.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import responses

from seekfs_io.cli.options import daemon_client
from seekfs_io.cli.output import warnings_explained
from tests.support.command_line import Seekfs, command, own_environment, start

URL = "http://127.0.0.1:7070"


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the one that a test makes."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SEEKFS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def seekfs(capfdbinary: pytest.CaptureFixture[bytes]) -> Seekfs:
    return Seekfs(capfdbinary)


@pytest.fixture
def daemon() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def add_blob(daemon: responses.RequestsMock, body: bytes, announced: int | None = None) -> None:
    size = len(body) if announced is None else announced
    headers = {"Content-Length": str(size), "ETag": '"sha256:ab"', "X-Seekfs-Version": "3"}
    daemon.get(f"{URL}/blob", body=body, headers=headers, auto_calculate_content_length=False)


# -- called wrongly ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["cat"], "Missing argument 'NS'"),
        (["cat", "dev"], "Missing argument 'PATH'"),
        (["cat", "dev", "a", "b"], "unexpected extra argument"),
        (["cat", "dev", "a", "--nonsense"], "No such option"),
        (["cat", "dev", "a", "--off", "-1"], "--off"),
        (["cat", "dev", "a", "--off", str(2**63)], "--off"),
        (["cat", "dev", "a", "--version", "0"], "--version"),
        (["cat", "Dev", "a"], "Dev"),
        (["cat", "dev", "/a"], "/a"),
        (["cat", "dev", "a/../b"], ".."),
        (["cat", "dev", os.fsdecode(b"\xff")], "PATH"),
        (["head", "dev", ""], "PATH"),
        (["serve", "--workers", "0"], "--workers"),
        (["serve", "--threads", "many"], "--threads"),
        (["config", "check", "a.toml", "--config", "b.toml"], "two configurations"),
        (["health", "--url", "127.0.0.1:7070"], "is no address of a daemon"),
        (["health", "--url", "unix:"], "is no address of a daemon"),
    ],
)
def test_a_wrong_call_is_status_2_and_a_sentence_on_stderr(
    seekfs: Seekfs, arguments: list[str], words: str
) -> None:
    ran = seekfs(*arguments)
    assert (ran.status, ran.out) == (2, b"")
    assert words in ran.err


@pytest.mark.parametrize("arguments", [["--help"], ["cat", "-h"], ["config", "check", "--help"]])
def test_help_is_a_result(seekfs: Seekfs, arguments: list[str]) -> None:
    ran = seekfs(*arguments)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(b"Usage: seekfs")


# -- config check --------------------------------------------------------------------------------


def test_config_check_prints_the_effective_configuration_with_secrets_masked(
    seekfs: Seekfs, tmp_path: Path
) -> None:
    file = tmp_path / "seekfs.toml"
    file.write_text('[s3]\nendpoint = "http://h:1"\naccess_key_id = "me"\nsecret_access_key = "hush-hush"\n')
    ran = seekfs("config", "check")
    assert (ran.status, ran.err) == (0, "")
    assert b'endpoint = "http://h:1"' in ran.out
    assert b"hush-hush" not in ran.out
    ran = seekfs("config", "check", str(file), "--json")
    assert json.loads(ran.out)["config"]["s3"]["access_key_id"] == "me"
    assert b"hush-hush" not in ran.out


def test_config_check_says_everything_that_is_wrong(seekfs: Seekfs, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('[s3]\nbukket = "b"\n[log]\nlevel = "loud"\n')
    ran = seekfs("config", "check", "--config", str(file))
    assert (ran.status, ran.out) == (2, b"")
    assert "s3.bukket" in ran.err
    assert "log.level" in ran.err
    ran = seekfs("config", "check", str(file), "--json")
    assert ran.status == 2
    assert {each["where"] for each in json.loads(ran.out)["problems"]} == {"s3.bukket", "log.level"}


@pytest.mark.parametrize("arguments", [["config", "check"], ["health"], ["manifest", "ls", "dev"]])
def test_a_configuration_that_is_not_there_is_named(seekfs: Seekfs, arguments: list[str]) -> None:
    ran = seekfs(*arguments, "--config", "no/such.toml")
    assert (ran.status, ran.out) == (2, b"")
    assert "no/such.toml" in ran.err


# -- the clients of a daemon ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:7171", "http://127.0.0.1:7171"),
        ("0.0.0.0:7171", "http://127.0.0.1:7171"),
        ("[::]:7171", "http://[::1]:7171"),
        ("[::1]:7171", "http://[::1]:7171"),
        ("node-7:7171", "http://node-7:7171"),
    ],
)
def test_the_daemon_is_where_the_configuration_says(
    seekfs: Seekfs, daemon: responses.RequestsMock, tmp_path: Path, listen: str, url: str
) -> None:
    (tmp_path / "seekfs.toml").write_text(f'[api]\nlisten = "{listen}"\n')
    daemon.get(f"{url}/healthz", body=b"ok\n", auto_calculate_content_length=True)
    daemon.get(f"{url}/readyz", json={}, auto_calculate_content_length=True)
    ran = seekfs("health")
    assert (ran.status, ran.out) == (0, f"{url} is alive and ready\n".encode())


@pytest.mark.parametrize("given", [[], ["--url", "unix:./none.sock"]])
def test_the_daemon_may_be_on_a_unix_socket(seekfs: Seekfs, tmp_path: Path, given: list[str]) -> None:
    (tmp_path / "seekfs.toml").write_text('[api]\nlisten = "unix:./none.sock"\n')
    ran = seekfs("health", *given)
    assert (ran.status, ran.out) == (1, b"")
    assert ran.err == "seekfs: no answer from unix:./none.sock: No such file or directory\n"


def test_health_of_a_daemon_that_cannot_serve_is_a_failure_and_says_why(
    seekfs: Seekfs, daemon: responses.RequestsMock
) -> None:
    reasons = {"ready": False, "reasons": ["no answer from the store", "the disk is full"]}
    daemon.get(f"{URL}/healthz", body=b"ok", auto_calculate_content_length=True)
    daemon.get(f"{URL}/readyz", json=reasons, status=503, auto_calculate_content_length=True)
    ran = seekfs("health", "--url", URL)
    assert ran.status == 1
    assert b"alive and not ready: no answer from the store; the disk is full" in ran.out
    ran = seekfs("health", "--url", URL, "--json")
    assert ran.status == 1
    assert json.loads(ran.out) == {"url": URL, "alive": True, **reasons}


def test_cat_writes_the_bytes_and_nothing_else(seekfs: Seekfs, daemon: responses.RequestsMock) -> None:
    add_blob(daemon, bytes(range(256)) * 10_000)
    ran = seekfs("cat", "dev", "a ☃.bin", "--off", "0", "--len", "2560000", "--version", "3", "--url", URL)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == bytes(range(256)) * 10_000
    assert "ns=dev&path=a%20%E2%98%83.bin&version=3&off=0&len=2560000" in str(daemon.calls[0].request.url)


def test_cat_of_a_body_that_breaks_off_is_a_failure(seekfs: Seekfs, daemon: responses.RequestsMock) -> None:
    add_blob(daemon, b"half", announced=8)
    ran = seekfs("cat", "dev", "a", "--url", URL)
    assert ran.status == 1
    assert "broke off" in ran.err


def test_head_prints_the_facts(seekfs: Seekfs, daemon: responses.RequestsMock) -> None:
    headers = {"Content-Length": "7", "ETag": '"sha256:ab"', "X-Seekfs-Version": "3", "X-Seekfs-Stale": "1"}
    daemon.head(f"{URL}/blob", headers=headers, auto_calculate_content_length=False)
    ran = seekfs("head", "dev", "a", "--url", URL)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == b"size     7\nhash     sha256:ab\nversion  3 (stale: HEAD could not be read)\n"
    ran = seekfs("head", "dev", "a", "--url", URL, "--json")
    assert json.loads(ran.out) == {
        "ns": "dev", "path": "a", "size": 7, "hash": "sha256:ab", "version": 3, "stale": True
    }  # fmt: skip


def test_a_refusal_of_the_daemon_is_told_with_its_request(
    seekfs: Seekfs, daemon: responses.RequestsMock
) -> None:
    problem = {"detail": "dev has no file 'a'", "status": 404, "request_id": "r-9"}
    daemon.get(f"{URL}/blob", json=problem, status=404)
    ran = seekfs("cat", "dev", "a", "--url", URL)
    assert (ran.status, ran.out) == (1, b"")
    assert ran.err == "seekfs: dev has no file 'a' (status 404, request r-9)\n"


def test_what_a_daemon_says_does_not_reach_the_terminal_as_it_is(
    seekfs: Seekfs, daemon: responses.RequestsMock
) -> None:
    daemon.get(f"{URL}/blob", json={"detail": "\x1b[2Jgone\x9b31m", "status": 404}, status=404)
    assert seekfs("cat", "dev", "a", "--url", URL).err == "seekfs: \\x1b[2Jgone\\x9b31m (status 404)\n"
    daemon.get(f"{URL}/healthz", body=b"ok", auto_calculate_content_length=True)
    daemon.get(f"{URL}/readyz", json={"reasons": ["\x1b[2J"]}, status=503, auto_calculate_content_length=True)
    assert seekfs("health", "--url", URL).lines == [f"{URL} is alive and not ready: \\x1b[2J"]


@pytest.mark.parametrize("arguments", [["cat", "dev", "a"], ["head", "dev", "a"], ["health"]])
def test_no_daemon_is_a_sentence_that_names_its_address(seekfs: Seekfs, arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    ran = seekfs(*arguments, "--url", url)
    assert (ran.status, ran.out) == (1, b"")
    assert ran.err == f"seekfs: no answer from {url}: Connection refused\n"


def test_a_daemon_is_waited_for_longer_than_it_may_take(tmp_path: Path) -> None:
    """Its own word on what took too long says more than "timed out"."""
    config = tmp_path / "seekfs.toml"
    config.write_text("api.request_deadline_sec = 600\napi.listen = '0.0.0.0:71'\n")
    with daemon_client(str(config), None) as client, daemon_client(None, "http://h:1") as other:
        assert client.base_url == "http://127.0.0.1:71"
        assert client._timeout[1] > 600
        assert other._timeout[1] > 120


# -- serve ---------------------------------------------------------------------------------------


def test_serve_becomes_the_daemon_with_the_same_flags(
    seekfs: Seekfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: executed.append((program, arguments)))
    assert seekfs("serve").status == 0
    flags = ["--config", "-x.toml", "--listen", "[::1]:1", "--workers", "1", "--threads", "9"]
    assert seekfs("serve", *flags).status == 0
    (program, bare), (_, full) = executed
    assert program == bare[0] == sys.executable
    assert [each for each in bare[1:] if each != "-P"] == ["-m", "seekfs_wsgi.serve"]
    assert full[-4:] == ["--config=-x.toml", "--listen=[::1]:1", "--workers=1", "--threads=9"]


# -- warnings ------------------------------------------------------------------------------------


def test_a_warning_is_a_line_like_any_other(seekfs: Seekfs, tmp_path: Path) -> None:
    """Once, however often commands are run; and what libraries repeat of it is not heard."""
    (tmp_path / "seekfs.toml").write_text(
        '[s3]\nengine = "sdk"\nendpoint = "https://127.0.0.1:1"\nverify = false\n'
        'access_key_id = "a"\nsecret_access_key = "b"\nretry_initial_backoff_ms = 1\n'
    )
    for _ in range(2):
        ran = seekfs("manifest", "show", "dev")
        assert (ran.status, ran.out) == (1, b"")
        first, *rest = ran.err.splitlines()
        assert first == "seekfs: s3.verify is false: the certificate of the store is not checked"
        assert len(rest) == 2
        assert all(line.startswith("seekfs: ") and "certificate" not in line for line in rest)


def test_what_a_store_says_in_a_warning_stays_on_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings_explained():
        logging.getLogger("seekfs.publishing").warning("the store said %s", "a\nb\x1b[2J")
        logging.getLogger("urllib3.connectionpool").warning("the same once more")
        logging.getLogger("seekfs.publishing").info("not for a command")
    logging.getLogger("seekfs.publishing").warning("after its end")
    assert capfd.readouterr().err == "seekfs: the store said a\\nb\\x1b[2J\n"


# -- a process of its own: signals, pipes, full disks -----------------------------------------------


@contextmanager
def endless_daemon() -> Iterator[tuple[str, threading.Event]]:
    """Announces 1 GiB and sends it until nobody reads; the event is set once somebody does."""
    server = socket.create_server(("127.0.0.1", 0))
    reading = threading.Event()

    def serve() -> None:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**30)
            try:
                for _ in range(2**10):
                    connection.sendall(bytes(2**20))
                    reading.set()
            except OSError:
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", reading
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_130_and_a_word(number: signal.Signals) -> None:
    with endless_daemon() as (url, reading):
        process = start(["cat", "dev", "a", "--url", url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.read(1) == b"\0"
        process.send_signal(number)
        process.stdout.close()
        _, err = process.communicate(timeout=30)
        assert reading.is_set()
    assert process.returncode == 130
    assert err == b"seekfs: interrupted\n"


def test_a_reader_that_has_enough_is_no_reason_to_speak() -> None:
    with endless_daemon() as (url, _):
        process = start(["cat", "dev", "a", "--url", url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.read(10) == bytes(10)
        process.stdout.close()
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, b"")


def test_a_disk_that_is_full_is_said_and_no_traceback() -> None:
    with endless_daemon() as (url, _), Path("/dev/full").open("wb") as full:
        process = start(["cat", "dev", "a", "--url", url], stdout=full)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, b"seekfs: No space left on device\n")


def test_head_in_a_shell_has_enough_and_nothing_is_said() -> None:
    with endless_daemon() as (url, _):
        script = '"$@" | head -c1; exit ${PIPESTATUS[0]}'
        shell = subprocess.run(
            ["bash", "-c", script, "-", *command("cat", "dev", "a", "--url", url)],
            env=own_environment(),
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert (shell.returncode, shell.stdout, shell.stderr) == (1, b"\0", b"")


@pytest.mark.parametrize(
    ("redirection", "arguments", "status", "err"),
    [
        (">&-", ["config", "check"], 1, b"seekfs: standard output: Bad file descriptor\n"),
        (">&-", ["bucket", "make"], 0, b"bucket seekfs: made\n"),
        (">&-", ["manifest", "ls", "nope"], 1, b"seekfs: there is no namespace 'nope'\n"),
        ("2>&-", ["bucket", "make"], 0, b""),
        ("2>/dev/full", ["bucket", "make"], 0, b""),
        ("2>/dev/full", ["manifest", "ls", "nope"], 1, b""),
        ("2>/dev/full", ["nonsense"], 2, b""),
        (">&- 2>&-", ["config", "check"], 1, b""),
        (">/dev/full 2>/dev/full", ["config", "check"], 1, b""),
    ],
)
def test_whatever_is_done_to_its_outputs_the_exit_status_is_right(
    tmp_path: Path, redirection: str, arguments: list[str], status: int, err: bytes
) -> None:
    shell = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "-", *command(*arguments)],
        env=own_environment(),
        cwd=tmp_path,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (shell.returncode, shell.stdout, shell.stderr) == (status, b"", err)


def test_a_small_result_that_cannot_be_written_is_a_failure_too() -> None:
    with Path("/dev/full").open("wb") as full:
        process = start(["config", "check"], stdout=full)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, b"seekfs: No space left on device\n")
