"""How the time that the end of a data plane may take is divided among its parts.

Who waits is told first, which takes no time (``Closing`` of ``seekfs_core.fetch`` and of
``seekfs_core.resolver``). Then what was fetched is written to the second tier (``Closing`` of
``seekfs_core.writebehind``), what is on its way to the shelf of manifests gets there, and both are closed
with what is left of the time. Requests to the store are not waited for: whatever they bring, nobody wants.

A daemon first lets its streams finish, for ``api.drain_sec``, and is watched by a process that ends it where
it does not come to its end (``end_seconds``).

And what comes of a signal that asks for the end: the first ends things in order, which takes time, and what
further ones do depends on what they are sent to (``interruption``).
"""

from __future__ import annotations

import enum
from typing import Final

FLUSH_SECONDS_MAX: Final = 30.0
"""What the end of a daemon may take after its streams: for pages that wait to be written to disk."""

THREADS_SECONDS_MAX: Final = 1.0
"""What threads that have nothing more to do are given to end."""

TIER_SECONDS_MIN: Final = 1.0
"""What the second tier is given to end its writes, also where finishing the queue has used up the time."""


_THREAD_POOLS: Final = 3
"""Those that are let go of one after the other: two of the resolver, one of the fetcher."""


def end_seconds(drain_seconds: float) -> int:
    """How long a daemon may take to end, before it is ended: its streams, what is to be written, threads and
    the second tier where a disk hangs, and a moment to say so."""
    tail = _THREAD_POOLS * THREADS_SECONDS_MAX + TIER_SECONDS_MIN + 5
    return int(drain_seconds + FLUSH_SECONDS_MAX + tail) + 1


def seconds_left(until: float, now: float) -> float:
    """Of a time that ends at ``until`` (monotonic)."""
    return max(0.0, until - now)


class Interruption(enum.Enum):
    """What comes of a signal that asks for the end."""

    END_IN_ORDER = "undo what was begun, finish what is under way"
    WARN = "say that this is going on"
    GIVE_UP = "undo no further, and say what is left"
    IGNORE = "go on with what the first one began"
    END = "end at once"


class Interrupted(enum.Enum):
    """What hears such signals, with what comes of each in turn; the last is of all that follow.

    Two in a row are often one that somebody was not sure of. So the second does not cut short what a command
    undoes in the bucket. Of a daemon it does: everything that its caches need is on disk at any moment, and
    who asks twice has seen it wait for its streams. A demo leaves nothing behind, whatever it hears.
    """

    COMMAND = (Interruption.END_IN_ORDER, Interruption.WARN, Interruption.GIVE_UP, Interruption.END)
    DEMO = (Interruption.END_IN_ORDER, Interruption.IGNORE)
    DAEMON = (Interruption.END_IN_ORDER, Interruption.END)


def interruption(of: Interrupted, heard: int) -> Interruption:
    """What comes of the signal that is the ``heard``-th, from 1."""
    order: tuple[Interruption, ...] = of.value
    return order[min(heard, len(order)) - 1]


def tier_seconds(until: float, now: float) -> float:
    """How long the second tier may take to close, of an end that may take until ``until`` (monotonic)."""
    return max(TIER_SECONDS_MIN, until - now)
