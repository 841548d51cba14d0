"""The configuration as a user meets it: by ``seekfs config check``, and by the daemon, however it starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from seekfs_io.config import environment_name
from seekfs_io.config_tree import SCHEMA
from tests.e2e.serving import DaemonMaker
from tests.support.command_line import Ran, command, own_environment
from tests.support.configurations import (
    default_of,
    settled,
    text_of,
    toml_of_keys,
    two_values,
    unknown_keys,
    wrong_text,
)
from tests.support.daemon import REPOSITORY
from tests.support.leaks import MARK

SECONDS_MAX: Final = 60.0


def run(arguments: list[str], cwd: Path, environ: Mapping[str, str]) -> Ran:
    """A process with nothing of ``SEEKFS_*`` but ``environ``."""
    done = subprocess.run(
        arguments,
        cwd=cwd,
        env={**own_environment(), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr.decode())


def check(cwd: Path, *arguments: str, **environ: str) -> Ran:
    return run(command("config", "check", *arguments), cwd, environ)


def starts(cwd: Path, environ: Mapping[str, str], *arguments: str) -> dict[str, Ran]:
    """What ``config check``, the daemon, and gunicorn by hand say of a configuration that cannot be used."""
    by_hand = [str(Path(sys.executable).with_name("gunicorn")), "-c", str(REPOSITORY / "gunicorn.conf.py")]
    found = {"serve": run(command("serve", *arguments), cwd, environ), "gunicorn": run(by_hand, cwd, environ)}
    return {"check": check(cwd, **environ), **found} if not arguments else found


def batches() -> list[dict[str, Any]]:
    """Every key with a value that is not its default, in as few configurations as there have to be."""
    left = list(SCHEMA.rules)
    found: list[dict[str, Any]] = []
    while left:
        batch: dict[str, Any] = {}
        for key in left:
            for value in two_values(key):
                grown = settled({**batch, key: value})
                if key not in batch and value != default_of(key) and grown is not None:
                    batch = grown
        assert set(left) & set(batch)
        left = [key for key in left if key not in batch]
        found.append(batch)
    return found


def shown(ran: Ran) -> dict[str, Any]:
    """What was printed, by dotted key."""
    assert (ran.status, ran.err) == (0, "")

    def walk(table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in table.items():
            key = prefix + name
            found |= {key: value} if key in SCHEMA.rules else walk(value, f"{key}.")
        return found

    return walk(ran.json["config"], "")


def expected(given: Mapping[str, Any]) -> dict[str, Any]:
    every = {key: given.get(key, default_of(key)) for key in SCHEMA.rules}
    hidden = [key for key, rule in SCHEMA.rules.items() if rule.secret and every[key] is not None]
    return every | dict.fromkeys(hidden, "********")


def test_every_key_of_a_file_and_of_the_environment_is_shown(tmp_path: Path) -> None:
    found = batches()
    assert len(found) <= 3
    for batch in found:
        (tmp_path / "seekfs.toml").write_text(toml_of_keys(batch))
        ran = check(tmp_path, "--json")
        assert shown(ran) == expected(batch)
        (tmp_path / "seekfs.toml").write_text("")
        environ = {environment_name(key): text_of(value) for key, value in batch.items()}
        ran = check(tmp_path, "--json", **environ)
        assert shown(ran) == expected(batch)


def test_the_environment_goes_before_the_file_and_the_named_file_before_the_one_found(tmp_path: Path) -> None:
    for name in ("seekfs", "variable", "option"):
        (tmp_path / f"{name}.toml").write_text(f"s3.bucket = '{name}'\ns3.region = '{name}'\n")
    environ = {"SEEKFS_CONFIG": "variable.toml", "SEEKFS_S3_REGION": "environment"}
    for arguments, bucket in [
        ((), "variable"),
        (("option.toml",), "option"),
        (("--config=option.toml",), "option"),
    ]:
        values = shown(check(tmp_path, *arguments, "--json", **environ))
        assert (values["s3.bucket"], values["s3.region"]) == (bucket, "environment")
    assert shown(check(tmp_path, "--json"))["s3.bucket"] == "seekfs"


@pytest.mark.parametrize("layer", ["file", "environment"])
def test_all_that_is_wrong_is_one_message_wherever_it_is_met(tmp_path: Path, layer: str) -> None:
    wrong = {**{key: wrong_text(key) for key in SCHEMA.rules}, **dict.fromkeys(unknown_keys(), "1")}
    path = tmp_path / "seekfs.toml"
    environ: dict[str, str] = {}
    if layer == "file":
        path.write_text(toml_of_keys(wrong))
    else:
        path.write_text("")
        environ = {environment_name(key): text_of(value) for key, value in wrong.items()}
    said = starts(tmp_path, environ)
    for ran in said.values():
        assert (ran.status, ran.out) == (2, b"")
        assert ran.err == said["check"].err
    lines = said["check"].err.splitlines()
    assert len(lines) == len(wrong)
    named = {line.removeprefix("seekfs: ").partition(": ")[0] for line in lines}
    unknown = unknown_keys() if layer == "file" else [environment_name(key) for key in unknown_keys()]
    assert named == {*SCHEMA.rules, *unknown}
    document = check(tmp_path, "--json", **environ)
    assert document.status == 2
    assert {each["where"] for each in document.json["problems"]} == named


def test_a_wrong_flag_and_a_wrong_file_are_said_together(tmp_path: Path) -> None:
    (tmp_path / "seekfs.toml").write_text("api.drain_sec = -1\napi.lisen = 'x'\n")
    ran = run(command("serve", "--listen", "nowhere"), tmp_path, {"SEEKFS_API_DEBUG": "yes"})
    assert ran.status == 2
    assert ran.err.splitlines() == [
        "seekfs: api.lisen: (from seekfs.toml) is not a key of the configuration; did you mean api.listen?",
        "seekfs: api.drain_sec: -1 (from seekfs.toml) is not allowed: it must be a number from 0 to 86,400",
        'seekfs: api.debug: "yes" (from SEEKFS_API_DEBUG) is not allowed: it must be true or false',
        (
            'seekfs: api.listen: "nowhere" (from the command line) is not allowed: it must be "host:port", '
            '"[ipv6]:port" or "unix:/path", the port from 0 to 65535'
        ),
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("cache.inflight_mib = 4", "cache.inflight_mib: 4 MiB has no room for one page of 8 MiB"),
        ("cache.l1_memory_gib = 0.001", "cache.l1_memory_gib: 0.001 GiB has no room for one page of 8 MiB"),
        ("cache.l2_ssd_gib = 0.001", "cache.l2_ssd_gib: 0.001 GiB has no room for one page of 8 MiB"),
        ("s3.access_key_id = 'a'", "s3.secret_access_key: is absent while s3.access_key_id is given"),
        (
            "s3.engine = 'file'\ns3.endpoint = 'http://a'",
            's3.endpoint: "http://a" does not go with engine = "file"',
        ),
        ("s3.engine = 'crt'", 's3.engine: "crt" is not part of this version; pip install "seekfs[crt]"'),
    ],
)
def test_what_is_impossible_together_is_a_sentence_wherever_it_is_met(
    tmp_path: Path, given: str, sentence: str
) -> None:
    (tmp_path / "seekfs.toml").write_text(f"{given}\ncache.l2.segment_path = 'l2'\n")
    for ran in starts(tmp_path, {}).values():
        assert (ran.status, ran.out) == (2, b"")
        # gunicorn has begun to start where only this installation is in the way.
        (line,) = [line for line in ran.err.splitlines() if line.startswith("seekfs: ")]
        assert line.startswith(f"seekfs: {sentence}")
    assert not (tmp_path / "l2").exists()


def unreadable(tmp_path: Path, kind: str) -> str:
    """Make a file that cannot be read as a configuration; what is said of it."""
    path = tmp_path / "seekfs.toml"
    match kind:
        case "missing":
            return "cannot be read (SEEKFS_CONFIG): No such file or directory"
        case "directory":
            path.mkdir()
            return "cannot be read (SEEKFS_CONFIG): Is a directory"
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(os.path.relpath(path))
            return "cannot be read (SEEKFS_CONFIG): No such device or address"
        case "UTF-16":
            path.write_text("[s3]\n", encoding="utf-16")
            return "is not UTF-8 at byte 0"
        case _:
            path.write_text('[s3\nbucket = "a"\n')
            return "is not TOML: "


@pytest.mark.parametrize("kind", ["missing", "directory", "socket", "UTF-16", "no TOML"])
def test_a_file_that_cannot_be_used_is_named_wherever_it_is_met(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # The path of a socket is to be short.
    what = unreadable(tmp_path, kind)
    path = str(tmp_path / "seekfs.toml")
    for ran in starts(tmp_path, {"SEEKFS_CONFIG": path}).values():
        assert (ran.status, ran.out) == (2, b"")
        (line,) = ran.err.splitlines()
        assert line.startswith(f"seekfs: {path}: {what}")


@pytest.mark.parametrize("by_hand", [False, True], ids=["serve", "gunicorn"])
@pytest.mark.parametrize("is_file", [False, True], ids=["unwritable", "no directory"])
def test_a_directory_that_cannot_be_used_is_named_with_both_ways_out(
    make_daemon: DaemonMaker, tmp_path: Path, by_hand: bool, is_file: bool
) -> None:
    """In /proc nobody makes a directory, whoever he is."""
    path = tmp_path / "file" if is_file else Path("/proc/seekfs/l2")
    if is_file:
        path.write_text("years of work")
    daemon = make_daemon(by_hand=by_hand, cache__l2__segment_path=str(path)).spawn()
    assert daemon.wait() == 1
    line = daemon.log.splitlines()[-1]
    assert line.startswith(f"seekfs: cache.l2.segment_path: the directory '{path}' cannot be used (")
    assert ": name another path, or " in line
    other = (
        "move that away"
        if is_file
        else f'create it for this user with: sudo install -d -m 700 -o "$(id -un)" {path}'
    )
    assert line.endswith(other)
    assert "Booting worker" not in daemon.log
    assert "Traceback" not in daemon.log


def test_secrets_are_in_nothing_that_config_check_prints(tmp_path: Path) -> None:
    secrets = {"s3.secret_access_key": f"{MARK}-a", "s3.session_token": f"{MARK}-b"}
    given = {"s3.access_key_id": "me", **secrets, "s3.proxy": f"http://somebody:{MARK}@proxy:1"}
    (tmp_path / "seekfs.toml").write_text(toml_of_keys(given))
    for ran in (check(tmp_path), check(tmp_path, "--json")):
        assert ran.status == 0
        assert b'"me"' in ran.out
        assert MARK.encode() not in ran.out
    bad = {environment_name(key): f"{value} x" for key, value in given.items()}
    for ran in starts(tmp_path, bad).values():
        assert ran.status == 2
        assert ran.err.count("the value (not shown) (from SEEKFS_S3_") == 3
        assert MARK not in ran.err
    assert MARK.encode() not in check(tmp_path, "--json", **bad).out
