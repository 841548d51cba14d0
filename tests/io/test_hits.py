"""Hits on their way to the policies: each arrives once, in its thread's order, and no reader waits for it."""

from __future__ import annotations

import threading

import pytest

from seekfs_core.pages import PageKey
from seekfs_core.retention import HITS_NOTED_MAX, HITS_SEEN_AT_ONCE
from seekfs_io.pages import hits as hits_module
from seekfs_io.pages.hits import Hits, HitsTimer

WAIT_SECONDS = 30.0


def key(thread: int, number: int) -> PageKey:
    return PageKey(bytes(28) + thread.to_bytes(4, "big") + number.to_bytes(4, "big"))


def on_a_thread(hits: Hits, keys: list[PageKey]) -> None:
    def note() -> None:
        for each in keys:
            hits.note(each)

    thread = threading.Thread(target=note)
    thread.start()
    thread.join()


def test_hits_are_drained_once_in_order_and_not_too_many_at_once() -> None:
    hits = Hits()
    keys = [key(1, number) for number in range(2 * HITS_SEEN_AT_ONCE + 3)]
    for each in keys:
        hits.note(each)
    drained = list(hits.drain())
    assert [len(some) for some in drained] == [HITS_SEEN_AT_ONCE, HITS_SEEN_AT_ONCE, 3]
    assert [each for some in drained for each in some] == keys
    assert list(hits.drain()) == []


def test_of_too_many_the_latest_are_kept() -> None:
    hits = Hits()
    for number in range(HITS_NOTED_MAX + 5):
        hits.note(key(1, number))
    drained = [each for some in hits.drain() for each in some]
    assert drained == [key(1, number) for number in range(5, HITS_NOTED_MAX + 5)]


def test_threads_that_are_over_leave_their_hits_and_nothing_else() -> None:
    hits = Hits()
    for thread in range(3):
        on_a_thread(hits, [key(thread, 1), key(thread, 2)])
    drained = [each for some in hits.drain() for each in some]
    assert drained == [key(thread, number) for thread in range(3) for number in (1, 2)]
    assert [thread for thread, _ in hits._rings] == [threading.current_thread()]  # It made them.


def test_no_hit_is_lost_or_seen_twice_while_many_note_and_two_drain() -> None:
    hits, count, threads = Hits(), 4000, 4
    seen: list[PageKey] = []
    over = threading.Event()

    def drain() -> None:
        while not over.is_set():
            for some in hits.drain():
                seen.extend(some)

    drainers = [threading.Thread(target=drain) for _ in range(2)]

    def note(thread: int) -> None:
        for number in range(count):
            hits.note(key(thread, number))

    readers = [threading.Thread(target=note, args=(thread,)) for thread in range(threads)]
    for each in [*drainers, *readers]:
        each.start()
    for each in readers:
        each.join()
    over.set()
    for each in drainers:
        each.join()
    seen.extend(each for some in hits.drain() for each in some)
    assert sorted(seen) == sorted(key(thread, number) for thread in range(threads) for number in range(count))


def test_the_timer_tells_every_tier_again_and_again_whatever_one_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hits_module, "HITS_SECONDS_MAX", 0.001)
    told = threading.Semaphore(0)

    def fails() -> None:
        raise ValueError("a bug")

    timer = HitsTimer([fails, told.release])
    for _ in range(3):
        assert told.acquire(timeout=WAIT_SECONDS)
    timer.close()
    assert not timer._thread.is_alive()
