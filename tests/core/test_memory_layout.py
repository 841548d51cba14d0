"""seekfs_core.memory_layout: what is handed out is never more than there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.memory_layout import SHELF_PART, MemoryShares, memory_ceiling_of, memory_shares_of


@given(st.integers(0, 1 << 60), st.none() | st.integers(0, 1 << 60))
def test_at_most_half_of_the_memory_there_is(asked_bytes: int, available_bytes: int | None) -> None:
    ceiling = memory_ceiling_of(asked_bytes, available_bytes)
    if available_bytes is None or 2 * asked_bytes <= available_bytes:
        assert ceiling == asked_bytes
    else:
        assert available_bytes - 1 <= 2 * ceiling <= available_bytes


def test_with_a_disk_all_memory_is_for_pages_in_ram() -> None:
    assert memory_shares_of(1001, holds_l2=False) == MemoryShares(l1_bytes=1001, l2_bytes=0, shelf_bytes=0)


def test_what_stands_in_for_a_disk_has_half_and_its_shelf_a_part_of_that() -> None:
    assert memory_shares_of(3200, holds_l2=True) == MemoryShares(
        l1_bytes=1600, l2_bytes=1500, shelf_bytes=100
    )


@given(st.integers(0, 1 << 60), st.booleans())
def test_the_shares_fit_the_ceiling(ceiling_bytes: int, holds_l2: bool) -> None:
    shares = memory_shares_of(ceiling_bytes, holds_l2=holds_l2)
    assert min(shares.l1_bytes, shares.l2_bytes, shares.shelf_bytes) >= 0
    assert ceiling_bytes - 1 <= shares.l1_bytes + shares.l2_bytes + shares.shelf_bytes <= ceiling_bytes
    assert shares.shelf_bytes <= shares.l1_bytes // SHELF_PART
