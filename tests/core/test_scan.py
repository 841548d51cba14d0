"""Reading an object through: one content, however often it changes, and no more on its way than allowed."""

from __future__ import annotations

import itertools
from collections import deque

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation, NoSuchObject, StoreAnswered
from seekfs_core.retry import READS_OF_CHANGING_OBJECT_MAX
from seekfs_core.scan import (
    SCAN_TRANSITIONS,
    Begin,
    DigestWindow,
    Fail,
    Finish,
    Look,
    Looked,
    ObjectScan,
    ReadWindow,
    Restart,
    ScanAction,
    ScanEvent,
    ScanState,
    WindowRead,
)
from seekfs_core.uploads import There

OLD, NEW = There(size=25, etag='"old"'), There(size=31, etag='"new"')

EVENTS: tuple[ScanEvent, ...] = (
    Begin(None),
    Begin(OLD),
    Looked(None),
    Looked(OLD),
    WindowRead(None),
    WindowRead(OLD),
)
WAY_TO: dict[ScanState, tuple[ScanEvent, ...]] = {
    ScanState.NEW: (),
    ScanState.LOOKING: (Begin(None),),
    ScanState.READING: (Begin(OLD),),
    ScanState.OVER: (Begin(None), Looked(None)),
}


def new_scan(window_bytes: int = 10, ahead: int = 2) -> ObjectScan:
    return ObjectScan(key="k", window_bytes=window_bytes, ahead=ahead)


@pytest.mark.parametrize(("state", "event"), [*itertools.product(ScanState, EVENTS)])
def test_every_event_lands_where_the_table_says_or_is_refused(state: ScanState, event: ScanEvent) -> None:
    scan = new_scan()
    for each in WAY_TO[state]:
        scan.feed(each, 0.0)
    assert scan.state is state
    landings = SCAN_TRANSITIONS.get((state, type(event)))
    if landings is None:
        before = repr(scan)
        with pytest.raises(ContractViolation):
            scan.feed(event, 1.0)
        assert repr(scan) == before
    else:
        scan.feed(event, 1.0)
        assert scan.state in landings


def test_an_object_is_looked_at_and_read_in_windows_some_of_them_ahead() -> None:
    scan = new_scan()
    assert scan.feed(Begin(None), 0.0) == (Look(),)
    assert scan.feed(Looked(OLD), 0.0) == (
        Restart(),
        ReadWindow(0, 10, OLD.etag),
        ReadWindow(10, 20, OLD.etag),
    )
    assert scan.feed(WindowRead(OLD), 0.0) == (DigestWindow(), ReadWindow(20, 25, OLD.etag))
    assert scan.feed(WindowRead(OLD), 0.0) == (DigestWindow(),)
    assert scan.feed(WindowRead(OLD), 0.0) == (DigestWindow(), Finish(OLD.etag))


def test_what_a_listing_has_said_is_believed_for_the_first_reading_only() -> None:
    scan = new_scan()
    assert scan.feed(Begin(OLD), 0.0)[0] == Restart()
    assert scan.feed(WindowRead(None), 0.0) == (Look(),)
    assert scan.feed(Looked(NEW), 0.0)[:2] == (Restart(), ReadWindow(0, 10, NEW.etag))


def test_an_empty_object_is_not_read() -> None:
    assert new_scan().feed(Begin(There(size=0, etag=None)), 0.0) == (Restart(), Finish(None))


def error_in(actions: tuple[ScanAction, ...]) -> Exception:
    (action,) = actions
    assert isinstance(action, Fail)
    return action.error


def test_an_object_that_is_not_there_or_goes() -> None:
    scan = new_scan()
    scan.feed(Begin(None), 0.0)
    assert isinstance(error_in(scan.feed(Looked(None), 0.0)), NoSuchObject)
    scan = new_scan()
    scan.feed(Begin(OLD), 0.0)
    scan.feed(WindowRead(None), 0.0)
    assert isinstance(error_in(scan.feed(Looked(None), 0.0)), NoSuchObject)


def test_an_object_that_keeps_changing_is_given_up() -> None:
    scan = new_scan()
    scan.feed(Begin(None), 0.0)
    for _ in range(READS_OF_CHANGING_OBJECT_MAX - 1):
        scan.feed(Looked(OLD), 0.0)
        assert scan.feed(WindowRead(NEW), 0.0) == (Look(),)
    scan.feed(Looked(OLD), 0.0)
    assert "'k' changed while it was being read" in str(error_in(scan.feed(WindowRead(NEW), 0.0)))


def test_several_gets_of_an_object_without_an_etag_are_not_made() -> None:
    assert isinstance(error_in(new_scan().feed(Begin(There(size=11, etag=None)), 0.0)), StoreAnswered)
    scan = new_scan()
    assert scan.feed(Begin(There(size=10, etag=None)), 0.0) == (Restart(), ReadWindow(0, 10, None))
    assert scan.feed(WindowRead(There(size=10, etag=None)), 0.0) == (DigestWindow(), Finish(None))


@define
class Store:
    """An object that becomes another one at given GETs; each content is known by its number."""

    sizes: list[int]
    changes: set[int]
    content: int = 0
    gets: int = 0
    digested: list[tuple[int, int, int]] = field(factory=list)
    under_way: deque[tuple[ReadWindow, int, There | None]] = field(factory=deque)

    @property
    def there(self) -> There:
        return There(size=self.sizes[self.content % len(self.sizes)], etag=str(self.content))

    def get(self, window: ReadWindow) -> None:
        if self.gets in self.changes:
            self.content += 1
        self.gets += 1
        is_same = window.etag == self.there.etag
        self.under_way.append((window, self.content, self.there if is_same else None))


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    changes=st.sets(st.integers(0, 12), max_size=3),
    window_bytes=st.integers(1, 20),
    ahead=st.integers(1, 5),
    is_known=st.booleans(),
)
def test_what_is_digested_is_every_byte_of_one_content(
    sizes: list[int], changes: set[int], window_bytes: int, ahead: int, is_known: bool
) -> None:
    store = Store(sizes, changes)
    scan = new_scan(window_bytes, ahead)
    came = (0, 0, 0)
    event: ScanEvent = Begin(store.there if is_known else None)
    while True:
        for action in scan.feed(event, 0.0):
            match action:
                case Look():
                    event = Looked(store.there)
                case Restart():
                    store.under_way.clear()
                    store.digested.clear()
                case ReadWindow():
                    store.get(action)
                    assert len(store.under_way) <= ahead
                case DigestWindow():
                    store.digested.append(came)
                case Finish(etag):
                    contents = {content for content, _, _ in store.digested}
                    assert contents <= {int(etag or 0)}
                    extents = [extent for _, *extent in store.digested]
                    size = sizes[int(etag or 0) % len(sizes)]
                    starts = range(0, size, window_bytes)
                    assert extents == [[start, min(start + window_bytes, size)] for start in starts]
                    return
                case Fail(error):
                    assert isinstance(error, StoreAnswered)
                    assert store.content >= READS_OF_CHANGING_OBJECT_MAX
                    return
        if scan.state is ScanState.READING:
            window, content, there = store.under_way.popleft()
            came = (content, window.start, window.stop)
            event = WindowRead(there)
