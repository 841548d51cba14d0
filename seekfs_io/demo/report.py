"""What the demo counted, as a table. GETs made and saved are the daemon's own counters."""

from __future__ import annotations

import sys
from typing import Any, Final

from attrs import define, field, frozen
from rich.console import Console
from rich.table import Table

from seekfs_io.client import Client
from seekfs_io.demo.dataset import MIB
from seekfs_io.demo.reads import Tally

PLAIN_WIDTH_COLUMNS: Final = 100
"""Of the table where no terminal says how wide it may be."""


@frozen
class Counters:
    """What ``/advisor`` says of a namespace, since the daemon started."""

    gets_made: int
    gets_saved: int

    def since(self, before: Counters) -> Counters:
        return Counters(self.gets_made - before.gets_made, self.gets_saved - before.gets_saved)


def read_counters(client: Client, ns: str) -> Counters:
    """The counters of one namespace; zeros before anything of it was read."""
    for entry in client.advisor()["namespaces"]:
        if entry["ns"] == ns:
            return Counters(entry["gets_made"], entry["gets_saved"])
    return Counters(0, 0)


def metric_sum(text: str, name: str, **labels: str) -> float:
    """The sum of all samples of a counter in Prometheus's text format, of those with these labels."""
    from prometheus_client.parser import text_string_to_metric_families

    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@define
class Row:
    """One kind of read, cold and warm."""

    name: str
    cold: Tally = field(factory=Tally)
    warm: Tally = field(factory=Tally)
    gets_made: int = 0
    gets_saved: int = 0

    def add(self, other: Row) -> None:
        self.cold.add(other.cold)
        self.warm.add(other.warm)
        self.gets_made += other.gets_made
        self.gets_saved += other.gets_saved


def table_of(rows: list[Row]) -> Table:
    """The rows and their sum. ``—`` where a kind of read was not made cold."""
    table = Table(title="what was read, byte for byte as published", title_justify="left")
    table.add_column("read")
    for name in ("reads", "MiB", "GETs made", "GETs saved", "MB/s cold", "MB/s warm"):
        table.add_column(name, justify="right")
    total = Row("together")
    for row in rows:
        table.add_row(*_cells(row))
        total.add(row)
    table.add_section()
    table.add_row(*_cells(total))
    return table


def render(rows: list[Row]) -> str:
    """The table as lines of text, with colours where stdout is a terminal."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH_COLUMNS)
    with console.capture() as capture:
        console.print(table_of(rows))
    return capture.get().rstrip("\n")


def as_document(rows: list[Row]) -> list[dict[str, Any]]:
    """The same for a program. Sizes in bytes, times in seconds."""
    return [
        {
            "name": row.name,
            "reads": row.cold.reads + row.warm.reads,
            "bytes": row.cold.bytes + row.warm.bytes,
            "gets_made": row.gets_made,
            "gets_saved": row.gets_saved,
            "cold": {"reads": row.cold.reads, "bytes": row.cold.bytes, "seconds": row.cold.seconds},
            "warm": {"reads": row.warm.reads, "bytes": row.warm.bytes, "seconds": row.warm.seconds},
        }
        for row in rows
    ]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.cold.reads + row.warm.reads:,}",
        f"{(row.cold.bytes + row.warm.bytes) / MIB:,.1f}",
        f"{row.gets_made:,}",
        f"{row.gets_saved:,}",
        _rate(row.cold),
        _rate(row.warm),
    )


def _rate(tally: Tally) -> str:
    return f"{tally.bytes / tally.seconds / 1e6:,.0f}" if tally.seconds else "—"
