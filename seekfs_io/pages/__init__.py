"""Where pages live between reads: RAM (``ram``), local disk (``segmentstore``) or memory standing
in for a disk (``memory``), and the manifests kept beside them (``shelf``).

All L2s are a ``PageStore`` (``base``). The one on disk lies in a ``directory`` that is claimed, has an
``index``, a ``segment_file`` for each segment with ``segment_records`` in it (``segment_format``), and is
opened by ``recovery``;
``hits`` are told to the tiers' policies a little later;
``tier_switch`` turns it off while the disk fails, and ``disk_calls`` says so of one that hangs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from seekfs_core.errors import Problem
from seekfs_core.heads import bucket_identity, server_at, server_in
from seekfs_core.memory_layout import MemoryShares, memory_shares_of
from seekfs_core.patience import disk_seconds
from seekfs_core.segment_layout import shares_of
from seekfs_io.config import Config, ConfigError, S3Config, small_ceilings
from seekfs_io.pages.base import PageStore
from seekfs_io.pages.directory import CacheRefused, claim
from seekfs_io.pages.memory import MemoryPageStore
from seekfs_io.pages.segmentstore import open_segment_store
from seekfs_io.pages.shelf import ManifestShelf, MemoryShelf, Shelf
from seekfs_io.tracing import NO_TRACE, NoTrace

__all__ = ["identity_of", "memory_shares", "open_page_store", "open_shelf"]


def memory_shares(config: Config) -> MemoryShares:
    """How the memory of pages is divided between L1 and what the backend of L2 keeps in memory."""
    return memory_shares_of(config.cache.l1_memory_bytes, holds_l2=config.cache.l2.backend == "mem")


def open_page_store(
    config: Config, *, clock: Callable[[], float] = time.monotonic, tracer: NoTrace = NO_TRACE
) -> PageStore:
    """The L2 that the configuration asks for; ``ConfigError`` in a sentence if it cannot be.

    ``mem`` has half of ``l1_memory_gib``, its shelf included. ``clock`` counts monotonic seconds.
    """
    cache = config.cache
    # Of a configuration that was loaded nothing is left to be found; embedders may make one by hand.
    if problems := tuple(small_ceilings(cache)):
        raise ConfigError(problems)
    if cache.l2.backend == "mem":
        return MemoryPageStore(memory_shares(config).l2_bytes, clock=clock, tracer=tracer)
    try:
        return open_segment_store(
            cache.l2.segment_path,
            cache.l2_ssd_bytes,
            clock=clock,
            answer_seconds_max=disk_seconds(config.api.request_deadline_sec),
            tracer=tracer,
        )
    except CacheRefused as refused:
        raise ConfigError((Problem(refused.key, refused.detail),)) from None


def open_shelf(config: Config, *, tracer: NoTrace = NO_TRACE) -> Shelf:
    """The shelf of manifests beside that L2; ``ConfigError`` in a sentence if it cannot be."""
    cache = config.cache
    if cache.l2.backend == "mem":
        return MemoryShelf(memory_shares(config).shelf_bytes, pins=config.manifest.pins)
    try:
        directory = claim(cache.l2.segment_path)
        try:
            directory.use("shelf")
        except CacheRefused:
            directory.release()
            raise
    except CacheRefused as refused:
        raise ConfigError((Problem(refused.key, refused.detail),)) from None
    return ManifestShelf(
        directory.shelf_path,
        shares_of(cache.l2_ssd_bytes).shelf_bytes,
        bucket=identity_of(config.s3),
        pins=config.manifest.pins,
        claimed=directory,
        answer_seconds_max=disk_seconds(config.api.request_deadline_sec),
        tracer=tracer,
    )


def identity_of(s3: S3Config) -> bytes:
    """Which bucket this is, as the shelf notes it."""
    if s3.engine == "file":
        server = server_in(os.path.realpath(s3.file_root))  # As the engine itself resolves it.
    else:
        server = server_at(s3.endpoint, s3.region)
    return bucket_identity(server, s3.bucket)
