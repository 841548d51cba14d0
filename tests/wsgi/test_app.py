"""seekfs_wsgi.app by itself, under a checker of the WSGI contract: dispatch, errors, ids, streams, ends.

Every request goes through werkzeug's ``LintMiddleware``, so that what no server would notice here is noticed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any, cast

import pytest
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import Client, TestResponse

from seekfs_core.errors import PageCorrupt, SeekfsError, StoreUnavailable
from seekfs_core.readiness import Readiness
from seekfs_io.config import ApiConfig, Config
from seekfs_io.dataplane import DataPlane
from seekfs_wsgi.app import Application
from seekfs_wsgi.sending import Disconnected
from tests.wsgi.memory_plane import PAGE_BYTES, MemoryPlane

BIG = bytes(i * 31 % 251 for i in range(10 * PAGE_BYTES + 99))
FILES = {"a": b"0123456789", "sub/dir.bin": b"x" * 70_000, "empty": b"", "big": BIG, "é ☃+%": b"snow"}


@pytest.fixture
def plane() -> MemoryPlane:
    return MemoryPlane(FILES)


@pytest.fixture
def client(plane: MemoryPlane) -> Client:
    return client_of(plane)


def client_of(plane: MemoryPlane, *, lint: bool = True, **api: Any) -> Client:
    application = Application(cast("DataPlane", plane), Config(api=ApiConfig(**api)))
    return Client(LintMiddleware(application) if lint else application)


@pytest.fixture
def lax_client(plane: MemoryPlane) -> Client:
    """For answers that end before their Content-Length, which the checker would not let pass."""
    return client_of(plane, lint=False)


def problem(answer: TestResponse, status: int, slug: str) -> dict[str, Any]:
    """The problem document of an answer, after everything that every one of them has was checked."""
    assert answer.status_code == status, answer.data
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = json.loads(answer.data)
    assert document["status"] == status
    assert document["type"] == f"urn:seekfs:problem:{slug}"
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{16}", document["request_id"])
    return dict(document)


# -- dispatch ------------------------------------------------------------------------------------------


def test_every_answer_has_an_id_of_its_own(client: Client) -> None:
    ids = {
        client.get(path).headers["X-Request-Id"]
        for path in ["/healthz", "/healthz", "/none", "/blob", "/metrics"]
    }
    assert len(ids) == 5
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


@pytest.mark.parametrize("path", ["/", "/Blob", "/blob/", "//blob", "/blob/a", "/healthz2", "/\u2603"])
def test_no_such_endpoint(client: Client, path: str) -> None:
    assert "/readv" in problem(client.get(path), 404, "not-found")["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/blob",
        "/test_head",
        "/test_s3",
        "/test_stream",
        "/advisor",
        "/metrics",
        "/slow",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_what_is_read_is_only_read(client: Client, path: str, method: str) -> None:
    answer = client.open(path, method=method)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_batch_is_only_posted(client: Client, method: str) -> None:
    answer = client.open("/readv?ns=dev", method=method)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "target",
    [
        "/healthz", "/readyz", "/metrics", "/advisor", "/slow", "/none", "/readv",
        "/blob?ns=dev&path=a", "/blob?ns=dev&path=none", "/test_head?ns=dev&path=a",
        "/test_s3?ns=dev&path=a&off=0&len=1", "/test_stream?ns=dev&path=a&page_id=0",
    ],
)  # fmt: skip
def test_head_is_get_without_the_body(client: Client, target: str) -> None:
    got, headed = client.get(target), client.head(target)
    assert headed.status_code == got.status_code
    assert headed.data == b""
    assert headed.headers["Content-Type"] == got.headers["Content-Type"]
    if target != "/metrics":
        assert headed.headers["Content-Length"] == got.headers["Content-Length"]


# -- errors --------------------------------------------------------------------------------------------


def test_an_unforeseen_error_is_a_500_and_a_traceback_in_the_log(
    plane: MemoryPlane, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    plane.resolve_failure = ZeroDivisionError("inside")
    answer = client.get("/blob?ns=dev&path=a")
    assert "inside" not in problem(answer, 500, "internal")["detail"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.__dict__["request_id"] == answer.headers["X-Request-Id"]


def test_a_503_says_when_to_try_again(plane: MemoryPlane, client: Client) -> None:
    plane.resolve_failure = StoreUnavailable("no store", retry_after=7)
    answer = client.get("/blob?ns=dev&path=a")
    assert problem(answer, 503, "store-unavailable")["retry_after"] == 7
    assert answer.headers["Retry-After"] == "7"


def test_what_was_refused_is_one_line_of_the_log_with_the_id(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = client.get("/blob?ns=dev&path=no%0Ane")
    (record,) = caplog.records
    assert record.__dict__["request_id"] == answer.headers["X-Request-Id"]
    assert (record.__dict__["status"], record.__dict__["problem"]) == (400, "invalid-name")
    assert record.__dict__["facts"]["parameter"] == "path"
    assert "\n" not in record.getMessage()
    assert "GET /blob?ns=dev&path=no%0Ane: 400" in record.getMessage()


def test_a_target_of_megabytes_is_cut_in_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        client.get("/blob?ns=dev&path=" + "x" * 1_000_000)
    assert len(caplog.records[0].getMessage()) < 1200


# -- /blob: what does not need a server ---------------------------------------------------------------------


def test_a_name_with_everything_in_it(client: Client) -> None:
    answer = client.get("/blob?ns=dev&path=%C3%A9%20%E2%98%83%2B%25")
    assert answer.data == b"snow"
    assert client.get("/blob?ns=dev&path=%C3%A9+%E2%98%83%2B%25").data == b"snow"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "'ns'"),
        ("ns=dev", "'path'"),
        ("path=a", "'ns'"),
        ("ns=dev&path=a&offset=1", "offset"),
        ("ns=dev&path=a&off=1&off=1", "'off'"),
        ("ns=dev&path=a&off=-1", "'off'"),
        ("ns=dev&path=a&len=1.5", "'len'"),
        ("ns=dev&path=a&len=9223372036854775808", "'len'"),
        ("ns=dev&path=a&version=0", "'version'"),
        ("ns=dev&path=a&version=x", "'version'"),
        ("ns=dev&path=a&hash=zz", "'hash'"),
        ("ns=dev&path=%zz", "'path'"),
        ("ns=dev&path=%ff", "'path'"),
        ("ns=Dev&path=a", "namespace"),
        ("ns=dev&path=", "path"),
        ("ns=dev&path=/a", "path"),
        ("ns=dev&path=a/../b", "path"),
        ("ns=dev&path=a%00", "path"),
        # Malformed comes before not found.
        ("ns=none&path=../a", "path"),
        ("ns=none&path=a&hash=1", "'hash'"),
    ],
)
def test_a_malformed_blob_request(client: Client, query: str, says: str) -> None:
    answer = client.get(f"/blob?{query}")
    assert answer.status_code == 400
    assert says in problem(answer, 400, json.loads(answer.data)["type"].rpartition(":")[2])["detail"]


def test_what_does_not_exist(client: Client, plane: MemoryPlane) -> None:
    problem(client.get("/blob?ns=none&path=a"), 404, "no-such-namespace")
    problem(client.get("/blob?ns=dev&path=a&version=6"), 404, "no-such-version")
    problem(client.get("/blob?ns=dev&path=none"), 404, "no-such-file")
    document = problem(client.get("/blob?ns=dev&path=a&hash=" + "0" * 64), 404, "no-such-content")
    assert document["hash"] == plane.hash_of("a")


def test_the_order_of_the_checks(client: Client) -> None:
    """400, 404, off past the end, 412, 304, Range."""
    never = {"If-Match": '"other"', "If-None-Match": "*", "Range": "bytes=99-"}
    assert client.get("/blob?ns=dev&path=none&off=x", headers=never).status_code == 400
    assert client.get("/blob?ns=dev&path=none", headers=never).status_code == 404
    assert client.get("/blob?ns=dev&path=a&off=11", headers=never).status_code == 416
    assert client.get("/blob?ns=dev&path=a", headers=never).status_code == 412
    del never["If-Match"]
    assert client.get("/blob?ns=dev&path=a", headers=never).status_code == 304
    del never["If-None-Match"]
    assert client.get("/blob?ns=dev&path=a", headers=never).status_code == 416


def test_nothing_is_read_for_what_has_no_body(client: Client, plane: MemoryPlane) -> None:
    client.head("/blob?ns=dev&path=big")
    client.get("/blob?ns=dev&path=big", headers={"If-None-Match": "*"})
    client.get("/blob?ns=dev&path=big&len=0")
    client.get("/blob?ns=dev&path=empty")
    assert plane.streams == []


def test_a_stale_answer_says_so(client: Client, plane: MemoryPlane) -> None:
    assert "X-Seekfs-Stale" not in client.get("/blob?ns=dev&path=a").headers
    plane.stale = True
    assert client.get("/blob?ns=dev&path=a").headers["X-Seekfs-Stale"] == "1"
    assert client.head("/blob?ns=dev&path=a").headers["X-Seekfs-Stale"] == "1"


# -- streams -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["/blob?ns=dev&path=big", "/blob?ns=dev&path=a", "/blob?ns=dev&path=sub/dir.bin"]
)
def test_a_stream_is_closed_once_when_it_was_read(client: Client, plane: MemoryPlane, target: str) -> None:
    path = target.rpartition("=")[2]
    answer = client.get(target)
    assert answer.data == FILES[path]
    assert answer.headers["Content-Length"] == str(len(FILES[path]))
    answer.close()
    assert [stream.closed for stream in plane.streams] == [1]


def test_a_failure_before_the_first_byte_is_a_status(client: Client, plane: MemoryPlane) -> None:
    plane.fails_after_pages, plane.failure = 0, PageCorrupt("wrong", path="big", page=0, expected=1, found=2)
    document = problem(client.get("/blob?ns=dev&path=big"), 502, "page-corrupt")
    assert (document["page"], document["expected"], document["found"]) == (0, 1, 2)
    assert [stream.closed for stream in plane.streams] == [1]


@pytest.mark.parametrize("failure", [StoreUnavailable("gone"), ZeroDivisionError("inside"), OSError("odd")])
def test_a_failure_after_it_cuts_the_connection(
    lax_client: Client, plane: MemoryPlane, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    plane.fails_after_pages, plane.failure = 3, failure
    answer = lax_client.get("/blob?ns=dev&path=big", buffered=False)
    assert answer.status_code == 200
    received: list[bytes] = []
    with pytest.raises(Disconnected):
        received.extend(cast("Iterable[bytes]", answer.response))
    answer.close()
    assert b"".join(received) == BIG[: 3 * PAGE_BYTES]
    assert [stream.closed for stream in plane.streams] == [1]
    (record,) = caplog.records
    assert "cut off after 196608 bytes" in record.getMessage()
    assert (record.exc_info is None) == isinstance(failure, SeekfsError)


def test_a_read_that_ends_early_is_never_taken_for_whole(
    lax_client: Client, plane: MemoryPlane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.ends_after_pages = 0
    problem(lax_client.get("/blob?ns=dev&path=big"), 500, "internal")
    caplog.clear()
    plane.ends_after_pages = 3
    answer = lax_client.get("/blob?ns=dev&path=big", buffered=False)
    with pytest.raises(Disconnected):
        list(answer.response)
    answer.close()
    assert f"cut off after {3 * PAGE_BYTES} bytes" in caplog.records[0].getMessage()


def test_a_batch_fails_with_a_status_as_long_as_nothing_has_gone_out(
    client: Client, plane: MemoryPlane
) -> None:
    plane.fails_after_pages, plane.failure = 5, StoreUnavailable("gone")
    items = [{"path": "a", "off": index, "len": 1} for index in range(10)]
    problem(client.post("/readv?ns=dev", json=items), 503, "store-unavailable")


def test_a_client_that_leaves_closes_the_stream(lax_client: Client, plane: MemoryPlane) -> None:
    answer = lax_client.get("/blob?ns=dev&path=big", buffered=False)
    next(iter(answer.response))
    answer.close()
    assert [stream.closed for stream in plane.streams] == [1]
    assert 'seekfs_http_answers_cut_off_total{endpoint="/blob"} 1.0' in lax_client.get("/metrics").text


# -- /readv --------------------------------------------------------------------------------------------


def body(*items: tuple[str, int, int]) -> bytes:
    return json.dumps([{"path": path, "off": off, "len": length} for path, off, length in items]).encode()


def test_a_batch_in_request_order(client: Client) -> None:
    items = [
        ("big", 70_000, 5),
        ("a", 2, 3),
        ("empty", 0, 0),
        ("big", 10, 200_000),
        ("a", 0, 10),
        ("a", 10, 0),
    ]
    answer = client.post("/readv?ns=dev", data=body(*items))
    assert answer.data == b"".join(FILES[path][off : off + length] for path, off, length in items)
    assert answer.headers["Content-Length"] == str(len(answer.data))
    assert answer.headers["X-Seekfs-Version"] == "7"
    assert answer.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_of_a_batch_does_not_matter(client: Client, kind: str) -> None:
    assert client.post("/readv?ns=dev", data=body(("a", 0, 1)), content_type=kind).data == b"0"


def test_a_batch_of_nothing_but_empty_ranges(client: Client, plane: MemoryPlane) -> None:
    answer = client.post("/readv?ns=dev", data=body(("empty", 0, 0), ("a", 10, 0)))
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "0")
    assert plane.streams == []


@pytest.mark.parametrize(
    ("items", "status", "slug", "facts"),
    [
        ([("a", 0, 1), ("none", 0, 1)], 404, "no-such-file", {"item": 1}),
        ([("a", 0, 1), ("a", 9, 2)], 416, "range-not-satisfiable", {"item": 1, "size": 10}),
        ([("a", 11, 0)], 416, "range-not-satisfiable", {"item": 0, "size": 10}),
        ([("a", 0, 1), ("../a", 0, 1)], 400, "invalid-name", {"item": 1}),
        # Malformed comes before not found, wherever it stands.
        ([("none", 0, 1), ("a", 0, 1), ("a//b", 0, 1)], 400, "invalid-name", {"item": 2}),
        ([("a", 9, 2), ("a//b", 0, 1)], 400, "invalid-name", {"item": 1}),
    ],
)
def test_a_bad_item_fails_a_plain_batch_naming_it(
    client: Client, items: list[tuple[str, int, int]], status: int, slug: str, facts: dict[str, int]
) -> None:
    document = problem(client.post("/readv?ns=dev", data=body(*items)), status, slug)
    assert facts.items() <= document.items()
    assert f"item {facts['item']}" in document["detail"]


def test_a_namespace_that_is_not_there(client: Client) -> None:
    problem(client.post("/readv?ns=none", data=body(("a", 0, 1))), 404, "no-such-namespace")
    problem(client.post("/readv?ns=none", data=body(("..", 0, 1))), 400, "invalid-name")


@pytest.mark.parametrize("query", ["", "ns=dev&path=a", "ns=dev&ns=dev", "ns=dev&version=0", "ns=-"])
def test_a_malformed_query_of_a_batch(client: Client, query: str) -> None:
    assert client.post(f"/readv?{query}", data=body(("a", 0, 1))).status_code == 400


def test_limits_of_a_batch(plane: MemoryPlane) -> None:
    client = client_of(plane, readv_max_mib=1 / 1024, request_max_mib=1 / 1024)
    assert len(client.post("/readv?ns=dev", data=body(("big", 0, 1024))).data) == 1024
    problem(client.post("/readv?ns=dev", data=body(("big", 0, 1025))), 413, "too-large")
    problem(client.post("/readv?ns=dev", data=body(("big", 0, 1000), ("a", 0, 25))), 413, "too-large")
    problem(client.post("/readv?ns=dev", data=body(("a", 0, 1)) + b" " * 1024), 413, "too-large")


@pytest.mark.parametrize(
    ("accept", "framed"),
    [
        (None, False),
        ("*/*", False),
        ("application/*", False),
        ("application/octet-stream", False),
        ("text/html", False),
        ("application/x-seekfs-frames", True),
        ("Application/X-Seekfs-Frames", True),
        ("application/x-seekfs-frames, */*;q=0.5", True),
        ("application/x-seekfs-frames, */*", True),
        ("application/x-seekfs-frames;q=0.5, */*", False),
        ("application/x-seekfs-frames;q=0.5, application/octet-stream;q=0.4", True),
        ("application/x-seekfs-frames;q=0.5, application/octet-stream;q=0.6", False),
        ("application/x-seekfs-frames;q=0", False),
        ("application/x-seekfs-frames;q=0, */*", False),
        ("application/x-seekfs-frames;q=x, */*", False),
        ("application/x-seekfs-frames;q=1.1, application/*", False),
        ("application/x-seekfs-framesx", False),
        ("application/x-seekfs-framesx, */*", False),
        ('text/plain;a="application/x-seekfs-frames", */*', False),
    ],
)
def test_frames_are_for_those_who_prefer_them(client: Client, accept: str | None, framed: bool) -> None:
    headers = {} if accept is None else {"Accept": accept}
    answer = client.post("/readv?ns=dev", data=body(("a", 0, 1)), headers=headers)
    kind = "application/x-seekfs-frames" if framed else "application/octet-stream"
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Vary"] == "Accept"
    assert ("Content-Length" in answer.headers) is not framed


def test_the_failed_items_of_a_framed_batch_have_its_id(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = client.post(
            "/readv?ns=dev",
            data=body(("none", 0, 1), ("a", 0, 1), ("..", 0, 1)),
            headers={"Accept": "application/x-seekfs-frames"},
            buffered=True,
        )
        data = answer.data
    assert data.count(answer.headers["X-Request-Id"].encode()) == 2
    assert b'"item": 0' in data
    assert b'"item": 2' in data
    (record,) = caplog.records
    assert "2 of 3 items failed" in record.getMessage()


def test_a_framed_batch_needs_its_namespace_too(client: Client) -> None:
    frames = {"Accept": "application/x-seekfs-frames"}
    problem(client.post("/readv?ns=none", data=body(("a", 0, 1)), headers=frames), 404, "no-such-namespace")
    problem(client.post("/readv?ns=dev", data=b"[", headers=frames), 400, "bad-request")


# -- the rest ------------------------------------------------------------------------------------------


def test_health(client: Client) -> None:
    assert client.get("/healthz").data == b"ok"
    problem(client.get("/healthz?x=1"), 400, "bad-request")


def test_readiness(client: Client, plane: MemoryPlane) -> None:
    assert client.get("/readyz").json == {"ready": True, "reasons": []}
    plane.readiness_answer = Readiness(ready=False, reasons=("this", "that"))
    answer = client.get("/readyz")
    document = problem(answer, 503, "not-ready")
    assert document["ready"] is False
    assert document["reasons"] == ["this", "that"]
    assert answer.headers["Retry-After"] == "1"


def test_advice(client: Client) -> None:
    assert client.get("/advisor").json == {"namespaces": [{"ns": "dev", "version": 7}]}


def test_the_head_of_an_object(client: Client, plane: MemoryPlane) -> None:
    assert client.get("/test_head?ns=dev&path=a").json == {
        "key": "namespaces/dev/files/a",
        "size": 1000,
        "etag": '"e"',
        "last_modified": "2026-01-31T12:00:00Z",
    }
    problem(client.get("/test_head?ns=dev&path=none"), 404, "no-such-file")
    problem(client.get("/test_head?ns=dev"), 400, "bad-request")
    problem(client.get("/test_head?ns=dev&path=a&version=7"), 400, "bad-request")


def test_any_key_is_for_debugging_only(client: Client, plane: MemoryPlane) -> None:
    assert "api.debug" in problem(client.get("/test_head?key=k"), 400, "bad-request")["detail"]
    assert "api.debug" in problem(client.get("/test_s3?key=k&off=0&len=1"), 400, "bad-request")["detail"]
    problem(client.get("/test_stream?key=k&page_id=0"), 400, "bad-request")
    assert plane.calls == []
    client = client_of(plane, debug=True)
    assert client.get("/test_head?key=a//b%20c").get_json()["key"] == "a//b c"
    assert client.get("/test_s3?key=k&off=990&len=20").get_json()["bytes"] == 10
    problem(client.get("/test_head?key=../x"), 400, "invalid-name")
    problem(client.get("/test_head?key=k&ns=dev"), 400, "bad-request")
    problem(client.get("/test_stream?key=k&page_id=0"), 400, "bad-request")


def test_a_get_past_the_cache(client: Client, plane: MemoryPlane) -> None:
    assert client.get("/test_s3?ns=dev&path=a&off=2&len=100").json == {
        "key": "namespaces/dev/files/a",
        "off": 2,
        "len": 100,
        "bytes": 8,
        "seconds": 0.25,
        "status": 206,
    }
    assert plane.calls == [("fetch", "namespaces/dev/files/a", 2, 10)]
    problem(client.get("/test_s3?ns=dev&path=a&off=10&len=1"), 416, "range-not-satisfiable")
    problem(client.get("/test_s3?ns=dev&path=a&off=0&len=0"), 400, "bad-request")
    problem(client.get("/test_s3?ns=dev&path=a&off=0"), 400, "bad-request")


def test_staging_a_page(client: Client, plane: MemoryPlane) -> None:
    assert client.get("/test_stream?ns=dev&path=a&page_id=0").json == {
        "page_id": 0,
        "off": 0,
        "len": 5,
        "crc32c": 9,
        "tier": "l2",
        "bytes_fetched": 5,
    }
    problem(client.get("/test_stream?ns=dev&path=a"), 400, "bad-request")


def test_closing_closes_the_plane(plane: MemoryPlane) -> None:
    Application(cast("DataPlane", plane), Config()).close(12.5)
    assert plane.closed_within == 12.5
