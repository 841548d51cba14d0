"""The time of the end, and what a signal does that asks for it."""

from __future__ import annotations

from seekfs_core.closing import (
    FLUSH_SECONDS_MAX,
    THREADS_SECONDS_MAX,
    TIER_SECONDS_MIN,
    Interruption,
    end_seconds,
    interruption,
    seconds_left,
    tier_seconds,
)


def test_a_daemon_is_not_ended_before_it_could_be_at_its_end() -> None:
    """With a disk that hangs: streams, what is to be written, four pools of threads, the second tier."""
    slowest = 12.5 + FLUSH_SECONDS_MAX + 4 * THREADS_SECONDS_MAX + TIER_SECONDS_MIN
    assert end_seconds(12.5) >= slowest + 5


def test_what_is_left_of_a_time_is_never_less_than_nothing() -> None:
    assert seconds_left(10.0, 4.0) == 6.0
    assert seconds_left(10.0, 14.0) == 0.0
    assert tier_seconds(10.0, 4.0) == 6.0
    assert tier_seconds(10.0, 14.0) == TIER_SECONDS_MIN


def test_a_second_signal_cuts_nothing_short_and_the_fourth_everything() -> None:
    assert [interruption(heard) for heard in range(1, 6)] == [
        Interruption.UNDO,
        Interruption.WARN,
        Interruption.GIVE_UP,
        Interruption.END,
        Interruption.END,
    ]
