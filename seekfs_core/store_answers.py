"""What the answers of an S3 server mean: which failure a status and an error code are, and which answer
to a GET is believed.

Statuses are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.names import is_etag

STATUS_KINDS: Final = {
    301: FailureKind.REDIRECTED,
    302: FailureKind.REDIRECTED,
    307: FailureKind.REDIRECTED,
    308: FailureKind.REDIRECTED,
    401: FailureKind.DENIED,
    403: FailureKind.DENIED,
    404: FailureKind.MISSING,
    409: FailureKind.PRECONDITION,
    412: FailureKind.PRECONDITION,
    429: FailureKind.BUSY,
    500: FailureKind.BUSY,
    502: FailureKind.BUSY,
    503: FailureKind.BUSY,
    504: FailureKind.BUSY,
}

CODE_KINDS: Final = {
    "ConditionalRequestConflict": FailureKind.PRECONDITION,
    "NoSuchUpload": FailureKind.MISSING,
    "PreconditionFailed": FailureKind.PRECONDITION,
    "AuthorizationHeaderMalformed": FailureKind.REDIRECTED,  # signed for another region
    "ExpiredToken": FailureKind.DENIED,
    "ExpiredTokenException": FailureKind.DENIED,
    "InternalError": FailureKind.BUSY,
    "InvalidToken": FailureKind.DENIED,
    "RequestTimeTooSkewed": FailureKind.DENIED,
    "RequestTimeout": FailureKind.BUSY,
    "ServiceUnavailable": FailureKind.BUSY,
    "SlowDown": FailureKind.BUSY,
    "TokenRefreshRequired": FailureKind.DENIED,
}
"""Codes that say more than the status they come with (400, or 200 with an error for a body)."""


def kind_of_answer(status: int, code: str | None, *, conditional: bool) -> FailureKind:
    """The failure that an answer of another status than expected is.

    A 409 is a lost race only where the request was ``conditional``. What is not known is a wrong
    answer, which may pass.
    """
    if status == 409 and not conditional:
        return FailureKind.BAD_ANSWER
    by_code = None if code is None else CODE_KINDS.get(code)
    return by_code or STATUS_KINDS.get(status, FailureKind.BAD_ANSWER)


@frozen(kw_only=True)
class ContentRange:
    """The bytes [start, stop) of an object of ``size`` bytes."""

    start: int
    stop: int
    size: int


def is_length_believed(length: int | None, *, is_chunked: bool) -> bool:
    """Whether the length of an answer's body is to be relied on: without one, and where it comes in chunks
    that need not add up to it, nobody could tell a body that was cut from a whole one."""
    return length is not None and not is_chunked


def believed_etag(etag: str | None) -> str | None:
    """The ETag of an answer, where it can be sent back; what cannot be is as good as none."""
    return etag if etag is not None and is_etag(etag) else None


def impossible_match(if_match: str) -> StoreFailure | None:
    """What a request with this If-Match comes to that need not be sent: no object has such an ETag."""
    if is_etag(if_match):
        return None
    return StoreFailure(kind=FailureKind.PRECONDITION, detail=f"{if_match[:100]!r} cannot be an ETag")


def is_upload_forgotten(code: str | None) -> bool:
    """Whether a 404 to the abort of an upload says that there is none: nothing is left of it to forget."""
    return code in (None, "NoSuchUpload", "NoSuchKey")


def was_bucket_there(code: str | None) -> bool:
    """Whether a refusal (409) to make a bucket says that it is ours already. Other codes say that it is
    somebody else's, or that it is just being made or removed."""
    return code == "BucketAlreadyOwnedByYou"


def is_contradicted(if_match: str | None, etag: str | None) -> bool:
    """Whether an answer to a GET with If-Match shows that the store ignored it, or compared weakly.

    An answer without an ETag does not: the page's CRC is the proof, the ETag a hint.
    """
    return if_match is not None and etag is not None and etag != if_match


def is_range_asked_for(start: int, stop: int, got: ContentRange | None, length: int) -> bool:
    """Whether a 206 has the bytes [start, stop), no more and no less; ``length`` is its Content-Length."""
    return got is not None and (got.start, got.stop) == (start, stop) and length == stop - start
