"""A request as an endpoint sees it, and what it answers: three small classes between WSGI and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from attrs import define, field

from seekfs_core.errors import SeekfsError
from seekfs_wsgi.problems import Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.exceptions import HTTPException

BINARY = "application/octet-stream"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

TARGET_SHOWN_MAX = 300
"""How much of a request's target the log shows."""


@define
class Request:
    """``id`` is 16 hex digits, in the answer, its problem document and the log alike."""

    environ: WSGIEnvironment
    method: str
    id: str

    @property
    def query(self) -> str:
        """Still escaped."""
        query: str = self.environ.get("QUERY_STRING", "")
        return query

    @property
    def target(self) -> str:
        """Path and query for the log: one line, escaped as they came, cut."""
        path = self.environ.get("PATH_INFO", "")
        target = f"{path}?{self.query}" if self.query else path
        return ascii(target[:TARGET_SHOWN_MAX])[1:-1]

    def header(self, name: str) -> str | None:
        """A header by its CGI name (``RANGE``, ``IF_MATCH``), None where it is absent."""
        value: str | None = self.environ.get("HTTP_" + name)
        return value


@define
class Stream:
    """A body that is made while it is sent.

    ``pieces`` are valid until the next is asked for. ``close`` lets go of what they come from, and is
    called once, whether or not they were read to the end.
    """

    pieces: Iterator[memoryview]
    close: Callable[[], None]


@define
class Answer:
    """``length`` is the Content-Length in bytes; None only for a stream that tells its own end."""

    status: int
    content_type: str
    body: bytes | Stream = b""
    headers: Headers = field(factory=list)
    length: int | None = None


class Refused(Exception):
    """An error whose answer carries headers of its own, such as the ``Content-Range`` of a 416."""

    def __init__(self, error: SeekfsError | HTTPException, headers: Headers) -> None:
        super().__init__(str(error))
        self.error = error
        self.headers = headers
