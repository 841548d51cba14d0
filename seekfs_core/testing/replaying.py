"""Recorded traces as unit tests: ``replay("tests/traces/slow-store.trace")``.

The one module of the core that opens a file: a test has one, and nothing that is served imports this.
"""

from __future__ import annotations

from typing import Protocol

from seekfs_core.trace import Replay
from seekfs_core.trace import replay as replay_bytes


class HasPath(Protocol):
    """A ``pathlib.Path``, which the core does not import."""

    def __fspath__(self) -> str: ...


def replay(path: str | HasPath) -> Replay:
    """Feed a recorded trace to fresh machines; what was replayed.

    Raises ``AssertionError`` with the first difference, ``TraceError`` for a file that is no whole trace, and
    ``OSError`` for one that cannot be read.
    """
    with open(path, "rb") as file:  # noqa: PTH123
        replayed = replay_bytes(file.read())
    if replayed.difference is not None:
        raise AssertionError(str(replayed.difference))
    return replayed
