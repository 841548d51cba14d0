"""A data plane over a disk that hangs or refuses: whoever reads gets the right bytes from the store."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from seekfs_core.plan import Item
from tests.io.planes import MIB, Planes, all_room_returns, read, until
from tests.io.troubled_store import TroubledStore
from tests.support.dataset import File, some_bytes, write_dataset
from tests.support.hostile_disk import Fault, Hangs, HostileDisk, Refuses, Touch

PAGE = MIB
"""More than L1 of 0.1 MiB keeps: these pages are on disk alone."""

DATA = some_bytes(8 * PAGE)


@pytest.fixture
def store(troubled: TroubledStore) -> TroubledStore:
    write_dataset(troubled.inner, "dev", {"a": File(DATA, PAGE)})
    return troubled


@pytest.mark.parametrize("fault", [Hangs(), Refuses(errno.EIO)], ids=str)
@pytest.mark.parametrize(
    "items",
    [[("a", 0, len(DATA))], [("a", at * PAGE + 1000, 5000) for at in range(8)]],
    ids=["whole", "slices"],
)
def test_a_disk_that_cannot_be_read_fails_no_read_and_holds_up_nobody(
    store: TroubledStore, planes: Planes, fault: Fault, items: list[Item]
) -> None:
    plane = planes(l1_mib=0.1, deadline_seconds=4)
    with HostileDisk(Path(plane.config.cache.l2.segment_path)) as disk:
        read(plane, [("a", 0, len(DATA))])
        until(lambda: plane.statistics().tiers[1].pages_held == 8)
        assert all_room_returns(plane)
        disk.does(Touch.READ, fault)
        wanted = b"".join(DATA[off : off + length] for _, off, length in items)
        for _ in range(4):
            assert read(plane, items) == wanted
        off = plane.statistics().tiers[1].off_because
        assert off is not None
        assert ("no answer for" if isinstance(fault, Hangs) else "Input/output error") in off
        assert "read" in off
        assert disk.met > 0
        assert all_room_returns(plane), "what a hung read was given is nobody's room"
        disk.heals()
        until(lambda: not disk.hanging)
    until(lambda: read(plane, items) == wanted and plane.statistics().tiers[1].off_because is None)
