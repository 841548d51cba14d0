"""What the log is told, and whether a lock was held meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heard_while_free(lock: threading.Lock) -> Iterator[list[str]]:
    """The lines of ``seekfs.cache``; one that comes while anybody has the lock says so."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            is_free = lock.acquire(blocking=False)
            if is_free:
                lock.release()
            heard.append(
                record.getMessage() if is_free else f"while the lock was held: {record.getMessage()}"
            )

    listener, log = Listener(), logging.getLogger("seekfs.cache")
    log.addHandler(listener)
    try:
        yield heard
    finally:
        log.removeHandler(listener)
