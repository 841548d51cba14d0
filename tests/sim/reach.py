"""What a run has come to: every failure, every message and every row of every table of the machines in it.

A simulation that never gets to a row says nothing about it, however many seeds it has seen. So rows are
counted where the machines look them up, and whoever runs many seeds fails where one was never reached.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, get_args

from seekfs_core import (
    breaker,
    disk_watch,
    fetch_messages,
    fetch_work,
    lookup,
    publication_protocol,
    readahead,
    resolver_messages,
    retention,
    reuse,
    segment_messages,
    segment_work,
    tier,
    writebehind,
)
from seekfs_core.errors import FailureKind
from seekfs_core.states import Table, landings_of

TABLES: dict[str, Table] = {
    "GET": fetch_work.GET_TRANSITIONS,
    "breaker": breaker.BREAKER_TRANSITIONS,
    "tier": tier.LANDINGS,
    "segment": segment_work.LANDINGS,
    "lookup": lookup.LOOKUP_TRANSITIONS,
    "publication": publication_protocol.TRANSITIONS,
}
"""The tables of the machines that are simulated."""

MESSAGES = (
    fetch_messages.FetchEvent,
    fetch_messages.FetchAction,
    resolver_messages.ResolverEvent,
    resolver_messages.ResolverAction,
    segment_messages.LogEvent,
    segment_messages.LogAction,
    writebehind.WriteEvent,
    writebehind.WriteAction,
    retention.RamEvent,
    retention.RamAction,
    disk_watch.WatchEvent,
    disk_watch.WatchAction,
    readahead.AheadEvent,
    reuse.ReuseEvent,
    reuse.ReuseAction,
    tier.TierEvent,
    tier.TierAction,
    publication_protocol.Event,
    publication_protocol.Action,
)

REACHED_BY_OTHERS: dict[str, str] = {
    "page refused: HELD": "drivers look before they offer: tests/core/test_segments.py",
    "retention.PageDropped": "of the RAM that stands in for a disk: tests/core/test_retention.py",
}
"""What cannot happen in this world, and why; and which tests come to it."""


class _CountedLandings(frozenset[Any]):
    """The landings of a row; whoever looks whether one is among them has landed there."""

    row: str
    seen: Counter[str]

    def __contains__(self, landing: object) -> bool:
        if found := super().__contains__(landing):
            self.seen[f"{self.row} -> {_word(landing)}"] += 1
        return found


def _word(value: object) -> str:
    return str(getattr(value, "name", None) or getattr(value, "__name__", None) or value)


@cache
def message_name(message: type) -> str:
    """An event or an action, by a name for people."""
    return f"{message.__module__.rpartition('.')[2]}.{message.__name__}"


def rows_of(name: str, table: Table) -> Iterable[str]:
    """Each row with each of its landings, by a name for people."""
    for (state, event), value in table.items():
        for landing in landings_of(value):
            yield f"{name}: {_word(state)}, {_word(event)} -> {_word(landing)}"


@contextmanager
def rows_counted(seen: Counter[str]) -> Iterator[None]:
    """Count in ``seen`` which rows the machines of this process look up meanwhile.

    The tables are replaced by ones that count, in every module that has them under a name.
    """
    replaced: list[tuple[ModuleType, str, Table]] = []
    for name, table in TABLES.items():
        counted: dict[Any, Any] = {}
        for (state, event), value in table.items():
            landings = _CountedLandings(landings_of(value))
            landings.row, landings.seen = f"{name}: {_word(state)}, {_word(event)}", seen
            counted[state, event] = (
                tuple(landings if isinstance(part, frozenset) else part for part in value)
                if isinstance(value, tuple)
                else landings
            )
        for module in list(sys.modules.values()):
            if module.__name__.startswith("seekfs_core"):
                for attribute, held in list(vars(module).items()):
                    if held is table:
                        setattr(module, attribute, counted)
                        replaced.append((module, attribute, table))
    try:
        yield
    finally:
        for module, attribute, table in replaced:
            setattr(module, attribute, table)


def expected() -> list[str]:
    """Everything that many seeds together have to come to."""
    found = [row for name, table in TABLES.items() for row in rows_of(name, table)]
    for kind in FailureKind:
        if kind is not FailureKind.OVERTAKEN:  # Nobody hears of that: the page is there.
            found.append(f"page failed: {kind.name}")
        if kind not in (FailureKind.OVER_BUDGET, FailureKind.BREAKER_OPEN, FailureKind.BAD_CHECKSUM):
            found.append(f"GET failed: {kind.name}")
    found += [f"GET: {reason.name}" for reason in fetch_messages.GetReason]
    found += [f"page refused: {reason.name}" for reason in retention.Refusal]
    found += [message_name(each) for union in MESSAGES for each in (get_args(union) or (union,))]
    return sorted(set(found) - set(REACHED_BY_OTHERS))
