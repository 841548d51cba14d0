"""Pages kept at hand against a naive count: what comes again is kept, under its bound, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.manifest import Manifest
from seekfs_core.plan import Item, ReadPlan, plan_read
from seekfs_core.reuse import AllLetGo, KeepPage, LetGoOfPage, NotKept, Page, Reuse, SliceRead
from tests.core.model_files import blank_file, datasets, items_of, manifest_of

PAGE = 10


def plan_of(*items: Item) -> ReadPlan:
    return plan_read(manifest_of(blank_file("a", 200, PAGE)), items, clip=False)


def read(reuse: Reuse, page_id: int) -> tuple[KeepPage | LetGoOfPage, ...]:
    return reuse.feed(SliceRead(("a", page_id), PAGE), 0.0)


def test_a_read_that_comes_back_to_nothing_keeps_nothing() -> None:
    assert Reuse(plan_of(("a", 0, 200)), 100).is_pointless
    assert Reuse(plan_of(("a", 0, 10), ("a", 10, 10)), 100).is_pointless
    assert not Reuse(plan_of(("a", 0, 5), ("a", 10, 10), ("a", 5, 5)), 100).is_pointless


def test_a_page_is_kept_until_its_last_use() -> None:
    reuse = Reuse(plan_of(("a", 0, 5), ("a", 10, 5), ("a", 0, 5), ("a", 20, 5), ("a", 0, 5)), 100)
    assert read(reuse, 0) == (KeepPage(("a", 0)),)
    assert read(reuse, 1) == ()
    assert read(reuse, 0) == (KeepPage(("a", 0)),)
    assert read(reuse, 2) == ()
    assert read(reuse, 0) == (LetGoOfPage(("a", 0)),)


def test_where_it_is_too_much_the_one_not_used_for_longest_goes() -> None:
    reuse = Reuse(plan_of(*(("a", page * PAGE, 1) for page in (0, 1, 0, 2, 0, 1, 2))), 2 * PAGE)
    assert read(reuse, 0) == (KeepPage(("a", 0)),)
    assert read(reuse, 1) == (KeepPage(("a", 1)),)
    assert read(reuse, 0) == (KeepPage(("a", 0)),)
    assert read(reuse, 2) == (KeepPage(("a", 2)), LetGoOfPage(("a", 1)))
    assert read(reuse, 0) == (LetGoOfPage(("a", 0)),)
    assert read(reuse, 1) == ()  # Its last use, and it is not held.
    assert read(reuse, 2) == (LetGoOfPage(("a", 2)),)


def test_what_was_let_go_of_is_not_let_go_of_again() -> None:
    reuse = Reuse(plan_of(("a", 0, 1), ("a", 10, 1), ("a", 0, 1)), 100)
    assert read(reuse, 0) == (KeepPage(("a", 0)),)
    assert reuse.feed(AllLetGo(), 0.0) == ()
    assert read(reuse, 1) == ()
    assert read(reuse, 0) == ()


def test_what_could_not_be_kept_takes_no_room_of_others() -> None:
    reuse = Reuse(plan_of(*(("a", page * PAGE, 1) for page in (0, 1, 2, 0, 1, 2))), 2 * PAGE)
    assert read(reuse, 0) == (KeepPage(("a", 0)),)
    assert reuse.feed(NotKept(("a", 0)), 0.0) == ()
    assert read(reuse, 1) == (KeepPage(("a", 1)),)
    assert read(reuse, 2) == (KeepPage(("a", 2)),)
    assert read(reuse, 0) == ()  # Its last use, and it is not held.


def test_after_everything_was_let_go_of_there_is_room_for_as_much_again() -> None:
    reuse = Reuse(plan_of(*(("a", page * PAGE, 1) for page in (0, 1, 2, 3, 0, 1, 2, 3))), 2 * PAGE)
    read(reuse, 0)
    read(reuse, 1)
    reuse.feed(AllLetGo(), 0.0)
    assert read(reuse, 2) == (KeepPage(("a", 2)),)
    assert read(reuse, 3) == (KeepPage(("a", 3)),)


@given(st.data(), st.integers(0, 200_000))
def test_what_is_kept_fits_and_is_what_later_slices_need(data: st.DataObject, bytes_max: int) -> None:
    manifest, contents = data.draw(datasets())
    assert isinstance(manifest, Manifest)
    plan = plan_read(manifest, data.draw(items_of(contents)), clip=False)
    touched: list[tuple[Page, int]] = []
    for _, file, page_id, _, _ in plan.slices():
        start, stop = file.page_extent(page_id)
        touched.append(((file.path, page_id), stop - start))
    reuse = Reuse(plan, bytes_max)
    held: dict[Page, int] = {}
    for at, (page, length) in enumerate(touched):
        if data.draw(st.integers(0, 9)) == 0:
            reuse.feed(AllLetGo(), 0.0)
            held.clear()
        for action in reuse.feed(SliceRead(page, length), 0.0):
            if isinstance(action, KeepPage):
                held[action.page] = length
            else:
                del held[action.page]
        later = {page for page, _ in touched[at + 1 :]}
        assert held.keys() <= later
        assert sum(held.values()) <= bytes_max
        if page in later and length <= bytes_max:
            assert page in held
    assert not held
