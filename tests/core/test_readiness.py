"""When a node is ready, and what it says of itself."""

from __future__ import annotations

from seekfs_core.readiness import readiness_of


def test_a_tier_that_is_off_is_said_and_is_no_reason_to_get_no_requests() -> None:
    assert readiness_of(closing=False, disk_off_because=None).reasons == ()
    slow = readiness_of(closing=False, disk_off_because="reading: EIO")
    assert slow.ready
    assert "reading: EIO" in slow.reasons[0]


def test_a_node_that_stops_is_not_ready() -> None:
    stopping = readiness_of(closing=True, disk_off_because="full")
    assert not stopping.ready
    assert len(stopping.reasons) == 2
