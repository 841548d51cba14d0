"""Calls of a disk that somebody waits for, and no longer than the disk moves."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seekfs_core.disk_watch import LOOKS
from seekfs_core.tier import Operation
from seekfs_io.pages.disk_calls import DiskCalls, DiskHangs, Moves
from seekfs_io.pages.tier_switch import DiskHealth
from tests.io.planes import until

PATIENCE_SECONDS = 0.1
LONG_SECONDS = 1000.0


@contextlib.contextmanager
def calls_of(
    seconds_max: float, clock: Callable[[], float] = time.monotonic, *, threads: int = 4
) -> Iterator[tuple[DiskCalls, DiskHealth]]:
    health = DiskHealth(Path("/l2"), clock)
    calls = DiskCalls("disk", threads, health, seconds_max, clock)
    yield calls, health
    calls.close()


class Stuck:
    """Something that does not return before it is told to, as a call and as a thread that waits for it."""

    def __init__(self, calls: DiskCalls) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.stays = threading.Event()
        self.came_back = threading.Event()
        self.steps: list[str] = []
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=lambda: self._wait(calls), daemon=True)
        self.thread.start()

    def do(self, moves: Moves) -> None:
        self.steps.append("first")
        self.begun.set()
        self.go_on.wait()
        moves()
        self.steps.append("second")

    def _wait(self, calls: DiskCalls) -> None:
        try:
            calls.wait_for(Operation.READ, self.do, stays=self.stays.set, came_back=self.came_back.set)
        except BaseException as error:
            self.error = error


def test_what_a_call_returns_or_raises_is_its_callers() -> None:
    with calls_of(LONG_SECONDS) as (calls, health):
        assert calls.wait_for(Operation.READ, lambda _: 7) == 7
        with pytest.raises(OSError, match="no"):
            calls.wait_for(Operation.READ, lambda _: (_ for _ in ()).throw(OSError("no")))
        assert health.off_because is None, "what an error means is for others to say"


def test_a_call_that_is_given_up_stops_where_it_moves_and_is_heard_of_when_it_comes_back() -> None:
    with calls_of(PATIENCE_SECONDS) as (calls, health):
        stuck = Stuck(calls)
        stuck.thread.join()
        assert isinstance(stuck.error, DiskHangs)
        assert stuck.error.is_tried
        assert stuck.stays.is_set()
        assert not stuck.came_back.is_set()
        assert health.off_because == "reading: no answer for 0.1 seconds"
        with pytest.raises(DiskHangs) as hangs:
            calls.wait_for(Operation.READ, lambda _: pytest.fail("it is tried while another hangs"))
        assert not hangs.value.is_tried
        stuck.go_on.set()
        assert stuck.came_back.wait(30)
        assert stuck.steps == ["first"], "it writes into memory that nobody waits for"
        until(lambda: calls.wait_for(Operation.READ, lambda _: True))


def test_who_begins_when_another_is_late_says_so_before_it_can_hang_itself() -> None:
    """The news of the first one came up when the second began, and would be held up with it."""
    look = LONG_SECONDS / LOOKS
    late = 0.0

    def clock() -> float:
        return late + look * (late > 0 and threading.current_thread().name == "disk-1")

    with calls_of(LONG_SECONDS, clock) as (calls, health):
        first = Stuck(calls)
        assert first.begun.wait(30)
        for _ in range(LOOKS - 1):
            late += look
            with calls.under_way(Operation.READ):
                pass
        second = Stuck(calls)
        assert second.begun.wait(30)
        first.thread.join(30)
        assert isinstance(first.error, DiskHangs)
        assert second.thread.is_alive()
        assert health.off_because is not None
        first.go_on.set()
        second.go_on.set()
        second.thread.join()
        assert second.error is None


def test_after_the_end_calls_are_made_by_their_callers_and_those_under_way_are_still_watched() -> None:
    with calls_of(PATIENCE_SECONDS) as (calls, health):
        stuck = Stuck(calls)
        assert stuck.begun.wait(30)
        calls.close()
        stuck.thread.join()
        assert isinstance(stuck.error, DiskHangs)
        assert health.off_because is not None
        thread = calls.wait_for(Operation.READ, lambda _: threading.current_thread())
        assert thread is threading.current_thread()
        stuck.go_on.set()
        assert stuck.came_back.wait(30)


def test_what_an_untried_call_was_to_fill_is_its_callers_again_at_once() -> None:
    """Its turn may never come; until then it would hold memory that nobody counts."""

    class Memory(bytearray):
        pass

    with calls_of(PATIENCE_SECONDS, threads=1) as (calls, _):
        stuck = Stuck(calls)
        assert stuck.begun.wait(30)
        memory = Memory(10)
        gone = weakref.ref(memory)
        with contextlib.suppress(DiskHangs):
            calls.wait_for(Operation.READ, functools.partial(lambda view, _: len(view), memory))
            raise AssertionError("it was made behind one that hangs")
        del memory
        gc.collect()
        assert gone() is None
        stuck.go_on.set()
        assert stuck.came_back.wait(30)


def test_many_more_callers_than_threads_are_all_served() -> None:
    with calls_of(LONG_SECONDS, threads=3) as (calls, _):
        got: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: got.append(calls.wait_for(Operation.READ, lambda _: n)))
            for n in range(64)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(got) == list(range(64))
