"""Ceilings at random small values under 64 clients: never exceeded, never the reason that somebody waits for
ever, and where they cannot be kept, refused before anything starts."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from typing import Final

import pytest
from attrs import frozen

from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.e2e.conftest import DaemonFactory
from tests.e2e.serving import DaemonMaker
from tests.support.ceilings import GETS, Ceilings, is_idle
from tests.support.dataset import MIB, File, some_bytes, write_dataset
from tests.support.metrics import figures
from tests.support.passthrough import Match, PassThrough, Plan
from tests.support.readers import Outcome, Refusal, Request, Tally, some_request
from tests.support.waiting import wait_until

KIB: Final = 1 << 10
GIB: Final = 1 << 30
NS: Final = "ceilings"
CLIENTS: Final = 64
REQUESTS: Final = 3
"""Of each client."""

SMALL_PAGE: Final = 64 * KIB
LARGE_PAGE: Final = 64 * MIB
LARGE_SHARE: Final = 16
"""One request of so many is of pages of 64 MiB."""

SMALL: Final = {
    f"small{number}": File(some_bytes(20 * SMALL_PAGE + 7, number), SMALL_PAGE) for number in range(8)
}
LARGE: Final = {"large": File(some_bytes(LARGE_PAGE + 3 * MIB, 100), LARGE_PAGE)}
FILES: Final = {**SMALL, **LARGE}


@frozen
class Sizes:
    """A case: everything as small as chance has it."""

    seed: int
    l1_bytes: int
    l2_bytes: int
    inflight_bytes: int
    gets: int
    coalesce_bytes: int

    @property
    def settings(self) -> dict[str, object]:
        return {
            "cache__slab_size_mib": SMALL_PAGE / MIB,
            "cache__l1_memory_gib": self.l1_bytes / GIB,
            "cache__l2_ssd_gib": self.l2_bytes / GIB,
            "cache__inflight_mib": self.inflight_bytes / MIB,
            "s3__max_inflight_gets": self.gets,
            "s3__range_coalesce_max_mib": self.coalesce_bytes / MIB,
        }


def some_sizes(seed: int) -> Sizes:
    """Every other case has room for a page of 64 MiB, or just not."""
    chance = random.Random(seed)
    small = (SMALL_PAGE, SMALL_PAGE + 1, 3 * SMALL_PAGE, chance.randint(SMALL_PAGE, 4 * MIB))
    large = (LARGE_PAGE - 1, LARGE_PAGE, LARGE_PAGE + SMALL_PAGE, chance.randint(LARGE_PAGE, 3 * LARGE_PAGE))
    return Sizes(
        seed=seed,
        l1_bytes=chance.choice(
            (SMALL_PAGE + KIB, *(chance.randint(SMALL_PAGE + KIB, 3 * MIB),) * 2, 70 * MIB)
        ),
        l2_bytes=chance.choice((2 * MIB, *(chance.randint(2 * MIB, 9 * MIB),) * 2, 100 * MIB)),
        inflight_bytes=chance.choice(large if seed % 2 else small),
        gets=chance.choice((1, 2, 3, 7)),
        coalesce_bytes=chance.choice((SMALL_PAGE, 300 * KIB, 32 * MIB)),
    )


class Files:
    """What there is, in its one version."""

    def content(self, path: str, version: int) -> memoryview:
        assert version == 1
        return memoryview(FILES[path].data)


@pytest.fixture(scope="module")
def dataset(s3_config: S3ConfigFactory) -> Iterator[ObjectStore]:
    store = open_store(s3_config())
    write_dataset(store, NS, FILES)
    yield store
    store.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(6))
def test_64_clients_under_ceilings_of_any_size(
    seed: int, dataset: ObjectStore, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    sizes = some_sizes(seed)
    # Long enough that GETs meet, as they do at a store that is not beside the daemon.
    passthrough.when(Match(method="GET"), Plan(delay_seconds=0.005))
    daemon = start_daemon(**sizes.settings)
    ceilings = Ceilings(daemon, passthrough)

    def may_refuse(request: Request, refusal: Refusal) -> bool:
        is_too_large = sizes.inflight_bytes < LARGE_PAGE and "large" in {
            path for path, _, _ in request.ranges
        }
        return is_too_large and refusal.status == 503 and "cache.inflight_mib" in refusal.detail

    tally = Tally(may_refuse)

    def read(number: int) -> None:
        chance = random.Random(seed * 1000 + number)
        for _ in range(REQUESTS):
            files = LARGE if chance.randrange(LARGE_SHARE) == 0 else SMALL
            lengths = {path: len(file.data) for path, file in files.items()}
            request = some_request(chance, NS, lengths, range_bytes_max=4 * SMALL_PAGE)
            tally.read(daemon.port, request, Files())

    clients = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(CLIENTS)]
    with ceilings.sampler() as sampler, asking(ceilings):
        for client in clients:
            client.start()
        wait_until(lambda: not any(client.is_alive() for client in clients), "all clients are done")
    print(f"{sizes}: {dict(tally.outcomes)} {dict(tally.refusals)} {dict(tally.item_refusals)}")
    print(f"{tally.bytes_compared / MIB:.0f} MiB compared; {ceilings.maxima} of {ceilings.limits}")
    print(f"the longest took {tally.longest_seconds:.1f} s; {len(sampler.samples)} samples")
    assert tally.wrong == []
    assert tally.asked == CLIENTS * REQUESTS
    assert tally.outcomes.keys() <= {Outcome.WHOLE, Outcome.LEFT, Outcome.REFUSED}
    assert ceilings.exceeded == []
    if sizes.inflight_bytes >= 3 * SMALL_PAGE:
        assert ceilings.maxima[GETS] >= min(2, sizes.gets), "GETs have met"
    assert len(sampler.samples) > 20
    wait_until(lambda: is_idle(figures(daemon)), "nothing is held for anybody any more")
    assert daemon.stop() == 0


@contextlib.contextmanager
def asking(ceilings: Ceilings) -> Iterator[None]:
    """The daemon is asked what it holds, all the time."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            while not stop.wait(0.03):
                ceilings.ask()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert failures == []


IMPOSSIBLE: Final[list[dict[str, object]]] = [
    {"cache__inflight_mib": 7.9},
    {"cache__slab_size_mib": 64, "cache__inflight_mib": 63},
    {"cache__slab_size_mib": 64, "cache__l2_ssd_gib": 0.06},
    {"cache__slab_size_mib": 64, "cache__l1_memory_gib": 0.0625},
    {"cache__slab_size_mib": 64, "cache__l1_memory_gib": 0.12, "cache__l2__backend": "mem"},
    {
        "cache__slab_size_mib": 64,
        "cache__inflight_mib": 1,
        "cache__l1_memory_gib": 0.01,
        "cache__l2_ssd_gib": 0.01,
    },
    {"s3__max_inflight_gets": 0},
]


@pytest.mark.parametrize("given", IMPOSSIBLE, ids=" ".join)
def test_ceilings_that_cannot_be_kept_are_refused_in_a_sentence_each(
    make_daemon: DaemonMaker, given: dict[str, object]
) -> None:
    daemon = make_daemon(**{"cache__inflight_mib": 256, "cache__l1_memory_gib": 1, **given}).spawn()
    assert daemon.wait() == 2
    keys = {name.replace("__", ".") for name in given} - {"cache.slab_size_mib", "cache.l2.backend"}
    lines = daemon.log.splitlines()
    for key in keys:
        (sentence,) = [line for line in lines if f"{key}: " in line]
        assert "would do" in sentence or "must be" in sentence, sentence
    assert "Booting worker" not in daemon.log
    assert not os.path.exists(daemon.l2)
