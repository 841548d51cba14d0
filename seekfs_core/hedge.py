"""When a GET whose answer is late is asked for once more, beside it: hedged requests.

Of the GETs that a store answers, a few take many times as long as the others, for reasons that have nothing
to do with what is asked. Asking a second time, when the first byte is later than it nearly always is, cuts
that tail off for a few GETs more. What "nearly always" means is the store's own to say: the times to the
first byte of its latest ``SAMPLES`` GETs. The wait is somewhere between their 95th and 99th percentile: twice
their median where that lies between, so that a store which is merely uneven is rarely asked twice.

A hedge costs a GET of the budget and is never worth a refusal: none is sent while the store refuses requests,
is suspected to be down, or others wait for the budget; nor for what nobody waits for yet; nor beyond
``SHARE_MAX`` of all GETs, so that a store which has become slow altogether is not asked for everything twice.

Source: Dean and Barroso, The Tail at Scale, CACM 56(2), 2013 ("hedged requests").
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from attrs import define, field, frozen, validators

SAMPLES = 500
"""Enough for a 99th percentile that is not one single GET, and soon forgotten."""

SHARE_MAX = 0.05


@frozen(kw_only=True)
class HedgePolicy:
    """``samples_min``: of fewer GETs nobody knows a 99th percentile, so none is hedged before.
    ``seconds_min``: a first byte that is earlier than this is never late, whatever the store's habit."""

    is_on: bool = True
    samples_min: int = field(default=100, validator=validators.in_(range(1, SAMPLES + 1)))
    seconds_min: float = field(default=0.05, validator=validators.ge(0))


@define
class FirstBytes:
    """How long the store took to begin its answers, and from when on that is late. Seconds."""

    policy: HedgePolicy
    _latest: deque[float] = field(factory=deque, init=False)
    _sorted: list[float] = field(factory=list, init=False)

    def took(self, seconds: float) -> None:
        """The first byte of a GET came after so long (or had not, when a hedge overtook it)."""
        if len(self._latest) == SAMPLES:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]
        self._latest.append(seconds)
        insort(self._sorted, seconds)

    def late_after(self) -> float:
        """After how long a GET without a first byte is late; infinite where none is hedged."""
        count = len(self._sorted)
        if not self.policy.is_on or count < self.policy.samples_min:
            return float("inf")
        low, high = self._sorted[count * 95 // 100], self._sorted[count * 99 // 100]
        return max(self.policy.seconds_min, min(max(2 * self._sorted[count // 2], low), high))


def is_affordable(gets_started: int, hedges_started: int) -> bool:
    """Whether one more hedge stays within their share of all GETs."""
    return hedges_started < max(1.0, SHARE_MAX * gets_started)
