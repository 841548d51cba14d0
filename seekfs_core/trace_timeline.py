"""A trace for people: what happened when, who waited for what and how long, which GETs were made and why.

One line an event, and one for every action that came of it, indented. The scheduler's are told in words,
since they are what a slow read is about; those of other machines as they are. Times are seconds since the
trace began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, assert_never

from attrs import define, field

from seekfs_core.explain import causes_of, note_of
from seekfs_core.fetch_messages import (
    BreakOffCall,
    BreakOffGet,
    CallEnded,
    CallFailed,
    CallWanted,
    DeliverPage,
    DiscardPage,
    DropAhead,
    FailCall,
    FailPage,
    GetEnded,
    GetFailed,
    GetOpened,
    GrantRoom,
    PageArrived,
    PageSource,
    PagesWanted,
    ReadLeft,
    ReadWaits,
    RoomReturned,
    RoomWanted,
    StartCall,
    StartGet,
    WaitExpired,
)
from seekfs_core.fetch_work import runs_of
from seekfs_core.machine import Tick
from seekfs_core.pages import FILE_KEY_LENGTH, PageKey
from seekfs_core.trace import Born, Fed, Gone, Refused, TraceRecord
from seekfs_core.trace_text import shown


@define(kw_only=True)
class Timeline:
    """Tells records one after the other. ``machine`` is a part of the names of those that are told, ``read``
    the number of the one read that is."""

    began: float
    machine: str = ""
    read: int | None = None
    _names: dict[int, str] = field(factory=dict, init=False)
    _paths: dict[bytes, str] = field(factory=dict, init=False)
    _gets: dict[int, StartGet] = field(factory=dict, init=False)
    _waits: dict[int, tuple[float, PageKey | None]] = field(factory=dict, init=False)

    def lines(self, record: TraceRecord) -> Iterator[str]:
        """What a record says, as far as it is asked for."""
        match record:
            case Born(machine=number, name=name):
                self._names[number] = name
            case Gone(machine=number):
                self._names.pop(number, None)
            case Refused():
                if self.read is None:
                    yield from self._told(record, shown(record.event), [f"refused: {record.text}"])
            case Fed():
                told = self._event(record)
                actions = [(each, self._action(each, record.now)) for each in record.actions]
                if self.read is not None:
                    actions = [(each, text) for each, text in actions if self._concerns(each)]
                    if not actions and not self._concerns(record.event):
                        return
                elif isinstance(record.event, Tick) and not actions:
                    return
                yield from self._told(record, told, [text for _, text in actions])
            case _:
                assert_never(record)

    def _told(self, record: Fed | Refused, event: str, actions: list[str]) -> Iterator[str]:
        name = self._names.get(record.machine, f"machine {record.machine}")
        if self.machine in name:
            yield f"{record.now - self.began:12.6f}  {name}: {event}"
            for action in actions:
                yield f"{'':12}    {action}"

    def _concerns(self, thing: Any) -> bool:
        """Whether an event or action is about the one read that is asked for, or a GET of its."""
        read = self.read
        match thing:
            case StartGet() | DeliverPage() | FailPage():
                return read in (thing.reads if not isinstance(thing, StartGet) else (thing.read,))
            case GetOpened() | PageArrived() | GetEnded() | GetFailed() | BreakOffGet() | DiscardPage():
                start = self._gets.get(thing.get)
                return start is not None and start.read == read
        return getattr(thing, "read", None) == read

    # --- the scheduler in words -------------------------------------------------------------

    def _event(self, record: Fed) -> str:
        event, now = record.event, record.now
        match event:
            case PagesWanted(read, source, pages, is_ahead):
                self._paths[bytes(source.key)] = source.file.path
                later = ", for later" if is_ahead else ""
                return f"read {read} wants {_pages(pages)} of {_file(source)}{later}"
            case ReadWaits(read, page, until):
                self._waits[read] = now, page
                limit = "" if until == float("inf") else f", {until - now:.3f} s at most"
                return f"read {read} waits for {self._page(page)}{limit}"
            case ReadLeft(read):
                self._waits.pop(read, None)
                return f"read {read} leaves"
            case RoomWanted(read, length):
                return f"read {read} wants room for {length} bytes"
            case RoomReturned(length):
                return f"room for {length} bytes is back"
            case GetOpened(get):
                start = self._gets.get(get)
                return f"GET {get} is answered" + (
                    "" if start is None else f", asked for by read {start.read}"
                )
            case PageArrived(get, page_id, crc32c):
                return f"GET {get} brings page {page_id}, CRC-32C {crc32c:#010x}"
            case GetEnded(get):
                return f"GET {get} has ended"
            case GetFailed(get, failure):
                return f"GET {get} has failed: {failure.kind.value}: {failure.detail}"
            case CallWanted(call, ns):
                return f"call {call} is wanted" + ("" if ns is None else f", for {ns!r}")
            case CallEnded(call):
                return f"call {call} is answered"
            case CallFailed(call, failure):
                return f"call {call} has failed: {failure.kind.value}: {failure.detail}"
            case Tick():
                return "time has passed"
        return shown(event)

    def _action(self, action: Any, now: float) -> str:
        match action:
            case StartGet():
                self._gets[action.get] = action
                beside = "" if action.hedge_of is None else f", beside GET {action.hedge_of}"
                return (
                    f"GET {action.get}{beside}: bytes {action.start} to {action.stop} of "
                    f"{action.source.file.storage_key!r}, try {action.attempt}: {action.reason.value}; "
                    f"wanted by read {action.read} for {now - action.wanted_at:.6f} s"
                )
            case StartCall(call, attempt):
                return f"call {call} is made, try {attempt}"
            case DeliverPage(get, source, page_id, reads):
                told = "".join(self._waited(read, get, now) for read in reads)
                return f"page {page_id} of {_file(source)} is there, for {_reads(reads)}{told}"
            case FailPage(source, page_id, reads, failure):
                for read in reads:
                    self._waits.pop(read, None)
                return (
                    f"page {page_id} of {_file(source)} cannot be had, for {_reads(reads)}: "
                    f"{failure.kind.value}: {failure.detail}"
                )
            case DiscardPage(get, page_id):
                return f"page {page_id} of GET {get} is dropped"
            case GrantRoom(read, length):
                return f"read {read} has room for {length} bytes{self._over(read, now)}"
            case WaitExpired(read, page):
                return f"read {read} has waited too long for {self._page(page)}{self._over(read, now)}"
            case DropAhead(read, lost):
                return f"read {read} is to let go of what it holds ahead; {len(lost)} pages will not come"
            case BreakOffGet(get, failure):
                return f"GET {get} is broken off: {failure.detail}"
            case BreakOffCall(call, failure):
                return f"call {call} is broken off: {failure.detail}"
            case FailCall(call, failure):
                return f"call {call} comes to nothing: {failure.kind.value}: {failure.detail}"
        return shown(action)

    def _waited(self, read: int, get: int, now: float) -> str:
        """How long a read waited for a page that has come, and what for."""
        start = self._gets.get(get)
        if read not in self._waits or start is None:
            return ""
        since, _ = self._waits.pop(read)
        causes = causes_of(note_of(start, read), since, now)
        told = ", ".join(f"{seconds:.6f} s for {cause.value}" for cause, seconds in causes.items() if seconds)
        return f"; read {read} waited {told or 'no time'}"

    def _over(self, read: int, now: float) -> str:
        since, _ = self._waits.pop(read, (now, None))
        return "" if since == now else f", after {now - since:.6f} s"

    def _page(self, page: PageKey | None) -> str:
        if page is None:
            return "room"
        path = self._paths.get(bytes(page[:FILE_KEY_LENGTH]))
        number = int.from_bytes(page[FILE_KEY_LENGTH:], "big")
        return f"page {number}" + ("" if path is None else f" of {path!r}")


def _pages(pages: tuple[int, ...]) -> str:
    runs = [f"{start}" if stop == start + 1 else f"{start} to {stop - 1}" for start, stop in runs_of(pages)]
    return f"page{'' if len(pages) == 1 else 's'} {', '.join(runs[:8])}{', …' if len(runs) > 8 else ''}"


def _file(source: PageSource) -> str:
    return f"{source.file.path!r} in version {source.version} of {source.ns!r}"


def _reads(reads: tuple[int, ...]) -> str:
    return f"reads {', '.join(map(str, reads))}" if reads else "nobody"
