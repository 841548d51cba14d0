"""Plans against slicing byte strings: any geometry, any order of items, any window."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core import plan as plan_module
from seekfs_core.errors import InvalidName, NoSuchFile, NoSuchNamespace, RangeNotSatisfiable
from seekfs_core.plan import Item, ReadPlan, plan_read, refusal_of
from tests.core.model_files import (
    KIB,
    blank_file,
    content_of,
    cut,
    datasets,
    file_of,
    items_of,
    manifest_of,
)
from tests.core.strategies import long_lists


def read_naively(
    plan: ReadPlan, contents: dict[str, bytes], start: int = 0, stop: int | None = None
) -> bytes:
    """What a reader gets who has every page: the slices, one after the other."""
    out = bytearray()
    for _, file, page_id, begin, end in plan.slices(start, stop):
        page = cut(contents[file.path], file.page_size_bytes)[page_id]
        assert 0 <= begin < end <= len(page)
        out += page[begin:end]
    return bytes(out)


def touched_pages(plan: ReadPlan) -> list[tuple[str, int, int]]:
    """Path, page size and page of every byte that the items name, byte by byte but for repeats."""
    touched: list[tuple[str, int, int]] = []
    for file, start, stop in plan.extents:
        if file is not None:
            pages = dict.fromkeys(at // file.page_size_bytes for at in range(start, stop))
            touched.extend((file.path, file.page_size_bytes, page) for page in pages)
    return touched


# --- bytes ----------------------------------------------------------------------------------


@given(st.data())
def test_slices_concatenate_to_exactly_the_bytes_asked_for_in_request_order(data: st.DataObject) -> None:
    manifest, contents = data.draw(datasets())
    items = data.draw(items_of(contents))
    plan = plan_read(manifest, items, clip=False)
    wanted = [contents[path][off : off + length] for path, off, length in items]
    assert read_naively(plan, contents) == b"".join(wanted)
    assert plan.total_bytes == sum(map(len, wanted))
    assert plan.errors == {}
    for index, expected in enumerate(wanted):
        assert read_naively(plan, contents, index, index + 1) == expected
        assert all(at == index for at, *_ in plan.slices(index, index + 1))


@given(st.data())
def test_clipped_ranges_are_cut_at_the_end_of_their_file_and_bad_items_spoil_nothing(
    data: st.DataObject,
) -> None:
    manifest, contents = data.draw(datasets())
    paths = st.sampled_from([*sorted(contents), "missing"])
    items: list[Item] = data.draw(
        long_lists(st.tuples(paths, st.integers(0, 500), st.integers(0, 2**63 - 1)), 12)
    )
    plan = plan_read(manifest, items, clip=True)
    assert len(plan.extents) == len(items)
    wanted = []
    for index, (path, off, length) in enumerate(items):
        content = contents.get(path)
        good = content is not None and off <= len(content)
        assert (index in plan.errors) is not good
        wanted.append(content[off : off + length] if content is not None and good else b"")
        assert read_naively(plan, contents, index, index + 1) == wanted[-1]
    assert plan.total_bytes == sum(map(len, wanted))


def test_a_path_in_between_does_not_sort_the_body() -> None:
    contents = {path: content_of(path, 300) for path in ("a", "b")}
    manifest = manifest_of(*(file_of(path, content, 64) for path, content in contents.items()))
    items = [("b", 10, 100), ("a", 0, 5), ("b", 0, 70), ("a", 0, 5), ("b", 299, 1)]
    plan = plan_read(manifest, items, clip=False)
    assert read_naively(plan, contents) == b"".join(contents[p][o : o + n] for p, o, n in items)


def test_no_length_at_the_beginning_touches_no_page() -> None:
    plan = plan_read(manifest_of(blank_file("a", 10, 4)), [("a", 0, 0), ("a", 10, 0)], clip=False)
    assert list(plan.slices()) == []
    assert list(plan.windows(8)) == []
    assert plan.total_bytes == 0


def test_an_empty_file_can_be_read_whole() -> None:
    plan = plan_read(manifest_of(blank_file("a", 0, 4)), [("a", 0, 0)], clip=False)
    assert list(plan.slices()) == []
    assert list(plan_read(plan.manifest, [("a", 0, 10)], clip=True).slices()) == []


def test_planning_a_terabyte_makes_nothing_per_page() -> None:
    file = blank_file("a", 2**20 * 16, 16)
    plan = plan_read(manifest_of(file), [("a", 0, file.size)] * 3, clip=False)
    assert plan.extents == [(file, 0, file.size)] * 3
    assert [*itertools.islice(plan.slices(), 2)] == [(0, file, 0, 0, 16), (0, file, 1, 0, 16)]
    assert next(plan.windows(64)) == (file, 0)


# --- what cannot be answered ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (("nowhere", 0, 0), NoSuchFile),
        (("a", 0, 11), RangeNotSatisfiable),
        (("a", 10, 1), RangeNotSatisfiable),
        (("a", 11, 0), RangeNotSatisfiable),
        (("a", 2**63 - 1, 2**63 - 1), RangeNotSatisfiable),
    ],
)
def test_without_clip_the_first_bad_item_is_named(item: Item, kind: type[Exception]) -> None:
    manifest = manifest_of(blank_file("a", 10, 4))
    with pytest.raises(kind) as caught:
        plan_read(manifest, [("a", 0, 10), item, ("nowhere", 0, 0)], clip=False)
    error = caught.value
    assert isinstance(error, NoSuchFile | RangeNotSatisfiable)
    assert error.context["item"] == 1
    assert "item 1" in error.detail
    assert item[0] in error.detail
    if isinstance(error, RangeNotSatisfiable):
        assert error.context["size"] == 10


@pytest.mark.parametrize(
    "items",
    [
        [("a", 0, 1), ("a//b", 0, 1)],
        [("nowhere", 0, 1), ("../a", 0, 1)],
        [("a", 11, 0), ("", 0, 1), (".", 0, 1)],
    ],
)
def test_a_path_that_cannot_be_one_comes_before_all_else(items: list[Item]) -> None:
    """Wherever it stands; and in a plan that clips, each item has an error of its own."""
    manifest = manifest_of(blank_file("a", 10, 4))
    with pytest.raises(InvalidName) as caught:
        plan_read(manifest, items, clip=False)
    assert (caught.value.context["item"], caught.value.detail[:8]) == (1, "item 1: ")
    errors = plan_read(manifest, items, clip=True).errors
    for index, (path, _, _) in enumerate(items):
        assert isinstance(errors.get(index), InvalidName) is (path not in ("a", "nowhere"))


def test_a_batch_without_a_manifest_is_refused_for_its_names_first() -> None:
    gone = NoSuchNamespace("there is no namespace 'dev'")
    assert refusal_of([("a", 0, 1), ("b", 0, 1)], gone) is gone
    invalid = refusal_of([("a", 0, 1), ("b//", 0, 1), ("c//", 0, 1)], gone)
    assert isinstance(invalid, InvalidName)
    assert invalid.context["item"] == 1


def test_paths_that_the_manifest_has_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(plan_module, "check_path")
    plan = plan_read(manifest_of(blank_file("a", 10, 4)), [("a", 0, 10), ("a", 3, 1)], clip=False)
    assert plan.total_bytes == 11


def test_with_clip_an_offset_past_the_end_is_an_error_even_for_no_bytes() -> None:
    plan = plan_read(manifest_of(blank_file("a", 10, 4)), [("a", 11, 0), ("a", 10, 5)], clip=True)
    assert list(plan.errors) == [0]
    assert plan.errors[0].context["item"] == 0
    assert plan.extents[0] == (None, 0, 0)
    assert plan.extents[1][1:] == (10, 10)


# --- windows --------------------------------------------------------------------------------

coalesce = st.one_of(st.integers(1, 200), st.sampled_from([64 * KIB, 100 * KIB, 256 * KIB]))


@given(st.data(), coalesce)
def test_windows_and_their_pages_are_those_of_the_bytes(data: st.DataObject, coalesce_bytes: int) -> None:
    manifest, contents = data.draw(datasets())
    plan = plan_read(manifest, data.draw(items_of(contents, 4)), clip=False)
    touched = touched_pages(plan)
    windows = [(path, page * size // max(coalesce_bytes, size)) for path, size, page in touched]
    assert [(file.path, window) for file, window in plan.windows(coalesce_bytes)] == [
        key for key, _ in itertools.groupby(windows)
    ]
    for file, window in plan.windows(coalesce_bytes):
        inside = {
            page
            for path, size, page in touched
            if path == file.path and page * size // max(coalesce_bytes, size) == window
        }
        assert plan.pages_in_window(file, window, coalesce_bytes) == tuple(sorted(inside))


def test_of_a_window_only_what_is_touched_is_asked_for() -> None:
    manifest = manifest_of(blank_file("a", 100, 10))
    plan = plan_read(manifest, [("a", 95, 5), ("a", 0, 5), ("a", 21, 20), ("a", 35, 1)], clip=False)
    file = manifest.files["a"]
    windows = [plan.pages_in_window(file, window, 50) for window in range(2)]
    assert windows == [(0, 2, 3, 4), (9,)]
    assert [plan.pages_in_window(file, window, 20) for window in range(5)] == [(0,), (2, 3), (4,), (), (9,)]


@given(st.data())
def test_pages_that_several_slices_touch_are_counted(data: st.DataObject) -> None:
    manifest, contents = data.draw(datasets())
    plan = plan_read(manifest, data.draw(items_of(contents)), clip=False)
    counted: dict[tuple[str, int], int] = {}
    for path, _, page in touched_pages(plan):
        counted[path, page] = counted.get((path, page), 0) + 1
    assert plan.page_uses() == {page: count for page, count in counted.items() if count > 1}
