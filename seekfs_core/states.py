"""Every table of states of the core, by the machine whose it is: what ``docs/states.md`` is made of.

A row says of a state and an event in which states it may end; every machine asserts its own, and refuses what
is in no row with ``ContractViolation``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from attrs import frozen

from seekfs_core import (
    breaker,
    creation,
    fetch_work,
    lookup,
    parted_upload,
    publication_protocol,
    scan,
    segment_work,
    staging,
    tier,
    uploads,
)

Table: TypeAlias = Mapping[tuple[Any, Any], Any]


@frozen
class Row:
    """``event`` in ``state`` may end in any of ``landings``, which are in the order of their enumeration."""

    state: enum.Enum
    event: str
    landings: tuple[enum.Enum, ...]


@frozen
class Machine:
    """``what`` completes "the states of"; ``module`` is where it is, and says the rest."""

    what: str
    module: str
    table: Table

    def rows(self) -> Iterator[Row]:
        """In the order of the states, and in that of the table for each; a table may be made of sets."""
        kind: type[enum.Enum] = type(next(iter(self.table))[0])
        order = list(kind)
        for (state, event), value in sorted(self.table.items(), key=lambda row: order.index(row[0][0])):
            yield Row(state, _name(event), tuple(sorted(landings_of(value), key=order.index)))


def _name(event: Any) -> str:
    """An event is a class, the value of one, or a word."""
    return event if isinstance(event, str) else str(getattr(event, "__name__", event))


def landings_of(value: Any) -> frozenset[enum.Enum]:
    """Of a row, which may be a single state, or have its handler beside them."""
    if isinstance(value, tuple):
        value = next(part for part in value if isinstance(part, frozenset))
    return value if isinstance(value, frozenset) else frozenset((value,))


MACHINES: Final = (
    Machine("a GET", "fetch_work", fetch_work.GET_TRANSITIONS),
    Machine("the breaker", "breaker", breaker.BREAKER_TRANSITIONS),
    Machine("a read's way to one page", "lookup", lookup.LOOKUP_TRANSITIONS),
    Machine("a use of the disk cache", "tier", tier.LANDINGS),
    Machine("a segment", "segment_work", segment_work.LANDINGS),
    Machine("a page that is warmed", "staging", staging.STAGING_TRANSITIONS),
    Machine("a publication", "publication_protocol", publication_protocol.TRANSITIONS),
    Machine("the creation of an object", "creation", creation.CREATION_TRANSITIONS),
    Machine("an upload in parts", "parted_upload", parted_upload.PARTED_TRANSITIONS),
    Machine("a file that is published", "uploads", uploads.UPLOAD_TRANSITIONS),
    Machine("an object that is read to be published", "scan", scan.SCAN_TRANSITIONS),
)
