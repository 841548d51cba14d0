"""The frames of a batch's answer: what a status says of its item."""

from __future__ import annotations

import pytest

from seekfs_core.errors import SeekfsError
from seekfs_core.frame_format import HEADER, LAST, MORE, ends_item, is_failure


def test_a_header_is_16_bytes_little_endian() -> None:
    assert HEADER.size == 16
    assert HEADER.pack(LAST, 0xE3069283, 9) == bytes.fromhex("c8000000 839206e3 0900000000000000")


@pytest.mark.parametrize(
    ("status", "fails", "ends"),
    [
        (LAST, False, True),
        (MORE, False, False),
        (399, False, False),
        (400, True, True),
        (599, True, True),
        (600, False, False),
    ],
)
def test_a_status_says_whether_more_comes_and_whether_what_came_is_void(
    status: int, fails: bool, ends: bool
) -> None:
    assert is_failure(status) is fails
    assert ends_item(status) is ends


def test_every_problem_is_a_failure_of_its_item() -> None:
    def kinds(of: type[SeekfsError]) -> list[type[SeekfsError]]:
        return [of, *(kind for each in of.__subclasses__() for kind in kinds(each))]

    assert all(is_failure(kind.status) for kind in kinds(SeekfsError))
