"""Every buffer against a list of what is there: one account for each byte, and both under their ceilings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.buffers import BufferLedger, Offer, PageAccount, Supply
from seekfs_core.errors import ContractViolation
from seekfs_core.pages import PageKey
from seekfs_core.retention import PAGE_OVERHEAD_BYTES, RamRetention, Refusal, ram_charge
from tests.core.strategies import long_lists

Ledger = BufferLedger[PageAccount]


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


A, B, C = key(1), key(2), key(3)


def ledger_for(pages: int, length: int = 100, room: int = 1000) -> Ledger:
    """L1 has room for so many pages of a length."""
    return BufferLedger(pages * ram_charge(length), room)


def taken(ledger: Ledger, length: int = 100) -> PageAccount:
    ledger.take(length)
    return PageAccount(length)


def kept(ledger: Ledger, page: PageKey, length: int = 100) -> PageAccount:
    """A page that came and that nobody holds any more."""
    buffer = taken(ledger, length)
    ledger.offer(buffer, page, 0, 0)
    ledger.release(buffer)
    return buffer


def test_a_page_that_l1_takes_over_gives_its_room_back_at_once() -> None:
    ledger = ledger_for(1)
    buffer = taken(ledger)
    assert ledger.room_bytes == 100
    assert ledger.offer(buffer, A, 2, 0) == Offer(100)
    assert (ledger.room_bytes, ledger.l1_bytes, ledger.l1_pages) == (0, 100 + PAGE_OVERHEAD_BYTES, 1)
    assert [ledger.release(buffer) for _ in range(3)] == [False] * 3
    assert ledger.hold(A) is buffer
    assert not ledger.release(buffer)
    assert ledger.pages_admitted == 1


def test_a_page_that_l1_refuses_is_found_until_its_last_holder_has_gone() -> None:
    ledger = ledger_for(0)
    buffer = taken(ledger)
    assert ledger.offer(buffer, A, 0, 0) == Offer(0)
    assert A in ledger
    assert ledger.hold(A) is buffer
    assert not ledger.release(buffer)
    assert ledger.room_bytes == 100
    assert ledger.release(buffer)
    assert A not in ledger
    assert ledger.hold(A) is None
    assert (ledger.room_bytes, ledger.l1_bytes, ledger.refusals) == (0, 0, {Refusal.TOO_LARGE: 1})


def test_a_buffer_whose_page_did_not_come_gives_its_room_back() -> None:
    ledger = ledger_for(1)
    assert ledger.release(taken(ledger))
    assert ledger.room_bytes == 0


def test_a_second_copy_serves_its_holders_only() -> None:
    ledger = ledger_for(1)
    first, second = taken(ledger), taken(ledger)
    ledger.offer(first, A, 0, 0)
    assert ledger.offer(second, A, 1, 0) == Offer(0)
    assert ledger.hold(A) is first
    assert [ledger.release(second) for _ in range(2)] == [False, True]
    assert ledger.room_bytes == 0
    assert A in ledger


def test_the_page_used_least_recently_leaves_and_one_that_is_held_does_not() -> None:
    ledger = ledger_for(2)
    a, b = kept(ledger, A), kept(ledger, B)
    ledger.hold(A)
    ledger.release(a)
    ledger.hits_seen((A,), 1)
    c = taken(ledger)
    assert ledger.offer(c, C, 0, 1) == Offer(100, (b,))
    assert B not in ledger
    assert ledger.hold(A) is a
    assert ledger.offer(taken(ledger), B, 0, 2) == Offer(0)  # A and C are held.
    assert (ledger.pages_evicted, ledger.refusals) == (1, {Refusal.BUSY: 1})
    ledger.release(c)
    assert ledger.offer(taken(ledger), key(4), 0, 3) == Offer(100, (c,))


def test_a_page_that_was_passed_over_can_leave_when_it_was_let_go_of() -> None:
    ledger = ledger_for(1)
    a = kept(ledger, A)
    ledger.hold(A)
    for n in range(3):
        assert ledger.offer(taken(ledger), key(10 + n), 0, n) == Offer(0)
    ledger.release(a)
    assert ledger.offer(taken(ledger), C, 0, 4) == Offer(100, (a,))


def test_an_offer_that_cannot_be_met_costs_nobody_a_place() -> None:
    ledger = ledger_for(3)
    kept(ledger, A)
    kept(ledger, B)
    kept(ledger, C)
    ledger.hold(B)
    assert ledger.offer(taken(ledger, 4000), key(4), 0, 0) == Offer(0)
    assert ledger.l1_pages == 3


def test_a_hit_pays_for_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_for(1)
    buffer = kept(ledger, A)

    def fed(*_: object) -> None:
        raise AssertionError("the policy was told")

    monkeypatch.setattr(RamRetention, "feed", fed)
    assert ledger.hold(A) is buffer
    ledger.release(buffer)


def test_memory_is_reused_while_nobody_needs_its_room() -> None:
    ledger = ledger_for(0, room=1000)
    assert ledger.take(400) == Supply(False)
    assert ledger.release(PageAccount(400))
    assert ledger.keeps_spare(400)
    assert ledger.take(400) == Supply(True)
    assert ledger.spare_bytes == 0
    ledger.take(300)
    assert not ledger.keeps_spare(301)
    assert ledger.keeps_spare(100)
    assert ledger.keeps_spare(200)
    assert ledger.take(50) == Supply(False, (100,))
    assert ledger.take(150) == Supply(False, (200,))
    assert (ledger.room_bytes, ledger.spare_bytes) == (900, 0)


def test_what_could_not_be_had_is_not_charged() -> None:
    ledger = ledger_for(0)
    ledger.take(400)
    ledger.not_taken(400)
    assert ledger.room_bytes == 0
    with pytest.raises(ContractViolation, match="were not taken"):
        ledger.not_taken(1)


def numbers(ledger: Ledger) -> tuple[object, ...]:
    return (
        ledger.room_bytes,
        ledger.spare_bytes,
        ledger.l1_bytes,
        ledger.l1_pages,
        ledger.pages_admitted,
        dict(ledger.refusals),
        ledger.pages_evicted,
    )


def offered_twice(ledger: Ledger, buffer: PageAccount) -> None:
    ledger.offer(buffer, C, 0, 20)


def offered_unheld(ledger: Ledger, _buffer: PageAccount) -> None:
    gone = taken(ledger, 1)
    ledger.release(gone)
    ledger.offer(gone, C, 1, 20)


def offered_to_fewer(ledger: Ledger, _buffer: PageAccount) -> None:
    ledger.offer(PageAccount(100), C, -1, 20)


def offered_earlier(ledger: Ledger, _buffer: PageAccount) -> None:
    late = PageAccount(100)
    try:
        ledger.offer(late, C, 5, 9)
    finally:
        assert (late.key, late.holders) == (None, 1)


def released_too_often(ledger: Ledger, buffer: PageAccount) -> None:
    ledger.release(buffer)
    ledger.release(buffer)


def of_no_length(ledger: Ledger, _buffer: PageAccount) -> None:
    ledger.take(0)


@pytest.mark.parametrize(
    "mistake",
    [offered_twice, offered_unheld, offered_to_fewer, offered_earlier, released_too_often, of_no_length],
)
def test_a_mistake_of_the_driver_is_refused_and_changes_nothing(
    mistake: Callable[[Ledger, PageAccount], None],
) -> None:
    ledger = ledger_for(1)
    buffer = taken(ledger)
    ledger.offer(buffer, A, 0, 10)
    before = numbers(ledger)
    with pytest.raises(ContractViolation):
        mistake(ledger, buffer)
    assert numbers(ledger) == before
    assert C not in ledger
    assert ledger.hold(A) is buffer


STEPS = st.tuples(
    st.sampled_from(["take", "no memory", "offer", "hold", "release"]), st.integers(0, 7), st.integers(0, 3)
)


@given(st.integers(0, 6000), st.integers(0, 4000), long_lists(STEPS, 60))
def test_every_byte_is_in_one_account_and_what_is_held_stays(
    l1_bytes_max: int, room_bytes_max: int, steps: list[tuple[str, int, int]]
) -> None:
    """Buffers of a few lengths come and go. Memory is the list of lengths that a driver would have."""
    ledger: Ledger = BufferLedger(l1_bytes_max, room_bytes_max)
    there: list[PageAccount] = []
    found: dict[PageKey, PageAccount] = {}
    memory: Counter[int] = Counter()

    def gone(buffer: PageAccount) -> None:
        assert buffer.holders == 0
        there.remove(buffer)
        if found.get(buffer.key or A) is buffer:
            del found[buffer.key or A]
        memory[buffer.length] += ledger.keeps_spare(buffer.length)

    for now, (what, number, more) in enumerate(steps):
        buffer = there[number % len(there)] if there else None
        match what:
            case "take" | "no memory":
                length = (1, 700, 1500, 1500)[more]
                supply = ledger.take(length)
                assert supply.is_reused is (memory[length] > 0)
                memory.subtract((length,) if supply.is_reused else supply.surplus)
                if what == "take" or supply.is_reused:
                    there.append(PageAccount(length))
                else:
                    ledger.not_taken(length)
            case "offer" if buffer is not None and buffer.holders and buffer.key is None:
                held = [each for each in found.values() if each.holders]
                offer = ledger.offer(buffer, key(number), more, float(now))
                assert offer.room_bytes == (buffer.length if buffer.in_l1 else 0)
                for evicted in offer.evicted:
                    gone(evicted)
                assert all(each in there for each in held)
                found.setdefault(key(number), buffer)
            case "hold":
                assert ledger.hold(key(number)) is found.get(key(number))
            case "release" if buffer is not None and buffer.holders and ledger.release(buffer):
                gone(buffer)
        in_l1 = [each for each in there if each.in_l1]
        assert ledger.l1_bytes == sum(ram_charge(each.length) for each in in_l1) <= l1_bytes_max
        assert ledger.l1_pages == len(in_l1)
        assert ledger.room_bytes == sum(each.length for each in there if not each.in_l1)
        assert ledger.spare_bytes == sum(length * count for length, count in memory.items())
        assert ledger.room_bytes + ledger.spare_bytes <= max(room_bytes_max, ledger.room_bytes)
        assert all(each.holders or each.in_l1 for each in there)
        assert {page for page in map(key, range(8)) if page in ledger} == set(found)


def test_of_several_spare_buffers_of_one_length_one_is_taken() -> None:
    ledger = ledger_for(0)
    first, second = taken(ledger), taken(ledger)
    for buffer in (first, second):
        assert ledger.release(buffer)
        assert ledger.keeps_spare(100)
    assert ledger.spare_bytes == 200
    assert ledger.take(100) == Supply(True)
    assert ledger.spare_bytes == 100
    assert ledger.take(100) == Supply(True)
    assert ledger.spare_bytes == 0
