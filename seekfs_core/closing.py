"""How the time that the end of a data plane may take is divided among its parts.

Who waits is told first, which takes no time (``Closing`` of ``seekfs_core.fetch`` and of
``seekfs_core.resolver``). Then what was fetched is written to the second tier (``Closing`` of
``seekfs_core.writebehind``), what is on its way to the shelf of manifests gets there, and both are closed
with what is left of the time. Requests to the store are not waited for: whatever they bring, nobody wants.
"""

from __future__ import annotations

from typing import Final

THREADS_SECONDS_MAX: Final = 1.0
"""What threads that have nothing more to do are given to end."""

TIER_SECONDS_MIN: Final = 1.0
"""What the second tier is given to end its writes, also where finishing the queue has used up the time."""


def tier_seconds(until: float, now: float) -> float:
    """How long the second tier may take to close, of an end that may take until ``until`` (monotonic)."""
    return max(TIER_SECONDS_MIN, until - now)
