"""How far requests, by when they came, are from a budget of rate · t + burst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LATE_SECONDS: Final = 0.5
"""Requests that a busy machine holds up on their way arrive together with those that start so much later."""


def excess(times: Sequence[float], rate: float) -> float:
    """By how many the requests in a window are more than ``rate`` allows, at most, over all windows."""
    most, base = 0.0, float("inf")
    for index, at in enumerate(times):
        base = min(base, index - rate * at)
        most = max(most, index + 1 - rate * at - base)
    return most
