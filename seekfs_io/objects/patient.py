"""A store whose calls are charged against the budget, and made again as the retry policy says.

What tools use that do one thing after the other: publishing, verifying, reading a manifest. (The
daemon's GETs go through ``seekfs_core.fetch``, which decides the same things for many readers at
once.) GETs, HEADs and listings are charged; writes are not, since the budget is one of GETs.

Every method raises ``SeekfsError``; an absence and a refused create are answers, not errors.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, Self, TypeVar

from attrs import frozen

from seekfs_core.budget import BudgetState, GetBudget
from seekfs_core.creation import (
    Begin,
    Conditions,
    Created,
    CreationEvent,
    DoWrite,
    Found,
    GiveUp,
    Look,
    Looked,
    ObjectCreation,
    Write,
    WriteFailed,
    Written,
)
from seekfs_core.errors import ShuttingDown, StoreFailure, error_of, is_absence, is_another_object
from seekfs_core.listing import ListingProgress
from seekfs_core.machine import Tick
from seekfs_core.retry import RetryPolicy
from seekfs_io.config import S3Config
from seekfs_io.objects.base import ObjectStat, ObjectStore, StoreError
from seekfs_io.objects.whole import Fetched, fetch_whole, fill

T = TypeVar("T")


@frozen
class Creation:
    """What a create-only PUT came to: ``created`` is False where something was there already.
    ``size`` in bytes and ``etag`` are those of what is there now, ``conditions`` is what is known of
    the store's by now."""

    created: bool
    size: int
    etag: str | None
    conditions: Conditions


class PatientStore:
    """Waits and tries again, so that its callers need not. Thread-safe."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        policy: RetryPolicy,
        budget: GetBudget,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.policy = policy
        self.rng = rng
        self.clock = clock
        self._budget = budget
        self._lock = threading.Lock()
        self._spent: BudgetState = budget.empty(clock())
        self._stopped = threading.Event()

    @classmethod
    def of(cls, store: ObjectStore, config: S3Config) -> Self:
        """As the section ``[s3]`` of the configuration says."""
        return cls(
            store,
            policy=config.retry_policy,
            budget=config.request_budget,
            rng=random.Random(),
        )

    def stop(self) -> None:
        """End every wait now: calls that wait, or would, raise ``ShuttingDown``."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait, unless stopped."""
        if self._stopped.wait(max(0.0, seconds)):
            raise ShuttingDown("stopped while waiting for the store")

    def charge(self) -> None:
        """Wait until the budget allows one more GET, HEAD or listing."""
        with self._lock:
            self._spent, start_at = self._budget.take(self._spent, self.clock())
        self.pause(start_at - self.clock())

    # --- reading ----------------------------------------------------------------------------

    def stat(self, key: str) -> ObjectStat | None:
        """Size and ETag; None where there is no such object."""
        try:
            return self._patiently(lambda: self.store.head(key), charged=True)
        except StoreError as error:
            if is_absence(error.failure):
                return None
            _explain(error.failure, key)

    def fetch(self, key: str, *, bytes_max: int) -> Fetched | None:
        """A whole small object; None where there is none.

        One that is longer is cut after ``bytes_max + 1`` bytes: its reader refuses it then.
        """
        try:
            return self._patiently(lambda: fetch_whole(self.store, key, bytes_max=bytes_max), charged=True)
        except StoreError as error:
            if is_absence(error.failure):
                return None
            _explain(error.failure, key)

    def read_range(
        self, key: str, view: memoryview, start: int, *, if_match: str | None
    ) -> ObjectStat | None:
        """Fill ``view`` with the object's bytes from ``start``; its size and ETag.

        None where the object is no longer that of ``if_match``, or is gone.
        """

        def read() -> ObjectStat:
            with self.store.get(key, start=start, stop=start + len(view), if_match=if_match) as body:
                fill(body, view)
                return ObjectStat(key=key, size=body.size, etag=body.etag)

        try:
            return self._patiently(read, charged=True)
        except StoreError as error:
            if is_another_object(error.failure):
                return None
            _explain(error.failure, key)

    def listing(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key starts with ``prefix``, once, in the store's order."""
        progress = ListingProgress(prefix, self.policy, self.rng)
        while not progress.is_over:
            self.charge()
            try:
                page = self.store.list_page(prefix, progress.token)
            except StoreError as error:
                failure = error.failure
            else:
                taken = progress.take([each.key for each in page.objects], page.next_token)
                if isinstance(taken, tuple):
                    yield from (page.objects[index] for index in taken)
                    continue
                failure = taken
            delay = progress.delay(failure)
            if delay is None:
                _explain(failure, prefix)
            self.pause(delay)

    # --- writing ----------------------------------------------------------------------------

    def create(
        self, key: str, body: bytes | memoryview, *, conditions: Conditions = Conditions.KEPT
    ) -> Creation:
        """Store an object where there is none. What is there already is left as it is.

        ``conditions`` is what is known of the store's; see ``seekfs_core.creation``.
        """

        def put(create_only: bool) -> str | None:
            return self.store.put(key, body, if_none_match=create_only)

        return self._create(Write.PUT, key, put, size=len(body), conditions=conditions)

    def create_upload(self, key: str) -> str:
        """Begin a multipart upload; its id."""
        return self._explained(key, lambda: self.store.create_upload(key))

    def upload_part(self, key: str, upload: str, number: int, body: bytes | memoryview) -> str:
        """Send part ``number`` (from 1); its ETag."""
        return self._explained(key, lambda: self.store.upload_part(key, upload, number, body))

    def complete_upload(
        self,
        key: str,
        upload: str,
        etags: Sequence[str],
        *,
        size: int,
        conditions: Conditions = Conditions.KEPT,
    ) -> Creation:
        """Join the parts to an object of ``size`` bytes, where there is none. What is there already
        is left as it is, and the upload is still to be aborted then. ``conditions`` as in ``create``.

        ``created`` is False as well where an answer was lost, and it is not known whose the object is.
        """

        def join(create_only: bool) -> str | None:
            return self.store.complete_upload(key, upload, etags, if_none_match=create_only)

        return self._create(Write.JOIN, key, join, size=size, conditions=conditions)

    def abort_upload(self, key: str, upload: str) -> None:
        """Forget an upload. One request, even when stopped; raises ``StoreError``."""
        self.store.abort_upload(key, upload)

    def _create(
        self,
        write: Write,
        key: str,
        make: Callable[[bool], str | None],
        *,
        size: int,
        conditions: Conditions,
    ) -> Creation:
        """Carry out what ``seekfs_core.creation`` says; ``make`` is one request, create-only or not, and
        returns an ETag."""
        creation = ObjectCreation(write, conditions, self.policy, self.rng)
        event: CreationEvent = Begin()
        etag: str | None = None
        there: ObjectStat | None = None
        while True:
            actions = creation.feed(event, self.clock())
            if not actions:
                due = creation.next_deadline()
                assert due is not None
                self.pause(due - self.clock())
                event = Tick()
            for action in actions:
                match action:
                    case DoWrite(create_only):
                        self._go_on()
                        try:
                            etag = make(create_only)
                        except StoreError as error:
                            event = WriteFailed(error.failure)
                        else:
                            event = Written()
                    case Look():
                        there = self.stat(key)
                        event = Looked(there is not None)
                    case Created(known):
                        return Creation(True, size, etag, known)
                    case Found(known):
                        assert there is not None
                        return Creation(False, there.size, there.etag, known)
                    case GiveUp(failure):
                        _explain(failure, key)

    # --- patience ---------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise ShuttingDown("stopped")

    def _explained(self, key: str, request: Callable[[], T]) -> T:
        try:
            return self._patiently(request)
        except StoreError as error:
            _explain(error.failure, key)

    def _patiently(self, request: Callable[[], T], *, charged: bool = False) -> T:
        attempts = 0
        while True:
            self._go_on()
            if charged:
                self.charge()
            attempts += 1
            try:
                return request()
            except StoreError as error:
                delay = self.policy.delay(error.failure, attempts, self.rng)
                if delay is None:
                    raise
                self.pause(delay)


def _explain(failure: StoreFailure, key: str) -> NoReturn:
    raise error_of(failure, key=key) from None
