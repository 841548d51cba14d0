"""Memory of the daemon while it streams far more than its ceilings."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator

import crc32c
import pytest
import requests

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.support.daemon import Daemon
from tests.support.dataset import MIB, PAGE_BYTES, some_bytes, write_manifest
from tests.support.memory import memory_sampler
from tests.support.objects import listed

GIB = 1 << 30
L1_BYTES = 64 * MIB
INFLIGHT_BYTES = 256 * MIB
BESIDE_BYTES = 150 * MIB
BLOCK = some_bytes(32 * MIB, 7)
SIZE = 2 * GIB
SMALL = [("big", start, 4096) for start in range(123, SIZE, SIZE // 16)]
SLOW_READS = 40

pytestmark = pytest.mark.timeout(600)


def content(start: int, stop: int) -> Iterator[memoryview]:
    """Bytes [start, stop) of the file, which is one block over and over."""
    view = memoryview(BLOCK)
    while start < stop:
        at = start % len(BLOCK)
        take = min(stop - start, len(BLOCK) - at)
        yield view[at : at + take]
        start += take


@pytest.fixture(scope="module")
def big_file() -> dict[str, object]:
    """Its entry in a manifest. Too large to be made in one piece."""
    pages = len(BLOCK) // PAGE_BYTES
    crcs = [crc32c.crc32c(BLOCK[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]) for page in range(pages)]
    digest = hashlib.sha256()
    for piece in content(0, SIZE):
        digest.update(piece)
    return {
        "path": "big",
        "size": SIZE,
        "hash": f"sha256:{digest.hexdigest()}",
        "page_table": [
            {"page_id": page, "off": page * PAGE_BYTES, "len": PAGE_BYTES, "crc32c": crcs[page % pages]}
            for page in range(SIZE // PAGE_BYTES)
        ],
    }


def slowly(answer: requests.Response) -> Iterator[bytes]:
    """The body, read by a client that takes little at first and then all it can get."""
    for number in itertools.count():
        chunk = answer.raw.read(4096 if number < SLOW_READS else MIB)
        if not chunk:
            return
        yield chunk


def check_bytes(answer: requests.Response, expected: Iterator[memoryview]) -> None:
    want = memoryview(b"")
    for chunk in slowly(answer):
        got = memoryview(chunk)
        while got:
            want = want or next(expected)
            assert got[: len(want)] == want[: len(got)]
            got, want = got[len(want) :], want[len(got) :]
    assert not want
    assert next(expected, None) is None


def check_frames(answer: requests.Response, items: list[tuple[str, int, int]]) -> None:
    body = slowly(answer)
    held = bytearray()

    def take(length: int) -> bytes:
        while len(held) < length:
            held.extend(next(body))
        taken = bytes(held[:length])
        del held[:length]
        return taken

    for _, off, length in items:
        expected = content(off, off + length)
        want = memoryview(b"")
        status = 206
        while status == 206:
            status, crc, size = struct.unpack("<IIQ", take(16))
            assert status in (200, 206)
            assert size <= PAGE_BYTES
            payload = take(size)
            assert crc32c.crc32c(payload) == crc
            got = memoryview(payload)
            while got:
                want = want or next(expected)
                assert got[: len(want)] == want[: len(got)]
                got, want = got[len(want) :], want[len(got) :]
        assert not want
        assert next(expected, None) is None
    assert not held
    assert next(body, None) is None


ITEMS = [*SMALL[:8], ("big", 5 * MIB + 17, GIB), *SMALL[8:]]
JSON_ITEMS = [{"path": path, "off": off, "len": length} for path, off, length in ITEMS]
FRAMES = {"Accept": "application/x-seekfs-frames"}


def items_content() -> Iterator[memoryview]:
    for _, off, length in ITEMS:
        yield from content(off, off + length)


@pytest.mark.parametrize("way", ["blob", "readv", "frames"])
def test_memory_stays_under_the_ceilings_while_2_gib_stream_cold(
    way: str, store: ObjectStore, ns: str, big_file: dict[str, object], start_daemon: DaemonFactory
) -> None:
    publish(store, ns, big_file)
    daemon = start_daemon(
        cache__l1_memory_gib=L1_BYTES / GIB, cache__inflight_mib=INFLIGHT_BYTES // MIB, cache__l2_ssd_gib=4
    )
    with memory_sampler(daemon.pid) as memory, ask(daemon, ns, way) as answer:
        assert answer.status_code == 200
        match way:
            case "blob":
                check_bytes(answer, content(0, SIZE))
            case "readv":
                check_bytes(answer, items_content())
            case _:
                check_frames(answer, ITEMS)
    print(f"{way}: at most {memory.peak / MIB:.0f} MiB in {len(memory.samples)} samples")
    assert len(memory.samples) > 10
    assert memory.peak <= L1_BYTES + INFLIGHT_BYTES + BESIDE_BYTES


def ask(daemon: Daemon, ns: str, way: str) -> requests.Response:
    if way == "blob":
        return requests.get(f"{daemon.url}/blob?ns={ns}&path=big", stream=True, timeout=60)
    return requests.post(
        f"{daemon.url}/readv?ns={ns}",
        json=JSON_ITEMS,
        headers=FRAMES if way == "frames" else {},
        stream=True,
        timeout=60,
    )


def publish(store: ObjectStore, ns: str, entry: dict[str, object]) -> None:
    """The object by multipart upload (once for all namespaces), and a manifest that names it."""
    key = "tests/two-gib"
    if not any(known.key == key for known in listed(store, key)):
        upload = store.create_upload(key)
        parts = SIZE // (2 * len(BLOCK))
        etags = [store.upload_part(key, upload, part + 1, BLOCK * 2) for part in range(parts)]
        store.complete_upload(key, upload, etags)
    storage = {"key": key, "etag": None, "sse": None}
    manifest = {
        "version": 1,
        "created_at": 1712345678,
        "parents": [],
        "tombstones": [],
        "publication_id": "00",
        "files": [{**entry, "storage": storage}],
    }
    write_manifest(store, ns, 1, manifest)
