"""The time of the end, and what a signal does that asks for it."""

from __future__ import annotations

import pytest

from seekfs_core.closing import (
    FLUSH_SECONDS_MAX,
    THREADS_SECONDS_MAX,
    TIER_SECONDS_MIN,
    Interrupted,
    end_seconds,
    interruption,
    seconds_left,
    tier_seconds,
)


def test_a_daemon_is_not_ended_before_it_could_be_at_its_end() -> None:
    """With a disk that hangs: streams, what is to be written, three pools of threads, the second tier."""
    slowest = 12.5 + FLUSH_SECONDS_MAX + 3 * THREADS_SECONDS_MAX + TIER_SECONDS_MIN
    assert end_seconds(12.5) >= slowest + 5


def test_what_is_left_of_a_time_is_never_less_than_nothing() -> None:
    assert seconds_left(10.0, 4.0) == 6.0
    assert seconds_left(10.0, 14.0) == 0.0
    assert tier_seconds(10.0, 4.0) == 6.0
    assert tier_seconds(10.0, 14.0) == TIER_SECONDS_MIN


ORDERS = {
    # Who asks twice may not have been sure of the first; who asks a third time wants to go, and hears what
    # is left in the bucket.
    Interrupted.COMMAND: ["END_IN_ORDER", "WARN", "GIVE_UP", "END", "END"],
    Interrupted.DEMO: ["END_IN_ORDER", "IGNORE", "IGNORE", "IGNORE", "IGNORE"],
    Interrupted.DAEMON: ["END_IN_ORDER", "END", "END", "END", "END"],
}


@pytest.mark.parametrize("of", Interrupted)
def test_the_first_signal_ends_in_order_and_what_further_ones_do_depends_on_who_hears_them(
    of: Interrupted,
) -> None:
    assert [interruption(of, heard).name for heard in range(1, 6)] == ORDERS[of]
