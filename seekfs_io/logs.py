"""Logging: one line an event on stderr, in UTC, as text for people or as JSON for programs.

    2026-01-31T12:00:00.123Z WARNING seekfs.store: the store fell silent request_id=4f1c key="a b"

What is passed in ``extra`` becomes fields of the line, and so does what its ``facts`` hold: a mapping whose
names are somebody else's, such as an error's context. An exception becomes two more, ``error``
and ``traceback``, the latter cut down to places in the code. Line feeds and other control characters
are escaped: no event can look like two, whatever name or header a client has made up.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from seekfs_io.config import LogConfig
from seekfs_io.printable import printable

_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_PLAIN_VALUE = re.compile(r"[^\s\"=\\]+")

FRAMES_MAX = 12
"""The innermost frames of a traceback; those of the server around them say nothing new."""

OTHERS_LEVEL = logging.WARNING
"""What libraries say below this is theirs to know; some write signatures at debug level."""

REPEATERS = ("urllib3",)
"""Libraries of which even warnings only repeat, with a traceback and all that the store has sent, what an
event of ours says already."""


def configure(config: LogConfig) -> None:
    """Set up logging of this process; calling it again replaces what it did before.

    Warnings of Python and exceptions that end a thread become events too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    root = logging.getLogger()
    for previous in list(root.handlers):
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(OTHERS_LEVEL)
    for name in ("seekfs", "gunicorn"):
        logging.getLogger(name).setLevel(config.level.upper())
    for name in REPEATERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is SystemExit:
        return
    value = ended.exc_value if ended.exc_value is not None else ended.exc_type()
    name = ended.thread.name if ended.thread is not None else "?"
    logging.getLogger("seekfs").critical("a thread has ended", exc_info=value, extra={"thread_name": name})


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What an event has beside time, level, logger and message."""
    fields = {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}
    facts: Mapping[str, Any] = fields.pop("facts", {})
    fields |= {name: value for name, value in facts.items() if name not in fields}
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        fields["error"] = f"{type(error).__name__}: {error}"
        fields["traceback"] = places_of(error)
    return fields


def places_of(error: BaseException) -> str:
    """Where an exception was raised, and what it came from, innermost first:
    ``open (sdk.py:12) < read (dataplane.py:34); from ConnectionResetError: …``."""
    told: list[str] = []
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        frames = traceback.extract_tb(each.__traceback__)[-FRAMES_MAX:]
        places = " < ".join(
            f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in reversed(frames)
        )
        told.append(places if each is error else f"from {type(each).__name__}: {each}: {places}")
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "; ".join(told)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_text_value(value)}" for name, value in fields_of(record).items())
        message = printable(record.getMessage())
        return f"{_time(record)} {record.levelname} {record.name}: {message}{fields}"


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = {name: value for name, value in fields_of(record).items() if name not in event}
        # ASCII: a lone surrogate in a name must not make the line unwritable.
        return json.dumps(event | fields, ensure_ascii=True, default=str)


def _text_value(value: object) -> str:
    text = str(value)
    if _PLAIN_VALUE.fullmatch(text) and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
