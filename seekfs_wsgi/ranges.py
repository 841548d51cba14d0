"""``Range`` and the conditional headers, as RFC 9110 has them (sections 8.8.3, 13 and 14).

Pure functions of header texts and a length; nothing here knows WSGI. Positions are half-open
[start, stop) everywhere but in HTTP's own texts, which are inclusive.

Three things differ from what common libraries do, and are meant:

* A ``Range`` that is malformed, of another unit or of several ranges is *ignored* (the whole is
  the answer), never refused: section 14.2 lets a server do so, and a client must expect it.
* A suffix longer than the whole is all of it.
* ``If-Range`` and ``If-Match`` compare strongly: a weak tag never matches.
"""

from __future__ import annotations

import re
from enum import Enum

from attrs import frozen

_ENTITY_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_BLANKS = " \t"

_DIGITS_MAX = 19
"""A position of more digits than this lies past the end of every file (2⁶³-1 bytes at most)."""

_BEYOND_EVERYTHING = 10**_DIGITS_MAX


@frozen
class Unsatisfiable:
    """The range begins at or past the end: 416."""


UNSATISFIABLE = Unsatisfiable()


def select_range(header: str, length: int) -> tuple[int, int] | Unsatisfiable | None:
    """What a ``Range`` header asks of a representation of ``length`` bytes.

    [start, stop) of a 206; ``UNSATISFIABLE`` for a 416; None where the header is to be ignored.
    """
    unit, equals, specs = header.partition("=")
    # Whitespace is allowed around the members of a list, and members may be empty.
    if not equals or unit.strip(_BLANKS).lower() != "bytes":
        return None
    members = [member for part in specs.split(",") if (member := part.strip(_BLANKS))]
    if len(members) != 1:
        return None
    match = _SPEC.fullmatch(members[0])
    if match is None:
        return None
    first, last = match[1], match[2]
    if not first:
        if not last:
            return None
        start, stop = max(0, length - _position(last)), length
    else:
        start = _position(first)
        if not last:
            stop = length
        else:
            stop = _position(last) + 1
            if stop <= start:
                return None
            stop = min(stop, length)
    # Also an empty suffix, and any range of an empty representation: its first byte is past the end.
    return (start, stop) if start < length and start < stop else UNSATISFIABLE


def _position(digits: str) -> int:
    # int() of thousands of digits is slow, then refused; no such position exists anyway.
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _DIGITS_MAX else _BEYOND_EVERYTHING


def content_range(start: int, stop: int, length: int) -> str:
    """The ``Content-Range`` of bytes [start, stop), which are not empty."""
    return f"bytes {start}-{stop - 1}/{length}"


def content_range_unsatisfied(length: int) -> str:
    """The ``Content-Range`` of a 416."""
    return f"bytes */{length}"


class Verdict(Enum):
    """What the conditions of a request make of it."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"
    FAILED = "failed"


def evaluate_conditions(etag: str, if_match: str | None, if_none_match: str | None) -> Verdict:
    """``If-Match``, then ``If-None-Match`` (RFC 9110, section 13.2.2), for a GET or HEAD of what exists.

    ``etag`` is the representation's strong tag, with its quotes.
    """
    if if_match is not None and not _names(if_match, etag, weak_is_enough=False):
        return Verdict.FAILED
    if if_none_match is not None and _names(if_none_match, etag, weak_is_enough=True):
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def if_range_holds(header: str, etag: str) -> bool:
    """Whether ``Range`` applies. A date never matches: nothing here has a modification time."""
    return header.strip(_BLANKS) == etag


def _names(header: str, etag: str, *, weak_is_enough: bool) -> bool:
    text = header.strip(_BLANKS)
    if text == "*":
        return True
    return any(
        match[2] == etag and (weak_is_enough or match[1] is None) for match in _ENTITY_TAG.finditer(text)
    )
