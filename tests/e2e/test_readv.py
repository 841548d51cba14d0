"""``/readv`` against the contract, on a real store under real gunicorn (issue row 4)."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from random import Random
from typing import Any, Final

import pytest

from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.e2e.conftest import DaemonFactory
from tests.e2e.http_wire import Answer, Wire, exchange, read_framed_items, read_frames
from tests.support.daemon import Daemon, s3_settings
from tests.support.dataset import MIB, File, some_bytes, write_dataset

Item = tuple[str, int, int]

PAGE: Final = 64 * 1024
NS: Final = "readv"
FRAMES: Final = "application/x-seekfs-frames"
FILES: Final = {
    "small-pages": File(some_bytes(PAGE * 20 + 77, 1), PAGE),
    "large-pages": File(some_bytes(20 * MIB + 5, 2), 8 * MIB),
    "one": File(b"x", PAGE),
    "empty": File(b""),
    "☃ +%": File(b"snow", PAGE),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, s3_config: S3ConfigFactory) -> Iterator[Daemon]:
    bucket = "readv-contract"
    store = open_store(s3_config(bucket=bucket))
    assert store.create_bucket()
    write_dataset(store, NS, {"one": File(b"old", PAGE, key="old/one")}, version=1)
    write_dataset(store, NS, FILES, version=2)
    store.close()
    limits = {"api.readv_max_mib": 64, "api.request_max_mib": 5}
    with Daemon(
        tmp_path_factory.mktemp("readv"), {**s3_settings(s3_config(bucket=bucket)), **limits}
    ) as running:
        yield running


@pytest.fixture
def wire(daemon: Daemon) -> Iterator[Wire]:
    """A connection that must be in step at the end of the test too."""
    with Wire(daemon.port) as wire:
        yield wire
        assert wire.get("/healthz").body == b"ok"


def body_of(items: list[Item]) -> bytes:
    return json.dumps([{"path": path, "off": off, "len": length} for path, off, length in items]).encode()


def bytes_of(item: Item) -> bytes:
    path, off, length = item
    return FILES[path].data[off : off + length]


def plain(wire: Wire, items: list[Item], query: str = f"ns={NS}") -> Answer:
    return wire.post(f"/readv?{query}", body_of(items))


def framed(wire: Wire, items: list[Item]) -> list[bytes | dict[str, Any]]:
    answer = wire.post(f"/readv?ns={NS}", body_of(items), Accept=FRAMES)
    assert answer.status == 200
    assert answer.headers["content-type"] == FRAMES
    assert "content-length" not in answer.headers
    return read_framed_items(answer.body)


IN_ORDER: Final[list[Item]] = [
    # Paths interleaved and repeated, offsets going back and forth, zero lengths between, ranges over
    # page ends, up to file ends, and at them.
    ("small-pages", PAGE - 3, 6),
    ("large-pages", 8 * MIB - 1, 2),
    ("one", 0, 1),
    ("small-pages", 0, 10),
    ("empty", 0, 0),
    ("small-pages", PAGE - 3, 6),
    ("large-pages", 16 * MIB - 100, 4 * MIB + 105),
    ("one", 1, 0),
    ("small-pages", PAGE * 20 + 77, 0),
    ("small-pages", PAGE * 20, 77),
    ("☃ +%", 1, 2),
    ("large-pages", 0, 20 * MIB + 5),
    ("small-pages", 5, 3 * PAGE),
    ("one", 0, 1),
    ("large-pages", 1, 1),
]


def test_plain_ranges_come_in_request_order(wire: Wire) -> None:
    answer = plain(wire, IN_ORDER)
    assert answer.status == 200
    assert answer.body == b"".join(map(bytes_of, IN_ORDER))
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-seekfs-version"] == "2"


def test_framed_ranges_come_in_request_order(wire: Wire) -> None:
    assert framed(wire, IN_ORDER) == list(map(bytes_of, IN_ORDER))


def test_any_batch_against_slices_of_the_files(wire: Wire) -> None:
    chance = Random(3)
    for _ in range(15):
        items: list[Item] = []
        for _ in range(chance.choice([1, 2, 60, 300])):
            path = chance.choice(list(FILES))
            size = len(FILES[path].data)
            off = chance.choice([0, size, chance.randint(0, size), min(size, PAGE), min(size, 8 * MIB)])
            items.append(
                (path, off, chance.choice([0, size - off, min(size - off, chance.randint(0, 200_000))]))
            )
        items = [(path, off, min(length, 2 * MIB)) for path, off, length in items][:30]
        assert plain(wire, items).body == b"".join(map(bytes_of, items))
        assert framed(wire, items) == list(map(bytes_of, items))


def test_a_frame_holds_at_most_one_page_and_the_last_says_so(wire: Wire) -> None:
    items: list[Item] = [("small-pages", 10, 3 * PAGE), ("large-pages", 0, 20 * MIB + 5), ("empty", 0, 0)]
    frames = list(read_frames(wire.post(f"/readv?ns={NS}", body_of(items), Accept=FRAMES).body))
    small = [(status, len(payload)) for status, payload in frames[:4]]
    assert small == [(206, PAGE - 10), (206, PAGE), (206, PAGE), (200, 10)]
    assert frames[-1] == (200, b"")
    large = frames[4:-1]
    assert [status for status, _ in large] == [206] * (len(large) - 1) + [200]
    assert max(len(payload) for _, payload in large) <= 8 * MIB
    assert b"".join(payload for _, payload in large) == FILES["large-pages"].data


def test_ranges_are_cut_at_the_end_of_file_in_frames(wire: Wire) -> None:
    items: list[Item] = [("one", 0, 10), ("one", 1, 10), ("empty", 0, 5), ("small-pages", PAGE * 20, PAGE)]
    assert framed(wire, items) == [b"x", b"", b"", FILES["small-pages"].data[PAGE * 20 :]]


def test_bad_items_among_good_ones_in_frames(wire: Wire) -> None:
    items: list[Item] = [
        ("one", 0, 1), ("none", 0, 1), ("large-pages", 0, 9 * MIB),
        ("one", 2, 1), ("../x", 0, 1), ("one", 0, 1),
    ]  # fmt: skip
    got = framed(wire, items)
    assert [got[0], got[2], got[5]] == [b"x", FILES["large-pages"].data[: 9 * MIB], b"x"]
    bad = {index: problem for index, problem in enumerate(got) if isinstance(problem, dict)}
    assert {index: problem["status"] for index, problem in bad.items()} == {1: 404, 3: 416, 4: 400}
    assert all(problem["item"] == index for index, problem in bad.items())
    assert bad[3]["size"] == 1
    assert len({problem["request_id"] for problem in bad.values()}) == 1


def test_a_bad_item_fails_a_plain_batch_naming_index_and_size(wire: Wire) -> None:
    document = plain(wire, [("one", 0, 1), ("one", 0, 2)]).problem(416, "range-not-satisfiable")
    assert (document["item"], document["size"]) == (1, 1)
    assert plain(wire, [("one", 0, 1), ("none", 0, 1)]).problem(404, "no-such-file")["item"] == 1
    assert plain(wire, [("one", 0, 1), ("a//b", 0, 1)]).problem(400, "invalid-name")["item"] == 1
    assert plain(wire, [("empty", 0, 1)]).problem(416, "range-not-satisfiable")["size"] == 0


@pytest.mark.parametrize(
    ("body", "item"),
    [
        (b'[{"path":"one","off":0,"len":1},{"path":"one","off":0,"len":1,"off":0}]', 1),
        (b'[{"path":"one","off":0.0,"len":1}]', 0),
        (b'[{"path":"one","off":-1,"len":1}]', 0),
        (b'[{"path":"one","off":"0","len":1}]', 0),
        (b'[{"path":"one","off":0}]', 0),
        (b'[{"path":"one","off":0,"len":1,"hash":"x"}]', 0),
        (b'[{"path":"one","off":0,"len":9223372036854775808}]', 0),
        (b'[{"path":"\xff","off":0,"len":1}]', 0),
        (b"[[" + b"[" * 100_000, 0),
        (b"[" * 100_000, 0),
        (b"[]", None),
        (b"", None),
        (b"{}", None),
        (b"[{]", None),
    ],
    ids=lambda value: repr(value)[:40],
)
@pytest.mark.parametrize("accept", ["*/*", FRAMES])
def test_a_malformed_batch_is_400_naming_the_item(
    wire: Wire, body: bytes, item: int | None, accept: str
) -> None:
    document = wire.post(f"/readv?ns={NS}", body, Accept=accept).problem(400, "bad-request")
    assert document.get("item") == item


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "ns"),
        (f"ns={NS}&ns={NS}", "ns"),
        (f"ns={NS}&path=one", "path"),
        (f"ns={NS}&version=x", "version"),
    ],
)
def test_a_malformed_query_is_400_naming_the_parameter(wire: Wire, query: str, named: str) -> None:
    assert plain(wire, [("one", 0, 1)], query).problem(400, "bad-request")["parameter"] == named


def test_version(wire: Wire) -> None:
    assert plain(wire, [("one", 0, 3)], f"ns={NS}&version=1").body == b"old"
    assert plain(wire, [("one", 0, 1)], f"ns={NS}&version=2").body == b"x"
    plain(wire, [("one", 0, 1)], f"ns={NS}&version=3").problem(404, "no-such-version")
    plain(wire, [("one", 0, 1)], "ns=none").problem(404, "no-such-namespace")


def test_65536_items_pass(wire: Wire) -> None:
    size = len(FILES["small-pages"].data)
    items: list[Item] = [("small-pages", index * 7919 % size, index % 3) for index in range(65_536)]
    items = [(path, min(off, size - 2), length) for path, off, length in items]
    expected = [bytes_of(item) for item in items]
    assert plain(wire, items).body == b"".join(expected)
    assert framed(wire, items) == expected


def test_65537_items_are_refused(wire: Wire) -> None:
    document = plain(wire, [("one", 0, 1)] * 65_537).problem(413, "too-large")
    assert "65537" in document["detail"]
    wire.post(f"/readv?ns={NS}", body_of([("one", 0, 1)] * 65_537), Accept=FRAMES).problem(413, "too-large")


def test_the_sum_of_lengths_is_limited(wire: Wire) -> None:
    assert plain(wire, [("large-pages", 0, 16 * MIB)] * 4).status == 200
    items: list[Item] = [("large-pages", 0, 16 * MIB)] * 4 + [("one", 0, 1)]
    plain(wire, items).problem(413, "too-large")
    wire.post(f"/readv?ns={NS}", body_of(items), Accept=FRAMES).problem(413, "too-large")


def test_the_body_is_limited_with_a_length_and_in_chunks(daemon: Daemon) -> None:
    padding = b" " * (5 * MIB - len(body_of([("one", 0, 1)])))
    fits = body_of([("one", 0, 1)]) + padding
    target = f"/readv?ns={NS}"
    with Wire(daemon.port) as wire:
        assert wire.post(target, fits).body == b"x"
        assert wire.post(target, iter([fits[:100], fits[100 : 2 * MIB], fits[2 * MIB :]])).body == b"x"
    for body in (fits + b" ", iter([fits, b" "]), fits * 3, iter([fits] * 3)):
        with Wire(daemon.port) as wire:
            wire.post(target, body).problem(413, "too-large")


def test_a_body_that_says_expect(wire: Wire) -> None:
    answer = wire.post(f"/readv?ns={NS}", body_of([("one", 0, 1)]), Expect="100-continue")
    assert answer.body == b"x"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Content-Length: 50\r\n\r\n[{", 400),
        (b"Content-Length: x\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]xx", 400),
        (b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n[]", 415),
    ],
)
def test_a_body_that_is_broken_is_answered(daemon: Daemon, sent: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=60) as connection:
        connection.sendall(f"POST /readv?ns={NS} HTTP/1.1\r\nHost: x\r\n".encode() + sent)
        connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == status
        assert response.getheader("Content-Type") == "application/problem+json"
        assert len(json.loads(response.read())["request_id"]) == 16


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_other_methods_are_405(wire: Wire, method: str) -> None:
    answer = wire.ask(method, f"/readv?ns={NS}")
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


# -- pages that are wrong in the store -----------------------------------------------------------------


@pytest.fixture
def damaged(store: ObjectStore, ns: str, start_daemon: DaemonFactory) -> tuple[Daemon, bytes]:
    """A daemon whose files ``bad`` and ``good`` should be the same, page 6 of ``bad`` being wrong."""
    data = some_bytes(10 * PAGE, 5)
    write_dataset(store, ns, {"bad": File(data, PAGE), "good": File(data, PAGE)})
    at = 6 * PAGE + 11
    store.put(f"namespaces/{ns}/files/bad", data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    return start_daemon(), data


def test_a_failed_item_voids_its_frames_and_no_other(damaged: tuple[Daemon, bytes], ns: str) -> None:
    daemon, data = damaged
    whole = len(data)
    items: list[Item] = [
        ("good", 0, whole), ("bad", 0, whole), ("good", 5, 100),
        ("bad", 6 * PAGE, 1), ("bad", 7 * PAGE, 3 * PAGE),
    ]  # fmt: skip
    with Wire(daemon.port) as wire:
        answer = wire.post(f"/readv?ns={ns}", body_of(items), Accept=FRAMES)
        assert answer.status == 200
        got: list[Any] = read_framed_items(answer.body)
        assert wire.get("/healthz").body == b"ok"
    assert got[0] == data
    assert got[2] == data[5:105]
    assert got[4] == data[7 * PAGE :]
    for index in (1, 3):
        assert got[index]["status"] == 502
        assert got[index]["item"] == index
        assert got[index]["page_id"] == 6
        assert got[index]["request_id"] == answer.headers["x-request-id"]


def test_a_plain_batch_is_cut_off_after_its_last_good_bytes(damaged: tuple[Daemon, bytes], ns: str) -> None:
    daemon, data = damaged
    body = body_of([("good", 0, len(data)), ("bad", 0, len(data)), ("good", 0, len(data))])
    head = f"POST /readv?ns={ns} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    answered, _, received = exchange(daemon.port, head.encode() + body).partition(b"\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert f"content-length: {3 * len(data)}".encode() in answered.lower()
    assert received == data + data[: 6 * PAGE]


def test_a_batch_that_fails_before_its_first_byte_is_a_status(damaged: tuple[Daemon, bytes], ns: str) -> None:
    daemon, _ = damaged
    with Wire(daemon.port) as wire:
        document = wire.post(f"/readv?ns={ns}", body_of([("bad", 6 * PAGE, 10), ("good", 0, 10)]))
        assert document.problem(502, "page-corrupt")["page_id"] == 6
        # Small ranges are joined before anything goes out, so this one is known in time too.
        late = wire.post(f"/readv?ns={ns}", body_of([("good", 0, 10), ("bad", 6 * PAGE, 10)]))
        late.problem(502, "page-corrupt")
