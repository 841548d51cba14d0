"""How a listing that breaks off goes on.

It is begun again, since a store's token may have gone with the connection, and what was seen is
skipped by its name: not every store lists in the order of its keys. Retries are counted from the
last entry that was new, so a long listing of a store in trouble ends as long as it makes progress.
"""

from __future__ import annotations

import random

from attrs import define, field

from seekfs_core.errors import StoreFailure
from seekfs_core.retry import RetryPolicy


@define
class ListingProgress:
    """What has been seen of one listing. Its memory is that of the keys."""

    policy: RetryPolicy
    rng: random.Random
    _seen: set[str] = field(factory=set, init=False)
    _failures: int = field(default=0, init=False)

    def is_news(self, key: str) -> bool:
        """Note an entry; whether it had not been listed before."""
        if key in self._seen:
            return False
        self._seen.add(key)
        self._failures = 0
        return True

    def delay(self, failure: StoreFailure) -> float | None:
        """Seconds until the listing is begun again, or None when it is not."""
        self._failures += 1
        return self.policy.delay(failure, self._failures, self.rng)
