"""What passes through the pass-through: a request and its answer, which are meant, what is done to them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote

from attrs import define, frozen

from tests.support.wire import Answer, Head

BODY_START_BYTES: Final = 64

_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")


@frozen(kw_only=True)
class Plan:
    """What is done to one exchange. Body offsets count from the first byte of the answer's body,
    ``flip`` from the first byte of the object, whatever range of it is asked for."""

    hold_request: threading.Event | None = None
    answer: Answer | None = None
    drop: Literal["request", "answer"] | None = None
    """``request``: the connection is closed before the store hears of it; ``answer``: after the store
    has done the work."""

    change_request: Callable[[Head], Head] | None = None
    """What the store hears in place of the request's head; its body is framed as the client has said."""

    meanwhile: Callable[[], object] | None = None
    """Called before the store hears of the request."""

    delay_seconds: float = 0.0
    """How much longer than the store's own the answer takes."""

    hold_head: threading.Event | None = None
    change_head: Callable[[Head], Head] | None = None
    cut_head_at: int | None = None
    """Close the connection after so many bytes of the answer's head."""

    flip: tuple[int, ...] = ()
    hold_body: tuple[tuple[int, threading.Event], ...] = ()
    cut_body_at: int | None = None
    """Close the connection after so many bytes of the body."""

    reset: bool = False
    """Where the plan closes the connection, reset it (RST): after the client has what was sent."""

    @property
    def is_kept(self) -> bool:
        """Whether the client gets a whole answer, if not the right one, without anybody's doing."""
        events = (self.hold_request, self.hold_head, *self.hold_body)
        breaks = (self.drop, self.change_head, self.cut_head_at, self.cut_body_at)
        return not any(events) and all(each is None for each in breaks)


@define(eq=False)
class Exchange:
    """One request and what became of it. Filled in as it goes; times are monotonic seconds."""

    number: int
    method: str
    target: str
    request: Head
    started: float
    status: int | None = None
    is_held: bool = False
    """By one of its plan's events, now."""

    body_bytes_received: int = 0
    body_start: bytes = b""
    """The first ``BODY_START_BYTES`` of what the client has sent."""

    bytes_sent: int = 0
    """Of the answer's body, handed to the client's connection: at least what the client has."""

    ended: float | None = None
    outcome: str | None = None
    """``done``, ``dropped``, ``cut``, ``client left``, ``store left`` or ``closed``; None while it lasts."""

    plan: Plan | None = None
    is_under_way: bool = True
    """Until its last byte is about to be handed to the client's connection, or it is over otherwise."""

    @property
    def key(self) -> str:
        """Of the object, with path-style addressing; "" for the bucket itself."""
        return unquote(self.target.partition("?")[0]).lstrip("/").partition("/")[2]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def range(self) -> tuple[int, int | None] | None:
        """The bytes [start, stop) asked for; None without a Range."""
        found = _RANGE.fullmatch(self.request.get("range") or "")
        if found is None:
            return None
        return int(found[1]), int(found[2]) + 1 if found[2] else None


@frozen(kw_only=True)
class Match:
    """Which requests; None stands for any. ``covers`` is an offset of the object that the request's
    range includes."""

    method: str | None = None
    key: str | None = None
    key_prefix: str | None = None
    covers: int | None = None

    def __call__(self, exchange: Exchange) -> bool:
        if self.method is not None and exchange.method != self.method:
            return False
        if self.key is not None and exchange.key != self.key:
            return False
        if self.key_prefix is not None and not exchange.key.startswith(self.key_prefix):
            return False
        if self.covers is not None:
            start, stop = exchange.range or (0, None)
            return start <= self.covers and (stop is None or self.covers < stop)
        return True
