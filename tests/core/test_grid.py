"""The grid against brute force: every missing page in exactly one GET, none crosses a window."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from seekfs_core import grid
from seekfs_core.manifest import FileEntry
from tests.core.model_files import KIB, blank_file, geometries

MIB = 1024 * KIB

coalesces = st.one_of(st.integers(0, 200), st.sampled_from([64 * KIB, 100 * KIB, 256 * KIB, 1 << 40]))


def window_naively(file: FileEntry, page_id: int, coalesce_bytes: int) -> int:
    """The window whose bytes the page's first byte is in, found by walking."""
    size = max(file.page_size_bytes, coalesce_bytes)
    first_byte = page_id * file.page_size_bytes
    window = 0
    while not window * size <= first_byte < (window + 1) * size:
        window += 1
    return window


def gets_naively(
    file: FileEntry, missing: set[int], coalesce_bytes: int, get_bytes_max: int
) -> list[list[int]]:
    """Page after page: the last GET takes it if that keeps it one run, in one window, within the bytes."""
    gets: list[list[int]] = []
    for page_id in range(file.page_count):
        if page_id not in missing:
            continue
        grown = [*gets[-1], page_id] if gets else []
        start, stop = file.page_extent(grown[0])[0] if grown else 0, file.page_extent(page_id)[1]
        if (
            grown
            and grown[-2] == page_id - 1
            and len({window_naively(file, page, coalesce_bytes) for page in grown}) == 1
            and stop - start <= get_bytes_max
        ):
            gets[-1] = grown
        else:
            gets.append([page_id])
    return gets


@given(geometries, coalesces)
def test_windows_hold_the_pages_that_start_in_them(geometry: tuple[int, int], coalesce_bytes: int) -> None:
    file = blank_file("a", *geometry)
    by_window: dict[int, list[int]] = {}
    for page_id in range(file.page_count):
        window = window_naively(file, page_id, coalesce_bytes)
        assert grid.window_of(file, page_id, coalesce_bytes) == window
        by_window.setdefault(window, []).append(page_id)
    for window, pages in by_window.items():
        assert list(grid.window_pages(file, window, coalesce_bytes)) == pages
    if file.page_count:
        assert list(by_window) == list(range(len(by_window)))  # None is empty before the last.
        assert not grid.window_pages(file, len(by_window), coalesce_bytes)


@given(geometries, coalesces, st.integers(0, 1000), st.data())
@example((300, 10), 45, 1000, None)
def test_gets_cover_exactly_the_missing_pages(
    geometry: tuple[int, int], coalesce_bytes: int, get_bytes_max: int, data: st.DataObject | None
) -> None:
    file = blank_file("a", *geometry)
    every = list(range(file.page_count))
    missing = set(data.draw(st.sets(st.sampled_from(every))) if data and every else every)
    gets = list(grid.cut_gets(file, sorted(missing), coalesce_bytes, get_bytes_max))
    assert [list(range(*get)) for get in gets] == gets_naively(file, missing, coalesce_bytes, get_bytes_max)
    # The same once more as the promises that they are.
    covered = [page_id for get in gets for page_id in range(*get)]
    assert covered == sorted(missing)
    for start, stop in gets:
        assert window_naively(file, start, coalesce_bytes) == window_naively(file, stop - 1, coalesce_bytes)
        length = file.page_extent(stop - 1)[1] - file.page_extent(start)[0]
        assert stop == start + 1 or length <= get_bytes_max


def test_a_cold_file_costs_one_get_a_window() -> None:
    file = blank_file("a", 256 * MIB, 8 * MIB)
    gets = list(grid.cut_gets(file, range(32), 32 * MIB, 256 * MIB))
    assert gets == [(first, first + 4) for first in range(0, 32, 4)]


def test_pages_that_do_not_divide_the_window_start_in_it_and_may_end_behind_it() -> None:
    file = blank_file("a", 80 * MIB, 5 * MIB)
    gets = list(grid.cut_gets(file, range(16), 32 * MIB, 256 * MIB))
    assert gets == [(0, 7), (7, 13), (13, 16)]


def test_a_page_larger_than_the_window_is_a_window() -> None:
    file = blank_file("a", 10 * MIB, 4 * MIB)
    assert grid.window_size(file, MIB) == 4 * MIB
    assert list(grid.cut_gets(file, range(3), MIB, 256 * MIB)) == [(0, 1), (1, 2), (2, 3)]


def test_a_page_that_is_not_missing_parts_two_gets() -> None:
    file = blank_file("a", 32 * MIB, 8 * MIB)
    assert list(grid.cut_gets(file, [0, 2, 3], 32 * MIB, 256 * MIB)) == [(0, 1), (2, 4)]


def test_little_room_makes_smaller_gets_and_never_none() -> None:
    file = blank_file("a", 32 * MIB, 8 * MIB)
    assert list(grid.cut_gets(file, range(4), 32 * MIB, 17 * MIB)) == [(0, 2), (2, 4)]
    assert list(grid.cut_gets(file, range(4), 32 * MIB, MIB)) == [(0, 1), (1, 2), (2, 3), (3, 4)]
