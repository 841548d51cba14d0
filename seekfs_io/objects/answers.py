"""Reading an S3 server's answer: statuses and error documents as failures, bodies as values.

Nothing here trusts the server. XML is parsed from a bounded number of bytes, and a document type
(the door to entity expansion) is refused.
"""

from __future__ import annotations

import email.utils
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import unquote_plus

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.store_answers import ContentRange, believed_etag, kind_of_answer
from seekfs_io.objects.base import ListPage, ObjectStat, StoreError

ERROR_BYTES_MAX = 64 << 10
"""An error document has a few hundred bytes; what is longer is not read."""

DOCUMENT_BYTES_MAX = 16 << 20
"""A page of a listing: 1000 keys of at most 1024 bytes, each byte percent-encoded, and some more."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/([0-9]{1,19})")
_LENGTH = re.compile(r"[0-9]{1,19}")
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")


def parse_content_range(value: str | None) -> ContentRange | None:
    """``bytes 0-9/100`` as half-open numbers; None where it is anything else."""
    found = _CONTENT_RANGE.fullmatch(value or "")
    if found is None:
        return None
    first, last, size = (int(number) for number in found.groups())
    if not first <= last < size:
        return None
    return ContentRange(start=first, stop=last + 1, size=size)


def parse_length(value: str | None) -> int | None:
    return int(value) if value is not None and _LENGTH.fullmatch(value) else None


def parse_http_time(value: str | None) -> datetime | None:
    """``Wed, 21 Oct 2015 07:28:00 GMT``, in UTC; None where it is no time, or one beyond the calendar's."""
    try:
        return _in_utc(email.utils.parsedate_to_datetime(value or ""))
    except (ValueError, OverflowError):
        return None


def parse_http_date(value: str | None) -> str | None:
    """``Wed, 21 Oct 2015 07:28:00 GMT`` → ``2015-10-21T07:28:00Z``."""
    moment = parse_http_time(value)
    return None if moment is None else _as_iso(moment)


def parse_iso_date(value: str | None) -> str | None:
    """A listing's time, with or without fractions of a second, without them."""
    try:
        return _as_iso(_in_utc(datetime.fromisoformat(value or "")))
    except (ValueError, OverflowError):
        return None


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from ``now``: ``Retry-After`` holds a number of them, or a date."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    moment = parse_http_time(value)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _as_iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def failure_of(
    request: str, status: int, headers: Mapping[str, str], body: bytes, *, conditional: bool, now: datetime
) -> StoreFailure:
    """What an answer that is none of the expected ones means.

    ``request`` names it for people (``GET``); ``conditional`` is for ``kind_of_answer``.
    """
    code, message = parse_error(body)
    kind = kind_of_answer(status, code, conditional=conditional)
    detail = f"{request} was answered {status}" + (f" {code}" if code else "")
    if kind is FailureKind.REDIRECTED:
        region = headers.get("x-amz-bucket-region")
        detail += f": the bucket is in {printable(region)}" if region else ": the bucket is elsewhere"
    elif message:
        detail += f": {message}"
    return StoreFailure(
        kind=kind,
        detail=detail,
        status=status,
        code=code,
        retry_after_seconds=parse_retry_after(headers.get("retry-after"), now),
        facts=_size_told(headers.get("content-range")),
    )


def _size_told(content_range: str | None) -> dict[str, int]:
    """What a 416 says of the object: how large it is."""
    found = _UNSATISFIED_RANGE.fullmatch(content_range or "")
    return {} if found is None else {"object_size": int(found[1])}


def parse_error(body: bytes) -> tuple[str | None, str | None]:
    """Code and message of an ``<Error>`` document; (None, None) where the body is something else."""
    try:
        root = parse_xml(body)
    except ElementTree.ParseError:
        return None, None
    if _name(root) != "Error":
        return None, None
    code = child_text(root, "Code")
    message = child_text(root, "Message")
    return (
        code if code and _CODE.fullmatch(code) else None,
        printable(message) if message else None,
    )


def printable(text: str) -> str:
    """One line, cut, of what somebody else has written."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:200]).strip()


class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ElementTree.ParseError("a document type is not accepted")


def parse_xml(body: bytes) -> ElementTree.Element:
    """The root of a document without a document type. Raises ``ElementTree.ParseError``."""
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        # CompleteMultipartUpload sends white space while it works, before the declaration.
        return ElementTree.fromstring(body.lstrip(), parser=parser)
    except (LookupError, ValueError):
        # The encoding that a document declares is looked for among Python's, of which some are no encodings
        # of text, and others take more bytes to a letter than the parser can use.
        raise ElementTree.ParseError("the document declares an encoding that is not known") from None


def _name(element: ElementTree.Element) -> str:
    """The tag without its namespace, which some servers leave out."""
    return element.tag.rpartition("}")[2]


def child_text(element: ElementTree.Element, name: str) -> str | None:
    for child in element:
        if _name(child) == name:
            return child.text or ""
    return None


def parse_list_page(body: bytes) -> ListPage:
    """A ``ListObjectsV2`` answer. Raises ``StoreError`` (``BAD_ANSWER``)."""
    try:
        root = parse_xml(body)
    except ElementTree.ParseError as error:
        raise bad_answer(f"the listing is not XML: {error}") from None
    if _name(root) != "ListBucketResult":
        raise bad_answer(f"the listing is a {printable(_name(root))} document")
    encoded = child_text(root, "EncodingType") == "url"
    token = None
    if child_text(root, "IsTruncated") == "true":
        token = child_text(root, "NextContinuationToken")
        if not token:
            raise bad_answer("the listing goes on and does not say where")
    return ListPage(objects=tuple(_listed(root, encoded)), next_token=token)


def _listed(root: ElementTree.Element, encoded: bool) -> Iterator[ObjectStat]:
    for child in root:
        if _name(child) != "Contents":
            continue
        key = child_text(child, "Key")
        size = parse_length(child_text(child, "Size"))
        if not key or size is None:
            raise bad_answer("the listing has an entry without key or size")
        if encoded:
            try:
                key = unquote_plus(key, errors="strict")
            except UnicodeDecodeError:
                raise bad_answer("the listing has a key that is not UTF-8") from None
        yield ObjectStat(
            key=key,
            size=size,
            etag=believed_etag(child_text(child, "ETag")),
            last_modified=parse_iso_date(child_text(child, "LastModified")),
        )


def parse_upload_id(body: bytes) -> str:
    """Of a ``CreateMultipartUpload`` answer. Raises ``StoreError`` (``BAD_ANSWER``)."""
    try:
        upload = child_text(parse_xml(body), "UploadId")
    except ElementTree.ParseError:
        upload = None
    if not upload:
        raise bad_answer("the answer to CreateMultipartUpload has no upload id")
    return upload


def bad_answer(detail: str, *, status: int | None = None, object_size: int | None = None) -> StoreError:
    """``object_size`` is what the store said of the object, in bytes, where it did."""
    facts = {} if object_size is None else {"object_size": object_size}
    return StoreError(StoreFailure(kind=FailureKind.BAD_ANSWER, detail=detail, status=status, facts=facts))
