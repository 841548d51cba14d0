"""Progress of long work: a bar with an ETA on a terminal, nothing anywhere else.

Drawn on stderr, so that results can be piped while it moves; gone when the work is done.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

NAME_WIDTH_COLUMNS: Final = 40
"""A longer name is cut, so that the figures beside it stay where they are."""


class Bar:
    """A bar of bytes. Calls may come from many threads at once."""

    def __init__(self, progress: Progress | None, task: Task | None) -> None:
        self._progress = progress
        self._task = task
        self._lock = threading.Lock()

    def expect(self, size_bytes: int) -> None:
        """So many bytes more are to be done."""
        if self._task is not None:
            with self._lock:
                # Not by `Progress.update`, which forgets the speed whenever the total changes.
                self._task.total = (self._task.total or 0) + size_bytes

    def advance(self, size_bytes: int) -> None:
        """So many bytes more are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task.id, size_bytes)

    def describe(self, text: str) -> None:
        """What is being done now."""
        if self._progress is not None and self._task is not None:
            # Escaped by rich's own rules: a path may look like markup.
            self._progress.update(self._task.id, description=text.replace("[", r"\["))


@contextmanager
def bar(label: str) -> Iterator[Bar]:
    """A bar for the length of a block."""
    if not (sys.stderr is not None and sys.stderr.isatty()):
        yield Bar(None, None)
        return
    progress = Progress(
        TextColumn(
            "{task.description}",
            table_column=Column(max_width=NAME_WIDTH_COLUMNS, no_wrap=True, overflow="ellipsis"),
        ),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with progress:
        progress.add_task(label, total=None)
        (task,) = progress.tasks
        yield Bar(progress, task)
