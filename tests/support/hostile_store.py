"""What a store can do to a request that it should not, as a table: a name, where it takes hold, a plan.

    fault = FAULTS["reset-in-body"]
    store.when(Match(method="GET", key=key), fault.plan(at=3 * MIB), times=1)     # store: a PassThrough

Each is done to a real store's answer, on a real connection, and stricter than S3 does it: a byte too few,
the very byte that is wrong. ``Touches`` says which requests a fault can be done to. ``at`` is the byte of the
object from which it shows, ``start`` the first one of those that are asked for; what comes before ``at`` is
right.

===================== ======= ================================================================================
name                  touches what the client gets
===================== ======= ================================================================================
late                  any     the right answer, ``LATE_SECONDS`` later
closed                any     the connection closed in place of an answer; the store has heard nothing
reset                 any     the connection reset in place of an answer; the store has heard nothing
answer-lost           any     the connection closed in place of an answer; the store has done the work
reset-in-head         any     half a head, and a reset
silent                any     nothing, and the connection stays open
no-http               any     a greeting of another protocol
internal-error        any     500 ``InternalError``
bad-gateway           any     502 with a page of HTML, as proxies send it
slow-down             any     503 ``SlowDown``, ``Retry-After: 1``
access-denied         any     403 ``AccessDenied``
clock-skewed          any     403 ``RequestTimeTooSkewed``
token-expired         any     400 ``ExpiredToken``
no-such-key           any     404 ``NoSuchKey``
no-such-bucket        any     404 ``NoSuchBucket``
moved                 any     301 ``PermanentRedirect`` to another region
short-body            body    the connection closed at ``at``, before the announced length
reset-in-body         body    the connection reset at ``at``
silent-in-body        body    nothing from ``at`` on, and the connection stays open
wrong-byte            body    every bit of byte ``at`` flipped
another-range         range   206 whose Content-Range is that of the range behind
longer-range          range   206 whose Content-Range and length are one byte longer
shorter-length        range   206 whose length is a byte less than its Content-Range says
oversized-range       range   206 whose Content-Range has numbers of 30 digits
no-range              range   206 without Content-Range
whole-for-a-range     range   200 in place of 206
===================== ======= ================================================================================

Two more need something that is not a plan's: a store that refuses connections is ``PassThrough.down``, and an
object that is replaced while it is read is ``Plan.meanwhile`` with a function that replaces it.
"""

from __future__ import annotations

import enum
import re
import threading
from collections.abc import Callable, Mapping
from typing import Final

from attrs import evolve, field, frozen

from tests.support.exchanges import Plan
from tests.support.wire import Answer, Head

__all__ = ["FAULTS", "Fault", "Touches"]

LATE_SECONDS: Final = 0.2

_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")


class Touches(enum.Enum):
    """The requests that a fault can be done to."""

    ANY = "any"
    BODY = "body"
    """Those whose answer has a body: GETs."""
    RANGE = "range"
    """GETs of a range."""


@frozen(kw_only=True)
class Fault:
    """One row of the table. ``make`` is given ``start`` and ``at``."""

    name: str
    touches: Touches
    make: Callable[[int, int], Plan] = field(repr=False)

    def plan(self, *, start: int = 0, at: int = 0) -> Plan:
        """For requests of the bytes from ``start`` on, to show from ``at`` on."""
        assert start <= at
        return self.make(start, at)


def _any(name: str, plan: Plan) -> Fault:
    return Fault(name=name, touches=Touches.ANY, make=lambda start, at: plan)


def _answer(name: str, status: int, code: str, **headers: str) -> Fault:
    return _any(name, Plan(answer=Answer.error(status, code, **headers)))


def _body(name: str, make: Callable[[int, int], Plan]) -> Fault:
    return Fault(name=name, touches=Touches.BODY, make=make)


def _range(name: str, change: Callable[[Head, int, int, int], Head]) -> Fault:
    """``change`` is given the head, and the first byte, the last and the size of its Content-Range."""

    def change_head(head: Head) -> Head:
        found = _CONTENT_RANGE.fullmatch(head.get("content-range") or "")
        return head if found is None else change(head, int(found[1]), int(found[2]), int(found[3]))

    return Fault(name=name, touches=Touches.RANGE, make=lambda start, at: Plan(change_head=change_head))


def _with_range(head: Head, first: int, last: int, size: int) -> Head:
    return head.with_header("Content-Range", f"bytes {first}-{last}/{size}")


def _greeting(_: Head) -> Head:
    return Head(line="220 mail.example.com ESMTP", headers=())


def _another(head: Head, first: int, last: int, size: int) -> Head:
    length = last - first + 1
    return _with_range(head, first + length, last + length, size + length)


def _longer(head: Head, first: int, last: int, size: int) -> Head:
    longer = _with_range(head, first, last + 1, max(size, last + 2))
    return longer.with_header("Content-Length", str(last - first + 2))


def _oversized(head: Head, first: int, last: int, size: int) -> Head:
    return _with_range(head, first, 10**29 + last, 10**29 + size)


def _shorter(head: Head, first: int, last: int, size: int) -> Head:
    return head.with_header("Content-Length", str(last - first))


def _whole(head: Head, first: int, last: int, size: int) -> Head:
    return evolve(head.without("Content-Range"), line="HTTP/1.1 200 OK")


_FAULTS: Final = (
    _any("late", Plan(delay_seconds=LATE_SECONDS)),
    _any("closed", Plan(drop="request")),
    _any("reset", Plan(drop="request", reset=True)),
    _any("answer-lost", Plan(drop="answer")),
    _any("reset-in-head", Plan(cut_head_at=24, reset=True)),
    # An event of its own for each plan: a pass-through sets those it holds something by when it closes.
    Fault(
        name="silent",
        touches=Touches.ANY,
        make=lambda start, at: Plan(hold_head=threading.Event()),
    ),
    _any("no-http", Plan(change_head=_greeting)),
    _answer("internal-error", 500, "InternalError"),
    _any("bad-gateway", Plan(answer=Answer(status=502, body=b"<html><h1>Bad Gateway</h1></html>"))),
    _answer("slow-down", 503, "SlowDown", Retry_After="1"),
    _answer("access-denied", 403, "AccessDenied"),
    _answer("clock-skewed", 403, "RequestTimeTooSkewed"),
    _answer("token-expired", 400, "ExpiredToken"),
    _answer("no-such-key", 404, "NoSuchKey"),
    _answer("no-such-bucket", 404, "NoSuchBucket"),
    _answer("moved", 301, "PermanentRedirect", x_amz_bucket_region="eu-central-1"),
    _body("short-body", lambda start, at: Plan(cut_body_at=at - start)),
    _body("reset-in-body", lambda start, at: Plan(cut_body_at=at - start, reset=True)),
    _body("silent-in-body", lambda start, at: Plan(hold_body=((at - start, threading.Event()),))),
    _body("wrong-byte", lambda start, at: Plan(flip=(at,))),
    _range("another-range", _another),
    _range("longer-range", _longer),
    _range("shorter-length", _shorter),
    _range("oversized-range", _oversized),
    _range("no-range", lambda head, first, last, size: head.without("Content-Range")),
    _range("whole-for-a-range", _whole),
)

FAULTS: Final[Mapping[str, Fault]] = {fault.name: fault for fault in _FAULTS}
"""By name, in the order of the table above."""
