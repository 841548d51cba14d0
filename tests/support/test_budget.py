"""The measure that budgets are held to."""

from __future__ import annotations

from tests.support.budget import excess


def test_excess() -> None:
    assert excess([0.0, 0.0, 0.0], 10) == 3
    assert excess([0.0, 0.1, 0.2, 0.3], 10) == 1
    assert round(excess([0.0, 5.0, 5.0, 5.1, 5.1, 9.0], 10), 6) == 3
