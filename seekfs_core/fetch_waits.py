"""Who waits for what, and who is told to let go of what it holds ahead, in the fetch scheduler.

A reader *waits* while it can do nothing until a page, or room, comes; it is *quiet* when nothing was heard of
it for ``QUIET_SECONDS`` although it does not wait. Each is told once, until it waits anew, is heard of, or is
given something that it could be told to let go of. A wait has a deadline, and is over then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import define, field

from seekfs_core.pages import PageKey

QUIET_SECONDS = 1.0
"""A reader that asks for nothing and waits for nothing for so long is at one page all that time, and its
client slow: what it holds ahead is of no use to it yet, and somebody else waits for the room."""


@define
class Waits:
    """The readers of a scheduler, from when they are first heard of until they leave."""

    _pages: dict[int, PageKey | None] = field(factory=dict, init=False)
    """What each reader that waits waits for; None is room."""
    _until: dict[int, float] = field(factory=dict, init=False)
    """When the wait of each reader that waits is too long."""
    _told: set[int] = field(factory=set, init=False)
    _heard_at: dict[int, float] = field(factory=dict, init=False)
    _blocked_since: float | None = field(default=None, init=False)
    """Since when somebody can do nothing for want of room."""

    def heard_of(self, read: int, now: float) -> None:
        """A reader has asked for something, or said that it waits."""
        self._heard_at[read] = now
        if read not in self._pages:
            self._told.discard(read)

    def begin(self, read: int, page: PageKey | None, until: float) -> None:
        self._pages[read], self._until[read] = page, until

    def over(self, read: int) -> None:
        """A reader does not wait, or not any more."""
        self._pages.pop(read, None)
        self._until.pop(read, None)
        self._told.discard(read)

    def came(self, read: int, page: PageKey | None) -> None:
        """A page, or room, is there for a reader, which may have waited for that."""
        if read in self._pages and self._pages[read] == page:
            self.over(read)

    def given(self, reads: Iterable[int]) -> None:
        """These readers hold something again that they can be told to let go of."""
        self._told.difference_update(reads)

    def left(self, read: int) -> None:
        self._heard_at.pop(read, None)
        self.over(read)

    def expired(self, now: float) -> list[tuple[int, PageKey | None]]:
        """The waits that are too long by now, which are over: who waited, and for what."""
        expired = [(read, self._pages[read]) for read, until in self._until.items() if until <= now]
        for read, _ in expired:
            self.over(read)
        return expired

    def clear(self) -> None:
        self._pages.clear()
        self._until.clear()
        self._told.clear()
        self._heard_at.clear()
        self._blocked_since = None

    def nobody_is_blocked(self) -> None:
        """There is room for whoever waits."""
        self._blocked_since = None

    def tell(self, has_room: Callable[[PageKey], bool], now: float) -> list[tuple[int, bool]]:
        """Who is to let go of what it holds ahead, and whether it is quiet. ``has_room``: whether the GET
        of a page has its room already, so that who waits for it will move without anybody's help."""
        blocked = [read for read, page in self._pages.items() if page is None or not has_room(page)]
        if not blocked:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        quiet = [read for read, due in self._quiet() if due <= now]
        told = [(read, False) for read in blocked if read not in self._told]
        told += [(read, True) for read in quiet]
        self._told.update(read for read, _ in told)
        return told

    def next_deadline(self) -> float:
        """When the next wait is too long, or the next reader quiet for too long; infinite where none will
        be."""
        quiet_at = min((due for _, due in self._quiet()), default=float("inf"))
        return min(quiet_at, min(self._until.values(), default=float("inf")))

    def _quiet(self) -> Iterator[tuple[int, float]]:
        """Readers that do not wait, and when each is to let go of what it holds ahead, if nothing changes."""
        if self._blocked_since is not None:
            for read, heard_at in self._heard_at.items():
                if read not in self._pages and read not in self._told:
                    yield read, max(heard_at, self._blocked_since) + QUIET_SECONDS
