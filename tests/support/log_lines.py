"""The daemon's log read back: text by one regular expression, JSON by a parser, and both to the same.

It shares no code with what writes the log, so the two cannot agree on a mistake.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen

FIELDS: Final = frozenset(
    {
        # A request that failed, and what it was about.
        *("request_id", "status", "problem", "ns", "path", "version", "page_id", "key", "hash", "head"),
        # What the store said, how often it was asked, and when that may be done again.
        *("store_status", "store_code", "attempts", "retry_after"),
        # What is wrong with what it gave.
        *("expected", "found", "overwritten", "object_size", "where"),
        # What was wrong with the request.
        *("parameter", "value", "item", "size", "off", "len", "bytes_max"),
        # What nobody foresaw.
        *("error", "traceback", "thread_name"),
    }
)
"""Every field that a line may have beside time, level, logger and message."""

_LINE = re.compile(
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z) "
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<logger>[a-z_.]+): (?P<message>.+?)"
    r'(?P<fields>(?: [a-z_0-9]+=(?:[^\s"=\\]+|"(?:[^"\\]|\\.)*"))*)'
)
_FIELD = re.compile(r' ([a-z_0-9]+)=([^\s"=\\]+|"(?:[^"\\]|\\.)*")')


@frozen
class Event:
    """One line. Values of fields are text, as a log in text has them."""

    time: datetime
    level: str
    logger: str
    message: str
    fields: dict[str, str]


def events_of(log: str, form: str) -> Iterator[Event]:
    """Every line of a log, each checked to be one that the contract describes."""
    assert log == "" or log.endswith("\n")
    for line in log.split("\n")[:-1]:
        assert line.isprintable(), ascii(line)
        event = _from_text(line) if form == "text" else _from_json(line)
        assert set(event.fields) <= FIELDS, line
        yield event


def _from_text(line: str) -> Event:
    found = _LINE.fullmatch(line)
    assert found is not None, line
    fields = {
        name: json.loads(value) if value.startswith('"') else value
        for name, value in _FIELD.findall(found["fields"])
    }
    return Event(_time(found["time"]), found["level"], found["logger"], found["message"], fields)


def _from_json(line: str) -> Event:
    told: dict[str, Any] = json.loads(line)
    assert list(told)[:4] == ["time", "level", "logger", "message"]
    time, level, logger, message = (told.pop(name) for name in ("time", "level", "logger", "message"))
    return Event(
        _time(time), level.upper(), logger, message, {name: str(value) for name, value in told.items()}
    )


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
