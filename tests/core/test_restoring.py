"""seekfs_core.restoring: which index, shelf and record is believed, and which entries; of two the later."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.pages import PageKey
from seekfs_core.restoring import (
    IndexDoubt,
    IndexEntry,
    RecordHeader,
    ShelfDoubt,
    believed_record,
    doubt_of_index,
    doubt_of_index_file,
    doubt_of_index_tree,
    doubt_of_open_index,
    doubt_of_shelf,
    entries_of,
    restored_from,
)
from seekfs_core.segment_layout import RECORD_ALIGNMENT, record_length, shares_of
from seekfs_core.segment_messages import Restored, RestoredPage, RestoredSegment
from seekfs_core.segments import SegmentLog
from tests.core.strategies import long_lists

RECORD = record_length(1000)


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


@pytest.mark.parametrize(
    ("made_under", "running", "doubt"),
    [
        (b"one", b"one", None),
        (b"one", b"two", IndexDoubt.OTHER_BOOT),
        (b"", b"two", IndexDoubt.OTHER_BOOT),
        (b"one", b"", IndexDoubt.UNKNOWN_BOOT),
        (b"", b"", IndexDoubt.UNKNOWN_BOOT),
        (None, b"one", IndexDoubt.UNFINISHED),
        (None, b"", IndexDoubt.UNFINISHED),
    ],
)
def test_an_index_is_believed_under_the_boot_that_it_was_made_under(
    made_under: bytes | None, running: bytes, doubt: IndexDoubt | None
) -> None:
    assert doubt_of_index(made_under, running) is doubt


def test_an_index_that_has_not_its_length_is_not_believed() -> None:
    assert doubt_of_index_file(4096, 4096) is None
    assert doubt_of_index_file(4097, 4096) is IndexDoubt.TOO_LONG
    assert doubt_of_index_tree(4096, 4096) is None
    assert doubt_of_index_tree(4095, 4096) is IndexDoubt.CUT_SHORT
    assert doubt_of_index_tree(0, 4096) is None  # Made just now.
    assert doubt_of_open_index(4096, 4096) is doubt_of_open_index(4096, 8192) is None
    assert doubt_of_open_index(4096, 4095) is doubt_of_open_index(4096, 0) is IndexDoubt.CUT_SHORT


@pytest.mark.parametrize(
    ("filled_from", "doubt"),
    [(b"here", None), (b"there", ShelfDoubt.OTHER_BUCKET), (None, ShelfDoubt.UNFINISHED)],
)
def test_a_shelf_is_believed_for_the_bucket_that_it_was_filled_from(
    filled_from: bytes | None, doubt: ShelfDoubt | None
) -> None:
    assert doubt_of_shelf(filled_from, b"here") is doubt


HEADER = RecordHeader(store_id=b"us", segment=2, offset=RECORD, key=key(1), length=1000, crc32c=7)


def believed(header: RecordHeader | None, segment_bytes: int = 2 * RECORD) -> RecordHeader | None:
    return believed_record(header, store_id=b"us", segment=2, offset=RECORD, segment_bytes=segment_bytes)


def test_a_walk_over_records_goes_on_as_long_as_each_is_where_it_says_and_whole() -> None:
    assert believed(HEADER) is HEADER
    assert believed(HEADER, 2 * RECORD - 1) is None
    assert believed(None) is None
    for other in (
        evolve(HEADER, store_id=b"they"),
        evolve(HEADER, segment=3),
        evolve(HEADER, offset=0),
        evolve(HEADER, length=1000 + RECORD_ALIGNMENT),
    ):
        assert believed(other) is None


def test_a_segment_that_cannot_be_read_counts_as_empty() -> None:
    assert list(entries_of([HEADER])) == [(key(1), IndexEntry(2, RECORD, 1000, 7))]
    assert list(entries_of(None)) == []


def test_an_entry_is_believed_when_its_record_lies_in_a_file_that_is_there() -> None:
    whole = IndexEntry(1, 0, 1000, 7)
    last = IndexEntry(1, RECORD, 1000, 8)
    cut = IndexEntry(2, RECORD, 1000, 9)
    gone = IndexEntry(3, 0, 1000, 10)
    found = [(key(n), entry) for n, entry in enumerate((gone, cut, last, whole))]
    restoration = restored_from(found, {2: 2 * RECORD - 1, 1: 2 * RECORD})
    assert restoration.entries == {key(2): last, key(3): whole}
    assert restoration.lost == ((key(0), 3, 0), (key(1), 2, RECORD))
    assert restoration.event == Restored(
        (
            RestoredSegment(
                1, 2 * RECORD, (RestoredPage(key(2), RECORD, 1000), RestoredPage(key(3), 0, 1000))
            ),
            RestoredSegment(2, 2 * RECORD - 1, ()),
        )
    )


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_records_of_a_page_the_later_one_is_it(is_first: bool) -> None:
    earlier, later, last = (
        IndexEntry(1, RECORD, 1000, 1),
        IndexEntry(2, 0, 1000, 2),
        IndexEntry(2, RECORD, 1000, 3),
    )
    for one, two in ((earlier, later), (later, last)):
        found = [(key(1), one), (key(1), two)]
        restoration = restored_from(found if is_first else found[::-1], {1: 2 * RECORD, 2: 2 * RECORD})
        assert restoration.entries == {key(1): two}
        assert restoration.lost == ()


def test_a_later_record_whose_bytes_are_not_there_does_not_displace_one_whose_are() -> None:
    earlier, later = IndexEntry(1, 0, 1000, 1), IndexEntry(2, 0, 1000, 2)
    restoration = restored_from([(key(1), earlier), (key(1), later)], {1: RECORD, 2: RECORD - 1})
    assert restoration.entries == {key(1): earlier}
    assert restoration.lost == ((key(1), 2, 0),)


entries = st.builds(
    IndexEntry,
    st.integers(1, 4),
    st.integers(0, 5).map(lambda n: n * RECORD_ALIGNMENT),
    st.integers(1, 3 * RECORD_ALIGNMENT),
    st.integers(0, 9),
)


@given(
    long_lists(st.tuples(st.integers(0, 5).map(key), entries), 12),
    st.dictionaries(st.integers(1, 4), st.integers(0, 7 * RECORD_ALIGNMENT)),
)
def test_whatever_is_found_every_page_has_one_place_and_the_log_takes_it(
    found: list[tuple[PageKey, IndexEntry]], lengths: dict[int, int]
) -> None:
    restoration = restored_from(found, lengths)
    assert len(restoration.lost) + len(restoration.entries) <= len(found)
    for page, entry in restoration.entries.items():
        assert entry.offset + record_length(entry.length) <= lengths[entry.segment]
        rivals = [
            (other.segment, other.offset)
            for name, other in found
            if name == page and other.offset + record_length(other.length) <= lengths.get(other.segment, 0)
        ]
        assert (entry.segment, entry.offset) == max(rivals)
    named = {page.key: segment.segment for segment in restoration.event.segments for page in segment.pages}
    assert named == {page: entry.segment for page, entry in restoration.entries.items()}
    assert {each.segment: each.capacity for each in restoration.event.segments} == lengths
    log = SegmentLog(shares_of(1 << 30))
    log.feed(restoration.event, 0)
    assert all(page in log for page in restoration.entries)
