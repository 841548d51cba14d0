"""The lanes: how much is held at once, and what becomes of a job that fails or is called off."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from seekfs_core.budget import GetBudget
from seekfs_core.errors import ShuttingDown
from seekfs_core.retry import RetryPolicy
from seekfs_core.transfer_layout import UploadLayout
from seekfs_io.objects import open_store
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.lanes import Lanes
from tests.io.test_publisher import configure

WAIT_SECONDS = 30


@pytest.fixture
def patient() -> PatientStore:
    """Of a store that nobody speaks to."""
    return PatientStore(
        open_store(configure({"s3.endpoint": "http://127.0.0.1:1"}).s3),
        policy=RetryPolicy(attempts_max=1, backoff_seconds_initial=0),
        budget=GetBudget(1, 1),
        rng=random.Random(1),
    )


def layout(buffers: int, lanes: int) -> UploadLayout:
    return UploadLayout(part_bytes=1, buffers=buffers, lanes=lanes)


@pytest.mark.parametrize(("buffers", "lanes"), [(1, 1), (3, 2), (9, 8)])
def test_nothing_is_read_that_there_is_no_buffer_for(patient: PatientStore, buffers: int, lanes: int) -> None:
    """Every buffer is held when one more is asked for; it is read when the first of them is done."""
    gate, asked = threading.Event(), threading.Event()
    lock = threading.Lock()
    held = peak = 0

    def read() -> int:
        nonlocal held, peak
        with lock:
            held += 1
            peak = max(peak, held)
        return 1

    def send(count: int) -> int:
        nonlocal held
        assert gate.wait(WAIT_SECONDS)
        with lock:
            held -= count
        return count

    def pass_on_all(with_lanes: Lanes) -> list[Future[int]]:
        sent = [with_lanes.pass_on(read, send) for _ in range(buffers)]
        assert held == buffers
        asked.set()
        return [*sent, *(with_lanes.pass_on(read, send) for _ in range(20))]

    with Lanes(patient, layout(buffers, lanes)) as running, ThreadPoolExecutor(1) as other:
        sent = other.submit(pass_on_all, running)
        assert asked.wait(WAIT_SECONDS)
        gate.set()
        assert [each.result(WAIT_SECONDS) for each in sent.result(WAIT_SECONDS)] == [1] * (buffers + 20)
    assert peak == buffers


def test_a_job_that_failed_is_told_of_to_who_comes_next_and_at_the_end(patient: PatientStore) -> None:
    def fail() -> None:
        raise OSError("no")

    running = Lanes(patient, layout(2, 1))
    failed = running.submit(fail)
    assert isinstance(failed.exception(WAIT_SECONDS), OSError)
    with pytest.raises(OSError, match="no"):
        running.submit(lambda: None)
    # And its buffers are free.
    assert [running.submit(lambda: 1).result(WAIT_SECONDS) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(OSError, match="no"), running:
        running.submit(fail)
    with pytest.raises(ShuttingDown):
        patient.pause(0)


def test_what_could_not_be_read_holds_no_buffer(patient: PatientStore) -> None:
    def fail() -> None:
        raise OSError("unreadable")

    with Lanes(patient, layout(1, 1)) as running:
        for _ in range(3):
            with pytest.raises(OSError, match="unreadable"):
                running.pass_on(fail, lambda _: None)
        assert running.submit(lambda: 1).result(WAIT_SECONDS) == 1


def test_a_job_that_is_called_off_before_it_began_gives_its_buffer_back(patient: PatientStore) -> None:
    gate, began = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert gate.wait(WAIT_SECONDS)

    with Lanes(patient, layout(2, 1)) as running:
        running.submit(hold)
        assert began.wait(WAIT_SECONDS)
        second = running.submit(lambda: None)
        assert second.cancel()
        third = running.submit(lambda: 3)
        gate.set()
        assert third.result(WAIT_SECONDS) == 3
