"""How many GETs a cold read costs, and when its bytes come (issue rows: few GETs, single flight)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import requests

from seekfs_io.objects.base import ObjectStore
from tests.e2e.conftest import DaemonFactory
from tests.support.dataset import MIB, PAGE_BYTES, File, some_bytes, write_dataset
from tests.support.passthrough import Match, PassThrough, Plan

WAIT_SECONDS = 60.0


def gets_of(passthrough: PassThrough, ns: str) -> list[tuple[int, int | None]]:
    """The ranges of all GETs of files of a namespace, sorted."""
    ranges = [get.range for get in passthrough.gets(key_prefix=f"namespaces/{ns}/files/")]
    assert None not in ranges, "a GET without a range"
    return sorted(each for each in ranges if each is not None)


def windows(size: int, window: int = 32 * MIB) -> list[tuple[int, int]]:
    return [(start, min(start + window, size)) for start in range(0, size, window)]


def test_a_cold_256_mib_file_costs_exactly_8_gets_and_a_warm_one_none(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(256 * MIB)
    write_dataset(store, ns, {"big": File(data)})
    daemon = start_daemon(cache__inflight_mib=256)
    url = f"{daemon.url}/blob?ns={ns}&path=big"

    assert requests.get(url, timeout=WAIT_SECONDS).content == data
    assert gets_of(passthrough, ns) == windows(len(data))

    assert requests.get(url, timeout=WAIT_SECONDS).content == data
    assert len(gets_of(passthrough, ns)) == 8


def test_a_page_reaches_the_client_while_its_get_goes_on(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """The store sends one page of each GET and holds the rest until the client has that page."""
    data = some_bytes(64 * MIB)
    write_dataset(store, ns, {"big": File(data)})
    daemon = start_daemon(cache__inflight_mib=256)
    gates = [threading.Event() for _ in windows(len(data))]
    for (start, _), gate in zip(windows(len(data)), gates, strict=True):
        key = f"namespaces/{ns}/files/big"
        passthrough.when(Match(method="GET", key=key, covers=start), Plan(hold_body=((PAGE_BYTES, gate),)))

    with requests.get(f"{daemon.url}/blob?ns={ns}&path=big", stream=True, timeout=WAIT_SECONDS) as answer:
        received = b""
        for (start, stop), gate in zip(windows(len(data)), gates, strict=True):
            received += answer.raw.read(PAGE_BYTES)
            assert received == data[: start + PAGE_BYTES], "the first page of a GET that is held"
            gate.set()
            received += answer.raw.read(stop - start - PAGE_BYTES)
        assert received == data
    assert gets_of(passthrough, ns) == windows(len(data))


def test_64_readers_of_one_cold_file_share_its_8_gets(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    data = some_bytes(256 * MIB)
    write_dataset(store, ns, {"big": File(data)})
    daemon = start_daemon(cache__inflight_mib=256)
    together = threading.Barrier(64)

    def read(_: int) -> bool:
        together.wait(WAIT_SECONDS)
        with requests.get(f"{daemon.url}/blob?ns={ns}&path=big", stream=True, timeout=WAIT_SECONDS) as answer:
            at = 0
            for chunk in answer.iter_content(MIB):
                if data[at : at + len(chunk)] != chunk:
                    return False
                at += len(chunk)
        return at == len(data)

    with ThreadPoolExecutor(64) as readers:
        assert all(readers.map(read, range(64)))
    assert gets_of(passthrough, ns) == windows(len(data))


def test_readers_of_two_cold_files_do_not_wait_for_each_other(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    """The store holds the first GET until the second has arrived."""
    files = {"one": File(some_bytes(8 * MIB, 1)), "two": File(some_bytes(8 * MIB, 2))}
    write_dataset(store, ns, files)
    daemon = start_daemon()
    gate = threading.Event()
    passthrough.when(Match(method="GET", key=f"namespaces/{ns}/files/one"), Plan(hold_head=gate))

    def read(path: str) -> bytes:
        return requests.get(f"{daemon.url}/blob?ns={ns}&path={path}", timeout=WAIT_SECONDS).content

    with ThreadPoolExecutor(2) as readers:
        one = readers.submit(read, "one")
        passthrough.wait_until(lambda: bool(passthrough.gets(key=f"namespaces/{ns}/files/one")))
        two = readers.submit(read, "two")
        passthrough.wait_until(lambda: bool(passthrough.gets(key=f"namespaces/{ns}/files/two")))
        gate.set()
        assert one.result() == files["one"].data
        assert two.result() == files["two"].data
    assert len(gets_of(passthrough, ns)) == 2
