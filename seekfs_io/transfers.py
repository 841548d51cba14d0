"""Answers of the store that are on their way, and may be broken off by another thread."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from seekfs_core.errors import StoreFailure
from seekfs_io.objects.base import ObjectReader, StoreError


@define(eq=False)
class Transfer:
    """One answer, as the thread that receives it tells of it (``Watch`` of ``fetch_whole``).

    ``_moves`` is called for every piece. ``break_off``, and then ``abort``, alone may come from another
    thread; no lock is needed, since each side first writes what the other one reads next.
    """

    _moves: Callable[[], None] = lambda: None
    _body: ObjectReader | None = field(default=None, init=False)
    _broken_off: StoreFailure | None = field(default=None, init=False)

    def opened(self, body: ObjectReader) -> None:
        """The head has come; ``StoreError`` if it is broken off already."""
        self._body = body
        self.moved()

    def moved(self) -> None:
        """A piece has come; ``StoreError`` if it is broken off."""
        self._moves()
        if self._broken_off is not None:
            raise StoreError(self._broken_off)

    def break_off(self, failure: StoreFailure) -> None:
        """Let who receives fail with ``failure`` at its next piece. Who waits for one: see ``abort``."""
        self._broken_off = failure

    def abort(self) -> None:
        """Let who receives of what was broken off not wait for the store any more. May take a moment."""
        if (body := self._body) is not None:
            body.abort()

    def failure_of(self, error: StoreError) -> StoreFailure:
        """Why it failed, whatever its connection said of being broken off."""
        return self._broken_off or error.failure
