"""Everything at once, for minutes: ``just soak [MINUTES] [--seed N] [--output FILE]``.

Three daemons with small ceilings, each with a directory and a pass-through of its own in front of one real
S3 server: one lives from the beginning to the end, one is killed again and again, one is stopped under load.
Clients of all kinds read every file of every version in every way and compare every byte, while versions are
published and the stores have faults and storms. See docs/RELIABILITY.md for what has to hold.

Exit status 1 with a sentence for each thing that did not hold, 0 otherwise; 130 where it was interrupted. It
leaves nothing behind.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import define, field

from seekfs_io.devserver import DevServer
from tests.soak.nodes import Fate, Node, sampled
from tests.soak.report import Report
from tests.soak.world import LENGTHS, NS, World
from tests.support.dataset import MIB
from tests.support.passthrough import PassThrough
from tests.support.readers import Outcome, some_request

MINUTES_DEFAULT: Final = 30.0
MINUTES_MAX: Final = 240.0
CLIENTS: Final = 15
"""Fewer than there are threads in three daemons, so that some are always free to be killed in their work."""

PROGRESS_SECONDS: Final = 10.0
END_SECONDS_MAX: Final = 120.0
"""Until all that was begun has ended."""

RANGE_BYTES_MAX: Final = 3 * MIB


@define
class Work:
    """Threads that run until they are told to stop; the first failure of any of them is kept."""

    stop: threading.Event = field(factory=threading.Event)
    failures: list[str] = field(factory=list)
    _threads: list[threading.Thread] = field(factory=list)

    def begin(self, what: str, work: Callable[[threading.Event], None]) -> None:
        def run() -> None:
            try:
                work(self.stop)
            except Exception as error:
                self.failures.append(f"{what}: {type(error).__name__}: {error}")
                self.stop.set()

        thread = threading.Thread(target=run, name=what, daemon=True)
        self._threads.append(thread)
        thread.start()

    def end(self) -> None:
        """Wait for all of them; one that does not end is a failure. Twice is harmless."""
        self.stop.set()
        deadline = time.monotonic() + END_SECONDS_MAX
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.failures.append(f"{thread.name} does not end")


def client(number: int, seed: int, nodes: list[Node], world: World) -> Callable[[threading.Event], None]:
    def read(stop: threading.Event) -> None:
        chance = random.Random(seed * 1000 + number)
        while not stop.is_set():
            node = chance.choice(nodes)
            version = world.some_version(chance) if chance.randrange(3) == 0 else None
            # Some paths more often than others, and others later: so pages are worth keeping, for a while.
            favourites = sorted(LENGTHS)[(world.published // 3) % 5 :: 5]
            lengths = {path: LENGTHS[path] for path in favourites} if chance.randrange(3) else LENGTHS
            request = some_request(chance, NS, lengths, range_bytes_max=RANGE_BYTES_MAX, version=version)
            if node.tally.read(node.daemon.port, request, world) is Outcome.UNREACHABLE:
                stop.wait(0.1)

    return read


def soak(directory: Path, seconds: float, seed: int) -> tuple[Report, list[str]]:
    """All of it; the report, and what is wrong."""
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(DevServer(temporary=directory))
        sources = directory / "files"
        sources.mkdir()
        world = World(server.s3_config(), sources, seed)
        world.publish_first()
        nodes = []
        for number, fate in enumerate(Fate):
            store = opened.enter_context(PassThrough("127.0.0.1", server.s3_port))
            s3 = server.s3_config(endpoint=store.endpoint)
            node = Node(fate, directory / fate.name.lower(), s3, store, seed * 10 + number)
            opened.callback(node.daemon.end)
            node.start()
            nodes.append(node)
            opened.enter_context(node.ceilings.sampler(interval_seconds=0.05))
        work = Work()
        opened.callback(work.end)  # Before the daemons end: one may just be about to start anew.
        work.begin("the publisher", world.publish_until)
        work.begin("who asks for figures", sampled(nodes))
        for node in nodes:
            work.begin(f"the trouble of {node.name}", node.trouble.until)
            work.begin(f"the fate of {node.name}", node.live)
        for number in range(CLIENTS):
            work.begin(f"client {number}", client(number, seed, nodes, world))
        report = Report(world, nodes, 0.0, seed)
        started = time.monotonic()
        while not work.stop.wait(min(PROGRESS_SECONDS, max(0.0, started + seconds - time.monotonic()))):
            report.seconds = time.monotonic() - started
            for node in nodes:
                node.trouble.take_stock()
                node.look()
            print(report.progress(), file=sys.stderr, flush=True)
            if report.seconds >= seconds:
                break
        work.end()
        if not work.failures:
            for node in nodes:
                node.finish()
                node.trouble.take_stock()
    return report, [*work.failures, *report.problems()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="just soak", description="Everything at once, for minutes.")
    parser.add_argument("minutes", type=float, nargs="?", default=MINUTES_DEFAULT)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the result here, too, as Markdown")
    given = parser.parse_args()
    if not 0 < given.minutes <= MINUTES_MAX:
        parser.error(f"MINUTES is more than 0 and at most {MINUTES_MAX:g}")
    # So that daemons and the server, which have sessions of their own, are ended, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="seekfs-soak-") as directory:
            report, problems = soak(Path(directory), 60 * given.minutes, given.seed)
    except KeyboardInterrupt:
        return 130
    print(report.markdown())
    if given.output is not None:
        given.output.write_text(report.markdown(), encoding="utf-8")
    for problem in problems:
        print(f"soak: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
