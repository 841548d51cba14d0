"""Chance that is the same everywhere: draws made of ``random()`` and ``getrandbits()`` alone.

Of all that ``random.Random`` offers only these two are promised to give the same numbers for the same seed in
every version of Python; ``choice``, ``shuffle`` and the distributions have changed before. A seed that is to
reproduce a run next year is therefore spent through here.
"""

from __future__ import annotations

import random
from collections.abc import MutableSequence, Sequence
from math import exp, fsum, log, sqrt
from typing import TypeVar

from attrs import define

from seekfs_core.errors import ContractViolation

ItemT = TypeVar("ItemT")

_UNIFORMS = 4
"""Added up they are near enough to a bell curve; its tails end at 3.5 standard deviations."""


@define(eq=False)
class Chance:
    """Draws from ``rng``, a seeded generator, which others may draw from as well."""

    rng: random.Random

    def below(self, count: int) -> int:
        """A whole number from 0 to below ``count``, each as likely."""
        if count < 1:
            raise ContractViolation(f"a number from 0 to below {count}")
        bits = (count - 1).bit_length()
        while (drawn := self.rng.getrandbits(bits) if bits else 0) >= count:
            pass
        return drawn

    def between(self, low: float, high: float) -> float:
        """A number from ``low`` to below ``high``, each as likely."""
        return low + (high - low) * self.rng.random()

    def happens(self, probability: float) -> bool:
        """True as often as ``probability`` says: never for 0, always for 1."""
        return self.rng.random() < probability

    def choice(self, items: Sequence[ItemT]) -> ItemT:
        """One of several, each as likely."""
        return items[self.below(len(items))]

    def shuffle(self, items: MutableSequence[ItemT]) -> None:
        """Bring a list into any order, each as likely (Fisher and Yates)."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]

    def sample(self, items: Sequence[ItemT], count: int) -> list[ItemT]:
        """``count`` of several, none of them twice, in any order."""
        if not 0 <= count <= len(items):
            raise ContractViolation(f"{count} of {len(items)}")
        rest = list(items)
        self.shuffle(rest)
        return rest[:count]

    def exponential(self, mean: float) -> float:
        """How long something takes to happen that happens at any moment as likely: ``mean`` on average."""
        return -mean * log(1.0 - self.rng.random())

    def lognormal(self, median: float, spread: float) -> float:
        """How long an answer takes: half of them less than ``median``, a few many times as long.

        ``spread`` is the standard deviation of the logarithm: 0 is always ``median``, 1 gives one in forty
        more than seven times that. The bell curve is an approximation, whose tails end.
        """
        # ``sum`` of floats came to be another one with Python 3.12.
        uniforms = fsum(self.rng.random() for _ in range(_UNIFORMS))
        return median * exp(spread * (uniforms - _UNIFORMS / 2) * sqrt(12 / _UNIFORMS))
