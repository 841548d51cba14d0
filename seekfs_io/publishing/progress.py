"""How long work says how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears of bytes. Calls may come from many threads at once."""

    def expect(self, size_bytes: int) -> None:
        """So many bytes more are to be done."""
        ...

    def advance(self, size_bytes: int) -> None:
        """So many bytes more are done."""
        ...

    def describe(self, text: str) -> None:
        """What is being done now: a step, or the name of a file."""
        ...


class Silent:
    """A ``Progress`` that nobody looks at."""

    def expect(self, size_bytes: int) -> None:
        pass

    def advance(self, size_bytes: int) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


SILENT = Silent()
