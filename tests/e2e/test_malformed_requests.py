"""Requests that are malformed, on a real socket to the real daemon in front of a real store.

Each gets one 4xx problem document that says what is wrong, also where gunicorn's own parser refuses; its
connection is closed, or in step for the next request. Clients that stop, leave or dawdle anywhere in one harm
nobody. Afterwards the daemon is as it was.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.conftest import S3ConfigFactory
from tests.e2e.http_wire import Answer, RawWire
from tests.e2e.unharmed import check_well, unharmed, write_versions
from tests.support.daemon import Daemon
from tests.support.malformed.base import (
    BATCH,
    BATCH_DATA,
    NS,
    Malformed,
    Odd,
    blob,
    chunk,
    chunked,
    get,
    post,
    request,
)
from tests.support.malformed.bodies import BODIES
from tests.support.malformed.heads import HEADS
from tests.support.malformed.queries import QUERIES
from tests.support.malformed.right import RIGHT
from tests.support.waiting import wait_until

MALFORMED: Final = (*QUERIES, *HEADS, *BODIES)
MALFORMED_MIN: Final = 300


@pytest.fixture(scope="module")
def settings(s3_config: S3ConfigFactory) -> dict[str, object]:
    return write_versions(s3_config(bucket="malformed-requests"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]) -> Iterator[Daemon]:
    with unharmed(tmp_path_factory.mktemp("malformed"), settings) as daemon:
        yield daemon


GOOD: Final = blob("&off=3&len=4")
GOOD_DATA: Final = b"3456"


def check_in_step(wire: RawWire, last: Answer) -> None:
    """Nothing is behind the last answer, and the connection is what that said of it."""
    if last.headers["connection"] == "close":
        assert wire.has_ended()
        return
    assert last.headers["connection"] == "keep-alive"
    wire.send(GOOD)
    answer = wire.answer()
    assert (answer.status, answer.body) == (200, GOOD_DATA)
    assert answer.headers["connection"] == "keep-alive"


def check_logged(daemon: Daemon, request_id: str) -> None:
    """Once, and it may come a moment after the answer."""
    wait_until(lambda: request_id in daemon.log, "the log has it")
    assert daemon.log.count(request_id) == 1


def check_refused(answer: Answer, malformed: Malformed) -> None:
    if malformed.is_head:
        assert answer.status == malformed.status
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["content-length"]) > 100
        return
    document = answer.problem(malformed.status)
    assert malformed.said in document["detail"]
    assert len(document["detail"]) < 1000
    assert malformed.parameter in (None, document.get("parameter"))
    assert malformed.item in (None, document.get("item"))
    if malformed.status == 405:
        assert answer.headers["allow"]


def test_there_are_enough_of_them_and_no_two_are_the_same() -> None:
    assert len(MALFORMED) >= MALFORMED_MIN
    for what in ("name", "sent"):
        counts = Counter(getattr(each, what) for each in MALFORMED)
        assert [each for each, count in counts.items() if count > 1] == []
    assert all(400 <= each.status < 500 for each in MALFORMED)


@pytest.mark.parametrize("before", [b"", GOOD], ids=["alone", "behind another"])
@pytest.mark.parametrize("malformed", MALFORMED, ids=str)
def test_it_is_refused_with_what_is_wrong_and_nothing_is_out_of_step(
    malformed: Malformed, before: bytes, daemon: Daemon
) -> None:
    with RawWire.to(daemon.port) as wire:
        wire.send(before + malformed.sent)
        if before:
            assert wire.answer().body == GOOD_DATA
        answer = last = wire.answer(is_head=malformed.is_head)
        check_refused(answer, malformed)
        if malformed.next_status is not None:
            last = wire.answer()
            last.problem(malformed.next_status)
        check_in_step(wire, last)
    check_logged(daemon, answer.headers["x-request-id"])


@pytest.mark.parametrize("odd", RIGHT, ids=str)
def test_what_only_looks_wrong_is_answered(odd: Odd, daemon: Daemon) -> None:
    with RawWire.to(daemon.port) as wire:
        wire.send(odd.sent)
        answer = wire.answer(is_head=odd.is_head)
        assert (answer.status, answer.body) == (odd.status, odd.body)
        check_in_step(wire, answer)


# -- clients that are slow, or leave -----------------------------------------------------------------------

IN_CHUNKS: Final = chunk(BATCH[:9]) + b"%x;a=b\r\n" % len(BATCH[9:]) + BATCH[9:] + b"\r\n0\r\nA: b\r\n\r\n"
PADDED: Final = BATCH + b" " * 70_000
SMALL: Final = {
    "GET": (blob("&off=1&len=2"), BATCH_DATA),
    "HEAD": (request("HEAD", f"/blob?ns={NS}&path=ten"), b""),
    "a batch": (post(BATCH), BATCH_DATA),
    "a batch in chunks": (chunked(IN_CHUNKS), BATCH_DATA),
    "a batch that is asked for": (post(BATCH, "Expect: 100-continue"), BATCH_DATA),
    "chunks that nobody reads": (get("/healthz", "Transfer-Encoding: chunked") + IN_CHUNKS, b"ok"),
}
LARGE: Final = {
    "a large batch": (post(PADDED), BATCH_DATA),
    "a large batch in chunks": (chunked(chunk(PADDED) + b"0\r\nA: b\r\n\r\n"), BATCH_DATA),
}
WHOLE: Final = {**SMALL, **LARGE}


def cuts(name: str) -> list[bytes]:
    """Beginnings of a request, none of them whole: of a small one all, of a large one some, and its last."""
    sent, _ = WHOLE[name]
    stops = (
        range(1, len(sent))
        if name in SMALL
        else [*range(200, len(sent), 6007), *range(len(sent) - 12, len(sent))]
    )
    return [sent[:stop] for stop in stops]


@pytest.mark.parametrize("name", WHOLE)
def test_a_client_that_ends_anywhere_is_told(name: str, daemon: Daemon) -> None:
    for sent in cuts(name):
        with RawWire.to(daemon.port) as wire:
            wire.send(sent)
            wire.end()
            is_head = sent.startswith(b"HEAD ")
            answer = wire.answer(is_head=is_head)
            assert answer.headers["connection"] == "close"
            if is_head:
                assert answer.status == 400
            else:
                assert "ended" in answer.problem(400)["detail"], sent[-40:]
            assert wire.has_ended()


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves_anywhere_is_no_error(name: str, is_reset: bool, daemon: Daemon) -> None:
    for sent in [*cuts(name), WHOLE[name][0]]:
        with RawWire.to(daemon.port) as wire:
            wire.send(sent)
            if is_reset:
                wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    check_well(daemon)


@pytest.mark.parametrize("name", WHOLE)
def test_a_client_that_sends_a_little_at_a_time_is_answered(name: str, daemon: Daemon) -> None:
    sent, body = WHOLE[name]
    step = 1 if name in SMALL else 7
    with RawWire.to(daemon.port) as wire:
        for _ in range(3):
            for start in range(0, len(sent), step):
                wire.send(sent[start : start + step])
            answer = wire.answer(is_head=name == "HEAD")
            assert (answer.status, answer.body) == (200, body)
            check_in_step(wire, answer)


def test_clients_that_stop_anywhere_are_told_and_keep_nobody_waiting(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, object]
) -> None:
    """All of them at once, on two threads, and each leaves its side open."""
    quick = {"api.send_timeout_sec": 1, "api.request_deadline_sec": 2}
    directory = tmp_path_factory.mktemp("strict")
    with (
        unharmed(directory, {**settings, **quick}, "--threads=2") as strict,
        contextlib.ExitStack() as stack,
    ):
        stuck = []
        for name in WHOLE:
            every = cuts(name)
            for sent in every[:: max(1, len(every) // 12)]:
                wire = stack.enter_context(RawWire.to(strict.port))
                wire.send(sent)
                stuck.append((sent, wire))
        check_well(strict)
        for sent, wire in stuck:
            answer = wire.answer(is_head=sent.startswith(b"HEAD "))
            assert answer.status == 408, sent[-40:]
            assert answer.headers["connection"] == "close"
            assert wire.has_ended()
