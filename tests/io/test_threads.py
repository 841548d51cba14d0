"""The pool of daemon threads: no job is lost, whatever becomes of jobs before it and of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from seekfs_io.threads import DaemonPool

SECONDS_MAX = 30.0


@pytest.fixture
def pool() -> Iterator[DaemonPool]:
    made = DaemonPool("test-pool", 2)
    yield made
    made.close(SECONDS_MAX)


def test_no_more_threads_than_allowed_do_all_the_work(pool: DaemonPool) -> None:
    done = threading.Semaphore(0)
    names: set[str] = set()

    def job() -> None:
        names.add(threading.current_thread().name)
        done.release()

    for _ in range(100):
        pool.submit(job)
    assert all(done.acquire(timeout=SECONDS_MAX) for _ in range(100))
    assert names <= {"test-pool-0", "test-pool-1"}


def test_a_job_that_raises_costs_nobody_else_anything(
    pool: DaemonPool, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def bad() -> None:
        raise ValueError("bad")

    for _ in range(4):
        pool.submit(bad)
    pool.submit(done.set)
    assert done.wait(SECONDS_MAX)
    assert "a job of test-pool failed" in caplog.text


def test_a_job_for_which_there_was_no_thread_is_done_by_the_next_one(
    pool: DaemonPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost GET would be in flight for ever, and whoever wants its pages would wait for it."""
    first, second = threading.Event(), threading.Event()

    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        pool.submit(first.set)
    pool.submit(second.set)
    assert first.wait(SECONDS_MAX)
    assert second.wait(SECONDS_MAX)
