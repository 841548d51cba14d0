"""Retention in RAM against a naive model; retention on disk against LRU and Belady's optimum."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Sequence
from heapq import heappop, heappush

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick
from seekfs_core.pages import PageKey
from seekfs_core.retention import (
    Admit,
    DiskRetention,
    Evict,
    HitsSeen,
    PageDropped,
    PageOffered,
    PagePinned,
    PageUnpinned,
    RamAction,
    RamEvent,
    RamRetention,
    Refusal,
    Refuse,
)
from seekfs_core.segment_layout import SEGMENT_OVERHEAD_BYTES, Shares, record_length
from seekfs_core.segment_messages import (
    CopyPage,
    LogAction,
    PagePublished,
    PageWritten,
    Publish,
    RetireSegment,
    SegmentDrained,
    SegmentUnlinked,
    UnlinkSegment,
    WritePage,
)
from seekfs_core.segment_messages import PageOffered as DiskPageOffered
from seekfs_core.segments import SegmentLog
from tests.core.strategies import long_lists


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


A, B, C, D = (key(n) for n in range(4))


def test_the_least_recently_used_page_leaves_first() -> None:
    ram = RamRetention(30)
    for page in (A, B, C):
        assert ram.feed(PageOffered(page, 10), 0) == (Admit(page),)
    assert ram.feed(HitsSeen((A,)), 1) == ()
    assert ram.feed(PageOffered(D, 15), 2) == (Evict(B), Evict(C), Admit(D))
    assert ram.charged_bytes == 25
    assert A in ram
    assert B not in ram
    assert len(ram) == 2


def test_a_page_that_is_held_is_refused_and_counts_as_used() -> None:
    ram = RamRetention(20)
    ram.feed(PageOffered(A, 10), 0)
    ram.feed(PageOffered(B, 10), 0)
    assert ram.feed(PageOffered(A, 10), 0) == (Refuse(A, Refusal.HELD),)
    assert ram.feed(PageOffered(C, 10), 0) == (Evict(B), Admit(C))


def test_a_page_that_cannot_fit_evicts_nothing() -> None:
    ram = RamRetention(20)
    ram.feed(PageOffered(A, 10), 0)
    assert ram.feed(PageOffered(B, 21), 0) == (Refuse(B, Refusal.TOO_LARGE),)
    ram.feed(PageOffered(B, 10), 0)
    ram.feed(PagePinned(A), 0)
    assert ram.feed(PageOffered(C, 11), 0) == (Refuse(C, Refusal.BUSY),)
    assert A in ram
    assert B in ram


def test_a_pinned_page_stays_until_its_last_unpin_and_is_then_the_most_recent() -> None:
    ram = RamRetention(20)
    ram.feed(PageOffered(A, 10), 0)
    ram.feed(PageOffered(B, 10), 0)
    ram.feed(PagePinned(A), 0)
    ram.feed(PagePinned(A), 0)
    assert ram.feed(PageOffered(C, 10), 0) == (Evict(B), Admit(C))
    ram.feed(PageUnpinned(A), 0)
    assert ram.feed(PageOffered(D, 10), 0) == (Evict(C), Admit(D))
    ram.feed(PageUnpinned(A), 0)
    assert ram.feed(PageOffered(B, 10), 0) == (Evict(D), Admit(B))
    assert A in ram


def test_a_dropped_page_that_is_pinned_is_charged_until_it_is_let_go() -> None:
    ram = RamRetention(20)
    ram.feed(PageOffered(A, 10), 0)
    ram.feed(PagePinned(A), 0)
    ram.feed(PageDropped(A), 0)
    assert A not in ram
    assert ram.charged_bytes == 10
    assert ram.feed(PageOffered(A, 10), 0) == (Refuse(A, Refusal.HELD),)
    with pytest.raises(ContractViolation):
        ram.feed(PagePinned(A), 0)
    ram.feed(PageUnpinned(A), 0)
    assert ram.charged_bytes == 0
    assert len(ram) == 0
    assert ram.feed(PageOffered(A, 10), 0) == (Admit(A),)


def test_what_a_driver_must_not_do_leaves_the_machine_as_it_was() -> None:
    ram = RamRetention(20)
    ram.feed(PageOffered(A, 10), 5)
    for event in (PageOffered(B, 0), PagePinned(B), PageUnpinned(A), PageUnpinned(B)):
        with pytest.raises(ContractViolation):
            ram.feed(event, 7)
    with pytest.raises(ContractViolation):
        ram.feed(Tick(), 4)
    assert ram.feed(Tick(), 5) == ()
    assert ram.charged_bytes == 10
    assert ram.next_deadline() is None
    with pytest.raises(ContractViolation):
        RamRetention(-1)


def test_late_notes_of_pages_that_are_gone_are_ignored() -> None:
    ram = RamRetention(20)
    assert ram.feed(HitsSeen((A, B)), 0) == ()
    assert ram.feed(PageDropped(A), 0) == ()


@define
class NaiveRam:
    """The same promises, kept by looking at everything every time."""

    ceiling: int
    held: list[tuple[PageKey, int]] = field(factory=list)  # least recently used first
    pins: dict[PageKey, int] = field(factory=dict)
    dropped: set[PageKey] = field(factory=set)

    def size(self, page: PageKey) -> int | None:
        return dict(self.held).get(page)

    def touch(self, page: PageKey) -> None:
        size = self.size(page)
        if size is not None:
            self.held.remove((page, size))
            self.held.append((page, size))

    def feed(self, event: RamEvent) -> tuple[RamAction, ...]:
        match event:
            case PageOffered(page, nbytes):
                if self.size(page) is not None:
                    if page not in self.pins:
                        self.touch(page)
                    return (Refuse(page, Refusal.HELD),)
                if nbytes > self.ceiling:
                    return (Refuse(page, Refusal.TOO_LARGE),)
                keep = [(k, n) for k, n in self.held if k in self.pins]
                if sum(n for _, n in keep) + nbytes > self.ceiling:
                    return (Refuse(page, Refusal.BUSY),)
                actions: list[RamAction] = []
                while sum(n for _, n in self.held) + nbytes > self.ceiling:
                    victim = next(entry for entry in self.held if entry[0] not in self.pins)
                    self.held.remove(victim)
                    actions.append(Evict(victim[0]))
                self.held.append((page, nbytes))
                return (*actions, Admit(page))
            case HitsSeen(pages):
                for page in pages:
                    self.touch(page)
            case PagePinned(page):
                self.pins[page] = self.pins.get(page, 0) + 1
            case PageUnpinned(page):
                self.pins[page] -= 1
                if not self.pins[page]:
                    del self.pins[page]
                    self.touch(page)
                    if page in self.dropped:
                        self.dropped.remove(page)
                        self.held = [entry for entry in self.held if entry[0] != page]
            case PageDropped(page):
                if page in self.pins:
                    self.dropped.add(page)
                else:
                    self.held = [entry for entry in self.held if entry[0] != page]
            case Tick():
                pass
        return ()


PAGES = st.integers(0, 7).map(key)
RAM_EVENTS = st.one_of(
    st.builds(PageOffered, PAGES, st.integers(1, 40)),
    st.builds(PageOffered, PAGES, st.integers(1, 40)),
    st.builds(HitsSeen, st.lists(PAGES, max_size=4).map(tuple)),
    st.builds(PagePinned, PAGES),
    st.builds(PageUnpinned, PAGES),
    st.builds(PageDropped, PAGES),
    st.just(Tick()),
)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100), long_lists(RAM_EVENTS, 60))
def test_it_does_what_a_naive_model_does(ceiling: int, events: list[RamEvent]) -> None:
    ram, naive = RamRetention(ceiling), NaiveRam(ceiling)
    for now, event in enumerate(events):
        servable = {k for k, _ in naive.held} - naive.dropped
        if isinstance(event, PagePinned) and event.key not in servable:
            with pytest.raises(ContractViolation):
                ram.feed(event, now)
            continue
        if isinstance(event, PageUnpinned) and event.key not in naive.pins:
            with pytest.raises(ContractViolation):
                ram.feed(event, now)
            continue
        assert ram.feed(event, now) == naive.feed(event)
        assert ram.charged_bytes == sum(n for _, n in naive.held) <= ceiling
        held = {page for page, _ in naive.held} - naive.dropped
        assert {page for page in map(key, range(8)) if page in ram} == held


def test_a_newcomer_must_come_more_often_than_what_it_displaces() -> None:
    disk = DiskRetention()
    assert disk.worth(1)  # nothing is held, so nothing is displaced
    disk.admitted(A, 1)
    assert disk.missed(B) is None
    assert not disk.worth(None)
    disk.missed(C)
    interval = disk.missed(B)
    assert interval == 2
    assert not disk.worth(interval)  # A has idled for 3 requests, which is not more than 4
    disk.missed(C)
    disk.missed(D)
    assert disk.worth(2)
    disk.hit(A)
    assert not disk.worth(2)


def test_a_read_in_several_pieces_is_one_use() -> None:
    disk = DiskRetention()
    disk.admitted(A, 1)
    disk.admitted(B, 1)
    for page in (A, A, A, B, B, A):
        disk.hit(page)
    assert disk.requests == 3


def test_a_segment_is_worth_its_pages_that_were_hit_and_used_lately() -> None:
    disk = DiskRetention()
    for n in range(8):
        disk.admitted(key(n), 1 + n // 4)
    for n in (0, 1, 4):
        disk.hit(key(n))
    assert (disk.score(1), disk.score(2)) == ((2, 2), (1, 3))
    assert disk.warm(map(key, range(8))) == [key(4), key(1), key(0)]
    disk.moved(key(0), 2)
    assert (disk.score(1)[0], disk.score(2)[0]) == (1, 2)
    for _ in range(8):  # 16 requests: more than 1.5 for each of the 8 pages
        disk.hit(key(5))
        disk.hit(key(6))
    assert (disk.score(1)[0], disk.score(2)[0]) == (0, 2)
    disk.left(key(5))
    assert disk.score(2)[0] == 1
    assert len(disk) == 7
    assert disk.missed(key(5)) == 2


def test_a_page_that_was_carried_over_is_worth_there_what_it_was_worth_before() -> None:
    disk = DiskRetention()
    for n in range(4):
        disk.admitted(key(n), 1)
    disk.moved(key(0), 2)  # never hit, so it makes no segment worth more
    assert (disk.score(1), disk.score(2)) == ((0, 0), (0, 0))
    for n in (1, 2, 3) * 4:
        disk.hit(key(n))
    assert disk.warm([key(0)]) == []
    disk.moved(key(0), 3)  # not used lately, which moving does not change
    assert disk.score(3) == (0, 0)
    disk.hit(key(0))
    assert disk.score(3) == (1, 13)


# Judged on traces. The disk below does everything at once and never fails, so that what is
# measured is the policy, segments and carrying over included.

PAGE_LENGTH = 60_000
PAGES_PER_SEGMENT = 4
SEGMENTS = 80
CAPACITY = PAGES_PER_SEGMENT * (SEGMENTS - 1)  # room for one segment is kept for carrying over


def perfect_disk_hits(trace: Sequence[int]) -> list[bool]:
    segment_length = PAGES_PER_SEGMENT * record_length(PAGE_LENGTH)
    log = SegmentLog(
        Shares(
            ceiling_bytes=SEGMENTS * (segment_length + SEGMENT_OVERHEAD_BYTES),
            index_bytes=0,
            shelf_bytes=0,
            fixed_bytes=0,
            segment_length_max=segment_length,
            entries_max=1 << 30,
        )
    )
    hits = []
    for page in map(key, trace):
        hits.append(page in log)
        if page in log:
            log.feed(HitsSeen((page,)), 0)
            continue
        todo: deque[LogAction] = deque(log.feed(DiskPageOffered(page, PAGE_LENGTH), 0))
        while todo:
            match todo.popleft():
                case WritePage() | CopyPage() as action:
                    todo.extend(log.feed(PageWritten(action.key, action.segment), 0))
                case Publish() as action:
                    todo.extend(log.feed(PagePublished(action.key, action.segment), 0))
                case RetireSegment(segment):
                    todo.extend(log.feed(SegmentDrained(segment), 0))
                case UnlinkSegment(segment):
                    todo.extend(log.feed(SegmentUnlinked(segment), 0))
    assert len(log) <= CAPACITY
    return hits


def lru_hits(trace: Sequence[int]) -> list[bool]:
    held: OrderedDict[int, None] = OrderedDict()
    hits = []
    for page in trace:
        hits.append(page in held)
        held[page] = None
        held.move_to_end(page)
        if len(held) > CAPACITY:
            held.popitem(last=False)
    return hits


def belady_hits(trace: Sequence[int]) -> list[bool]:
    """The optimum that knows the future and may refuse a page (L. A. Belady, 1966)."""
    following = [0] * len(trace)
    seen: dict[int, int] = {}
    for index in range(len(trace) - 1, -1, -1):
        following[index] = seen.get(trace[index], len(trace))
        seen[trace[index]] = index
    held: dict[int, int] = {}
    farthest: list[tuple[int, int]] = []
    hits = []
    for page, again in zip(trace, following, strict=True):
        hits.append(page in held)
        if page not in held and len(held) == CAPACITY:
            while held.get(farthest[0][1]) != -farthest[0][0]:
                heappop(farthest)
            if -farthest[0][0] <= again:
                continue
            del held[heappop(farthest)[1]]
        held[page] = again
        heappush(farthest, (-again, page))
    return hits


def shuffled(chance: random.Random, pages: int, epochs: int) -> list[int]:
    return [page for _ in range(epochs) for page in chance.sample(range(pages), pages)]


def zipf(chance: random.Random, pages: int, requests: int) -> list[int]:
    return chance.choices(range(pages), [1 / (rank + 1) for rank in range(pages)], k=requests)


def hot_and_scan(chance: random.Random, rounds: int) -> list[int]:
    hot, trace, scanned = int(0.6 * CAPACITY), [], 1_000_000
    for _ in range(rounds):
        trace += chance.sample(range(hot), hot)
        trace += range(scanned, scanned + CAPACITY)
        scanned += CAPACITY
    return trace


def moved_on(pages: int, epochs: int) -> list[int]:
    """One data set for some epochs, then another one for as many."""
    return [*range(pages)] * epochs + [*range(1_000_000, 1_000_000 + pages)] * epochs


C12, C20 = int(1.2 * CAPACITY), 2 * CAPACITY
TRACES: list[tuple[str, list[int], float, float]] = [
    # name, trace, at least this part of Belady's hits, at least this many times those of LRU
    ("cyclic 0.5C", [*range(CAPACITY // 2)] * 8, 1.0, 1.0),
    ("cyclic 1.2C", [*range(C12)] * 10, 0.99, 100),
    ("cyclic 2C", [*range(C20)] * 10, 0.99, 100),
    ("cyclic 4C", [*range(4 * CAPACITY)] * 8, 0.99, 100),
    ("shuffled 1.2C", shuffled(random.Random(1), C12, 12), 0.94, 1.3),
    ("shuffled 2C", shuffled(random.Random(2), C20, 12), 0.8, 2.3),
    ("zipf 1.0 of 10C", zipf(random.Random(3), 10 * CAPACITY, 40 * CAPACITY), 0.78, 1.0),
    ("hot and scan", hot_and_scan(random.Random(4), 20), 0.99, 100),
    ("moved on, 1.2C", moved_on(C12, 10), 0.75, 100),
]


@pytest.mark.parametrize(("name", "trace", "of_belady", "of_lru"), TRACES, ids=[t[0] for t in TRACES])
def test_hits_on_disk_come_near_the_optimum(
    name: str, trace: list[int], of_belady: float, of_lru: float
) -> None:
    warm = len(trace) // 4  # the first quarter is for filling and learning
    hits, lru, belady = (sum(policy(trace)[warm:]) for policy in (perfect_disk_hits, lru_hits, belady_hits))
    assert hits <= belady
    assert hits >= of_belady * belady, f"{hits} of {belady} on {name}"
    assert hits >= of_lru * max(lru, 1), f"{hits} against {lru} on {name}"
