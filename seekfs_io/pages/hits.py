"""Hits on their way from the threads that read to the policies of the tiers.

A thread notes a hit in a ring of its own, which costs it no lock and no event; ``HitsTimer`` sees to it that
the policy hears of it soon, many at a time (``HitsSeen``), also where nothing asks the policy anything.

Rules of this file: only its own thread adds to a ring, whoever drains it takes from the other end, and either
is one step of the interpreter. Between threads the order of hits is lost, which the policies know.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from seekfs_core.pages import PageKey
from seekfs_core.retention import HITS_NOTED_MAX, HITS_SECONDS_MAX, HITS_SEEN_AT_ONCE
from seekfs_io.threads import run_all


class _Ring(threading.local):
    """The hits that this thread has noted."""

    def __init__(self, rings: list[tuple[threading.Thread, deque[PageKey]]]) -> None:
        hits: deque[PageKey] = deque(maxlen=HITS_NOTED_MAX)
        self.note = hits.append
        rings.append((threading.current_thread(), hits))


class Hits:
    """The hits of one tier that its policy has not heard of. Thread-safe."""

    def __init__(self) -> None:
        self._rings: list[tuple[threading.Thread, deque[PageKey]]] = []
        self._ring = _Ring(self._rings)

    def note(self, key: PageKey) -> None:
        """A page was found. Of too many that one thread notes, the oldest are forgotten."""
        self._ring.note(key)

    def drain(self) -> Iterator[tuple[PageKey, ...]]:
        """What was noted, and is no longer: thread by thread, oldest first, ``HITS_SEEN_AT_ONCE`` at most at
        a time."""
        for ring in list(self._rings):
            thread, hits = ring
            is_over = not thread.is_alive()  # Asked first: nothing comes after that.
            left = len(hits)  # What comes meanwhile is drained the next time, or this would not end.
            while left:
                keys: list[PageKey] = []
                with contextlib.suppress(IndexError):  # Somebody else drains it, too.
                    while left and len(keys) < HITS_SEEN_AT_ONCE:
                        left -= 1
                        keys.append(hits.popleft())
                if keys:
                    yield tuple(keys)
            if is_over and not hits:
                with contextlib.suppress(ValueError):  # Likewise.
                    self._rings.remove(ring)


class HitsTimer:
    """Has each tier tell its policy of the hits, once in ``HITS_SECONDS_MAX``."""

    def __init__(self, tell: Iterable[Callable[[], None]]) -> None:
        self._tell = tuple(tell)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="seekfs-hits", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell them once more, and no more."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(HITS_SECONDS_MAX):
            run_all(self._tell)
        run_all(self._tell)
