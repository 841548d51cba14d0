"""Everything that can go wrong, as one tree of exceptions and one closed set of store failures.

Two vocabularies, because blame is in the type:

* ``StoreFailure`` is *data*: what an object store did instead of what it was asked. Machines
  receive it in events, decide what it means, and hand it on in outcomes. It is never raised
  inside the core.
* ``SeekfsError`` is what a caller gets to see. Each class suggests the HTTP status of the
  problem document that it becomes (RFC 9457), and can be pickled.

::

    SeekfsError
    ├── BadRequest                 400  the request cannot be understood
    │   └── InvalidName            400  a namespace, path, key or version that cannot be one
    ├── NotFound                   404
    │   ├── NoSuchNamespace        404
    │   ├── NoSuchVersion          404
    │   ├── NoSuchFile             404
    │   ├── NoSuchContent          404  the path has other bytes than the hash asked for
    │   └── NoSuchObject           404  a key of the bucket, asked for directly
    ├── TooLarge                   413
    ├── RangeNotSatisfiable        416  carries the size of the file
    ├── BudgetSpent                429  the namespace's budget; carries when to try again
    ├── StoreAnswered              502  the store answered, and wrongly, after all retries
    │   ├── StoreRefused           502  401, 403, a redirect, no bucket: whichever object is asked for
    │   ├── PageCorrupt            502  a page whose bytes are not those of the manifest, twice
    │   └── ManifestInvalid        502  a manifest or HEAD that fails its checks
    ├── StoreUnavailable           503  carries when to try again
    ├── CeilingExceeded            503  something larger than a configured ceiling allows
    ├── ShuttingDown               503
    ├── StoreTimeout               504
    ├── DeadlineExceeded           504  the read waited longer than it may
    ├── TraceError                 500  a trace that cannot be read, or a thing that cannot be in one
    └── PublishError               409  a version could not be published
        ├── PublishConflict        409  somebody else changed the same paths first
        └── ConditionsNotHonoured  409  the store ignores conditional writes
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, assert_never

from attrs import field, frozen


class FailureKind(enum.Enum):
    """What an object store did instead of what it was asked. Closed: policy matches on it."""

    UNREACHABLE = "unreachable"
    """No connection (or none in time), no name, a broken TLS handshake, a reset before the answer's head;
    or whoever has the credentials cannot be reached."""

    TIMED_OUT = "timed_out"
    """No byte within the read timeout, of a store that was connected to."""

    BUSY = "busy"
    """500, 502, 503, 504 or 429: the store asks to be left alone for a moment."""

    DENIED = "denied"
    """401 or 403; or there are no credentials to ask with."""

    STALE_SIGNATURE = "stale_signature"
    """Refused for how it was signed, which was put right since (``seekfs_core.signatures``): the same
    request would be signed otherwise now."""

    MISSING = "missing"
    """404."""

    REDIRECTED = "redirected"
    """301, 302, 307 or 308: another region or endpoint than the configured one."""

    PRECONDITION = "precondition"
    """412, or 409 for two conditional writes that met."""

    BAD_ANSWER = "bad_answer"
    """Another range, size or status than asked for."""

    CUT_SHORT = "cut_short"
    """The body ended, or the connection broke, before its announced length."""

    BAD_CHECKSUM = "bad_checksum"
    """A page whose CRC-32C is not the manifest's."""

    CLOSING = "closing"
    """None of the store's: this process is stopping, and the request was broken off."""

    INTERNAL = "internal"
    """None of the store's: a bug of whoever made the request, which would do the same again."""

    OVERTAKEN = "overtaken"
    """None of the store's: it was broken off, because another request for the same was answered first."""

    BREAKER_OPEN = "breaker_open"
    """The store was not asked, having failed too often in a row (``seekfs_core.breaker``)."""

    OVER_BUDGET = "over_budget"
    """The store was not asked: the namespace has spent its budget for longer than the read may wait."""


@frozen(kw_only=True)
class StoreFailure:
    """One failed request, as data.

    ``detail`` is one sentence for people, with no secret in it. ``status`` and ``code`` are
    the store's own (``503``, ``"SlowDown"``) where it answered at all.
    ``retry_after_seconds`` is the store's ``Retry-After``. ``facts`` are further fields for the
    problem document, where the core knows more than the store said.
    """

    kind: FailureKind
    detail: str
    status: int | None = None
    code: str | None = None
    retry_after_seconds: float | None = None
    facts: Mapping[str, Any] = field(factory=dict)


def bug_of(error: Exception) -> StoreFailure:
    """An exception that nobody foresaw, as the failure of the request that met it."""
    return StoreFailure(kind=FailureKind.INTERNAL, detail=f"internal error: {type(error).__name__}")


class SeekfsError(Exception):
    """The root of everything seekfs raises for a reason that a caller can act on.

    ``detail`` is one sentence naming what and where. ``context`` holds the same facts as
    fields (JSON scalars), for problem documents and logs.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, /, **context: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context: dict[str, Any] = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.detail, self.context)


def _rebuild(kind: type[SeekfsError], detail: str, context: dict[str, Any]) -> SeekfsError:
    return kind(detail, **context)


class BadRequest(SeekfsError):
    status, slug, title = 400, "bad-request", "The request cannot be understood"


class InvalidName(BadRequest):
    slug, title = "invalid-name", "A name that cannot be one"


class NotFound(SeekfsError):
    status, slug, title = 404, "not-found", "No such thing"


class NoSuchNamespace(NotFound):
    slug, title = "no-such-namespace", "No such namespace"


class NoSuchVersion(NotFound):
    slug, title = "no-such-version", "No such version"


class NoSuchFile(NotFound):
    slug, title = "no-such-file", "No such file"


class NoSuchContent(NotFound):
    slug, title = "no-such-content", "The file has other bytes than those asked for"


class NoSuchObject(NotFound):
    slug, title = "no-such-object", "No such object in the bucket"


class TooLarge(SeekfsError):
    status, slug, title = 413, "too-large", "More than one request may ask for"


class RangeNotSatisfiable(SeekfsError):
    """``context["size"]`` is the size of the representation in bytes."""

    status, slug, title = 416, "range-not-satisfiable", "The range lies outside the file"


class BudgetSpent(SeekfsError):
    """``context["retry_after"]`` is when to try again, in whole seconds from now; see ``retry_after_of``."""

    status, slug, title = 429, "budget-spent", "The namespace has spent its budget"


class StoreAnswered(SeekfsError):
    status, slug, title = 502, "store-answered-wrongly", "The object store answered wrongly"


class StoreRefused(StoreAnswered):
    """The answer says nothing of the object: who asks, where, or of which bucket is wrong."""


class PageCorrupt(StoreAnswered):
    slug, title = "page-corrupt", "The store's bytes are not those of the manifest"


class ManifestInvalid(StoreAnswered):
    slug, title = "manifest-invalid", "A manifest that fails its checks"


class StoreUnavailable(SeekfsError):
    """``context["retry_after"]`` is when to try again, in whole seconds from now; see ``retry_after_of``."""

    status, slug, title = 503, "store-unavailable", "The object store cannot be reached"


class CeilingExceeded(SeekfsError):
    status, slug, title = 503, "ceiling-exceeded", "More than a configured ceiling allows"


class ShuttingDown(SeekfsError):
    status, slug, title = 503, "shutting-down", "The daemon is stopping"


class StoreTimeout(SeekfsError):
    status, slug, title = 504, "store-timeout", "The object store did not answer in time"


class DeadlineExceeded(SeekfsError):
    status, slug, title = 504, "deadline-exceeded", "The read waited longer than it may"


class TraceError(SeekfsError):
    """``context["offset"]`` is the byte of the file where it shows, if it is one of a file."""

    slug, title = "trace-unreadable", "A trace that cannot be read"


class PublishError(SeekfsError):
    status, slug, title = 409, "publish-failed", "The version could not be published"


class PublishConflict(PublishError):
    slug, title = "publish-conflict", "Somebody else changed the same paths first"


class ConditionsNotHonoured(PublishError):
    slug, title = "conditions-not-honoured", "The store ignores conditional writes"


class ContractViolation(Exception):
    """An embedder drove a machine in a way that it forbids; the machine is unchanged."""


def most_telling(errors: Sequence[BaseException]) -> BaseException:
    """The one to raise of several that ended work together, given in the order of the work: one that a
    caller can act on before any other, and last that the rest was stopped, which follows from another."""

    def rank(error: BaseException) -> int:
        if isinstance(error, ShuttingDown):
            return 2
        return 0 if isinstance(error, SeekfsError) else 1

    return min(errors, key=rank)


RETRY_AFTER_SECONDS_DEFAULT = 1
"""What a 503 suggests where the store suggested nothing: a moment, not a minute."""

RETRIABLE_STATUSES = frozenset({429, 503})
"""Answers that say when to come back."""


def retry_after_of(error: SeekfsError) -> int | None:
    """When it may be tried again, in whole seconds from now; None where that is not said."""
    if error.status not in RETRIABLE_STATUSES:
        return None
    return int(error.context.get("retry_after", RETRY_AFTER_SECONDS_DEFAULT))


def _whole_seconds(seconds: float | None) -> int:
    """A ``Retry-After``: whole seconds, at least one, and not before ``seconds`` where that is known."""
    return RETRY_AFTER_SECONDS_DEFAULT if seconds is None else max(1, -int(-seconds // 1))


def error_of(failure: StoreFailure, *, key: str, **context: Any) -> SeekfsError:
    """The error that a caller sees for a store failure that no retry has cured.

    The mapping is the table of statuses in the contract (docs/SPEC.md, section 4).
    """
    where = f"{failure.detail} (key {key!r})"
    facts: dict[str, Any] = {"key": key, **context, **failure.facts}
    if failure.status is not None:
        facts["store_status"] = failure.status
    if failure.code is not None:
        facts["store_code"] = failure.code
    match failure.kind:
        case FailureKind.UNREACHABLE | FailureKind.BUSY | FailureKind.BREAKER_OPEN:
            return StoreUnavailable(where, retry_after=_whole_seconds(failure.retry_after_seconds), **facts)
        case FailureKind.OVER_BUDGET:
            return BudgetSpent(where, retry_after=_whole_seconds(failure.retry_after_seconds), **facts)
        case FailureKind.TIMED_OUT:
            return StoreTimeout(where, **facts)
        case FailureKind.BAD_CHECKSUM:
            return PageCorrupt(where, **facts)
        case FailureKind.CLOSING:
            return ShuttingDown(where, **facts)
        case FailureKind.INTERNAL | FailureKind.OVERTAKEN:
            return SeekfsError(where, **facts)
        case FailureKind.DENIED | FailureKind.STALE_SIGNATURE | FailureKind.REDIRECTED:
            return StoreRefused(where, **facts)
        case FailureKind.MISSING if not is_absence(failure):
            return StoreRefused(where, **facts)
        case FailureKind.MISSING | FailureKind.PRECONDITION | FailureKind.BAD_ANSWER | FailureKind.CUT_SHORT:
            return StoreAnswered(where, **facts)
        case _:
            assert_never(failure.kind)


def is_absence(failure: StoreFailure) -> bool:
    """Whether a failure says that there is no such object.

    A missing bucket is none: it is a mistake in the configuration, and nothing to remember of a name.
    """
    return failure.kind is FailureKind.MISSING and failure.code != "NoSuchBucket"


def is_another_object(failure: StoreFailure) -> bool:
    """Whether a failure of a GET bound to an ETag says that the object is no longer that one: another
    (412), shorter than the range (416), or gone."""
    return failure.kind is FailureKind.PRECONDITION or is_absence(failure) or failure.status == 416


def check_can_be_bound(key: str, etag: str | None, *, gets_count: int) -> None:
    """Raise ``StoreAnswered`` where the GETs that read an object cannot be known to be of one content.

    One GET is of one content, whatever the store calls it.
    """
    if etag is None and gets_count > 1:
        raise StoreAnswered(
            f"the store gives no ETag for {key!r}, so reads of it cannot be bound together", key=key
        )


def is_same_object(before: tuple[int, str | None], now: tuple[int, str | None], *, gets_count: int) -> bool:
    """Whether what a GET answered is of the object that was looked at before; each is a size in bytes and
    an ETag. Two that have no ETag may be of two objects, unless there is just one GET."""
    return before == now and (now[1] is not None or gets_count == 1)


def refuses_conditions(failure: StoreFailure) -> bool:
    """Whether a write may have failed for its condition alone: some stores answer 400 or 501 to one."""
    return failure.kind is FailureKind.BAD_ANSWER or failure.status == 501


@frozen
class Problem:
    """One thing wrong with an input, and where: ``$.files[3].size``, ``cache.l2.backend``."""

    where: str = field()
    what: str = field()

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"
