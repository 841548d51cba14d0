"""A client's connection under gunicorn's threads, made so that no client can hold the daemon up.

gunicorn 27's threaded worker leaves three doors open, which this closes:

* A client that stops reading, or stops half-way through sending a request, blocks its thread for ever.
  Here ``SO_SNDTIMEO`` and ``SO_RCVTIMEO`` bound every wait for it; when one runs out, the connection is
  closed quietly (``Disconnected``), not with a traceback. Of a request, the sum of the waits is bounded too
  (``expect_within``): one that comes a byte at a time never lets a single wait run out.
* A connection on which nothing was sent yet holds a thread for five seconds. Here it waits in the
  poller, like one that is kept alive.
* Closing a connection gracefully waits up to two seconds for the client, in the one thread that accepts
  and polls for everybody. Here the poller waits, for all of them at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import socket
import struct
import time
from typing import TYPE_CHECKING

from gunicorn.workers.gthread import TConn  # type: ignore[import-untyped]

from seekfs_wsgi.sending import Disconnected

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = logging.getLogger("seekfs.http")

LINGER_SECONDS_MAX = 2.0
"""How long a client may take to close after its last answer, or to send what of its request was not read."""

_GONE = frozenset(
    (
        errno.EPIPE,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    )
)

_DRAIN_BYTES = 64 * 1024
_DRAIN_STEPS = 16
_TIMEVAL = struct.Struct("ll")
_ABORT = struct.pack("ii", 1, 0)
"""``SO_LINGER`` of no time: the kernel throws away what the client does not take."""


class ClientSocket(socket.socket):
    """A blocking socket on which no single wait takes longer than ``set_patience`` said."""

    has_stopped_reading = False
    patience_seconds = 0.0
    _expected_seconds = math.inf
    _expected_until = math.inf

    def set_patience(self, seconds: float) -> None:
        """Bound the wait for any progress of a send, and for the next bytes of a request."""
        self.patience_seconds = seconds
        whole = int(seconds)
        # 0 would mean for ever.
        bound = _TIMEVAL.pack(whole, max(1 if whole == 0 else 0, int((seconds - whole) * 1e6)))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)

    def expect_within(self, seconds: float) -> None:
        """From now on, what is waited for has to come within this time, in however many pieces."""
        self._expected_seconds = seconds
        self._expected_until = time.monotonic() + seconds

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        try:
            super().sendall(data, flags)
        except OSError as error:
            raise self._seen_as_gone(error, "reading") from None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if time.monotonic() > self._expected_until and self.gettimeout() is None:
            reason = f"the client took more than {self._expected_seconds:g} seconds to send a request"
            log.info("%s: %s", self._peer(), reason)
            raise Disconnected(reason)
        try:
            return super().recv(size, flags)
        except OSError as error:
            raise self._seen_as_gone(error, "sending") from None

    def _seen_as_gone(self, error: OSError, what: str) -> OSError:
        """The error, or ``Disconnected`` for those that only say that the client is not there any more."""
        if error.errno in _GONE:
            return Disconnected(str(error))
        # Where the socket is not blocking nobody has waited: EAGAIN is then only an answer.
        if not isinstance(error, BlockingIOError) or self.gettimeout() is not None:
            return error
        self.has_stopped_reading = what == "reading"
        reason = f"the client stopped {what} for {self.patience_seconds:g} seconds (api.send_timeout_sec)"
        log.info("%s: %s", self._peer(), reason)
        return Disconnected(reason)

    def _peer(self) -> str:
        try:
            address = self.getpeername()
        except OSError:
            return "a client"
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a client"


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """One connection; ``sock`` is a ``ClientSocket``."""

    def say_goodbye(self) -> bool:
        """Say that nothing more will come; True where the client may have to be waited for.

        Closing with unread bytes of a request would reset the connection, and the answer with it. So the
        client gets a moment to close first, in which what it sends is thrown away (``drain``).
        """
        sock: ClientSocket = self.sock
        try:
            if sock.has_stopped_reading:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                return False
            sock.setblocking(False)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return self.drain()

    def drain(self) -> bool:
        """Throw away what has come; False when the client has closed, or is not there any more."""
        try:
            for _ in range(_DRAIN_STEPS):
                if not self.sock.recv(_DRAIN_BYTES):
                    return False
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def cut(self) -> None:
        """End it from another thread: whoever sends or receives on it is woken with an error."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self, graceful: bool = False) -> None:
        """Close at once; the waiting, where there is any, has been done."""
        with contextlib.suppress(OSError):
            self.sock.close()
