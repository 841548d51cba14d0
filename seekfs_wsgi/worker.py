"""gunicorn's threaded worker, as a daemon of one process that holds caches needs it.

What is changed is about clients (a thread is given what has come in whole, see ``arrival`` and
``connections``; /healthz and the like have threads of their own), about the end (SIGTERM: the port is closed
at once, streams finish for ``api.drain_sec``; a dead master takes its worker with it), and about errors of
gunicorn's own parser, which become problem documents with a request id like every other error.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from selectors import EVENT_READ, DefaultSelector
from typing import Any, assert_never

from gunicorn import glogging  # type: ignore[import-untyped]
from gunicorn.http import errors as http_errors  # type: ignore[import-untyped]
from gunicorn.workers.gthread import (  # type: ignore[import-untyped]
    STOP_KEEPALIVE_LINGER,
    PollableMethodQueue,
    ThreadWorker,
)

from seekfs_io import logs
from seekfs_io.keeper import die_with
from seekfs_wsgi import daemon
from seekfs_wsgi.arrival import Arrival, Limits, Stage
from seekfs_wsgi.connections import LINGER_SECONDS_MAX, ClientSocket, Connection, Waiting, deafen
from seekfs_wsgi.problems import (
    CONTENT_TYPE,
    INTERNAL,
    Problem,
    new_request_id,
    problem_of_any,
    status_line,
)
from seekfs_wsgi.sending import CutOff

log = logging.getLogger("seekfs.http")


_NOTHING_TO_ACCEPT = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR))
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_EXHAUSTED_PAUSE_SECONDS = 0.1

_DETAIL_SHOWN_MAX = 300

VITAL_PATHS = frozenset((b"/healthz", b"/readyz", b"/metrics"))
"""Whoever watches the daemon must hear from it also while every thread is busy with a slow client."""

_VITAL_PATIENCE_SECONDS = 2.0
"""Their answers are small; whoever does not take one must not hold up who waits behind."""

_HANDSHAKE_SECONDS_MAX = 0.1
"""How long a connection that is being made when the daemon stops may take to be made."""

_PARSER_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (http_errors.LimitRequestLine, 414),
    (http_errors.LimitRequestHeaders, 431),
    (http_errors.ExpectationFailed, 417),
    # RFC 9112 (6.1) suggests 501. But what is no coding known to HTTP is a malformed request here like any
    # other, and a 5xx says that the daemon or its store failed.
    (http_errors.UnsupportedTransferCoding, 400),
    (http_errors.ForbiddenProxyRequest, 403),
    (http_errors.ConfigurationProblem, 500),
    (http_errors.ParseException, 400),
)
"""The first that fits counts."""


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's messages in the one format of the daemon, on stderr. There is no access log."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        config = daemon.running_config().log
        logs.configure(config)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(config.level.upper())
        self._access_log_enabled = False

    def reopen_files(self) -> None:
        """There are none: rotating stderr is its reader's business."""

    def close_on_exec(self) -> None:
        """Nothing to do."""


class _CallbackQueue(PollableMethodQueue):  # type: ignore[misc]  # gunicorn has no types
    """How threads tell the polling one that they are done. Its pipe stays open for as long as the process.

    At the end threads may still be finishing; a byte written to a number that has been closed would go into
    whatever file was opened under that number meanwhile.
    """

    def close(self) -> None:
        """See the class's text."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """See the module's text. Everything but ``handle`` and what it calls runs on the polling thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method_queue = _CallbackQueue()
        self.listens_alone = True
        """Whether the listening sockets end with this process, rather than go on to another daemon."""
        api = daemon.running_config().api
        self._patience_seconds = api.send_timeout_sec
        self._limits = Limits(
            request_line_bytes_max=self.cfg.limit_request_line,
            held_bytes_max=daemon.HELD_BYTES_MAX,
            body_bytes_max=api.request_max_bytes,
            head_seconds_max=api.send_timeout_sec,
            body_seconds_max=api.request_deadline_sec,
        )
        self.in_hand: set[Connection] = set()
        """Connections that a thread is with now. Sets take one item at a time without a lock."""
        self.idle = Waiting(self.cfg.keepalive or daemon.KEEPALIVE_SECONDS)
        """Nothing of a request has come."""
        self.heads = Waiting(api.send_timeout_sec)
        self.bodies = Waiting(api.request_deadline_sec)
        self.leaving = Waiting(LINGER_SECONDS_MAX)
        """Connections that have had their last answer, and whose clients are yet to close."""
        self.large: dict[Connection, None] = {}
        """Those among ``bodies`` that wait for a thread to read them; till then nothing of them is taken."""
        self.reading: set[Connection] = set()
        """Large bodies that threads read now: at most every second thread, so that the others can answer."""
        self._reading_max = max(1, self.cfg.threads // 2)

    def init_process(self) -> None:
        # However the master ends: else this process would go on holding the port.
        die_with(self.ppid)
        # The master waits longer than this, so that what is left to flush then can be.
        self.cfg.set("graceful_timeout", math.ceil(daemon.running_config().api.drain_sec))
        self.reserve = ThreadPoolExecutor(daemon.RESERVE_THREADS, thread_name_prefix="reserve")
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        # A terminal tells its whole group; that the daemon is to stop is the master's to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, daemon.STOP_SIGNALS)

    # -- a connection comes ------------------------------------------------------------------------

    def accept(self, listener: Any) -> bool:
        """Take one connection; False where there is none."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                # The connection stays in the queue; without a pause this would be asked again at once.
                self.log.warning("no more connections for now: %s", error.strerror)
                time.sleep(_EXHAUSTED_PAUSE_SECONDS)
                return False
            if error.errno in _NOTHING_TO_ACCEPT:
                return False
            raise
        client = ClientSocket(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self.nr_conns += 1
        self._await_request(Connection(self.cfg, client, address, listener.getsockname()), b"")
        return True

    # -- a request comes in ------------------------------------------------------------------------

    def _await_request(self, conn: Connection, read_ahead: bytes) -> None:
        conn.sock.setblocking(False)
        conn.sock.await_request(Arrival(self._limits), read_ahead)
        self._go_on(conn)

    def on_request_readable(self, conn: Connection, client: ClientSocket) -> None:
        """More of a request has come, or its client has closed."""
        try:
            has_more = client.receive()
        except BlockingIOError:
            return
        except OSError:
            has_more = False
            client.arrival.end()
        if not has_more and client.arrival.stage is Stage.SILENT:
            self._close(conn)
        else:
            self._go_on(conn)

    def _go_on(self, conn: Connection) -> None:
        """Wait for what is still to come of a request, or have it answered."""
        match conn.sock.arrival.stage:
            case Stage.SILENT:
                self._wait(conn, self.idle)
            case Stage.HEAD:
                self._wait(conn, self.heads)
            case Stage.BODY:
                self._wait(conn, self.bodies)
            case Stage.LARGE:
                self._wait(conn, self.bodies)
                self._leave_poller(conn)
                self.large[conn] = None
                self._read_large()
            case Stage.READY:
                self._take(conn)
                self.enqueue_req(conn)
            case Stage.REFUSED:
                self._refuse(conn)
            case _:
                assert_never(conn.sock.arrival.stage)

    def _read_large(self) -> None:
        """Give large bodies threads, those first that have waited longest."""
        while self.large and len(self.reading) < self._reading_max:
            conn = next(iter(self.large))
            until = conn.timeout
            self._take(conn)
            self.reading.add(conn)
            conn.sock.read_until = until
            conn.sock.when_read = partial(self.method_queue.defer, self._note_read, conn)
            self.enqueue_req(conn)

    def _note_read(self, conn: Connection) -> None:
        if conn in self.reading:
            self.reading.discard(conn)
            self._read_large()

    def enqueue_req(self, conn: Connection) -> None:
        """Let a thread answer; the vital paths have theirs, which are never busy with anything else."""
        arrival = conn.sock.arrival
        is_vital = arrival.is_whole and arrival.path in VITAL_PATHS
        conn.sock.set_patience(min(self._patience_seconds, _VITAL_PATIENCE_SECONDS if is_vital else math.inf))
        conn.data_ready = True
        pool = self.reserve if is_vital else self.tpool
        future = pool.submit(self.handle, conn)
        future.add_done_callback(partial(self.method_queue.defer, self.finish_request, conn))

    def _refuse(self, conn: Connection) -> None:
        """Answer what will never be a request. That needs no thread: nothing is waited for."""
        refusal = conn.sock.arrival.refusal
        if conn.sock.send_at_once(_refusal(problem_of_any(refusal), conn.sock, conn.client, refusal)):
            self._say_goodbye(conn)
        else:
            self._close(conn)

    # -- a request is answered ---------------------------------------------------------------------

    def handle(self, conn: Connection) -> Any:
        self.in_hand.add(conn)
        try:
            return super().handle(conn)
        finally:
            self.in_hand.discard(conn)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        if len(self.idle) >= self.max_keepalived:
            req.force_close()
        try:
            return super().handle_request(req, conn)
        except CutOff as cut:
            # Of a streamed answer the application has told, which knows the request's id.
            log.info("an answer was cut off: %s", cut.reason)
            raise

    def _keepalive_after(self, conn: Connection, keepalive: Any) -> bool:
        """Whether another request can follow, behind what is left of this one's body: that has come."""
        return bool(keepalive and conn.parser.finish_body())

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """Called on the polling thread when a thread is done with a connection."""
        self._note_read(conn)
        if not fs.cancelled() and fs.exception() is None and fs.result():
            self._await_request(conn, conn.parser.unreader.take_buffered())
        else:
            self._say_goodbye(conn)

    # -- waiting and closing -----------------------------------------------------------------------

    def _wait(self, conn: Connection, waiting: Waiting) -> None:
        if conn.waiting is not waiting:
            if conn.waiting is not None:
                conn.waiting.remove(conn)
            conn.waiting = waiting
            waiting.add(conn)
        if not conn.is_polled:
            on_readable = self.on_leaving_readable if waiting is self.leaving else self.on_request_readable
            self.poller.register(conn.sock, EVENT_READ, partial(on_readable, conn))
            conn.is_polled = True

    def _leave_poller(self, conn: Connection) -> None:
        if conn.is_polled:
            self.poller.unregister(conn.sock)
            conn.is_polled = False

    def _take(self, conn: Connection) -> None:
        """It waits for nothing any more."""
        self._leave_poller(conn)
        self.large.pop(conn, None)
        if conn.waiting is not None:
            conn.waiting.remove(conn)
            conn.waiting = None

    def _say_goodbye(self, conn: Connection) -> None:
        self._take(conn)
        if conn.say_goodbye():
            self._wait(conn, self.leaving)
        else:
            self._close(conn)

    def on_leaving_readable(self, conn: Connection, client: ClientSocket) -> None:
        """A client that has its last answer says more, or has closed."""
        if not conn.drain():
            self._close(conn)

    def _close(self, conn: Connection) -> None:
        self._take(conn)
        self.nr_conns -= 1
        conn.close()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        due = min(waiting.due() for waiting in (self.idle, self.heads, self.bodies, self.leaving))
        super().wait_for_and_dispatch_events(max(0.0, min(timeout, due - time.monotonic())))

    def murder_pending(self) -> None:
        """Called at every turn of the polling thread: see to those that have waited long enough."""
        now = time.monotonic()
        for conn in self.idle.expired(now):
            # A request that has come meanwhile would be reset with its connection.
            self.on_request_readable(conn, conn.sock)
            if conn.waiting is self.idle:
                self._close(conn)
        for conn in (*self.heads.expired(now), *self.bodies.expired(now)):
            conn.sock.arrival.run_out()
            self._refuse(conn)
        for conn in self.leaving.expired(now):
            self._close(conn)

    # -- the end -----------------------------------------------------------------------------------

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        # Stopping. Who has connected already is served; who comes now is refused, not left waiting.
        self._stop_listening()
        self.idle.seconds = STOP_KEEPALIVE_LINGER
        for waiting in (self.idle, self.heads):
            waiting.cap(time.monotonic() + STOP_KEEPALIVE_LINGER)

    def _stop_listening(self) -> None:
        """Accept every connection that there is, and close; none is to come between the two.

        What a listener has in its queue when it is closed is reset. So first it hears no new ``SYN`` any more
        (its client repeats it a second later, and is refused then), and those that were answered already get
        a moment to become connections.
        """
        if self.listens_alone:
            for listener in self.sockets:
                deafen(listener)
        until = time.monotonic() + _HANDSHAKE_SECONDS_MAX
        with DefaultSelector() as selector:
            for listener in self.sockets:
                selector.register(listener, EVENT_READ)
            while True:
                for listener in self.sockets:
                    while self.accept(listener):
                        pass
                left = until - time.monotonic()
                if left <= 0:
                    break
                selector.select(left)
        for listener in self.sockets:
            listener.close()

    def cut_connections(self) -> None:
        """Wake every thread that still waits for a client."""
        for connection in list(self.in_hand):
            connection.cut("the daemon stops, and its answer has not been taken in time (api.drain_sec)")

    # -- errors ------------------------------------------------------------------------------------

    def handle_error(self, req: Any, client: ClientSocket, addr: Any, exc: Exception) -> None:
        """Answer what never became a request, or what failed in the server around it."""
        with contextlib.suppress(OSError):
            client.sendall(_refusal(parser_problem(exc), client, addr, exc))


def _refusal(problem: Problem, client: ClientSocket, address: Any, error: Exception) -> bytes:
    """The answer, after the log has it."""
    request_id = new_request_id()
    peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a client"
    log.log(
        problem.log_level,
        "%s sent no request: %d %s",
        peer,
        problem.status,
        problem.detail,
        exc_info=error if problem is INTERNAL else None,
        extra=problem.for_log(request_id),
    )
    return error_answer(problem, request_id, has_body=not client.arrival.is_head)


def parser_problem(error: Exception) -> Problem:
    """What gunicorn's parser found wrong, as a problem."""
    for kind, status in _PARSER_STATUSES:
        if isinstance(error, kind):
            title = status_line(status)[4:]
            detail = ascii(str(error)[:_DETAIL_SHOWN_MAX])[1:-1]
            if isinstance(error, http_errors.InvalidRequestLine) and not str(error.req).isascii():
                detail = f"bytes that are not ASCII are to be percent-encoded (%XX) in a request: {detail}"
            return Problem(
                status=status, slug=title.lower().replace(" ", "-"), title=title, detail=detail or title
            )
    return problem_of_any(error)


def error_answer(problem: Problem, request_id: str, *, has_body: bool = True) -> bytes:
    """A whole HTTP/1.1 answer, after which the connection is closed; to a HEAD without the body."""
    body = problem.document(request_id)
    head = (
        f"HTTP/1.1 {status_line(problem.status)}\r\n"
        "Connection: close\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-Id: {request_id}\r\n"
        "\r\n"
    )
    return head.encode("ascii") + (body if has_body else b"")
