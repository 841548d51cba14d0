"""Whole nodes, in virtual time, with readers, stores and disks that do as chance will have it.

First anything may go wrong, then nothing does any more, and everything has to come to its end
with every byte of room returned. ``model_fetch`` holds each step against the scheduler's promises.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core.breaker import BreakerPolicy
from seekfs_core.budget import GetBudget
from seekfs_core.errors import FailureKind
from seekfs_core.fetch_messages import FetchAction, GetReason
from seekfs_core.hedge import HedgePolicy
from seekfs_core.manifest import Manifest
from seekfs_core.namespace_budgets import NamespaceBudget
from seekfs_core.plan import Item, plan_read
from tests.core.model_fetch import Watched
from tests.core.model_files import blank_file, manifest_of
from tests.core.model_node import Node

SEEDS = 250


def plan_of(manifest: Manifest, choose: Callable[[int], int]) -> list[Item]:
    """Whole files, parts of one, and interleaved ones."""
    items = []
    for _ in range(1 + choose(4)):
        file = list(manifest.files.values())[choose(len(manifest.files))]
        off = choose(file.size + 1) if choose(3) else 0
        items.append((file.path, off, choose(file.size - off + 1) if choose(2) else file.size - off))
    return items


def budget_of(choose: Callable[[int], int]) -> NamespaceBudget:
    """Of requests, of bytes, or of both."""
    requests = GetBudget((0.5, 3.0)[choose(2)], 1 + choose(3)) if choose(3) else None
    return NamespaceBudget(requests=requests, bytes=GetBudget(20.0, 1 + choose(30)) if choose(3) else None)


def simulate(choose: Callable[[int], int], steps: int) -> Node:
    """One run; ``choose(n)`` is a number below ``n``."""
    pages = (4, 6, 10)
    manifest = manifest_of(*(blank_file(path, choose(60), pages[choose(3)]) for path in ("a", "b", "c")))
    room = 10 + choose(40)
    watched = Watched.make(
        room=room,
        inflight=1 + choose(4),
        coalesce=(1, 12, 20, 50)[choose(4)],
        rate=(1.0, 7.0, 1000.0)[choose(3)],
        burst=1 + choose(5),
        attempts=1 + choose(3),
        page_seconds=(0.5, 5.0, 1e9)[choose(3)],
        hedge=HedgePolicy(is_on=choose(2) == 0, samples_min=1 + choose(8), seconds_min=0.0),
        breaker=BreakerPolicy(failures_max=choose(4), probe_seconds_initial=0.2, probe_seconds_max=2.0),
        namespaces={"dev": budget_of(choose)} if choose(3) == 0 else None,
        seed=choose(100),
        now=float(choose(1000)),
    )
    node = Node(
        watched,
        ahead=(1, room // 4, 40)[choose(3)],
        ram_bytes=(0, 12, 30)[choose(3)],
        scratch_bytes=1 + choose(3),
        writers=1 + choose(2),
        patience=(0.2, 3.0, 1e9)[choose(3)],
    )
    trouble = choose(4)
    for _ in range(steps):
        what = choose(40)
        if what < 3 and len(node.readers) < 5:
            node.open(plan_read(manifest, plan_of(manifest, choose), clip=False))
        elif what == 3:
            node.pass_time((0.01, 0.3, 10.0)[choose(3)])
        elif what == 4:
            node.call()
        elif what < 6 + trouble and (faults := node.faults()):
            kinds = sorted({name for name, _ in faults})
            kind = kinds[choose(len(kinds))]
            some = [do for name, do in faults if name == kind]
            some[choose(len(some))]()
        elif moves := node.moves():
            moves[choose(len(moves))][1]()
        else:
            node.wake()
    if choose(2):
        node.close()
    node.finish(choose)
    return node


def test_everything_that_was_promised_holds_and_everything_ends() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        try:
            seen += simulate(random.Random(seed).randrange, 200).watched.seen
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    # The runs were worth something only if they came everywhere.
    actions = get_args(FetchAction)
    wanted = {action.__name__ for action in actions} | {f"GET: {reason.name}" for reason in GetReason}
    wanted |= {f"page failed: {kind.value}" for kind in FailureKind if kind is not FailureKind.OVERTAKEN}
    wanted |= {"hedge won", "hedge lost", "one of two failed"}
    wanted |= {"shared", "retried", "asked again for its checksum", "quiet"}
    wanted |= {"too slow", "call too slow", "call broken off"}
    assert wanted <= seen.keys()


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_the_same_found_by_a_searcher_who_can_shrink(data: st.DataObject) -> None:
    simulate(lambda below: data.draw(st.integers(0, below - 1)), 60)
