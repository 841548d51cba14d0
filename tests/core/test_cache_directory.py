"""seekfs_core.cache_directory: names that are ours, and no others; what becomes of each layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.cache_directory import (
    BOOT_NAME,
    CONTENT_NAMES,
    INDEX_NAME,
    LAYOUT_NAME,
    LOCK_NAME,
    SEGMENTS_NAME,
    SHELF_NAME,
    Fate,
    descriptors_max,
    fate_of,
    foreign_beside_no_layout,
    foreign_name,
    segment_file,
    segment_in,
)


@pytest.mark.parametrize(
    ("is_there", "layout", "fate"),
    [
        (False, None, Fate.MADE),
        (True, None, Fate.REFUSED_UNKNOWN),
        (True, 2, Fate.EMPTIED),
        (True, 3, Fate.USED),
        (True, 4, Fate.REFUSED_NEWER),
    ],
)
def test_what_becomes_of_a_directory_with_this_layout_file(
    is_there: bool, layout: int | None, fate: Fate
) -> None:
    assert fate_of(is_there=is_there, layout=layout, own_layout=3) is fate


@given(st.integers(0, (1 << 64) - 1))
def test_a_segments_number_is_read_back_from_its_name(number: int) -> None:
    assert segment_in(segment_file(number)) == number


@pytest.mark.parametrize(
    "file", ["1.seg", "0000000000000001.seg.tmp", "000000000000000A.seg", "00000000000000001.seg", ""]
)
def test_other_names_are_no_segments(file: str) -> None:
    assert segment_in(file) is None


OURS = [LAYOUT_NAME, f"{LAYOUT_NAME}.tmp", LOCK_NAME, *CONTENT_NAMES, "lost+found"]
INNER = {
    SEGMENTS_NAME: ["0000000000000001.seg", "00000000000000ff.seg"],
    INDEX_NAME: ["data.mdb", "lock.mdb"],
    SHELF_NAME: ["heads", "heads.tmp", "bucket", "bucket.tmp", "dev@1.manifest", "a.b-c_d@7.manifest.tmp"],
}


def test_all_that_seekfs_writes_is_its_own() -> None:
    assert foreign_name(OURS, INNER) is None
    assert foreign_name([LAYOUT_NAME], {}) is None


@pytest.mark.parametrize("name", ["data", "seekfs.lock.tmp", f"{BOOT_NAME}.old", "Index", "lost+found2"])
def test_any_other_name_is_somebody_elses(name: str) -> None:
    assert foreign_name([*OURS, name, "zzz"], INNER) == name


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        (SEGMENTS_NAME, "1.seg"),
        (SEGMENTS_NAME, "0000000000000001.seg.tmp"),
        (INDEX_NAME, "data.mdb.tmp"),
        (SHELF_NAME, "x"),
        (SHELF_NAME, "x.tmp"),
        (SHELF_NAME, "heads.tmp.tmp"),
        (SHELF_NAME, "dev@01.manifest"),
        (SHELF_NAME, "dev@0.manifest"),
        (SHELF_NAME, f"dev@{1 << 63}.manifest"),
        (SHELF_NAME, "Dev@1.manifest"),
        (SHELF_NAME, f"{'n' * 64}@1.manifest"),
    ],
)
def test_a_name_inside_that_seekfs_never_gives_is_somebody_elses(directory: str, name: str) -> None:
    inner = INNER | {directory: [*INNER[directory], name]}
    assert foreign_name(OURS, inner) == f"{directory}/{name}"


def test_without_a_layout_file_only_what_is_made_before_it_may_be_there() -> None:
    assert foreign_beside_no_layout([]) is None
    assert foreign_beside_no_layout(["lost+found", LOCK_NAME, f"{LAYOUT_NAME}.tmp"]) is None
    assert foreign_beside_no_layout([LOCK_NAME, "b", "a"]) == "a"
    for name in CONTENT_NAMES:
        assert foreign_beside_no_layout([name]) == name


def test_beside_a_layout_file_it_is_that_file_which_decides_first() -> None:
    assert foreign_beside_no_layout([LAYOUT_NAME, "what-the-future-keeps"]) is None


def test_segments_may_have_a_quarter_of_the_files_of_the_process_open() -> None:
    assert [descriptors_max(files) for files in (0, 40, 1024, 4096, None)] == [8, 10, 256, 512, 512]
