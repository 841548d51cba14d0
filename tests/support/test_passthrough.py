"""The pass-through itself: transparent unless told otherwise, and exact where it is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from seekfs_core.errors import FailureKind
from seekfs_io.objects.base import ObjectReader, ObjectStore, StoreError
from tests.conftest import S3ConfigFactory, StoreFactory
from tests.support import passthrough as passthrough_module
from tests.support.objects import listed
from tests.support.passthrough import Answer, Match, PassThrough, Plan

MIB = 1 << 20
CONTENT = bytes(range(256)) * (3 * MIB // 256)


@pytest.fixture
def key(store: ObjectStore, ns: str) -> str:
    name = f"{ns}/an object +%☃"
    store.put(name, CONTENT)
    return name


@pytest.fixture
def through(passthrough: PassThrough, open_s3: StoreFactory) -> ObjectStore:
    return open_s3(endpoint=passthrough.endpoint, read_timeout_sec=30)


def read_all(reader: ObjectReader) -> bytes:
    content = bytearray()
    view = memoryview(bytearray(MIB))
    with reader:
        while count := reader.readinto(view):
            content += view[:count]
    return bytes(content)


def failure(reader: ObjectReader) -> FailureKind:
    with pytest.raises(StoreError) as caught:
        read_all(reader)
    return caught.value.failure.kind


def test_it_is_transparent_and_records(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    assert read_all(through.get(key)) == CONTENT
    assert read_all(through.get(key, start=5, stop=MIB + 5)) == CONTENT[5 : MIB + 5]
    assert through.head(key).size == len(CONTENT)
    through.put(f"{key}2", CONTENT)
    assert [each.key for each in listed(through, key)] == [key, f"{key}2"]
    seen = [
        (each.method, each.key, each.range, each.status, each.bytes_sent)
        for each in passthrough.exchanges[:4]
    ]
    assert seen == [
        ("GET", key, None, 200, len(CONTENT)),
        ("GET", key, (5, MIB + 5), 206, MIB),
        ("HEAD", key, None, 200, 0),
        ("PUT", f"{key}2", None, 200, 0),
    ]
    assert passthrough.exchanges[3].body_bytes_received == len(CONTENT)
    assert passthrough.exchanges[3].body_start == CONTENT[:64]
    assert passthrough.exchanges[4].query["prefix"] == key
    assert len(passthrough.gets()) == 2
    passthrough.wait_until(lambda: {each.outcome for each in passthrough.exchanges} == {"done"})
    passthrough.forget()
    assert passthrough.exchanges == []


def test_a_body_is_held_at_a_byte(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    gates = [threading.Event(), threading.Event()]
    passthrough.when(Match(key=key), Plan(hold_body=((0, gates[0]), (MIB, gates[1]))), times=1)
    with through.get(key) as reader:
        passthrough.wait_until(lambda: passthrough.exchanges[0].status == 200)
        assert passthrough.exchanges[0].bytes_sent == 0
        gates[0].set()
        view = memoryview(bytearray(MIB))
        passthrough.wait_until(lambda: passthrough.exchanges[0].bytes_sent == MIB)
        assert reader.readinto(view) == MIB
        assert view == CONTENT[:MIB]
        gates[1].set()
        assert read_all(reader) == CONTENT[MIB:]
    assert read_all(through.get(key)) == CONTENT


@pytest.mark.parametrize("where", ["request", "head"])
def test_an_exchange_is_held_before_its_answer(
    passthrough: PassThrough, through: ObjectStore, key: str, where: str
) -> None:
    gate = threading.Event()
    passthrough.when(Match(key=key), Plan(hold_request=gate) if where == "request" else Plan(hold_head=gate))
    results: list[bytes] = []
    thread = threading.Thread(target=lambda: results.append(read_all(through.get(key))))
    thread.start()
    passthrough.wait_until(lambda: len(passthrough.exchanges) == 1)
    assert passthrough.exchanges[0].status is None
    gate.set()
    thread.join()
    assert results == [CONTENT]


def test_bytes_are_flipped_where_the_object_has_them(
    passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    passthrough.when(Match(method="GET", covers=MIB + 7), Plan(flip=(MIB + 7, 2 * MIB)))
    wrong = bytearray(CONTENT)
    for offset in (MIB + 7, 2 * MIB):
        wrong[offset] ^= 0xFF
    assert read_all(through.get(key)) == wrong
    assert read_all(through.get(key, start=MIB, stop=2 * MIB)) == wrong[MIB : 2 * MIB]
    assert read_all(through.get(key, start=2 * MIB, stop=3 * MIB)) == CONTENT[2 * MIB :]


def test_a_body_is_cut(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    passthrough.when(Match(key=key), Plan(cut_body_at=MIB + 1), times=1)
    assert failure(through.get(key)) is FailureKind.CUT_SHORT
    assert (passthrough.exchanges[0].bytes_sent, passthrough.exchanges[0].outcome) == (MIB + 1, "cut")
    assert read_all(through.get(key)) == CONTENT


def test_it_answers_by_itself(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    passthrough.when(Match(), Plan(answer=Answer.error(503, "SlowDown", Retry_After="7")), times=1)
    with pytest.raises(StoreError) as caught:
        through.get(key)
    failed = caught.value.failure
    assert (failed.kind, failed.code, failed.retry_after_seconds) == (FailureKind.BUSY, "SlowDown", 7.0)
    assert through.head(key).size == len(CONTENT)
    assert [each.status for each in passthrough.exchanges] == [503, 200]


def test_a_connection_is_dropped_before_or_after_the_work(
    passthrough: PassThrough, through: ObjectStore, store: ObjectStore, ns: str
) -> None:
    passthrough.when(Match(method="PUT", key=f"{ns}/before"), Plan(drop="request"))
    passthrough.when(Match(method="PUT", key=f"{ns}/after"), Plan(drop="answer"))
    for name in ("before", "after"):
        with pytest.raises(StoreError) as caught:
            through.put(f"{ns}/{name}", b"bytes")
        assert caught.value.failure.kind is FailureKind.UNREACHABLE
    assert [each.key for each in listed(store, ns)] == [f"{ns}/after"]


def test_heads_are_changed(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    plan = Plan(change_head=lambda head: head.with_header("Content-Range", "bytes 0-9/100"))
    passthrough.when(Match(), plan, times=1)
    assert_bad = pytest.raises(StoreError, match="Content-Range 'bytes 0-9/100'")
    with assert_bad:
        through.get(key, start=10, stop=20)


def test_a_client_that_leaves_is_recorded(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    gate = threading.Event()
    passthrough.when(Match(), Plan(hold_body=((MIB, gate),)))
    with through.get(key) as reader:
        reader.readinto(memoryview(bytearray(10)))
    gate.set()
    passthrough.wait_until(lambda: passthrough.exchanges[0].outcome == "client left")


def test_down_refuses_and_up_serves_again(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    never = threading.Event()
    passthrough.when(Match(), Plan(hold_body=((MIB, never),)), times=1)
    reader = through.get(key)
    passthrough.down()
    assert failure(reader) is FailureKind.CUT_SHORT
    with pytest.raises(StoreError) as caught:
        through.head(key)
    assert caught.value.failure.kind is FailureKind.UNREACHABLE
    passthrough.up()
    assert read_all(through.get(key)) == CONTENT


def test_what_would_be_held_when_it_is_down_already_is_not(
    passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    """The thread of an exchange may come to where it is held after those that are were let go of."""
    assert read_all(through.get(key)) == CONTENT
    (exchange,) = passthrough.gets(key=key)
    passthrough.down()
    with pytest.raises(passthrough_module._Closed):
        passthrough._hold(exchange, threading.Event())
    assert not exchange.is_held


@pytest.fixture
def chunked_upstream() -> Iterator[int]:
    """A server that answers one request with a chunked body."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while b"\r\n\r\n" not in connection.recv(65536):
                    pass
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
                connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_chunked_bodies_pass(chunked_upstream: int, s3_config: S3ConfigFactory) -> None:
    with PassThrough("127.0.0.1", chunked_upstream) as front:
        with socket.create_connection(("127.0.0.1", front.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                got += client.recv(65536)
        assert got.endswith(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        front.wait_until(lambda: front.exchanges[0].bytes_sent == 5)


def test_requests_at_one_time_are_counted(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    for _ in range(3):
        read_all(through.get(key))
    assert passthrough.under_way_max == 1
    meeting = threading.Barrier(3)
    passthrough.when(Match(method="GET"), Plan(meanwhile=meeting.wait))
    readers = [threading.Thread(target=lambda: read_all(through.get(key))) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert passthrough.under_way_max == 3
    passthrough.forget()
    assert passthrough.under_way_max == 0
    # One that is broken off may be given up unseen, and does not count.
    passthrough.when(Match(method="GET"), Plan(cut_body_at=5))
    assert failure(through.get(key)) is FailureKind.CUT_SHORT
    assert passthrough.under_way_max == 0
    assert [each.status for each in passthrough.take_exchanges()] == [200]
    assert passthrough.exchanges == []
