"""The bucket: objects by key, answers that take their time, and whatever a hostile store does instead.

It keeps its own books: who asked for what and when is judged by ``oracles``, and what a version holds by
``truth``, neither of which has seen the core's side of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from attrs import define, field

from seekfs_core import names
from seekfs_core.errors import FailureKind, StoreFailure, bug_of
from seekfs_core.testing import Chance, Timer, VirtualClock
from tests.sim.content import Piece, etag_of
from tests.sim.options import STORE_FAULTS, Options

FAILURES: dict[str, StoreFailure] = {
    "busy": StoreFailure(kind=FailureKind.BUSY, detail="503 SlowDown", status=503, code="SlowDown"),
    "too many": StoreFailure(
        kind=FailureKind.BUSY, detail="429, come back later", status=429, retry_after_seconds=0.3
    ),
    "error": StoreFailure(kind=FailureKind.BUSY, detail="500 InternalError", status=500),
    "unreachable": StoreFailure(kind=FailureKind.UNREACHABLE, detail="connection refused"),
    "denied": StoreFailure(kind=FailureKind.DENIED, detail="403 AccessDenied", status=403),
    "missing": StoreFailure(kind=FailureKind.MISSING, detail="404 NoSuchKey", status=404, code="NoSuchKey"),
    "redirected": StoreFailure(kind=FailureKind.REDIRECTED, detail="301", status=301),
    "changed": StoreFailure(kind=FailureKind.PRECONDITION, detail="412", status=412),
    "bad answer": StoreFailure(kind=FailureKind.BAD_ANSWER, detail="200 in place of 206", status=200),
    "stale signature": StoreFailure(kind=FailureKind.STALE_SIGNATURE, detail="the clock", status=403),
    "bug": bug_of(ValueError("a bug of the driver")),
    "cut short": StoreFailure(kind=FailureKind.CUT_SHORT, detail="the connection broke"),
}
"""What a request that meets this fault fails with at once, or in the middle."""

OF_ONE_REQUEST = tuple(kind for kind in STORE_FAULTS if kind not in ("storm", "outage"))
SILENCE_SECONDS = 1e9
TROUBLE_SECONDS = 40.0
"""The time in which storms and outages begin."""


@define(eq=False)
class Stored:
    """An object: bytes, or a content of so many bytes."""

    value: int | bytes
    size: int
    etag: str


class Asker(Protocol):
    """Who the store's books are kept for."""

    name: str


class Receiver(Protocol):
    """What a GET of pages tells whoever made it."""

    def opened(self, wire: Wire, etag: str, size: int) -> None: ...

    def page(self, wire: Wire, page_id: int, piece: Piece) -> None: ...

    def over(self, wire: Wire, failure: StoreFailure | None) -> None: ...


@define(eq=False)
class Wire:
    """One GET of pages that is under way. ``cuts`` are page id, start and stop of each."""

    asker: Asker
    receiver: Receiver
    number: int
    key: str
    cuts: Sequence[tuple[int, int, int]]
    hedge_of: int | None
    broken: StoreFailure | None = None
    """Set at once when it is broken off; that its connection is, is noticed later."""
    is_over: bool = False
    _next: Timer | None = None


Done: TypeAlias = Callable[[bytes | StoreFailure], None]


@define(eq=False)
class SimStore:
    """See the module's text.

    ``applied`` hears of every write when it takes effect, ``began`` and ``ended`` of all that is read,
    ``page_came`` of a GET's bytes, ``answered`` of what was said to be in a whole object.
    """

    clock: VirtualClock
    chance: Chance
    options: Options
    began: Callable[[Asker, str, Wire | None], None]
    page_came: Callable[[Wire, int], None]
    ended: Callable[[Asker, Wire | None], None]
    answered: Callable[[Asker, str, bytes], None]
    applied: Callable[[str, Stored | None, Stored], None]
    objects: dict[str, Stored] = field(factory=dict)
    is_healed: bool = False
    faults_met: dict[str, int] = field(factory=dict)
    _before: dict[str, Stored] = field(factory=dict)
    _heads: dict[str, dict[bytes, str]] = field(factory=dict)
    _troubles: list[tuple[float, float, str]] = field(factory=list)
    _kinds: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        self._kinds = tuple(kind for kind in OF_ONE_REQUEST if kind in self.options.faults)
        for kind, answer in (("storm", "busy"), ("outage", "unreachable"), ("outage", "hang")):
            if kind in self.options.faults:
                for _ in range(1 + self.chance.below(3)):
                    start = self.chance.between(0.0, TROUBLE_SECONDS)
                    self._troubles.append((start, start + self.chance.exponential(2.0), answer))

    def heal(self) -> None:
        """From now on nothing goes wrong, and nothing is wrong any more."""
        self.is_healed = True
        for key, stored in self._before.items():
            self.objects[key] = stored
        self._before.clear()

    # --- reading ----------------------------------------------------------------------------

    def get(self, wire: Wire) -> None:
        """Answer a GET of pages."""
        self.began(wire.asker, wire.key, wire)
        fault = self._fault()
        if fault == "overwritten":
            self._overwrite(wire.key)
            fault = None
        stored = self.objects.get(wire.key)
        if stored is None:
            fault = "missing"
        failure = FAILURES.get(fault or "")
        first = self._first_byte_after(fault)
        if failure is not None and fault != "cut short":
            self._later(wire, first, lambda: self._end(wire, failure))
            return
        assert stored is not None
        if wire.cuts[-1][2] > stored.size:
            size = StoreFailure(kind=FailureKind.BAD_ANSWER, detail="416", facts={"object_size": stored.size})
            self._later(wire, first, lambda: self._end(wire, size))
            return
        self._later(wire, first, lambda: self._open(wire, stored, fault))

    def _open(self, wire: Wire, stored: Stored, fault: str | None) -> None:
        wire.receiver.opened(wire, stored.etag, stored.size)
        self._send(wire, stored, fault, 0, self.chance.below(len(wire.cuts)))

    def _send(self, wire: Wire, stored: Stored, fault: str | None, index: int, chosen: int) -> None:
        """Page ``index`` of a GET is next; a fault of one page is that of page ``chosen``."""
        if wire.is_over or wire.broken is not None:
            return
        if fault == "cut short" and index == chosen:
            self._later(wire, self._page_takes(), lambda: self._end(wire, FAILURES["cut short"]))
        elif index == len(wire.cuts):
            self._later(wire, 0.0, lambda: self._end(wire, None))
        else:
            page_id, start, stop = wire.cuts[index]
            assert isinstance(stored.value, int)
            piece = Piece(stored.value, start, stop)
            if fault == "flipped" and index == chosen:
                piece = piece.damaged(1 + self.chance.below(1000))
            takes = self._page_takes() + (self.chance.exponential(3.0) if fault == "trickle" else 0.0)

            def come() -> None:
                self.page_came(wire, stop)
                wire.receiver.page(wire, page_id, piece)
                self._send(wire, stored, fault, index + 1, chosen)

            self._later(wire, takes, come)

    def break_off(self, wire: Wire, failure: StoreFailure) -> None:
        """Nothing more of this answer is wanted. What has come at this very moment is told all the same."""
        if wire.is_over or wire.broken is not None:
            return
        wire.broken = failure
        timer, wire._next = wire._next, None
        if timer is not None:
            if timer.when <= self.clock.now and self.chance.happens(0.5):
                timer.fire()
            timer.cancel()
        if not wire.is_over:
            self._later(wire, self.chance.choice((0.0, 0.001, 0.05)), lambda: self._end(wire, failure))

    def _end(self, wire: Wire, failure: StoreFailure | None) -> None:
        if not wire.is_over:
            wire.is_over = True
            self.ended(wire.asker, wire)
            wire.receiver.over(wire, failure)

    def read(self, asker: Asker, key: str, moved: Callable[[], object], done: Done) -> Callable[[], None]:
        """Answer a GET of a whole object; what is returned breaks it off, and says nothing then."""
        self.began(asker, key, None)
        fault = self._fault()
        stored = self.objects.get(key)
        failure = FAILURES.get(fault or "") or (FAILURES["missing"] if stored is None else None)
        answer: bytes | StoreFailure = failure or b""
        if failure is None:
            assert stored is not None
            assert isinstance(stored.value, bytes)
            answer = stored.value
            if fault == "damaged manifest" and "/manifests/" in key:
                answer = answer[: self.chance.below(len(answer))]
            elif fault == "old head" and key in self._heads:
                answer = self.chance.choice(list(self._heads[key]))
        first = self._first_byte_after(fault)

        def end() -> None:
            self.ended(asker, None)
            if isinstance(answer, bytes):
                self.answered(asker, key, answer)
            done(answer)

        timers = [self._soon(first, end)]
        if fault == "trickle":
            timers += [self._soon(first * part / 4, moved) for part in range(1, 4)]

        def break_off() -> None:
            for timer in timers:
                timer.cancel()
            self.ended(asker, None)

        return break_off

    def etag_with(self, key: str, head: bytes) -> str:
        """The ETag that came with what a HEAD object held, now or once."""
        return self._heads[key][head]

    # --- writing ----------------------------------------------------------------------------

    def begin_with(self, key: str, value: int | bytes, size: int) -> None:
        """An object that was there before anything began."""
        assert self._write(key, value, size, True, None) is None

    def put(
        self,
        key: str,
        value: int | bytes,
        size: int,
        *,
        create_only: bool,
        if_match: str | None,
        done: Callable[[StoreFailure | None], None],
    ) -> Callable[[], None]:
        """Write an object. What is returned breaks it off: then it is done or not, and nobody hears of it."""
        fault = self._fault()
        failure = FAILURES.get(fault or "")
        if failure is not None and fault != "cut short":
            timer = self._soon(self._first_byte_after(fault), lambda: done(failure))
            return timer.cancel

        def come() -> None:
            if fault == "late write":
                if self.chance.happens(0.75):  # Else it is so late that it never comes.
                    self._soon(
                        self.chance.exponential(1.0),
                        lambda: self._write(key, value, size, create_only, if_match),
                    )
                done(StoreFailure(kind=FailureKind.TIMED_OUT, detail="no answer"))
                return
            refusal = self._write(key, value, size, create_only, if_match)
            if fault in ("lost answer", "cut short"):
                refusal = StoreFailure(kind=FailureKind.TIMED_OUT, detail="no answer")
            done(refusal)

        timer = self._soon(self._first_byte_after(fault), come)

        def break_off() -> None:
            if not timer.is_over:
                timer.cancel()
                if self.chance.happens(0.5):
                    self._write(key, value, size, create_only, if_match)

        return break_off

    def _write(
        self, key: str, value: int | bytes, size: int, create_only: bool, if_match: str | None
    ) -> StoreFailure | None:
        there = self.objects.get(key)
        laxities = () if self.is_healed else self.options.faults
        if create_only and there is not None and "ignores If-None-Match" not in laxities:
            return FAILURES["changed"]
        if if_match is not None and "ignores If-Match" not in laxities:
            if there is None:
                return FAILURES["missing"]
            if there.etag != if_match:
                return FAILURES["changed"]
        etag = etag_of(value) if isinstance(value, int) else f'"{len(self.objects)}-{self.clock.now}"'
        stored = self.objects[key] = Stored(value, size, etag)
        self._before.pop(key, None)
        if isinstance(value, bytes) and key.endswith(names.head_key("x")[len("namespaces/x") :]):
            self._heads.setdefault(key, {})[value] = etag
        self.applied(key, there, stored)
        return None

    def _overwrite(self, key: str) -> None:
        """Somebody writes other bytes to an object of a version, of the same length or not."""
        there = self.objects.get(key)
        if there is None or not isinstance(there.value, int):
            return
        self._before.setdefault(key, there)
        other = (1 << 40) + self.chance.below(1 << 20)
        size = there.size if self.chance.happens(0.6) else self.chance.below(there.size + 1)
        self.objects[key] = Stored(other, size, etag_of(other))

    # --- chance -----------------------------------------------------------------------------

    def _fault(self) -> str | None:
        """What becomes of a request that comes now; None: nothing out of the ordinary."""
        if self.is_healed:
            return None
        now = self.clock.now
        fault = next((answer for start, stop, answer in self._troubles if start <= now < stop), None)
        if fault is None and self._kinds and self.chance.happens(self.options.fault_share):
            fault = self.chance.choice(self._kinds)
        if fault is not None:
            self.faults_met[fault] = self.faults_met.get(fault, 0) + 1
        return fault

    def _first_byte_after(self, fault: str | None) -> float:
        if self.is_healed:
            return self.options.store_seconds
        seconds = self.chance.lognormal(self.options.store_seconds, self.options.store_spread)
        if fault == "hang":
            return SILENCE_SECONDS
        if fault == "late":
            return seconds * 40
        if fault == "trickle":
            return seconds + self.chance.exponential(1.0)
        return seconds

    def _page_takes(self) -> float:
        mean = self.options.page_seconds
        return self.chance.exponential(mean) if mean and not self.is_healed else mean

    def _later(self, wire: Wire, seconds: float, do: Callable[[], object]) -> None:
        wire._next = self._soon(seconds, do)

    def _soon(self, seconds: float, do: Callable[[], object]) -> Timer:
        return self.clock.call_later(seconds, do, turn=self.chance.rng.getrandbits(16))
