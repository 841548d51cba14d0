"""What a read tells of itself, and which reads are remembered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import FailureKind, StoreUnavailable
from seekfs_core.explain import (
    FAILED_MAX,
    KEPT_SECONDS,
    SLOWEST_MAX,
    ReadNotes,
    SlowReads,
    WaitCause,
    cause_of_failure,
    causes_of,
    note_of,
)
from seekfs_core.fetch_messages import GetReason, StartGet
from tests.core.strategies import long_lists
from tests.core.test_fetch import source_of

SOURCE = source_of(9)


def a_get(number: int = 5, *, read: int = 1, wanted_at: float = 10.0, first_at: float = 12.0) -> StartGet:
    return StartGet(number, SOURCE, 2, 4, 1, GetReason.NEEDED, read, wanted_at, first_at)


def notes(began_at: float = 10.0, label: str = "", noted_max: int = 9) -> ReadNotes:
    return ReadNotes("dev", 3, began_at, label, noted_max)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100), st.booleans())
def test_all_of_a_wait_has_a_cause_and_none_is_counted_twice(
    since: float, seconds: float, first_at: float, is_own: bool
) -> None:
    note = note_of(a_get(first_at=first_at), 1 if is_own else 2)
    found = causes_of(note, since, since + seconds)
    assert all(each >= 0 for each in found.values())
    assert sum(found.values()) == pytest.approx(seconds)
    if not is_own:
        assert set(found) == {WaitCause.SINGLE_FLIGHT}
    elif first_at <= since:
        assert found[WaitCause.STORE] == pytest.approx(seconds)
    elif first_at >= since + seconds:
        assert found[WaitCause.BUDGET] == pytest.approx(seconds)


@pytest.mark.parametrize("kind", FailureKind)
def test_who_was_refused_without_a_request_waited_for_its_turn(kind: FailureKind) -> None:
    unasked = (FailureKind.BREAKER_OPEN, FailureKind.OVER_BUDGET)
    assert cause_of_failure(kind) is (WaitCause.BUDGET if kind in unasked else WaitCause.STORE)


def test_an_explanation_says_where_pages_were_which_gets_brought_them_and_what_was_waited_for() -> None:
    told = notes(label="0123")
    told.page("a", 2, "store")
    told.page("a", 7, "l1")
    note = told.came(a_get(), 1)
    assert told.came(a_get(), 1) is note
    told.waited_for(note, 11.0, 15.0)
    told.waited(WaitCause.DISK, 0.5)
    told.failed(StoreUnavailable("down", path="a"))
    told.ended(20.0, 123)
    explanation = told.explanation(99.0)
    assert json.loads(json.dumps(explanation)) == {
        "request_id": "0123",
        "ns": "dev",
        "version": 3,
        "bytes": 123,
        "seconds": 10.0,
        "waited": {
            "manifest": 0.0,
            "budget": 1.0,
            "store": 3.0,
            "single_flight": 0.0,
            "room": 0.0,
            "disk": 0.5,
        },
        "pages": [
            {"path": "a", "page_id": 2, "tier": "store"},
            {"path": "a", "page_id": 7, "tier": "l1"},
        ],
        "pages_left_out": 0,
        "gets": [
            {
                "get": 5,
                "key": SOURCE.file.storage_key,
                "start": 20,
                "stop": 40,
                "attempt": 1,
                "reason": "a read needs it",
                "hedge_of": None,
                "asked_by_this_read": True,
                "wanted_at": 0.0,
                "started_at": 2.0,
            }
        ],
        "gets_left_out": 0,
        "failed": [{"path": "a", "status": 503, "problem": "store-unavailable", "detail": "down"}],
        "failed_left_out": 0,
    }
    assert told.seconds_waited == 4.5


def test_what_is_beyond_the_bound_is_counted() -> None:
    told = notes(noted_max=2)
    for number in range(5):
        told.page("a", number, "l1")
        told.came(a_get(number), 1)
        told.failed(StoreUnavailable(str(number)))
    explanation = told.explanation(11.0)
    assert [each["page_id"] for each in explanation["pages"]] == [0, 1]
    assert [each["get"] for each in explanation["gets"]] == [0, 1]
    assert [each["detail"] for each in explanation["failed"]] == ["0", "1"]
    left_out = ("pages_left_out", "gets_left_out", "failed_left_out")
    assert [explanation[name] for name in left_out] == [3, 3, 3]


# --- which are remembered -------------------------------------------------------------------


def ended(slow: SlowReads, seconds: float, now: float = 20.0, *, fails: bool = False) -> ReadNotes:
    told = notes(now, str(seconds))
    if seconds:
        told.waited(WaitCause.STORE, seconds)
    if fails:
        told.failed(StoreUnavailable("down"))
    assert told.is_remembered == bool(seconds or fails)
    slow.ended(told, now)
    return told


@given(long_lists(st.integers(0, 50), 100))
def test_the_ones_that_waited_longest_are_kept_longest_first(waits: list[int]) -> None:
    slow = SlowReads()
    for seconds in waits:
        ended(slow, seconds)
    expected = sorted((seconds for seconds in waits if seconds), reverse=True)[:SLOWEST_MAX]
    assert [each.seconds_waited for each in slow.slowest(20.0)] == expected
    assert slow.failed() == []


def test_the_last_ones_that_failed_are_kept_latest_first() -> None:
    slow = SlowReads()
    every = [ended(slow, 0, fails=True) for _ in range(FAILED_MAX + 5)]
    assert slow.failed() == list(reversed(every[5:]))
    assert slow.slowest(20.0) == []


def test_one_that_was_slow_long_ago_makes_room_for_one_that_is_slow_now() -> None:
    slow = SlowReads()
    for _ in range(SLOWEST_MAX):
        ended(slow, 100.0)
    now = 21.0 + KEPT_SECONDS
    kept = ended(slow, 1.0, now)
    assert slow.slowest(now) == [kept]
    for _ in range(SLOWEST_MAX - 1):
        ended(slow, 5.0, now)
    longest = ended(slow, 7.0, now)
    assert slow.slowest(now)[0] is longest
    assert kept not in slow.slowest(now)
    assert slow.slowest(now + KEPT_SECONDS) == []


def test_one_that_waited_no_longer_than_the_others_of_now_is_not_kept() -> None:
    slow = SlowReads()
    every = [ended(slow, 5.0) for _ in range(SLOWEST_MAX)]
    ended(slow, 5.0)
    assert slow.slowest(20.0) == every
