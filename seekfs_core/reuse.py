"""Which pages a read keeps at hand because it will come back to them.

A batch may touch one page many times with others in between. Where no tier keeps the page (they
may be small, or full of better ones), each return would cost a GET. So a read that misses keeps
the pages that later slices of its plan need again, up to ``bytes_max``; the ones that it has not
been to for longest go first.

How it is driven: ``feed(SliceRead(page, length))`` after each slice; ``KeepPage`` and ``LetGoOfPage``
say what to do. ``NotKept`` where the page was not to be had any more, or never was in memory;
``AllLetGo`` when memory is needed elsewhere.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias, assert_never

from attrs import define, field, frozen

from seekfs_core.machine import advance
from seekfs_core.plan import ReadPlan

Page: TypeAlias = tuple[str, int]
"""Path and page id."""


@frozen
class SliceRead:
    """The read is done with one slice, of a page of ``length`` bytes."""

    page: Page
    length: int


@frozen
class NotKept:
    """Nothing is kept of this page, although ``KeepPage`` said so."""

    page: Page


@frozen
class AllLetGo:
    """The driver has let go of every page that it kept."""


@frozen
class KeepPage:
    """Keep this page at hand: a later slice needs it. It may be kept already."""

    page: Page


@frozen
class LetGoOfPage:
    page: Page


ReuseEvent: TypeAlias = SliceRead | NotKept | AllLetGo
ReuseAction: TypeAlias = KeepPage | LetGoOfPage


@define
class Reuse:
    """See the module's text. Made from a plan when a read first misses."""

    plan: ReadPlan
    bytes_max: int
    _uses_left: dict[Page, int] = field(init=False)
    _kept: OrderedDict[Page, int] = field(factory=OrderedDict, init=False)
    _kept_bytes: int = field(default=0, init=False)
    _now: float = field(default=float("-inf"), init=False)

    def __attrs_post_init__(self) -> None:
        self._uses_left = self.plan.page_uses()

    @property
    def is_pointless(self) -> bool:
        """No page is touched twice: there is nothing to feed."""
        return not self._uses_left

    def feed(self, event: ReuseEvent, now: float) -> tuple[ReuseAction, ...]:
        """One event in, what to keep and let go of out; see ``seekfs_core.machine``."""
        self._now = advance(self._now, now)
        match event:
            case AllLetGo():
                self._kept.clear()
                self._kept_bytes = 0
                return ()
            case NotKept(page):
                self._forget(page)
                return ()
            case SliceRead(page, length):
                return self._slice_read(page, length)
            case _:
                assert_never(event)

    def next_deadline(self) -> None:
        """Nothing here waits for time."""

    def _slice_read(self, page: Page, length: int) -> tuple[ReuseAction, ...]:
        left = self._uses_left.get(page)
        if left is None:
            return ()
        self._uses_left[page] = left - 1
        if left <= 1:
            return (LetGoOfPage(page),) if self._forget(page) else ()
        self._forget(page)
        self._kept[page] = length
        self._kept_bytes += length
        actions: list[ReuseAction] = [KeepPage(page)]
        while self._kept_bytes > self.bytes_max:
            oldest = next(iter(self._kept))
            self._forget(oldest)
            actions.append(LetGoOfPage(oldest))
        return tuple(actions)

    def _forget(self, page: Page) -> bool:
        """Whether the page was kept."""
        length = self._kept.pop(page, None)
        self._kept_bytes -= length or 0
        return length is not None
