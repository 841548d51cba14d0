"""How the pages of a listing make one, also where it breaks off.

It is then begun again, since a store's token may have gone with the connection, and what was seen is
skipped by its name: not every store lists in the order of its keys. Retries are counted from the
last entry that was new, so a long listing of a store in trouble ends as long as it makes progress.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from attrs import define, field

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.retry import RetryPolicy


@define
class ListingProgress:
    """What has been seen of the listing of one prefix. Its memory is that of the keys.

    While it ``is_over`` not, ask for the page at ``token`` (None: the first), and give what comes to
    ``take`` or ``delay``.
    """

    prefix: str
    policy: RetryPolicy
    rng: random.Random
    token: str | None = field(default=None, init=False)
    is_over: bool = field(default=False, init=False)
    _asked_for: set[str] = field(factory=set, init=False)
    """Tokens, since the listing was begun for the last time."""
    _seen: set[str] = field(factory=set, init=False)
    _failures: int = field(default=0, init=False)

    def take(self, keys: Sequence[str], next_token: str | None) -> tuple[int, ...] | StoreFailure:
        """A page has come: the places of its entries that had not been listed before. Or what is wrong
        with it, for ``delay``; nothing of it is taken then."""
        if not all(key.startswith(self.prefix) for key in keys):
            return _bad("the listing has a key outside the prefix that was asked for")
        if next_token is not None and next_token in self._asked_for:
            return _bad("the listing does not go on")
        self._turn_to(next_token)
        news = []
        for index, key in enumerate(keys):
            if key not in self._seen:
                self._seen.add(key)
                news.append(index)
        if news:
            self._failures = 0
        return tuple(news)

    def delay(self, failure: StoreFailure) -> float | None:
        """No page, or a bad one: seconds until the listing is begun again, or None when it is not."""
        self._failures += 1
        self._asked_for.clear()
        self.token = None
        return self.policy.delay(failure, self._failures, self.rng)

    def _turn_to(self, token: str | None) -> None:
        self.token = token
        if token is None:
            self.is_over = True
        else:
            self._asked_for.add(token)


def _bad(detail: str) -> StoreFailure:
    return StoreFailure(kind=FailureKind.BAD_ANSWER, detail=detail)
