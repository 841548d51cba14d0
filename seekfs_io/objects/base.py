"""What seekfs needs of an object store, and nothing more.

Every call is *one* request: no retries, no redirects, no decoding. Whether and when a failed
call is made again is decided in ``seekfs_core.retry``. A failure is raised as ``StoreError``
and carries the ``StoreFailure`` that the core understands.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from attrs import frozen

from seekfs_core.errors import StoreFailure


class StoreError(Exception):
    """A request that failed. ``failure`` says how; it never holds a secret or a signature."""

    def __init__(self, failure: StoreFailure) -> None:
        super().__init__(failure.detail)
        self.failure = failure

    def __reduce__(self) -> tuple[type[StoreError], tuple[StoreFailure]]:
        return type(self), (self.failure,)


@frozen(kw_only=True)
class ObjectStat:
    """What a store says of an object. ``size`` in bytes; ``etag`` with its quotes, as sent.

    ``last_modified`` is an ISO 8601 time in UTC (``2026-01-31T12:00:00Z``), or None where the
    store said nothing.
    """

    key: str
    size: int
    etag: str | None
    last_modified: str | None = None


@frozen(kw_only=True)
class ListPage:
    """One page of a listing. ``next_token`` is None on the last."""

    objects: tuple[ObjectStat, ...]
    next_token: str | None


class ObjectReader(Protocol):
    """The open body of one GET: bytes [``start``, ``stop``) of an object of ``size`` bytes.

    ``start`` and ``stop`` are what the store answered, already checked against what was asked.
    Closing before the end closes the connection, so that nobody reads a stale remainder.
    """

    key: str
    etag: str | None
    size: int
    start: int
    stop: int

    def readinto(self, view: memoryview) -> int:
        """Fill the front of ``view`` with the next bytes; their number, 0 at the end.

        A body that ends before ``stop`` raises ``StoreError`` (``CUT_SHORT``), one that says
        nothing for the read timeout ``TIMED_OUT``.
        """
        ...

    def abort(self) -> None:
        """From another thread: let a ``readinto`` that waits for the store end now, and fail."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ReadableStore(Protocol):
    """One bucket, as far as the daemon needs it: it never writes. Calls may come from many threads."""

    def head(self, key: str) -> ObjectStat:
        """Size and ETag of an object, without its bytes."""
        ...

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str | None = None,
    ) -> ObjectReader:
        """Open bytes [start, stop) of an object, or all of it from 0 when ``stop`` is None.

        With ``stop`` the request carries a Range and only a 206 with exactly that range is
        taken: a 200, another range or a Content-Length that does not fit is ``BAD_ANSWER``.
        """
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...


class ObjectStore(ReadableStore, Protocol):
    """One bucket, to read and to write. Calls may come from many threads at once."""

    name: str
    """The engine: ``sdk`` or ``file``."""

    def put(
        self,
        key: str,
        body: bytes | memoryview,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> str | None:
        """Store an object in one request; the new ETag.

        ``if_none_match`` creates only (``If-None-Match: *``), ``if_match`` replaces only that
        ETag. A refusal is ``PRECONDITION``.
        """
        ...

    def list_page(self, prefix: str, token: str | None = None) -> ListPage:
        """Objects whose keys start with ``prefix``: the first page of them, or the one at ``token``. As
        the store says, and not checked: see ``seekfs_core.listing``."""
        ...

    def create_upload(self, key: str) -> str:
        """Begin a multipart upload; its id."""
        ...

    def upload_part(self, key: str, upload: str, number: int, body: bytes | memoryview) -> str:
        """Send part ``number`` (from 1); its ETag."""
        ...

    def complete_upload(
        self, key: str, upload: str, etags: Sequence[str], *, if_none_match: bool = False
    ) -> str | None:
        """Join the parts, in order; the object's ETag. A 200 that holds an error is a failure.

        ``if_none_match`` creates only; a refusal is ``PRECONDITION``, and the upload is still there.
        """
        ...

    def abort_upload(self, key: str, upload: str) -> None:
        """Forget an upload that was begun, and the parts that have arrived. One that is forgotten already
        is no failure."""
        ...

    def create_bucket(self) -> bool:
        """Make the bucket; False when it was there. For ``just mc-mb`` and the demo."""
        ...
