"""A pool of daemon threads, made when work finds none idle.

``concurrent.futures`` joins its threads when the interpreter ends, so a process would wait for a
GET that hangs until its timeout. Work in here is safe to abandon: a page that was not written is
fetched again.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable

log = logging.getLogger("seekfs.fetch")


class DaemonPool:
    """At most ``threads_max`` threads; work beyond that waits in order. Thread-safe."""

    def __init__(self, name: str, threads_max: int) -> None:
        self._name = name
        self._threads_max = threads_max
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._free = 0  # Threads that wait for work, less the work that is on its way to them.

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job soon. A job that raises is logged and costs nobody else anything."""
        self._work.put(job)
        with self._lock:
            self._free -= 1
            if self._free < 0 and len(self._threads) < self._threads_max:
                self._add_thread()

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The system gives no more: those that are there do the work, and the next job asks again.
            log.warning("%s: %s", thread.name, error)
            return
        self._threads.append(thread)
        self._free += 1

    def close(self, timeout_seconds: float) -> None:
        """Tell idle threads to end and wait for them up to a bound in all."""
        for _ in self._threads:
            self._work.put(None)
        share = timeout_seconds / max(1, len(self._threads))
        for thread in self._threads:
            thread.join(share)

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            try:
                job()
            except Exception:
                log.exception("a job of %s failed", self._name)
            with self._lock:
                self._free += 1


def run_all(jobs: Iterable[Callable[[], None]]) -> None:
    """Run what was decided under a lock and is done without it.

    As in a pool, a job that raises is logged and costs nobody else anything: neither the jobs behind it nor
    the thread that runs them, which may be everybody's timer.
    """
    for job in jobs:
        try:
            job()
        except Exception:
            log.exception("a job failed")
