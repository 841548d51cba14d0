"""seekfs_wsgi.bodies: no more of a body than allowed, and no less than announced."""

from __future__ import annotations

import errno
import io
from typing import Any

import pytest
from werkzeug.exceptions import RequestTimeout, UnsupportedMediaType

from seekfs_core.errors import BadRequest, TooLarge
from seekfs_wsgi.bodies import read_body
from seekfs_wsgi.sending import Disconnected


def environ(body: bytes, length: str | None = None, *, chunked: bool = False, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"wsgi.input": io.BytesIO(body), **more}
    if length is not None:
        made["CONTENT_LENGTH"] = length
    if chunked:
        made |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    return made


def test_a_body_of_known_length() -> None:
    assert read_body(environ(b"abcdef", "4"), 4) == b"abcd"


def test_a_body_longer_than_one_step() -> None:
    body = bytes(range(256)) * 10_000
    assert read_body(environ(body, str(len(body))), len(body)) == body
    assert read_body(environ(body, chunked=True), len(body)) == body


def test_a_body_that_announces_too_much_is_not_read() -> None:
    given = environ(b"abcde", "5")
    with pytest.raises(TooLarge, match="5 bytes; at most 4"):
        read_body(given, 4)
    assert given["wsgi.input"].tell() == 0


def test_a_chunked_body_is_read_to_its_end_or_one_byte_past_the_limit() -> None:
    assert read_body(environ(b"abcd", chunked=True), 4) == b"abcd"
    given = environ(b"abcdefgh", chunked=True)
    with pytest.raises(TooLarge):
        read_body(given, 4)
    assert given["wsgi.input"].tell() == 5


def test_no_body() -> None:
    assert read_body(environ(b""), 4) == b""
    assert read_body(environ(b"", ""), 4) == b""


def test_input_that_never_ends_is_not_waited_for() -> None:
    assert read_body(environ(b"abc", HTTP_TRANSFER_ENCODING="chunked"), 4) == b""


def test_a_body_that_ends_early() -> None:
    with pytest.raises(BadRequest, match="after 3 of 4 bytes"):
        read_body(environ(b"abc", "4"), 10)


@pytest.mark.parametrize("length", ["-1", "+1", "1.0", "x", "٣", "1_0", "1" + "x" * 30])
def test_a_length_that_is_none(length: str) -> None:
    with pytest.raises(BadRequest, match="Content-Length"):
        read_body(environ(b"abc", length), 10)


@pytest.mark.parametrize("length", ["9" * 19, "9" * 5000])
def test_a_length_that_no_body_has_is_too_large(length: str) -> None:
    with pytest.raises(TooLarge, match=f"{len(length)} digits can say; at most 10 bytes"):
        read_body(environ(b"abc", length), 10)


def test_a_body_that_is_encoded() -> None:
    with pytest.raises(UnsupportedMediaType):
        read_body(environ(b"abc", "3", HTTP_CONTENT_ENCODING="gzip"), 10)
    assert read_body(environ(b"abc", "3", HTTP_CONTENT_ENCODING="Identity"), 10) == b"abc"


class Raising(io.BytesIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        raise self.error


def test_a_client_that_is_gone() -> None:
    with pytest.raises(Disconnected) as gone:
        read_body({"CONTENT_LENGTH": "3", "wsgi.input": Raising(TimeoutError("slow"))}, 10)
    assert gone.value.errno == errno.ECONNRESET


@pytest.mark.parametrize("error", [TooLarge("a chunk"), RequestTimeout("late")])
def test_what_our_own_server_says_is_passed_on(error: Exception) -> None:
    with pytest.raises(type(error)) as passed:
        read_body({"CONTENT_LENGTH": "3", "wsgi.input": Raising(error)}, 10)
    assert passed.value is error


def test_what_the_server_says_of_a_malformed_body_is_said() -> None:
    with pytest.raises(BadRequest, match="malformed: bad chunk"):
        read_body({"CONTENT_LENGTH": "3", "wsgi.input": Raising(ValueError("bad chunk"))}, 10)
