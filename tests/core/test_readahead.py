"""Lookahead against a naive walk through the plan: what is asked for, when, and how much of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation
from seekfs_core.manifest import FileEntry
from seekfs_core.plan import Item, ReadPlan, plan_read
from seekfs_core.readahead import (
    AHEAD_WINDOWS_MAX,
    AheadLost,
    PageMissed,
    ProbeWindow,
    ReadAhead,
    WindowEntered,
    WindowProbed,
)
from tests.core.model_files import blank_file, datasets, items_of, manifest_of

PAGE = 10


def plan_of(*items: Item, pages: int = 100) -> ReadPlan:
    files = (blank_file(path, pages * PAGE, PAGE) for path in ("a", "b", "c"))
    return plan_read(manifest_of(*files), items, clip=False)


def probed(steps: tuple[ProbeWindow, ...]) -> tuple[str, tuple[int, ...]] | None:
    if not steps:
        return None
    (step,) = steps
    return step.file.path, step.pages


def length_of(step: ProbeWindow) -> int:
    extents = [step.file.page_extent(page_id) for page_id in step.pages]
    return sum(stop - start for start, stop in extents)


def windows_naively(plan: ReadPlan, coalesce_bytes: int) -> list[tuple[str, int]]:
    """The windows that the slices walk through, in order, without repeats in a row."""
    walked: list[tuple[str, int]] = []
    for _, file, page_id, _, _ in plan.slices():
        window = (file.path, page_id * file.page_size_bytes // max(coalesce_bytes, file.page_size_bytes))
        if walked[-1:] != [window]:
            walked.append(window)
    return walked


# --- against the naive walk -----------------------------------------------------------------


@given(st.data(), st.integers(1, 100), st.integers(0, 300), st.integers(0, 3))
def test_every_window_is_asked_for_once_unless_lost_in_order_and_never_more_than_may_be_outstanding(
    data: st.DataObject, coalesce_bytes: int, ahead_bytes: int, cached_of_4: int
) -> None:
    manifest, contents = data.draw(datasets())
    plan = plan_read(manifest, data.draw(items_of(contents)), clip=False)
    ahead = ReadAhead(plan, coalesce_bytes, ahead_bytes)
    walk = windows_naively(plan, coalesce_bytes)
    asked: dict[tuple[str, int], tuple[int, int]] = {}
    """For which place of the walk a window was asked for, and how many bytes of it were missing."""
    at = known_at = 0
    while at < len(walk):
        # Windows may be passed without a word: nobody can know more than the next place that it could be.
        known_at = walk.index(walk[at], known_at)
        steps = ahead.feed(WindowEntered(*walk[at]), 0.0)
        while steps:
            (step,) = steps
            size = max(coalesce_bytes, step.file.page_size_bytes)
            (window,) = {page_id * step.file.page_size_bytes // size for page_id in step.pages}
            key = (step.file.path, window)
            assert key not in asked, "asked for twice"
            place = walk.index(key, known_at)
            if place != known_at:
                # It looks ahead: in the plan's order, and only while little enough is outstanding.
                assert set(walk[known_at:place]) <= asked.keys()
                assert sum(bytes_ for there, bytes_ in asked.values() if there >= known_at) < ahead_bytes
            touched = {page for _, file, page, _, _ in plan.slices() if file == step.file}
            inside = {p for p in touched if p * step.file.page_size_bytes // size == window}
            assert step.pages == tuple(sorted(inside)), "all of the plan's pages there, and no others"
            missing = 0 if data.draw(st.integers(0, 3)) < cached_of_4 else length_of(step)
            asked[key] = place, missing
            steps = ahead.feed(WindowProbed(missing), 0.0)
        assert walk[at] in asked, "the window that the read stands in is always asked for"
        if not data.draw(st.integers(0, 4)):
            assert ahead.feed(AheadLost(), 0.0) == ()
            asked = {key: kept for key, kept in asked.items() if kept[0] <= known_at}
        at += 1 if data.draw(st.integers(0, 5)) else data.draw(st.integers(1, 3))


def test_lookahead_stops_when_enough_is_outstanding_and_goes_on_as_it_is_consumed() -> None:
    plan = plan_of(("a", 0, 60 * PAGE))
    ahead = ReadAhead(plan, 4 * PAGE, 8 * PAGE)
    assert probed(ahead.feed(WindowEntered("a", 0), 0.0)) == ("a", (0, 1, 2, 3))
    assert probed(ahead.feed(WindowProbed(4 * PAGE), 0.0)) == ("a", (4, 5, 6, 7))
    assert ahead.feed(WindowProbed(4 * PAGE), 0.0) == ()
    assert probed(ahead.feed(WindowEntered("a", 1), 0.0)) == ("a", (8, 9, 10, 11))
    assert ahead.feed(WindowProbed(4 * PAGE), 0.0) == ()
    assert ahead.feed(WindowEntered("a", 1), 0.0) == ()


def test_what_was_lost_ahead_is_asked_for_again_when_the_read_comes_there() -> None:
    ahead = ReadAhead(plan_of(("a", 0, 60 * PAGE)), 4 * PAGE, 12 * PAGE)
    ahead.feed(WindowEntered("a", 0), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    assert ahead.feed(WindowProbed(4 * PAGE), 0.0) == ()
    assert ahead.feed(AheadLost(), 0.0) == ()
    assert ahead.feed(AheadLost(), 0.0) == ()
    # Whole windows, in their order: first the one that is entered, then those behind it.
    assert probed(ahead.feed(WindowEntered("a", 1), 0.0)) == ("a", (4, 5, 6, 7))
    assert probed(ahead.feed(WindowProbed(4 * PAGE), 0.0)) == ("a", (8, 9, 10, 11))
    assert probed(ahead.feed(WindowProbed(4 * PAGE), 0.0)) == ("a", (12, 13, 14, 15))
    assert ahead.feed(WindowProbed(4 * PAGE), 0.0) == ()


def test_a_read_that_jumps_over_what_was_lost_does_not_ask_for_it() -> None:
    ahead = ReadAhead(plan_of(("a", 0, 60 * PAGE)), 4 * PAGE, 12 * PAGE)
    ahead.feed(WindowEntered("a", 0), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    ahead.feed(AheadLost(), 0.0)
    assert probed(ahead.feed(WindowEntered("a", 2), 0.0)) == ("a", (8, 9, 10, 11))
    assert probed(ahead.feed(WindowProbed(4 * PAGE), 0.0)) == ("a", (12, 13, 14, 15))
    ahead.feed(AheadLost(), 0.0)
    assert probed(ahead.feed(WindowEntered("a", 7), 0.0)) == ("a", (28, 29, 30, 31))
    assert probed(ahead.feed(WindowProbed(4 * PAGE), 0.0)) == ("a", (32, 33, 34, 35))


def test_a_window_that_was_read_already_is_not_asked_for_again_because_others_were_lost() -> None:
    items = [("a", 0, 4 * PAGE), ("b", 0, 4 * PAGE), ("a", 0, 4 * PAGE), ("c", 0, 4 * PAGE)]
    ahead = ReadAhead(plan_of(*items), 4 * PAGE, 100 * PAGE)
    ahead.feed(WindowEntered("a", 0), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    ahead.feed(AheadLost(), 0.0)
    assert probed(ahead.feed(WindowEntered("b", 0), 0.0)) == ("b", (0, 1, 2, 3))
    assert probed(ahead.feed(WindowProbed(4 * PAGE), 0.0)) == ("c", (0, 1, 2, 3))
    assert ahead.feed(WindowProbed(4 * PAGE), 0.0) == ()


def test_a_file_that_can_never_be_read_is_not_asked_for_ahead() -> None:
    files = (
        blank_file("a", 8 * PAGE, PAGE),
        blank_file("b", 80 * PAGE, 20 * PAGE),
        blank_file("c", 8 * PAGE, PAGE),
    )
    items = [("a", 0, 4 * PAGE), ("b", 0, PAGE), ("c", 0, 4 * PAGE)]
    ahead = ReadAhead(plan_read(manifest_of(*files), items, clip=False), 4 * PAGE, 100 * PAGE, 19 * PAGE)
    ahead.feed(WindowEntered("a", 0), 0.0)
    assert probed(ahead.feed(WindowProbed(4 * PAGE), 0.0)) == ("c", (0, 1, 2, 3))


def test_what_is_cached_ahead_costs_nothing_and_is_looked_through_only_so_far() -> None:
    plan = plan_of(("a", 0, 400 * PAGE), pages=400)
    ahead = ReadAhead(plan, PAGE, 8 * PAGE)
    steps = ahead.feed(WindowEntered("a", 0), 0.0)
    looked = 0
    while steps:
        looked += 1
        steps = ahead.feed(WindowProbed(0), 0.0)
    assert looked == 1 + AHEAD_WINDOWS_MAX


def test_a_read_that_passes_all_that_was_asked_for_ahead_has_it_behind_it() -> None:
    ahead = ReadAhead(plan_of(("a", 0, 60 * PAGE)), 4 * PAGE, 8 * PAGE)
    ahead.feed(WindowEntered("a", 0), 0.0)
    ahead.feed(WindowProbed(4 * PAGE), 0.0)
    assert ahead.feed(WindowProbed(4 * PAGE), 0.0) == ()
    assert probed(ahead.feed(WindowEntered("a", 5), 0.0)) == ("a", (20, 21, 22, 23))
    assert probed(ahead.feed(WindowProbed(4 * PAGE), 0.0)) == ("a", (24, 25, 26, 27))


def test_the_window_of_the_read_is_asked_for_with_no_room_for_lookahead_at_all() -> None:
    ahead = ReadAhead(plan_of(("a", 0, 8 * PAGE)), 4 * PAGE, 0)
    assert probed(ahead.feed(WindowEntered("a", 0), 0.0)) == ("a", (0, 1, 2, 3))
    assert ahead.feed(WindowProbed(4 * PAGE), 0.0) == ()
    assert probed(ahead.feed(WindowEntered("a", 1), 0.0)) == ("a", (4, 5, 6, 7))


def test_a_window_that_the_plan_comes_back_to_is_asked_for_once() -> None:
    plan = plan_of(("a", 0, PAGE), ("b", 0, PAGE), ("a", PAGE, PAGE), ("b", PAGE, PAGE))
    ahead = ReadAhead(plan, 4 * PAGE, 100 * PAGE)
    assert probed(ahead.feed(WindowEntered("a", 0), 0.0)) == ("a", (0, 1))
    assert probed(ahead.feed(WindowProbed(20), 0.0)) == ("b", (0, 1))
    assert ahead.feed(WindowProbed(20), 0.0) == ()
    for path in ("b", "a", "b"):
        assert ahead.feed(WindowEntered(path, 0), 0.0) == ()


# --- pages that are gone again --------------------------------------------------------------


def file_at(plan: ReadPlan, path: str) -> FileEntry:
    return plan.manifest.file(path)


def test_a_page_that_is_gone_again_is_asked_for_with_what_follows_it_in_its_window() -> None:
    plan = plan_of(("a", 0, 7 * PAGE))
    ahead = ReadAhead(plan, 4 * PAGE, 0)
    ahead.feed(WindowEntered("a", 0), 0.0)
    ahead.feed(WindowProbed(0), 0.0)
    assert probed(ahead.feed(PageMissed(file_at(plan, "a"), 2), 0.0)) == ("a", (2, 3))


def test_of_several_ranges_only_the_page_itself_is_asked_for_again() -> None:
    plan = plan_of(("a", 0, 4 * PAGE), ("a", 0, 4 * PAGE))
    ahead = ReadAhead(plan, 4 * PAGE, 0)
    ahead.feed(WindowEntered("a", 0), 0.0)
    ahead.feed(WindowProbed(0), 0.0)
    assert probed(ahead.feed(PageMissed(file_at(plan, "a"), 2), 0.0)) == ("a", (2,))


# --- the caller's mistakes ------------------------------------------------------------------


@pytest.mark.parametrize("window", [("a", 9), ("c", 0), ("a", 0)])
def test_a_window_that_the_plan_does_not_come_to_any_more_is_refused_and_changes_nothing(
    window: tuple[str, int],
) -> None:
    items: tuple[Item, ...] = (("a", 0, 8 * PAGE), ("b", 0, 8 * PAGE))
    runs = []
    for wrong in (None, window):
        ahead = ReadAhead(plan_of(*items), 4 * PAGE, 3 * PAGE)
        ahead.feed(WindowEntered("a", 0), 0.0)
        ahead.feed(WindowProbed(4 * PAGE), 0.0)
        ahead.feed(WindowEntered("a", 1), 0.0)
        ahead.feed(WindowProbed(PAGE), 0.0)
        if wrong is not None:
            with pytest.raises(ContractViolation, match="does not come to"):
                ahead.feed(WindowEntered(*wrong), 1.0)
        run = []
        for entered in (("a", 1), ("b", 0), ("b", 1)):
            steps = ahead.feed(WindowEntered(*entered), 0.5)
            while steps:
                run.append(probed(steps))
                steps = ahead.feed(WindowProbed(length_of(steps[0])), 0.5)
        runs.append(run)
    assert runs[0] == runs[1]
    assert runs[0]


def test_news_of_a_window_that_nobody_looked_at_counts_for_nothing() -> None:
    ahead = ReadAhead(plan_of(("a", 0, 10)), 10, 10)
    (step,) = ahead.feed(WindowProbed(1000), 0.0)
    assert step.pages == (0,)
