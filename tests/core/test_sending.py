"""How a file is sent: the edges of one PUT, and parts that S3 takes."""

from __future__ import annotations

import pytest

from seekfs_core.sending import (
    ASK_FIRST_BYTES,
    MIB,
    PART_BYTES,
    PART_BYTES_MIN,
    PARTS_MAX,
    is_asked_for_first,
    is_sent_whole,
    part_size_bytes,
)

S3_OBJECT_BYTES_MAX = 5 * 1024**4


def test_a_file_of_one_part_is_one_put() -> None:
    assert [is_sent_whole(size, 10) for size in (0, 1, 10, 11)] == [True, True, True, False]


def test_only_what_costs_more_to_send_than_to_ask_for_is_asked_for() -> None:
    assert [is_asked_for_first(size) for size in (0, ASK_FIRST_BYTES, ASK_FIRST_BYTES + 1)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("least", [PART_BYTES_MIN, PART_BYTES])
@pytest.mark.parametrize("times", [0, 1, 3, None])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_parts_are_as_small_as_they_may_be_and_no_more_than_s3_takes(
    least: int, times: int | None, beyond: int
) -> None:
    size = S3_OBJECT_BYTES_MAX if times is None else max(least, PARTS_MAX * least * times) + 1 + beyond
    part = part_size_bytes(size, least)
    assert part % MIB == 0
    assert part >= least
    assert -(-size // part) <= PARTS_MAX
    assert part == least or -(-size // (part - MIB)) > PARTS_MAX
