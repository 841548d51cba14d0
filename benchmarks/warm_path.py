"""What recording a trace costs a read whose page is in RAM: the warm path with ``[trace]`` off and on.

Processes take turns, each with a data plane of its own over the same version: all pages are read once, then
small slices at random. With ``--before DIR``, a checkout of another version, that one takes its turns too.
benchmarks/README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

PAGE_BYTES: Final = 1 << 20
PAGES: Final = 64
SLICE_BYTES: Final = 64 << 10
READS: Final = 20_000
WAYS: Final = ("off", "on", "before")
ROOT: Final = Path(__file__).resolve().parents[1]


def read_warm(config: str) -> float:
    """In a process of its own: microseconds that one read takes."""
    from seekfs_core.plan import plan_read
    from seekfs_io.config import load_config
    from seekfs_io.dataplane import DataPlane

    plane = DataPlane(load_config(config))
    chance = random.Random(1)
    try:
        manifest = plane.resolve("bench").manifest
        with plane.read(plan_read(manifest, [("noise", 0, PAGES * PAGE_BYTES)], clip=False)) as stream:
            for _ in stream:
                pass
        offsets = [chance.randrange(PAGES * PAGE_BYTES - SLICE_BYTES) for _ in range(READS)]
        began = time.perf_counter()
        for offset in offsets:
            plan = plan_read(plane.resolve("bench").manifest, [("noise", offset, SLICE_BYTES)], clip=False)
            with plane.read(plan) as stream:
                for _ in stream:
                    pass
        return (time.perf_counter() - began) / READS * 1e6
    finally:
        plane.close(5.0)


def _once(checkout: Path, config: Path) -> float:
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


def measure(directory: Path, rounds: int, before: Path | None) -> dict[str, list[float]]:
    """Microseconds of a read by way, a value a round."""
    from benchmarks.rig import publish, write_config, write_noise
    from seekfs_io.devserver import DevServer

    times: dict[str, list[float]] = {way: [] for way in WAYS if way != "before" or before is not None}
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(DevServer(directory=directory / "s3"))
        configs = {way: directory / f"{way}.toml" for way in times}
        for way, config in configs.items():
            write_config(config, server.s3_config(), directory / f"l2-{way}", slab_size_mib=PAGE_BYTES >> 20)
            if way == "on":
                trace = directory / "trace"
                config.write_text(f'{config.read_text()}\n[trace]\npath = "{trace}"\n', encoding="utf-8")
        publish(configs["off"], "bench", write_noise(directory / "noise", PAGES * PAGE_BYTES))
        for _ in range(rounds):
            for way, found in times.items():
                found.append(_once(ROOT if way != "before" or before is None else before, configs[way]))
    return times


def main() -> int:
    parser = argparse.ArgumentParser(prog="just bench-warm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, metavar="DIR", help="a checkout of another version")
    parser.add_argument("--child", metavar="CONFIG", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        print(json.dumps(read_warm(given.child)))
        return 0
    with tempfile.TemporaryDirectory(prefix="seekfs-bench-") as directory:
        times = measure(Path(directory), given.rounds, given.before)
    for way, found in times.items():
        ratios = [mine / off for mine, off in zip(found, times["off"], strict=True)]
        print(
            f"{way:>6}: {statistics.median(found):7.2f} us a read, "
            f"{statistics.median(ratios):.3f} of off ({min(ratios):.3f} to {max(ratios):.3f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
