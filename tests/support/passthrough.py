"""A pass-through in front of the object store: it counts what is asked, and can be told to misbehave.

Requests are forwarded as they came, the Host header included, so that signatures stay valid.
Bodies are streamed both ways. Each client connection has a thread and an upstream connection of
its own. Every request is recorded (``Exchange``) and may be given a ``Plan``, which is plain data:

    with PassThrough("127.0.0.1", seaweed.s3_port) as store:
        gate = threading.Event()
        store.when(Match(method="GET", key="namespaces/dev/files/a"), Plan(hold_body=((1 << 20, gate),)))
        ...                                    # a client of store.endpoint gets the first MiB
        store.wait_until(lambda: store.gets(key="…")[0].bytes_sent == 1 << 20)
        gate.set()

The steps of an exchange, and where a plan takes hold:

    request head read → hold_request → answer | drop="request" → meanwhile → head changed, body forwarded
    → upstream's head read → drop="answer" → delay, hold_head → head changed → head sent, or cut
    → body: flipped, held, cut, each at its byte

What can go wrong with a store is there as a table of plans: ``tests.support.hostile_store``.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from attrs import define, field

from seekfs_io.devserver import free_ports
from tests.support.exchanges import BODY_START_BYTES, Exchange, Match, Plan
from tests.support.leaks import OUTPUTS
from tests.support.wire import Answer, Head, body, expect, read_head

__all__ = ["Answer", "Exchange", "Head", "Match", "PassThrough", "Plan"]

WAIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.001


@define(eq=False)
class Rule:
    """Which requests are given a plan; see ``PassThrough.when``."""

    matches: Callable[[Exchange], bool]
    plan: Plan
    times_left: int | None


class _Closed(Exception):
    """The pass-through is being closed, or its store is down."""


class _Ended(Exception):
    """The exchange is over before its end, and the client's connection with it."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@define(eq=False)
class PassThrough:
    """Listens on a free port of 127.0.0.1, from construction to ``close``."""

    upstream_host: str
    upstream_port: int
    tls: ssl.SSLContext | None = field(default=None, kw_only=True)
    """Speak TLS to clients with this; to the store it is always plain HTTP."""

    connections_made: int = field(default=0, init=False)
    """By clients, from construction on."""

    under_way_max: int = field(default=0, init=False)
    """The most requests at one time, since ``forget``: those whose answers lacked a byte yet. Without those
    of a plan that breaks them off or holds them, since a client may have given these up unseen."""

    port: int = field(default=0, init=False)
    _under_way: int = field(default=0, init=False)
    _listener: socket.socket | None = field(default=None, init=False)
    _changed: threading.Condition = field(factory=threading.Condition, init=False)
    _rules: list[Rule] = field(factory=list, init=False)
    _exchanges: list[Exchange] = field(factory=list, init=False)
    _connections: set[socket.socket] = field(factory=set, init=False)
    _threads: set[threading.Thread] = field(factory=set, init=False)
    _held: set[threading.Event] = field(factory=set, init=False)
    _up: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.up()

    # --- what a test sees ---------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def when(self, matches: Callable[[Exchange], bool], plan: Plan, times: int | None = None) -> Rule:
        """Give ``plan`` to the next ``times`` requests that match (None: all). Rules are asked in
        the order of their making; the first that matches and has times left decides."""
        rule = Rule(matches, plan, times)
        with self._changed:
            self._rules.append(rule)
        return rule

    def lift(self, rule: Rule) -> None:
        """Requests that come from here on are no longer given its plan."""
        with self._changed:
            self._rules.remove(rule)

    def forget(self) -> None:
        """Drop all rules and all records, between two parts of a test."""
        with self._changed:
            self._rules.clear()
            self._exchanges.clear()
            self.under_way_max = self._under_way

    def take_exchanges(self) -> list[Exchange]:
        """The records so far, which are dropped here."""
        with self._changed:
            taken, self._exchanges = self._exchanges, []
            return taken

    @property
    def exchanges(self) -> list[Exchange]:
        with self._changed:
            return list(self._exchanges)

    def select(
        self, method: str | None = None, key: str | None = None, key_prefix: str | None = None
    ) -> list[Exchange]:
        match = Match(method=method, key=key, key_prefix=key_prefix)
        return [exchange for exchange in self.exchanges if match(exchange)]

    def gets(self, key: str | None = None, key_prefix: str | None = None) -> list[Exchange]:
        """GETs of objects; listings of the bucket do not count."""
        return [exchange for exchange in self.select("GET", key, key_prefix) if exchange.key]

    def wait_until(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS_MAX) -> None:
        """Until ``condition`` is true of the records; it is asked whenever they change."""
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                summary = "\n".join(
                    f"  {each.method} {each.target} {each.request.get('range') or ''} → {each.status} "
                    f"{each.bytes_sent} bytes, {each.outcome}"
                    for each in self._exchanges[-20:]
                )
                raise AssertionError(f"it did not come to pass; the last exchanges:\n{summary}")

    def down(self) -> None:
        """Be a store that is gone: open connections are closed, new ones refused. Events that an
        exchange is held by are set."""
        self._up = False
        listener, self._listener = self._listener, None
        if listener is not None:
            # Wakes the thread in accept, which close alone does not.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._changed:
            connections, held = list(self._connections), list(self._held)
        for event in held:
            event.set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._join()

    def up(self) -> None:
        """Listen (again), on the same port as before."""
        if self._up:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Not the kernel's choice: while it is down, an outgoing connection could take such a port.
        listener.bind(("127.0.0.1", self.port or free_ports(1)[0]))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener, self._up = listener, True
        self._start(self._accept, listener)

    def close(self) -> None:
        self.down()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- connections --------------------------------------------------------------------------

    def _start(self, work: Callable[[socket.socket], None], connection: socket.socket) -> None:
        def run() -> None:
            try:
                work(connection)
            finally:
                with self._changed:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="pass-through", daemon=True)
        with self._changed:
            self._threads.add(thread)
        thread.start()

    def _join(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        with self._changed:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a thread of the pass-through does not end"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._changed:
                self._connections.add(client)
                self.connections_made += 1
            if not self._up:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        upstream = _Upstream(self._connect)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                client = self._wrapped(client, self.tls)
            with client.makefile("rb") as requests:
                while self._serve_one(client, requests, upstream):
                    pass
        except OSError:
            # The client has left between two requests.
            pass
        finally:
            upstream.close()
            client.close()
            with self._changed:
                # Those that are closed: this client's, and the store's ends of it.
                self._connections = {each for each in self._connections if each.fileno() >= 0}

    def _connect(self) -> socket.socket:
        upstream = socket.create_connection((self.upstream_host, self.upstream_port), WAIT_SECONDS_MAX)
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            self._connections.add(upstream)
        return upstream

    def _wrapped(self, client: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        wrapped = tls.wrap_socket(client, server_side=True)
        with self._changed:
            self._connections.discard(client)
            self._connections.add(wrapped)
        return wrapped

    def _serve_one(self, client: socket.socket, requests: io.BufferedReader, upstream: _Upstream) -> bool:
        """One request; whether the connection may carry another."""
        head = read_head(requests)
        if head is None:
            return False
        exchange = self._record(head)
        outcome = "store left"
        try:
            keep = self._exchange(exchange, client, requests, upstream)
            outcome = "done"
            return keep
        except _Ended as ended:
            outcome = ended.outcome
            if exchange.plan is not None and exchange.plan.reset:
                _reset(client)
            return False
        except _Closed:
            outcome = "closed"
            return False
        except (OSError, ValueError):
            # ValueError: what the store sends is no HTTP.
            return False
        finally:
            self._over(exchange)
            with self._changed:
                exchange.outcome, exchange.ended = outcome, time.monotonic()
                self._changed.notify_all()

    def _record(self, head: Head) -> Exchange:
        method, target, _ = head.line.split(" ", 2)
        with self._changed:
            exchange = Exchange(
                number=len(self._exchanges),
                method=method,
                target=target,
                request=head,
                started=time.monotonic(),
            )
            for rule in self._rules:
                if rule.times_left != 0 and rule.matches(exchange):
                    if rule.times_left is not None:
                        rule.times_left -= 1
                    exchange.plan = rule.plan
                    break
            self._exchanges.append(exchange)
            if exchange.plan is None or exchange.plan.is_kept:
                self._under_way += 1
                self.under_way_max = max(self.under_way_max, self._under_way)
            else:
                exchange.is_under_way = False
            self._changed.notify_all()
        OUTPUTS.sent(head.get("authorization"))
        return exchange

    def _over(self, exchange: Exchange) -> None:
        with self._changed:
            self._under_way -= exchange.is_under_way
            exchange.is_under_way = False

    def _exchange(
        self, exchange: Exchange, client: socket.socket, requests: io.BufferedReader, upstream: _Upstream
    ) -> bool:
        plan = exchange.plan or Plan()
        self._hold(exchange, plan.hold_request)
        if plan.drop == "request":
            raise _Ended("dropped")
        if plan.answer is not None:
            expect(exchange.request, client)
            self._receive(exchange, requests, lambda _: None)
            self._send_own(exchange, client, plan.answer)
            return True
        if plan.meanwhile is not None:
            plan.meanwhile()
        request = exchange.request if plan.change_request is None else plan.change_request(exchange.request)
        send = upstream.begin(request.without("Expect"))
        expect(exchange.request, client)
        self._receive(exchange, requests, send)
        answer = upstream.read_head()
        if plan.drop == "answer":
            raise _Ended("dropped")
        if plan.delay_seconds:
            self._hold(exchange, threading.Event(), plan.delay_seconds)
        self._hold(exchange, plan.hold_head)
        head = answer if plan.change_head is None else plan.change_head(answer)
        if plan.cut_head_at is not None:
            self._send(exchange, client, head.encode()[: plan.cut_head_at])
            raise _Ended("cut")
        self._answered(exchange, head.status)
        if exchange.method == "HEAD" or answer.get("content-length") in (None, "0"):
            self._over(exchange)
        self._send(exchange, client, head.encode())
        # The body is framed as the store has said, whatever the client is told.
        self._send_body(exchange, client, answer, upstream, plan)
        return (head.get("connection") or "").lower() != "close"

    def _receive(
        self, exchange: Exchange, requests: io.BufferedReader, send: Callable[[bytes], None]
    ) -> None:
        for raw, payload in body(exchange.request, requests, to_end=False):
            send(raw)
            if payload and len(exchange.body_start) < BODY_START_BYTES:
                exchange.body_start = (exchange.body_start + raw)[:BODY_START_BYTES]
            exchange.body_bytes_received += payload

    def _send_own(self, exchange: Exchange, client: socket.socket, answer: Answer) -> None:
        head = Head(line=f"HTTP/1.1 {answer.status} Scripted", headers=tuple(answer.headers.items()))
        if head.get("content-length") is None:
            head = head.with_header("Content-Length", str(len(answer.body)))
        self._answered(exchange, answer.status)
        self._over(exchange)
        self._send(exchange, client, head.encode())
        body = b"" if exchange.method == "HEAD" else answer.body
        self._send(exchange, client, body, len(body))

    def _send_body(
        self, exchange: Exchange, client: socket.socket, head: Head, upstream: _Upstream, plan: Plan
    ) -> None:
        if exchange.method == "HEAD" or head.status in (204, 304):
            return
        start = 0 if exchange.range is None else exchange.range[0]
        flips = sorted(offset - start for offset in plan.flip if offset >= start)
        stops: list[tuple[int, threading.Event | None]] = [*plan.hold_body]
        if plan.cut_body_at is not None:
            stops.append((plan.cut_body_at, None))
        stops.sort(key=lambda stop: stop[0])
        length = int(head.get("content-length") or 0)
        for raw, payload in upstream.body(head):
            if exchange.bytes_sent + payload >= length:
                self._over(exchange)
            data = memoryview(bytearray(raw))
            if payload == len(raw):
                for offset in flips:
                    if 0 <= offset - exchange.bytes_sent < len(data):
                        data[offset - exchange.bytes_sent] ^= 0xFF
            self._send_to_stops(exchange, client, data, payload, stops)
        if stops and stops[0][0] == exchange.bytes_sent:
            self._stop(exchange, stops.pop(0)[1])

    def _send_to_stops(
        self,
        exchange: Exchange,
        client: socket.socket,
        data: memoryview,
        payload: int,
        stops: list[tuple[int, threading.Event | None]],
    ) -> None:
        while payload == len(data) and stops and stops[0][0] < exchange.bytes_sent + payload:
            offset, event = stops.pop(0)
            before = max(0, offset - exchange.bytes_sent)
            self._send(exchange, client, data[:before], before)
            data, payload = data[before:], payload - before
            self._stop(exchange, event)
        self._send(exchange, client, data, payload)

    def _stop(self, exchange: Exchange, event: threading.Event | None) -> None:
        if event is None:
            raise _Ended("cut")
        self._hold(exchange, event)

    def _send(
        self, exchange: Exchange, client: socket.socket, data: bytes | memoryview, payload: int = 0
    ) -> None:
        # Counted first: a client that has the bytes finds them counted.
        self._count(exchange, payload)
        try:
            client.sendall(data)
        except OSError:
            self._count(exchange, -payload)
            raise _Ended("client left") from None

    def _count(self, exchange: Exchange, payload: int) -> None:
        if payload:
            with self._changed:
                exchange.bytes_sent += payload
                self._changed.notify_all()

    def _answered(self, exchange: Exchange, status: int) -> None:
        with self._changed:
            exchange.status = status
            self._changed.notify_all()

    def _hold(self, exchange: Exchange, event: threading.Event | None, seconds: float | None = None) -> None:
        if event is None:
            return
        with self._changed:
            if not self._up:
                raise _Closed  # Those that are held were let go of already.
            self._held.add(event)
            exchange.is_held = True
            self._changed.notify_all()
        event.wait(seconds)
        with self._changed:
            self._held.discard(event)
            exchange.is_held = False
        if not self._up:
            raise _Closed


def _reset(client: socket.socket) -> None:
    """End a connection so that its other end is told of an error, and not of an end. Bytes that the other
    end has not been given yet would be lost with it."""
    with contextlib.suppress(OSError):
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while _unsent(client) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _unsent(client: socket.socket) -> int:
    """Bytes that the other end's kernel has not confirmed."""
    (count,) = struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))
    return int(count)


@define
class _Upstream:
    """The store's end of one client connection."""

    connect: Callable[[], socket.socket]
    _socket: socket.socket | None = field(default=None, init=False)
    _answers: io.BufferedReader | None = field(default=None, init=False)

    def begin(self, head: Head) -> Callable[[bytes], None]:
        """Send a request's head; what is returned sends its body."""
        connection = self._socket
        if connection is None or select.select([connection], [], [], 0)[0]:
            # None yet, or the store has closed it in the meantime.
            self.close()
            self._socket = connection = self.connect()
            self._answers = connection.makefile("rb")
        connection.sendall(head.encode())
        return connection.sendall

    def read_head(self) -> Head:
        assert self._answers is not None
        while True:
            head = read_head(self._answers)
            if head is None:
                raise ConnectionResetError("the store closed the connection")
            if head.status >= 200:
                return head

    def body(self, head: Head) -> Iterator[tuple[bytes, int]]:
        assert self._answers is not None
        return body(head, self._answers, to_end=True)

    def close(self) -> None:
        if self._answers is not None:
            self._answers.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._answers = None
