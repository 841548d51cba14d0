"""A store whose calls are charged against the budget, and made again as the retry policy says.

What tools use that do one thing after the other: publishing, verifying, reading a manifest. (The
daemon's GETs go through ``seekfs_core.fetch``, which decides the same things for many readers at
once.) What is charged, and when it may start, is ``seekfs_core.budget``'s to say.

Every method raises ``SeekfsError``, but for the two that make a request once, which raise ``StoreError``;
an absence and a refused create are answers, not errors.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, Self, TypeVar

from attrs import frozen

from seekfs_core.budget import BudgetState, GetBudget, RequestKind, is_charged
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
from seekfs_io.objects.base import ListPage, ObjectStat, ObjectStore, StoreError
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
        self._store = store
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

    def once(self, kind: RequestKind, request: Callable[[ObjectStore], T]) -> T:
        """Make one request when the budget allows it, and not again; raises what it raises. Every request
        of this store goes through here."""
        if is_charged(kind):
            with self._lock:
                self._spent, start_at = self._budget.take(self._spent, self.clock())
            self.pause(start_at - self.clock())
        return request(self._store)

    # --- reading ----------------------------------------------------------------------------

    def stat(self, key: str) -> ObjectStat | None:
        """Size and ETag; None where there is no such object."""
        try:
            return self._patiently(RequestKind.HEAD, lambda store: store.head(key))
        except StoreError as error:
            if is_absence(error.failure):
                return None
            _explain(error.failure, key)

    def fetch(self, key: str, *, bytes_max: int) -> Fetched | None:
        """A whole small object; None where there is none.

        One that is longer is cut after ``bytes_max + 1`` bytes: its reader refuses it then.
        """
        try:
            return self._patiently(
                RequestKind.GET, lambda store: fetch_whole(store, key, bytes_max=bytes_max)
            )
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

        def read(store: ObjectStore) -> ObjectStat:
            with store.get(key, start=start, stop=start + len(view), if_match=if_match) as body:
                fill(body, view)
                return ObjectStat(key=key, size=body.size, etag=body.etag)

        try:
            return self._patiently(RequestKind.GET, read)
        except StoreError as error:
            if is_another_object(error.failure):
                return None
            _explain(error.failure, key)

    def listing(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key starts with ``prefix``, once, in the store's order."""
        progress = ListingProgress(prefix, self.policy, self.rng)
        while not progress.is_over:
            try:
                page = self._list_page(prefix, progress.token)
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

    def _list_page(self, prefix: str, token: str | None) -> ListPage:
        return self.once(RequestKind.LIST, lambda store: store.list_page(prefix, token))

    # --- writing ----------------------------------------------------------------------------

    def create(
        self, key: str, body: bytes | memoryview, *, conditions: Conditions = Conditions.KEPT
    ) -> Creation:
        """Store an object where there is none. What is there already is left as it is.

        ``conditions`` is what is known of the store's; see ``seekfs_core.creation``.
        """

        def put(create_only: bool) -> str | None:
            return self.once(RequestKind.WRITE, lambda store: store.put(key, body, if_none_match=create_only))

        return self._create(Write.PUT, key, put, size=len(body), conditions=conditions)

    def create_upload(self, key: str) -> str:
        """Begin a multipart upload; its id."""
        return self._write(key, lambda store: store.create_upload(key))

    def upload_part(self, key: str, upload: str, number: int, body: bytes | memoryview) -> str:
        """Send part ``number`` (from 1); its ETag."""
        return self._write(key, lambda store: store.upload_part(key, upload, number, body))

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
            return self.once(
                RequestKind.WRITE,
                lambda store: store.complete_upload(key, upload, etags, if_none_match=create_only),
            )

        return self._create(Write.JOIN, key, join, size=size, conditions=conditions)

    def abort_upload(self, key: str, upload: str) -> None:
        """Forget an upload. One request, even when stopped; raises ``StoreError``, since whether it is made
        again is for ``seekfs_core.parted_upload`` to say."""
        self.once(RequestKind.WRITE, lambda store: store.abort_upload(key, upload))

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

    def _write(self, key: str, request: Callable[[ObjectStore], T]) -> T:
        try:
            return self._patiently(RequestKind.WRITE, request)
        except StoreError as error:
            _explain(error.failure, key)

    def _patiently(self, kind: RequestKind, request: Callable[[ObjectStore], T]) -> T:
        attempts = 0
        while True:
            self._go_on()
            attempts += 1
            try:
                return self.once(kind, request)
            except StoreError as error:
                delay = self.policy.delay(error.failure, attempts, self.rng)
                if delay is None:
                    raise
                self.pause(delay)


def _explain(failure: StoreFailure, key: str) -> NoReturn:
    raise error_of(failure, key=key) from None
