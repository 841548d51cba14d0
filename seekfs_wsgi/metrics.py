"""``/metrics``: what the daemon did and holds, for Prometheus.

Two sources. Requests are counted here, as they are answered. Everything else is the data plane's: its
``statistics()`` is read once a scrape and turned into metric families (``seekfs_wsgi.plane_metrics``), so a
counter exists once, where it is counted, and a scrape costs the reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from seekfs_wsgi.exchange import Answer, Request
from seekfs_wsgi.plane_metrics import families_of
from seekfs_wsgi.query import parse_query

if TYPE_CHECKING:
    from seekfs_io.dataplane import DataPlane

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BUCKETS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip
"""From a warm 4 KiB read to the default deadline."""


class _PlaneCollector(Collector):
    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def collect(self) -> Iterator[Metric]:
        return families_of(self._plane.statistics())

    def describe(self) -> Iterator[Metric]:
        # Registering would otherwise collect once, to learn the names.
        return iter(())


class Metrics:
    """The endpoint ``/metrics``, and where answered requests are noted."""

    def __init__(self, plane: DataPlane, endpoints: tuple[str, ...]) -> None:
        """``endpoints`` are the values of the label, one more stands for all other paths."""
        self._registry = CollectorRegistry()
        self._registry.register(_PlaneCollector(plane))
        self._all_seconds = Histogram(
            "seekfs_http_request_duration_seconds",
            "From the request's head to the last byte of its answer",
            ("endpoint", "status"),
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=self._registry,
        )
        first_byte = Histogram(
            "seekfs_http_first_byte_seconds",
            "From the request's head to the first piece of an answer that is streamed (64 KiB and more)",
            ("endpoint",),
            buckets=LATENCY_BUCKETS_SECONDS,
            registry=self._registry,
        )
        cut_off = Counter(
            "seekfs_http_answers_cut_off_total",
            "Answers that ended before their last byte: a failure half-way, or a client that left",
            ("endpoint",),
            registry=self._registry,
        )
        sent = Counter(
            "seekfs_http_body_bytes_total",
            "Bytes of answers' bodies handed to clients, framing not counted",
            ("endpoint",),
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "seekfs_http_requests_in_flight", "Requests being answered now", registry=self._registry
        )
        # Finding a labelled child takes longer than counting: once, not at every request. What went well is
        # there from the start; most other pairs never happen, and twenty lines each would only be noise.
        self._seconds = {(endpoint, 2): self._all_seconds.labels(endpoint, "2xx") for endpoint in endpoints}
        self._first_byte = {endpoint: first_byte.labels(endpoint) for endpoint in endpoints}
        self._cut_off = {endpoint: cut_off.labels(endpoint) for endpoint in endpoints}
        self._sent = {endpoint: sent.labels(endpoint) for endpoint in endpoints}

    def __call__(self, request: Request) -> Answer:
        parse_query(request.query, frozenset())
        body = generate_latest(self._registry)
        return Answer(200, CONTENT_TYPE, body, [("Cache-Control", "no-store")], len(body))

    def note_answer(self, endpoint: str, status: int, seconds: float, bytes_sent: int) -> None:
        """One request has been answered, to its last byte or not."""
        kind = status // 100
        child = self._seconds.get((endpoint, kind))
        if child is None:
            child = self._seconds[endpoint, kind] = self._all_seconds.labels(endpoint, f"{kind}xx")
        child.observe(seconds)
        if bytes_sent:
            self._sent[endpoint].inc(bytes_sent)

    def note_first_byte(self, endpoint: str, seconds: float) -> None:
        """A streamed answer has its first piece."""
        self._first_byte[endpoint].observe(seconds)

    def note_cut_off(self, endpoint: str) -> None:
        """An answer ended before its last byte."""
        self._cut_off[endpoint].inc()
