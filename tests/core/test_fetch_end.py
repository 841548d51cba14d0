"""The fetch scheduler when it comes to its end, and when the store turns out to be down."""

from __future__ import annotations

from seekfs_core.breaker import BreakerPolicy
from seekfs_core.errors import FailureKind
from seekfs_core.fetch_messages import (
    BreakOffCall,
    BreakOffGet,
    CallFailed,
    CallWanted,
    Closing,
    FailCall,
    FailPage,
    GetFailed,
    PagesWanted,
    ReadLeft,
    RefuseRoom,
    RoomWanted,
    StartCall,
)
from seekfs_core.machine import Tick
from tests.core.model_fetch import Watched
from tests.core.test_fetch import failure, gets, source_of


def test_at_the_end_whoever_waits_is_told_and_nothing_is_begun_any_more() -> None:
    watched = Watched.make(inflight=2)
    source, other = source_of(4), source_of(2, "b")
    watched.feed(CallWanted(1), 1.0)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0, 1))))
    watched.feed(PagesWanted(2, source, (1,)))
    watched.feed(ReadLeft(1))
    watched.feed(PagesWanted(3, other, (0,)))
    watched.feed(CallWanted(2))
    told = watched.feed(Closing())
    assert [(each.source, each.page_id, each.reads) for each in told if isinstance(each, FailPage)] == [
        (source, 1, (2,)),
        (other, 0, (3,)),
    ]
    assert [each.call for each in told if isinstance(each, FailCall)] == [1, 2]
    assert [each.get for each in told if isinstance(each, BreakOffGet)] == [get.get]
    assert [each.call for each in told if isinstance(each, BreakOffCall)] == [1]
    (failed,) = watched.feed(PagesWanted(4, other, (1,)))
    assert isinstance(failed, FailPage)
    assert failed.failure.kind is FailureKind.CLOSING
    assert watched.feed(RoomWanted(5, 10)) == (RefuseRoom(5, 10),)
    (refused,) = watched.feed(CallWanted(3))
    assert isinstance(refused, FailCall)
    assert watched.feed(GetFailed(get.get, failure(FailureKind.CLOSING))) == ()
    assert watched.feed(CallFailed(1, failure(FailureKind.CLOSING))) == ()
    assert watched.is_idle


def test_a_store_that_is_found_to_be_down_refuses_the_calls_that_wait() -> None:
    down = failure(FailureKind.UNREACHABLE)
    watched = Watched.make(attempts=9, breaker=BreakerPolicy(failures_max=1, probe_seconds_initial=1.0))
    (get,) = gets(watched.feed(PagesWanted(1, source_of(1), (0,)), 10.0))
    watched.feed(GetFailed(get.get, down))
    watched.feed(CallWanted(1))
    watched.feed(CallWanted(2))
    assert watched.feed(Tick(), 11.0) == (StartCall(1, 1),)
    told = watched.feed(CallFailed(1, down))
    assert [each.call for each in told if isinstance(each, FailCall)] == [1, 2]
    assert watched.is_idle
