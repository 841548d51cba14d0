"""seekfs_core.segment_layout: sizes that add up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.segment_layout import (
    CEILING_STEP_BYTES,
    RECORD_ALIGNMENT,
    RECORD_HEADER_LENGTH,
    ceiling_for,
    record_length,
    shares_of,
)

lengths = st.integers(1, 64 << 20)


@given(lengths)
def test_a_record_is_whole_blocks_and_has_room_for_its_header(length: int) -> None:
    record = record_length(length)
    assert record % RECORD_ALIGNMENT == 0
    assert 0 <= record - length - RECORD_HEADER_LENGTH < RECORD_ALIGNMENT


@given(st.integers(1 << 20, 1 << 50))
def test_a_ceiling_holds_its_shares_and_the_longest_page(ceiling_bytes: int) -> None:
    shares = shares_of(ceiling_bytes)
    longest = shares.page_length_max
    assert longest < 1 or shares.reserved_bytes + record_length(longest) <= ceiling_bytes
    assert longest < 1 or shares.entries_max >= 1


@given(lengths)
def test_the_ceiling_for_a_page_has_room_for_it_and_hardly_more(length: int) -> None:
    ceiling_bytes = ceiling_for(length)
    assert shares_of(ceiling_bytes).has_room_for(length)
    assert not shares_of(ceiling_bytes - CEILING_STEP_BYTES).has_room_for(length)
