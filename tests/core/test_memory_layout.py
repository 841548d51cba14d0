"""seekfs_core.memory_layout: what is handed out is never more than there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.buffers import BufferLedger, PageAccount
from seekfs_core.memory_layout import (
    SHELF_PART,
    MemoryShares,
    buffers_for,
    memory_ceiling_of,
    memory_for,
    memory_shares_of,
)
from seekfs_core.pages import PageKey
from seekfs_core.retention import Admit, PageOffered, RamRetention, ram_charge
from seekfs_core.room import Room


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


KEY = PageKey(bytes(36))


def tiers_that_keep(page_length: int, ceiling_bytes: int, *, holds_l2: bool) -> list[bool]:
    """Whether each tier in memory keeps a page of this length, as its own policy says."""
    shares = memory_shares_of(ceiling_bytes, holds_l2=holds_l2)
    ledger: BufferLedger[PageAccount] = BufferLedger(shares.l1_bytes, page_length)
    ledger.take(page_length)
    buffer = PageAccount(page_length)
    ledger.offer(buffer, KEY, 0, 0)
    if not holds_l2:
        return [buffer.in_l1]
    offer = PageOffered(KEY, ram_charge(page_length))
    return [buffer.in_l1, RamRetention(shares.l2_bytes).feed(offer, 0) == (Admit(KEY),)]


@given(st.integers(1, 64 << 20), st.booleans())
def test_the_memory_for_a_page_is_the_least_under_which_every_tier_keeps_it(
    page_length: int, holds_l2: bool
) -> None:
    enough = memory_for(page_length, holds_l2=holds_l2)
    assert all(tiers_that_keep(page_length, enough, holds_l2=holds_l2))
    assert not all(tiers_that_keep(page_length, enough - 1, holds_l2=holds_l2))


@given(st.integers(1, 64 << 20))
def test_the_buffers_for_a_page_let_it_be_fetched_and_read_back(page_length: int) -> None:
    room = Room(buffers_for(page_length))
    assert room.fits_get(page_length)
    assert room.fits(page_length)
    assert not Room(buffers_for(page_length) - 1).fits(page_length)
