"""A trace told to people: each line of one short story, and what is left out when little is asked for."""

from __future__ import annotations

from seekfs_core.errors import FailureKind
from seekfs_core.fetch_messages import (
    CallEnded,
    CallFailed,
    CallLeft,
    CallWanted,
    Closing,
    FetchEvent,
    GetEnded,
    GetFailed,
    GetOpened,
    PageArrived,
    PagesWanted,
    ReadLeft,
    ReadWaits,
    RoomReturned,
    RoomWanted,
)
from seekfs_core.hedge import HedgePolicy
from seekfs_core.machine import Tick
from seekfs_core.pages import page_key
from seekfs_core.tier import Failed, TierHealth
from seekfs_core.trace import Begun, TraceReader, TraceWriter
from seekfs_core.trace_encoding import taken_machine
from seekfs_core.trace_timeline import Timeline
from tests.core.model_fetch import Watched
from tests.core.test_fetch import failure, source_of

SOURCE = source_of(9)
KEY = repr(SOURCE.file.storage_key)
FILE = "'a' in version 3 of 'dev'"
CAUSES = "read 1 waited 1.000000 s for budget, 0.500000 s for store"
FIRST = "wanted by read 1 for 1.000000 s"
SINCE = "wanted by read 1 for 2.000000 s"


def recorded(watched: Watched, *events: tuple[float, FetchEvent]) -> bytes:
    writer = TraceWriter()
    pieces = [writer.begin(Begun(seekfs="0", monotonic=10.0, unix=0.0))]
    pieces.append(writer.born(1, "scheduler", taken_machine(watched.scheduler)))
    for now, event in events:
        pieces.append(writer.fed(1, now, event, watched.feed(event, now)))
    pieces.append(writer.refused(1, 99.0, GetEnded(77), "ContractViolation", "GET 77 is not known"))
    return b"".join([*pieces, writer.gone(1), writer.end()])


def told(data: bytes, machine: str = "", read: int | None = None) -> list[str]:
    timeline = Timeline(began=10.0, machine=machine, read=read)
    return [line for record in TraceReader(data) for line in timeline.lines(record)]


def test_a_story_is_told_in_words() -> None:
    watched = Watched.make(coalesce=20, room=40, attempts=2, backoff=1.0, inflight=1)
    data = recorded(
        watched,
        (11.0, CallWanted(1, "dev")),
        (11.0, PagesWanted(1, SOURCE, (0, 1))),
        (11.0, PagesWanted(2, SOURCE, (1, 4), is_ahead=True)),
        (11.0, ReadWaits(1, page_key(SOURCE.key, 0), 20.0)),
        (11.5, ReadWaits(2, page_key(SOURCE.key, 1))),
        (12.0, CallEnded(1)),
        (12.25, GetOpened(1, None, 90)),
        (12.5, PageArrived(1, 0, 0)),
        (12.5, PageArrived(1, 1, 0xBAD)),
        (13.0, GetEnded(1)),
    )
    assert told(data)[:-2] == [
        "    1.000000  scheduler: call 1 is wanted, for 'dev'",
        "                call 1 is made, try 1",
        "    1.000000  scheduler: read 1 wants pages 0 to 1 of 'a' in version 3 of 'dev'",
        "    1.000000  scheduler: read 2 wants pages 1, 4 of 'a' in version 3 of 'dev', for later",
        "    1.000000  scheduler: read 1 waits for page 0 of 'a', 9.000 s at most",
        "    1.500000  scheduler: read 2 waits for page 1 of 'a'",
        "    2.000000  scheduler: call 1 is answered",
        f"                GET 1: bytes 0 to 20 of {KEY}, try 1: a read needs it; {FIRST}",
        "    2.250000  scheduler: GET 1 is answered, asked for by read 1",
        "    2.500000  scheduler: GET 1 brings page 0, CRC-32C 0x00000000",
        f"                page 0 of {FILE} is there, for reads 1; {CAUSES}",
        "    2.500000  scheduler: GET 1 brings page 1, CRC-32C 0x00000bad",
        "                page 1 of GET 1 is dropped",
        "    3.000000  scheduler: GET 1 has ended",
        f"                GET 3: bytes 10 to 20 of {KEY}, try 1: the checksum of a page was wrong; {SINCE}",
    ]
    refused = ["   89.000000  scheduler: GetEnded(get=77)", "                refused: GET 77 is not known"]
    assert told(data)[-2:] == refused
    assert told(data, machine="resolver") == []
    ours = told(data, read=1)
    assert ours[0].endswith(f"read 1 wants pages 0 to 1 of {FILE}")
    assert not any("read 2" in line or "call 1 is wanted" in line for line in ours)
    assert not any("read 1 waits" in line for line in told(data, read=2))


def test_trouble_is_told_too() -> None:
    watched = Watched.make(
        coalesce=20, room=20, attempts=1, hedge=HedgePolicy(is_on=False), page_seconds=50.0
    )
    data = recorded(
        watched,
        (11.0, PagesWanted(1, SOURCE, (0, 1))),
        (11.0, CallWanted(2)),
        (11.0, CallWanted(3)),
        (11.0, RoomWanted(2, 20)),
        (11.0, ReadWaits(2, None, 12.0)),
        (11.5, Tick()),
        (12.0, Tick()),
        (12.0, CallFailed(2, failure(FailureKind.MISSING, "no such key"))),
        (12.5, CallLeft(3)),
        (13.0, GetFailed(1, failure(FailureKind.UNREACHABLE, "refused"))),
        (13.5, RoomReturned(20)),
        (14.0, PagesWanted(3, SOURCE, (5,))),
        (65.0, Tick()),
        (70.0, ReadLeft(3)),
        (71.0, Closing()),
    )
    lines = told(data)
    for expected in (
        "read 2 wants room for 20 bytes",
        "read 2 waits for room, 1.000 s at most",
        "read 2 has waited too long for room, after 1.000000 s",
        "call 2 has failed: missing: no such key",
        "call 2 comes to nothing: missing: no such key",
        "call 3 is broken off: nobody waits for this answer any more",
        "GET 1 has failed: unreachable: refused",
        "page 0 of 'a' in version 3 of 'dev' cannot be had, for reads 1: unreachable: refused",
        "read 2 has room for 20 bytes",
        "room for 20 bytes is back",
        "is broken off: GET was broken off: page 1 took more than 50 seconds",
        "read 3 leaves",
        "refused: GET 77 is not known",
    ):
        assert any(expected in line for line in lines), (expected, lines)
    # The time alone is not worth a line where nothing came of it.
    assert sum("time has passed" in line for line in lines) == 2


def test_machines_other_than_the_scheduler_are_told_as_they_are() -> None:
    writer = TraceWriter()
    pieces = [writer.begin(Begun(seekfs="0", monotonic=10.0, unix=0.0))]
    health = TierHealth()
    pieces.append(writer.born(1, "reading the disk", taken_machine(health)))
    pieces.append(writer.fed(1, 11.0, Failed("full"), health.feed(Failed("full"), 11.0)))
    assert told(b"".join([*pieces, writer.end()])) == [
        "    1.000000  reading the disk: Failed(reason='full')",
        "                TurnedOff(reason='full', probe_in_seconds=1.0)",
    ]


def test_a_page_that_came_before_anybody_waited_for_it_made_nobody_wait() -> None:
    watched = Watched.make(coalesce=20, room=40, attempts=2, backoff=1.0, inflight=1)
    data = recorded(
        watched,
        (11.0, PagesWanted(1, SOURCE, (0,))),
        (11.0, GetOpened(1, None, 90)),
        (12.0, PageArrived(1, 0, 0)),
        (12.0, GetEnded(1)),
    )
    (line,) = (line for line in told(data) if "is there" in line)
    assert line.endswith(f"page 0 of {FILE} is there, for reads 1")
