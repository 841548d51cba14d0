"""Room against a list of what was handed out: never more than there is, and every byte in one account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation
from seekfs_core.room import Room
from tests.core.strategies import long_lists


def test_gets_leave_a_part_to_readers_and_a_larger_one_runs_alone() -> None:
    room = Room(100)
    assert (room.gets_bytes_max, room.readers_bytes_min) == (75, 25)
    assert room.fits_get(75)
    assert room.fits_get(100)
    room.reserve(1)
    assert room.fits_get(74)
    assert not room.fits_get(75)
    assert not room.fits_get(100)
    assert room.fits(99)
    assert not room.fits(100)


@pytest.mark.parametrize("length", [-1, 11])
def test_only_what_was_given_comes_back(length: int) -> None:
    room = Room(100)
    room.reserve(20)
    room.give(10)
    with pytest.raises(ContractViolation, match="10 were given out"):
        room.take_back(length)
    assert (room.bytes_used, room.bytes_given) == (20, 10)


@given(
    st.integers(1, 50),
    long_lists(
        st.tuples(st.sampled_from(["get", "reader", "give", "give up", "back"]), st.integers(1, 60)), 40
    ),
)
def test_every_byte_is_in_one_account(bytes_max: int, steps: list[tuple[str, int]]) -> None:
    room = Room(bytes_max)
    reserved: list[int] = []
    given_out: list[int] = []
    for what, number in steps:
        if what == "get" and number <= bytes_max and room.fits_get(number):
            alone = not reserved and not given_out
            assert alone or sum(reserved) + sum(given_out) + number <= bytes_max - bytes_max // 4
            room.reserve(number)
            reserved.append(number)
        elif what == "reader" and room.fits(number):
            room.reserve(number)
            reserved.append(number)
        elif what == "give" and reserved:
            given_out.append(reserved.pop(number % len(reserved)))
            room.give(given_out[-1])
        elif what == "give up" and reserved:
            room.give_up(reserved.pop(number % len(reserved)))
        elif what == "back" and given_out:
            room.take_back(given_out.pop(number % len(given_out)))
        assert room.bytes_used == sum(reserved) + sum(given_out) <= bytes_max
        assert room.bytes_given == sum(given_out)
