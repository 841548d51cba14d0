"""What a command says, and where: results to stdout, everything else to stderr.

Results are bytes of UTF-8 whatever the locale: a path may hold any letter, and a program reads them.
"""

from __future__ import annotations

import datetime
import errno
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from seekfs_io.logs import OTHERS_LEVEL, REPEATERS
from seekfs_io.printable import printable


def emit(text: str) -> None:
    """One line of the result."""
    emit_bytes(f"{text}\n".encode("utf-8", "surrogateescape"))


def emit_bytes(data: bytes | memoryview) -> None:
    """A piece of the result, as it is."""
    stdout = _stdout()
    if stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
    stdout.buffer.write(data)


def flush() -> None:
    """Hand everything that was emitted to the system; an ``OSError`` where that fails."""
    stdout = _stdout()
    if stdout is not None:
        stdout.flush()


def _stdout() -> TextIO | None:
    """Typed as always there, and None in a process that was started without one."""
    return sys.stdout


def emit_json(document: Any) -> None:
    """The result as one JSON document on one line."""
    emit(json.dumps(document, ensure_ascii=False))


def say(text: str) -> None:
    """Something about the work, for a person. Where nobody can be told, the work goes on all the same."""
    with suppress(OSError):
        click.echo(text, err=True)


def explain(text: str) -> None:
    """Why it failed: every line of ``text`` behind the name of the program.

    A daemon's or a store's words may be in it, and a file's name: none of them may speak to the terminal.
    """
    for line in text.splitlines() or [""]:
        say(f"seekfs: {printable(line)}")


def moment(seconds: int) -> str:
    """A time in seconds since 1970, in UTC; the number itself where that is no date of the calendar."""
    try:
        return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return str(seconds)


class _Explaining(logging.Handler):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.name.partition(".")[0] not in REPEATERS

    def emit(self, record: logging.LogRecord) -> None:
        explain(printable(record.getMessage()))


@contextmanager
def warnings_explained() -> Iterator[None]:
    """For the length of a block, an event of the log that is a warning or worse is a line like any other
    that a command says."""
    handler, root = _Explaining(OTHERS_LEVEL), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """A number of bytes for a person: ``999 B``, ``1.5 MiB``."""
    if number < 1024:
        return f"{number} B"
    value = float(number)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1023.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} PiB"
