"""Which credentials a request is signed with, and when others are looked for.

The secrets are not in here: credentials are numbers, from 1 in the order in which they were found. A search
may take long and fail; at most one is under way, and requests are signed with what is at hand for as long
as that is good.

What a source of credentials answers is AWS's: statuses, and codes of which some say more
(https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html).

Credentials that the store has refused as expired are looked for anew, whatever was said of their end. If the
new ones are refused as well before the store has taken them once, that is its last word for a while: nobody
is helped by asking both sides in turn.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import define, evolve, field

from seekfs_core.errors import FailureKind, StoreFailure

RENEWAL_SECONDS_AHEAD = 900.0
"""New ones are looked for so long before the end, as AWS's own clients do."""

SEARCH_SECONDS_BETWEEN = 60.0
"""Nor more often than this while those at hand are good, and after a refusal of new ones."""


_CODES_OF_PASSING: Final = frozenset(
    {
        "InternalFailure",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Codes of a source that would be asked less, or later, whatever the status (mostly 400)."""


def kind_of_source_answer(status: int, code: str | None) -> FailureKind:
    """The failure that the answer of a source of credentials is: away for a while, or its last word."""
    may_pass = status >= 500 or status == 429 or code in _CODES_OF_PASSING
    return FailureKind.UNREACHABLE if may_pass else FailureKind.DENIED


def not_in_time(wait_seconds_max: float) -> StoreFailure:
    """What a search that goes on comes to for a request that has waited for it so long."""
    detail = f"no credentials: the AWS credential chain has found none in {wait_seconds_max:g} s"
    return StoreFailure(kind=FailureKind.UNREACHABLE, detail=detail)


class Use(enum.Enum):
    """What a request does that is to be signed now."""

    AT_HAND = "at hand"
    """It takes what is at hand."""

    AT_HAND_AND_SEARCH = "at hand and search"
    """The same, and others are looked for meanwhile."""

    ONCE_FOUND = "once found"
    """It waits for a search."""


class Refused(enum.Enum):
    """What follows from a refusal of credentials."""

    REPLACED = "replaced"
    """There are others already."""

    SEARCH = "search"
    """Others are looked for; they may be the same."""

    FINAL = "final"
    """It is the store's last word."""


@define
class CredentialLife:
    """Of the credentials of one process. Times are monotonic seconds."""

    number: int = field(default=0, init=False)
    """Of those at hand; 0 when there are none yet."""

    is_searching: bool = field(default=False, init=False)
    _good_until: float = field(default=float("-inf"), init=False)
    _search_at: float = field(default=float("-inf"), init=False)
    _is_proven: bool = field(default=False, init=False)
    _final_until: float = field(default=float("-inf"), init=False)

    def use(self, now: float) -> Use:
        if now >= self._good_until:
            return Use.ONCE_FOUND
        return Use.AT_HAND if now < self._search_at else Use.AT_HAND_AND_SEARCH

    def is_good(self, now: float) -> bool:
        """Whether a request may be signed with those at hand."""
        return now < self._good_until

    def search_begun(self) -> None:
        assert not self.is_searching
        self.is_searching = True

    def found(self, seconds_left: float | None, now: float, *, is_same: bool) -> None:
        """A search ended with credentials that are good for so long (None: no end is known). ``is_same``
        where they are those at hand."""
        self.is_searching = False
        if not is_same:
            self.number += 1
            self._is_proven = False
        left = float("inf") if seconds_left is None else seconds_left
        self._good_until = now + left
        self._search_at = now + max(SEARCH_SECONDS_BETWEEN, left - RENEWAL_SECONDS_AHEAD)

    def not_found(self, failure: StoreFailure, now: float) -> StoreFailure:
        """A search failed; what that comes to for a request that waits for it.

        Where credentials were found before, whoever has them is away for a while, however it says so, and
        nothing is set up wrongly.
        """
        self.is_searching = False
        self._search_at = now + SEARCH_SECONDS_BETWEEN
        self._final_until = float("-inf")
        return evolve(failure, kind=FailureKind.UNREACHABLE) if self.number else failure

    def accepted(self, number: int) -> None:
        """The store has done what was asked with these credentials."""
        if number == self.number:
            self._is_proven = True

    def refused(self, number: int, now: float) -> Refused:
        """The store has refused these credentials as expired."""
        if number != self.number:
            return Refused.REPLACED
        if self.is_searching:
            return Refused.SEARCH
        if now < self._final_until and not self._is_proven:
            return Refused.FINAL
        self._is_proven = False
        self._final_until = now + SEARCH_SECONDS_BETWEEN
        return Refused.SEARCH
