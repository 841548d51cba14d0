"""What the recipes of the benchmarks run, briefly, and to the end. What is measured is not judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def run(directory: Path, module: str, *arguments: str) -> str:
    """What it prints; nothing may be left of it but what libraries keep at home."""
    home, temporary = directory / "home", directory / "tmp"
    home.mkdir()
    temporary.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env={"PATH": str(Path(sys.executable).parent), "HOME": str(home), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert list(temporary.iterdir()) == []
    return result.stdout


@pytest.mark.timeout(240)
def test_cold_and_warm_measures_every_way(tmp_path: Path) -> None:
    said = run(tmp_path, "benchmarks.cold_and_warm", "--rounds", "1")
    rows = [line.split("│")[1].strip() for line in said.splitlines() if line.startswith("│")]
    assert rows == ["direct", "cold", "L1", "L2", "direct", "L1", "L2"]
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.timeout(240)
def test_late_gets_measures_the_tail_with_hedging_and_without(tmp_path: Path) -> None:
    said = run(tmp_path, "benchmarks.late_gets", "--rounds", "1")
    assert "p99" in said


@pytest.mark.timeout(240)
def test_storm_draws_the_rate_over_time(tmp_path: Path) -> None:
    plot = tmp_path / "storm.svg"
    run(tmp_path, "benchmarks.storm", "--seconds", "3", "--plot", str(plot))
    assert "<svg" in plot.read_text(encoding="utf-8")


@pytest.mark.timeout(240)
def test_warm_path_measures_every_way(tmp_path: Path) -> None:
    said = run(tmp_path, "benchmarks.warm_path", "--rounds", "1", "--before", str(REPOSITORY))
    assert [line.split(":")[0].strip() for line in said.splitlines()] == ["off", "on", "before"]
