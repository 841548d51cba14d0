"""The recorder by itself: what it writes can be replayed, and it neither holds up nor fails anybody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seekfs_core.errors import ContractViolation
from seekfs_core.pages import PageKey
from seekfs_core.retention import HitsSeen, PageOffered, PagePinned, RamRetention
from seekfs_core.testing import replay
from seekfs_core.trace import TraceReader
from seekfs_io import tracing
from seekfs_io.config import ConfigError, TraceConfig
from seekfs_io.tracing import NO_TRACE, Tracer, open_tracer
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.waiting import wait_until

MIB = 1 << 20


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


def opened(path: Path, **settings: float) -> Tracer:
    tracer = open_tracer(TraceConfig(path=str(path), **settings), time.monotonic)  # type: ignore[arg-type]
    assert isinstance(tracer, Tracer)
    return tracer


def test_off_it_is_the_machines_own_feed() -> None:
    machine = RamRetention(100)
    assert open_tracer(TraceConfig(), time.monotonic) is NO_TRACE
    assert NO_TRACE.watch("ram", machine) == machine.feed
    NO_TRACE.close()


def test_what_is_recorded_is_replayed_and_what_was_refused_is_refused_again(tmp_path: Path) -> None:
    tracer = opened(tmp_path / "t")
    machine = RamRetention(100)
    machine.feed(PageOffered(key(1), 40), 1.0)  # Before it was watched.
    feed = tracer.watch("ram", machine)
    for n in range(2, 20):
        feed(PageOffered(key(n), 30), float(n))
    with pytest.raises(ContractViolation):
        feed(PagePinned(key(99)), 30.0)
    feed(HitsSeen((key(19),)), 31.0)
    tracer.close()
    replayed = replay(tmp_path / "t")
    assert (replayed.events, replayed.machines, replayed.is_ended) == (20, 1, True)
    assert (replayed.events_lost, replayed.torn_bytes) == (0, 0)
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o600


def test_machines_of_many_threads_are_each_in_their_own_order(tmp_path: Path) -> None:
    tracer = opened(tmp_path / "t")

    def work(number: int) -> None:
        feed = tracer.watch(f"ram {number}", RamRetention(1000))
        for n in range(500):
            feed(PageOffered(key(n), 30), float(n))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracer.close()
    replayed = replay(tmp_path / "t")
    assert (replayed.events + replayed.events_lost, replayed.machines) == (4000, 8)


def test_every_file_of_several_is_replayed_by_itself_and_the_oldest_go(tmp_path: Path) -> None:
    tracer = opened(tmp_path / "t", max_mib=0.0625, files=3)
    feed = tracer.watch("ram", RamRetention(100))
    for n in range(20_000):
        feed(PageOffered(key(n), 30), float(n))
        if n % 200 == 0:
            wait_until(lambda: not tracer.waiting, "what waits is written")
    tracer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t", "t.1", "t.2"]
    for path in tmp_path.iterdir():
        assert replay(path).events > 0
        assert path.stat().st_size < 3 * 0.0625 * MIB


def test_where_too_many_wait_some_are_lost_and_said_to_be_and_what_follows_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "EVENTS_WAITING_MAX", 50)
    monkeypatch.setattr(tracing, "_WAKES_AT", 1)
    tracer = opened(tmp_path / "t")
    feed = tracer.watch("ram", RamRetention(100))
    for n in range(30_000):
        feed(PageOffered(key(n), 30), float(n))
    wait_until(lambda: not tracer.waiting, "what waits is written")
    feed(PageOffered(key(99_999), 30), 1e6)
    tracer.close()
    replayed = replay(tmp_path / "t")
    assert replayed.events_lost > 0
    assert replayed.events + replayed.events_lost == 30_001


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", 2 * MIB) as disk:
            yield disk
    except PermissionError as error:
        pytest.skip(str(error))


def test_a_full_disk_ends_the_recording_and_nothing_else(
    disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = opened(disk.path / "t")
    machine = RamRetention(100)
    feed = tracer.watch("ram", machine)
    feed(PageOffered(key(0), 30), 0.0)
    wait_until(lambda: not tracer.waiting, "what waits is written")
    disk.fill()
    with caplog.at_level(logging.INFO, "seekfs.trace"):
        n = 1
        while tracer.file is not None:
            feed(PageOffered(key(n), 30), float(n))
            n += 1
        tracer.close()
    feed(PageOffered(key(n), 30), float(n))
    assert key(n) in machine
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "tracing is off" in record.message
    assert "No space left on device" in record.message
    disk.drain()
    assert not replay(disk.path / "t").is_ended


def test_what_cannot_be_recorded_into_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("my thesis")
    (tmp_path / "a" / "b").mkdir(parents=True)
    tracer = opened(tmp_path / "mine")
    for path, said in (
        (tmp_path / "other", "is there, and is no trace of seekfs"),
        (tmp_path / "none" / "t", "is not there"),
        (tmp_path / "a", "cannot be read: Is a directory"),
        (tmp_path / "mine", "is written to by another process"),
    ):
        with pytest.raises(ConfigError, match=said) as refused:
            opened(path)
        assert [problem.where for problem in refused.value.problems] == ["trace.path"]
    tracer.close()
    assert (tmp_path / "other").read_text() == "my thesis"
    opened(tmp_path / "mine").close()
    assert (tmp_path / "mine.1").exists()


def test_a_killed_writer_leaves_what_was_written(tmp_path: Path) -> None:
    tracer = opened(tmp_path / "t")
    feed = tracer.watch("ram", RamRetention(100))
    feed(PageOffered(key(0), 30), 0.0)
    wait_until(lambda: not tracer.waiting and tracer.events_recorded, "it is written")
    wait_until(lambda: (tmp_path / "t").stat().st_size > 100, "it is in the file")
    stored = (tmp_path / "t").read_bytes()
    for cut in range(100, len(stored)):
        reader = TraceReader(stored[:cut])
        assert len(list(reader)) <= 2
        assert not reader.is_ended
    tracer.close()
