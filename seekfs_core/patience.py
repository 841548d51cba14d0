"""How long a read waits for a page, and a request for anything else.

Each wait has a bound of its own, so that a long read that makes progress is never late. But once one
wait was too long, the read takes what is there and waits no more: the items of a batch wait once
together for a store that hangs, and not each for itself.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field

from seekfs_core.errors import DeadlineExceeded
from seekfs_core.fetch_messages import PageSource

PAGE_SECONDS_MIN = 5.0
"""A store that is merely slow is not begun with again and again, whoever is in a hurry."""


def page_seconds(wait_seconds_max: float) -> float:
    """How long a page may take to come, where readers wait for one ``wait_seconds_max``: half of it, so that
    another GET may still be in time."""
    return max(PAGE_SECONDS_MIN, wait_seconds_max / 2)


DISK_SECONDS_MAX = 5.0
"""A disk that is merely slow moves sooner than this: it is asked for a few MiB at once."""


def disk_seconds(wait_seconds_max: float) -> float:
    """How long a disk may take to move, where readers wait for a page ``wait_seconds_max``: not more than a
    quarter of it, so that the store may still be in time."""
    return min(DISK_SECONDS_MAX, wait_seconds_max / 4)


@define
class Patience:
    """``wait_seconds_max`` is the bound of a wait (``api.request_deadline_sec``); times are monotonic."""

    wait_seconds_max: float
    _until: float = field(default=float("inf"), init=False)
    _is_spent: bool = field(default=False, init=False)

    def begin(self, now: float) -> None:
        """A wait begins."""
        self._until = now + self.wait_seconds_max

    def until(self, now: float) -> float:
        """When the wait is too long, in monotonic seconds: ``now`` once any wait of this read was."""
        return now if self._is_spent else self._until

    def seconds_left(self, now: float) -> float:
        """How long it may go on; 0 once any wait of this read was too long."""
        return 0.0 if self._is_spent else max(0.0, self._until - now)

    def spent(self, what: str, **context: Any) -> DeadlineExceeded:
        """The wait for ``what`` was too long: what to say of it. ``context`` is for the problem document."""
        self._is_spent = True
        return DeadlineExceeded(
            f"waited {self.wait_seconds_max:g} seconds for {what} (api.request_deadline_sec)", **context
        )


def overdue_page(patience: Patience, source: PageSource, page_id: int) -> DeadlineExceeded:
    """The wait for a page was too long: which one, and of what."""
    file = source.file
    return patience.spent(
        f"page {page_id} of {file.path!r} in version {source.version} of {source.ns!r}",
        ns=source.ns,
        path=file.path,
        version=source.version,
        page_id=page_id,
        key=file.storage_key,
    )
