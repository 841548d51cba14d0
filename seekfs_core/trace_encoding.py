"""Events, actions and whole machines as plain values that MessagePack can hold.

A thing is *taken* in two steps. ``taken`` makes nested lists of it at once, so that a machine may go on
meanwhile; ``Notes`` turns these into bytes later, in another thread if need be. What is large and shared (a
file's entry, a plan) is left out of the lists and written once: it has a *slot*, which later mentions name,
until others push it out of that.

What is kept of a machine is all of it: every field, in the order of its dictionaries and queues; which of its
objects are one and the same; the state of its generator. Not kept are results of pure functions that somebody
stored (``STORED``), and the files of a manifest: no machine of a daemon looks at these, and they may be a
million.

Rules of this file: ``taken`` and what it calls touch a thing, and copy whatever of it may change; ``Notes``
never does, but for what has a slot, which never changes. What cannot be in a trace is a ``TraceError``.
"""

from __future__ import annotations

import enum
import operator
import random
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
import msgspec

from seekfs_core.errors import SeekfsError, TraceError
from seekfs_core.manifest import Manifest
from seekfs_core.trace_classes import (
    AS_IT_IS,
    CLASS_RECORD,
    COUNTER,
    CRCS,
    DEQUE,
    DICT,
    ENUM,
    ERROR,
    FIELDS,
    FROZEN_SET,
    LARGE,
    LIST,
    OBJECT,
    ORDERED,
    PLAIN,
    PLAIN_DICT,
    PLAIN_ORDERED,
    RANDOM,
    SEEN,
    SET,
    SLOT,
    SLOT_RECORD,
    SLOTS,
    TEXT,
    TUPLE,
    little_endian,
    name_of,
)

_DICTS: Final[dict[type[Any], tuple[int, int | None]]] = {
    dict: (DICT, PLAIN_DICT),
    OrderedDict: (ORDERED, PLAIN_ORDERED),
    Counter: (COUNTER, None),
}


class Kept:
    """A mention of what has a slot, in what was taken."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing


_Getter = Callable[[Any], tuple[object, ...]]


def _getter(kind: type[Any]) -> _Getter:
    fields = FIELDS[kind]
    if len(fields) > 1:
        return operator.attrgetter(*fields)
    return (lambda thing: (getattr(thing, fields[0]),)) if fields else (lambda thing: ())


_GETTERS: Final[dict[type[Any], _Getter]] = {kind: _getter(kind) for kind in FIELDS}


class _Taking:
    """One thing that is taken. ``seen`` has the place of each of its objects, where these may be one and the
    same; None for values, of which nobody cares."""

    __slots__ = ("seen", "whole")

    def __init__(self, seen: dict[int, int] | None, *, whole: bool) -> None:
        self.seen = seen
        self.whole = whole

    def take(self, thing: Any) -> object:
        kind = type(thing)
        if kind in AS_IT_IS:
            return thing
        if kind is int:
            return thing if _fits(thing) else [LARGE, hex(thing)]
        if kind is str:
            return thing if thing.isascii() else _text(thing)
        if kind is tuple:
            return [TUPLE, *map(self.take, thing)]
        if kind is frozenset:
            return [FROZEN_SET, *map(self.take, _sorted(thing))]
        if kind is array:
            return [CRCS, little_endian(thing).tobytes()]
        if kind in SLOTS and not self.whole:
            return Kept(thing)
        if isinstance(thing, enum.Enum):
            return [ENUM, _known(kind), thing.name]
        if self.seen is not None:
            place = self.seen.get(id(thing))
            if place is not None:
                return [SEEN, place]
            self.seen[id(thing)] = len(self.seen)
        if kind in _GETTERS and not isinstance(thing, SeekfsError):
            return self.take_object(thing)
        return self._take_other(thing)

    def take_object(self, thing: Any) -> list[object]:
        kind = type(thing)
        taken: list[object] = [OBJECT, kind]
        for value in _GETTERS[kind](thing):
            taken.append(value if type(value) in AS_IT_IS else self.take(value))
        return taken

    def _take_other(self, thing: Any) -> object:
        kind = type(thing)
        if kind in _DICTS:
            mark, plain_mark = _DICTS[kind]
            if plain_mark is not None and _is_plain(thing):
                return [plain_mark, dict(thing)]
            return [mark, *(self.take(each) for pair in thing.items() for each in pair)]
        if kind is list:
            return [LIST, *map(self.take, thing)]
        if kind is deque:
            return [DEQUE, thing.maxlen, *map(self.take, thing)]
        if kind is set:
            return [SET, *map(self.take, _sorted(thing))]
        if kind is random.Random:
            version, numbers, gauss = thing.getstate()
            return [RANDOM, version, list(numbers), gauss]
        if isinstance(thing, SeekfsError):
            context = [self.take(each) for pair in thing.context.items() for each in pair]
            return [ERROR, _known(kind), self.take(thing.detail), *context]
        raise TraceError(f"a {kind.__module__}.{kind.__qualname__} cannot be in a trace")


def taken(thing: object) -> object:
    """A value (an event, an action) that never changes, as ``Notes.encode`` takes it; ``TraceError`` for what
    cannot be in a trace."""
    return _Taking(None, whole=False).take(thing)


def taken_machine(thing: object) -> object:
    """A machine as it is at this moment."""
    return _Taking({}, whole=False).take(thing)


def taken_whole(thing: object) -> object:
    """The same with all that otherwise has a slot in its place, files of manifests included."""
    return _Taking({}, whole=True).take(thing)


def _fits(number: int) -> bool:
    """Whether MessagePack has numbers of this size."""
    return -(2**63) <= number < 2**64


def _is_plain(things: dict[Any, Any]) -> bool:
    """Whether nothing in it has to be taken by itself."""
    kinds = {*map(type, things), *map(type, things.values())}
    if not kinds <= PLAIN:
        return False
    return int not in kinds or all(
        _fits(each) for pair in things.items() for each in pair if type(each) is int
    )


def _known(kind: type[Any]) -> type[Any]:
    if kind not in FIELDS:
        raise TraceError(f"a {kind.__module__}.{kind.__qualname__} cannot be in a trace")
    return kind


def _sorted(things: Iterable[Any]) -> list[Any]:
    """The order of a set is nobody's business, and not the same in two processes."""
    try:
        return sorted(things)
    except TypeError:
        return sorted(things, key=repr)


def _text(text: str) -> object:
    """A path may have bytes in it that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return [TEXT, text.encode("utf-8", "surrogatepass")]
    return text


@attrs.define
class _Slots:
    """Which values of one class a file has written, by their identity; the one used last at the end."""

    length: int
    numbers: OrderedDict[int, int] = attrs.field(factory=OrderedDict, init=False)
    things: dict[int, tuple[object, int]] = attrs.field(factory=dict, init=False)
    """What is in each slot, so that its identity stays its own, and the record that named it last."""

    def find(self, thing: object, record: int) -> int | None:
        number = self.numbers.get(id(thing))
        if number is not None:
            self.numbers.move_to_end(id(thing))
            self.things[number] = (thing, record)
        return number

    def put(self, thing: object, record: int) -> int:
        """A slot for it: a new one where what is in the oldest is named by this very record."""
        number = len(self.things)
        if number >= self.length:
            identity, oldest = next(iter(self.numbers.items()))
            if self.things[oldest][1] != record:
                del self.numbers[identity]
                number = oldest
        self.numbers[id(thing)] = number
        self.things[number] = (thing, record)
        return number


@attrs.define
class Notes:
    """What a file has said so far, by which later records may be short. One a file, for one writer."""

    _classes: dict[type[Any], int] = attrs.field(factory=dict, init=False)
    _slots: dict[type[Any], _Slots] = attrs.field(
        factory=lambda: {kind: _Slots(length) for kind, length in SLOTS.items()}, init=False
    )
    _record: int = attrs.field(default=0, init=False)
    _before: list[bytes] = attrs.field(factory=list, init=False)

    def encode(self, record: list[object]) -> list[bytes]:
        """The record, behind those that it needs before it. ``TraceError``."""
        self._record += 1
        self._before = []
        try:
            last = self._encoded(record)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TraceError(f"this cannot be in a trace: {error}") from None
        return [*self._before, last]

    def _encoded(self, thing: object) -> bytes:
        return msgspec.msgpack.encode(thing, enc_hook=self._named)

    def _named(self, thing: Any) -> object:
        if isinstance(thing, Kept):
            return self._slot_of(thing.thing)
        if isinstance(thing, type):
            return self._number_of(thing)
        raise TypeError(f"a {type(thing).__name__}")

    def _number_of(self, kind: type[Any]) -> int:
        number = self._classes.get(kind)
        if number is None:
            number = self._classes[kind] = len(self._classes)
            self._before.append(self._encoded([CLASS_RECORD, name_of(kind), list(FIELDS[kind])]))
        return number

    def _slot_of(self, thing: Any) -> list[object]:
        kind = type(thing)
        slots, number = self._slots[kind], self._number_of(kind)
        slot = slots.find(thing, self._record)
        if slot is None:
            if isinstance(thing, Manifest):
                thing_kept = attrs.evolve(thing, files={}, tombstones=())
            else:
                thing_kept = thing
            # What it mentions has slots before it has one, and keeps them for as long as this record lasts.
            content = self._encoded(_Taking(None, whole=False).take_object(thing_kept))
            slot = slots.put(thing, self._record)
            self._before.append(self._encoded([SLOT_RECORD, number, slot, msgspec.Raw(content)]))
        return [SLOT, number, slot]
