"""Data planes over a store that does as it is told, and reading through them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from seekfs_core.plan import Item, plan_read
from seekfs_io.dataplane import DataPlane

KIB = 1 << 10
MIB = 1 << 20
PAGE = 64 * KIB


class Planes(Protocol):
    def __call__(
        self,
        *,
        l1_mib: float = 16,
        inflight_mib: float = 8,
        l2_mib: float = 256,
        coalesce_kib: float = 256,
        deadline_seconds: float = 20,
        attempts: int = 3,
        backend: str = "segmentstore",
        gets: int = 128,
    ) -> DataPlane: ...


def all_room_returns(plane: DataPlane) -> bool:
    """Whether every buffer comes back once nothing is read any more; write-behind may still be at it."""
    for _ in range(500):
        statistics = plane.statistics()
        if not (statistics.fetch.room_bytes_used or statistics.fetch.in_flight):
            return True
        threading.Event().wait(0.01)
    return False


def read(plane: DataPlane, items: list[Item], ns: str = "dev") -> bytes:
    plan = plan_read(plane.resolve(ns).manifest, items, clip=False)
    with plane.read(plan) as stream:
        return b"".join(bytes(view) for view in stream)


def read_version(plane: DataPlane, version: int, items: list[Item], ns: str = "dev") -> bytes:
    with plane.read(plan_read(plane.resolve(ns, version).manifest, items, clip=False)) as stream:
        return b"".join(bytes(view) for view in stream)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does; AssertionError if it does not."""
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to pass")
