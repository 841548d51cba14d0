"""What an S3 server's answers mean, without a server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from seekfs_core.errors import FailureKind
from seekfs_core.store_answers import ContentRange
from seekfs_io.objects.answers import (
    failure_of,
    parse_content_range,
    parse_error,
    parse_http_date,
    parse_iso_date,
    parse_length,
    parse_list_page,
    parse_retry_after,
    parse_upload_id,
)
from seekfs_io.objects.base import StoreError

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def error_document(code: str, message: str = "why") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (301, "PermanentRedirect", FailureKind.REDIRECTED),
        (302, None, FailureKind.REDIRECTED),
        (307, "TemporaryRedirect", FailureKind.REDIRECTED),
        (308, None, FailureKind.REDIRECTED),
        (304, None, FailureKind.BAD_ANSWER),
        (400, "InvalidRequest", FailureKind.BAD_ANSWER),
        (400, "ExpiredToken", FailureKind.DENIED),
        (400, "InvalidToken", FailureKind.DENIED),
        (400, "RequestTimeout", FailureKind.BUSY),
        (400, "AuthorizationHeaderMalformed", FailureKind.REDIRECTED),
        (401, None, FailureKind.DENIED),
        (403, "AccessDenied", FailureKind.DENIED),
        (403, "RequestTimeTooSkewed", FailureKind.DENIED),
        (404, "NoSuchKey", FailureKind.MISSING),
        (409, "ConditionalRequestConflict", FailureKind.PRECONDITION),
        (412, "PreconditionFailed", FailureKind.PRECONDITION),
        (416, "InvalidRange", FailureKind.BAD_ANSWER),
        (418, None, FailureKind.BAD_ANSWER),
        (429, None, FailureKind.BUSY),
        (500, "InternalError", FailureKind.BUSY),
        (501, "NotImplemented", FailureKind.BAD_ANSWER),
        (502, None, FailureKind.BUSY),
        (503, "SlowDown", FailureKind.BUSY),
        (504, None, FailureKind.BUSY),
        (200, "InternalError", FailureKind.BUSY),
        (200, None, FailureKind.BAD_ANSWER),
    ],
)
def test_kinds(status: int, code: str | None, kind: FailureKind) -> None:
    body = b"" if code is None else error_document(code)
    failure = failure_of("GET", status, {}, body, conditional=True, now=NOW)
    assert (failure.kind, failure.status, failure.code) == (kind, status, code)
    assert str(status) in failure.detail


def test_a_conflict_is_a_lost_race_only_where_there_was_a_condition() -> None:
    body = error_document("OperationAborted")
    assert failure_of("PUT", 409, {}, body, conditional=False, now=NOW).kind is FailureKind.BAD_ANSWER


def test_a_redirection_names_the_region() -> None:
    headers = {"x-amz-bucket-region": "eu-west-1"}
    failure = failure_of("GET", 301, headers, b"", conditional=False, now=NOW)
    assert failure.detail == "GET was answered 301: the bucket is in eu-west-1"


def test_the_message_is_one_short_line() -> None:
    body = error_document("AccessDenied", "a&#10;b\u2028" + "x" * 10_000)
    failure = failure_of("GET", 403, {}, body, conditional=False, now=NOW)
    assert failure.detail.startswith("GET was answered 403 AccessDenied: a b xxx")
    assert len(failure.detail) < 300
    assert failure.detail.isprintable()


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE Error [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Error><Code>&b;</Code></Error>"""


# Python knows some of these, and not all as encodings of text; the parser can use none of them.
ENCODINGS = (
    "foo",
    "gbk",
    "big5",
    "shift_jis",
    "utf-7",
    "utf-32",
    "idna",
    "rot13",
    "zlib",
    "undefined",
    "mbcs",
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"gateway timeout",
        b"<html><body>502</body></html>",
        b"<Error><Code>Cut",
        b"\xff\xfe\xfd",
        BOMB,
        b'<!DOCTYPE Error SYSTEM "file:///etc/passwd"><Error><Code>X</Code></Error>',
        b"<Error><Code>not a code!</Code></Error>",
        b"<Error><Code/></Error>",
        *(
            f'<?xml version="1.0" encoding="{encoding}"?><Error><Code>X</Code></Error>'.encode()
            for encoding in ENCODINGS
        ),
    ],
)
def test_what_is_no_error_document_has_no_code(body: bytes) -> None:
    assert parse_error(body)[0] is None
    assert failure_of("GET", 503, {}, body, conditional=False, now=NOW).kind is FailureKind.BUSY


def test_an_error_document_may_have_a_namespace_and_padding() -> None:
    body = b"  \n <?xml version='1.0'?><Error xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Code>X</Code></Error>"
    assert parse_error(body) == ("X", None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("Sat, 31 Jan 2026 12:00:30 GMT", 30.0),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0),
        ("99999999999999999999", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-9/100", ContentRange(start=0, stop=10, size=100)),
        ("bytes 99-99/100", ContentRange(start=99, stop=100, size=100)),
        ("bytes 0-9/*", None),
        ("bytes */100", None),
        ("bytes 0-100/100", None),
        ("bytes 9-0/100", None),
        ("bytes=0-9/100", None),
        ("bytes 0-9/１００", None),
        ("Bytes 0-9/100", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range(value: str | None, expected: ContentRange | None) -> None:
    assert parse_content_range(value) == expected


def test_lengths_and_dates() -> None:
    assert [parse_length(value) for value in ("0", "12", "-1", "+1", "1_0", "", None, "9" * 20)] == [
        0,
        12,
    ] + [None] * 6
    assert parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT") == "2015-10-21T07:28:00Z"
    assert parse_http_date("Wed, 21 Oct 2015 09:28:00 +0200") == "2015-10-21T07:28:00Z"
    assert parse_http_date("yesterday") is None
    assert parse_http_date(None) is None
    assert parse_iso_date("2015-10-21T07:28:00.123Z") == "2015-10-21T07:28:00Z"
    assert parse_iso_date("2015-10-21T09:28:00+02:00") == "2015-10-21T07:28:00Z"
    assert parse_iso_date("x") is None


@pytest.mark.parametrize(
    "value",
    [
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +99999999999999999",
        "1 2 3",
        " ",
        ",",
        "١",
    ],
)
def test_times_beyond_the_calendar_are_none(value: str) -> None:
    assert parse_http_date(value) is None
    assert parse_retry_after(value, NOW) is None


def test_listed_times_beyond_the_calendar_are_none() -> None:
    assert parse_iso_date("9999-12-31T23:59:59-23:59") is None
    assert parse_iso_date("0001-01-01T00:00:00+23:59") is None


def listing(inner: str) -> bytes:
    return f"<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>{inner}</ListBucketResult>".encode()


def test_a_page_of_a_listing() -> None:
    inner = (
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>t/=</NextContinuationToken>"
        "<Contents><Key>a+b%2B%E2%98%83</Key><Size>3</Size><ETag>&quot;x&quot;</ETag>"
        "<LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents>"
        "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"
    )
    page = parse_list_page(listing(inner))
    assert page.next_token == "t/="
    (found,) = page.objects
    assert (found.key, found.size, found.etag) == ("a b+☃", 3, '"x"')
    assert found.last_modified == "2015-10-21T07:28:00Z"


def test_keys_that_are_not_encoded_are_taken_as_they_are() -> None:
    page = parse_list_page(listing("<Contents><Key>a+b%2B&amp;</Key><Size>3</Size></Contents>"))
    assert [each.key for each in page.objects] == ["a+b%2B&"]
    assert page.next_token is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not xml",
        b"<Other/>",
        BOMB,
        b'<?xml version="1.0" encoding="gbk"?><ListBucketResult/>',
        listing("<IsTruncated>true</IsTruncated>"),
        listing("<Contents><Size>3</Size></Contents>"),
        listing("<Contents><Key>a</Key></Contents>"),
        listing("<Contents><Key>a</Key><Size>-3</Size></Contents>"),
        listing("<EncodingType>url</EncodingType><Contents><Key>%FF</Key><Size>3</Size></Contents>"),
    ],
)
def test_a_broken_listing(body: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        parse_list_page(body)
    assert caught.value.failure.kind is FailureKind.BAD_ANSWER


def test_upload_ids() -> None:
    body = b"<InitiateMultipartUploadResult><UploadId>abc</UploadId></InitiateMultipartUploadResult>"
    assert parse_upload_id(body) == "abc"
    for broken in (b"", b"<X/>", b"<X><UploadId/></X>", b'<?xml version="1.0" encoding="foo"?><X/>'):
        with pytest.raises(StoreError):
            parse_upload_id(broken)
