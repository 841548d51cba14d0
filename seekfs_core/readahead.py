"""What a read asks for ahead of the slice it is at.

A read that finds everything cached never comes here. From its first miss on, ``ReadAhead`` walks
the plan's GET windows: the window the read stands in is always asked for, and as many of the
next as fit ``ahead_bytes`` of pages that were missing. Whole windows are asked for at once, so
that few large GETs cover them; and only pages that the plan touches, so that no GET brings what
nobody wants.

What was asked for ahead may be taken back for others' sake (``AheadLost``). It is asked for again when it
comes into reach again: when the read enters the window, or looks ahead from the next one.

How it is driven::

    for step in ahead.feed(WindowEntered(path, window), now): ...  # ProbeWindow: which pages are missing?
    for step in ahead.feed(WindowProbed(missing_bytes), now): ...  # the next window, or nothing
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias, assert_never

from attrs import define, field, frozen

from seekfs_core import grid
from seekfs_core.errors import ContractViolation
from seekfs_core.machine import advance
from seekfs_core.manifest import FileEntry
from seekfs_core.plan import ReadPlan, Windows

AHEAD_WINDOWS_MAX = 128
"""Windows looked at ahead, cached or not: as many as there are GETs in flight by default. Without
it a long read over cached pages would look through all of its plan at once."""


@frozen
class WindowEntered:
    """The read has come to a slice in this window of this path. Windows may be left out."""

    path: str
    window: int


@frozen
class PageMissed:
    """A page of the window that the read is in was asked for before, and is gone again."""

    file: FileEntry
    page_id: int


@frozen
class WindowProbed:
    """The driver looked for the pages of the last ``ProbeWindow`` and asked for those missing."""

    missing_bytes: int


@frozen
class AheadLost:
    """Nothing that was asked for beyond the window that the read is in will come, or is here any more."""


@frozen
class ProbeWindow:
    """Look for these pages; ask the fetch scheduler for the ones that are in no tier. ``is_ahead``: the read
    has not come to them yet."""

    file: FileEntry
    pages: tuple[int, ...]
    is_ahead: bool = False


AheadEvent: TypeAlias = WindowEntered | PageMissed | WindowProbed | AheadLost


@define(eq=False)
class _Step:
    """One window of the plan, at its place in the read's order."""

    file: FileEntry
    window: int
    missing_bytes: int = 0
    is_asked: bool = False
    """Whether its pages were asked for on its behalf."""
    is_lost: bool = False
    """Whether they were, or were asked for already, and are to be asked for again."""

    @property
    def key(self) -> tuple[str, int]:
        return self.file.path, self.window

    def is_at(self, path: str, window: int) -> bool:
        return self.window == window and self.file.path == path


@define
class ReadAhead:
    """See the module's text. Bounds what one read has asked for and not yet consumed."""

    plan: ReadPlan
    coalesce_bytes: int
    ahead_bytes: int
    page_bytes_max: int = 2**63
    """A file with longer pages cannot be read, and its turn is soon enough to say so."""
    _rest: Windows = field(init=False)
    _at: _Step | None = field(default=None, init=False)
    _ahead: deque[_Step] = field(factory=deque, init=False)
    _asked: set[tuple[str, int]] = field(factory=set, init=False)
    _probing: _Step | None = field(default=None, init=False)
    _now: float = field(default=float("-inf"), init=False)

    def __attrs_post_init__(self) -> None:
        self._rest = self.plan.windows(self.coalesce_bytes)

    def feed(self, event: AheadEvent, now: float) -> tuple[ProbeWindow, ...]:
        """One event in, the next window to look at out, if any; see ``seekfs_core.machine``."""
        now = advance(self._now, now)
        if isinstance(event, WindowEntered):
            self._enter(event.path, event.window)
        self._now = now
        match event:
            case WindowEntered(path, window):
                assert self._at is not None
                if (path, window) not in self._asked:
                    return self._probe(self._at)
            case PageMissed(file, page_id):
                return (ProbeWindow(file, self._still_ahead(file, page_id)),)
            case AheadLost():
                self._lose_ahead()
                return ()
            case WindowProbed(missing_bytes):
                if self._probing is not None:
                    self._probing.missing_bytes = missing_bytes
                    self._probing = None
            case _:
                assert_never(event)
        return self._look_ahead()

    def next_deadline(self) -> None:
        """Nothing here waits for time."""

    def _enter(self, path: str, window: int) -> None:
        if self._at is not None and self._at.is_at(path, window):
            return
        for passed, step in enumerate(self._ahead):
            if step.is_at(path, window):
                self._at = step
                for _ in range(passed + 1):
                    self._ahead.popleft()
                return
        rest = self._rest.copy()
        for file, later in rest:
            if later == window and file.path == path:
                self._at = _Step(file, later)
                self._ahead.clear()
                self._rest = rest
                return
        raise ContractViolation(f"the plan does not come to window {window} of {path!r} again")

    def _lose_ahead(self) -> None:
        lost = {step.key for step in self._ahead if step.is_asked}
        self._asked -= lost
        for step in self._ahead:
            # Where the plan comes back to a lost window, too: the read may pass the place that asked for it.
            if step.key in lost:
                step.is_asked, step.is_lost, step.missing_bytes = False, True, 0

    def _look_ahead(self) -> tuple[ProbeWindow, ...]:
        while self._probing is None and self._outstanding_bytes() < self.ahead_bytes:
            step = self._next_step()
            if step is None:
                break
            # A window that the plan comes back to was asked for whole the first time; what of it
            # has left every tier by then is fetched page by page when its turn comes.
            if step.key not in self._asked and self._can_be_read(step.file):
                return self._probe(step)
        return ()

    def _can_be_read(self, file: FileEntry) -> bool:
        return file.page_size_bytes <= self.page_bytes_max

    def _next_step(self) -> _Step | None:
        """What was lost goes before what comes behind it."""
        for step in self._ahead:
            if step.is_lost:
                step.is_lost = False
                return step
        following = next(self._rest, None) if len(self._ahead) < AHEAD_WINDOWS_MAX else None
        if following is None:
            return None
        step = _Step(*following)
        self._ahead.append(step)
        return step

    def _probe(self, step: _Step) -> tuple[ProbeWindow, ...]:
        self._asked.add(step.key)
        step.is_asked = True
        self._probing = step
        pages = self.plan.pages_in_window(step.file, step.window, self.coalesce_bytes)
        return (ProbeWindow(step.file, pages, is_ahead=step is not self._at),)

    def _still_ahead(self, file: FileEntry, page_id: int) -> tuple[int, ...]:
        """The page, and in a read of one range also what follows it in its window.

        Of several ranges nobody knows here which pages behind this one were consumed already.
        """
        if len(self.plan.extents) > 1:
            return (page_id,)
        window = grid.window_of(file, page_id, self.coalesce_bytes)
        pages = self.plan.pages_in_window(file, window, self.coalesce_bytes)
        return tuple(page for page in pages if page >= page_id)

    def _outstanding_bytes(self) -> int:
        at = 0 if self._at is None else self._at.missing_bytes
        return at + sum(step.missing_bytes for step in self._ahead)
