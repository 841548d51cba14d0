"""The body of a GET that a test hands out, whatever it gives."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class ScriptedBody:
    """What an ``ObjectReader`` has beside ``readinto``."""

    def __init__(self, key: str, size: int, start: int, stop: int) -> None:
        self.key, self.size, self.start, self.stop = key, size, start, stop
        self.etag: str | None = None
        self.left = b""

    def give(self, view: memoryview) -> int:
        """Fill the front of ``view`` with what is left; how much that was."""
        piece, self.left = self.left[: len(view)], self.left[len(view) :]
        view[: len(piece)] = piece
        return len(piece)

    def abort(self) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
