"""One figure of a daemon's ``/metrics``."""

from __future__ import annotations

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import Daemon


def metric(daemon: Daemon, name: str, **labels: str) -> float:
    """The value of the sample ``name`` with exactly these labels; AssertionError if there is none."""
    text = requests.get(f"{daemon.url}/metrics", timeout=30).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    raise AssertionError(f"no {name} with {labels} in:\n{text}")
