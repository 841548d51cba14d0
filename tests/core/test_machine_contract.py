"""What every machine of the core owes its driver, whichever it is; and the life of a GET, pair by pair.

A machine is found by its shape, so a new one fails here until it is listed.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

import seekfs_core
from seekfs_core import (
    creation,
    disk_watch,
    fetch,
    lookup,
    parted_upload,
    publication,
    readahead,
    resolver,
    resolver_messages,
    retention,
    reuse,
    scan,
    segments,
    staging,
    states,
    tier,
    uploads,
    writebehind,
)
from seekfs_core.breaker import BreakerPolicy
from seekfs_core.errors import ContractViolation, FailureKind, StoreFailure, StoreUnavailable
from seekfs_core.fetch_messages import (
    CallEnded,
    CallFailed,
    CallNotMade,
    CallWanted,
    FetchEvent,
    GetEnded,
    GetFailed,
    GetOpened,
    PageArrived,
    PagesWanted,
    RoomReturned,
    RoomWanted,
)
from seekfs_core.fetch_work import GET_TRANSITIONS, GetState
from seekfs_core.machine import Machine, Tick
from seekfs_core.manifest import Manifest
from seekfs_core.pages import PageKey
from seekfs_core.plan import plan_read
from seekfs_core.publication_protocol import Begin, Packed
from seekfs_core.retry import RetryPolicy
from seekfs_core.segment_layout import shares_of
from tests.core import (
    test_breaker,
    test_creation,
    test_lookup,
    test_parted_upload,
    test_publication,
    test_scan,
    test_segments,
    test_staging,
    test_tier,
    test_uploads,
)
from tests.core.model_fetch import Watched
from tests.core.model_files import blank_file, manifest_of
from tests.core.test_fetch import gets, source_of

UNREACHABLE = StoreFailure(kind=FailureKind.UNREACHABLE, detail="down")
BUSY = StoreFailure(kind=FailureKind.BUSY, detail="busy")
SOURCE = source_of(4)
KEY = PageKey(bytes(36))


def state_of(thing: Any) -> object:
    """All that a machine is, down to the last number, as something that can be compared."""
    if isinstance(thing, random.Random):
        return thing.getstate()
    if isinstance(thing, Mapping):
        return [(state_of(key), state_of(value)) for key, value in thing.items()]
    if isinstance(thing, list | tuple | deque):
        return [state_of(each) for each in thing]
    if isinstance(thing, set | frozenset):
        return sorted(map(repr, thing))
    if attrs.has(type(thing)):
        fields = attrs.fields(type(thing))
        return type(thing).__name__, [(each.name, state_of(getattr(thing, each.name))) for each in fields]
    return repr(thing)


# --- machines in the middle of their work ---------------------------------------------------
# Each is at time 10 and has something under way. Beside it: an event that it may get next, and
# events that would be a mistake of its driver's.


def a_scheduler() -> fetch.FetchScheduler:
    """Get 1 in flight, at its second page; get 2 backing off; call 7 in flight, 8 not; 10 bytes out."""
    watched = Watched.make(room=100, coalesce=20, backoff=5.0)
    one, two = gets(watched.feed(PagesWanted(1, SOURCE, (0, 1, 2, 3)), 10.0))
    watched.feed(PageArrived(one.get, 0, 0))
    watched.feed(GetFailed(two.get, BUSY))
    watched.feed(CallWanted(7))
    watched.feed(CallWanted(8))
    watched.feed(CallFailed(8, BUSY))
    assert (one.get, two.get) == (1, 2)
    return watched.scheduler


def a_readahead() -> readahead.ReadAhead:
    file = blank_file("a", 200, 10)
    ahead = readahead.ReadAhead(plan_read(manifest_of(file), [("a", 0, 200)], clip=False), 40, 1000)
    ahead.feed(readahead.WindowEntered("a", 1), 10.0)
    return ahead


def a_write_behind() -> writebehind.WriteBehind:
    behind = writebehind.WriteBehind(1)
    behind.feed(writebehind.PageVerified(KEY, 10), 10.0)
    return behind


def a_resolver() -> resolver.ManifestResolver:
    resolving = resolver.ManifestResolver(10.0)
    resolving.feed(resolver_messages.ResolveWanted(1, "dev", None), 10.0)
    resolving.feed(resolver_messages.ResolveWanted(2, "seen", None), 10.0)
    resolving.feed(resolver_messages.HeadRead("seen", 1), 10.0)
    return resolving


def a_tier() -> tier.TierHealth:
    health = tier.TierHealth()
    health.feed(tier.Failed("full"), 10.0)
    return health


def a_disk_watch() -> disk_watch.DiskWatch:
    """Call 1 hangs, 2 moves, 3 waits for a thread."""
    watch = disk_watch.DiskWatch(5.0)
    watch.feed(disk_watch.Began(1, tier.Operation.WRITE), 2.0)
    watch.feed(disk_watch.Began(2, tier.Operation.READ), 10.0)
    watch.feed(disk_watch.Queued(3, tier.Operation.READ), 10.0)
    return watch


def a_publication() -> publication.Publication:
    publishing = publication.Publication(
        ns="dev",
        publication_id="1",
        policy=RetryPolicy(attempts_max=3, backoff_seconds_initial=0.1),
        rng=random.Random(1),
    )
    publishing.feed(Begin(), 10.0)
    return publishing


def a_ram_retention() -> retention.RamRetention:
    ram = retention.RamRetention(100)
    ram.feed(retention.PageOffered(KEY, 10), 10.0)
    return ram


def a_segment_log() -> segments.SegmentLog:
    log = segments.SegmentLog(shares_of(1 << 30))
    log.feed(Tick(), 10.0)
    return log


def a_reuse() -> reuse.Reuse:
    items = [("a", 0, 5), ("a", 10, 5), ("a", 2, 5)]
    kept = reuse.Reuse(plan_read(manifest_of(blank_file("a", 200, 10)), items, clip=False), 100)
    kept.feed(reuse.SliceRead(("a", 0), 10), 10.0)
    return kept


def a_lookup() -> lookup.PageLookup:
    looking = lookup.PageLookup()
    looking.feed(lookup.NotOnDisk(lookup.Knowledge.NOTHING), 10.0)
    return looking


def a_creation() -> creation.ObjectCreation:
    policy = RetryPolicy(attempts_max=3, backoff_seconds_initial=0.1)
    creating = creation.ObjectCreation(creation.Write.PUT, creation.Conditions.KEPT, policy, random.Random(1))
    creating.feed(creation.Begin(), 10.0)
    creating.feed(creation.WriteFailed(BUSY), 10.0)
    return creating


def a_staging() -> staging.PageStaging:
    stage = staging.PageStaging()
    stage.feed(staging.Seen(False), 10.0)
    return stage


DIGESTED = uploads.FileDigested(path="a", size=10, sha256=bytes(32))


def an_upload() -> uploads.Uploads:
    """File "a" is being sent, and "b" has other content, whose key is being looked at."""
    sending = uploads.Uploads(
        ns="dev", kind=uploads.KeyKind.CONTENT, part_bytes=5, conditions=creation.Conditions.TRIED
    )
    sending.feed(DIGESTED, 9.0)
    sending.feed(uploads.Looked("a", None), 9.5)
    sending.feed(uploads.FileDigested(path="b", size=10, sha256=bytes(31) + b"b"), 10.0)
    return sending


def a_scan() -> scan.ObjectScan:
    """Of three windows, two of which are on their way."""
    scanning = scan.ObjectScan(key="a", window_bytes=10, ahead=2)
    scanning.feed(scan.Begin(uploads.There(size=25, etag='"1"')), 10.0)
    return scanning


def a_parted_upload() -> parted_upload.PartedUpload:
    """Being undone: the first abort has failed."""
    parts = parted_upload.PartedUpload(
        size=40,
        part_bytes=10,
        sha256=bytes(32),
        policy=RetryPolicy(attempts_max=3, backoff_seconds_initial=0.1),
        rng=random.Random(1),
    )
    parts.feed(parted_upload.Begin(), 9.0)
    parts.feed(parted_upload.UploadBegun("u"), 9.0)
    parts.feed(parted_upload.StepFailed(), 10.0)
    parts.feed(parted_upload.CalledOff("u", False), 10.0)
    parts.feed(parted_upload.AbortFailed(BUSY), 10.0)
    return parts


WINDOW = scan.WindowRead(uploads.There(size=25, etag='"1"'))

NOT_ASKED_FOR = Manifest(ns="dev", version=1, files={})

CASES: dict[type[Any], tuple[Callable[[], Any], tuple[Any, ...]]] = {
    fetch.FetchScheduler: (
        a_scheduler,
        (
            PagesWanted(2, SOURCE, (0, 4)),
            PagesWanted(2, SOURCE, (-1,)),
            RoomWanted(2, 0),
            RoomWanted(2, 101),
            RoomReturned(11),
            RoomReturned(-1),
            CallWanted(7),
            CallEnded(8),
            CallFailed(8, BUSY),
            CallEnded(9),
            CallNotMade(8),
            CallNotMade(9),
            GetOpened(2, None, 40),
            GetOpened(3, None, 40),
            PageArrived(1, 0, 0),
            PageArrived(1, 2, 2),
            PageArrived(2, 2, 2),
            GetEnded(1),
            GetEnded(2),
            GetFailed(2, BUSY),
            GetFailed(99, BUSY),
        ),
    ),
    readahead.ReadAhead: (a_readahead, (readahead.WindowEntered("a", 0), readahead.WindowEntered("b", 1))),
    writebehind.WriteBehind: (
        a_write_behind,
        (writebehind.WriteEnded(PageKey(b"1" * 36)),),
    ),
    resolver.ManifestResolver: (
        a_resolver,
        (
            resolver_messages.HeadRead("other", 1),
            resolver_messages.HeadFailed("other", StoreUnavailable("down")),
            resolver_messages.HeadRead("seen", 2),
            resolver_messages.HeadFailed("seen", StoreUnavailable("down")),
            resolver_messages.ManifestRead(NOT_ASKED_FOR),
            resolver_messages.ManifestFailed("dev", 1, None),
            resolver_messages.NotKept("dev", 1),
            resolver_messages.KeepingEnded("dev", 1),
        ),
    ),
    tier.TierHealth: (a_tier, (tier.CameBack(),)),
    disk_watch.DiskWatch: (
        a_disk_watch,
        (
            disk_watch.Began(1, tier.Operation.READ),
            disk_watch.Began(2, tier.Operation.READ),
            disk_watch.Queued(2, tier.Operation.READ),
            disk_watch.Queued(3, tier.Operation.READ),
            disk_watch.Moved(3),
            disk_watch.Ended(3),
            disk_watch.Ended(4),
        ),
    ),
    publication.Publication: (a_publication, (Begin(), Packed())),
    retention.RamRetention: (a_ram_retention, (retention.PageUnpinned(KEY),)),
    segments.SegmentLog: (a_segment_log, ()),
    reuse.Reuse: (a_reuse, ()),
    lookup.PageLookup: (a_lookup, (lookup.WaitOver(), lookup.NotAtHand())),
    creation.ObjectCreation: (a_creation, (creation.Begin(), creation.Written(), creation.Looked(True))),
    scan.ObjectScan: (a_scan, (scan.Begin(None), scan.Looked(None))),
    staging.PageStaging: (a_staging, (staging.Seen(True), staging.Seen(False))),
    uploads.Uploads: (
        an_upload,
        (
            DIGESTED,
            uploads.Proven("a"),
            uploads.Looked("a", None),
            uploads.Compared("a", True),
            uploads.Sent("b", True, uploads.There(size=10, etag=None), creation.Conditions.TRIED),
            uploads.Sent("a", True, uploads.There(size=9, etag=None), creation.Conditions.TRIED),
            uploads.Looked("c", None),
        ),
    ),
    parted_upload.PartedUpload: (
        a_parted_upload,
        (
            parted_upload.Begin(),
            parted_upload.PartTaken(),
            parted_upload.Summed(bytes(32)),
            parted_upload.PartsSent(("1",)),
            parted_upload.Joined(True),
            parted_upload.Aborted(),
            parted_upload.Landed("u"),
        ),
    ),
}

TIMELESS: dict[type[Any], tuple[object, object, object]] = {
    readahead.ReadAhead: (readahead.WindowProbed(0),) * 3,
    reuse.Reuse: (reuse.SliceRead(("a", 1), 10),) * 3,
    lookup.PageLookup: (lookup.Asked(lookup.Knowledge.ON_ITS_WAY), lookup.WaitOver(), lookup.NotAtHand()),
    staging.PageStaging: (staging.Done(), staging.Done(), staging.Seen(False)),
    scan.ObjectScan: (WINDOW,) * 3,
    uploads.Uploads: (
        uploads.Looked("b", None),
        uploads.Sent("a", True, uploads.There(size=10, etag=None), creation.Conditions.REFUSED),
        uploads.Sent("b", False, uploads.There(size=10, etag='"b"'), creation.Conditions.TRIED),
    ),
}
"""Machines that nobody has to wake: they know no ``Tick``, and here is how they go on."""

MACHINES = pytest.mark.parametrize("kind", CASES, ids=lambda kind: str(kind.__name__))
MISTAKES = pytest.mark.parametrize(
    ("kind", "event"),
    [(kind, event) for kind, (_, events) in CASES.items() for event in events],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)


def in_the_middle(kind: type[Any]) -> Machine[Any, object]:
    machine: Machine[Any, object] = CASES[kind][0]()
    return machine


def harmless_events(kind: type[Any]) -> tuple[object, object, object]:
    return TIMELESS.get(kind, (Tick(), Tick(), Tick()))


def test_every_machine_is_looked_at_here() -> None:
    modules = [
        importlib.import_module(f"seekfs_core.{found.name}")
        for found in pkgutil.iter_modules(seekfs_core.__path__)
    ]
    machines = {
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type) and attrs.has(thing) and "feed" in vars(thing)
    }
    assert {kind.__name__ for kind in machines} == {kind.__name__ for kind in CASES}


@MACHINES
@pytest.mark.parametrize("now", [9.999, 0.0, float("-inf"), float("nan")])
def test_time_that_goes_back_is_refused_and_changes_nothing(kind: type[Any], now: float) -> None:
    machine = in_the_middle(kind)
    before = state_of(machine)
    with pytest.raises(ContractViolation, match="time went"):
        machine.feed(harmless_events(kind)[0], now)
    assert state_of(machine) == before
    machine.feed(harmless_events(kind)[0], 10.0)


@MISTAKES
def test_a_mistake_of_the_driver_is_refused_and_changes_nothing(kind: type[Any], event: object) -> None:
    machine, twin = in_the_middle(kind), in_the_middle(kind)
    before = state_of(machine)
    with pytest.raises(ContractViolation):
        machine.feed(event, 11.0)
    assert state_of(machine) == before
    # Time has not moved either, and all goes on as if nothing had been.
    for harmless, now in zip(harmless_events(kind), (10.0, 10.5, 20.0), strict=True):
        assert machine.feed(harmless, now) == twin.feed(harmless, now)
    assert machine.next_deadline() == twin.next_deadline()


@MACHINES
def test_asking_for_the_deadline_changes_nothing(kind: type[Any]) -> None:
    machine = in_the_middle(kind)
    before = state_of(machine)
    assert machine.next_deadline() == machine.next_deadline()
    assert state_of(machine) == before


@MACHINES
def test_waking_a_machine_twice_is_harmless(kind: type[Any]) -> None:
    machine = in_the_middle(kind)
    if kind in TIMELESS:
        assert machine.next_deadline() is None
        return
    due = machine.next_deadline()
    now = 10.0 if due is None else max(10.0, due)
    machine.feed(Tick(), now)
    after = state_of(machine)
    assert machine.feed(Tick(), now) == ()
    assert state_of(machine) == after


@MACHINES
def test_the_same_events_give_the_same_actions(kind: type[Any]) -> None:
    assert state_of(in_the_middle(kind)) == state_of(in_the_middle(kind))


# --- the life of a GET ----------------------------------------------------------------------

HAPPENINGS = (
    *("start", "hedged", "taken over", "opened", "arrived", "ended", "failed", "due", "unwanted", "refused"),
)
FROM_OUTSIDE: dict[str, FetchEvent] = {
    "opened": GetOpened(1, None, 40),
    "arrived": PageArrived(1, 1, 1),
    "ended": GetEnded(1),
    "failed": GetFailed(1, BUSY),
}


def get_in(state: GetState) -> fetch.FetchScheduler:
    """A scheduler whose GET 1, of page 1 of ``SOURCE``, is in this state."""
    watched = Watched.make(inflight=1, backoff=5.0)
    if state is GetState.QUEUED:
        watched.feed(CallWanted(1), 10.0)
    watched.feed(PagesWanted(1, SOURCE, (1,)), 10.0)
    if state is GetState.BACKING_OFF:
        watched.feed(GetFailed(1, BUSY))
    if state is GetState.OVER:
        watched.feed(PageArrived(1, 1, 1))
        watched.feed(GetEnded(1))
    return watched.scheduler


@pytest.mark.parametrize("state", GetState)
@pytest.mark.parametrize("what", FROM_OUTSIDE)
def test_what_a_driver_tells_of_a_get_lands_where_the_table_says_or_is_refused(
    state: GetState, what: str
) -> None:
    scheduler = get_in(state)
    before = state_of(scheduler)
    if what == "ended" and state is GetState.IN_FLIGHT:
        scheduler.feed(FROM_OUTSIDE["arrived"], 10.0)
    if (state, what) not in GET_TRANSITIONS:
        with pytest.raises(ContractViolation, match="cannot happen"):
            scheduler.feed(FROM_OUTSIDE[what], 10.0)
        assert state_of(scheduler) == before
        return
    scheduler.feed(FROM_OUTSIDE[what], 10.0)
    get = scheduler._book.gets.get(1)
    assert (GetState.OVER if get is None else get.state) in GET_TRANSITIONS[state, what]


def test_a_probe_that_fails_refuses_whatever_waits_for_its_turn() -> None:
    """One GET is queued and one backs off when the store is found to be down."""
    policy = BreakerPolicy(failures_max=1, probe_seconds_initial=1.0)
    watched = Watched.make(breaker=policy, coalesce=10, backoff=5.0)
    (get,) = gets(watched.feed(PagesWanted(1, SOURCE, (1,)), 10.0))
    watched.feed(GetFailed(get.get, UNREACHABLE))
    watched.feed(CallWanted(1))
    watched.feed(PagesWanted(2, SOURCE, (2,)))
    watched.feed(Tick(), 11.0)
    watched.feed(CallFailed(1, UNREACHABLE))
    assert watched.is_idle


def test_the_table_of_a_get_has_every_state_and_every_happening() -> None:
    """That each row is come to, and lands nowhere else, the simulator shows: ``tests/sim/reach.py``."""
    assert {what for _, what in GET_TRANSITIONS} == set(HAPPENINGS)
    assert {state for state, _ in GET_TRANSITIONS} == set(GetState) - {GetState.OVER}


def test_every_table_of_states_is_on_the_page() -> None:
    """Whatever maps a state and an event is found by its shape."""
    listed = {id(each.table) for each in states.MACHINES}
    found: dict[int, str] = {}
    for module in pkgutil.walk_packages(seekfs_core.__path__, "seekfs_core."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Mapping) and value:
                first = next(iter(value))
                if isinstance(first, tuple) and len(first) == 2 and isinstance(first[0], enum.Enum):
                    landings = next(iter(value.values()))
                    if any(isinstance(each, type(first[0])) for each in states.landings_of(landings)):
                        found[id(value)] = f"{module.name}.{name}"
    assert {name for key, name in found.items() if key not in listed} == set()
    assert len(found) == len(states.MACHINES)


WALKED = {
    "fetch_work": test_what_a_driver_tells_of_a_get_lands_where_the_table_says_or_is_refused,
    "breaker": test_breaker.test_every_row_of_the_table_is_walked_and_nothing_beside_it,
    "lookup": test_lookup.test_every_pair_of_action_and_outcome_is_in_the_table_or_refused,
    "tier": test_tier.test_every_event_lands_where_the_table_says,
    "segment_work": test_segments.test_an_event_is_taken_exactly_where_the_table_has_it,
    "staging": test_staging.test_every_pair_of_step_and_outcome_is_in_the_table_or_refused,
    "publication_protocol": test_publication.test_every_state_is_reached_and_every_pair_is_legal_or_refused,
    "creation": test_creation.test_every_event_lands_where_the_table_says_or_is_refused,
    "parted_upload": test_parted_upload.test_every_event_lands_where_the_table_says_or_is_refused,
    "uploads": test_uploads.test_every_event_lands_where_the_table_says_or_is_refused,
    "scan": test_scan.test_every_event_lands_where_the_table_says_or_is_refused,
}
"""Who walks over every pair of a state and an event, by the module of the table."""


def test_every_table_is_walked_by_somebody() -> None:
    assert [*WALKED] == [machine.module for machine in states.MACHINES]


def test_the_rows_of_a_table_are_in_the_order_of_its_states() -> None:
    for machine in states.MACHINES:
        rows = list(machine.rows())
        assert len(rows) == len(machine.table)
        order = list(type(rows[0].state))
        assert [order.index(row.state) for row in rows] == sorted(order.index(row.state) for row in rows)
        assert all(row.landings and row.event for row in rows)
