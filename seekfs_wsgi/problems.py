"""Problem documents (RFC 9457): what every error becomes.

``type`` is ``urn:seekfs:problem:<slug>``, the slug that of the error's class; ``request_id`` is the one
that the log has. The error's own facts (``item``, ``path``, ``expected``, ...) are members beside them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.http import HTTP_STATUS_CODES

from seekfs_core.errors import SeekfsError, retry_after_of

Headers = list[tuple[str, str]]

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:seekfs:problem:"

_STANDARD_MEMBERS = frozenset({"type", "title", "status", "detail", "instance", "request_id"})


@frozen(kw_only=True)
class Problem:
    """One error as an answer. ``facts`` are members of the document, ``headers`` go with it."""

    status: int
    slug: str
    title: str
    detail: str
    facts: Mapping[str, Any] = {}
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def log_level(self) -> int:
        """A client's mistake is its own; that the store or the daemon fails is for somebody to see."""
        if self is INTERNAL:
            return logging.ERROR
        return logging.INFO if self.status < 500 else logging.WARNING

    def for_log(self, request_id: str) -> dict[str, Any]:
        """What the line of the log has beside its message (``extra``)."""
        return {
            "request_id": request_id,
            "status": self.status,
            "problem": self.slug,
            "facts": self.facts,
        }

    def document(self, request_id: str) -> bytes:
        """The body: one line of JSON."""
        members: dict[str, Any] = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        members |= {name: value for name, value in self.facts.items() if name not in _STANDARD_MEMBERS}
        # Escaped to ASCII: also a name that is not valid Unicode can be told. default: a fact that is
        # no JSON value is better told as text than not at all.
        return json.dumps(members, default=str).encode("ascii") + b"\n"


def new_request_id() -> str:
    """16 hex digits, never the same twice."""
    return os.urandom(8).hex()


def status_line(status: int) -> str:
    """``404 Not Found``."""
    return f"{status} {HTTP_STATUS_CODES.get(status, 'Unknown')}"


def problem_of(error: SeekfsError) -> Problem:
    """The answer that an error suggests. A 503 says when to try again."""
    after = retry_after_of(error)
    headers = () if after is None else (("Retry-After", str(after)),)
    return Problem(
        status=error.status,
        slug=error.slug,
        title=error.title,
        detail=error.detail,
        facts=error.context,
        headers=headers,
    )


def problem_of_http(error: HTTPException) -> Problem:
    """What werkzeug's exceptions say: 405 with ``Allow``, 404 for no such endpoint, 415."""
    status = error.code or 500
    title = error.name
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers = (("Allow", ", ".join(error.valid_methods)),)
    return Problem(
        status=status,
        slug=title.lower().replace(" ", "-"),
        title=title,
        detail=error.description or title,
        headers=headers,
    )


INTERNAL = Problem(
    status=500,
    slug=SeekfsError.slug,
    title=SeekfsError.title,
    detail="an error that seekfs did not foresee; the log has it under this request id",
)


def problem_of_any(error: Exception) -> Problem:
    """What an error is to a client; ``INTERNAL`` itself where nobody foresaw it."""
    match error:
        case SeekfsError():
            return problem_of(error)
        case HTTPException():
            return problem_of_http(error)
        case _:
            return INTERNAL
