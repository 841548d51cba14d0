"""A data plane of a few files in memory: as much of its interface as the WSGI application calls.

Only for tests of the application by itself. What it does together with the real plane, a real store and a
real server is shown in tests/e2e.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import crc32c
from attrs import define, field

from seekfs_core.errors import NoSuchNamespace, NoSuchVersion, SeekfsError
from seekfs_core.explain import NOTED_MAX, ReadNotes
from seekfs_core.fetch_messages import FetchStatistics
from seekfs_core.manifest import FileEntry, Manifest, pack_crcs
from seekfs_core.plan import ReadPlan
from seekfs_core.readiness import Readiness
from seekfs_core.retention import Refusal
from seekfs_io.dataplane import FetchedObject, PlaneStatistics, StagedPage
from seekfs_io.objects.base import ObjectStat
from seekfs_io.pages.base import TierStatistics
from seekfs_io.resolving import Resolution

PAGE_BYTES = 64 * 1024


def entry(path: str, content: bytes, sha256: bytes) -> FileEntry:
    pages = [content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES)]
    return FileEntry(
        path=path,
        size=len(content),
        sha256=sha256,
        page_size_bytes=min(PAGE_BYTES, len(content)),
        crcs=pack_crcs(crc32c.crc32c(page) for page in pages),
        storage_key=f"namespaces/dev/files/{path}",
    )


class MemoryStream:
    """Views of at most one page, in one buffer that the next step overwrites."""

    def __init__(self, plane: MemoryPlane, plan: ReadPlan, label: str, noted_max: int) -> None:
        self._plane = plane
        self._plan = plan
        self.notes = ReadNotes("dev", 7, 0.0, label, noted_max)
        self._pages = 0
        self.closed = 0

    def _pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        buffer = bytearray(PAGE_BYTES)
        for _, file, page_id, begin, end in self._plan.slices(start, stop):
            if self._pages == self._plane.ends_after_pages:
                return
            if self._pages == self._plane.fails_after_pages:
                if isinstance(self._plane.failure, SeekfsError):
                    self.notes.failed(self._plane.failure)
                raise self._plane.failure
            self.notes.page(file.path, page_id, "store")
            at = page_id * PAGE_BYTES
            buffer[: end - begin] = self._plane.files[file.path][at + begin : at + end]
            view = memoryview(buffer)[: end - begin]
            try:
                yield view
            finally:
                view.release()
            self._pages += 1

    def __iter__(self) -> Iterator[memoryview]:
        return self._pieces(0, len(self._plan.extents))

    def item(self, index: int) -> Iterator[memoryview]:
        return self._pieces(index, index + 1)

    def close(self) -> None:
        self.closed += 1


@define
class MemoryPlane:
    """Namespace ``dev``, version 7. ``failure`` is raised once ``fails_after_pages`` pages went out; after
    ``ends_after_pages`` a read ends, as no plane should."""

    files: dict[str, bytes]
    fails_after_pages: int | None = None
    ends_after_pages: int | None = None
    failure: Exception = field(factory=lambda: SeekfsError("unset"))
    resolve_failure: Exception | None = None
    stale: bool = False
    readiness_answer: Readiness = field(factory=lambda: Readiness(ready=True, reasons=()))
    streams: list[MemoryStream] = field(factory=list)
    calls: list[tuple[Any, ...]] = field(factory=list)
    closed_within: float | None = None

    def hash_of(self, path: str) -> str:
        return self.resolve("dev").manifest.file(path).hash_text

    def resolve(self, ns: str, version: int | None = None) -> Resolution:
        if self.resolve_failure is not None:
            raise self.resolve_failure
        if ns != "dev":
            raise NoSuchNamespace(f"there is no namespace {ns!r}", ns=ns)
        if version not in (None, 7):
            raise NoSuchVersion(f"{ns!r} has no version {version}", ns=ns, version=version)
        files = {path: entry(path, content, bytes([len(path)]) * 32) for path, content in self.files.items()}
        return Resolution("dev", 7, Manifest(ns="dev", version=7, files=files), self.stale)

    def read(self, plan: ReadPlan, label: str = "", noted_max: int = NOTED_MAX) -> MemoryStream:
        self.streams.append(MemoryStream(self, plan, label, noted_max))
        return self.streams[-1]

    def slow_reads(self) -> dict[str, list[dict[str, Any]]]:
        return {"slowest": [{"request_id": "1"}], "failed": []}

    def stat_object(self, key: str) -> ObjectStat:
        self.calls.append(("stat", key))
        return ObjectStat(key=key, size=1000, etag='"e"', last_modified="2026-01-31T12:00:00Z")

    def fetch_object(self, key: str, start: int = 0, stop: int | None = None) -> FetchedObject:
        self.calls.append(("fetch", key, start, stop))
        return FetchedObject(
            key=key, start=start, bytes_received=(stop or 0) - start, seconds=0.25, status=206
        )

    def stage_page(self, ns: str, path: str, page_id: int) -> StagedPage:
        self.calls.append(("stage", ns, path, page_id))
        return StagedPage(page_id=page_id, off=0, len=5, crc32c=9, tier="l2", bytes_fetched=5)

    def readiness(self) -> Readiness:
        return self.readiness_answer

    def advice(self) -> list[dict[str, Any]]:
        return [{"ns": "dev", "version": 7}]

    def statistics(self) -> PlaneStatistics:
        fetch = FetchStatistics(
            gets_started=11,
            calls_started=2,
            gets_retried=1,
            hedges_started=7,
            hedges_won=3,
            pages_delivered=30,
            pages_refused=3,
            outcomes={"ok": 9, "busy": 2},
            budget_waits=4,
            rate_per_second=200.0,
            breaker_opened=2,
            is_breaker_open=True,
            in_flight=5,
            queued=6,
            room_bytes_used=700,
            room_bytes_max=800,
        )
        return PlaneStatistics(
            fetch=fetch,
            reads=12,
            pages_from={"l1": 1, "l2": 2, "store": 3},
            bytes_from={"l1": 10, "l2": 20, "store": 30},
            bytes_from_store=31,
            bytes_asked_of_store=32,
            write_behind_bytes=64,
            writes_skipped=2,
            tiers=(
                TierStatistics(name="ram", bytes_held=1, bytes_ceiling=2, pages_held=3),
                TierStatistics(
                    name="segmentstore",
                    bytes_held=4,
                    bytes_ceiling=5,
                    pages_held=6,
                    refusals={Refusal.OFF: 7},
                    off_because="full",
                ),
            ),
        )

    def close(self, timeout_seconds: float) -> None:
        self.closed_within = timeout_seconds
