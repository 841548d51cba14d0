"""What can be in a trace: the classes of the core's events, actions and machines and of what these hold, by
name; and how a list in a file says what it stands for.

Rules of this file: what is not here is refused, whoever asks. A mark's number is never used for another one.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec

from seekfs_core import (
    advice,
    breaker,
    budget,
    buffers,
    cache_directory,
    closing,
    creation,
    credentials,
    disk_watch,
    errors,
    explain,
    fetch,
    fetch_calls,
    fetch_flights,
    fetch_gets,
    fetch_lines,
    fetch_messages,
    fetch_waits,
    fetch_work,
    heads,
    hedge,
    listing,
    lookup,
    machine,
    manifest,
    manifest_format,
    memory_layout,
    names,
    namespace_budgets,
    pace,
    parted_upload,
    patience,
    plan,
    publication,
    publication_protocol,
    readahead,
    readback,
    readiness,
    rebase,
    resolver,
    resolver_messages,
    restoring,
    retention,
    retry,
    reuse,
    revisions,
    room,
    scan,
    segment_layout,
    segment_messages,
    segment_work,
    segments,
    selection,
    shelf,
    signatures,
    slots,
    staging,
    store_answers,
    tier,
    tier_counts,
    transfer_layout,
    uploads,
    writebehind,
)
from seekfs_core.errors import SeekfsError, TraceError
from seekfs_core.fetch_messages import PageSource
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.plan import ReadPlan

MODULES: Final[tuple[Any, ...]] = (
    advice,
    breaker,
    budget,
    buffers,
    cache_directory,
    closing,
    creation,
    credentials,
    disk_watch,
    errors,
    explain,
    fetch,
    fetch_calls,
    fetch_flights,
    fetch_gets,
    fetch_lines,
    fetch_messages,
    fetch_waits,
    fetch_work,
    heads,
    hedge,
    listing,
    lookup,
    machine,
    manifest,
    manifest_format,
    memory_layout,
    names,
    namespace_budgets,
    pace,
    parted_upload,
    patience,
    plan,
    publication,
    publication_protocol,
    readahead,
    readback,
    readiness,
    rebase,
    resolver,
    resolver_messages,
    restoring,
    retention,
    retry,
    reuse,
    revisions,
    room,
    scan,
    segment_layout,
    segment_messages,
    segment_work,
    segments,
    selection,
    shelf,
    signatures,
    slots,
    staging,
    store_answers,
    tier,
    tier_counts,
    transfer_layout,
    uploads,
    writebehind,
)
"""Every module of the core that has classes of data."""


def name_of(kind: type[Any]) -> str:
    """How a file names a class: its module within the core, and its name."""
    return f"{kind.__module__.removeprefix('seekfs_core.')}.{kind.__name__}"


def _is_data(kind: object) -> bool:
    return isinstance(kind, type) and (
        attrs.has(kind) or issubclass(kind, enum.Enum | msgspec.Struct | SeekfsError)
    )


CLASSES: Final[dict[str, type[Any]]] = {
    name_of(kind): kind
    for module in MODULES
    for kind in vars(module).values()
    if _is_data(kind) and kind.__module__ == module.__name__
}
"""All that can be in a trace, by ``name_of``."""

STORED: Final[dict[type[Any], dict[str, Callable[[], object]]]] = {
    Manifest: {"_file_keys": dict},
    ReadPlan: {"_runs": lambda: None},
}
"""Fields that hold what was computed from the others, and what they are without that."""

SLOTS: Final[dict[type[Any], int]] = {FileEntry: 1024, PageSource: 1024, Manifest: 64, ReadPlan: 32}
"""Classes of which a value is written once, and how many of each are remembered. What is remembered stays in
memory meanwhile, and a plan may be large."""


def _fields_of(kind: type[Any]) -> tuple[str, ...]:
    if attrs.has(kind):
        return tuple(each.name for each in attrs.fields(kind) if each.name not in STORED.get(kind, {}))
    return kind.__struct_fields__ if issubclass(kind, msgspec.Struct) else ()


FIELDS: Final[dict[type[Any], tuple[str, ...]]] = {kind: _fields_of(kind) for kind in CLASSES.values()}
"""What is kept of a value of each class, in this order. Enums and errors have a shape of their own."""


# What a list in a trace stands for: its first item. The numbers are the format's; none is used again.
TUPLE: Final = 0
LIST: Final = 1
DICT: Final = 2
ORDERED: Final = 3
COUNTER: Final = 4
PLAIN_DICT: Final = 5
PLAIN_ORDERED: Final = 6
SET: Final = 7
FROZEN_SET: Final = 8
DEQUE: Final = 9
OBJECT: Final = 10
ENUM: Final = 11
SEEN: Final = 12
SLOT: Final = 13
RANDOM: Final = 14
LARGE: Final = 15
ERROR: Final = 16
CRCS: Final = 17
TEXT: Final = 18

CLASS_RECORD: Final = "class"
SLOT_RECORD: Final = "slot"
"""Records that are there for the sake of others: ``Notes`` writes and ``Memory`` reads them."""

AS_IT_IS: Final = frozenset({type(None), bool, float, bytes})
PLAIN: Final = AS_IT_IS | {int}
"""A dictionary of nothing else is copied whole: a tier's may have a million pages."""


IS_LITTLE_ENDIAN: Final = array("I", [1]).tobytes()[0] == 1


def little_endian(numbers: array[int], is_machine_little: bool = IS_LITTLE_ENDIAN) -> array[int]:
    """CRCs as a file has them, from how this machine has them; or the reverse."""
    if numbers.typecode != "I":
        raise TraceError(f"an array of type {numbers.typecode!r} cannot be in a trace")
    if is_machine_little:
        return numbers
    swapped = array("I", numbers)
    swapped.byteswap()
    return swapped
