"""``replay`` and ``trace show``: what a daemon recorded (``trace.path``), fed to machines again, and told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from seekfs_io.cli.boundary import Failed
from seekfs_io.cli.options import json_option
from seekfs_io.cli.output import count, emit, emit_json, explain, say
from seekfs_io.printable import printable

file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False))


@contextmanager
def _trace(path: str) -> Iterator[bytes]:
    """The bytes of a file, which ``trace.max_mib`` bounds; what is wrong with it is told with its name."""
    from seekfs_core.errors import TraceError

    with open(path, "rb") as file:
        data = file.read()
    try:
        yield data
    except TraceError as error:
        raise TraceError(f"{path}: {error.detail}", **error.context) from None


@click.command()
@file_argument
@json_option
def replay(file: str, as_json: bool) -> None:
    """Feed a recorded trace to fresh machines, and say whether they do the same.

    Exit status 1 where they do not; the first difference is named.
    """
    from seekfs_core.trace import replay as replay_bytes

    with _trace(file) as data:
        found = replay_bytes(data)
    difference = found.difference
    if as_json:
        emit_json(
            {
                "same": difference is None,
                "events": found.events,
                "machines": found.machines,
                "events_lost": found.events_lost,
                "torn_bytes": found.torn_bytes,
                "ended": found.is_ended,
                "difference": None if difference is None else str(difference),
            }
        )
    elif difference is None:
        emit(f"same: {count(found.events, 'event')} of {count(found.machines, 'machine')}")
    if not found.is_ended and difference is None:
        torn = f"; {found.torn_bytes} bytes of a last record are cut short" if found.torn_bytes else ""
        say(f"the trace was not closed in order{torn}")
    if found.events_lost:
        say(f"{count(found.events_lost, 'event')} were not recorded, because too many waited to be written")
    if difference is not None:
        if not as_json:
            explain(str(difference))
        raise Failed


@click.group()
def trace() -> None:
    """Look at recorded traces."""


@trace.command("show")
@file_argument
@click.option("--machine", default="", metavar="NAME", help="Only machines with this in their names.")
@click.option("--read", "read", type=click.IntRange(1), metavar="N", help="Only what is about this read.")
def trace_show(file: str, machine: str, read: int | None) -> None:
    """A timeline: what waited for what, which GETs were made, and why."""
    from seekfs_core.trace import TraceReader
    from seekfs_core.trace_timeline import Timeline

    with _trace(file) as data:
        reader = TraceReader(data)
        timeline: Timeline | None = None
        for record in reader:
            if timeline is None:
                assert reader.begun is not None
                timeline = Timeline(began=reader.begun.monotonic, machine=machine, read=read)
            for line in timeline.lines(record):
                emit(printable(line))
