"""An object store that does as it is told: a real one (the ``file`` engine), with failures put in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from attrs import define, field

from seekfs_core.errors import StoreFailure
from seekfs_io.objects.base import ObjectReader, ObjectStat, ObjectStore, StoreError


@define(eq=False)
class Body:
    """The body of a GET, cut after ``cut_at`` bytes of it."""

    inner: ObjectReader
    cut_at: int | None
    failure: StoreFailure | None
    key: str = field(init=False)
    etag: str | None = field(init=False)
    size: int = field(init=False)
    start: int = field(init=False)
    stop: int = field(init=False)
    _given: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.key, self.etag, self.size = self.inner.key, self.inner.etag, self.inner.size
        self.start, self.stop = self.inner.start, self.inner.stop

    def readinto(self, view: memoryview) -> int:
        if self.cut_at is not None:
            view = view[: self.cut_at - self._given]
            if not view:
                assert self.failure is not None
                raise StoreError(self.failure)
        count = self.inner.readinto(view)
        self._given += count
        return count

    def abort(self) -> None:
        self.inner.abort()

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@define(eq=False)
class TroubledStore:
    """``trouble(key, start, stop)`` is asked before each GET: None, a failure, or a failure in the body
    after so many bytes. ``gate`` holds every GET of an object until it is set."""

    inner: ObjectStore
    trouble: Callable[[str, int, int | None], StoreFailure | tuple[int, StoreFailure] | None] = field(
        default=lambda key, start, stop: None
    )
    gate: threading.Event | None = None
    gets: list[tuple[str, int, int | None]] = field(factory=list)
    in_flight: int = 0
    in_flight_peak: int = 0
    _lock: threading.Lock = field(factory=threading.Lock)

    def gets_of(self, part: str) -> list[tuple[int, int | None]]:
        """The ranges asked for of keys that hold ``part``."""
        return sorted((start, stop) for key, start, stop in self.gets if part in key)

    def get(
        self, key: str, *, start: int = 0, stop: int | None = None, if_match: str | None = None
    ) -> ObjectReader:
        with self._lock:
            self.gets.append((key, start, stop))
            self.in_flight += 1
            self.in_flight_peak = max(self.in_flight_peak, self.in_flight)
        try:
            if self.gate is not None and "/files/" in key:
                assert self.gate.wait(30)
            trouble = self.trouble(key, start, stop)
            if isinstance(trouble, StoreFailure):
                raise StoreError(trouble)
            cut_at, failure = (None, None) if trouble is None else trouble
            return Body(self.inner.get(key, start=start, stop=stop, if_match=if_match), cut_at, failure)
        finally:
            with self._lock:
                self.in_flight -= 1

    def head(self, key: str) -> ObjectStat:
        return self.inner.head(key)

    def close(self) -> None:
        self.inner.close()
