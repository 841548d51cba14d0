"""The WSGI application: from a request to an endpoint, from an error to a problem document.

Every request gets an id (16 hex digits), which is in its answer's ``X-Request-Id``, in its problem
document and in the line of the log that says what went wrong. An endpoint returns an ``Answer`` or raises;
nothing it raises reaches the server. A streamed body's first piece is made *before* the answer begins, so
that what fails before the first byte is a status; what fails later is a connection cut off (``sending``).

Routing is one dictionary: werkzeug's ``Map``, ``Request`` and ``Response`` cost ten times what this does,
and more than a warm 4 KiB read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING

from attrs import define, frozen
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.exceptions import NotFound as NoSuchEndpoint

from seekfs_core.errors import SeekfsError
from seekfs_wsgi.blob import Blob
from seekfs_wsgi.diagnostics import Diagnostics, healthz
from seekfs_wsgi.exchange import Answer, Refused, Request, Stream
from seekfs_wsgi.metrics import Metrics
from seekfs_wsgi.pieces import SMALL_BYTES
from seekfs_wsgi.problems import (
    CONTENT_TYPE,
    INTERNAL,
    Headers,
    Problem,
    new_request_id,
    problem_of,
    problem_of_any,
    status_line,
)
from seekfs_wsgi.readv import Readv
from seekfs_wsgi.sending import CutOff, Disconnected, deliver

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from seekfs_io.config import Config
    from seekfs_io.dataplane import DataPlane

log = logging.getLogger("seekfs.http")

OTHER = "other"
"""The endpoint label of paths that are none."""

_READING = ("GET", "HEAD")
_POSTING = ("POST",)


@frozen
class _Endpoint:
    name: str
    methods: tuple[str, ...]
    answer: Callable[[Request], Answer]


@define
class _Exchange:
    """One request on its way: what is known of it for the log and the metrics."""

    request: Request
    endpoint: str
    started_at: float
    status: int = 500
    bytes_sent: int = 0
    is_whole: bool = False


class Application:
    """seekfs over WSGI. Owns ``plane``: ``close`` closes it."""

    def __init__(self, plane: DataPlane, config: Config) -> None:
        self._plane = plane
        diagnostics = Diagnostics(plane, config.api)
        paths: dict[str, tuple[tuple[str, ...], Callable[[Request], Answer]]] = {
            "/healthz": (_READING, healthz),
            "/readyz": (_READING, diagnostics.readyz),
            "/blob": (_READING, Blob(plane)),
            "/readv": (_POSTING, Readv(plane, config.api)),
            "/test_head": (_READING, diagnostics.test_head),
            "/test_s3": (_READING, diagnostics.test_s3),
            "/test_stream": (_READING, diagnostics.test_stream),
            "/advisor": (_READING, diagnostics.advisor),
            "/slow": (_READING, diagnostics.slow),
        }
        self._metrics = Metrics(plane, (*paths, "/metrics", OTHER))
        paths["/metrics"] = _READING, self._metrics
        self._endpoints = {
            path: _Endpoint(path, methods, answer) for path, (methods, answer) in paths.items()
        }

    def close(self, timeout_seconds: float) -> None:
        """Stop reading, make what is being written to disk whole, let go of everything."""
        self._plane.close(timeout_seconds)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = _Exchange(
            Request(environ, environ["REQUEST_METHOD"], new_request_id()), OTHER, perf_counter()
        )
        self._metrics.in_flight.inc()
        first = None
        try:
            answer = self._answer(exchange)
            if isinstance(answer.body, Stream):
                first = self._first_piece(exchange, answer, answer.body)
        except Disconnected:
            exchange.status = 400
            self._finish(exchange)
            raise
        except Exception as error:
            answer = self._failure(exchange, error)
        exchange.status = answer.status
        if isinstance(answer.body, Stream):
            return self._stream(exchange, answer, first, answer.body, start_response)
        return self._whole(exchange, answer, answer.body, start_response)

    # -- finding out what to answer ----------------------------------------------------------------

    def _answer(self, exchange: _Exchange) -> Answer:
        request = exchange.request
        path = request.environ.get("PATH_INFO", "")
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            known = ", ".join(self._endpoints)
            raise NoSuchEndpoint(f"there is no endpoint {path[:100]!r}; there are {known}")
        exchange.endpoint = endpoint.name
        if request.method not in endpoint.methods:
            allowed = " or ".join(endpoint.methods)
            raise MethodNotAllowed(endpoint.methods, f"{endpoint.name} takes {allowed}")
        return endpoint.answer(request)

    def _failure(self, exchange: _Exchange, error: Exception) -> Answer:
        """The problem document of whatever an endpoint raised; written to the log once."""
        headers: Headers = []
        cause: Exception = error
        if isinstance(error, Refused):
            cause, headers = error.error, error.headers
        problem = problem_of_any(cause)
        self._log_problem(exchange.request, problem, cause)
        body = problem.document(exchange.request.id)
        return Answer(
            problem.status,
            CONTENT_TYPE,
            body,
            [*headers, *problem.headers, ("Cache-Control", "no-store")],
            len(body),
        )

    def _log_problem(self, request: Request, problem: Problem, error: Exception) -> None:
        log.log(
            problem.log_level,
            "%s %s: %d %s",
            request.method[:40],
            request.target,
            problem.status,
            problem.detail,
            exc_info=error if problem is INTERNAL else None,
            extra=problem.for_log(request.id),
        )

    def _first_piece(self, exchange: _Exchange, answer: Answer, stream: Stream) -> memoryview | None:
        """Make the first piece of a body; what fails here is still a status."""
        is_going_on = False
        try:
            first = next(stream.pieces, None)
            if first is None and answer.length:
                raise RuntimeError(f"a read of {answer.length} bytes gave none")
            if first is not None and len(first) == answer.length and len(first) < SMALL_BYTES:
                # The usual small read: one copy costs less than all that streaming needs.
                answer.body = bytes(first)
            else:
                self._metrics.note_first_byte(exchange.endpoint, perf_counter() - exchange.started_at)
                is_going_on = True
            return first
        finally:
            if not is_going_on:
                stream.close()

    # -- answering ---------------------------------------------------------------------------------

    def _whole(
        self, exchange: _Exchange, answer: Answer, body: bytes, start_response: StartResponse
    ) -> Iterable[bytes]:
        try:
            start_response(status_line(answer.status), _headers(exchange, answer))
            if exchange.request.method == "HEAD" or not body:
                return ()
            exchange.bytes_sent = len(body)
            return (body,)
        finally:
            self._finish(exchange)

    def _stream(
        self,
        exchange: _Exchange,
        answer: Answer,
        first: memoryview | None,
        stream: Stream,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        def finish() -> None:
            stream.close()
            if not exchange.is_whole:
                self._metrics.note_cut_off(exchange.endpoint)
            self._finish(exchange)

        try:
            return deliver(
                exchange.request.environ,
                start_response,
                status_line(answer.status),
                _headers(exchange, answer),
                self._guarded(exchange, answer.length, first, stream.pieces),
                finish,
            )
        except CutOff as cut:
            self._log_cut_off(exchange, cut.reason, logging.INFO)
            raise Disconnected(cut.reason) from None

    def _guarded(
        self, exchange: _Exchange, length: int | None, first: memoryview | None, rest: Iterator[memoryview]
    ) -> Iterator[memoryview]:
        """The pieces of an answer that has begun: counted, and cut off where one cannot be made."""
        try:
            if first is not None:
                yield first
                exchange.bytes_sent += len(first)
            for piece in rest:
                yield piece
                exchange.bytes_sent += len(piece)
        except SeekfsError as error:
            reason = f"{error.status} {error.detail}"
            self._log_cut_off(exchange, reason, logging.WARNING, problem=problem_of(error))
            raise Disconnected(reason) from None
        except Exception as error:
            reason = "an error that seekfs did not foresee"
            self._log_cut_off(exchange, reason, logging.ERROR, error=error, problem=INTERNAL)
            raise Disconnected(reason) from None
        if length is not None and exchange.bytes_sent != length:
            reason = f"{length} bytes were announced"
            self._log_cut_off(exchange, reason, logging.ERROR)
            raise Disconnected(reason)
        exchange.is_whole = True

    def _log_cut_off(
        self,
        exchange: _Exchange,
        reason: str,
        level: int,
        *,
        error: Exception | None = None,
        problem: Problem | None = None,
    ) -> None:
        """``problem`` is what would have been answered, had the answer not begun."""
        request = exchange.request
        log.log(
            level,
            "%s %s: cut off after %d bytes: %s",
            request.method,
            request.target,
            exchange.bytes_sent,
            reason,
            exc_info=error,
            extra={"request_id": request.id} if problem is None else problem.for_log(request.id),
        )

    def _finish(self, exchange: _Exchange) -> None:
        self._metrics.in_flight.dec()
        seconds = perf_counter() - exchange.started_at
        self._metrics.note_answer(exchange.endpoint, exchange.status, seconds, exchange.bytes_sent)


def _headers(exchange: _Exchange, answer: Answer) -> Headers:
    headers = answer.headers
    headers.append(("X-Request-Id", exchange.request.id))
    if answer.content_type:
        headers.append(("Content-Type", answer.content_type))
    if answer.length is not None:
        headers.append(("Content-Length", str(answer.length)))
    return headers
