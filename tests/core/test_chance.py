"""Chance: fair, within its bounds, and pinned, so that a seed means the same in every version of Python."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from seekfs_core.errors import ContractViolation
from seekfs_core.testing import Chance


def seeded(seed: int = 1) -> Chance:
    return Chance(random.Random(seed))


def test_a_seed_gives_these_draws_for_ever() -> None:
    chance = seeded()
    cards = list(range(6))
    chance.shuffle(cards)
    drawn = [chance.below(10) for _ in range(6)]
    assert (cards, drawn) == PINNED
    assert chance.sample("abcdef", 3) == PINNED_SAMPLE


PINNED = ([5, 2, 0, 3, 4, 1], [1, 7, 7, 7, 6, 3])
PINNED_SAMPLE = ["c", "e", "b"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
def test_every_number_below_is_as_likely(count: int) -> None:
    chance = seeded()
    drawn = Counter(chance.below(count) for _ in range(2000 * count))
    assert set(drawn) == set(range(count))
    assert all(1700 < each < 2300 for each in drawn.values())


def test_bounds() -> None:
    chance = seeded()
    assert all(2.0 <= chance.between(2.0, 3.0) < 3.0 for _ in range(1000))
    assert not any(chance.happens(0.0) for _ in range(1000))
    assert all(chance.happens(1.0) for _ in range(1000))
    assert sorted(chance.sample(range(5), 5)) == list(range(5))
    assert chance.sample(range(5), 0) == []
    assert {chance.choice("ab") for _ in range(100)} == {"a", "b"}
    for refused in (lambda: chance.below(0), lambda: chance.sample("ab", 3), lambda: chance.sample("ab", -1)):
        with pytest.raises(ContractViolation):
            refused()


def test_times_have_the_mean_and_the_median_that_were_asked_for() -> None:
    chance = seeded()
    waits = [chance.exponential(2.0) for _ in range(20_000)]
    assert min(waits) >= 0
    assert 1.9 < sum(waits) / len(waits) < 2.1
    answers = sorted(chance.lognormal(3.0, 1.0) for _ in range(20_000))
    assert 2.8 < answers[10_000] < 3.2
    assert 0.01 < sum(each > 7 * 3.0 for each in answers) / len(answers) < 0.05
    assert {chance.lognormal(3.0, 0.0) for _ in range(10)} == {3.0}


def test_a_sum_of_chances_is_the_same_whatever_the_version_of_python() -> None:
    """``sum`` of these floats ends in ...06 by the rules of Python 3.11."""
    assert Chance(random.Random(15)).lognormal(1.0, 1.0) == 0.7996303539963808
