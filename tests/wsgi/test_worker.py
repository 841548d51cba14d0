"""seekfs_wsgi.worker: what gunicorn's parser refuses, as an answer. The rest of it is shown in tests/e2e."""

from __future__ import annotations

import inspect
import json

import pytest
from gunicorn.http import errors  # type: ignore[import-untyped]
from werkzeug.exceptions import RequestTimeout

from seekfs_core.errors import BadRequest
from seekfs_wsgi.problems import INTERNAL
from seekfs_wsgi.worker import error_answer, parser_problem

ID = "0123456789abcdef"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequestLine("x"), 400),
        (errors.InvalidHeader("x"), 400),
        (errors.InvalidHTTPVersion("x"), 400),
        (errors.LimitRequestLine(9000, 8190), 414),
        (errors.LimitRequestHeaders("x"), 431),
        (errors.ExpectationFailed("x"), 417),
        (errors.UnsupportedTransferCoding("x"), 400),
        (errors.ForbiddenProxyRequest("x"), 403),
        (ZeroDivisionError("inside"), 500),
        (BadRequest("the body"), 400),
        (RequestTimeout(), 408),
    ],
)
def test_statuses(error: Exception, status: int) -> None:
    assert parser_problem(error).status == status


def test_every_error_of_the_parser_is_the_clients() -> None:
    """So that one that gunicorn adds is not taken for a bug of ours."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
    parser_errors = [kind for kind in kinds if not issubclass(kind, OSError)]
    assert len(parser_errors) > 10
    assert all(issubclass(kind, errors.ParseException) for kind in parser_errors)


def test_a_target_that_is_not_escaped_is_told_so() -> None:
    problem = parser_problem(errors.InvalidRequestLine("GET /\xe2\x98\x83 HTTP/1.1"))
    assert "not ASCII" in problem.detail
    assert "percent-encoded" in problem.detail
    assert "ASCII" not in parser_problem(errors.InvalidRequestLine("GET")).detail


def test_an_answer_is_whole_and_final() -> None:
    problem = parser_problem(errors.InvalidHeader("a\r\nb: c" + "x" * 9000))
    head, _, body = error_answer(problem, ID).partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert lines[0] == "HTTP/1.1 400 Bad Request"
    assert "Connection: close" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert f"X-Request-Id: {ID}" in lines
    document = json.loads(body)
    assert document["request_id"] == ID
    assert len(document["detail"]) < 500
    assert "\n" not in document["detail"]


def test_an_answer_to_a_head_says_how_long_its_body_would_be() -> None:
    problem = parser_problem(errors.InvalidHeader("x"))
    whole = error_answer(problem, ID)
    head, end, body = whole.partition(b"\r\n\r\n")
    assert error_answer(problem, ID, has_body=False) == head + end
    assert body


def test_what_was_not_foreseen_says_nothing_of_the_inside() -> None:
    assert parser_problem(ZeroDivisionError("secret")) is INTERNAL
