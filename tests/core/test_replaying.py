"""A recorded trace as a unit test of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seekfs_core.errors import TraceError
from seekfs_core.testing import replay
from tests.core.test_trace import TRACE, altered


def test_a_trace_that_replays_alike_says_what_was_replayed(tmp_path: Path) -> None:
    (tmp_path / "good.trace").write_bytes(TRACE)
    for path in (tmp_path / "good.trace", str(tmp_path / "good.trace")):
        replayed = replay(path)
        assert replayed.difference is None
        assert replayed.events == 11


def test_the_first_difference_fails_the_test_that_replays(tmp_path: Path) -> None:
    def later(_: int, record: Any) -> Any:
        if record[0] == "fed" and record[1] == 1 and record[2] == 10.0:
            record[2] = 10.25
        return record

    path = tmp_path / "altered.trace"
    path.write_bytes(altered(TRACE, later))
    with pytest.raises(AssertionError, match="expected"):
        replay(path)


def test_what_is_no_trace_is_refused_and_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.trace").write_bytes(b"")
    with pytest.raises(TraceError):
        replay(tmp_path / "empty.trace")
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "nothing.trace")
