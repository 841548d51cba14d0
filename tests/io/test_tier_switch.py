"""A use of the disk that is turned off and on again: what is let through, and what the log is told."""

from __future__ import annotations

import logging

import pytest

from seekfs_core.tier import PROBE_DELAY_SECONDS_INITIAL, Failed, Worked
from seekfs_io.pages.tier_switch import TierSwitch
from tests.support.logs import heard_while_free


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_use_is_let_through_to_find_out_whether_the_disk_is_back() -> None:
    clock = Clock()
    switch = TierSwitch("the disk", 1, clock)
    assert switch.ask() == (True, False)
    switch.hear(Failed("it is full"))
    assert switch.off_because is not None
    assert switch.ask() == (False, False)
    clock.now += PROBE_DELAY_SECONDS_INITIAL
    assert switch.would_let_through()
    assert switch.ask() == (True, True)
    assert switch.ask() == (False, False)
    switch.abandoned()
    assert switch.ask() == (True, True)
    switch.hear(Worked())
    assert switch.ask() == (True, False)


def test_the_log_is_told_when_the_lock_is_free(caplog: pytest.LogCaptureFixture) -> None:
    """Every look into the tier may want that lock, and a log may be slow."""
    caplog.set_level(logging.INFO, "seekfs.cache")
    clock = Clock()
    switch = TierSwitch("the disk", 1, clock)
    with heard_while_free(switch._lock) as heard:
        switch.hear(Failed("it is full"))
        clock.now += PROBE_DELAY_SECONDS_INITIAL
        switch.ask()
        switch.hear(Worked())
    assert heard == ["the disk is off: it is full; next try in 1 s", "the disk is back"]
