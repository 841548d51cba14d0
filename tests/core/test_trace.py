"""What is recorded is what was there: every event, action and machine, to the last number; and a file that is
cut, damaged or forged is told so and does nothing else.
"""

from __future__ import annotations

import enum
import importlib
import pkgutil
import random
import struct
import typing
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any
from zlib import crc32

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import seekfs_core
from seekfs_core import fetch_messages, resolver_messages, tier, trace_encoding
from seekfs_core.errors import FailureKind, NoSuchFile, SeekfsError, StoreFailure, TraceError
from seekfs_core.fetch_messages import PageArrived, PageSource, PagesWanted
from seekfs_core.machine import Tick
from seekfs_core.manifest import FileEntry, Manifest, pack_crcs
from seekfs_core.pages import PageKey
from seekfs_core.plan import plan_read
from seekfs_core.tier import Asked, Failed, TierHealth, Worked
from seekfs_core.trace import (
    FORMAT_VERSION,
    MAGIC,
    Begun,
    Born,
    Fed,
    Replayer,
    TraceReader,
    TraceWriter,
    file_head,
    frame,
    is_trace,
    replay,
)
from seekfs_core.trace_classes import CLASSES, SLOTS, little_endian
from seekfs_core.trace_decoding import Memory
from seekfs_core.trace_encoding import Notes, taken, taken_machine, taken_whole
from seekfs_core.trace_text import difference_of, shown
from tests.core.model_files import blank_file, manifest_of
from tests.core.test_machine_contract import CASES, harmless_events, state_of

BUSY = StoreFailure(kind=FailureKind.BUSY, detail="busy", facts={"attempts": 2, "object_size": None})
KEY = PageKey(bytes(35) + b"k")
BEGUN = Begun(seekfs="0.0.0", monotonic=10.0, unix=1e9)

MACHINES = pytest.mark.parametrize("kind", CASES, ids=lambda kind: str(kind.__name__))


def there_and_back(take: Callable[[object], object], thing: object, notes: Notes, memory: Memory) -> Any:
    *before, last = notes.encode(["it", take(thing)])
    for each in before:
        assert memory.learn(msgspec.msgpack.decode(each))
    (_, given_) = msgspec.msgpack.decode(last)
    return memory.machine(given_) if take is not taken else memory.value(given_)


def state_without_caches(machine: Any) -> object:
    """What a plan and a manifest have computed of themselves is no state."""
    if hasattr(machine, "plan"):
        machine.plan._runs = None
        machine.plan.manifest._file_keys.clear()
    return state_of(machine)


def twin_of(machine: Any, take: Callable[[object], object] = taken_whole) -> Any:
    return there_and_back(take, machine, Notes(), Memory())


# --- machines -------------------------------------------------------------------------------


@MACHINES
def test_a_machine_is_recorded_to_the_last_number_and_goes_on_alike(kind: type[Any]) -> None:
    machine = CASES[kind][0]()
    twin = twin_of(machine)
    assert type(twin) is kind
    assert state_of(twin) == state_without_caches(machine)
    assert twin.next_deadline() == machine.next_deadline()
    for harmless, now in zip(harmless_events(kind), (10.0, 10.5, 20.0), strict=True):
        assert difference_of(machine.feed(harmless, now), twin.feed(harmless, now)) is None
    assert state_without_caches(twin) == state_without_caches(machine)


@MACHINES
def test_a_machine_of_a_daemon_goes_on_alike_without_the_files_of_its_manifests(kind: type[Any]) -> None:
    machine = CASES[kind][0]()
    twin = twin_of(machine, taken_machine)
    for harmless, now in zip(harmless_events(kind), (10.0, 10.5, 20.0), strict=True):
        assert difference_of(machine.feed(harmless, now), twin.feed(harmless, now)) is None


@MACHINES
def test_what_is_one_object_stays_one(kind: type[Any]) -> None:
    """As many objects as there were, mentioned as often."""

    def mentions(thing: Any, found: dict[int, int]) -> dict[int, int]:
        if isinstance(thing, list) and thing[:1] == [12]:
            found[thing[1]] = found.get(thing[1], 0) + 1
        if isinstance(thing, list):
            for each in thing:
                mentions(each, found)
        return found

    machine = CASES[kind][0]()
    assert mentions(taken_whole(machine), {}) == mentions(taken_whole(twin_of(machine)), {})


def test_the_generator_of_a_machine_and_of_its_parts_is_one() -> None:
    scheduler = next(make for each, (make, _) in CASES.items() if each.__name__ == "FetchScheduler")()
    twin = twin_of(scheduler)
    assert twin._calls.rng is twin.rng
    assert twin.rng is not scheduler.rng
    assert twin.rng.random() == scheduler.rng.random()


def test_a_machine_may_go_on_while_it_is_written() -> None:
    machine = CASES[TierHealth][0]()
    state, before = taken_machine(machine), state_of(machine)
    machine.feed(Asked(), 100.0)
    (*learnt, last), memory = Notes().encode(["it", state]), Memory()
    for each in learnt:
        memory.learn(msgspec.msgpack.decode(each))
    assert state_of(memory.machine(msgspec.msgpack.decode(last)[1])) == before


def test_every_class_of_data_is_known() -> None:
    """``states`` is about the machines, and in none of them."""
    modules = [
        importlib.import_module(f"seekfs_core.{found.name}")
        for found in pkgutil.iter_modules(seekfs_core.__path__)
        if not found.ispkg and not found.name.startswith("trace") and found.name != "states"
    ]
    data = {
        thing
        for module in modules
        for thing in vars(module).values()
        if isinstance(thing, type)
        and thing.__module__.startswith("seekfs_core.")
        and not thing.__module__.startswith(("seekfs_core.trace", "seekfs_core.states"))
        and (attrs.has(thing) or issubclass(thing, enum.Enum | msgspec.Struct | SeekfsError))
    }
    assert data == set(CLASSES.values())


# --- events and actions ---------------------------------------------------------------------

SOURCE = PageSource(
    "dev",
    3,
    blank_file("a", 200, 10),
    manifest_of(blank_file("a", 200, 10)).file_key(blank_file("a", 200, 10)),
)


def samples_of(kind: Any, depth: int = 0) -> Any:
    """A value of a type, as plain as it can be."""
    if isinstance(kind, str):
        raise AssertionError(kind)
    made: dict[Any, Any] = {
        int: 7,
        float: 1.5,
        str: "text ü",
        bytes: bytes(range(36)),
        bool: True,
        type(None): None,
        PageSource: SOURCE,
        StoreFailure: BUSY,
        FileEntry: SOURCE.file,
        Manifest: manifest_of(SOURCE.file),
        Any: 1,
        object: 1,
    }
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in made:
        return made[kind]
    if hasattr(kind, "__supertype__"):
        return samples_of(kind.__supertype__, depth)
    if origin is tuple:
        count = 2 if arguments[-1] is Ellipsis else 1
        return tuple(
            samples_of(each, depth + 1) for each in arguments if each is not Ellipsis for _ in range(count)
        )
    if origin is frozenset:
        return frozenset({samples_of(arguments[0], depth + 1)})
    if (
        origin is not None
        and issubclass(dict, origin if isinstance(origin, type) else object)
        and len(arguments) == 2
    ):
        return {samples_of(arguments[0], depth + 1): samples_of(arguments[1], depth + 1)}
    if arguments:  # Of a union, the last that is not None.
        return samples_of([each for each in arguments if each is not type(None)][-1], depth + 1)
    if issubclass(kind, enum.Enum):
        return [*kind][-1]
    if issubclass(kind, SeekfsError):
        return kind("no such", path="a", version=None)
    hints = typing.get_type_hints(kind)
    thing = object.__new__(kind)
    for each in attrs.fields(kind):
        object.__setattr__(thing, each.name, samples_of(hints[each.name], depth + 1))
    return thing


def messages() -> list[type[Any]]:
    """Every event and action: what ``feed`` of a machine is annotated with."""
    seen: dict[type[Any], None] = {}

    def walk(kind: Any) -> None:
        for each in typing.get_args(kind):
            if each is not Ellipsis:
                walk(each)
        if isinstance(kind, type) and attrs.has(kind):
            seen[kind] = None

    for machine in CASES:
        for kind in typing.get_type_hints(machine.feed).values():
            walk(kind)
    return [*seen]


@pytest.mark.parametrize("kind", messages(), ids=lambda kind: f"{kind.__module__[12:]}.{kind.__name__}")
def test_an_event_or_action_comes_back_as_it_was(kind: type[Any]) -> None:
    thing = samples_of(kind)
    twin = there_and_back(taken_whole, thing, Notes(), Memory())
    assert type(twin) is kind
    assert difference_of(thing, twin) is None
    assert state_of(twin) == state_of(thing) or "Error" in repr(
        state_of(thing)
    )  # They equal themselves only.
    short = there_and_back(taken, thing, Notes(), Memory())
    assert shown(short) == shown(thing)
    if "Manifest" not in repr(thing):
        assert difference_of(thing, short) is None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(st.characters(categories=["Cs"]))
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(deque)
        | st.dictionaries(st.integers() | st.text() | st.binary(), inner)
        | st.dictionaries(st.text(), inner).map(OrderedDict)
        | st.sets(st.integers())
        | st.frozensets(st.binary())
        | st.dictionaries(st.text(), st.integers()).map(Counter)
        | st.builds(Failed, inner)
    ),
    max_leaves=12,
)


@example({-(2**63) - 1: None})
@example({2**64: 0})
@example({1: 2**64})
@example(OrderedDict([(1, -(2**70))]))
@given(VALUES)
def test_any_value_comes_back_as_it_was(thing: Any) -> None:
    twin = there_and_back(taken, thing, Notes(), Memory())
    assert difference_of(thing, twin) is None
    assert difference_of(twin, thing) is None
    if isinstance(thing, dict):
        assert list(thing) == list(twin)


@pytest.mark.parametrize(
    "thing", [object(), lambda: None, range(3), array("d", [1.0]), ValueError("no"), type("Mine", (), {})()]
)
def test_what_is_not_the_cores_cannot_be_in_a_trace(thing: object) -> None:
    with pytest.raises(TraceError, match="cannot be in a trace"):
        Notes().encode(["it", taken(thing)])


@pytest.mark.parametrize("thing", [object(), 1 << 64, {object(): 1}])
def test_what_was_never_taken_is_refused_when_it_is_encoded(thing: object) -> None:
    with pytest.raises(TraceError, match="this cannot be in a trace"):
        Notes().encode(["it", thing])


def test_checksums_are_the_same_in_a_file_whatever_machine_it_is_of() -> None:
    numbers = array("I", [1, 0xE3069283])
    other = little_endian(numbers, is_machine_little=False)
    assert list(other) == [0x01000000, 0x839206E3]
    assert little_endian(other, is_machine_little=False) == numbers
    assert little_endian(numbers, is_machine_little=True) is numbers
    with pytest.raises(TraceError, match="'H'"):
        little_endian(array("H", [1]))


def test_a_class_of_somebody_else_with_a_name_of_ours_is_refused() -> None:
    class Mine(enum.Enum):
        A = 1

    @attrs.frozen
    class Tock:
        pass

    for thing in (Mine.A, Tock()):
        with pytest.raises(TraceError, match="cannot be in a trace"):
            taken(thing)


# --- what is said once ----------------------------------------------------------------------


def test_a_file_is_described_once_and_is_one_object() -> None:
    notes, memory = Notes(), Memory()
    first = notes.encode(["it", taken(PagesWanted(1, SOURCE, (0,)))])
    second = notes.encode(["it", taken(PagesWanted(2, SOURCE, (1,)))])
    assert len(second) == 1
    assert len(second[0]) < 30
    events = []
    for payload in [*first, *second]:
        record = msgspec.msgpack.decode(payload)
        if not memory.learn(record):
            events.append(memory.value(record[1]))
    assert events[0].source is events[1].source
    assert events[0].source.file == SOURCE.file


def test_what_is_pushed_out_is_described_again_and_never_taken_for_another() -> None:
    """Also where one plan mentions more files than are remembered."""
    files = [blank_file(f"{number:05}", 10, 10) for number in range(SLOTS[FileEntry] + 20)]
    plan = plan_read(manifest_of(*files), [(file.path, 0, 10) for file in files], clip=False)
    notes, memory = Notes(), Memory()
    for _ in range(2):
        twin = there_and_back(taken, plan, notes, memory)
        assert [file.path for file, _, _ in twin.extents] == [file.path for file in files]
        assert twin.extents == plan.extents
    for file in [*files, *files]:
        assert there_and_back(taken, file, notes, memory) == file
    assert len(notes._slots[FileEntry].things) <= len(files)


def test_checksums_are_kept_as_they_are() -> None:
    entry = msgspec.structs.replace(blank_file("a", 40, 10), crcs=pack_crcs([0, 1, 2**32 - 1, 5]))
    twin = there_and_back(taken, entry, Notes(), Memory())
    assert twin.crcs == entry.crcs
    assert isinstance(twin.crcs, array)


# --- files ----------------------------------------------------------------------------------


def a_trace(events: int = 6) -> bytes:
    """A tier that fails and is asked, and a scheduler; closed in order."""
    writer = TraceWriter()
    pieces = [writer.begin(BEGUN)]
    health = TierHealth()
    pieces.append(writer.born(1, "reading the disk", taken_machine(health)))
    for number in range(events):
        event = (Failed("full"), Asked(), Worked())[number % 3]
        now = 10.0 + number
        pieces.append(writer.fed(1, now, event, health.feed(event, now)))
    scheduler = next(make for each, (make, _) in CASES.items() if each.__name__ == "FetchScheduler")()
    pieces.append(writer.born(2, "scheduler", taken_machine(scheduler)))
    for page_event in (Tick(), PagesWanted(3, SOURCE, (0, 1, 2)), PageArrived(1, 1, 1), Tick()):
        pieces.append(writer.fed(2, 20.0, page_event, scheduler.feed(page_event, 20.0)))
    try:
        scheduler.feed(PageArrived(9, 1, 1), 21.0)
    except Exception as error:
        pieces.append(writer.refused(2, 21.0, PageArrived(9, 1, 1), type(error).__name__, str(error)))
    pieces.append(writer.gone(1))
    pieces.append(writer.end())
    return b"".join(pieces)


TRACE = a_trace()


def boundaries(data: bytes) -> list[int]:
    return [offset for offset, _ in TraceReader(data).payloads()] + [len(data)]


def test_a_trace_replays_alike() -> None:
    replayed = replay(TRACE)
    assert replayed.difference is None
    assert (replayed.events, replayed.machines) == (11, 2)
    assert replayed.is_ended
    assert (replayed.torn_bytes, replayed.events_lost) == (0, 0)


GOLDEN = (
    "5345454b46532d54524143450d0a1a0a010000004f74e7a81f000000f5ae41f4502255f194a5626567696ea5302e302e"
    "30cb4024000000000000cb41cdcd65000000001b000000612d60b0ea6f605993a5636c617373ab746965722e4661696c"
    "656491a6726561736f6e2f0000007bae5d15963f644893a5636c617373ae746965722e5475726e65644f666692a67265"
    "61736f6eb070726f62655f696e5f7365636f6e6473120000000407046f20d1f06893a5636c617373a9746965722e536b"
    "6970902c000000a1be96a84c03fa0e95a366656401cb3ff0000000000000930a00a466756c6c92940a01a466756c6ccb"
    "3ff0000000000000920a02590000001708cc1c17cdd89f94a4626f726e02a1789601920581c424000000000000000000"
    "00000000000000000000000000000000000000000000000000006b0593070102930903019302a161c0920fb430783430"
    "3030303030303030303030303030303015000000efa181cc8ea195b793a5636c617373ac6d616368696e652e5469636b"
    "902b000000dcdc8f5240df511096a77265667573656402cb3ff8000000000000920a03b1436f6e747261637456696f6c"
    "6174696f6ea26e6f07000000cbaddcdca865e3bd92a46c6f73740307000000c5ee25022584f58b92a4676f6e65010500"
    "0000f5a5278a4870619491a3656e64"
)


def test_the_bytes_of_a_file_are_what_they_were() -> None:
    """Another layout is another ``FORMAT_VERSION``."""
    writer = TraceWriter()
    data = (
        writer.begin(BEGUN)
        + writer.fed(1, 1.0, tier.Failed("full"), (tier.TurnedOff("full", 1.0), tier.Skip()))
        + writer.born(2, "x", taken_machine([{KEY: 5}, {1, 2}, deque((1,), 3), {"a": None}, 2**70]))
        + writer.refused(2, 1.5, Tick(), "ContractViolation", "no")
        + writer.lost(3)
        + writer.gone(1)
        + writer.end()
    )
    assert FORMAT_VERSION == 1
    assert data.hex() == GOLDEN


def test_a_file_cut_anywhere_replays_up_to_there() -> None:
    edges = boundaries(TRACE)
    head = edges[0]
    about_edges = {edge + by for edge in edges for by in (-1, 0, 1)}
    for length in sorted({*range(0, len(TRACE), 7), *about_edges} & {*range(len(TRACE))}):
        if length < head:
            with pytest.raises(TraceError):
                replay(TRACE[:length])
            continue
        replayed = replay(TRACE[:length])
        assert replayed.difference is None
        assert not replayed.is_ended
        assert replayed.torn_bytes == length - max(edge for edge in edges if edge <= length)


def test_a_bit_that_is_flipped_anywhere_is_noticed() -> None:
    for at in range(0, len(TRACE), 7):
        damaged = bytearray(TRACE)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(TraceError) as raised:
            replay(bytes(damaged))
        offset = raised.value.context["offset"]
        assert offset <= at or at < len(MAGIC)


def test_a_file_of_another_version_or_kind_is_told_so() -> None:
    head = MAGIC + struct.pack("<I", FORMAT_VERSION + 1)
    with pytest.raises(TraceError, match=r"of format 2, and this version of seekfs reads format 1"):
        replay(head + struct.pack("<I", crc32(head)))
    for data in (b"", b"\0" * 100, b"PK\x03\x04", b"SEEKFS-TRACE\n\n\n\n" + bytes(90)):
        with pytest.raises(TraceError, match="no trace"):
            replay(data)
    assert is_trace(b"")
    assert is_trace(file_head())
    assert not is_trace(b"x")


def forged(*records: object) -> bytes:
    begun = ["begin", "0.0.0", 1.0, 2.0]
    return file_head() + b"".join(frame(msgspec.msgpack.encode(each)) for each in [begun, *records])


TICK = ["class", "machine.Tick", []]
HEALTH = [
    "class",
    "tier.TierHealth",
    ["faults_max", "state", "off_because", "_faults", "_hanging", "_delay_seconds", "_probe_at", "_now"],
]


@pytest.mark.parametrize(
    "records",
    [
        [["class", "os.system", []]],
        [["class", "builtins.eval", []]],
        [["class", "machine.Tick", ["now"]]],
        [["class", "tier.TierHealth", ["state"]]],
        [["class", 1, 2]],
        [["unknown"]],
        [[]],
        [7],
        [["begin", "0.0.0", 1.0, 2.0]],
        [["born", 1, "x", None]],
        [["born", 1, "x", [10, 0]]],
        [TICK, ["born", 1, "x", [10, 0]]],
        [TICK, ["born", 1, "x", [10, 0, 1]]],
        [TICK, ["born", 1, "x", [10, -1]]],
        [TICK, ["born", 1, "x", [11, 0, "A"]]],
        [TICK, ["born", 1, "x", [16, 0, "text"]]],
        [["born", 1, "x", [12, 0]]],
        [["born", 1, "x", [1, [12, 7]]]],
        [["born", 1, "x", [13, 0, 0]]],
        [["born", 1, "x", [13, [], []]]],
        [["born", 1, "x", [14, 3, [1, 2], None]]],
        [["born", 1, "x", [15, "9" * 10]]],
        [["born", 1, "x", [15, 5]]],
        [["born", 1, "x", [17, b"abc"]]],
        [["born", 1, "x", [18, b"\xff"]]],
        [["born", 1, "x", [99]]],
        [["born", 1, "x", ["tuple"]]],
        [["born", 1, "x", []]],
        [["born", 1, "x", {"a": 1}]],
        [["born", 1, "x", [2, 1]]],
        [["born", 1, "x", [2, [1], 1]]],
        [["born", 1, "x", [5, {"a": [1]}]]],
        [["born", 1, "x", [7, [1]]]],
        [["born", 1, "x", [9, -5]]],
        [TICK, ["fed", 1, 1.0, [10, 0], []]],
        [TICK, ["fed", "1", 1.0, [10, 0], []]],
        [TICK, ["slot", 0, 0, [13, 0, 5]]],
        [
            ["class", "manifest.FileEntry", list(FileEntry.__struct_fields__)],
            ["born", 1, "x", [10, 0, *[None] * 8]],
        ],
    ],
    ids=lambda records: repr(records)[-60:],
)
def test_a_forged_file_is_refused_whatever_it_says(records: list[object]) -> None:
    with pytest.raises(TraceError) as raised:
        replay(forged(*records))
    assert raised.value.context["offset"] >= len(file_head())
    assert "record" in raised.value.detail


def test_a_forged_machine_is_a_difference_and_not_a_crash() -> None:
    state = [10, 0, "many", None, 5, [1], None, "", "", -1.0]
    asked = ["class", "tier.Asked", []]
    replayed = replay(forged(HEALTH, asked, ["born", 1, "x", state], ["fed", 1, 1.0, [10, 1], []]))
    assert replayed.difference is not None
    assert "Error" in replayed.difference.found[0]


def test_nesting_without_end_is_refused() -> None:
    deep: object = None
    for _ in range(400):
        deep = [0, deep]
    payload = b"\x94\xa4born\x01\xa1x" + b"\x92\x00" * 100_000 + b"\xc0"
    with pytest.raises(TraceError):
        replay(forged() + frame(payload))
    with pytest.raises(TraceError):
        replay(forged(["born", 1, "x", deep]))


# --- differences ----------------------------------------------------------------------------


def altered(data: bytes, change: Callable[[int, Any], Any]) -> bytes:
    """The file with each record changed, its CRCs made right again."""
    pieces = [file_head()]
    for number, (_, payload) in enumerate(TraceReader(data).payloads()):
        record = change(number, msgspec.msgpack.decode(payload))
        if record is not None:
            pieces.append(frame(msgspec.msgpack.encode(record)))
    return b"".join(pieces)


def test_an_event_that_was_altered_is_named() -> None:
    """Page 1 of a GET arrived; the trace is made to say that it was another one's CRC."""
    fed = [(number, payload) for number, (_, payload) in enumerate(TraceReader(TRACE).payloads())]
    at = next(
        number
        for number, payload in fed
        if msgspec.msgpack.decode(payload)[0] == "fed" and b"\x01\x01\x01" in payload
    )

    def change(number: int, record: Any) -> Any:
        if number == at:
            *_, crc = record[3]
            record[3][-1] = crc + 1
        return record

    data = altered(TRACE, change)
    difference = replay(data).difference
    assert difference is not None
    assert (difference.record, difference.offset) == (at, boundaries(data)[at])
    assert difference.machine == "scheduler"
    assert difference.event == "PageArrived(get=1, page_id=1, crc32c=2)"
    assert difference.expected[0].startswith("DeliverPage(")
    assert difference.found[0].startswith("DiscardPage(")
    for part in (
        f"record {at}",
        f"byte {difference.offset}",
        "scheduler",
        "20.0",
        "DeliverPage",
        "DiscardPage",
    ):
        assert part in str(difference)


@pytest.mark.parametrize("what", ["event", "time", "action", "exception", "missing"])
def test_whatever_is_altered_makes_a_difference(what: str) -> None:
    def change(number: int, record: Any) -> Any:
        if what == "exception" and record[0] == "refused":
            record[4] = "ValueError"
        if record[0] == "fed" and record[1] == 1:
            first = record[2] == 10.0
            if what == "time" and first:
                record[2] = 10.25
            if what == "action" and first:
                record[4].append(record[4][0])
            if what in ("missing", "event") and first:
                return None if what == "missing" else [*record[:3], [10, 5], record[4]]
        return record

    try:
        assert replay(altered(TRACE, change)).difference is not None
    except TraceError:
        assert what == "event"  # Class 5 is another one, or not there yet.


def test_events_of_a_machine_that_is_gone_are_an_error() -> None:
    writer, health = TraceWriter(), TierHealth()
    data = writer.begin(BEGUN) + writer.born(1, "x", taken_machine(health)) + writer.gone(1)
    with pytest.raises(TraceError, match="machine 1 is not there"):
        replay(data + writer.fed(1, 1.0, Asked(), ()))


def test_a_machine_is_born_again_where_events_were_lost() -> None:
    writer, health = TraceWriter(), TierHealth()
    data = writer.begin(BEGUN) + writer.born(1, "x", taken_machine(health))
    health.feed(Failed("full"), 1.0)
    data += writer.lost(1) + writer.born(1, "x", taken_machine(health))
    data += writer.fed(1, 2.5, Asked(), health.feed(Asked(), 2.5))
    replayed = replay(data)
    assert replayed.difference is None
    assert (replayed.events, replayed.events_lost, replayed.machines) == (1, 1, 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (True, 1),
        ((1, 2), (1,)),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Failed("a"), Failed("b")),
        (Worked(), Asked()),
        (tier.TierState.ON, tier.TierState.OFF),
        (NoSuchFile("a"), NoSuchFile("b")),
        (NoSuchFile("a", path="a"), NoSuchFile("a", path="b")),
        (fetch_messages.CallEnded(1), resolver_messages.Closing()),
        (SOURCE, attrs.evolve(SOURCE, version=4)),
    ],
)
def test_what_is_different_is_told_apart(one: object, other: object) -> None:
    assert difference_of(one, one) is None
    assert difference_of((one,), (other,)) is not None


def test_what_is_the_same_is_not_told_apart() -> None:
    nan = float("nan")
    assert difference_of(nan, float("nan")) is None
    assert difference_of(SOURCE, attrs.evolve(SOURCE)) is None
    assert difference_of(NoSuchFile("a", b=1), NoSuchFile("a", b=1)) is None


def test_what_is_shown_is_short_and_says_which() -> None:
    file = blank_file("a/b", 10_000_000, 10)
    source = attrs.evolve(SOURCE, file=file)
    text = shown(PagesWanted(1, source, tuple(range(1000))))
    assert "'a/b' in version 3 of 'dev'" in text
    assert "1000 in all" in text
    assert len(text) < 200
    assert shown(KEY) == "page 107 of 00000000…"
    assert len(shown(Failed("x" * 10_000))) < 200
    assert len(shown(NoSuchFile("x" * 10_000))) < 200
    assert shown(manifest_of(file)).startswith("version")
    plan = plan_read(manifest_of(file), [("a/b", 5, 1000), ("a/b", 0, 3)], clip=False)
    assert shown(plan) == "a plan of 2 ranges, 1003 bytes"
    assert shown(b"\xab\xcd") == "abcd"
    assert shown(bytes(32)) == "0000000000000000… (32 bytes)"


def test_a_replayer_gives_what_it_replays() -> None:
    replayer = Replayer()
    born = fed = 0
    for record in TraceReader(TRACE):
        assert replayer.take(record) is None
        born, fed = born + isinstance(record, Born), fed + isinstance(record, Fed)
    assert (born, fed, replayer.names) == (2, 10, {1: "reading the disk", 2: "scheduler"})
    assert list(replayer.live) == [2]


def test_random_goes_on_after_any_number_of_draws() -> None:
    generator = random.Random(5)
    for _ in range(1000):
        generator.getrandbits(7)
    twin = twin_of(generator)
    assert [twin.random() for _ in range(5)] == [generator.random() for _ in range(5)]


def test_a_set_of_things_without_an_order_is_in_that_of_their_texts() -> None:
    """``None`` and a number cannot be compared, and the order of a set is nobody's business."""
    assert trace_encoding._sorted({None, 3, "b"}) == sorted({None, 3, "b"}, key=repr)
    assert trace_encoding._sorted({3, 1}) == [1, 3]


def test_a_slot_that_this_record_names_is_not_given_away() -> None:
    slots = trace_encoding._Slots(2)
    things = [object(), object(), object(), object()]
    assert [slots.put(thing, 1) for thing in things[:3]] == [0, 1, 2]
    assert slots.put(things[3], 2) == 0
    assert slots.find(things[0], 2) is None
    assert slots.find(things[1], 2) == 1
