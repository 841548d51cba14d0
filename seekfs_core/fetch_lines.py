"""The GETs that wait to be started, in the order in which they may.

What a read needs goes before what a read will need; among these, what is made again goes first, since it has
its room already; and then who asked first. A namespace that has spent its budget holds up nobody else: each
has lines of its own, and only the first GET of each is looked at.
"""

from __future__ import annotations

import enum
from bisect import insort
from collections.abc import Iterator

from attrs import define, field

from seekfs_core.fetch_work import Get


class Turn(enum.Enum):
    """The kinds of GETs that wait, in the order in which they start."""

    NEEDED_AGAIN = "needed, and has its room"
    NEEDED = "needed"
    AHEAD_AGAIN = "will be needed, and has its room"
    AHEAD = "will be needed"


def turn_of(get: Get) -> Turn:
    """When its turn is, among others."""
    if get.has_room:
        return Turn.AHEAD_AGAIN if get.is_ahead else Turn.NEEDED_AGAIN
    return Turn.AHEAD if get.is_ahead else Turn.NEEDED


def _order(get: Get) -> int:
    return get.order


@define
class GetLines:
    """A line for each turn and namespace. What a GET's turn depends on changes only while it is in none."""

    _lines: dict[Turn, dict[str, list[Get]]] = field(factory=lambda: {turn: {} for turn in Turn}, init=False)
    _length: int = field(default=0, init=False)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Get]:
        """All of them, in the order of their turns."""
        for lines in self._lines.values():
            for line in lines.values():
                yield from line

    def add(self, get: Get) -> None:
        """Behind all that were asked for before."""
        insort(self._lines[turn_of(get)].setdefault(get.source.ns, []), get, key=_order)
        self._length += 1

    def remove(self, get: Get) -> None:
        lines = self._lines[turn_of(get)]
        line = lines[get.source.ns]
        line.remove(get)
        if not line:
            del lines[get.source.ns]
        self._length -= 1

    def heads(self, turn: Turn) -> list[Get]:
        """The first GET of every namespace, by who asked first."""
        return sorted((line[0] for line in self._lines[turn].values()), key=_order)

    def before(self, get: Get) -> tuple[int, int]:
        """How many GETs of its namespace start before it, and their bytes."""
        of_its_ns = [other for lines in self._lines.values() for other in lines.get(get.source.ns, ())]
        ahead = of_its_ns[: of_its_ns.index(get)]
        return len(ahead), sum(other.length for other in ahead)
