"""Waiting for what cannot be subscribed to: it is asked for until it is so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

WAIT_SECONDS_MAX = 60.0
POLL_SECONDS = 0.01


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """``what`` completes the sentence of what was waited for in vain."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(POLL_SECONDS)
