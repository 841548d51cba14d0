"""The data plane's statistics as metric families.

A tier is ``l1`` (RAM), ``l2`` (disk, or the memory that stands in for one) or ``store``. Requests are GETs
and HEADs to the object store, all of which the budget pays for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from seekfs_core.errors import FailureKind
from seekfs_core.retention import Refusal
from seekfs_core.tier_counts import CACHES, looks_of

if TYPE_CHECKING:
    from seekfs_io.dataplane import PlaneStatistics
    from seekfs_io.pages.base import TierStatistics

OUTCOMES = ("ok", *(kind.value for kind in FailureKind))
"""Always present, so that a rate over one that has not happened yet is 0 and not nothing."""


def families_of(statistics: PlaneStatistics) -> Iterator[Metric]:
    """Every family, in a fixed order; counters count from the start of the process."""
    yield from _store(statistics)
    yield from _reads(statistics)
    yield from _tiers(statistics.tiers)


def _store(statistics: PlaneStatistics) -> Iterator[Metric]:
    fetch = statistics.fetch
    started = _counter("store_requests_started", "Requests to the object store that were begun", "kind")
    started.add_metric(["pages"], fetch.gets_started)
    started.add_metric(["other"], fetch.calls_started)
    yield started

    ended = _counter("store_requests", "Requests to the object store that have ended", "outcome")
    for outcome in OUTCOMES:
        ended.add_metric([outcome], fetch.outcomes.get(outcome, 0))
    yield ended

    yield _count("store_retries", "Requests for pages that were made again", fetch.gets_retried)
    yield _count("store_hedges", "GETs made beside one whose first byte was late", fetch.hedges_started)
    yield _count("store_hedges_won", "Such GETs that were answered first", fetch.hedges_won)
    yield _count("breaker_opened", "Times that the store was not asked any more", fetch.breaker_opened)
    yield _gauge("breaker_open", "1 while nothing but probes is asked of the store", fetch.is_breaker_open)
    yield _count(
        "store_bytes_received", "Bytes of pages that the object store sent", statistics.bytes_from_store
    )
    yield _count(
        "store_bytes_requested",
        "Bytes of pages that the object store was asked for",
        statistics.bytes_asked_of_store,
    )
    yield _count(
        "store_pages_delivered", "Pages that came from the store with the right CRC", fetch.pages_delivered
    )
    yield _count(
        "store_pages_corrupt", "Pages that came from the store with a wrong CRC", fetch.pages_refused
    )
    yield _count(
        "get_budget_waits", "Times that a request had to wait for the GET budget", fetch.budget_waits
    )
    yield _gauge(
        "store_request_rate_ceiling",
        "Requests that may start a second: the budget's rate, or less after 503 and 429",
        fetch.rate_per_second,
    )
    yield _gauge("store_requests_in_flight", "Requests to the object store now", fetch.in_flight)
    yield _gauge("store_requests_queued", "Requests to the object store that wait to begin", fetch.queued)
    yield _gauge("inflight_bytes", "Page buffers in use, in bytes", fetch.room_bytes_used)
    yield _gauge("inflight_ceiling_bytes", "Page buffers that may be in use, in bytes", fetch.room_bytes_max)
    yield _gauge("write_behind_bytes", "Pages that wait to be written to disk", statistics.write_behind_bytes)
    yield _count(
        "write_behind_skipped_pages",
        "Pages that were not written to disk because too many waited",
        statistics.writes_skipped,
    )


def _reads(statistics: PlaneStatistics) -> Iterator[Metric]:
    yield _count("reads", "Reads that have ended", statistics.reads)
    pages = _counter("read_pages", "Pages that reads touched, by where they were found", "tier")
    for tier, count in statistics.pages_from.items():
        pages.add_metric([tier], count)
    yield pages
    hits = _counter("tier_hits", "Pages that reads found in a tier", "tier")
    misses = _counter("tier_misses", "Pages that reads looked for in a tier and did not find", "tier")
    for tier, looks in looks_of(statistics.pages_from).items():
        hits.add_metric([tier], looks.hits)
        misses.add_metric([tier], looks.misses)
    yield from (hits, misses)
    taken = _counter("read_bytes", "Bytes that reads took, by where they were found", "tier")
    for tier, count in statistics.bytes_from.items():
        taken.add_metric([tier], count)
    yield taken


def _tiers(tiers: tuple[TierStatistics, ...]) -> Iterator[Metric]:
    held = _gauge_of("tier_bytes", "Bytes that a tier holds")
    ceiling = _gauge_of("tier_ceiling_bytes", "Bytes that a tier may hold")
    pages = _gauge_of("tier_pages", "Pages that a tier holds")
    up = _gauge_of("tier_up", "1 while a tier serves, 0 when it has turned itself off")
    written = _counter("tier_pages_written", "Pages that a tier took in", "tier")
    refused = _counter("tier_pages_refused", "Pages that a tier did not admit", "tier", "reason")
    evicted = _counter("tier_pages_evicted", "Pages that a tier gave up for others", "tier")
    corrupt = _counter("tier_crc_failures", "Pages that a tier found to be wrong", "tier")
    faults = _counter("tier_faults", "Pages that a tier could not read or write", "tier")
    for cache, tier in zip(CACHES, tiers, strict=True):
        name = [cache]
        held.add_metric(name, tier.bytes_held)
        ceiling.add_metric(name, tier.bytes_ceiling)
        pages.add_metric(name, tier.pages_held)
        up.add_metric(name, tier.off_because is None)
        written.add_metric(name, tier.pages_written)
        for reason in Refusal:
            refused.add_metric([cache, reason.value], tier.refusals.get(reason, 0))
        evicted.add_metric(name, tier.pages_evicted)
        corrupt.add_metric(name, tier.crc_failures)
        faults.add_metric(name, tier.faults)
    yield from (held, ceiling, pages, up, written, refused, evicted, corrupt, faults)


def _counter(name: str, what: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"seekfs_{name}", what, labels=labels)


def _count(name: str, what: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"seekfs_{name}", what, value=value)


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"seekfs_{name}", what, value=value)


def _gauge_of(name: str, what: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"seekfs_{name}", what, labels=("tier",))
