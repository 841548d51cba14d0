"""For pytest in a copy: write down which tests fail, as they do, and look for no smaller examples."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase

hypothesis.settings.register_profile(
    "planted",
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
hypothesis.settings.load_profile("planted")


def is_search(item: pytest.Item) -> bool:
    """Whether Hypothesis, or a generator with a seed, looks for what breaks a promise."""
    function = getattr(item, "obj", None)
    is_stateful = item.name == "runTest"
    is_seeded = "_simulated" in item.nodeid or "_near_the_optimum" in item.nodeid
    return is_stateful or is_seeded or hasattr(function, "hypothesis")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        with open(Path.cwd() / "failed.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"name": item.nodeid, "is_search": is_search(item)}) + "\n")
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        with open(Path.cwd() / "failed.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"name": report.nodeid, "is_search": False}) + "\n")
