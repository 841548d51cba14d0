"""RamRetention against a naive model, and the rules of its docstring one by one."""

from __future__ import annotations

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation
from seekfs_core.machine import Tick
from seekfs_core.pages import PageKey
from seekfs_core.retention import (
    Admit,
    Evict,
    PageDropped,
    PageOffered,
    PagePinned,
    PagesHit,
    PageUnpinned,
    RamAction,
    RamEvent,
    RamRetention,
    Refuse,
)


def key(n: int) -> PageKey:
    return PageKey(n.to_bytes(36, "big"))


A, B, C, D = (key(n) for n in range(4))


def test_the_least_recently_used_page_leaves_first() -> None:
    ram = RamRetention(30)
    for page in (A, B, C):
        assert ram.feed(PageOffered(page, 10), 0) == (Admit(page),)
    assert ram.feed(PagesHit((A,)), 1) == ()
    assert ram.feed(PageOffered(D, 15), 2) == (Evict(B), Evict(C), Admit(D))
    assert ram.charged_bytes == 25
    assert A in ram
    assert B not in ram
    assert len(ram) == 2


def test_a_page_that_is_held_is_refused_and_counts_as_used() -> None:
    ram = RamRetention(20)
    ram.feed(PageOffered(A, 10), 0)
    ram.feed(PageOffered(B, 10), 0)
    assert ram.feed(PageOffered(A, 10), 0) == (Refuse(A),)
    assert ram.feed(PageOffered(C, 10), 0) == (Evict(B), Admit(C))


def test_a_page_that_cannot_fit_evicts_nothing() -> None:
    ram = RamRetention(20)
    ram.feed(PageOffered(A, 10), 0)
    assert ram.feed(PageOffered(B, 21), 0) == (Refuse(B),)
    ram.feed(PageOffered(B, 10), 0)
    ram.feed(PagePinned(A), 0)
    assert ram.feed(PageOffered(C, 11), 0) == (Refuse(C),)
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
    assert ram.feed(PageOffered(A, 10), 0) == (Refuse(A),)
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
    assert ram.feed(PagesHit((A, B)), 0) == ()
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
                    return (Refuse(page),)
                keep = [(k, n) for k, n in self.held if k in self.pins]
                if sum(n for _, n in keep) + nbytes > self.ceiling:
                    return (Refuse(page),)
                actions: list[RamAction] = []
                while sum(n for _, n in self.held) + nbytes > self.ceiling:
                    victim = next(entry for entry in self.held if entry[0] not in self.pins)
                    self.held.remove(victim)
                    actions.append(Evict(victim[0]))
                self.held.append((page, nbytes))
                return (*actions, Admit(page))
            case PagesHit(pages):
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
    st.builds(PagesHit, st.lists(PAGES, max_size=4).map(tuple)),
    st.builds(PagePinned, PAGES),
    st.builds(PageUnpinned, PAGES),
    st.builds(PageDropped, PAGES),
    st.just(Tick()),
)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 100), st.lists(RAM_EVENTS, max_size=60))
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
