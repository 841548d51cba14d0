"""The helper that runs the real daemon: starts, stops, kills, and reads the log."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from tests.conftest import DaemonFactory
from tests.support.daemon import Daemon, DaemonFailed, toml_of
from tests.support.processes import is_alive


def health(daemon: Daemon) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    connection.request("GET", "/healthz")
    body = connection.getresponse().read()
    connection.close()
    return body


@pytest.mark.parametrize("by_hand", [False, True])
def test_it_runs_stops_and_runs_again(new_daemon: DaemonFactory, by_hand: bool) -> None:
    daemon = new_daemon({"manifest.pins": {"dev": 1}}, by_hand=by_hand).start()
    assert health(daemon).strip() == b"ok"
    first, pids = daemon.pid, daemon.pids
    assert len(pids) >= 2
    daemon.kill()
    assert not any(is_alive(pid) for pid in pids)
    daemon.start()
    assert daemon.pid != first
    assert health(daemon).strip() == b"ok"
    assert daemon.restart() == 0
    assert daemon.stop() == 0
    assert daemon.l2.is_dir()
    daemon.check_log()


def test_one_that_ends_by_itself_is_reported_with_its_log(new_daemon: DaemonFactory) -> None:
    daemon = new_daemon({"cache.l1_memory_gib": 0})
    with pytest.raises(DaemonFailed, match=r"(?s)it ended with 2:.*cache\.l1_memory_gib"):
        daemon.start()
    daemon.close()


def test_a_log_with_a_traceback_is_found(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.log_path.write_text("fine\nTraceback (most recent call last):\n")
    with pytest.raises(AssertionError, match="in the log"):
        daemon.check_log()


def test_settings_as_toml() -> None:
    settings = {"a.b": 'x\\"☃', "a.c": 0.5, "a.d": True, "m.pins": {"n": 1, "o-p.q": 2}, "m.none": {}}
    assert toml_of(settings).splitlines() == [
        'a.b = "x\\\\\\"\\u2603"',
        "a.c = 0.5",
        "a.d = true",
        'm.pins = { "n" = 1, "o-p.q" = 2 }',
        "m.none = {  }",
    ]
