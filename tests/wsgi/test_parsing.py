"""seekfs_wsgi.parsing: what gunicorn lets pass and HTTP does not is refused, and what is closed says so."""

from __future__ import annotations

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http import RequestParser  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from seekfs_core.errors import BadRequest
from seekfs_wsgi.arrival import Arrival, Limits
from seekfs_wsgi.parsing import StrictRequest

LIMITS = Limits(
    request_line_bytes_max=8190,
    held_bytes_max=64 * 1024,
    body_bytes_max=1 << 20,
    head_seconds_max=30,
    body_seconds_max=120,
)
CHUNKED = "Host: x\r\nTransfer-Encoding: chunked\r\n"


class Source:
    """As a ``ClientSocket`` that has received all that will come."""

    def __init__(self, sent: bytes) -> None:
        self.arrival = Arrival(LIMITS)
        self.arrival.feed(sent)
        self.sent = sent

    def recv(self, size: int) -> bytes:
        data, self.sent = self.sent[:size], self.sent[size:]
        return data


def request(
    headers: str = "Host: x\r\n",
    body: bytes = b"",
    *,
    target: str = "/a?b=c",
    version: str = "1.1",
) -> StrictRequest:
    sent = f"POST {target} HTTP/{version}\r\n{headers}\r\n".encode("latin-1") + body
    parser = RequestParser(Config(), Source(sent), ("127.0.0.1", 1))
    parser.mesg_class = StrictRequest
    parsed: StrictRequest = next(parser)
    return parsed


@pytest.mark.parametrize("target", ["/a#b", "/a?b=c#d", "/#", "//x#", "http://x/a#b"])
def test_a_target_with_a_fragment(target: str) -> None:
    with pytest.raises(BadRequest, match="'#'.*%23"):
        request(target=target)


def test_an_escaped_one_is_a_part_of_the_name() -> None:
    assert request(target="/a?b=c%23d").query == "b=c%23d"


@pytest.mark.parametrize(
    "host", ["", "x", "localhost:7070", "a_b.c-d~1", "127.0.0.1:", "[::1]", "[v1.a:b]:80", "%C3%A9", "a,b"]
)
def test_a_host(host: str) -> None:
    assert request(f"Host: {host}\r\n").method == "POST"


@pytest.mark.parametrize(
    "host",
    ["a b", "x/y", "u@x", "x:y", "x:1:2", "[::1", "::1", "[]", "[::1%25a]", "%zz", "\xe9", "x?", '"x"'],
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_host_that_is_none(host: str, version: str) -> None:
    with pytest.raises(BadRequest, match="Host"):
        request(f"Host: {host}\r\n", version=version)


def test_no_host() -> None:
    with pytest.raises(BadRequest, match="Host"):
        request("")
    assert request("", version="1.0").version == (1, 0)


@pytest.mark.parametrize(
    "codings",
    [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
    ],
)
def test_a_body_in_another_coding(codings: str) -> None:
    with pytest.raises(BadRequest, match="only 'chunked'"):
        request(f"Host: x\r\n{codings}\r\n", b"1\r\nx\r\n0\r\n\r\n")


@pytest.mark.parametrize(("said", "taken"), [("1.0", 0), ("1.1", 1), ("1.2", 1), ("1.9", 1)])
def test_the_version_that_is_answered(said: str, taken: int) -> None:
    assert request(version=said).version == (1, taken)


@pytest.mark.parametrize(
    "body", [b"1;\x01\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\nA b: c\r\n\r\n", b"1\r\nx\r\n0\r\nHost: x\r\n\r\n"]
)
def test_a_small_body_that_is_malformed_is_refused_though_nobody_reads_it(body: bytes) -> None:
    with pytest.raises(ParseException):
        request(CHUNKED, body)


def test_a_small_body_in_chunks() -> None:
    parsed = request(CHUNKED, b"1\r\nx\r\n2;a=b\r\nyz\r\n0\r\nA: b\r\n\r\nGET /next")
    assert parsed.body.read() == b"xyz"
    assert not parsed.should_close()
    assert parsed.unreader.take_buffered() == b"GET /next"


@pytest.mark.parametrize(
    ("options", "closes"),
    [
        ("", False),
        ("keep-alive", False),
        ("xclose", False),
        ("close", True),
        ("x, Close", True),
        ("close ,x", True),
    ],
)
def test_who_asks_for_the_end_gets_it(options: str, closes: bool) -> None:
    assert request(f"Host: x\r\nConnection: {options}\r\n").should_close() is closes


def test_an_option_in_the_second_of_two_headers() -> None:
    assert request("Host: x\r\nConnection: x\r\nConnection: close\r\n").should_close()


def test_http_1_0_ends_unless_asked_to_go_on() -> None:
    assert request(version="1.0").should_close()
    assert not request("Connection: keep-alive\r\n", version="1.0").should_close()


def test_nothing_follows_a_body_that_has_not_come_in_whole() -> None:
    parsed = request("Host: x\r\nContent-Length: 100000\r\n", b"x")
    assert parsed.should_close()
    parsed.arrival.feed(b"x" * 99_999)
    assert not parsed.should_close()


def test_nothing_follows_a_body_that_could_not_be_read() -> None:
    parsed = request(CHUNKED, b"20000\r\n" + b"x" * 0x20000 + b"\r\n0\r\n")
    parsed.arrival.feed(b"Host: x\r\n\r\n")
    parsed.unreader.sock.sent += b"Host: x\r\n\r\n"
    assert parsed.arrival.is_whole
    with pytest.raises(ParseException):
        parsed.body.read()
    assert parsed.should_close()
