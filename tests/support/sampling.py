"""A thread that measures something again and again while a test does its work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

INTERVAL_SECONDS = 0.01
WAIT_SECONDS_MAX = 30.0


class Sampler:
    """Calls ``measure`` every few milliseconds within the ``with`` block, and once at each end.

    ``samples`` are all its results. An exception of ``measure`` is raised at the end: a sampler that
    fell silent would prove nothing.
    """

    def __init__(self, measure: Callable[[], int], interval_seconds: float = INTERVAL_SECONDS) -> None:
        self.samples: list[int] = []
        self._measure = measure
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._sampled = threading.Condition()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    @property
    def peak(self) -> int:
        return max(self.samples)

    def _run(self) -> None:
        try:
            while True:
                stopping = self._stop.wait(self._interval_seconds)
                value = self._measure()
                with self._sampled:
                    self.samples.append(value)
                    self._sampled.notify_all()
                if stopping:
                    return
        except BaseException as error:
            self._error = error

    def wait_for_next(self) -> None:
        """Until a sample has been taken that began after this call."""
        with self._sampled:
            # The next one may have begun already.
            enough = len(self.samples) + 2
            assert self._sampled.wait_for(lambda: len(self.samples) >= enough, WAIT_SECONDS_MAX)

    def __enter__(self) -> Self:
        self.samples.append(self._measure())
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error
