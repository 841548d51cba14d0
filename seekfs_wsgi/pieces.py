"""From the views of a read to pieces worth sending.

A system call for each 4 KiB range costs more than the range (a GIL handover each), and a copy of each
8 MiB page costs more than its system call. So small views are joined in one buffer, and large ones are
passed on as they are. A large one is also never held back: a page goes out when it arrives.

A piece is valid until the next one is asked for, as the views are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

JOINED_BYTES = 512 * 1024
"""A buffer this full is sent. Measured: 512 KiB to 1 MiB is best for plain WSGI servers."""

SMALL_BYTES = 64 * 1024
"""Views of fewer bytes are joined. The smallest page: a whole page is never held back."""


class Joiner:
    """One buffer that small views are copied into, reused from piece to piece."""

    __slots__ = ("_view", "filled")

    def __init__(self, total_bytes: int) -> None:
        """``total_bytes`` is all that will come, headers of frames included, if that is known."""
        self._view = memoryview(bytearray(min(total_bytes, JOINED_BYTES + SMALL_BYTES)))
        self.filled = 0

    def add(self, view: memoryview | bytes) -> bool:
        """Copy a small view in; True when the buffer wants to be taken. It must be taken then."""
        stop = self.filled + len(view)
        self._view[self.filled : stop] = view
        self.filled = stop
        return stop >= JOINED_BYTES

    def take(self) -> memoryview:
        """What was joined. Valid until the next ``add``."""
        joined = self._view[: self.filled]
        self.filled = 0
        return joined


def joined_pieces(views: Iterable[memoryview], total_bytes: int) -> Iterator[memoryview]:
    """The same bytes in fewer pieces: small views joined, large ones as they are."""
    joiner = Joiner(total_bytes)
    for view in views:
        if len(view) < SMALL_BYTES:
            if joiner.add(view):
                yield joiner.take()
        else:
            if joiner.filled:
                yield joiner.take()
            yield view
    if joiner.filled:
        yield joiner.take()
