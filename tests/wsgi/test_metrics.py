"""seekfs_wsgi.metrics and plane_metrics: what is counted, under which names, as Prometheus reads it."""

from __future__ import annotations

from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import Client

from seekfs_core.errors import FailureKind
from seekfs_core.retention import Refusal
from seekfs_core.tier_counts import CACHES
from seekfs_io.config import Config
from seekfs_io.dataplane import DataPlane
from seekfs_wsgi.app import Application
from tests.wsgi.memory_plane import MemoryPlane

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def client() -> Client:
    plane = MemoryPlane({"a": b"0123456789", "big": bytes(200_000)})
    return Client(LintMiddleware(Application(cast("DataPlane", plane), Config())))


def scrape(client: Client) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("seekfs_store_requests_started_total", {"kind": "pages"}, 11),
        ("seekfs_store_requests_started_total", {"kind": "other"}, 2),
        ("seekfs_store_requests_total", {"outcome": "ok"}, 9),
        ("seekfs_store_requests_total", {"outcome": "busy"}, 2),
        ("seekfs_store_requests_total", {"outcome": "timed_out"}, 0),
        ("seekfs_store_retries_total", {}, 1),
        ("seekfs_store_bytes_received_total", {}, 31),
        ("seekfs_store_bytes_requested_total", {}, 32),
        ("seekfs_store_pages_delivered_total", {}, 30),
        ("seekfs_store_pages_corrupt_total", {}, 3),
        ("seekfs_get_budget_waits_total", {}, 4),
        ("seekfs_store_requests_in_flight", {}, 5),
        ("seekfs_store_requests_queued", {}, 6),
        ("seekfs_inflight_bytes", {}, 700),
        ("seekfs_inflight_ceiling_bytes", {}, 800),
        ("seekfs_write_behind_bytes", {}, 64),
        ("seekfs_write_behind_skipped_pages_total", {}, 2),
        ("seekfs_reads_total", {}, 12),
        ("seekfs_read_pages_total", {"tier": "l2"}, 2),
        ("seekfs_tier_hits_total", {"tier": "l1"}, 1),
        ("seekfs_tier_misses_total", {"tier": "l1"}, 5),
        ("seekfs_tier_hits_total", {"tier": "l2"}, 2),
        ("seekfs_tier_misses_total", {"tier": "l2"}, 3),
        ("seekfs_read_bytes_total", {"tier": "l1"}, 10),
        ("seekfs_read_bytes_total", {"tier": "store"}, 30),
        ("seekfs_tier_bytes", {"tier": "l1"}, 1),
        ("seekfs_tier_ceiling_bytes", {"tier": "l2"}, 5),
        ("seekfs_tier_pages", {"tier": "l2"}, 6),
        ("seekfs_tier_up", {"tier": "l1"}, 1),
        ("seekfs_tier_up", {"tier": "l2"}, 0),
    ],
)
def test_what_the_plane_counts(client: Client, name: str, labels: dict[str, str], expected: float) -> None:
    assert value(scrape(client), name, **labels) == expected


def test_every_outcome_of_a_request_has_its_line_from_the_start(client: Client) -> None:
    samples = scrape(client)
    for outcome in ("ok", *(kind.value for kind in FailureKind)):
        expected = {"ok": 9, "busy": 2}.get(outcome, 0)
        assert value(samples, "seekfs_store_requests_total", outcome=outcome) == expected


def test_every_reason_of_a_tier_to_refuse_a_page_has_its_line_from_the_start(client: Client) -> None:
    samples = scrape(client)
    for tier in CACHES:
        for reason in Refusal:
            expected = 7 if (tier, reason) == ("l2", Refusal.OFF) else 0
            name = "seekfs_tier_pages_refused_total"
            assert value(samples, name, tier=tier, reason=reason.value) == expected


def test_requests_by_endpoint_and_class(client: Client) -> None:
    client.get("/blob?ns=dev&path=a")
    client.get("/blob?ns=dev&path=a")
    client.get("/blob?ns=dev&path=none")
    client.get("/blob?ns=dev&path=a", headers={"If-None-Match": "*"})
    client.get("/nowhere")
    client.post("/healthz")
    samples = scrape(client)
    count = "seekfs_http_request_duration_seconds_count"
    assert value(samples, count, endpoint="/blob", status="2xx") == 2
    assert value(samples, count, endpoint="/blob", status="3xx") == 1
    assert value(samples, count, endpoint="/blob", status="4xx") == 1
    assert value(samples, count, endpoint="/healthz", status="4xx") == 1
    assert value(samples, count, endpoint="other", status="4xx") == 1
    assert value(samples, count, endpoint="/readv", status="2xx") == 0


def test_the_first_byte_of_what_is_streamed(client: Client) -> None:
    client.get("/blob?ns=dev&path=a")
    assert client.get("/blob?ns=dev&path=big", buffered=True).data
    assert value(scrape(client), "seekfs_http_first_byte_seconds_count", endpoint="/blob") == 1


def test_bytes_of_bodies(client: Client) -> None:
    assert len(client.get("/blob?ns=dev&path=big", buffered=True).data) == 200_000
    client.head("/blob?ns=dev&path=big")
    client.get("/blob?ns=dev&path=a&len=3")
    assert value(scrape(client), "seekfs_http_body_bytes_total", endpoint="/blob") == 200_003


def test_requests_in_flight_come_back_to_one(client: Client) -> None:
    for target in [
        "/blob?ns=dev&path=a",
        "/blob?ns=dev&path=none",
        "/blob?ns=dev&path=big",
        "/none",
        "/readyz",
    ]:
        assert client.get(target, buffered=True).data
    # The scrape itself.
    assert value(scrape(client), "seekfs_http_requests_in_flight") == 1


def test_no_answer_was_cut_off(client: Client) -> None:
    assert client.get("/blob?ns=dev&path=big", buffered=True).data
    assert value(scrape(client), "seekfs_http_answers_cut_off_total", endpoint="/blob") == 0
