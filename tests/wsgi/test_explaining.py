"""``?explain=1`` and ``/slow`` over a plane in memory."""

from __future__ import annotations

import json
from typing import cast

import pytest
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import Client, TestResponse

from seekfs_core.errors import StoreUnavailable
from seekfs_core.explain import EXPLAINED_MAX
from seekfs_io.config import Config
from seekfs_io.dataplane import DataPlane
from seekfs_wsgi.app import Application
from tests.wsgi.memory_plane import PAGE_BYTES, MemoryPlane

ITEMS = [{"path": "a", "off": 0, "len": 5}, {"path": "b", "off": PAGE_BYTES, "len": 2 * PAGE_BYTES}]


@pytest.fixture
def plane() -> MemoryPlane:
    return MemoryPlane({"a": b"0123456789", "b": bytes(5 * PAGE_BYTES), "empty": b""})


@pytest.fixture
def client(plane: MemoryPlane) -> Client:
    return Client(LintMiddleware(Application(cast("DataPlane", plane), Config())))


def pages_of(answer: TestResponse) -> list[tuple[str, int]]:
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Seekfs-Version"] == "7"
    assert answer.json is not None
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    return [(each["path"], each["page_id"]) for each in answer.json["pages"]]


def test_a_blob_is_read_and_told_of_instead(client: Client, plane: MemoryPlane) -> None:
    target = f"/blob?ns=dev&path=b&off=1&len={2 * PAGE_BYTES}"
    assert pages_of(client.get(f"{target}&explain=1")) == [("b", 0), ("b", 1), ("b", 2)]
    assert pages_of(client.get(f"{target}&explain=1", headers={"Range": "bytes=0-0"})) == [("b", 0)]
    assert pages_of(client.get("/blob?ns=dev&path=empty&explain=1")) == []
    assert [stream.closed for stream in plane.streams] == [1, 1, 1]
    assert plane.streams[0].notes.noted_max == EXPLAINED_MAX
    assert client.get(f"{target}&explain=0").data == bytes(2 * PAGE_BYTES)


def test_a_batch_is_read_and_told_of_instead(client: Client, plane: MemoryPlane) -> None:
    for headers in ({}, {"Accept": "application/x-seekfs-frames"}):
        answer = client.post("/readv?ns=dev&explain=1", data=json.dumps(ITEMS), headers=headers)
        assert pages_of(answer) == [("a", 0), ("b", 1), ("b", 2)]
    assert [stream.closed for stream in plane.streams] == [1, 1]


def test_a_read_that_fails_is_explained_all_the_same_and_a_framed_batch_goes_on(
    client: Client, plane: MemoryPlane
) -> None:
    plane.fails_after_pages, plane.failure = 1, StoreUnavailable("down")
    answer = client.get("/blob?ns=dev&path=b&explain=1")
    assert pages_of(answer) == [("b", 0)]
    assert answer.json is not None
    assert [each["status"] for each in answer.json["failed"]] == [503]
    items = json.dumps([*ITEMS, ITEMS[1]])
    for headers, count in (({}, 1), ({"Accept": "application/x-seekfs-frames"}, 2)):
        answer = client.post("/readv?ns=dev&explain=1", data=items, headers=headers)
        assert answer.json is not None
        assert len(answer.json["failed"]) == count


def test_what_is_refused_before_a_read_is_refused_here_too(client: Client, plane: MemoryPlane) -> None:
    assert client.get("/blob?ns=dev&path=b&explain=yes").status_code == 400
    assert client.get("/blob?ns=dev&path=none&explain=1").status_code == 404
    assert client.get("/blob?ns=dev&path=a&off=11&explain=1").status_code == 416
    assert client.post("/readv?ns=dev&explain=2", data=json.dumps(ITEMS)).status_code == 400
    assert plane.streams == []


def test_head_answers_as_it_would_without(client: Client, plane: MemoryPlane) -> None:
    answer = client.head("/blob?ns=dev&path=b&explain=1")
    assert answer.headers["Content-Length"] == str(5 * PAGE_BYTES)
    assert plane.streams == []


def test_reads_have_the_ids_of_their_requests(client: Client, plane: MemoryPlane) -> None:
    blob = client.get("/blob?ns=dev&path=a")
    batch = client.post("/readv?ns=dev", data=json.dumps(ITEMS))
    framed = client.post(
        "/readv?ns=dev", data=json.dumps(ITEMS), headers={"Accept": "application/x-seekfs-frames"}
    )
    assert [stream.notes.label for stream in plane.streams] == [
        answer.headers["X-Request-Id"] for answer in (blob, batch, framed)
    ]


def test_slow_reads_are_told_as_the_plane_has_them(client: Client) -> None:
    answer = client.get("/slow")
    assert answer.json == {"slowest": [{"request_id": "1"}], "failed": []}
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.get("/slow?x=1").status_code == 400
    assert client.post("/slow").status_code == 405
