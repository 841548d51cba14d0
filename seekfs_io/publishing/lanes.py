"""Threads that send, and a bound on what they hold; and how to wait for jobs that threads do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from seekfs_core.errors import most_telling
from seekfs_core.transfer_layout import UploadLayout
from seekfs_io.objects.patient import PatientStore

T = TypeVar("T")
U = TypeVar("U")


class Lanes:
    """Runs jobs on a few threads, with at most so many buffers in memory as the layout says.

    A job that fails ends the block (``with``) with its error, after the others have ended.
    """

    def __init__(self, patient: PatientStore, layout: UploadLayout) -> None:
        self._patient = patient
        self._pool = ThreadPoolExecutor(layout.lanes, thread_name_prefix="seekfs-upload")
        self._buffers = threading.Semaphore(layout.buffers)
        self._jobs: list[Future[Any]] = []

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run a job that reads into a buffer and sends it. Waits until there may be one more buffer;
        raises what an earlier job has raised."""
        return self.pass_on(lambda: None, lambda _: job())

    def pass_on(self, read: Callable[[], U], send: Callable[[U], T]) -> Future[T]:
        """Read into a buffer here, and send it on a lane. Waits and raises as ``submit``, before reading."""
        self._buffers.acquire()
        ended: list[Future[Any]] = []
        try:
            jobs, self._jobs = self._jobs, []
            for each in jobs:
                (ended if each.done() else self._jobs).append(each)
            raise_failure(ended)
            # In a list of its own, which the job empties: the pool holds what it was given until after
            # the future is done.
            future = self._pool.submit(_run, send, [read()])
        except BaseException:
            self._buffers.release()
            raise
        future.add_done_callback(lambda _: self._buffers.release())  # Also of one that is cancelled.
        self._jobs.append(future)
        return future

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await_all(self._jobs)
        except BaseException:
            self._patient.stop()
            raise
        finally:
            if kind is not None:
                self._patient.stop()
            self._pool.shutdown(wait=True, cancel_futures=True)


def _run(send: Callable[[U], T], held: list[U]) -> T:
    return send(held.pop())


def await_all(jobs: Sequence[Future[Any]]) -> None:
    """Wait until all jobs have ended, or one has failed; raises its error."""
    wait(jobs, return_when=FIRST_EXCEPTION)
    raise_failure([each for each in jobs if each.done()])


def raise_failure(ended: Sequence[Future[Any]]) -> None:
    """Raise what jobs that have ended failed with, if one did."""
    errors = [error for each in ended if not each.cancelled() and (error := each.exception()) is not None]
    if errors:
        raise most_telling(errors)
