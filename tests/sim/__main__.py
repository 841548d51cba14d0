"""Simulate many seeds: ``just sim``, ``python -m tests.sim --seeds 2000 --start 0 --jobs 2``.

Prints what it is about to do, every violation with its seed and options, and at the end what was reached.
Ends with 1 where a promise did not hold, or where something that every large run comes to was never reached.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.sim.options import options_of
from tests.sim.reach import REACHED_BY_OTHERS, expected
from tests.sim.recording import TraceRecorder
from tests.sim.running import Tally, tallies
from tests.sim.world import simulate

SEEDS_FOR_ALL = 2000
"""From this many seeds on everything has to be reached."""

LINES_SECONDS = 30.0


def _run(seeds: range, jobs: int, *, must_reach_all: bool) -> int:
    began = told = time.monotonic()
    whole = Tally()
    for tally in tallies(seeds, jobs):
        for failure in tally.failures:
            print(f"\nseed {failure.seed}: {options_of(failure.seed).text()}\n{failure.what}", flush=True)
        whole.add(tally)
        if time.monotonic() > told + LINES_SECONDS:
            told = time.monotonic()
            print(f"{whole.seeds:,} of {len(seeds):,} seeds, {len(whole.failures)} violations", flush=True)
    missing = [name for name in expected() if not whole.seen[name]]
    seconds = time.monotonic() - began
    reads = (
        f"{sum(whole.reads):,} reads, {median(whole.reads):g} in the median seed"
        if whole.reads
        else "no reads"
    )
    print(f"{whole.seeds:,} seeds, {reads}, {len(whole.failures)} violations, {seconds:.0f} s")
    print(
        f"reached {len(expected()) - len(missing)} of {len(expected())} failures, messages and rows of tables"
    )
    for name, why in REACHED_BY_OTHERS.items():
        print(f"not of this world: {name} ({why})")
    for name in missing:
        print(f"never reached: {name}")
    if whole.failures:
        print("again: python -m tests.sim --seeds 1 --start " + str(whole.failures[0].seed))
    return 1 if whole.failures or (missing and must_reach_all) else 0


def _report(seeds: range, jobs: int) -> None:
    """How often everything was seen, for who looks for what is rare."""
    whole = Tally()
    for tally in tallies(seeds, jobs):
        whole.add(tally)
    for name in sorted({*whole.seen, *expected()}):
        print(f"{whole.seen[name]:>12,}  {name}")


def _digest(seeds: range) -> None:
    """The SHA-256 of the traces of these seeds, which is the same wherever they are simulated."""
    digest = hashlib.sha256()
    length = 0
    for seed in seeds:
        pieces: list[bytes] = []
        recorder = TraceRecorder(pieces.append)
        simulate(seed, recorder)
        recorder.end()
        length += sum(map(len, pieces))
        for piece in pieces:
            digest.update(piece)
    print(f"{digest.hexdigest()}  {length} bytes of traces, seeds {seeds.start} to {seeds.stop - 1}")


def _one(seed: int, trace: Path | None) -> int:
    print(f"seed {seed}: {options_of(seed).text()}", flush=True)
    if trace is None:
        world = simulate(seed)
    else:
        with open(trace, "wb") as file:
            recorder = TraceRecorder(file.write)
            try:
                world = simulate(seed, recorder)
            finally:
                recorder.end()
    print(f"{world.reads_begun} reads, {world.reads_failed} failed; {world.clock.now:.0f} virtual seconds")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="just sim", description="Simulate whole nodes from seeds.")
    parser.add_argument("--seeds", type=int, default=20_000, metavar="N", help="how many (20000)")
    parser.add_argument("--start", type=int, default=0, metavar="N", help="the first one (0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="record the one seed, for `seekfs trace show`"
    )
    parser.add_argument(
        "--digest", action="store_true", help="print the SHA-256 of the traces, and nothing else"
    )
    parser.add_argument("--report", action="store_true", help="print how often everything was seen")
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1 or arguments.start < 0 or arguments.jobs < 1:
        parser.error("--seeds and --jobs are at least 1, --start at least 0")
    if arguments.trace is not None and arguments.seeds != 1:
        parser.error("--trace is for one seed: --seeds 1")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """The status to end with."""
    arguments = _arguments(argv)
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    if arguments.digest:
        _digest(seeds)
        return 0
    if arguments.report:
        _report(seeds, arguments.jobs)
        return 0
    if len(seeds) == 1:
        return _one(arguments.start, arguments.trace)
    python = f"Python {platform.python_version()}"
    print(f"seeds {seeds.start} to {seeds.stop - 1}, {arguments.jobs} processes, {python}", flush=True)
    return _run(seeds, arguments.jobs, must_reach_all=len(seeds) >= SEEDS_FOR_ALL)


if __name__ == "__main__":
    sys.exit(main())
