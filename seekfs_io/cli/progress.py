"""Progress of long work: a bar with an ETA on a terminal, nothing anywhere else.

Drawn on stderr, so that results can be piped while it moves; gone when the work is done.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Bar:
    """A bar of bytes. Calls may come from many threads at once."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._lock = threading.Lock()
        self._total = 0

    def expect(self, size_bytes: int) -> None:
        """So many bytes more are to be done."""
        with self._lock:
            self._total += size_bytes
            if self._progress is not None:
                self._progress.update(self._task, total=self._total)

    def advance(self, size_bytes: int) -> None:
        """So many bytes more are done."""
        if self._progress is not None:
            self._progress.advance(self._task, size_bytes)

    def describe(self, text: str) -> None:
        """What is being done now."""
        if self._progress is not None:
            # Escaped by rich's own rules: a path may look like markup.
            self._progress.update(self._task, description=text.replace("[", r"\["))


@contextmanager
def bar(label: str) -> Iterator[Bar]:
    """A bar for the length of a block."""
    if not (sys.stderr is not None and sys.stderr.isatty()):
        yield Bar(None, TaskID(0))
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        yield Bar(progress, progress.add_task(label, total=None))
