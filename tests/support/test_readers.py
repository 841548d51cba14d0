"""Readers tell right answers from wrong ones: each kind of wrong is served once, by a scripted server."""

from __future__ import annotations

import json
import random
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import crc32c
import pytest

from tests.support.dataset import some_bytes
from tests.support.readers import Manner, Outcome, Refusal, Request, Tally, Way, some_request

DATA = some_bytes(300_000)
RANGES = (("a", 5, 100_000), ("a", 0, 7))
BODY = DATA[5:100_005] + DATA[:7]
PROBLEM = json.dumps({"status": 503, "detail": "the store cannot be reached"}).encode()


class Files:
    def content(self, path: str, version: int) -> memoryview:
        assert (path, version) == ("a", 3)
        return memoryview(DATA)


def frame(status: int, payload: bytes) -> bytes:
    return struct.pack("<IIQ", status, crc32c.crc32c(payload), len(payload)) + payload


FRAMED = frame(206, DATA[5:60_000]) + frame(200, DATA[60_000:100_005]) + frame(200, DATA[:7])

Ask = Callable[..., tuple[Outcome, Tally]]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """``ask(body, way=…, status=…, length=…, version=…)``: what a reader makes of such an answer."""
    script: dict[str, object] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(int(str(script["status"])))
            self.send_header("Content-Length", str(script["length"]))
            self.send_header("X-Seekfs-Version", str(script["version"]))
            self.end_headers()
            body = script["body"]
            assert isinstance(body, bytes)
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def asked(
        body: bytes,
        *,
        way: Way = Way.READV,
        manner: Manner = Manner.PROMPT,
        status: int = 200,
        length: int | None = None,
        version: int = 3,
    ) -> tuple[Outcome, Tally]:
        script.update(
            body=body, status=status, length=len(body) if length is None else length, version=version
        )
        tally = Tally(lambda request, refusal: refusal.status == 503)
        request = Request(ns="dev", way=way, manner=manner, ranges=RANGES, version=3)
        return tally.read(server.server_port, request, Files()), tally

    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_right_answers(ask: Ask) -> None:
    for manner in (Manner.PROMPT, Manner.SLOW):
        outcome, tally = ask(BODY, manner=manner)
        assert (outcome, tally.bytes_compared, tally.wrong) == (Outcome.WHOLE, len(BODY), [])
        outcome, tally = ask(FRAMED, way=Way.FRAMES, manner=manner)
        assert (outcome, tally.bytes_compared, tally.wrong) == (Outcome.WHOLE, len(BODY), [])
    assert ask(BODY, manner=Manner.LEAVES)[0] is Outcome.LEFT
    assert ask(BODY[:5000], length=len(BODY))[0] is Outcome.CUT
    assert ask(FRAMED[:70_000], way=Way.FRAMES, length=len(FRAMED))[0] is Outcome.CUT


def test_refusals(ask: Ask) -> None:
    outcome, tally = ask(PROBLEM, status=503)
    assert (outcome, tally.refusals, tally.item_refusals) == (Outcome.REFUSED, {503: 1}, {})
    outcome, tally = ask(frame(503, PROBLEM) + frame(200, DATA[:7]), way=Way.FRAMES)
    assert (outcome, tally.refusals, tally.item_refusals) == (Outcome.WHOLE, {}, {503: 1})
    assert Refusal(503, json.loads(PROBLEM)).detail == "the store cannot be reached"


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        (BODY[:70_000] + b"~" + BODY[70_001:], {}),
        (BODY[100_000:] + BODY[:100_000], {}),
        (BODY + b"~", {}),
        (BODY, {"version": 4}),
        (PROBLEM, {"status": 500}),
        (b"oops", {"status": 503}),
        (FRAMED + b"~", {"way": Way.FRAMES}),
        (frame(200, DATA[5:60_000]) + frame(200, DATA[:7]), {"way": Way.FRAMES}),
        (frame(206, DATA[:9]) + FRAMED, {"way": Way.FRAMES}),
        (FRAMED[:4] + b"~" + FRAMED[5:], {"way": Way.FRAMES}),
        (frame(503, b"oops") + frame(200, DATA[:7]), {"way": Way.FRAMES}),
    ],
)
def test_wrong_answers(ask: Ask, body: bytes, settings: dict[str, object]) -> None:
    outcome, tally = ask(body, **settings)
    assert outcome is Outcome.WRONG
    assert len(tally.wrong) == 1


def test_nobody_there() -> None:
    tally = Tally(lambda request, refusal: False)
    request = Request(ns="dev", way=Way.READV, manner=Manner.PROMPT, ranges=RANGES)
    assert tally.read(1, request, Files()) is Outcome.UNREACHABLE


def test_what_is_asked_lies_inside_of_what_there_is() -> None:
    chance = random.Random(1)
    lengths = {"a": 10, "b": 1, "c": 100_000}
    requests = [some_request(chance, "dev", lengths, range_bytes_max=5000) for _ in range(300)]
    assert {request.way for request in requests} == set(Way)
    assert {request.manner for request in requests} == set(Manner)
    for request in requests:
        assert request.way is not Way.BLOB or len(request.ranges) == 1
        for path, off, length in request.ranges:
            assert 0 <= off < off + length <= lengths[path]
            assert length <= 5000
