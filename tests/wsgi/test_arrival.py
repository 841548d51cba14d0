"""seekfs_wsgi.arrival: a thread gets a request when nothing more of it has to be waited for, and not before.

The oracle is gunicorn's own parser, on a source that fails where the parser would wait for more.
"""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import Any

import attrs
import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http import RequestParser  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import RequestHeaderFieldsTooLarge, RequestTimeout

from seekfs_core.errors import BadRequest, TooLarge
from seekfs_wsgi.arrival import CHUNK_LINE_BYTES_MAX, Arrival, Limits, Stage

LIMITS = Limits(
    request_line_bytes_max=100,
    held_bytes_max=1000,
    body_bytes_max=5000,
    head_seconds_max=30,
    body_seconds_max=120,
)
GET = b"GET /healthz?a=b HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /readv HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def sized(length: int | str, body: bytes = b"", more: bytes = b"") -> bytes:
    return (
        b"POST /readv?ns=dev HTTP/1.1\r\nContent-Length: %b\r\n%b\r\n" % (str(length).encode(), more) + body
    )


def arrived(*pieces: bytes, limits: Limits = LIMITS) -> Arrival:
    arrival = Arrival(limits)
    for piece in pieces:
        arrival.feed(piece)
    return arrival


class Waited(BaseException):
    """The parser asked for more than there is."""


class Source:
    def __init__(self, sent: bytes) -> None:
        self.sent = sent

    def recv(self, size: int) -> bytes:
        if not self.sent:
            raise Waited
        data, self.sent = self.sent[:size], self.sent[size:]
        return data


def parse(sent: bytes) -> Any:
    """The request, its body read to the end."""
    config = Config()
    config.set("limit_request_line", LIMITS.request_line_bytes_max)
    request = next(RequestParser(config, Source(sent), ("127.0.0.1", 1)))
    return request, request.body.read()


WHOLE = [
    GET,
    b"\r\n" + GET,
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET http://x/healthz HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    sized(0),
    sized(2, b"[]"),
    sized("0002", b"[]"),
    b"POST / HTTP/1.1\r\ncontent-LENGTH:\t 2 \t\r\n\r\n[]",
    sized(2, b"[]", b"Expect: 100-continue\r\n"),
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"2\r\n[]\r\n0\r\n\r\n",
    CHUNKED + b'1\r\n[\r\n001;a=b; c="d"\r\n]\r\n000\r\nA: b\r\nC: d\r\n\r\n',
    CHUNKED + b"2 ;a\r\n\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding:\tChunked \r\n\r\n1\r\nx\r\n0\r\n\r\n",
]
REFUSED_BY_PARSER = [
    b"\r\n\r\n",
    b"nonsense\r\n",
    b"GET /healthz\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"GET / HTTP/1.1 \r\n",
    b"GET / HTTP/3\r\n",
    b"\x16\x03\x01\x02\n",
    b"GET / HTTP/1.1\n",
    b"GET / HTTP/1.1\r\nHost: x\n",
    b"GET /" + b"x" * 105,
    b"\r\nGET /" + b"x" * 105,
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length : 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    sized(-1),
    sized("+1"),
    sized("1_0"),
    sized(""),
    "POST / HTTP/1.1\r\nContent-Length: ²\r\n\r\n".encode("latin-1"),
]


@pytest.mark.parametrize("sent", WHOLE, ids=lambda sent: repr(sent)[2:40])
def test_a_request_is_ready_with_its_last_byte_and_the_parser_waits_for_no_more(sent: bytes) -> None:
    for stop in range(len(sent)):
        assert arrived(sent[:stop]).stage in (Stage.SILENT, Stage.HEAD, Stage.BODY, Stage.LARGE), stop
    arrival = arrived(sent)
    assert (arrival.stage, arrival.is_whole, arrival.refusal) == (Stage.READY, True, None)
    parse(sent)


@pytest.mark.parametrize("sent", REFUSED_BY_PARSER, ids=lambda sent: repr(sent)[2:40])
def test_what_the_parser_refuses_is_ready_for_it_at_once(sent: bytes) -> None:
    assert arrived(sent).stage is Stage.READY
    with pytest.raises(ParseException):
        parse(sent)


@given(st.sampled_from(WHOLE), st.lists(st.integers(0, 150), max_size=5))
def test_the_pieces_do_not_matter(sent: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(sent)]
    pieces = [sent[start:stop] for start, stop in pairwise(edges)]
    one, many = arrived(sent), arrived(*pieces)
    assert (one.stage, one.path, one.is_whole) == (many.stage, many.path, many.is_whole)


@pytest.mark.parametrize(
    "codings",
    [b"Transfer-Encoding: gzip , chunked", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"],
    ids=["in one line", "in two"],
)
def test_a_body_that_nobody_would_decode_is_not_waited_for(codings: bytes) -> None:
    arrival = arrived(b"POST / HTTP/1.1\r\nHost: x\r\n" + codings + b"\r\n\r\n")
    assert (arrival.stage, arrival.is_whole) == (Stage.READY, False)


def test_a_head_is_known_as_soon_as_its_method_is() -> None:
    """A refusal of it has no body, however little has come."""
    assert arrived(b"HEAD /").is_head
    assert arrived(b"\r\nHE", b"AD / HTTP/1.1\r\nHost: x\r\n\r\n").is_head
    assert arrived(b"HEAD \n").is_head
    for other in (b"HEAD", b"HEADS / HTTP/1.1\r\n\r\n", b"GET /HEAD HTTP/1.1\r\n\r\n", GET):
        assert not arrived(other).is_head


def test_what_follows_a_request_is_none_of_its() -> None:
    arrival = arrived(sized(2, b"[]") + GET)
    assert (arrival.stage, arrival.path) == (Stage.READY, b"/readv")
    arrival.feed(GET)
    arrival.end()
    assert (arrival.stage, arrival.path) == (Stage.READY, b"/readv")


def test_how_far_it_has_got() -> None:
    arrival = Arrival(LIMITS)
    # Some clients send an empty line behind a body. It is no request yet.
    for piece, stage in (
        (b"\r", Stage.SILENT),
        (b"\n", Stage.SILENT),
        (b"P", Stage.HEAD),
        (b"OST /a?b HTTP/1.1\r\nContent-Length: 3\r\n", Stage.HEAD),
        (b"\r\n", Stage.BODY),
        (b"ab", Stage.BODY),
        (b"c", Stage.READY),
    ):
        arrival.feed(piece)
        assert arrival.stage is stage, piece
    assert arrival.path == b"/a"


# -- bodies for a thread -------------------------------------------------------------------------------


def test_a_body_that_is_too_large_to_be_kept_is_for_a_thread() -> None:
    head = len(sized(940))
    assert arrived(sized(1000 - head)).stage is Stage.BODY
    body = b"x" * (1001 - head)
    for come in (0, len(body) - 1):
        assert arrived(sized(1001 - head), body[:come]).stage is Stage.LARGE
    assert arrived(sized(1001 - head), body[:-1], b"x").is_whole


def test_chunks_are_kept_until_they_are_too_many() -> None:
    chunk = b"1\r\nx\r\n"
    for count, stage in ((1, Stage.BODY), (150, Stage.BODY), (160, Stage.LARGE)):
        assert arrived(CHUNKED, *[chunk] * count).stage is stage
        assert arrived(CHUNKED, *[chunk] * count, b"0\r\n\r\n").is_whole


def test_a_client_that_waits_to_be_asked_is_for_a_thread_which_asks() -> None:
    assert arrived(sized(2, more=b"Expect: 100-continue\r\n")).stage is Stage.LARGE


def test_a_body_that_announces_too_much_is_refused_by_who_would_read_it() -> None:
    arrival = arrived(sized(5001))
    assert (arrival.stage, arrival.is_whole) == (Stage.READY, False)


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [b"1389", b"4000001", b"f" * 16, b"f" * 30, b"0" * 50 + b"1389"])
@pytest.mark.parametrize("end", [b"", b"\r\n", b";a=b\r\n"])
def test_a_chunk_that_alone_is_too_large_is_refused_before_it_comes(size: bytes, end: bytes) -> None:
    arrival = arrived(CHUNKED + size + end)
    assert arrival.stage is Stage.REFUSED
    assert isinstance(arrival.refusal, TooLarge)
    assert arrival.refusal.context["bytes_max"] == 5000


def test_chunks_that_are_too_large_together_are_refused() -> None:
    arrival = arrived(CHUNKED, b"1388\r\n", b"x" * 5000 + b"\r\n")
    assert arrival.stage is Stage.LARGE
    arrival.feed(b"1")
    assert isinstance(arrival.refusal, TooLarge)


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5,\r\n",
        b"5\n",
        b"2\r\n[]x",
        b"2\r\n[]\n",
        b"2\r\n[]\rx",
        b"0\r\nA: b\n",
        b"5;" + b"x" * CHUNK_LINE_BYTES_MAX,
    ],
    ids=lambda body: repr(body)[2:20],
)
def test_a_malformed_body_is_refused_at_once(body: bytes) -> None:
    arrival = arrived(CHUNKED + body)
    assert isinstance(arrival.refusal, BadRequest)
    assert "malformed" in arrival.refusal.detail
    assert len(arrival.refusal.detail) < 300
    with pytest.raises((ParseException, Waited)):
        parse(CHUNKED + body)


def test_a_trailer_without_end_is_refused() -> None:
    arrival = arrived(CHUNKED + b"0\r\n", *[b"A: " + b"b" * 95 + b"\r\n"] * 81)
    assert arrival.stage is Stage.LARGE
    arrival.feed(b"A: " + b"b" * 95)
    assert isinstance(arrival.refusal, RequestHeaderFieldsTooLarge)


def test_a_head_without_end_is_refused() -> None:
    line = b"A: " + b"b" * 95 + b"\r\n"
    assert arrived(b"GET / HTTP/1.1\r\n", *[line] * 9).stage is Stage.HEAD
    arrival = arrived(b"GET / HTTP/1.1\r\n", *[line] * 10)
    assert arrival.stage is Stage.REFUSED
    assert isinstance(arrival.refusal, RequestHeaderFieldsTooLarge)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET /hea", "inside its head"),
        (sized(4, b"[12"), "after 3 of 4 bytes"),
        (sized(4000, b"[12"), "after 3 of 4000 bytes"),
        (CHUNKED, "before its last chunk"),
        (CHUNKED + b"2\r\n[]\r\n", "before its last chunk"),
        (CHUNKED + b"5\r\n[]", "before its last chunk"),
        (CHUNKED + b"0\r\n", "before its last chunk"),
    ],
    ids=lambda value: repr(value)[-30:],
)
def test_an_end_that_comes_too_early(sent: bytes, said: str) -> None:
    arrival = arrived(sent)
    arrival.end()
    assert arrival.stage is Stage.REFUSED
    assert isinstance(arrival.refusal, BadRequest)
    assert said in arrival.refusal.detail


def test_an_end_before_anything_came_is_no_error() -> None:
    arrival = arrived(b"\r\n")
    arrival.end()
    assert (arrival.stage, arrival.refusal) == (Stage.SILENT, None)


@pytest.mark.parametrize(
    ("sent", "said"),
    [(b"GET", "head did not come within 30 s.*send_timeout"), (sized(3), "body .* 120 s.*request_deadline")],
)
def test_what_takes_too_long(sent: bytes, said: str) -> None:
    arrival = arrived(sent)
    arrival.run_out()
    assert isinstance(arrival.refusal, RequestTimeout)
    with pytest.raises(RequestTimeout, match=said):
        raise arrival.refusal


def test_a_refusal_is_final() -> None:
    arrival = arrived(CHUNKED + b"x")
    said = arrival.refusal
    arrival.feed(GET)
    arrival.end()
    assert (arrival.stage, arrival.refusal) == (Stage.REFUSED, said)


@given(st.binary(max_size=60), st.sampled_from([b"", CHUNKED, sized(3), b"GET / HTTP/1.1\r\n"]))
def test_the_parser_never_waits_for_more_than_was_waited_for(tail: bytes, start: bytes) -> None:
    """Whatever comes: what is ready is parsed, or refused, without another byte."""
    sent = start + tail
    arrival = arrived(sent, limits=attrs.evolve(LIMITS, body_bytes_max=2))
    if arrival.stage is Stage.READY and (arrival.is_whole or b"Content-Length: 3" not in sent):
        with contextlib.suppress(ParseException):
            parse(sent)
