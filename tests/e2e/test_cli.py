"""The command line against a real S3 server and a real daemon: publishing, reading, interruptions."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import select
import shlex
import signal
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seekfs_io.client import Client
from seekfs_io.config import S3Config
from seekfs_io.devserver import DevServer, free_ports
from seekfs_io.objects.base import ObjectStore
from tests.conftest import DaemonFactory as NewDaemon
from tests.conftest import S3ConfigFactory
from tests.e2e.conftest import DaemonFactory
from tests.support.command_line import Seekfs, start
from tests.support.daemon import s3_settings, toml_of
from tests.support.objects import listed
from tests.support.passthrough import Answer, Match, PassThrough, Plan

MIB = 1 << 20
COMMAND_SECONDS_MAX = 60.0


def write_config(file: Path, s3: S3Config, **settings: object) -> Path:
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    file.write_text(toml_of({**s3_settings(s3), **dotted}))
    return file


@pytest.fixture
def config(tmp_path: Path, s3_config: S3ConfigFactory, passthrough: PassThrough) -> Path:
    return write_config(tmp_path / "seekfs.toml", s3_config(endpoint=passthrough.endpoint))


@pytest.fixture
def seekfs(
    capfdbinary: pytest.CaptureFixture[bytes],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Seekfs:
    """Commands find their configuration as a user's do: it lies in the directory they are run in."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SEEKFS_")]:
        monkeypatch.delenv(name)
    return Seekfs(capfdbinary)


def noise(directory: Path, name: str, size: int) -> Path:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(random.Random(name).randbytes(size))
    return file


# -- publish, then read through a daemon -----------------------------------------------------------


def test_what_is_published_is_read_back_by_cat(
    seekfs: Seekfs, ns: str, tmp_path: Path, start_daemon: DaemonFactory
) -> None:
    data = tmp_path / "data"
    big = noise(data, "big.bin", 9 * MIB + 5)
    odd = noise(data, "a b/100%+☃.bin", 1000)
    ran = seekfs.done("publish", ns, str(data))
    assert ran.lines == [f"{ns} is at version 1: 2 files changed; uploaded 2 objects, 9.0 MiB"]

    daemon = start_daemon()
    at = ["--url", daemon.url]
    ran = seekfs.done("health", *at)
    assert ran.lines == [f"{daemon.url} is alive and ready"]
    assert seekfs.done("health", *at, "--json").json["ready"] is True
    assert seekfs.done("cat", ns, "big.bin", *at).out == big.read_bytes()
    assert seekfs.done("cat", ns, "a b/100%+☃.bin", *at).out == odd.read_bytes()
    across = seekfs.done("cat", ns, "big.bin", "--off", str(8 * MIB - 2), "--len", "4", *at)
    assert across.out == big.read_bytes()[8 * MIB - 2 : 8 * MIB + 2]
    facts = seekfs.done("head", ns, "big.bin", "--json", *at).json
    assert (facts["size"], facts["version"], facts["stale"]) == (9 * MIB + 5, 1, False)
    listed = seekfs.done("manifest", "ls", ns, "--json").json["files"]
    assert facts["hash"] == next(file["hash"] for file in listed if file["path"] == "big.bin")

    for arguments, words in [
        (["cat", ns, "nope"], "no file 'nope' in version 1"),
        (["head", ns, "nope"], "no file 'nope' in version 1"),
        (["cat", f"{ns}-not", "big.bin"], f"{ns}-not"),
        (["cat", ns, "big.bin", "--version", "7"], "version 7"),
        (["cat", ns, "big.bin", "--off", str(99 * MIB)], "status 416"),
    ]:
        ran = seekfs(*arguments, *at)
        assert (ran.status, ran.out) == (1, b"")
        assert words in ran.err
        assert "request " in ran.err


def test_put_then_what_it_says_to_run_next(seekfs: Seekfs, ns: str, tmp_path: Path) -> None:
    file = noise(tmp_path, "a file.bin", 3 * MIB)
    ran = seekfs.done("put", ns, str(file), "--as", "dir/☃ file.bin", "--config", "seekfs.toml")
    assert ran.lines == [f"namespaces/{ns}/files/dir/☃ file.bin"]
    following = shlex.split(ran.err.partition("next: ")[2])
    assert following[0] == "seekfs"
    assert seekfs.done(*following[1:]).lines == [f"{ns} is at version 1: 1 file changed"]
    assert seekfs.done("manifest", "verify", ns).err.endswith("all as published\n")


def test_gen_leaves_markers_of_folders_out_and_takes_them_for_no_failure(
    seekfs: Seekfs, ns: str, store: ObjectStore
) -> None:
    prefix = f"raw-{ns}/"
    for name in ("", "sub/"):
        store.put(prefix + name, b"")
    arguments = ["manifest", "gen", ns, "--from-prefix", prefix]
    ran = seekfs(*arguments)
    assert (ran.status, ran.out) == (1, b"")
    assert f"there is no object under '{prefix}'" in ran.err
    store.put(f"{prefix}sub/a", b"1")
    store.put(f"{prefix}empty", b"")
    ran = seekfs.done(*arguments)
    assert ran.lines == [f"{ns} is at version 1: 2 files changed"]
    assert ran.err.splitlines() == [
        f"left out '{prefix}{name}': it is empty and stands for a folder" for name in ("", "sub/")
    ]
    document = seekfs.done(*arguments, "--json").json
    assert (document["left_out"], document["folder_markers"]) == ([], [prefix, f"{prefix}sub/"])


def test_verify_names_the_page_that_the_store_has_changed(
    seekfs: Seekfs, ns: str, tmp_path: Path, passthrough: PassThrough
) -> None:
    noise(tmp_path / "data", "a.bin", 9 * MIB)
    noise(tmp_path / "data", "b.bin", 100)
    seekfs.done("publish", ns, "data")
    files = seekfs.done("manifest", "ls", ns, "--json").json["files"]
    key = next(file["key"] for file in files if file["path"] == "a.bin")
    passthrough.when(Match(method="GET", key=key), Plan(flip=(8 * MIB + 17,)))
    ran = seekfs("manifest", "verify", ns, "--json")
    assert ran.status == 1
    differences = ran.json["differences"]
    assert {each["path"] for each in differences} == {"a.bin"}
    assert differences[0]["what"].startswith("page 1 has CRC-32C")
    assert differences[1]["what"].startswith("the bytes are sha256:")


# -- a store that says no --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["publish", "dev", "file"],
        ["put", "dev", "file"],
        ["manifest", "gen", "dev"],
        ["manifest", "rm", "dev", "file"],
        ["manifest", "rollback", "dev", "1"],
        ["manifest", "show", "dev"],
        ["manifest", "ls", "dev"],
        ["manifest", "diff", "dev", "1"],
        ["manifest", "verify", "dev"],
        ["bucket", "make"],
    ],
)
def test_a_store_that_refuses_or_is_not_there_is_a_sentence(
    seekfs: Seekfs, tmp_path: Path, s3_config: S3ConfigFactory, arguments: list[str]
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    troubles = {
        "denied": s3_config(secret_access_key="wrong-secret"),
        "nobody": s3_config(endpoint=nobody),
        "no bucket": s3_config(bucket="there-is-no-such-bucket"),
    }
    for name, s3 in troubles.items():
        if (name, arguments[0]) == ("no bucket", "bucket"):
            continue  # which would make it
        file = write_config(tmp_path / "trouble.toml", s3, s3__retry_initial_backoff_ms=1)
        ran = seekfs(*arguments, "--config", str(file))
        assert (ran.status, ran.out) == (1, b""), (name, ran)
        assert ran.err.startswith("seekfs: "), (name, ran)
        assert "wrong-secret" not in ran.err
        assert f"the store is {s3.endpoint}, bucket {s3.bucket}, configured in {file}" in ran.err
        if name == "nobody":
            assert "refused" in ran.err.lower()


# -- interrupted -----------------------------------------------------------------------------------


def unfinished_uploads(passthrough: PassThrough) -> set[str]:
    """Ids of multipart uploads that were begun through here, less those that were ended."""
    begun: dict[str, None] = {}
    for each in passthrough.exchanges:
        upload = each.query.get("uploadId")
        if upload is not None and each.method == "PUT":
            begun[upload] = None
    for each in passthrough.exchanges:
        ended = each.method == "DELETE" or (each.method == "POST" and "uploads" not in each.query)
        if ended and each.status is not None and each.status < 300:
            begun.pop(each.query.get("uploadId", ""), None)
    return set(begun)


@pytest.mark.parametrize("command", ["publish", "put"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_upload_is_aborted_and_nothing_is_published(
    ns: str,
    tmp_path: Path,
    config: Path,
    passthrough: PassThrough,
    store: ObjectStore,
    number: signal.Signals,
    command: str,
) -> None:
    noise(tmp_path, "large.bin", 70 * MIB)
    gate = threading.Event()
    second_part = re.compile(r"partNumber=2\b")
    passthrough.when(lambda each: bool(second_part.search(each.target)), Plan(hold_head=gate))
    process = start([command, ns, "large.bin", "--config", str(config)], cwd=tmp_path)
    passthrough.wait_until(lambda: any(second_part.search(each.target) for each in passthrough.exchanges))
    process.send_signal(number)
    gate.set()
    out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert (process.returncode, out) == (130, b"")
    assert err == b"seekfs: interrupted\n"
    assert unfinished_uploads(passthrough) == set()
    assert listed(store, f"namespaces/{ns}/") == []


def test_a_second_interrupt_does_not_cut_the_undoing_short(
    ns: str, tmp_path: Path, config: Path, passthrough: PassThrough
) -> None:
    noise(tmp_path, "large.bin", 70 * MIB)
    part, abort = threading.Event(), threading.Event()
    passthrough.when(Match(method="DELETE"), Plan(hold_head=abort))
    passthrough.when(lambda each: "partNumber=2" in each.target, Plan(hold_head=part))
    process = start(["publish", ns, "large.bin", "--config", str(config)], cwd=tmp_path)
    passthrough.wait_until(lambda: any("partNumber=2" in each.target for each in passthrough.exchanges))
    process.send_signal(signal.SIGINT)
    part.set()
    passthrough.wait_until(lambda: bool(passthrough.select("DELETE")))
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    assert process.stderr.readline() == b"seekfs: undoing what was begun; once more gives that up\n"
    abort.set()
    out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert (process.returncode, out, err) == (130, b"", b"seekfs: interrupted\n")
    assert unfinished_uploads(passthrough) == set()


def test_a_third_interrupt_gives_the_undoing_up_and_says_what_is_left(
    ns: str, tmp_path: Path, config: Path, passthrough: PassThrough
) -> None:
    noise(tmp_path, "large.bin", 70 * MIB)
    gate = threading.Event()
    passthrough.when(Match(method="DELETE"), Plan(hold_head=gate))
    process = start(["publish", ns, "large.bin", "--config", str(config)], cwd=tmp_path)
    passthrough.wait_until(lambda: any("partNumber=1" in each.target for each in passthrough.exchanges))
    process.send_signal(signal.SIGINT)
    passthrough.wait_until(lambda: bool(passthrough.select("DELETE")))
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"once more" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    # The store has still not answered.
    assert process.wait(COMMAND_SECONDS_MAX) == 130
    (upload,) = unfinished_uploads(passthrough)
    gate.set()
    out, err = process.communicate()
    warning, last = err.decode().splitlines()
    assert warning.startswith(f"seekfs: parts may be left in the bucket, of the upload {upload} to ")
    assert (out, last) == (b"", "seekfs: interrupted")


def test_parts_that_could_not_be_forgotten_are_named(
    ns: str, tmp_path: Path, config: Path, passthrough: PassThrough
) -> None:
    """An abort that fails in passing is made again; one that fails for good is not kept quiet."""
    noise(tmp_path, "large.bin", 70 * MIB)
    answer = Answer.error(503, "SlowDown")
    refused = Answer.error(403, "AccessDenied")
    passthrough.when(Match(method="DELETE"), Plan(answer=answer), times=2)
    passthrough.when(Match(method="DELETE"), Plan(answer=refused))
    process = start(["put", ns, "large.bin", "--config", str(config)], cwd=tmp_path)
    passthrough.wait_until(lambda: any("partNumber=1" in each.target for each in passthrough.exchanges))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert (process.returncode, out) == (130, b"")
    (upload,) = unfinished_uploads(passthrough)
    warning, last = err.decode().splitlines()
    assert warning.startswith(
        f"seekfs: parts may be left in the bucket, of the upload {upload} to namespaces/{ns}/files/large.bin"
    )
    assert "AccessDenied" in warning
    assert last == "seekfs: interrupted"
    aborts = [each.status for each in passthrough.select("DELETE")]
    assert aborts[:3] == [503, 503, 403]


# -- a terminal ------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal of 120 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    yield ours, theirs
    os.close(ours)


def test_a_bar_with_an_eta_is_drawn_on_a_terminal_and_only_there(
    ns: str, tmp_path: Path, config: Path, passthrough: PassThrough, terminal: tuple[int, int]
) -> None:
    noise(tmp_path, "large [red].bin", 40 * MIB)
    gate = threading.Event()
    passthrough.when(lambda each: "partNumber=2" in each.target, Plan(hold_head=gate))
    ours, theirs = terminal
    arguments = ["publish", ns, "large [red].bin", "--config", str(config)]
    process = start(arguments, cwd=tmp_path, stderr=theirs, environ={"TERM": "xterm", "COLUMNS": "120"})
    os.close(theirs)
    drawn = b""
    deadline = time.monotonic() + COMMAND_SECONDS_MAX
    while not re.search(rb"large \[red\]\.bin.*?/[0-9. ]*MiB.*?[0-9]:[0-9]{2}:[0-9]{2}", drawn):
        assert time.monotonic() < deadline, drawn[-2000:]
        if select.select([ours], [], [], 1)[0]:
            drawn += os.read(ours, 65536)
    gate.set()
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break  # the other end is closed
        if not piece:
            break
        drawn += piece
    out, _ = process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert process.returncode == 0
    assert out.decode().startswith(f"{ns} is at version 1")

    again = start(["manifest", "verify", ns, "--config", str(config)], cwd=tmp_path)
    out, err = again.communicate(timeout=COMMAND_SECONDS_MAX)
    assert (again.returncode, out) == (0, b"")
    assert err.decode() == f"1 file of {ns} at version 1, 40.0 MiB: all as published\n"


# -- serve -----------------------------------------------------------------------------------------


def test_serve_is_the_daemon_and_ends_as_it_does(
    tmp_path: Path, config: Path, seekfs: Seekfs, seaweed: DevServer
) -> None:
    port = free_ports(1)[0]
    l2 = tmp_path / "l2"
    environ = {"SEEKFS_CACHE_L2_SEGMENT_PATH": str(l2), "SEEKFS_CACHE_L1_MEMORY_GIB": "0.0625"}
    with (tmp_path / "log").open("wb") as log:
        process = start(
            ["serve", "--config", str(config), "--listen", f"127.0.0.1:{port}", "--threads", "2"],
            stdout=log,
            stderr=log,
            environ=environ,
            cwd=tmp_path,
        )
    try:
        deadline = time.monotonic() + COMMAND_SECONDS_MAX
        while seekfs("health", "--url", f"http://127.0.0.1:{port}").status:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        assert process.wait(COMMAND_SECONDS_MAX) == 0
    finally:
        process.kill()
        process.wait()


def test_a_daemon_on_a_unix_socket_is_asked_like_any_other(
    ns: str, tmp_path: Path, s3_config: S3ConfigFactory, new_daemon: NewDaemon, seekfs: Seekfs
) -> None:
    data = noise(tmp_path, "a b.bin", MIB + 1).read_bytes()
    seekfs.done("publish", ns, "a b.bin")
    at = f"unix:{tmp_path}/s"
    daemon = new_daemon({"api.listen": at}, s3=s3_config()).spawn()
    deadline = time.monotonic() + COMMAND_SECONDS_MAX
    while seekfs("health", "--url", at).status:
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.05)
    for given in (["--url", at], ["--config", str(daemon.config_path)]):
        assert seekfs.done("health", *given).lines == [f"{at} is alive and ready"]
        assert seekfs.done("head", ns, "a b.bin", "--json", *given).json["size"] == len(data)
        assert seekfs.done("cat", ns, "a b.bin", *given).out == data
        ran = seekfs("cat", ns, "nope", *given)
        assert (ran.status, ran.out) == (1, b"")
        assert "no file 'nope' in version 1" in ran.err
    with Client(at) as client:
        items = [("a b.bin", MIB - 1, 2), ("a b.bin", 0, 1)]
        assert client.readv(ns, items) == [data[MIB - 1 :], data[:1]]
        assert [piece for _, piece in client.readv_frames(ns, items)] == [data[MIB - 1 :], data[:1]]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--workers", "2"], 2, "--workers 2"),
        (["--listen", "nonsense"], 2, "nonsense"),
        (["--config", "no/such.toml"], 2, "no/such.toml"),
    ],
)
def test_serve_refuses_in_a_sentence(tmp_path: Path, arguments: list[str], status: int, words: str) -> None:
    process = start(["serve", *arguments], cwd=tmp_path)
    out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert (process.returncode, out) == (status, b"")
    assert words in err.decode()
    assert b"Traceback" not in err


def test_serve_says_that_its_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start(["serve", "--listen", address], cwd=tmp_path)
        _, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert process.returncode == 1
    assert address in err.decode()
    assert b"Traceback" not in err
