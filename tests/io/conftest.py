"""A store that does as it is told, and data planes over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from seekfs_io.config import ApiConfig, CacheConfig, Config, L2Config, ManifestConfig, S3Config
from seekfs_io.dataplane import DataPlane
from seekfs_io.objects import open_store
from tests.io.planes import MIB, PAGE, Planes, all_room_returns
from tests.io.troubled_store import TroubledStore


@pytest.fixture
def troubled(tmp_path: Path) -> TroubledStore:
    inner = open_store(S3Config(engine="file", endpoint=str(tmp_path / "store")))
    inner.create_bucket()
    return TroubledStore(inner)


@pytest.fixture
def planes(tmp_path: Path, troubled: TroubledStore) -> Iterator[Planes]:
    opened: list[DataPlane] = []

    def factory(
        *,
        l1_mib: float = 16,
        inflight_mib: float = 8,
        l2_mib: float = 256,
        coalesce_kib: float = 256,
        deadline_seconds: float = 20,
        attempts: int = 3,
        backend: str = "segmentstore",
        gets: int = 128,
    ) -> DataPlane:
        directory = tmp_path / f"l2-{len(opened)}"
        config = Config(
            cache=CacheConfig(
                slab_size_mib=PAGE / MIB,
                l1_memory_gib=l1_mib / 1024,
                l2_ssd_gib=l2_mib / 1024,
                inflight_mib=inflight_mib,
                l2=L2Config(backend=backend, segment_path=str(directory)),
            ),
            s3=S3Config(
                range_coalesce_max_mib=coalesce_kib / 1024,
                get_budget_per_sec=5000,
                get_budget_burst=1000,
                max_inflight_gets=gets,
                retry_max_attempts=attempts,
                retry_initial_backoff_ms=1,
            ),
            manifest=ManifestConfig(head_ttl_sec=3600),
            api=ApiConfig(request_deadline_sec=deadline_seconds),
        )
        plane = DataPlane(config, store=troubled)
        opened.append(plane)
        return plane

    yield factory
    for plane in opened:
        if plane.readiness().ready:
            assert all_room_returns(plane), plane.statistics()
            plane.close(5)
