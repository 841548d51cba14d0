"""What docs/embedding.md says is so: its snippets run, and the asyncio driver reads from a real S3 server."""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from asyncio_driver import Node
from asyncio_s3 import S3
from botocore.credentials import Credentials

from seekfs_core.budget import GetBudget
from seekfs_core.errors import NotFound, PageCorrupt, StoreAnswered
from seekfs_core.fetch import FetchScheduler
from seekfs_core.fetch_messages import FetchLimits, StartCall
from seekfs_core.hedge import HedgePolicy
from seekfs_core.retry import RetryPolicy
from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.support.dataset import File, some_bytes, write_dataset
from tests.support.passthrough import PassThrough

ROOT = Path(__file__).parents[2]
PAGE = 256 << 10


def node_of(config: Any, *, coalesce: int = 4 * PAGE, hedges: bool = False, room: int = 64 * PAGE) -> Node:
    """In the running loop."""
    limits = FetchLimits(
        inflight_gets_max=16,
        room_bytes_max=room,
        coalesce_bytes=coalesce,
        page_seconds_max=30.0,
        hedge=HedgePolicy(is_on=hedges, samples_min=4, seconds_min=0.1),
    )
    retry = RetryPolicy(attempts_max=4, backoff_seconds_initial=0.02)
    scheduler = FetchScheduler(limits, GetBudget(1000.0, 100), retry, random.Random(1), time.monotonic() - 1)
    credentials = Credentials(config.access_key_id, config.secret_access_key)
    return Node(S3(config.endpoint, config.bucket, credentials), scheduler)


async def read(node: Node, ns: str, items: list[tuple[str, int, int]]) -> bytes:
    manifest = await node.current(ns)
    async with aclosing(node.read(manifest, items)) as pieces:
        return b"".join([bytes(piece) async for piece in pieces])


def test_every_snippet_of_the_page_runs(store: ObjectStore, s3_config: S3ConfigFactory) -> None:
    data = some_bytes(PAGE + 100)
    write_dataset(store, "dev", {"train/a.bin": File(data, PAGE)})
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(snippets) == 3
    world: dict[str, Any] = {"s3": s3_config()}
    for snippet in snippets:
        exec(compile(snippet, "docs/embedding.md", "exec"), world)  # noqa: S102 - our own page.
    assert world["with_threads"] == world["with_asyncio"] == data[100:1100]
    assert world["nothing_yet"] == ()
    assert world["started"] == (StartCall(1, 1),)


def test_the_driver_is_as_short_as_the_page_says() -> None:
    text = (ROOT / "docs" / "embedding" / "asyncio_driver.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200


def test_many_readers_share_gets_and_get_right_bytes(
    store: ObjectStore, ns: str, passthrough: PassThrough, s3_config: S3ConfigFactory
) -> None:
    data, odd = some_bytes(10 * PAGE + 17), some_bytes(3)
    write_dataset(
        store, ns, {"a": File(data, PAGE), "ünd %41/b c": File(odd, PAGE), "empty": File(b"", PAGE)}
    )

    async def main() -> tuple[bytes, list[bytes], bytes, Node]:
        node = node_of(s3_config(endpoint=passthrough.endpoint))
        whole = await read(node, ns, [("a", 0, len(data))])
        passthrough.forget()
        manifest = await node.current(ns)

        async def window() -> bytes:
            async with aclosing(node.read(manifest, [("a", 0, 4 * PAGE)])) as pieces:
                return b"".join([bytes(piece) async for piece in pieces])

        windows = await asyncio.gather(
            *(window() for _ in range(20))
        )  # All of them ask before one is answered.
        items = [("ünd %41/b c", 0, 3), ("a", PAGE - 5, 10), ("empty", 0, 0), ("a", 5 * PAGE, 1)]
        return whole, windows, await read(node, ns, items), node

    whole, windows, mixed, node = asyncio.run(main())
    assert whole == data
    assert windows == [data[: 4 * PAGE]] * 20
    assert mixed == odd + data[PAGE - 5 : PAGE + 5] + data[5 * PAGE : 5 * PAGE + 1]
    key = f"namespaces/{ns}/files/a"
    assert [each.range for each in passthrough.gets(key=key)] == [
        (0, 4 * PAGE),
        (0, 2 * PAGE),
        (5 * PAGE, 6 * PAGE),
    ]
    statistics = node.scheduler.statistics()
    assert (statistics.in_flight, statistics.queued, statistics.room_bytes_used) == (0, 0, 0)
    assert (statistics.gets_started, statistics.calls_started) == (3 + 1 + 1 + 2, 2 + 2 + 2)


def test_a_reader_that_leaves_gives_back_what_it_holds(
    store: ObjectStore, ns: str, s3_config: S3ConfigFactory
) -> None:
    data = some_bytes(8 * PAGE)
    write_dataset(store, ns, {"a": File(data, PAGE)})

    async def main() -> Node:
        node = node_of(s3_config(), room=8 * PAGE)
        manifest = await node.current(ns)
        for _ in range(3):
            async with aclosing(node.read(manifest, [("a", 0, len(data))])) as pieces:
                async for piece in pieces:
                    assert bytes(piece) == data[:PAGE]
                    break
        assert await read(node, ns, [("a", 0, len(data))]) == data
        for _ in range(200):
            if not node.scheduler.statistics().in_flight:
                break
            await asyncio.sleep(0.01)
        return node

    assert asyncio.run(main()).scheduler.statistics().room_bytes_used == 0


def test_what_is_wrong_is_an_error_that_says_so(
    store: ObjectStore, ns: str, s3_config: S3ConfigFactory
) -> None:
    data = some_bytes(2 * PAGE)
    write_dataset(store, ns, {"a": File(data, PAGE)})
    store.put(f"namespaces/{ns}/files/a", data[:-1] + bytes([data[-1] ^ 1]))

    async def main() -> None:
        node = node_of(s3_config())
        assert await read(node, ns, [("a", 0, PAGE)]) == data[:PAGE]
        with pytest.raises(PageCorrupt, match="page 1"):
            await read(node, ns, [("a", 0, 2 * PAGE)])
        with pytest.raises(StoreAnswered, match="answered 404.*HEAD"):
            await read(node, "nobody", [("a", 0, 1)])
        with pytest.raises(NotFound, match="nothing"):
            await read(node, ns, [("nothing", 0, 1)])
        assert node.scheduler.statistics().room_bytes_used == 0

    asyncio.run(main())
