"""seekfs_wsgi.problems: every error becomes a document that says it all, and is always JSON."""

from __future__ import annotations

import json

import pytest
from werkzeug.exceptions import MethodNotAllowed, NotFound, PreconditionFailed

from seekfs_core import errors
from seekfs_core.errors import NoSuchFile, PageCorrupt, SeekfsError, StoreUnavailable
from seekfs_wsgi.problems import INTERNAL, Problem, problem_of, problem_of_http, status_line

ID = "0123456789abcdef"


def document(problem: Problem) -> dict[str, object]:
    return dict(json.loads(problem.document(ID)))


def test_an_error_is_a_document_with_its_facts() -> None:
    problem = problem_of(NoSuchFile("no file 'a' in 'dev'", ns="dev", path="a", version=3))
    assert problem.status == 404
    assert document(problem) == {
        "type": "urn:seekfs:problem:no-such-file",
        "title": "No such file",
        "status": 404,
        "detail": "no file 'a' in 'dev'",
        "request_id": ID,
        "ns": "dev",
        "path": "a",
        "version": 3,
    }


@pytest.mark.parametrize(
    "kind",
    [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SeekfsError)],
)
def test_every_error_has_a_status_of_its_own_and_a_line_for_it(kind: type[SeekfsError]) -> None:
    problem = problem_of(kind("what and where"))
    assert 400 <= problem.status < 600
    assert "Unknown" not in status_line(problem.status)
    assert document(problem)["status"] == kind.status


def test_facts_cannot_replace_what_the_document_is() -> None:
    problem = problem_of(PageCorrupt("wrong bytes", status=200, type="x", request_id="y", expected=1))
    assert document(problem)["status"] == 502
    assert document(problem)["request_id"] == ID
    assert document(problem)["expected"] == 1


@pytest.mark.parametrize(("given", "sent"), [(None, "1"), (1, "1"), (13, "13")])
def test_a_503_says_when_to_try_again(given: int | None, sent: str) -> None:
    facts = {} if given is None else {"retry_after": given}
    assert ("Retry-After", sent) in problem_of(StoreUnavailable("busy", **facts)).headers


def test_other_statuses_do_not() -> None:
    assert problem_of(NoSuchFile("x")).headers == ()


def test_a_405_says_what_is_allowed() -> None:
    problem = problem_of_http(MethodNotAllowed(["GET", "HEAD"], "not POST"))
    assert problem.headers == (("Allow", "GET, HEAD"),)
    assert document(problem)["type"] == "urn:seekfs:problem:method-not-allowed"
    assert document(problem)["detail"] == "not POST"


@pytest.mark.parametrize("error", [NotFound("nothing there"), PreconditionFailed("other")])
def test_werkzeugs_errors(error: NotFound | PreconditionFailed) -> None:
    assert document(problem_of_http(error))["status"] == error.code


def test_names_that_are_no_unicode_can_be_told() -> None:
    problem = problem_of(NoSuchFile("no \ud800 here", path="\udfff", odd={1: b"x", "set": {2}}))
    assert "\\ud800" in problem.document(ID).decode("ascii")


def test_an_unforeseen_error_says_nothing_of_the_inside() -> None:
    assert document(INTERNAL)["status"] == 500
