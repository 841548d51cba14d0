"""seekfs_core.readback: when a page on disk is read whole."""

from __future__ import annotations

import pytest

from seekfs_core.readback import reads_whole_page


@pytest.mark.parametrize("slice_bytes", [1, 4096, 65_536])
def test_what_was_never_checked_is_read_whole(slice_bytes: int) -> None:
    assert reads_whole_page(verified=False, slice_bytes=slice_bytes, page_bytes=65_536)


@pytest.mark.parametrize(("slice_bytes", "whole"), [(1, False), (49, False), (50, True), (100, True)])
def test_of_what_was_checked_the_rest_comes_along_with_most_of_it(slice_bytes: int, whole: bool) -> None:
    assert reads_whole_page(verified=True, slice_bytes=slice_bytes, page_bytes=100) is whole
