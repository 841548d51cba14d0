"""Traces: what went into machines and what came out, as a file that can be fed to them again.

A machine is a function of its state, the event and the time. So a file that has its state once, and then
every event with its time, has everything; the actions are in it as well, to compare.

A file is a head and records::

    MAGIC  version u32  CRC-32 of both u32
    length u32  CRC-32 of the payload u32  CRC-32 of these two u32  payload
    …

Numbers are little-endian; a payload is a list in MessagePack, the kind of the record first::

    ["begin", seekfs's version, monotonic seconds, seconds since 1970]
    ["class", name, fields]            how many there were before is its number
    ["slot", class, slot, value]       (``seekfs_core.trace_encoding``)
    ["born", machine, name, state]     the machine as it is before its first event in this file
    ["fed", machine, now, event, actions]
    ["refused", machine, now, event, exception, text]
    ["gone", machine]
    ["lost", events]                   that were not recorded; who lost some is born again before its next
    ["end"]

A record that is cut short at the end of a file is no damage: its writer was killed, or the disk was full. The
CRC of a length tells such a one from a wrong length. CRC-32 and not CRC-32C, which the core has no means of
computing at this rate.

Machines are born in a file when they are first fed in it, so that no file needs another one, and nobody who
is quiet is waited for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias, assert_never
from zlib import crc32

import msgspec
from attrs import define, field, frozen

from seekfs_core.errors import TraceError
from seekfs_core.trace_decoding import Memory
from seekfs_core.trace_encoding import Notes, taken
from seekfs_core.trace_text import difference_of, shown

MAGIC: Final = b"SEEKFS-TRACE\r\n\x1a\n"
"""The line ends are those that a transfer as text would change."""

FORMAT_VERSION: Final = 1

_HEAD: Final = struct.Struct("<16sII")
_FRAME: Final = struct.Struct("<III")


# --- records --------------------------------------------------------------------------------


@frozen(kw_only=True)
class Begun:
    """Where a file begins. ``monotonic`` is the clock of every ``now`` in it, ``unix`` the other one, at the
    same moment."""

    seekfs: str
    monotonic: float
    unix: float


@frozen(kw_only=True)
class Record:
    """One record: ``number`` counts from 0, ``offset`` is its first byte in the file."""

    number: int
    offset: int
    machine: int


@frozen(kw_only=True)
class Born(Record):
    name: str
    state: Any
    """The machine itself, made from what was recorded."""


@frozen(kw_only=True)
class Fed(Record):
    now: float
    event: Any
    actions: tuple[Any, ...]


@frozen(kw_only=True)
class Refused(Record):
    """``feed`` raised: the name of the exception's class, and its text."""

    now: float
    event: Any
    exception: str
    text: str


@frozen(kw_only=True)
class Gone(Record):
    """Nobody has the machine any more."""


TraceRecord: TypeAlias = Born | Fed | Refused | Gone


def file_head() -> bytes:
    """The first bytes of a file."""
    checked = struct.pack("<16sI", MAGIC, FORMAT_VERSION)
    return checked + struct.pack("<I", crc32(checked))


def is_trace(head: bytes) -> bool:
    """Whether a file that begins so may be a trace; one that was never written to may become one."""
    return head[: len(MAGIC)] == MAGIC[: len(head)]


def frame(payload: bytes) -> bytes:
    """A record as it stands in a file."""
    lengths = struct.pack("<II", len(payload), crc32(payload))
    return lengths + struct.pack("<I", crc32(lengths)) + payload


@define
class TraceWriter:
    """Says what the bytes of one file are, in order. What is ``taken`` may have been so elsewhere; values may
    not have changed since. All raise ``TraceError`` for what cannot be in a trace, and the file ends there.
    """

    _notes: Notes = field(factory=Notes, init=False)

    def begin(self, begun: Begun) -> bytes:
        return file_head() + self._framed(["begin", begun.seekfs, begun.monotonic, begun.unix])

    def born(self, machine: int, name: str, state: object) -> bytes:
        """``state`` is what ``taken_machine`` made of it."""
        return self._framed(["born", machine, name, state])

    def fed(self, machine: int, now: float, event: object, actions: Sequence[object]) -> bytes:
        return self._framed(["fed", machine, float(now), taken(event), [*map(taken, actions)]])

    def refused(self, machine: int, now: float, event: object, exception: str, text: str) -> bytes:
        return self._framed(["refused", machine, float(now), taken(event), exception, taken(text)])

    def gone(self, machine: int) -> bytes:
        return self._framed(["gone", machine])

    def lost(self, events: int) -> bytes:
        return self._framed(["lost", events])

    def end(self) -> bytes:
        return self._framed(["end"])

    def _framed(self, record: list[object]) -> bytes:
        return b"".join(map(frame, self._notes.encode(record)))


# --- reading --------------------------------------------------------------------------------


class TraceReader:
    """The records of a file, one after the other. What they say of the file is known when they are through.

    ``TraceError`` for a file that is none, is of another version, or is damaged; it names the byte.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._memory = Memory()
        self.begun: Begun | None = None
        self.events_lost = 0
        self.torn_bytes = 0
        """Of a last record that is cut short."""
        self.is_ended = False
        """Whether it was closed in order."""

    def __iter__(self) -> Iterator[TraceRecord]:
        for number, (offset, payload) in enumerate(self._payloads()):
            try:
                record = self._decoded(payload, number, offset)
            except TraceError as error:
                where = f"record {number}, at byte {offset}"
                raise TraceError(f"{where}: {error.detail}", offset=offset, record=number) from None
            if record is not None:
                yield record

    def payloads(self) -> Iterator[tuple[int, bytes]]:
        """Where each record begins, and what it has, as it stands there."""
        return self._payloads()

    def _payloads(self) -> Iterator[tuple[int, bytes]]:
        data = self._data
        self._check_head()
        at = _HEAD.size
        while at < len(data):
            if len(data) - at < _FRAME.size:
                break
            length, crc, crc_of_both = _FRAME.unpack_from(data, at)
            if crc32(data[at : at + 8]) != crc_of_both:
                raise TraceError(f"the record at byte {at} is damaged: its length is wrong", offset=at)
            start = at + _FRAME.size
            if len(data) - start < length:
                break
            payload = bytes(data[start : start + length])
            if crc32(payload) != crc:
                raise TraceError(f"the record at byte {at} is damaged: its CRC is wrong", offset=at)
            yield at, payload
            at = start + length
        self.torn_bytes = len(data) - at

    def _check_head(self) -> None:
        data = self._data
        if not data or not is_trace(bytes(data[: len(MAGIC)])):
            raise TraceError("it is no trace: it does not begin like one", offset=0)
        if len(data) < _HEAD.size:
            raise TraceError("it has been cut short before its first record", offset=len(data))
        _, version, crc = _HEAD.unpack_from(data)
        if crc32(data[: _HEAD.size - 4]) != crc:
            raise TraceError("its head is damaged", offset=len(MAGIC))
        if version != FORMAT_VERSION:
            raise TraceError(
                f"it is of format {version}, and this version of seekfs reads format {FORMAT_VERSION}",
                offset=len(MAGIC),
            )

    def _decoded(self, payload: bytes, number: int, offset: int) -> TraceRecord | None:
        try:
            record = msgspec.msgpack.decode(payload)
        except (ValueError, TypeError, RecursionError) as error:
            raise TraceError(f"it is no MessagePack: {error}") from None
        if type(record) is not list or (number == 0) != (record[:1] == ["begin"]):
            raise TraceError("it is not what stands here in a trace")
        memory = self._memory
        match record:
            case ["begin", str() as seekfs, float() as monotonic, float() as unix]:
                self.begun = Begun(seekfs=seekfs, monotonic=monotonic, unix=unix)
            case ["class" | "slot", *_] if memory.learn(record):
                pass
            case ["born", int() as machine, str() as name, state]:
                made = memory.machine(state)
                if not hasattr(type(made), "feed"):
                    raise TraceError(f"a {type(made).__name__} is no machine")
                return Born(number=number, offset=offset, machine=machine, name=name, state=made)
            case ["fed", int() as machine, float() as now, event, list() as actions]:
                return Fed(
                    number=number,
                    offset=offset,
                    machine=machine,
                    now=now,
                    event=memory.value(event),
                    actions=tuple(map(memory.value, actions)),
                )
            case ["refused", int() as machine, float() as now, event, str() as exception, text]:
                return Refused(
                    number=number,
                    offset=offset,
                    machine=machine,
                    now=now,
                    event=memory.value(event),
                    exception=exception,
                    text=str(memory.value(text)),
                )
            case ["gone", int() as machine]:
                return Gone(number=number, offset=offset, machine=machine)
            case ["lost", int() as events]:
                self.events_lost += events
            case ["end"]:
                self.is_ended = True
            case _:
                raise TraceError(f"a record of a kind {shown(record[:1])} that no trace has")
        return None


# --- replaying ------------------------------------------------------------------------------


@frozen(kw_only=True)
class Difference:
    """The first event at which a machine did something else than was recorded."""

    offset: int
    record: int
    machine: str
    now: float
    event: str
    expected: tuple[str, ...]
    found: tuple[str, ...]
    where: str
    """What of it differs, as a path into the actions."""

    def __str__(self) -> str:
        place = f"record {self.record}, at byte {self.offset}"
        lines = [
            f"the first difference is in {place}: {self.machine}, at {self.now:.6f}",
            f"  event     {self.event}",
            *(f"  expected  {each}" for each in self.expected or ("nothing",)),
            *(f"  found     {each}" for each in self.found or ("nothing",)),
            f"  differs   {self.where}",
        ]
        return "\n".join(lines)


@frozen(kw_only=True)
class Replay:
    """What came of feeding a file to its machines again. ``difference`` None: all the same."""

    events: int
    machines: int
    events_lost: int
    torn_bytes: int
    is_ended: bool
    difference: Difference | None


@define
class Replayer:
    """Fresh machines, and what the records of one file do to them."""

    events: int = field(default=0, init=False)
    machines: int = field(default=0, init=False)
    names: dict[int, str] = field(factory=dict, init=False)
    live: dict[int, Any] = field(factory=dict, init=False)

    def take(self, record: TraceRecord) -> Difference | None:
        """Do what a record says; the difference that this makes, if any. ``TraceError`` for an event of a
        machine that there is not."""
        match record:
            case Born(machine=number, name=name, state=machine):
                self.machines += number not in self.names
                self.names[number], self.live[number] = name, machine
                return None
            case Gone(machine=number):
                self.live.pop(number, None)
                return None
            case Fed() | Refused():
                return self._feed(record)
            case _:
                assert_never(record)

    def _feed(self, record: Fed | Refused) -> Difference | None:
        machine = self.live.get(record.machine)
        if machine is None:
            place = f"record {record.number}, at byte {record.offset}"
            raise TraceError(f"{place}: machine {record.machine} is not there", offset=record.offset)
        self.events += 1
        found: tuple[Any, ...] = ()
        raised: Exception | None = None
        where: str | None
        try:
            found = machine.feed(record.event, record.now)
        except Exception as error:  # A bug that was recorded, a forged file, or what is looked for.
            raised = error
        if isinstance(record, Fed):
            where = difference_of(record.actions, found) if raised is None else "it raised"
            expected = tuple(map(shown, record.actions))
        else:
            where = None if type(raised).__name__ == record.exception else "what it raised"
            expected = (f"{record.exception}: {record.text}",)
        if where is None:
            return None
        return Difference(
            offset=record.offset,
            record=record.number,
            machine=self.names[record.machine],
            now=record.now,
            event=shown(record.event),
            expected=expected,
            found=tuple(map(shown, found)) if raised is None else (f"{type(raised).__name__}: {raised}",),
            where=where,
        )


def replay(data: bytes | memoryview) -> Replay:
    """Feed a file's events to fresh machines, up to the first difference. ``TraceError``."""
    reader, replayer = TraceReader(data), Replayer()
    difference: Difference | None = None
    for record in reader:
        difference = replayer.take(record)
        if difference is not None:
            break
    return Replay(
        events=replayer.events,
        machines=replayer.machines,
        events_lost=reader.events_lost,
        torn_bytes=reader.torn_bytes,
        is_ended=reader.is_ended,
        difference=difference,
    )
