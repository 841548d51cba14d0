"""The in-memory L2: the promises of a page store, without a disk."""

from __future__ import annotations

import errno
import mmap
import threading

import pytest
from crc32c import crc32c

from seekfs_core.pages import PageKey
from seekfs_core.retention import Refusal, ram_charge
from seekfs_io.pages.base import PageStore
from seekfs_io.pages.memory import MemoryPageStore
from tests.support.logs import heard_while_free

PAGE = 100_000


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


def data(n: int, length: int = PAGE) -> bytes:
    return (n.to_bytes(4, "big") * (length // 4 + 1))[:length]


def put(store: PageStore, n: int) -> bool:
    page = data(n)
    return store.store(key(n), memoryview(page), crc32c(page))


def get(store: PageStore, n: int) -> bytes | None:
    page = data(n)
    lease = store.lease(key(n), PAGE, crc32c(page))
    if lease is None:
        return None
    try:
        buffer = bytearray(PAGE)
        assert lease.verified
        assert lease.readinto(memoryview(buffer), 0)
        return bytes(buffer)
    finally:
        lease.release()


def test_pages_come_back_until_others_need_their_room() -> None:
    store = MemoryPageStore(3 * ram_charge(PAGE))
    for n in range(4):
        assert put(store, n)
        assert key(n) in store
    assert get(store, 0) is None
    assert [get(store, n) for n in (1, 2, 3)] == [data(n) for n in (1, 2, 3)]
    statistics = store.statistics()
    assert (statistics.pages_held, statistics.bytes_held) == (3, 3 * PAGE)
    assert (statistics.pages_written, statistics.pages_evicted) == (4, 1)


def test_what_is_leased_stays_and_is_counted() -> None:
    store = MemoryPageStore(2 * ram_charge(PAGE))
    put(store, 0)
    put(store, 1)
    leases = [store.lease(key(n), PAGE, crc32c(data(n))) for n in (0, 1)]
    assert not put(store, 2)
    assert store.statistics().refusals == {Refusal.BUSY: 1}
    store.close()
    for n, lease in enumerate(leases):
        assert lease is not None
        part = bytearray(10)
        assert lease.readinto(memoryview(part), 1000)
        assert bytes(part) == data(n)[1000:1010]
        with pytest.raises(ValueError, match="of a page of"):
            lease.readinto(memoryview(part), PAGE - 9)
        lease.mark_verified()
        lease.release()
    assert not put(store, 2)
    assert key(0) not in store


@pytest.mark.parametrize(("length", "crc"), [(PAGE - 1, crc32c(data(0))), (PAGE, 1)])
def test_a_page_of_another_length_or_crc_is_a_fault_and_makes_way(length: int, crc: int) -> None:
    store = MemoryPageStore(2 * ram_charge(PAGE))
    put(store, 0)
    assert store.lease(key(0), length, crc) is None
    assert key(0) not in store
    assert (store.statistics().faults, store.statistics().bytes_held) == (1, 0)
    assert put(store, 0)
    assert get(store, 0) == data(0)


def test_a_page_is_not_taken_for_kept_because_another_one_is_under_its_key() -> None:
    store = MemoryPageStore(2 * ram_charge(PAGE))
    put(store, 0)
    other = data(7)
    assert store.store(key(0), memoryview(other), crc32c(other))
    lease = store.lease(key(0), PAGE, crc32c(other))
    assert lease is not None
    part = bytearray(8)
    assert lease.readinto(memoryview(part), 0)
    assert bytes(part) == other[:8]
    statistics = store.statistics()
    assert (statistics.faults, statistics.pages_held, statistics.pages_written) == (1, 1, 2)


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no memory"), MemoryError("none")])
def test_a_page_for_which_there_is_no_memory_is_refused_and_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = MemoryPageStore(2 * ram_charge(PAGE))
    put(store, 0)

    def no_memory(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", no_memory)
        for n in (1, 2, 3):
            assert not put(store, n)
    assert not any(key(n) in store for n in (1, 2, 3))
    for n in range(4, 9):  # Whatever the policy gives up now, the store has.
        assert put(store, n)
    assert [n for n in range(9) if get(store, n) == data(n)] == [7, 8]
    assert store.statistics().refusals == {Refusal.FAILED: 3}


def test_a_condemned_page_is_gone_and_can_come_again() -> None:
    store = MemoryPageStore(2 * ram_charge(PAGE))
    put(store, 0)
    lease = store.lease(key(0), PAGE, crc32c(data(0)))
    assert lease is not None
    lease.condemn()
    lease.condemn()
    assert key(0) not in store
    assert store.statistics().crc_failures == 2
    lease.release()
    assert put(store, 0)
    assert get(store, 0) == data(0)


def test_many_threads_see_whole_pages_only() -> None:
    store = MemoryPageStore(5 * ram_charge(PAGE))
    wrong: list[int] = []

    def work(seed: int) -> None:
        for step in range(200):
            n = (seed * 7 + step * 3) % 12
            put(store, n)
            found = get(store, n)
            if found is not None and found != data(n):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.statistics().bytes_held <= 5 * PAGE


def test_the_log_is_told_when_the_lock_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryPageStore(2 * ram_charge(PAGE))

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError("none")

    with heard_while_free(store._lock) as heard:
        put(store, 0)
        assert store.lease(key(0), PAGE, 1) is None
        put(store, 0)
        lease = store.lease(key(0), PAGE, crc32c(data(0)))
        assert lease is not None
        lease.condemn()
        lease.release()
        put(store, 0)
        other = data(7)
        store.store(key(0), memoryview(other), crc32c(other))
        with monkeypatch.context() as patch:
            patch.setattr(mmap, "mmap", no_memory)
            put(store, 1)
    dropped = f"page {key(0).hex()[-16:]} in memory is dropped: "
    assert heard == [
        dropped + "it is not the page that the manifest means",
        dropped + "its CRC is wrong",
        dropped + "it is not the page that the manifest means",
        f"a page of {PAGE} bytes is not kept: none",
    ]
