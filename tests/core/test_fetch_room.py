"""Room for page buffers: never more than there is, and nobody waits for who waits for him."""

from __future__ import annotations

import pytest

from seekfs_core.errors import ContractViolation, FailureKind, StoreFailure
from seekfs_core.fetch_messages import (
    DeliverPage,
    DropAhead,
    FailPage,
    FetchAction,
    GetFailed,
    GrantRoom,
    PageArrived,
    PageSource,
    PagesWanted,
    ReadLeft,
    ReadWaits,
    RoomReturned,
    RoomWanted,
    StartGet,
)
from seekfs_core.fetch_waits import QUIET_SECONDS
from seekfs_core.machine import Tick
from seekfs_core.pages import file_key, page_key
from tests.core.model_fetch import Watched
from tests.core.model_files import blank_file
from tests.core.test_fetch import PAGE, bring, gets, runs, source_of

A, B = source_of(20, "a"), source_of(20, "b")
BUSY = StoreFailure(kind=FailureKind.BUSY, detail="busy")


def start(watched: Watched, read: int, *pages: int) -> StartGet:
    (get,) = gets(watched.feed(PagesWanted(read, A, pages), 1.0))
    return get


def drops(actions: tuple[FetchAction, ...]) -> list[int]:
    return [action.read for action in actions if isinstance(action, DropAhead)]


# --- who gets it ----------------------------------------------------------------------------


def test_a_get_reserves_its_room_when_it_starts_and_the_next_waits_until_there_is_some() -> None:
    watched = Watched.make(room=4 * PAGE)
    get = start(watched, 1, 0, 1, 2)
    assert watched.feed(PagesWanted(2, B, (0,))) == ()
    bring(watched, get)
    assert watched.room_used == 3 * PAGE  # What was delivered is the driver's until it says otherwise.
    assert runs(watched.feed(RoomReturned(PAGE))) == [(0, 1)]


def test_room_is_kept_over_retries_and_comes_back_with_the_last_failure() -> None:
    watched = Watched.make(room=4 * PAGE, attempts=2, backoff=0.1)
    get = start(watched, 1, 0, 1, 2)
    watched.feed(PagesWanted(2, B, (0,)))
    watched.feed(GetFailed(get.get, BUSY))
    assert watched.room_used == 3 * PAGE
    (again,) = gets(watched.feed(Tick(), 1.5))
    *failed, following = watched.feed(GetFailed(again.get, BUSY))
    assert [page.page_id for page in failed if isinstance(page, FailPage)] == [0, 1, 2]
    assert isinstance(following, StartGet)
    assert watched.room_used == PAGE


def test_reading_back_from_disk_finds_room_while_gets_have_all_that_they_may() -> None:
    watched = Watched.make(room=4 * PAGE)
    start(watched, 1, 0, 1, 2)
    assert watched.feed(PagesWanted(1, A, (3,))) == ()
    assert watched.feed(RoomWanted(2, PAGE)) == (GrantRoom(2, PAGE),)


def test_reading_back_needs_no_budget_and_no_slot() -> None:
    watched = Watched.make(room=4 * PAGE, rate=0.001, burst=1, inflight=1)
    watched.feed(PagesWanted(1, A, (0,)), 1.0)
    assert watched.feed(RoomWanted(2, 4 * PAGE)) == (GrantRoom(2, 4 * PAGE),)


def test_room_is_granted_in_the_order_in_which_it_was_wanted() -> None:
    watched = Watched.make(room=4 * PAGE)
    watched.feed(RoomWanted(1, 3 * PAGE), 1.0)
    assert watched.feed(RoomWanted(2, 2 * PAGE)) == ()
    assert watched.feed(RoomWanted(3, 1)) == ()
    assert watched.feed(RoomReturned(PAGE)) == (GrantRoom(2, 2 * PAGE),)
    assert watched.feed(RoomReturned(2 * PAGE)) == (GrantRoom(3, 1),)


def test_who_left_takes_no_room() -> None:
    watched = Watched.make(room=4 * PAGE)
    watched.feed(RoomWanted(1, 4 * PAGE), 1.0)
    watched.feed(RoomWanted(2, 4 * PAGE))
    watched.feed(RoomWanted(3, PAGE))
    watched.feed(ReadLeft(2))
    assert watched.feed(RoomReturned(4 * PAGE)) == (GrantRoom(3, PAGE),)


def test_a_page_larger_than_the_gets_share_is_fetched_when_everything_else_has_left() -> None:
    watched = Watched.make(room=4 * PAGE)
    file = blank_file("large", 8 * PAGE, 4 * PAGE)
    key = file_key("dev", "large", file.sha256, file.page_size_bytes, file.crcs)
    large = PageSource("dev", 1, file, key)
    watched.feed(RoomWanted(9, 1), 1.0)
    assert watched.feed(PagesWanted(1, large, (0,))) == ()
    # Who wants room after it does not keep it waiting for ever.
    assert watched.feed(RoomWanted(8, 1)) == ()
    assert runs(watched.feed(RoomReturned(1))) == [(0, 1)]
    get = next(iter(watched.flights.values())).start
    bring(watched, get)
    assert watched.feed(RoomReturned(4 * PAGE)) == (GrantRoom(8, 1),)


def test_a_request_larger_than_gets_leave_it_is_not_overtaken_by_gets_for_ever() -> None:
    watched = Watched.make(room=4 * PAGE, coalesce=1)
    started = gets(watched.feed(PagesWanted(1, A, (0, 1)), 1.0))
    assert watched.feed(RoomWanted(2, 3 * PAGE)) == ()
    assert watched.feed(PagesWanted(3, B, (0,))) == ()  # It would fit.
    for get in started:
        bring(watched, get)
    assert watched.feed(RoomReturned(PAGE)) == (GrantRoom(2, 3 * PAGE),)
    assert watched.feed(RoomReturned(PAGE)) == ()
    assert runs(watched.feed(RoomReturned(PAGE))) == [(0, 1)]


def test_a_window_larger_than_what_gets_may_use_is_fetched_in_parts() -> None:
    watched = Watched.make(room=4 * PAGE)
    (get,) = gets(watched.feed(PagesWanted(1, A, tuple(range(7))), 1.0))
    assert (get.page_start, get.page_stop) == (0, 3)
    bring(watched, get)
    assert runs(watched.feed(RoomReturned(3 * PAGE))) == [(3, 6)]


@pytest.mark.parametrize("event", [PagesWanted(1, A, (0,)), RoomWanted(1, PAGE)])
def test_what_never_fits_is_the_callers_mistake(event: PagesWanted | RoomWanted) -> None:
    watched = Watched.make(room=PAGE - 1)
    with pytest.raises(ContractViolation, match="never fit"):
        watched.scheduler.feed(event, 1.0)
    assert watched.feed(Tick(), 1.0) == ()


def test_more_room_than_there_is_cannot_come_back() -> None:
    watched = Watched.make(room=4 * PAGE)
    watched.feed(RoomWanted(1, PAGE), 1.0)
    for length in (PAGE + 1, -1):
        with pytest.raises(ContractViolation, match="of room returned"):
            watched.scheduler.feed(RoomReturned(length), 1.0)
    assert watched.feed(RoomReturned(PAGE)) == ()


# --- lookahead ------------------------------------------------------------------------------


def holding(watched: Watched) -> None:
    """Reader 1 holds pages 0 to 2 of ``a``, all the room that GETs may have."""
    bring(watched, start(watched, 1, 0, 1, 2))


def test_a_reader_that_waits_without_room_is_told_to_let_go_of_what_it_holds_ahead() -> None:
    watched = Watched.make(room=4 * PAGE)
    holding(watched)
    assert watched.feed(PagesWanted(1, A, (3, 4, 5))) == ()
    assert watched.feed(ReadWaits(1, page_key(A.key, 3))) == (DropAhead(1, ()),)
    # Told once a wait; and what is queued stays whole, since it takes no room.
    assert watched.feed(RoomWanted(2, 2 * PAGE)) == ()
    assert watched.feed(RoomReturned(2 * PAGE)) == (GrantRoom(2, 2 * PAGE),)
    assert watched.feed(RoomReturned(PAGE)) == ()
    assert runs(watched.feed(RoomReturned(2 * PAGE))) == [(3, 6)]


def test_a_reader_that_is_given_more_while_it_waits_is_told_again() -> None:
    """What it had asked for ahead comes before the page that it waits for, and takes the room of that."""
    watched = Watched.make(room=4 * PAGE, coalesce=1)
    bring(watched, start(watched, 9, 0))
    bring(watched, start(watched, 9, 1))
    (ahead,) = gets(watched.feed(PagesWanted(1, A, (5,))))
    assert watched.feed(PagesWanted(1, A, (3,))) == ()
    assert watched.feed(ReadWaits(1, page_key(A.key, 3))) == (DropAhead(1, (page_key(A.key, 5),)),)
    # It wants page 5 again, which is on its way already.
    watched.feed(PagesWanted(1, A, (5,)))
    assert drops(watched.feed(ReadWaits(1, page_key(A.key, 3)))) == [1]
    watched.feed(PagesWanted(2, A, (5,)))
    assert drops(watched.feed(PageArrived(ahead.get, 5, 5))) == []


def test_a_reader_whose_page_has_its_room_keeps_what_it_holds() -> None:
    watched = Watched.make(room=4 * PAGE)
    get = start(watched, 1, 0, 1, 2)
    bring(watched, get, [0])
    assert watched.feed(PagesWanted(1, A, (3,))) == ()
    assert watched.feed(ReadWaits(1, page_key(A.key, 1))) == ()
    watched.feed(GetFailed(get.get, BUSY))
    assert watched.feed(RoomWanted(2, 4 * PAGE)) == ()  # Backing off, it has its room still.


def test_a_reader_that_moves_keeps_what_it_holds() -> None:
    watched = Watched.make(room=4 * PAGE)
    holding(watched)
    assert watched.feed(PagesWanted(1, A, (3,))) == ()
    assert watched.feed(RoomWanted(2, 4 * PAGE)) == ()


def test_two_readers_that_hold_what_the_other_needs_both_go_on() -> None:
    watched = Watched.make(room=4 * PAGE, coalesce=1)
    for read, source, page_id in ((1, A, 1), (2, B, 1)):
        (get,) = gets(watched.feed(PagesWanted(read, source, (page_id,)), 1.0))
        bring(watched, get)
    watched.feed(RoomWanted(3, 2 * PAGE))  # Somebody moves slowly, and has the rest.
    watched.feed(PagesWanted(1, A, (0,)))
    watched.feed(PagesWanted(2, B, (0,)))
    assert drops(watched.feed(ReadWaits(1, page_key(A.key, 0)))) == [1]
    assert drops(watched.feed(ReadWaits(2, page_key(B.key, 0)))) == [2]
    assert watched.feed(RoomReturned(PAGE)) == ()
    assert [get.source.file.path for get in gets(watched.feed(RoomReturned(PAGE)))] == ["a"]
    assert [get.source.file.path for get in gets(watched.feed(RoomReturned(PAGE)))] == ["b"]


def test_a_reader_that_waits_for_room_gives_up_what_is_on_its_way() -> None:
    watched = Watched.make(room=4 * PAGE, inflight=1)
    get = start(watched, 1, 0, 1, 2)
    watched.feed(PagesWanted(1, A, (3,)))
    watched.feed(RoomWanted(1, 2 * PAGE))
    assert watched.feed(ReadWaits(1, None)) == (DropAhead(1, tuple(page_key(A.key, at) for at in (0, 1, 2))),)
    assert watched.feed(PageArrived(get.get, 0, 0)) == (DeliverPage(get.get, A, 0, ()),)
    bring(watched, get, [1, 2])
    # Page 3 takes no room yet, and does not come before who wants room.
    assert watched.feed(RoomReturned(PAGE)) == (GrantRoom(1, 2 * PAGE),)


def test_a_wait_for_what_came_in_the_meantime_is_none() -> None:
    """The page or the grant may come between a reader's look into its inbox and its word that it waits."""
    watched = Watched.make(room=4 * PAGE, coalesce=1)
    bring(watched, start(watched, 1, 0))
    watched.feed(ReadWaits(1, page_key(A.key, 0)))
    watched.feed(RoomWanted(2, PAGE))
    watched.feed(ReadWaits(2, None))
    # Both go on and want more: what they do not wait for any more is no reason to take it from them.
    watched.feed(PagesWanted(1, A, (1,)))
    watched.feed(PagesWanted(2, A, (2,)))
    watched.feed(PagesWanted(3, A, (0,)))
    assert drops(watched.feed(RoomWanted(3, 4 * PAGE))) == []
    assert watched.pages[page_key(A.key, 2)].readers == {2}


def test_what_fits_once_lookahead_was_given_up_starts_at_once() -> None:
    watched = Watched.make(room=8 * PAGE, backoff=60.0)
    get = start(watched, 1, 0, 1, 2, 3)
    watched.feed(GetFailed(get.get, BUSY))  # It keeps its room, and will not move for a minute.
    assert watched.feed(PagesWanted(1, B, (0, 1, 2))) == ()
    drop, following = watched.feed(ReadWaits(1, page_key(B.key, 0)))
    assert drop == DropAhead(1, tuple(page_key(A.key, at) for at in range(4)))
    assert runs((following,)) == [(0, 3)]


def test_a_grant_ends_the_wait_for_it() -> None:
    watched = Watched.make(room=4 * PAGE)
    watched.feed(RoomWanted(9, 4 * PAGE), 1.0)
    watched.feed(RoomWanted(1, PAGE))
    assert watched.feed(ReadWaits(1, None)) == (DropAhead(1, ()),)
    assert watched.feed(RoomReturned(PAGE)) == (GrantRoom(1, PAGE),)
    # It moves on, and is not told to let go of what it wants next.
    assert watched.feed(PagesWanted(1, A, (0,))) == ()
    assert drops(watched.feed(RoomWanted(2, PAGE))) == []


def test_a_new_wait_is_told_anew() -> None:
    watched = Watched.make(room=4 * PAGE)
    holding(watched)
    watched.feed(PagesWanted(1, A, (3,)))
    assert drops(watched.feed(ReadWaits(1, page_key(A.key, 3)))) == [1]
    watched.feed(PagesWanted(1, A, (7, 8)))
    assert drops(watched.feed(ReadWaits(1, page_key(A.key, 7)))) == [1]


def test_a_reader_that_is_not_heard_of_lets_go_of_what_it_holds_ahead_while_somebody_waits() -> None:
    watched = Watched.make(room=4 * PAGE)
    holding(watched)  # At time 1.
    assert watched.feed(RoomWanted(2, 4 * PAGE), 5.0) == ()
    assert drops(watched.feed(ReadWaits(2, None))) == [2]
    assert watched.scheduler.next_deadline() == 5.0 + QUIET_SECONDS
    assert watched.feed(Tick(), 5.9) == ()
    assert watched.feed(Tick(), 6.0) == (DropAhead(1, ()),)
    # Once, until it is heard of again.
    assert watched.scheduler.next_deadline() is None
    watched.feed(PagesWanted(1, A, (9,)), 20.0)
    assert watched.scheduler.next_deadline() == 20.0 + QUIET_SECONDS
    assert drops(watched.feed(Tick(), 21.0)) == [1]


def test_what_a_quiet_reader_wanted_ahead_holds_up_nobody() -> None:
    """Its lookahead stands at the head of the queue, and what others need behind it."""
    watched = Watched.make(room=4 * PAGE, coalesce=3 * PAGE)
    holding(watched)
    assert watched.feed(PagesWanted(1, A, (3, 4, 5))) == ()
    assert watched.feed(PagesWanted(2, B, (0,)), 1.5) == ()
    assert watched.feed(ReadWaits(2, page_key(B.key, 0))) == (DropAhead(2, ()),)
    assert watched.feed(RoomReturned(PAGE), 1.9) == ()  # The one page waits behind three.
    drop, get = watched.feed(Tick(), 1.5 + QUIET_SECONDS)
    assert drop == DropAhead(1, tuple(page_key(A.key, at) for at in (3, 4, 5)))
    assert runs((get,)) == [(0, 1)]
    assert not watched.scheduler.is_wanted(page_key(A.key, 3))


def test_nobody_is_quiet_while_there_is_room() -> None:
    watched = Watched.make(room=8 * PAGE)
    holding(watched)
    watched.feed(RoomWanted(2, PAGE), 5.0)
    assert watched.scheduler.next_deadline() is None
    assert watched.feed(Tick(), 100.0) == ()


def test_room_is_out_for_what_is_delivered_until_it_is_returned_and_then_there_is_none() -> None:
    watched = Watched.make(room=8 * PAGE)
    get = start(watched, 1, 0, 1, 2, 3)
    bring(watched, get, [0])
    bring(watched, get, [1], wrong=True)
    watched.feed(GetFailed(get.get, StoreFailure(kind=FailureKind.MISSING, detail="gone")))
    assert watched.room_used == 2 * PAGE  # One delivered, one asked for once more.
    watched.feed(ReadLeft(1))
    (again,) = (flight.start for flight in watched.flights.values())
    bring(watched, again)
    assert watched.feed(RoomReturned(2 * PAGE)) == ()
    assert watched.scheduler.statistics().room_bytes_used == 0
