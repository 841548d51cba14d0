"""How fast a node asks a store that wants to be asked less: down at once, and back up fully.

S3 answers 503 ``SlowDown`` (or 429) when it is asked too often. Retrying each request later is not enough for
that: every other request goes on at the node's whole budget, and is refused too. So where a good part of the
answers of a second were such refusals, the pace falls to what the store did answer in that second, which is
next to nothing where it refuses everything. From then on it doubles every second, until it is no longer what
holds anybody up. A single refusal among many answers changes nothing: stores refuse a little while they
spread their load; and one that always refuses a part of what it is asked is asked nearly as often as before.

The budget (``seekfs_core.budget``) is a bound that always holds; the pace is beneath it, and only while there
is trouble.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

from seekfs_core.errors import StoreFailure

REFUSALS = frozenset({429, 503})
"""Statuses that say: too often. A 500 is a fault of the store, however often that is asked."""

TROUBLE_SECONDS = 10.0
"""For so long after a refusal the store is asked for nothing twice."""

WINDOW_SECONDS = 1.0
"""What is counted together. The pace falls once in so long, however many requests were refused at once."""

SPAN_SECONDS_MIN = 0.1
"""Answers that came all at once are taken for what came in this time."""

REFUSED_SHARE_MIN = 0.1
REFUSED_MIN = 3
"""From this share of a window's answers on, and so many, refusals mean that the pace is too high. Of fewer
nobody knows what share they are."""

GROWTH_PER_SECOND = 2.0
"""So that a store which refuses up to a third of whatever it is asked is asked more again, not ever less."""
RATE_MIN = 1.0
"""Requests per second that are made whatever the store says, to hear when it is well again."""


def is_refusal(failure: StoreFailure | None) -> bool:
    """Whether a request was answered with: too often."""
    return failure is not None and failure.status in REFUSALS


@define
class Pace:
    """See the module's text. ``rate_max`` is the budget's rate; times are monotonic seconds."""

    rate_max: float
    _rate: float = field(init=False)
    _since: float = field(default=float("-inf"), init=False)
    """When it was ``_rate``, from which it has grown since."""
    _next_at: float = field(default=float("-inf"), init=False)
    _answers: deque[tuple[float, bool]] = field(factory=deque, init=False)
    """When, and whether it was a refusal."""
    _refused_at: float = field(default=float("-inf"), init=False)

    def __attrs_post_init__(self) -> None:
        self._rate = self.rate_max

    def rate(self, now: float) -> float:
        """Requests per second that may start at ``now``; ``rate_max`` where there is no trouble."""
        if self._rate >= self.rate_max:
            return self.rate_max
        # The exponent is capped because a float overflows; the rate is capped long before.
        growth: float = GROWTH_PER_SECOND ** min(now - self._since, 256.0)
        return min(self.rate_max, self._rate * growth)

    def ready_at(self, now: float) -> float:
        """When the next request may start; not after ``now`` where there is no trouble."""
        return float("-inf") if self.rate(now) >= self.rate_max else self._next_at

    def is_in_trouble(self, now: float) -> bool:
        """Whether the store has refused a request of late."""
        return now < self._refused_at + TROUBLE_SECONDS

    def started(self, now: float) -> None:
        """A request that may start does."""
        rate = self.rate(now)
        if rate >= self.rate_max:
            self._rate = self.rate_max
        else:
            self._next_at = now + 1.0 / rate

    def answered(self, failure: StoreFailure | None, now: float) -> None:
        """A request has ended, with ``failure`` if that is how."""
        while self._answers and self._answers[0][0] <= now - WINDOW_SECONDS:
            self._answers.popleft()
        self._answers.append((now, is_refusal(failure)))
        if not is_refusal(failure):
            return
        self._refused_at = now
        if now < self._since + WINDOW_SECONDS:
            return
        refused = sum(each for _, each in self._answers)
        if refused == len(self._answers) and self.rate(now) < self.rate_max:
            self._since = now  # Nothing but refusals: it grows no further.
        elif refused >= max(REFUSED_MIN, REFUSED_SHARE_MIN * len(self._answers)):
            seconds = max(SPAN_SECONDS_MIN, now - self._answers[0][0])
            answered_per_second = (len(self._answers) - refused) / seconds
            self._rate = min(self.rate(now), max(answered_per_second, min(RATE_MIN, self.rate_max)))
            self._since = now
            self._next_at = max(self._next_at, now + 1.0 / self._rate)
