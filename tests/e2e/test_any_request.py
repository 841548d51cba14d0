"""20,000 requests that Hypothesis makes from good ones, to the real daemon in front of a real store.

What is answered to a ``/blob`` or a ``/readv`` is what a model says that shares no code with seekfs. Of what
else can be sent, down to single bytes: every answer is well-formed, none is a 5xx, and none is out of step.

They are the same requests every time: nothing is drawn from the clock or an earlier run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import S3ConfigFactory
from tests.e2e.http_wire import Answer, RawWire, read_framed_items
from tests.e2e.unharmed import unharmed, write_versions
from tests.support.any_request import Asked, batches, blobs, headed, spoilt
from tests.support.daemon import Daemon

AT_ONCE: Final = 10
"""Requests of one example, each on a connection of its own, so that the daemon has several at a time."""

BLOBS: Final = 9_000
BATCHES: Final = 5_000
SPOILT: Final = 4_000
HEADED: Final = 2_000


Request = TypeVar("Request")


def examples(requests_count: int) -> settings:
    return settings(
        max_examples=requests_count // AT_ONCE,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # Nothing is made smaller: a failure names the one request that it is about.
        phases=(Phase.generate,),
    )


def several(requests: st.SearchStrategy[Request]) -> st.SearchStrategy[list[Request]]:
    return st.lists(requests, min_size=AT_ONCE, max_size=AT_ONCE)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, s3_config: S3ConfigFactory) -> Iterator[Daemon]:
    with unharmed(tmp_path_factory.mktemp("any"), write_versions(s3_config(bucket="any-request"))) as daemon:
        yield daemon


class Wires:
    """As many connections as there are requests at once, kept for as long as the daemon keeps them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wires: list[RawWire] = []
        self.asked_count = 0

    def ask(self, requests: Sequence[Asked]) -> None:
        """What one answer leaves behind is taken for the next one's, and found to be none."""
        self._wires += [RawWire.to(self._port) for _ in range(len(requests) - len(self._wires))]
        try:
            for wire, asked in zip(self._wires, requests, strict=True):
                wire.send(asked.sent)
            self._wires = [
                kept
                for wire, asked in zip(self._wires, requests, strict=True)
                if (kept := answered(wire, asked)) is not None
            ]
        except BaseException:
            # They are of no use to the next example.
            self.close()
            raise
        self.asked_count += len(requests)

    def close(self) -> None:
        while self._wires:
            self._wires.pop().close()


def answered(wire: RawWire, asked: Asked) -> RawWire | None:
    """The connection, where another request can follow."""
    answer = wire.answer(is_head=asked.is_head)
    check_as_expected(answer, asked)
    if answer.headers["connection"] == "keep-alive":
        return wire
    assert answer.headers["connection"] == "close"
    assert wire.has_ended()
    wire.close()
    return None


def check_as_expected(answer: Answer, asked: Asked) -> None:
    expected = asked.expected
    assert answer.status == expected.status, (asked, answer)
    assert answer.headers.items() >= expected.headers.items(), (asked, answer)
    if answer.status >= 400:
        document = check_no_5xx(answer)
        # What answers a HEAD names nothing, and no batch is one.
        assert not expected.items or document["item"] in expected.items, (asked, document)
    elif expected.frames is not None:
        frames = read_framed_items(answer.body)
        got = [frame if isinstance(frame, bytes) else frame["status"] for frame in frames]
        assert got == expected.frames, asked
    else:
        assert answer.body == expected.body, asked


def check_no_5xx(answer: Answer) -> dict[str, object]:
    """A problem's document, where there is one: an answer to HEAD has none."""
    assert answer.status < 500, answer
    if answer.status < 400:
        return {}
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.problem(answer.status) if answer.body else {}


@pytest.fixture
def wires(daemon: Daemon) -> Iterator[Wires]:
    with contextlib.closing(Wires(daemon.port)) as wires:
        yield wires


def test_there_are_20_000_of_them() -> None:
    assert BLOBS + BATCHES + SPOILT + HEADED >= 20_000


def test_any_blob(wires: Wires) -> None:
    @examples(BLOBS)
    @given(several(blobs()))
    def ask(requests: list[Asked]) -> None:
        wires.ask(requests)

    ask()
    assert wires.asked_count >= BLOBS


def test_any_batch(wires: Wires) -> None:
    @examples(BATCHES)
    @given(several(batches()))
    def ask(requests: list[Asked]) -> None:
        wires.ask(requests)

    ask()
    assert wires.asked_count >= BATCHES


def send(port: int, requests: Sequence[bytes]) -> None:
    """Each on a connection of its own, since nobody knows where a request that is spoilt ends."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(RawWire.to(port)) for _ in requests]
        for wire, sent in zip(wires, requests, strict=True):
            wire.send(sent)
            wire.end()
        for wire, sent in zip(wires, requests, strict=True):
            answers = wire.answers_to_the_end()
            assert answers or sent in (b"", b"\r", b"\r\n"), sent
            for answer in answers:
                check_no_5xx(answer)


@pytest.mark.parametrize(
    ("requests", "count"), [(spoilt(), SPOILT), (headed(), HEADED)], ids=["spoilt", "with any header"]
)
def test_any_bytes(requests: st.SearchStrategy[bytes], count: int, daemon: Daemon) -> None:
    sent_count = 0

    @examples(count)
    @given(several(requests))
    def ask(some: list[bytes]) -> None:
        nonlocal sent_count
        send(daemon.port, some)
        sent_count += len(some)

    ask()
    assert sent_count >= count
