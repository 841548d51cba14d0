"""A client's connection under gunicorn's threads, made so that no client can hold the daemon up.

gunicorn 27's threaded worker leaves doors open, which this closes:

* A connection takes a thread as soon as a byte has come. Here the poller takes what comes (``receive``), and
  a thread gets the connection when the whole request is there; gunicorn's parser reads from what was kept.
  Only a body too large to keep is read by a thread, within ``read_until`` in all.
* A client that stops reading, or reads next to nothing, blocks its thread for ever. Here it is given up
  (``CutOff``, no traceback) once the daemon has waited ``patience_seconds`` for it to take
  ``TAKEN_BYTES_MIN``.
* Closing a connection gracefully waits up to two seconds for the client, in the one thread that accepts
  and polls for everybody. Here the poller waits, for all of them at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import TConn  # type: ignore[import-untyped]

from seekfs_wsgi.arrival import Arrival, Stage
from seekfs_wsgi.parsing import StrictRequest
from seekfs_wsgi.sending import CutOff, Disconnected

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LINGER_SECONDS_MAX = 2.0
"""How long a client may take to close after its last answer, or to send what of its request was not read."""

TAKEN_BYTES_MIN = 64 * 1024
"""A client that takes less than this while the daemon waits ``patience_seconds`` for it is given up."""

UNSENT_BYTES_MAX = 256 * 1024
"""How far the kernel lets a sender run ahead of what the client can take in.

Without such a bound it wakes a sender when a third of a buffer of megabytes has gone out: a client that takes
hundreds of kilobytes a second would seem to take nothing for many seconds.
"""

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

_RECEIVE_BYTES = 16 * 1024
_DRAIN_BYTES = 64 * 1024
_DRAIN_STEPS = 16
_TIMEVAL = struct.Struct("ll")
_ABORT = struct.pack("ii", 1, 0)
"""``SO_LINGER`` of no time: the kernel throws away what the client does not take."""

_CLOCK_SECONDS = 0.01
"""A wait in the kernel may end one of its ticks early."""

# <asm-generic/socket.h>; Python has no name for it.
_SO_ATTACH_FILTER = 26
_BPF_INSTRUCTION = struct.Struct("HBBI")
_NO_SYN = b"".join(
    _BPF_INSTRUCTION.pack(*instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # the byte of a TCP header that holds its flags
        (0x45, 0, 1, 0x02),  # is SYN among them?
        (0x06, 0, 0, 0),  # then drop the packet,
        (0x06, 0, 0, 0xFFFFFFFF),  # else keep all of it
    )
)


class ClientSocket(socket.socket):
    """A socket that knows how far its request has come, and how long its client may take.

    The poller uses ``receive`` and ``send_at_once`` while it is not blocking; a thread uses ``recv`` and
    ``sendall`` while it is.
    """

    arrival: Arrival
    has_stopped_reading = False
    cut_because = ""
    """Why the daemon has ended the connection while a thread was answering on it."""
    patience_seconds = 0.0
    read_until = math.inf
    when_read: Callable[[], object] | None = None
    """Called once, by the thread that reads a body, when it has come or will not come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._received = bytearray()
        self._taken_bytes = 0
        self._waited_seconds = 0.0
        if sys.platform == "linux" and self.family in (socket.AF_INET, socket.AF_INET6):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)

    def set_patience(self, seconds: float) -> None:
        """Bound what a client may take to read; see the module's text."""
        if seconds != self.patience_seconds:
            self.patience_seconds = seconds
            self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))

    # -- a request comes in ------------------------------------------------------------------------

    def await_request(self, arrival: Arrival, read_ahead: bytes = b"") -> None:
        """What comes now is another request, ``read_ahead`` of it by the parser of the one before."""
        self.arrival = arrival
        self.when_read = None
        self._received[:0] = read_ahead
        if self._received:
            arrival.feed(bytes(self._received))

    def receive(self) -> bool:
        """Take what has come, within what may be kept; False at the client's end. Raises ``OSError``."""
        room = self.arrival.limits.held_bytes_max - len(self._received)
        data = super().recv(min(room, _RECEIVE_BYTES))
        if not data:
            self.arrival.end()
            return False
        self._received += data
        self.arrival.feed(data)
        return True

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """For the parser: what was kept, then what is still to come of a large body, then nothing.

        Raises the refusal of a body that ends early, is malformed, or does not come in time.
        """
        if self._received:
            data = bytes(self._received[:size])
            del self._received[:size]
            return data
        data = self._recv_in_time(size, flags) if self.arrival.stage is Stage.LARGE else b""
        if self.arrival.refusal is not None:
            raise self.arrival.refusal
        return data

    def _recv_in_time(self, size: int, flags: int) -> bytes:
        left = self.read_until - time.monotonic()
        data = None
        if left > 0:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(left))
            with contextlib.suppress(BlockingIOError):
                data = self._received_from_client(size, flags)
        if data is None:
            self.arrival.run_out()
        elif data:
            self.arrival.feed(data)
        else:
            self.arrival.end()
        if self.arrival.stage is not Stage.LARGE and self.when_read is not None:
            self.when_read()
        return data or b""

    def _received_from_client(self, size: int, flags: int = 0) -> bytes:
        try:
            return super().recv(size, flags)
        except OSError as error:
            if error.errno in _GONE:
                raise Disconnected(str(error)) from None
            raise

    def throw_away(self, size: int) -> bool:
        """Take what has come and forget it; False at the client's end. Raises ``OSError``."""
        self._received.clear()
        return bool(super().recv(size))

    # -- an answer goes out ------------------------------------------------------------------------

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        left = memoryview(data)
        while left:
            began = time.monotonic()
            try:
                # One call in the kernel, which waits no longer than patience_seconds in all.
                sent = super().send(left, flags)
            except BlockingIOError:
                if self.gettimeout() is not None:
                    raise
                sent = 0
            except OSError as error:
                if error.errno in _GONE:
                    raise (
                        CutOff(self.cut_because) if self.cut_because else Disconnected(str(error))
                    ) from None
                raise
            self._note_taken(sent, time.monotonic() - began)
            left = left[sent:]

    def _note_taken(self, taken_bytes: int, waited_seconds: float) -> None:
        self._taken_bytes += taken_bytes
        self._waited_seconds += waited_seconds
        if self._taken_bytes >= TAKEN_BYTES_MIN:
            self._taken_bytes, self._waited_seconds = 0, 0.0
        elif self._waited_seconds >= max(self.patience_seconds - _CLOCK_SECONDS, _CLOCK_SECONDS):
            self.has_stopped_reading = True
            raise CutOff(
                f"{self.peer()} stopped reading: it took {self._taken_bytes} bytes in "
                f"{self._waited_seconds:.3g} seconds (api.send_timeout_sec)"
            )

    def send_at_once(self, data: bytes) -> bool:
        """Send without waiting; False where not all of it goes out, or nobody is there."""
        try:
            return super().send(data) == len(data)
        except OSError:
            return False

    def peer(self) -> str:
        """For the log: ``the client 127.0.0.1:40312``."""
        try:
            address = self.getpeername()
        except OSError:
            return "the client"
        return f"the client {address[0]}:{address[1]}" if isinstance(address, tuple) else "the client"


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    # 0 would mean for ever.
    return _TIMEVAL.pack(whole, max(1 if whole == 0 else 0, int((seconds - whole) * 1e6)))


def deafen(listener: socket.socket) -> None:
    """Let a listening socket overlook every new ``SYN``, where the kernel can: what is in its queue stays.

    There is no other way to keep the queue from growing: ``shutdown`` throws away what is in it.
    """
    if sys.platform == "linux" and listener.family in (socket.AF_INET, socket.AF_INET6):
        program = ctypes.create_string_buffer(_NO_SYN)
        pointer = struct.pack("HP", len(_NO_SYN) // _BPF_INSTRUCTION.size, ctypes.addressof(program))
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


class Waiting:
    """Connections that wait for the same thing, each for as long: who began first runs out first."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._connections: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, conn: Connection) -> None:
        conn.timeout = time.monotonic() + self.seconds
        self._connections[conn] = None

    def remove(self, conn: Connection) -> None:
        del self._connections[conn]

    def cap(self, until: float) -> None:
        """Nobody who waits now waits longer than ``until``."""
        for conn in self._connections:
            conn.timeout = min(conn.timeout, until)

    def due(self) -> float:
        """When the first runs out, in monotonic seconds."""
        first: float = next(iter(self._connections)).timeout if self._connections else math.inf
        return first

    def expired(self, now: float) -> list[Connection]:
        found = []
        for conn in self._connections:
            if conn.timeout > now:
                break
            found.append(conn)
        return found


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no types
    """One connection; ``sock`` is a ``ClientSocket``. ``waiting`` is None while a thread has it."""

    waiting: Waiting | None = None
    is_polled = False

    def init(self) -> None:
        super().init()
        self.parser.mesg_class = StrictRequest

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
                if not self.sock.throw_away(_DRAIN_BYTES):
                    return False
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def cut(self, reason: str) -> None:
        """End it from another thread: whoever sends or receives on it is woken with an error."""
        self.sock.cut_because = reason
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self, graceful: bool = False) -> None:
        """Close at once; the waiting, where there is any, has been done."""
        with contextlib.suppress(OSError):
            self.sock.close()
