"""seekfs_core.readback: what is believed of a page on disk, and when it is read whole."""

from __future__ import annotations

import pytest

from seekfs_core.readback import PageLoss, corruption, disagreement, loss_in_reading, reads_whole_page
from seekfs_core.tier import Outcome


@pytest.mark.parametrize("slice_bytes", [1, 4096, 65_536])
def test_what_was_never_checked_is_read_whole(slice_bytes: int) -> None:
    assert reads_whole_page(verified=False, slice_bytes=slice_bytes, page_bytes=65_536)


@pytest.mark.parametrize(("slice_bytes", "whole"), [(1, False), (49, False), (50, True), (100, True)])
def test_of_what_was_checked_the_rest_comes_along_with_most_of_it(slice_bytes: int, whole: bool) -> None:
    assert reads_whole_page(verified=True, slice_bytes=slice_bytes, page_bytes=100) is whole


def test_the_manifest_is_right_where_the_index_disagrees() -> None:
    assert disagreement((10, 7), (10, 7)) is None
    for held in ((11, 7), (10, 8), (11, 8)):
        assert disagreement(held, (10, 7)) is PageLoss.DISAGREES


def test_a_page_read_back_is_verified_by_its_crc_alone() -> None:
    assert corruption(7, 7) is None
    assert corruption(8, 7) is PageLoss.WRONG_CRC


def test_wrong_bytes_are_counted_by_themselves() -> None:
    assert [loss for loss in PageLoss if not loss.is_fault] == [PageLoss.WRONG_CRC]


def test_what_reading_a_page_back_loses() -> None:
    lost = {outcome: loss_in_reading(outcome) for outcome in Outcome}
    assert lost == {
        Outcome.DONE: None,
        Outcome.DAMAGED: PageLoss.DAMAGED,
        Outcome.VANISHED: PageLoss.UNREADABLE,
        Outcome.REFUSED: PageLoss.UNREADABLE,
        Outcome.HUNG: PageLoss.UNREADABLE,
        # What this process lacks, or what is known already, is no fault of the page.
        Outcome.STARVED: None,
        Outcome.UNTRIED: None,
        Outcome.CAME_BACK: None,
    }
