"""seekfs_wsgi.daemon: settings that gunicorn takes, and what is found out before anything starts."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from gunicorn.config import Config as GunicornConfig  # type: ignore[import-untyped]

from seekfs_core.closing import FLUSH_SECONDS_MAX
from seekfs_core.errors import Problem
from seekfs_io.config import ApiConfig, CacheConfig, Config, ConfigError, L2Config
from seekfs_wsgi import daemon
from seekfs_wsgi.daemon import (
    CannotStart,
    addresses_of,
    check_before_start,
    complain,
    gunicorn_settings,
    running_config,
)


@pytest.fixture(autouse=True)
def _no_running_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_running", None)


def config_for(path: Path, listen: str) -> Config:
    return Config(cache=CacheConfig(l2=L2Config(segment_path=str(path))), api=ApiConfig(listen=listen))


def test_gunicorn_takes_every_setting() -> None:
    config = Config(api=ApiConfig(listen="[::1]:7071", drain_sec=12.5))
    taken = GunicornConfig()
    for name, value in gunicorn_settings(config, threads=7).items():
        taken.set(name, value)
    assert taken.address == [("::1", 7071)]
    assert taken.threads == 7
    assert taken.workers == 1
    assert taken.keepalive == 75
    assert taken.control_socket_disable is True
    assert taken.accesslog is None
    assert taken.preload_app is False
    assert taken.worker_class.__name__ == "Worker"
    # Streams have 13 seconds in the worker, and the master waits for the flush behind them.
    assert taken.graceful_timeout > 13 + FLUSH_SECONDS_MAX
    assert running_config() is config


def test_a_unix_socket_is_bound_as_one() -> None:
    assert (
        gunicorn_settings(Config(api=ApiConfig(listen="unix:/run/seekfs.sock")))["bind"]
        == "unix:/run/seekfs.sock"
    )


def test_what_is_checked_leaves_nothing_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = config_for(tmp_path / "l2", f"127.0.0.1:{port}")
    check_before_start(config)
    # Neither the directory's lock nor the port is held: the second time would say so.
    check_before_start(config)


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "ADDRESS_WAIT_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(CannotStart, match=f"cannot listen on {listen}: Address already in use"):
            check_before_start(config_for(tmp_path / "l2", listen))


@pytest.mark.parametrize("listen", ["203.0.113.7:7070", "unix:{tmp}/none/s"])
def test_an_address_that_is_not_ours(tmp_path: Path, listen: str) -> None:
    with pytest.raises(CannotStart, match=r"api\.listen"):
        check_before_start(config_for(tmp_path / "l2", listen.format(tmp=tmp_path)))


def test_a_stale_unix_socket_is_taken_over_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "s"
    config = config_for(tmp_path / "l2", f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    check_before_start(config)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("years of work")
    for name, kind in (
        ("link", "symbolic link"),
        ("fifo", "named pipe"),
        ("file", "file"),
        ("l2", "directory"),
    ):
        with pytest.raises(CannotStart, match=f"{name}: there is a {kind}"):
            check_before_start(config_for(tmp_path / "l2", f"unix:{tmp_path / name}"))
        assert os.path.lexists(tmp_path / name)


def test_a_unix_socket_whose_queue_is_full_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "ADDRESS_WAIT_SECONDS", 0.0)
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(path)
        busy.listen(0)
        waiting.connect(path)
        with pytest.raises(CannotStart, match="in use"):
            check_before_start(config_for(tmp_path / "l2", f"unix:{path}"))


def test_the_addresses_are_those_that_gunicorn_was_told() -> None:
    taken = GunicornConfig()
    taken.set("bind", ["127.0.0.1:7071", "[::1]:7072", "unix:/run/s", "fd://3"])
    assert [str(each) for each in addresses_of(taken)] == ["127.0.0.1:7071", "[::1]:7072", "unix:/run/s"]


def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CannotStart, match=r"cache\.l2\.segment_path.*thesis\.tex"):
        check_before_start(config_for(tmp_path, "127.0.0.1:0"))


@pytest.mark.parametrize(
    ("files", "clients"), [(5120, 4096), (10**6, 4096), (4096, 3072), (2048, 1024), (1024, 512), (256, 128)]
)
def test_clients_leave_room_for_files_of_our_own(files: int, clients: int) -> None:
    assert daemon.connections_for(files) == clients


def test_every_problem_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain(ConfigError((Problem("a.b", "is wrong"), Problem("c", "too"))))
    complain("and this")
    assert capsys.readouterr().err == "seekfs: a.b: is wrong\nseekfs: c: too\nseekfs: and this\n"
