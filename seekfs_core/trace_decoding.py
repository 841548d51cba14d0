"""From a trace back to events, actions and machines: the other end of ``seekfs_core.trace_encoding``.

A file may be damaged, or forged. Nothing is made of it but values of the classes that are listed in
``seekfs_core.trace_classes``, by setting fields that these have: no code is named by a file or run for it,
but for the ``__init__`` of errors and of a file's entry and the ``setstate`` of a generator. Whatever else a
file says is a ``TraceError``.
"""

from __future__ import annotations

import enum
import random
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from seekfs_core.errors import SeekfsError, TraceError
from seekfs_core.trace_classes import (
    CLASSES,
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
    STORED,
    TEXT,
    TUPLE,
    little_endian,
    name_of,
)


class Memory:
    """What the records of a file have said so far: the other end of ``Notes``. Not much of it is believed."""

    def __init__(self) -> None:
        self._classes: list[type[Any]] = []
        self._slots: dict[tuple[int, int], object] = {}

    def learn(self, record: list[Any]) -> bool:
        """Whether this is a record that is said for the sake of others; it is remembered then."""
        match record:
            case ["class", str() as name, list() as fields]:
                self._classes.append(_class_of(name, fields))
            case ["slot", int() as number, int() as slot, content]:
                self._slots[number, slot] = self.value(content)
            case _:
                return False
        return True

    def value(self, taken: object) -> Any:
        """What ``taken`` was given."""
        return self._given(_Giving(self, None), taken)

    def machine(self, taken: object) -> Any:
        """What ``taken_machine`` was given, with a generator of its own."""
        return self._given(_Giving(self, []), taken)

    def _given(self, giving: _Giving, taken: object) -> Any:
        try:
            return giving.give(taken)
        except TraceError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise TraceError(f"it holds what no trace has: {type(error).__name__}: {error}") from None

    def class_of(self, number: object) -> type[Any]:
        """The class that a file calls so."""
        if type(number) is not int or not 0 <= number < len(self._classes):
            raise TraceError(f"it names a class {number!r} that it has not introduced")
        return self._classes[number]

    def in_slot(self, number: object, slot: object) -> object:
        """What is in a slot now."""
        if (number, slot) not in self._slots:
            raise TraceError(f"it names something in slot {slot!r} that is not there")
        return self._slots[number, slot]  # type: ignore[index]


def _class_of(name: str, fields: list[Any]) -> type[Any]:
    kind = CLASSES.get(name)
    if kind is None:
        raise TraceError(f"it has a {name!r}, which this version of seekfs does not know")
    if [*FIELDS[kind]] != fields:
        raise TraceError(
            f"a {name} has the fields {', '.join(map(str, fields))} there, and in this version of seekfs "
            f"{', '.join(FIELDS[kind])}"
        )
    return kind


class _Giving:
    """The other end of ``_Taking``."""

    __slots__ = ("memory", "seen")

    def __init__(self, memory: Memory, seen: list[object] | None) -> None:
        self.memory = memory
        self.seen = seen

    def give(self, taken: Any) -> Any:
        if type(taken) is not list:
            if type(taken) in PLAIN or type(taken) is str:
                return taken
            raise TraceError(f"a {type(taken).__name__} stands where a value is expected")
        mark = taken[0]
        if mark == OBJECT:
            return self._object(taken)
        if mark == TUPLE:
            return tuple([self.give(each) for each in taken[1:]])
        if mark == SLOT:
            _, number, slot = taken
            return self.memory.in_slot(number, slot)
        return self._other(mark, taken)

    def _remember(self, thing: Any) -> Any:
        if self.seen is not None:
            self.seen.append(thing)
        return thing

    def _object(self, taken: list[Any]) -> Any:
        kind, values = self.memory.class_of(taken[1]), taken[2:]
        fields = FIELDS[kind]
        if len(fields) != len(values) or issubclass(kind, enum.Enum | SeekfsError):
            raise TraceError(f"a {name_of(kind)} with {len(values)} fields")
        if issubclass(kind, msgspec.Struct):
            place = None if self.seen is None else len(self.seen)
            self._remember(None)
            made = kind(**{name: self.give(each) for name, each in zip(fields, values, strict=True)})
            if self.seen is not None and place is not None:
                self.seen[place] = made
            return made
        thing: Any = self._remember(object.__new__(kind))
        for name, each in zip(fields, values, strict=True):
            object.__setattr__(thing, name, self.give(each))
        for name, make in STORED.get(kind, {}).items():
            object.__setattr__(thing, name, make())
        return thing

    def _other(self, mark: object, taken: list[Any]) -> Any:
        give = _GIVE.get(mark) if type(mark) is int else None
        if give is None:
            raise TraceError(f"a value of a kind {mark!r} that this version of seekfs does not know")
        return give(self, *taken[1:])

    def _list(self, *rest: object) -> object:
        made: list[object] = self._remember([])
        made.extend(map(self.give, rest))
        return made

    def _dict(self, *rest: object) -> object:
        return self._fill(self._remember({}), rest)

    def _ordered(self, *rest: object) -> object:
        return self._fill(self._remember(OrderedDict()), rest)

    def _counter(self, *rest: object) -> object:
        return self._fill(self._remember(Counter()), rest)

    def _plain_dict(self, pairs: object) -> object:
        return self._remember(_checked(pairs))

    def _plain_ordered(self, pairs: object) -> object:
        return self._remember(OrderedDict(_checked(pairs)))

    def _set(self, *rest: object) -> object:
        made: set[object] = self._remember(set())
        made.update(map(self.give, rest))
        return made

    def _frozen_set(self, *rest: object) -> object:
        return frozenset(map(self.give, rest))

    def _deque(self, length_max: int | None, *rest: object) -> object:
        made: deque[object] = self._remember(deque(maxlen=length_max))
        made.extend(map(self.give, rest))
        return made

    def _seen(self, place: object) -> object:
        if self.seen is None or type(place) is not int or not 0 <= place < len(self.seen):
            raise TraceError("it mentions something that was not there before")
        return self.seen[place]

    def _random(self, version: int, numbers: list[int], gauss: float | None) -> object:
        # Whatever a new one is seeded with, it goes on where the recorded one was.
        generator: random.Random = self._remember(random.Random.__new__(random.Random))
        generator.setstate((version, tuple(numbers), gauss))
        return generator

    def _large(self, digits: str) -> object:
        return int(digits, 16)

    def _crcs(self, packed: bytes) -> object:
        numbers = array("I")
        numbers.frombytes(packed)
        return little_endian(numbers)

    def _text(self, packed: bytes) -> object:
        return packed.decode("utf-8", "surrogatepass")

    def _fill(self, made: dict[Any, Any], rest: Sequence[object]) -> dict[Any, Any]:
        if len(rest) % 2:
            raise TraceError("a dictionary has a key without a value")
        for at in range(0, len(rest), 2):
            key = self.give(rest[at])
            made[key] = self.give(rest[at + 1])
        return made

    def _member(self, number: object, name: object) -> object:
        kind = self.memory.class_of(number)
        if not issubclass(kind, enum.Enum) or type(name) is not str or name not in kind.__members__:
            raise TraceError(f"a {name_of(kind)} has no {name!r}")
        return kind.__members__[name]

    def _error(self, number: object, detail: object, *context: object) -> SeekfsError:
        kind = self.memory.class_of(number)
        if not issubclass(kind, SeekfsError):
            raise TraceError(f"a {name_of(kind)} is no error")
        made: SeekfsError = self._remember(kind.__new__(kind))
        made.__init__(self.give(detail), **self._fill({}, context))  # type: ignore[misc]
        return made


def _checked(pairs: object) -> dict[Any, Any]:
    if type(pairs) is not dict or not {*map(type, pairs), *map(type, pairs.values())} <= PLAIN:
        raise TraceError("a dictionary of plain values that is none")
    return pairs


_GIVE: Final[dict[int, Callable[..., Any]]] = {
    LIST: _Giving._list,
    DICT: _Giving._dict,
    ORDERED: _Giving._ordered,
    COUNTER: _Giving._counter,
    PLAIN_DICT: _Giving._plain_dict,
    PLAIN_ORDERED: _Giving._plain_ordered,
    SET: _Giving._set,
    FROZEN_SET: _Giving._frozen_set,
    DEQUE: _Giving._deque,
    ENUM: _Giving._member,
    SEEN: _Giving._seen,
    RANDOM: _Giving._random,
    LARGE: _Giving._large,
    ERROR: _Giving._error,
    CRCS: _Giving._crcs,
    TEXT: _Giving._text,
}
"""How each kind of list becomes what it stands for, but for the three that most are."""
