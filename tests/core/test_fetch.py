"""The fetch scheduler, one promise at a time: sharing, budget, retries, checksums, calls.

Every event goes through ``Watched``, so each of these runs is held against all promises.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from attrs import evolve

from seekfs_core.errors import CeilingExceeded, FailureKind, StoreFailure
from seekfs_core.fetch_messages import (
    BreakOffCall,
    BreakOffGet,
    CallEnded,
    CallFailed,
    CallLeft,
    CallMoved,
    CallWanted,
    DeliverPage,
    DiscardPage,
    FailCall,
    FailPage,
    FetchAction,
    FetchLimits,
    GetEnded,
    GetFailed,
    GetOpened,
    PageArrived,
    PageSource,
    PagesWanted,
    ReadLeft,
    StartCall,
    StartGet,
)
from seekfs_core.machine import Tick
from seekfs_core.pages import file_key, page_key
from seekfs_core.retry import is_passing
from tests.core.model_fetch import OWN_FAILURES, Watched
from tests.core.model_files import NS, blank_file

PAGE = 10


def source_of(pages: int, path: str = "a", version: int = 3) -> PageSource:
    file = blank_file(path, pages * PAGE, PAGE)
    return PageSource(NS, version, file, file_key(NS, path, file.sha256, file.page_size_bytes, file.crcs))


def gets(actions: Sequence[FetchAction]) -> list[StartGet]:
    return [action for action in actions if isinstance(action, StartGet)]


def runs(actions: Sequence[FetchAction]) -> list[tuple[int, int]]:
    return [(get.page_start, get.page_stop) for get in gets(actions)]


def failure(kind: FailureKind = FailureKind.BUSY, detail: str = "so it went") -> StoreFailure:
    return StoreFailure(kind=kind, detail=detail)


def bring(watched: Watched, get: StartGet, pages: Sequence[int] | None = None, wrong: bool = False) -> None:
    """Pages of a GET arrive: all of them, and its end, unless they are named."""
    for page_id in range(get.page_start, get.page_stop) if pages is None else pages:
        crc = get.source.file.page_crc32c(page_id)
        watched.feed(PageArrived(get.get, page_id, crc ^ wrong))
    if pages is None:
        watched.feed(GetEnded(get.get))


# --- sharing --------------------------------------------------------------------------------


def test_sixty_four_readers_of_one_cold_page_cost_one_get_and_all_get_it() -> None:
    watched = Watched.make()
    source = source_of(1)
    started = [get for read in range(64) for get in gets(watched.feed(PagesWanted(read, source, (0,)), 1.0))]
    assert runs(started) == [(0, 1)]
    (delivered,) = watched.feed(PageArrived(started[0].get, 0, 0))
    assert delivered == DeliverPage(started[0].get, source, 0, tuple(range(64)))


def test_a_leader_that_leaves_does_not_fail_who_joined() -> None:
    watched = Watched.make()
    source = source_of(2)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0, 1)), 1.0))
    watched.feed(PagesWanted(2, source, (1,)))
    assert watched.feed(ReadLeft(1)) == ()
    assert watched.feed(PageArrived(get.get, 0, 0)) == (DeliverPage(get.get, source, 0, ()),)
    assert watched.feed(PageArrived(get.get, 1, 1)) == (DeliverPage(get.get, source, 1, (2,)),)


def test_a_cold_file_costs_one_get_a_window_however_many_read_it() -> None:
    watched = Watched.make(coalesce=4 * PAGE)
    source = source_of(32)
    first = watched.feed(PagesWanted(1, source, tuple(range(32))), 1.0)
    assert runs(first) == [(at, at + 4) for at in range(0, 32, 4)]
    assert watched.feed(PagesWanted(2, source, tuple(range(32)))) == ()


def test_pages_are_handed_over_while_their_get_goes_on() -> None:
    watched = Watched.make()
    source = source_of(4)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0, 1, 2, 3)), 1.0))
    for page_id in range(4):
        assert watched.feed(PageArrived(get.get, page_id, page_id)) == (
            DeliverPage(get.get, source, page_id, (1,)),
        )
    assert watched.feed(GetEnded(get.get)) == ()


def test_a_reader_that_comes_in_the_middle_joins_what_is_to_come_and_asks_for_what_has_been() -> None:
    watched = Watched.make()
    source = source_of(3)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0, 1, 2)), 1.0))
    bring(watched, get, [0])
    # Its driver would have found page 0 in RAM; here it has left every tier again.
    assert runs(watched.feed(PagesWanted(2, source, (0, 1, 2)))) == [(0, 1)]
    assert watched.feed(PageArrived(get.get, 1, 1)) == (DeliverPage(get.get, source, 1, (1, 2)),)


def test_two_cold_files_are_fetched_at_once() -> None:
    watched = Watched.make()
    (one,) = gets(watched.feed(PagesWanted(1, source_of(1, "a"), (0,)), 1.0))
    (two,) = gets(watched.feed(PagesWanted(2, source_of(1, "b"), (0,))))
    assert watched.scheduler.statistics().in_flight == 2
    assert (one.start, one.stop, two.source.file.path) == (0, PAGE, "b")


def test_two_paths_with_the_same_bytes_share_nothing() -> None:
    watched = Watched.make()
    watched.feed(PagesWanted(1, source_of(1, "a"), (0,)), 1.0)
    assert runs(watched.feed(PagesWanted(1, source_of(1, "b"), (0,)))) == [(0, 1)]


def test_asking_again_for_what_one_waits_for_changes_nothing() -> None:
    watched = Watched.make()
    source = source_of(2)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0, 1)), 1.0))
    assert watched.feed(PagesWanted(1, source, (0, 0, 1))) == ()
    bring(watched, get)
    assert watched.is_idle


def test_a_get_that_nobody_wants_any_more_is_not_started() -> None:
    watched = Watched.make(inflight=1)
    source = source_of(1, "a")
    (get,) = gets(watched.feed(PagesWanted(1, source, (0,)), 1.0))
    watched.feed(PagesWanted(2, source_of(4, "b"), (0, 1, 2, 3)))
    watched.feed(ReadLeft(2))
    bring(watched, get)
    assert watched.scheduler.statistics().gets_started == 1
    assert watched.is_idle


def test_of_a_waiting_get_only_what_is_still_wanted_is_fetched_in_the_files_order() -> None:
    watched = Watched.make(inflight=1)
    (first,) = gets(watched.feed(PagesWanted(1, source_of(1, "a"), (0,)), 1.0))
    source = source_of(7, "b")
    watched.feed(PagesWanted(2, source, tuple(range(7))))
    watched.feed(PagesWanted(3, source, (0, 2, 3, 6)))
    watched.feed(PagesWanted(4, source_of(1, "c"), (0,)))
    watched.feed(ReadLeft(2))
    bring(watched, first, [0])
    started = []
    next_get = gets(watched.feed(GetEnded(first.get)))
    while next_get:
        (get,) = next_get
        started.append((get.source.file.path, get.page_start, get.page_stop))
        bring(watched, get, range(get.page_start, get.page_stop))
        next_get = gets(watched.feed(GetEnded(get.get)))
    assert started == [("b", 0, 1), ("b", 2, 4), ("b", 6, 7), ("c", 0, 1)]


# --- budget and slots -----------------------------------------------------------------------


def test_no_more_are_in_flight_than_may_be() -> None:
    watched = Watched.make(inflight=2, coalesce=1)
    source = source_of(5)
    started = gets(watched.feed(PagesWanted(1, source, tuple(range(5))), 1.0))
    assert runs(started) == [(0, 1), (1, 2)]
    bring(watched, started[1], [1])
    assert runs(watched.feed(GetEnded(started[1].get))) == [(2, 3)]


def test_a_new_scheduler_has_no_burst_saved_up() -> None:
    watched = Watched.make(rate=10, burst=4, coalesce=1, now=100.0)
    source = source_of(9)
    assert watched.feed(PagesWanted(1, source, tuple(range(9)))) == ()
    assert watched.scheduler.next_deadline() == pytest.approx(100.1)
    assert watched.scheduler.statistics().budget_waits == 1


def test_the_budget_starts_gets_when_they_are_due_and_not_before() -> None:
    watched = Watched.make(rate=10, burst=2, coalesce=1)
    started = [(10.0, run) for run in runs(watched.feed(PagesWanted(1, source_of(5), tuple(range(5))), 10.0))]
    while (due := watched.scheduler.next_deadline()) is not None:
        assert watched.feed(Tick(), (watched.now + due) / 2) == ()
        started += [(round(due, 6), run) for run in runs(watched.feed(Tick(), due))]
    assert started == [(10.0, (0, 1)), (10.0, (1, 2)), (10.1, (2, 3)), (10.2, (3, 4)), (10.3, (4, 5))]


def test_retries_spend_the_same_budget() -> None:
    watched = Watched.make(rate=1, burst=1, backoff=0.0)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(1), (0,)), 10.0))
    assert watched.feed(GetFailed(get.get, failure()), 10.1) == ()
    assert watched.feed(Tick(), 10.5) == ()
    assert watched.scheduler.next_deadline() == 11.0
    assert runs(watched.feed(Tick(), 11.0)) == [(0, 1)]
    assert watched.scheduler.statistics().gets_started == 2
    assert watched.scheduler.statistics().gets_retried == 1


def test_waking_early_or_twice_is_harmless() -> None:
    watched = Watched.make(rate=1, burst=1)
    watched.feed(PagesWanted(1, source_of(1), (0,)), 0.0)
    for now in (0.0, 0.5, 0.5):
        assert watched.feed(Tick(), now) == ()
    assert runs(watched.feed(Tick(), 1.0)) == [(0, 1)]
    assert watched.feed(Tick(), 1.0) == ()
    assert watched.scheduler.statistics().budget_waits == 1


def test_an_object_of_another_size_is_said_to_be_overwritten() -> None:
    watched = Watched.make(attempts=1)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(2), (0, 1)), 1.0))
    other = evolve(failure(FailureKind.BAD_ANSWER), facts={"object_size": 7})
    (first, _) = watched.feed(GetFailed(get.get, other))
    assert isinstance(first, FailPage)
    assert first.failure.detail == (
        "so it went; wanted for 'a' in version 3 of 'dev', which has 20 bytes there: "
        "the object was overwritten since it was published"
    )
    assert first.failure.facts["overwritten"] is True


# --- retries --------------------------------------------------------------------------------


def test_a_stale_signature_is_replaced_at_once_and_within_the_budget() -> None:
    watched = Watched.make(attempts=2, backoff=1.0, rate=1.0, burst=1)
    source = source_of(1)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0,)), 1.0))
    assert watched.feed(GetFailed(get.get, failure(FailureKind.STALE_SIGNATURE)), 1.0) == ()
    assert watched.scheduler.next_deadline() == 2.0
    (again,) = gets(watched.feed(Tick(), 2.0))
    assert again.attempt == 2
    assert watched.scheduler.statistics().gets_started == 2


@pytest.mark.parametrize(
    "kind", [kind for kind in FailureKind if kind not in (FailureKind.STALE_SIGNATURE, *OWN_FAILURES)]
)
def test_every_kind_of_failure_is_retried_or_told_to_every_waiter(kind: FailureKind) -> None:
    watched = Watched.make(attempts=3, backoff=1.0)
    source = source_of(2)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0, 1)), 1.0))
    watched.feed(PagesWanted(2, source, (1,)))
    now, requests = 1.0, 1
    while True:
        actions = watched.feed(GetFailed(get.get, failure(kind)), now)
        if actions:
            break
        due = watched.scheduler.next_deadline()
        assert due is not None
        assert 0.5 * 2 ** (requests - 1) <= due - now <= 2 ** (requests - 1)
        now = due
        (get,) = gets(watched.feed(Tick(), now))
        requests += 1
        assert get.attempt == requests
    assert requests == (3 if is_passing(kind) else 1)
    told = "so it went, after 3 requests" if is_passing(kind) else "so it went"
    facts = {"ns": "dev", "path": "a", "version": 3, "overwritten": False, "attempts": requests}
    final = failure(kind, f"{told}; wanted for 'a' in version 3 of 'dev'")
    first, second = (evolve(final, facts={**facts, "page_id": page_id}) for page_id in (0, 1))
    assert actions == (FailPage(source, 0, (1,), first), FailPage(source, 1, (1, 2), second))
    assert watched.is_idle
    assert watched.room_used == 0
    assert watched.scheduler.statistics().outcomes == {kind.value: requests}


def test_a_retry_asks_only_for_what_has_not_arrived() -> None:
    watched = Watched.make(backoff=0.0)
    source = source_of(5)
    (get,) = gets(watched.feed(PagesWanted(1, source, tuple(range(5))), 1.0))
    bring(watched, get, [0, 1])
    (again,) = gets(watched.feed(GetFailed(get.get, failure(FailureKind.CUT_SHORT))))
    assert (again.page_start, again.page_stop, again.attempt) == (2, 5, 2)
    bring(watched, again, [2])
    (last,) = gets(watched.feed(GetFailed(again.get, failure(FailureKind.TIMED_OUT))))
    assert (last.page_start, last.page_stop, last.attempt) == (3, 5, 3)
    bring(watched, last)
    assert watched.is_idle
    assert watched.scheduler.statistics().pages_delivered == 5


def test_a_get_that_fails_after_its_last_page_fails_nobody() -> None:
    watched = Watched.make()
    (get,) = gets(watched.feed(PagesWanted(1, source_of(1), (0,)), 1.0))
    bring(watched, get, [0])
    assert watched.feed(GetFailed(get.get, failure(FailureKind.DENIED))) == ()
    assert watched.is_idle


def test_a_retry_that_nobody_waits_for_is_not_made_and_gives_its_room_back() -> None:
    watched = Watched.make(backoff=1.0)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(3), (0, 1, 2)), 1.0))
    bring(watched, get, [0])
    watched.feed(GetFailed(get.get, failure()))
    assert watched.room_used == 3 * PAGE
    watched.feed(ReadLeft(1))
    assert watched.room_used == PAGE
    assert watched.scheduler.next_deadline() is None


def test_what_is_left_of_a_retry_keeps_its_room_its_turn_and_its_count() -> None:
    watched = Watched.make(attempts=2, backoff=1.0)
    source = source_of(5)
    (get,) = gets(watched.feed(PagesWanted(1, source, tuple(range(5))), 1.0))
    watched.feed(PagesWanted(2, source, (0, 2, 4)))
    watched.feed(GetFailed(get.get, failure()))
    watched.feed(ReadLeft(1))
    assert watched.room_used == 3 * PAGE
    again = gets(watched.feed(Tick(), 3.0))
    assert [(each.page_start, each.page_stop, each.attempt) for each in again] == [
        (0, 1, 2),
        (2, 3, 2),
        (4, 5, 2),
    ]
    for each in again:
        (failed,) = watched.feed(GetFailed(each.get, failure()))
        assert isinstance(failed, FailPage)
    assert watched.room_used == 0


def test_what_is_left_of_a_retry_gives_its_room_back_when_nobody_wants_it_either() -> None:
    watched = Watched.make(backoff=1.0)
    source = source_of(5)
    (get,) = gets(watched.feed(PagesWanted(1, source, tuple(range(5))), 1.0))
    watched.feed(PagesWanted(2, source, (0, 2, 4)))
    watched.feed(GetFailed(get.get, failure()))
    watched.feed(ReadLeft(1))
    watched.feed(ReadLeft(2))
    assert watched.room_used == 0
    assert watched.scheduler.next_deadline() is None


def test_a_get_that_fails_when_nobody_waits_any_more_is_not_retried() -> None:
    watched = Watched.make(backoff=1.0)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(2), (0, 1)), 1.0))
    watched.feed(ReadLeft(1))
    watched.feed(GetFailed(get.get, failure()))
    assert watched.is_idle
    assert watched.room_used == 0
    assert watched.scheduler.next_deadline() is None


def test_a_reader_may_join_a_retry() -> None:
    watched = Watched.make(backoff=1.0)
    source = source_of(1)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0,)), 1.0))
    watched.feed(GetFailed(get.get, failure()))
    assert watched.feed(PagesWanted(2, source, (0,))) == ()
    watched.feed(ReadLeft(1))
    (again,) = gets(watched.feed(Tick(), 5.0))
    assert watched.feed(PageArrived(again.get, 0, 0)) == (DeliverPage(again.get, source, 0, (2,)),)


def test_failures_that_come_together_are_retried_apart() -> None:
    watched = Watched.make(coalesce=1, backoff=1.0)
    for get in gets(watched.feed(PagesWanted(1, source_of(20), tuple(range(20))), 1.0)):
        watched.feed(GetFailed(get.get, failure()))
    for _ in range(20):
        due = watched.scheduler.next_deadline()
        assert due is not None
        assert len(gets(watched.feed(Tick(), due))) == 1


def test_a_get_that_trickles_is_broken_off_and_made_again_for_the_rest() -> None:
    watched = Watched.make(page_seconds=10.0, backoff=1.0)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(3), (0, 1, 2)), 1.0))
    assert watched.scheduler.next_deadline() == 11.0
    watched.feed(PageArrived(get.get, 0, 0), 9.0)
    assert watched.feed(Tick(), 18.9) == ()
    (late,) = watched.feed(Tick(), 19.0)
    assert isinstance(late, BreakOffGet)
    assert late.failure.kind is FailureKind.TIMED_OUT
    assert "page 1 took more than 10 seconds" in late.failure.detail
    assert watched.scheduler.next_deadline() is None  # It is the driver's turn.
    watched.feed(GetFailed(late.get, late.failure), 19.5)
    (again,) = gets(watched.feed(Tick(), 21.0))
    assert (again.page_start, again.page_stop) == (1, 3)


def test_a_call_that_trickles_is_broken_off_and_made_again() -> None:
    watched = Watched.make(page_seconds=10.0, backoff=1.0)
    assert watched.feed(CallWanted(7), 1.0) == (StartCall(7, 1),)
    assert watched.feed(CallMoved(7), 9.0) == ()
    assert watched.scheduler.next_deadline() == 19.0
    (late,) = watched.feed(Tick(), 19.0)
    assert isinstance(late, BreakOffCall)
    assert late.failure.kind is FailureKind.TIMED_OUT
    assert "did not move for 10 seconds" in late.failure.detail
    assert watched.feed(CallMoved(7), 19.2) == ()  # The driver has not come to it yet.
    assert watched.scheduler.next_deadline() is None
    watched.feed(CallFailed(7, late.failure), 19.5)
    assert watched.feed(Tick(), 21.0) == (StartCall(7, 2),)


def test_a_get_that_moves_may_take_as_long_as_it_likes() -> None:
    watched = Watched.make(page_seconds=10.0)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(9), tuple(range(9))), 1.0))
    for page_id in range(9):
        watched.feed(PageArrived(get.get, page_id, page_id), 10.0 + 9 * page_id)
    assert watched.feed(GetEnded(get.get), 100.0) == ()


# --- checksums ------------------------------------------------------------------------------


def test_a_page_that_was_wrong_once_is_asked_for_once_more_and_its_neighbours_are_not() -> None:
    watched = Watched.make()
    source = source_of(4)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0, 1, 2, 3)), 1.0))
    bring(watched, get, [0])
    assert watched.feed(PageArrived(get.get, 1, 99)) == (DiscardPage(get.get, 1),)
    bring(watched, get, [2, 3])
    (again,) = gets(watched.feed(GetEnded(get.get)))
    assert (again.page_start, again.page_stop) == (1, 2)
    assert watched.feed(PageArrived(again.get, 1, 1)) == (DeliverPage(again.get, source, 1, (1,)),)
    assert watched.scheduler.statistics().pages_refused == 1
    assert watched.scheduler.statistics().gets_retried == 1


@pytest.mark.parametrize(
    ("etag", "size", "overwritten"),
    [('"good"', 20, False), ('"other"', 20, True), ('"good"', 21, True), (None, 20, False), (None, 5, True)],
)
def test_a_page_that_is_wrong_twice_fails_with_everything_that_is_known(
    etag: str | None, size: int, overwritten: bool
) -> None:
    watched = Watched.make()
    source = source_of(2)
    (get,) = gets(watched.feed(PagesWanted(1, source, (0, 1)), 1.0))
    watched.feed(PageArrived(get.get, 0, 0))
    watched.feed(PageArrived(get.get, 1, 7))
    (again,) = gets(watched.feed(GetEnded(get.get)))
    watched.feed(GetOpened(again.get, etag, size))
    discarded, failed = watched.feed(PageArrived(again.get, 1, 8))
    assert discarded == DiscardPage(again.get, 1)
    assert isinstance(failed, FailPage)
    assert (failed.source, failed.page_id, failed.reads) == (source, 1, (1,))
    assert failed.failure.kind is FailureKind.BAD_CHECKSUM
    assert failed.failure.facts == {
        "ns": NS,
        "path": "a",
        "version": 3,
        "page_id": 1,
        "attempts": 2,
        "expected": 1,
        "found": 8,
        "overwritten": overwritten,
    }
    for word in ("page 1", "'a'", "version 3", "0x00000001", "0x00000008", "twice"):
        assert word in failed.failure.detail
    assert ("overwritten" in failed.failure.detail) is overwritten
    watched.feed(GetEnded(again.get))
    assert watched.is_idle
    assert watched.scheduler.statistics().gets_started == 2


def test_wrong_pages_that_lie_apart_are_asked_for_apart_without_what_lies_between() -> None:
    watched = Watched.make()
    (get,) = gets(watched.feed(PagesWanted(1, source_of(5), tuple(range(5))), 1.0))
    for page_id, wrong in enumerate((True, False, True, True, False)):
        bring(watched, get, [page_id], wrong)
    assert runs(watched.feed(GetEnded(get.get))) == [(0, 1), (2, 4)]


def test_a_get_that_fails_behind_a_wrong_page_asks_for_both_parts() -> None:
    watched = Watched.make(backoff=0.0)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(4), tuple(range(4))), 1.0))
    bring(watched, get, [0], wrong=True)
    bring(watched, get, [1])
    assert sorted(runs(watched.feed(GetFailed(get.get, failure())))) == [(0, 1), (2, 4)]


@pytest.mark.parametrize("first_wrong_at", [1, 2, 3])
def test_all_requests_for_a_page_are_the_attempts_and_one_more_for_its_checksum(first_wrong_at: int) -> None:
    watched = Watched.make(attempts=3, backoff=0.0)
    source = source_of(1)
    started = gets(watched.feed(PagesWanted(1, source, (0,)), 1.0))
    for request in itertools.count(1):
        (get,) = started
        if request == first_wrong_at:
            bring(watched, get, [0], wrong=True)
            started = gets(watched.feed(GetEnded(get.get)))
            continue
        actions = watched.feed(GetFailed(get.get, failure()))
        started = gets(actions)
        if not started:
            assert request == 4
            (failed,) = actions
            assert isinstance(failed, FailPage)
            return


def test_a_page_that_is_wrong_twice_fails_nobody_who_has_left() -> None:
    watched = Watched.make()
    (get,) = gets(watched.feed(PagesWanted(1, source_of(2), (0, 1)), 1.0))
    bring(watched, get, [0, 1], wrong=True)
    (again,) = gets(watched.feed(GetEnded(get.get)))
    watched.feed(ReadLeft(1))
    for page_id in (0, 1):
        assert watched.feed(PageArrived(again.get, page_id, 99)) == (DiscardPage(again.get, page_id),)
    assert watched.feed(GetEnded(again.get)) == ()
    assert watched.is_idle


def test_a_wrong_page_that_nobody_waits_for_is_not_asked_for_again() -> None:
    watched = Watched.make()
    (get,) = gets(watched.feed(PagesWanted(1, source_of(2), (0, 1)), 1.0))
    bring(watched, get, [0], wrong=True)
    watched.feed(ReadLeft(1))
    bring(watched, get, [1])
    watched.feed(GetEnded(get.get))
    assert watched.is_idle
    assert watched.room_used == PAGE
    assert not watched.scheduler.is_wanted(page_key(source_of(2).key, 0))


# --- calls ----------------------------------------------------------------------------------


def test_calls_go_before_gets_and_share_budget_and_slots() -> None:
    watched = Watched.make(rate=1, burst=1, inflight=1)
    watched.feed(PagesWanted(1, source_of(1), (0,)), 0.0)
    watched.feed(CallWanted(5))
    assert watched.feed(Tick(), 1.0) == (StartCall(5, 1),)
    assert watched.feed(CallEnded(5), 1.5) == ()
    assert runs(watched.feed(Tick(), 2.0)) == [(0, 1)]
    assert watched.scheduler.statistics().calls_started == 1


def test_calls_go_before_retries() -> None:
    watched = Watched.make(inflight=1, backoff=0.0)
    (get,) = gets(watched.feed(PagesWanted(1, source_of(1), (0,)), 1.0))
    watched.feed(CallWanted(5))
    watched.feed(CallWanted(6))
    assert watched.feed(GetFailed(get.get, failure())) == (StartCall(5, 1),)
    assert watched.feed(CallEnded(5)) == (StartCall(6, 1),)
    assert runs(watched.feed(CallEnded(6))) == [(0, 1)]


def test_calls_are_retried_like_gets() -> None:
    watched = Watched.make(attempts=2, backoff=0.0)
    assert watched.feed(CallWanted(1), 1.0) == (StartCall(1, 1),)
    assert watched.feed(CallFailed(1, failure())) == (StartCall(1, 2),)
    told = watched.feed(CallFailed(1, failure()))
    final = failure(detail="so it went, after 2 requests")
    assert told == (FailCall(1, evolve(final, facts={"attempts": 2})),)
    assert watched.feed(CallWanted(2)) == (StartCall(2, 1),)
    assert watched.feed(CallFailed(2, failure(FailureKind.DENIED))) == (
        FailCall(2, evolve(failure(FailureKind.DENIED), facts={"attempts": 1})),
    )


def test_a_call_that_nobody_wants_is_not_started_nor_retried_nor_told() -> None:
    watched = Watched.make(inflight=1, backoff=1.0)
    assert watched.feed(CallWanted(1), 1.0) == (StartCall(1, 1),)
    watched.feed(CallWanted(2))
    watched.feed(CallLeft(2))
    watched.feed(CallLeft(1))
    watched.feed(CallLeft(99))
    assert watched.feed(CallFailed(1, failure())) == ()
    assert watched.is_idle
    assert watched.feed(CallWanted(3)) == (StartCall(3, 1),)
    watched.feed(CallFailed(3, failure()))
    watched.feed(CallLeft(3))
    assert watched.is_idle
    assert watched.scheduler.next_deadline() is None


def test_what_a_read_asks_for_ahead_leaves_room_for_others() -> None:
    limits = FetchLimits(inflight_gets_max=1, room_bytes_max=100, coalesce_bytes=10, page_seconds_max=1.0)
    assert limits.ahead_bytes == limits.reuse_bytes == 20
    assert evolve(limits, room_bytes_max=40).ahead_bytes == 10


def test_a_file_of_which_a_page_has_no_room_is_refused() -> None:
    limits = FetchLimits(inflight_gets_max=1, room_bytes_max=9, coalesce_bytes=10, page_seconds_max=1.0)
    with pytest.raises(CeilingExceeded, match="'a' has pages of 10 bytes"):
        limits.check(source_of(2).file)
    evolve(limits, room_bytes_max=10).check(source_of(2).file)
