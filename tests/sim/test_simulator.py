"""The simulator says what it does, gives the same for the same seed, and does not look away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tests.sim.__main__ as command
from tests.sim import running
from tests.sim.options import options_of
from tests.sim.oracles import Violation
from tests.sim.recording import TraceRecorder
from tests.sim.world import World, simulate

ROOT = Path(__file__).parents[2]


def digest(hash_seed: str, *, seeds: int, start: int) -> str:
    """Of a process of its own, whose sets and dictionaries are in another order."""
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", "--digest", "--seeds", str(seeds), "--start", str(start)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


def trace_of(seed: int) -> bytes:
    pieces: list[bytes] = []
    recorder = TraceRecorder(pieces.append)
    simulate(seed, recorder)
    recorder.end()
    return b"".join(pieces)


def test_the_same_seed_is_the_same_trace_byte_for_byte() -> None:
    assert trace_of(7) == trace_of(7)
    assert trace_of(7) != trace_of(8)


@pytest.mark.parametrize("seeds", [range(start, start + 8) for start in range(0, 40, 8)], ids=str)
def test_the_first_seeds_keep_every_promise(seeds: range) -> None:
    """A few, so that what breaks a promise is found here too; ``just sim`` simulates thousands."""
    for seed in seeds:
        world = simulate(seed)
        assert world.reads_begun > 0


def test_the_order_of_sets_is_in_no_trace() -> None:
    one, another = digest("1", seeds=4, start=20), digest("2", seeds=4, start=20)
    assert one == another
    assert "bytes of traces, seeds 20 to 23" in one


def test_one_seed_is_said_first_with_all_that_it_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seeds", "1", "--start", "5"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"seed 5: {options_of(5).text()}"
    assert first.startswith("seed 5: seed=5, is_calm=")
    assert "reads, " in last


def test_many_seeds_are_counted_and_what_they_never_came_to_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(["--seeds", "3", "--start", "30", "--jobs", "1"]) == 0
    said = capsys.readouterr().out
    assert "3 seeds, " in said
    assert ", 0 violations, " in said
    assert "never reached: " in said
    monkeypatch.setattr(command, "SEEDS_FOR_ALL", 3)
    assert command.main(["--seeds", "3", "--start", "30", "--jobs", "1"]) == 1


def test_a_violation_ends_the_command_with_the_seed_that_shows_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_is_wrong(seed: int) -> World:
        if seed == 41:
            raise Violation("version 3 in place of 2")
        return simulate(seed)

    monkeypatch.setattr(running, "simulate", one_is_wrong)
    assert command.main(["--seeds", "3", "--start", "40", "--jobs", "1"]) == 1
    said = capsys.readouterr().out
    assert f"seed 41: {options_of(41).text()}" in said
    assert "Violation: version 3 in place of 2" in said
    assert "again: python -m tests.sim --seeds 1 --start 41" in said
    assert "3 seeds, " in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--seeds", "0"], "--seeds and --jobs are at least 1, --start at least 0"),
        (["--start", "-1"], "--seeds and --jobs are at least 1, --start at least 0"),
        (["--jobs", "0"], "--seeds and --jobs are at least 1, --start at least 0"),
        (["--seeds", "2", "--trace", "file"], "--trace is for one seed: --seeds 1"),
    ],
)
def test_impossible_arguments_are_a_sentence(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    assert end.value.code == 2
    assert f"just sim: error: {why}" in capsys.readouterr().err
