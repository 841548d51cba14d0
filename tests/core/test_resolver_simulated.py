"""The resolver against a bucket that changes, hides things, fails and answers when it likes.

``model_resolver`` judges every answer; here is only what happens: requests come and leave, HEAD
moves (back, too, and away), manifests are good, bad or missing, the process is started again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core.errors import ManifestInvalid, StoreUnavailable
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.resolver import ManifestResolver
from seekfs_core.resolver_messages import (
    Closing,
    HeadFailed,
    HeadRead,
    KeepingEnded,
    ManifestFailed,
    ManifestRead,
    NotKept,
    ResolverEvent,
    ResolveWanted,
    WaiterLeft,
)
from tests.core.model_resolver import WatchedResolver

SEEDS = 600
NAMES = ("dev", "pinned", "nowhere")
ASKED_FOR = ("dev", "dev", "dev", "dev", "pinned", "nowhere")
"""What happens to one namespace at once is what goes wrong, so one is asked for more often."""


@define
class Bucket:
    """What is in the bucket, which a read sees when it is answered."""

    choose: Callable[[int], int]
    heads: dict[str, int | None] = field(factory=lambda: {"dev": 1, "pinned": 1, "nowhere": None})
    bad: set[int] = field(factory=set)
    missing: set[int] = field(factory=set)
    down: bool = False

    def change(self) -> None:
        ns = ASKED_FOR[self.choose(5)]
        match self.choose(8):
            case 0 | 1 | 2:
                self.heads[ns] = (self.heads[ns] or 0) + 1
            case 3:
                self.heads[ns] = max(1, (self.heads[ns] or 0) - 1)
            case 4:
                self.heads[ns] = None
            case 5:
                self.bad ^= {1 + self.choose(8)}
            case 6:
                self.missing ^= {1 + self.choose(8)}
            case _:
                self.down = not self.down

    def answer_head(self, ns: str) -> ResolverEvent:
        if self.down:
            return HeadFailed(ns, StoreUnavailable("down"))
        return HeadRead(ns, self.heads[ns])

    def answer_manifest(self, ns: str, version: int) -> ResolverEvent:
        if self.down:
            return ManifestFailed(ns, version, StoreUnavailable("down"))
        if version in self.missing:
            return ManifestFailed(ns, version, None)
        if version in self.bad:
            return ManifestFailed(ns, version, ManifestInvalid("bad"))
        return ManifestRead(Manifest(ns=ns, version=version, files={}))


def simulate(choose: Callable[[int], int], steps: int) -> Counter[str]:
    bucket = Bucket(choose)
    resolver = ManifestResolver(
        head_ttl_seconds=(0.0, 2.0, 10.0)[choose(3)],
        pins={"pinned": 1 + choose(3)} if choose(2) else {},
        head_patience_seconds=(0.5, 3.0)[choose(2)],
    )
    watched = WatchedResolver(resolver)
    seen: Counter[str] = Counter()
    for waiter in range(steps):
        what = choose(16)
        heads, manifests = sorted(watched.reading_heads), sorted(watched.reading_manifests)
        if what < 5:
            version = None if choose(2) else 1 + choose(6)
            seen.update(_fed(watched, ResolveWanted(waiter, ASKED_FOR[choose(6)], version)))
        elif what < 8 and heads:
            seen.update(_fed(watched, bucket.answer_head(heads[choose(len(heads))])))
        elif what < 11 and manifests:
            seen.update(_fed(watched, _answer(watched, bucket, manifests[choose(len(manifests))])))
        elif what < 13:
            bucket.change()
        elif what == 13:
            _pass_time(watched, (0.3, 1.0, 2.0, 11.0)[choose(4)])
        elif what == 14 and watched.asked:
            seen.update(_fed(watched, WaiterLeft(sorted(watched.asked)[choose(len(watched.asked))])))
        elif what == 15 and watched.keeping:
            seen.update(_fed(watched, KeepingEnded(*sorted(watched.keeping)[choose(len(watched.keeping))])))
        elif what == 15 and not choose(4):
            if choose(2):
                seen.update(_fed(watched, Closing()))
            else:
                watched.restart()
    while watched.reading_heads or watched.reading_manifests:
        for ns in sorted(watched.reading_heads):
            watched.feed(bucket.answer_head(ns))
        for ns, version in sorted(watched.reading_manifests):
            watched.feed(_answer(watched, bucket, (ns, version)))
    assert not watched.asked
    return seen


def _answer(watched: WatchedResolver, bucket: Bucket, wanted: tuple[str, int]) -> ResolverEvent:
    """Half the copies that could be on this node are: those of manifests that are good."""
    answer = bucket.answer_manifest(*wanted)
    is_kept = isinstance(answer, ManifestRead) and not bucket.choose(2)
    return answer if is_kept or wanted not in watched.looking_for_copies else NotKept(*wanted)


def _fed(watched: WatchedResolver, event: ResolverEvent) -> list[str]:
    names = []
    for action in watched.feed(event):
        error = getattr(action, "error", None)
        names.append(f"{type(action).__name__} {type(error).__name__}" if error else type(action).__name__)
        if getattr(action, "stale", False):
            names.append("stale")
    return names


def _pass_time(watched: WatchedResolver, seconds: float) -> None:
    until = watched.now + seconds
    while (due := watched.resolver.next_deadline()) is not None and due <= until:
        watched.feed(Tick(), due)
    watched.feed(Tick(), until)


def test_every_answer_is_one_that_may_be_given_and_nobody_waits_for_nothing() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        try:
            seen += simulate(random.Random(seed).randrange, 150)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    refusals = ("NoSuchNamespace", "NoSuchVersion", "StoreUnavailable", "ManifestInvalid", "ShuttingDown")
    wanted = {f"NotResolved {refusal}" for refusal in refusals}
    wanted |= {"ReadHead", "ReadManifest", "FetchManifest", "Resolved", "stale", "ServeCurrent"}
    wanted |= {"KeepManifest", "KeepHead", "ServedOn StoreUnavailable", "ServedOn ManifestInvalid"}
    assert wanted <= seen.keys()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_same_found_by_a_searcher_who_can_shrink(data: st.DataObject) -> None:
    simulate(lambda below: data.draw(st.integers(0, below - 1)), 40)
