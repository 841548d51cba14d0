"""One line an event, whatever is logged."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from seekfs_io.config import LogConfig
from seekfs_io.logs import configure
from tests.support.daemon import REPOSITORY

LINE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z [A-Z]+ [a-z_.0-9]+: .+")

log = logging.getLogger("seekfs.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = list(root.handlers), root.level, threading.excepthook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("seekfs", "gunicorn", "urllib3"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    threading.excepthook = hook


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogConfig())
    log.info("published %s", "dev", extra={"request_id": "4f1c", "key": "a b", "version": 7, "empty": ""})
    (line,) = lines(capsys)
    assert LINE.fullmatch(line)
    assert line.endswith('Z INFO seekfs.test: published dev request_id=4f1c key="a b" version=7 empty=""')


def test_what_the_store_sent_is_not_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """As urllib3 does for headers that cannot be read: all of them, and a traceback."""
    configure(LogConfig(level="debug"))
    logging.getLogger("urllib3.connection").warning("Failed to parse headers: 'X-Owner: somebody'")
    logging.getLogger("werkzeug").warning("kept")
    (line,) = lines(capsys)
    assert line.endswith("werkzeug: kept")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogConfig(format="json"))
    log.warning(
        "slow ☃", extra={"request_id": "4f1c", "seconds": 1.5, "path": object, "time": "not the time"}
    )
    (line,) = lines(capsys)
    event = json.loads(line)
    assert event["time"].endswith("Z")
    assert (event["level"], event["logger"], event["message"]) == ("warning", "seekfs.test", "slow ☃")
    assert (event["request_id"], event["seconds"]) == ("4f1c", 1.5)


@pytest.mark.parametrize("form", ["text", "json"])
def test_facts_are_fields_whatever_their_names(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Names that logging itself has, and those of other fields, are not to be had by facts."""
    configure(LogConfig(format=form))
    facts = {"name": "a", "args": 1, "request_id": "forged", "time": "never", "page_id": 3}
    log.warning("it failed", extra={"request_id": "4f1c", "facts": facts})
    (line,) = lines(capsys)
    if form == "text":
        assert line.endswith(
            "Z WARNING seekfs.test: it failed request_id=4f1c name=a args=1 time=never page_id=3"
        )
        return
    event = json.loads(line)
    assert (event["logger"], event["request_id"], event["page_id"]) == ("seekfs.test", "4f1c", 3)
    assert event["time"] != "never"


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str], form: str) -> None:
    configure(LogConfig(format=form))

    def inner() -> None:
        raise KeyError("no\nsuch\nkey")

    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError:
        log.exception("it failed")
    (line,) = lines(capsys)
    assert "ValueError: outer" in line
    assert re.search(r"from KeyError: .*inner \(test_logs.py:[0-9]+\)", line)
    assert "Traceback (most recent call last)" not in line


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\n2026-01-01T00:00:00.000Z INFO x: forged", "\x1b[31m", "\ud800", "\u2028"]
)
def test_no_event_looks_like_two(capfd: pytest.CaptureFixture[str], form: str, text: str) -> None:
    configure(LogConfig(format=form))
    log.error("path %s", text, extra={"path": text})
    shown = capfd.readouterr().err
    assert shown.endswith("\n")
    assert len(shown.splitlines()) == 1
    assert shown[:-1].isprintable()


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogConfig(level="error"))
    log.warning("no")
    log.error("yes")
    logging.getLogger("other").error("yes")
    configure(LogConfig(level="debug"))
    log.debug("yes")
    logging.getLogger("botocore.auth").debug("Signature:\nabc")
    logging.getLogger("urllib3.connectionpool").info("no")
    logging.getLogger("other").warning("yes")
    logging.getLogger("gunicorn.error").info("yes")
    assert [line.rpartition(" ")[2] for line in lines(capsys)] == ["yes"] * 5


def test_configuring_twice_says_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogConfig())
    configure(LogConfig())
    log.info("once")
    assert len(lines(capsys)) == 1


def test_warnings_and_dying_threads_are_events(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogConfig())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    thread = threading.Thread(target=lambda: 1 // 0, name="worker-1")
    thread.start()
    thread.join()
    warned, ended = lines(capsys)
    assert "py.warnings" in warned
    assert "CRITICAL seekfs: a thread has ended thread_name=worker-1" in ended
    assert "ZeroDivisionError" in ended


def test_lines_of_many_processes_do_not_mix() -> None:
    code = """
import logging
from seekfs_io.config import LogConfig
from seekfs_io.logs import configure
configure(LogConfig())
for number in range(200):
    logging.getLogger("seekfs.test").info("x" * 500, extra={"number": number})
"""
    read, write = os.pipe()
    writers = [subprocess.Popen([sys.executable, "-c", code], stderr=write, cwd=REPOSITORY) for _ in range(3)]
    os.close(write)
    with os.fdopen(read) as stream:
        found = stream.read().splitlines()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(found) == 600
    assert all(LINE.fullmatch(line) and "x" * 500 + " number=" in line for line in found)
