"""What ``just bench`` runs, at its own size: one round of it, to the end. What it measures is not judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_cold_and_warm_measures_every_way_and_leaves_nothing(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.cold_and_warm", "--rounds", "1"],
        cwd=REPOSITORY,
        env={"PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    rows = [line.split("│")[1].strip() for line in result.stdout.splitlines() if line.startswith("│")]
    assert rows == ["direct", "cold", "L1", "L2", "direct", "L1", "L2"]
    assert list(tmp_path.iterdir()) == []
