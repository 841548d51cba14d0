"""Threads that send, and a bound on what they hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from seekfs_core.transfer_layout import UploadLayout
from seekfs_io.objects.patient import PatientStore

T = TypeVar("T")
U = TypeVar("U")


class Lanes:
    """Runs jobs on a few threads, with at most so many buffers in memory as the layout says.

    The first job that fails ends the block (``with``) with its error, after the others have ended.
    """

    def __init__(self, patient: PatientStore, layout: UploadLayout) -> None:
        self._patient = patient
        self._pool = ThreadPoolExecutor(layout.lanes, thread_name_prefix="seekfs-upload")
        self._buffers = threading.Semaphore(layout.buffers)
        self._jobs: set[Future[Any]] = set()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run a job that reads into a buffer and sends it. Waits until there may be one more buffer;
        raises what an earlier job has raised."""
        return self.pass_on(lambda: None, lambda _: job())

    def pass_on(self, read: Callable[[], U], send: Callable[[U], T]) -> Future[T]:
        """Read into a buffer here, and send it on a lane. Waits and raises as ``submit``, before reading."""
        self._buffers.acquire()
        try:
            ended = {each for each in self._jobs if each.done()}
            self._jobs -= ended
            _raise_first(ended)
            # In a list of its own, which the job empties: the pool holds what it was given until after
            # the future is done.
            future = self._pool.submit(_run, send, [read()])
        except BaseException:
            self._buffers.release()
            raise
        future.add_done_callback(lambda _: self._buffers.release())  # Also of one that is cancelled.
        self._jobs.add(future)
        return future

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                done, _unfinished = wait(self._jobs, return_when=FIRST_EXCEPTION)
                _raise_first(done)
        except BaseException:
            self._patient.stop()
            raise
        finally:
            if kind is not None:
                self._patient.stop()
            self._pool.shutdown(wait=True, cancel_futures=True)


def _run(send: Callable[[U], T], held: list[U]) -> T:
    return send(held.pop())


def _raise_first(ended: Iterable[Future[Any]]) -> None:
    for each in ended:
        if not each.cancelled():
            each.result()
