"""The body of a batch: ``[{"path": ..., "off": ..., "len": ...}, ...]``, decoded strictly and fast.

A body of 65,536 items must not cost more than the reading of it. So the usual, right body goes
through msgspec once, straight into structs. What msgspec lets pass and the contract does not
(a duplicate key, ``-0``) is ruled out by counting bytes; and only a body that is refused is looked
at again, item by item, to say which item and what.

Why counting finds every duplicate key: once msgspec has accepted a body, each item has all three
keys and no other, every ``path`` is a string and nothing else is. Without duplicates there are
thus exactly four strings an item, and eight quotation marks that are not escaped. Every
duplicate adds two or four.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec

from seekfs_core.errors import BadRequest, TooLarge
from seekfs_core.names import NUMBER_MAX
from seekfs_wsgi.query import shown

ITEMS_MAX = 65_536

QUOTES_PER_ITEM = 8
"""Three keys and one path."""

_Number = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]


class _Item(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    path: str
    off: _Number
    len: _Number


_DECODER = msgspec.json.Decoder(list[_Item])
_WHITESPACE = b" \t\r\n"
_WHERE = re.compile(r" - at `\$(?:\[(\d+)\])?\.?(.*)`\Z", re.DOTALL)

_SHOWN_MAX = 200
_CHEAP_BYTES_MAX = 8 * 2**20
"""A body that costs little to look at twice, and to decode even if it has too many items."""

Item = tuple[str, int, int]
"""Path, offset and length in bytes."""


def decode_items(body: bytes | bytearray, bytes_max: int) -> list[Item]:
    """The ranges of a batch, in request order.

    Raises ``BadRequest`` naming the item that is malformed, ``TooLarge`` for more than ``ITEMS_MAX``
    ranges or more than ``bytes_max`` bytes in all. Paths are not checked here.
    """
    quotes = _quotation_marks(body)
    if quotes > QUOTES_PER_ITEM * ITEMS_MAX and len(body) > _CHEAP_BYTES_MAX:
        # Known before a single item is made: a body of 64 MiB can hold two million of them.
        raise _too_many(quotes // QUOTES_PER_ITEM)
    try:
        decoded = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _diagnosis(body, error) from None
    if quotes != QUOTES_PER_ITEM * len(decoded) or _may_have_negative_zero(body):
        _check_closely(body)
    if not decoded:
        raise BadRequest(f"the batch is empty: 1 to {ITEMS_MAX} ranges are asked for at once")
    if len(decoded) > ITEMS_MAX:
        raise _too_many(len(decoded))
    items = [(item.path, item.off, item.len) for item in decoded]
    total = sum(length for _, _, length in items)
    if total > bytes_max:
        raise TooLarge(
            f"the ranges are {total} bytes in all; at most {bytes_max} (api.readv_max_mib) at once",
            bytes=total,
            bytes_max=bytes_max,
        )
    return items


def _too_many(count: int) -> TooLarge:
    return TooLarge(
        f"{count} ranges; at most {ITEMS_MAX} may be asked for at once", items=count, items_max=ITEMS_MAX
    )


def _quotation_marks(body: bytes | bytearray) -> int:
    """How many quotation marks of a JSON text are not escaped."""
    quotes = body.count(b'"')
    if b"\\" in body:
        # Escaped backslashes first: what is left of \" is then an escaped quotation mark.
        quotes -= body.replace(rb"\\", b"").count(rb"\"")
    return quotes


def _may_have_negative_zero(body: bytes | bytearray) -> bool:
    # In an accepted body the only number with a sign is -0. It can also be part of a path.
    return b"-0" in body and b":-0" in body.translate(None, _WHITESPACE)


def _check_closely(body: bytes | bytearray) -> None:
    """Refuse duplicate keys and negative zeros, naming the item; the slow way, for few bodies."""
    index = -1

    def check_item(pairs: list[tuple[str, Any]]) -> None:
        nonlocal index
        index += 1
        seen: set[str] = set()
        for key, value in pairs:
            if key in seen:
                raise BadRequest(
                    f"item {index}: the key {key!r} is given more than once", item=index, key=key
                )
            if value == "-0" and key != "path":
                raise BadRequest(f"item {index}: {key} is -0; numbers have no sign", item=index, key=key)
            seen.add(key)

    # Numbers stay texts, so that -0 is told from 0. The body is known to be flat.
    json.loads(body, object_pairs_hook=check_item, parse_int=str)


def _diagnosis(body: bytes | bytearray, error: Exception) -> BadRequest:
    """What to say of a body that was refused; names the item where there is one."""
    if not body.strip(_WHITESPACE):
        return BadRequest("the body is empty; it must be a JSON array of objects with path, off and len")
    if isinstance(error, msgspec.ValidationError):
        return _misfit(str(error))
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deeply; it must be an array of flat objects")
    index = _first_bad_text(body)
    if index is not None:
        return BadRequest(f"item {index}: a text that is not valid UTF-8", item=index)
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as fault:
        return BadRequest(f"the body is not UTF-8 at byte {fault.start}")
    return BadRequest(f"the body is not JSON: {str(error).removeprefix('JSON is malformed: ')}")


def _misfit(message: str) -> BadRequest:
    match = _WHERE.search(message)
    if match is None:
        return BadRequest(f"the body does not fit: {message[:_SHOWN_MAX]}; it must be an array of objects")
    # The name of an unknown field is part of the message, and as long as its sender likes.
    what = message[: match.start()].replace("`", "")[:_SHOWN_MAX]
    key = match[2]
    subject = f"{shown(key)[1:-1]}: " if key else ""
    if match[1] is None:
        return BadRequest(f"{subject}{what}")
    index = int(match[1])
    facts = {"key": key} if key else {}
    return BadRequest(f"item {index}: {subject}{what}", item=index, **facts)


def _first_bad_text(body: bytes | bytearray) -> int | None:
    """The first item with bytes or escapes that are no Unicode text, or None."""
    if len(body) > _CHEAP_BYTES_MAX:
        return None
    try:
        # Decoding to text with surrogates for whatever is not UTF-8, so that the array can be walked.
        decoded = json.loads(body.decode("utf-8", errors="surrogateescape"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(decoded, list):
        return None
    for index, item in enumerate(decoded):
        if isinstance(item, dict):
            for text in (*item, item.get("path")):
                if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
                    return index
    return None
