"""gunicorn's threaded worker, as a daemon of one process that holds caches needs it.

What is changed is about clients (``connections``), about the end (SIGTERM: the port is closed at once,
streams finish for ``api.drain_sec``; a dead master takes its worker with it), and about errors of gunicorn's
own parser, which become problem documents with a request id like every other error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import math
import os
import signal
import socket
import sys
import time
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn import glogging  # type: ignore[import-untyped]
from gunicorn.http import errors as http_errors  # type: ignore[import-untyped]
from gunicorn.workers.gthread import (  # type: ignore[import-untyped]
    STOP_KEEPALIVE_LINGER,
    PollableMethodQueue,
    ThreadWorker,
)

from seekfs_io import logs
from seekfs_wsgi import daemon
from seekfs_wsgi.connections import LINGER_SECONDS_MAX, ClientSocket, Connection
from seekfs_wsgi.problems import CONTENT_TYPE, INTERNAL, Problem, new_request_id, status_line

log = logging.getLogger("seekfs.http")

PR_SET_PDEATHSIG = 1

_NOTHING_TO_ACCEPT = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR))
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_EXHAUSTED_PAUSE_SECONDS = 0.1

_DETAIL_SHOWN_MAX = 300

_PARSER_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (http_errors.LimitRequestLine, 414),
    (http_errors.LimitRequestHeaders, 431),
    (http_errors.ExpectationFailed, 417),
    (http_errors.UnsupportedTransferCoding, 501),
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
    """See the module's text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method_queue = _CallbackQueue()
        self.in_hand: set[Connection] = set()
        """Connections that a thread is with now. Sets take one item at a time without a lock."""
        self.leaving: dict[Connection, None] = {}
        """Connections that have had their last answer, and whose clients are yet to close."""
        api = daemon.running_config().api
        self._patience_seconds = api.send_timeout_sec
        self._deadline_seconds = api.request_deadline_sec

    def init_process(self) -> None:
        _die_with(self.ppid)
        # The master waits longer than this, so that what is left to flush then can be.
        self.cfg.set("graceful_timeout", math.ceil(daemon.running_config().api.drain_sec))
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        # A terminal tells its whole group; that the daemon is to stop is the master's to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, daemon.STOP_SIGNALS)

    # -- connections -------------------------------------------------------------------------------

    def accept(self, listener: Any) -> bool:
        """Take one connection and wait for its first bytes in the poller; False where there is none."""
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
        client.set_patience(self._patience_seconds)
        connection = Connection(self.cfg, client, address, listener.getsockname())
        connection.set_timeout()
        self.nr_conns += 1
        self.pending_conns.append(connection)
        self.poller.register(client, EVENT_READ, partial(self.on_pending_socket_readable, connection))
        return True

    def handle(self, conn: Connection) -> Any:
        conn.sock.expect_within(self._patience_seconds)
        self.in_hand.add(conn)
        try:
            return super().handle(conn)
        finally:
            self.in_hand.discard(conn)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        """The head has come; a body may be long and its client slow."""
        conn.sock.expect_within(self._deadline_seconds)
        return super().handle_request(req, conn)

    def finish_request(self, conn: Connection, fs: Future[Any]) -> None:
        """Called on the polling thread when a thread is done with a connection."""
        if not fs.cancelled() and fs.exception() is None and fs.result():
            super().finish_request(conn, fs)
        elif conn.say_goodbye():
            conn.timeout = time.monotonic() + LINGER_SECONDS_MAX
            self.leaving[conn] = None
            self.poller.register(conn.sock, EVENT_READ, partial(self.on_leaving_socket_readable, conn))
        else:
            self._close(conn)

    def on_leaving_socket_readable(self, conn: Connection, client: ClientSocket) -> None:
        """A client that has its last answer says more, or has closed."""
        if not conn.drain():
            self._forget_leaving(conn)

    def murder_pending(self) -> None:
        """Called at every turn of the polling thread: close what has waited long enough."""
        super().murder_pending()
        now = time.monotonic()
        # In the order in which they began to wait, all for the same time.
        while self.leaving and (longest := next(iter(self.leaving))).timeout <= now:
            self._forget_leaving(longest)

    def _forget_leaving(self, conn: Connection) -> None:
        del self.leaving[conn]
        self.poller.unregister(conn.sock)
        self._close(conn)

    def _close(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close()

    # -- the end -----------------------------------------------------------------------------------

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        # Stopping. Who has connected already is served; who comes now is refused, not left waiting.
        for listener in self.sockets:
            while self.accept(listener):
                pass
            listener.close()
        soon = time.monotonic() + STOP_KEEPALIVE_LINGER
        for connection in self.pending_conns:
            connection.timeout = min(connection.timeout, soon)

    def cut_connections(self) -> None:
        """Wake every thread that still waits for a client."""
        for connection in list(self.in_hand):
            connection.cut()

    # -- errors ------------------------------------------------------------------------------------

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what never became a request, or what failed in the server around it."""
        problem = parser_problem(exc)
        request_id = new_request_id()
        peer = f"{addr[0]}:{addr[1]}" if isinstance(addr, tuple) else "a client"
        unforeseen = problem is INTERNAL
        log.log(
            logging.ERROR if unforeseen else logging.INFO,
            "%s sent no request: %d %s",
            peer,
            problem.status,
            problem.detail,
            exc_info=exc if unforeseen else None,
            extra={"request_id": request_id},
        )
        with contextlib.suppress(OSError):
            client.sendall(error_answer(problem, request_id))


def parser_problem(error: Exception) -> Problem:
    """What gunicorn's parser found wrong, as a problem."""
    for kind, status in _PARSER_STATUSES:
        if isinstance(error, kind):
            title = status_line(status)[4:]
            detail = ascii(str(error)[:_DETAIL_SHOWN_MAX])[1:-1]
            return Problem(
                status=status, slug=title.lower().replace(" ", "-"), title=title, detail=detail or title
            )
    return INTERNAL


def error_answer(problem: Problem, request_id: str) -> bytes:
    """A whole HTTP/1.1 answer, after which the connection is closed."""
    body = problem.document(request_id)
    head = (
        f"HTTP/1.1 {status_line(problem.status)}\r\n"
        "Connection: close\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-Id: {request_id}\r\n"
        "\r\n"
    )
    return head.encode("ascii") + body


def _die_with(parent_pid: int) -> None:
    """Be killed when the master dies, however it dies: else this process would go on holding the port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
