"""Which calls of a disk hang, and what becomes of those that wait behind them."""

from __future__ import annotations

import random

import pytest

from seekfs_core.disk_watch import (
    LOOKS,
    RESOLUTION_SECONDS,
    Began,
    CameBack,
    DiskWatch,
    Ended,
    GiveUp,
    GiveUpUntried,
    Moved,
    Queued,
    WatchAction,
    WatchEvent,
)
from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick
from seekfs_core.tier import Operation

READ, WRITE, INDEX = Operation.READ, Operation.WRITE, Operation.INDEX


def looked_at(watch: DiskWatch, until: float) -> tuple[WatchAction, ...]:
    """What is said until then, where every deadline is met."""
    actions: tuple[WatchAction, ...] = ()
    while (due := watch.next_deadline()) is not None and due <= until:
        actions += watch.feed(Tick(), due)
    return actions + watch.feed(Tick(), until)


def test_a_call_that_moves_is_waited_for_and_one_that_does_not_is_given_up() -> None:
    watch = DiskWatch(5.0)
    assert watch.next_deadline() is None
    watch.feed(Began(1, READ), 0.0)
    watch.feed(Began(2, WRITE), 1.0)
    assert looked_at(watch, 4.0) == ()
    assert watch.feed(Moved(1), 4.0) == ()
    assert looked_at(watch, 5.9) == ()
    assert watch.next_deadline() == pytest.approx(6.0)
    assert watch.feed(Tick(), 6.0) == (GiveUp(2, WRITE),)
    assert watch.feed(Ended(1), 8.0) == ()
    assert watch.next_deadline() is None
    assert watch.is_idle  # What hangs is not waited for.
    # It may go on and move; it is heard of when it ends.
    assert watch.feed(Moved(2), 100.0) == ()
    assert watch.feed(Ended(2), 100.0) == (CameBack(2, WRITE),)
    with pytest.raises(ContractViolation, match="not under way"):
        watch.feed(Ended(2), 100.0)


def test_the_wait_for_a_call_is_as_long_as_it_may_not_move() -> None:
    for seconds in (0.1, 1.0, 5.0, 7.3):
        watch = DiskWatch(seconds)
        watch.feed(Began(1, READ), 1e9)
        said: list[WatchAction] = []
        looks, due = 0, 0.0
        while not said:
            due = watch.next_deadline() or 0.0
            said.extend(watch.feed(Tick(), due))
            looks += 1
        assert said == [GiveUp(1, READ)]
        assert due == pytest.approx(1e9 + seconds, abs=2 * RESOLUTION_SECONDS)
        assert looks <= LOOKS + 1


def test_a_machine_that_stood_still_is_no_disk_that_hangs() -> None:
    watch = DiskWatch(5.0)
    watch.feed(Began(1, READ), 0.0)
    assert watch.feed(Tick(), 3600.0) == ()
    assert watch.feed(Moved(1), 7200.0) == ()
    assert watch.feed(Tick(), 9999.0) == ()
    # It counts as one look, and the wait ends all the same.
    assert looked_at(watch, 9999.0 + 3.74) == ()
    assert looked_at(watch, 9999.0 + 3.75) == (GiveUp(1, READ),)


def test_who_waits_for_a_thread_has_all_the_time_that_those_before_take_and_hangs_with_none() -> None:
    watch = DiskWatch(5.0)
    watch.feed(Began(1, READ), 0.0)
    watch.feed(Queued(2, READ), 0.0)
    watch.feed(Queued(3, READ), 0.0)
    for now in (4.0, 8.0, 12.0):
        assert looked_at(watch, now) == ()
        assert watch.feed(Moved(1), now) == ()
    assert looked_at(watch, 16.0) == ()
    assert watch.feed(Ended(1), 16.0) == ()
    assert watch.feed(Began(2, READ), 16.0) == ()
    assert looked_at(watch, 21.0) == (GiveUp(2, READ), GiveUpUntried(3))
    assert watch.feed(Queued(4, READ), 21.0) == (GiveUpUntried(4),)
    # Another use has its own fate.
    assert watch.feed(Queued(5, WRITE), 21.0) == ()
    assert watch.feed(Ended(2), 30.0) == (CameBack(2, READ),)
    assert watch.feed(Queued(6, READ), 30.0) == ()


def test_a_disk_that_may_take_no_time_is_refused() -> None:
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(ContractViolation):
            DiskWatch(seconds)


@pytest.mark.parametrize("seed", range(20))
def test_every_call_is_answered_or_given_up_once_and_comes_back_if_it_hung(seed: int) -> None:
    chance = random.Random(seed)
    watch, now, next_call = DiskWatch(5.0), 0.0, 0
    queued: dict[int, Operation] = {}
    moving: dict[int, tuple[Operation, float]] = {}  # With what each has had of its 5 seconds.
    hung: dict[int, Operation] = {}

    def feed(event: WatchEvent) -> tuple[WatchAction, ...]:
        actions = watch.feed(event, now)
        for action in actions:
            match action:
                case GiveUp(call, operation):
                    begun, had = moving.pop(call)
                    assert (begun, had >= 5.0) == (operation, True)
                    hung[call] = operation
                case GiveUpUntried(call):
                    assert queued.pop(call).use in {each.use for each in hung.values()}
                case CameBack(call, operation):
                    assert hung.pop(call) is operation
        return actions

    for _ in range(400):
        later = chance.choice((0.0, 0.5, 1.0, 1.25, 2.0, 500.0))
        now += later
        moving = {call: (each, had + min(later, 1.25)) for call, (each, had) in moving.items()}
        operation = chance.choice((READ, WRITE, INDEX))
        match chance.randrange(5):
            case 0:
                next_call += 1
                queued[next_call] = operation
                feed(Queued(next_call, operation))
            case 1 if queued:
                call = chance.choice([*queued])
                moving[call] = (queued.pop(call), 0.0)
                feed(Began(call, moving[call][0]))
            case 2 if moving:
                call = chance.choice([*moving])
                moving[call] = (moving[call][0], 0.0)
                feed(Moved(call))
            case 3 if moving or hung:
                call = chance.choice([*moving, *hung])
                moving.pop(call, None)
                assert feed(Ended(call)) or call not in hung
            case _:
                feed(Tick())
        assert watch.is_idle is (not moving and not queued)
        longest = max((had for _, had in moving.values()), default=None)
        assert watch.next_deadline() == (None if longest is None else now + min(1.25, 5.0 - longest))
        assert longest is None or longest < 5.0
        assert not {each.use for each in queued.values()} & {each.use for each in hung.values()}
