"""seekfs_core.transfer_layout: what is held at once fits into the memory, whatever is sent or read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.sending import MIB, PART_BYTES, PART_BYTES_MIN, is_sent_whole, part_size_bytes
from seekfs_core.transfer_layout import (
    AHEAD_MAX,
    HASHERS_MAX,
    LANES_MAX,
    ScanLayout,
    UploadLayout,
    put_layout_of,
    scan_layout_of,
    upload_layout_of,
)

GIB = 1024 * MIB
TIB = 1024 * GIB

MEMORY = st.integers(64 * 1024, 64 * GIB) | st.integers(64 * 1024, 64 * MIB)
SIZES = st.lists(st.integers(0, 5 * TIB) | st.integers(0, 100 * MIB), min_size=1, max_size=5)


def longest_buffer(layout: UploadLayout, sizes: list[int]) -> int:
    return max(
        size if is_sent_whole(size, layout.part_bytes) else part_size_bytes(size, layout.part_bytes)
        for size in sizes
    )


@given(MEMORY, SIZES)
def test_what_is_sent_at_once_fits_unless_it_is_one_part_that_s3_wants_as_long(
    memory_bytes: int, sizes: list[int]
) -> None:
    layout = upload_layout_of(memory_bytes, sizes)
    longest = longest_buffer(layout, sizes)
    assert layout.buffers * longest <= memory_bytes or layout.buffers == 1
    assert PART_BYTES_MIN <= layout.part_bytes <= PART_BYTES
    assert layout.part_bytes % MIB == 0
    assert 1 <= layout.lanes <= LANES_MAX
    assert layout.lanes <= layout.buffers
    if longest > memory_bytes:
        assert longest <= PART_BYTES_MIN or longest > part_size_bytes(0, layout.part_bytes)


@given(MEMORY, st.integers(1, GIB), st.integers(0, 100))
def test_what_is_read_at_once_fits(memory_bytes: int, window_bytes_max: int, objects_count: int) -> None:
    layout = scan_layout_of(memory_bytes, window_bytes_max, objects_count)
    assert layout.hashers * layout.ahead * layout.window_bytes <= memory_bytes
    assert 1 <= layout.window_bytes <= window_bytes_max
    assert 1 <= layout.hashers <= max(1, min(HASHERS_MAX, objects_count))
    assert 1 <= layout.ahead <= AHEAD_MAX


@given(MEMORY, st.integers(1, GIB), SIZES)
def test_the_halves_of_put_fit_together(memory_bytes: int, window_bytes_max: int, sizes: list[int]) -> None:
    layout = put_layout_of(memory_bytes, window_bytes_max, sizes)
    scan_bytes = layout.scan.hashers * layout.scan.ahead * layout.scan.window_bytes
    upload_bytes = layout.upload.buffers * longest_buffer(layout.upload, sizes)
    assert upload_bytes + scan_bytes <= memory_bytes or layout.upload.buffers == 1
    assert scan_bytes <= memory_bytes - memory_bytes // 2


@pytest.mark.parametrize(
    ("memory_mib", "part_mib", "buffers", "lanes"),
    [
        (1024, 32, 9, 8),
        (256, 32, 8, 7),
        (128, 32, 4, 3),
        (64, 16, 4, 3),
        (20, 5, 4, 3),
        (10, 5, 2, 1),
        (1, 5, 1, 1),
    ],
)
def test_parts_become_shorter_before_they_become_fewer(
    memory_mib: int, part_mib: int, buffers: int, lanes: int
) -> None:
    assert upload_layout_of(memory_mib * MIB, [GIB]) == UploadLayout(
        part_bytes=part_mib * MIB, buffers=buffers, lanes=lanes
    )


def test_lanes_are_counted_by_the_longest_part_that_will_be() -> None:
    assert upload_layout_of(256 * MIB, [312 * GIB]).lanes == 7
    assert upload_layout_of(256 * MIB, [1, 625 * GIB, 2]).lanes == 256 // 64 - 1
    assert upload_layout_of(256 * MIB, [5 * TIB]) == UploadLayout(part_bytes=PART_BYTES, buffers=1, lanes=1)


def test_small_files_go_side_by_side_however_little_memory_there_is() -> None:
    assert upload_layout_of(MIB, [1000, 0]).lanes == LANES_MAX
    assert upload_layout_of(MIB, [0]).lanes == LANES_MAX


@pytest.mark.parametrize(
    ("memory_mib", "window_mib", "hashers", "ahead"),
    [
        (1024, 32, 8, 4),
        (256, 32, 4, 2),
        (128, 32, 2, 2),
        (32, 8, 2, 2),
        (4, 1, 2, 2),
        (2, 1, 1, 2),
        (1, 1, 1, 1),
    ],
)
def test_gets_become_shorter_before_they_become_fewer(
    memory_mib: int, window_mib: int, hashers: int, ahead: int
) -> None:
    assert scan_layout_of(memory_mib * MIB, 32 * MIB, 100) == ScanLayout(
        window_bytes=window_mib * MIB, hashers=hashers, ahead=ahead
    )


def test_one_object_has_all_the_gets() -> None:
    assert scan_layout_of(256 * MIB, 32 * MIB, 1) == ScanLayout(window_bytes=32 * MIB, hashers=1, ahead=8)


def test_only_files_that_are_sent_whole_go_side_by_side() -> None:
    layout = upload_layout_of(256 * MIB, [GIB])
    assert [layout.is_beside_others(size) for size in (0, PART_BYTES, PART_BYTES + 1, GIB)] == [
        True,
        True,
        False,
        False,
    ]
