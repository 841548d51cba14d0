"""The parameters of a request: split once, decoded once, strictly.

A query that can be read in two ways is refused, never guessed at: a bad escape, bytes that are not
UTF-8, an unknown or a repeated parameter are ``BadRequest`` naming the parameter. ``+`` is a space.
Numbers are 1 to 19 ASCII digits, at most 2⁶³-1: no sign, no blank, no digit of another script.
"""

from __future__ import annotations

import re
from collections.abc import Set
from urllib.parse import unquote_to_bytes

from seekfs_core.errors import BadRequest, InvalidName
from seekfs_core.names import NUMBER_MAX, VERSION_MAX

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DIGITS = re.compile(r"[0-9]{1,19}")
_HASH = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_SHOWN_MAX = 100


def parse_query(raw: str, allowed: Set[str]) -> dict[str, str]:
    """The parameters of a raw query (``QUERY_STRING``: still escaped, one character a byte).

    Empty pieces (``a=1&&b=2``) mean nothing; a name without ``=`` has the empty text as its value.
    Raises ``BadRequest`` for a parameter outside ``allowed``.
    """
    found: dict[str, str] = {}
    for piece in raw.split("&"):
        if not piece:
            continue
        name, _, value = piece.partition("=")
        name = _decoded(name, None)
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise BadRequest(
                f"unknown parameter {shown(name)}; this endpoint takes {known}", parameter=name[:_SHOWN_MAX]
            )
        if name in found:
            raise BadRequest(f"parameter {name!r} is given more than once", parameter=name)
        found[name] = _decoded(value, name)
    return found


def _decoded(escaped: str, name: str | None) -> str:
    if escaped.isascii() and "%" not in escaped:
        return escaped.replace("+", " ") if "+" in escaped else escaped
    where = f"parameter {name!r}" if name is not None else f"the parameter name {shown(escaped)}"
    parameter = name if name is not None else escaped[:_SHOWN_MAX]
    bad = _BAD_ESCAPE.search(escaped)
    if bad is not None:
        at = escaped[bad.start() : bad.start() + 3]
        raise BadRequest(
            f"{where} has the escape {at!r}, which is not % and two hex digits", parameter=parameter
        )
    try:
        # What is not ASCII stands for one byte a character (PEP 3333).
        return unquote_to_bytes(escaped.replace("+", " ").encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"{where} is not UTF-8 ({error.reason})", parameter=parameter) from None


def shown(text: str) -> str:
    """A text of unknown length and content, as it may stand in a message."""
    return ascii(text) if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]!a}..."


def required(parameters: dict[str, str], name: str) -> str:
    """The value of ``name``, or ``BadRequest``."""
    value = parameters.get(name)
    if value is None:
        raise BadRequest(f"parameter {name!r} is missing", parameter=name)
    return value


def number(parameters: dict[str, str], name: str) -> int | None:
    """The number ``name``, None where it is absent, or ``BadRequest``."""
    text = parameters.get(name)
    if text is None:
        return None
    if _DIGITS.fullmatch(text):
        value = int(text)
        if value <= NUMBER_MAX:
            return value
    raise BadRequest(
        f"parameter {name!r} is {shown(text)}: a number is 1 to 19 digits, at most {NUMBER_MAX}",
        parameter=name,
    )


def version_number(parameters: dict[str, str]) -> int | None:
    """``version``, None where it is absent; ``InvalidName`` for 0, which no version has."""
    version = number(parameters, "version")
    if version == 0:
        raise InvalidName(f"parameter 'version' is 0: versions are 1 to {VERSION_MAX}", parameter="version")
    return version


def flag(parameters: dict[str, str], name: str) -> bool:
    """Whether ``name`` is 1; 0 and absence are False, and anything else is ``BadRequest``."""
    text = parameters.get(name, "0")
    if text not in ("0", "1"):
        raise BadRequest(f"parameter {name!r} is {shown(text)}: it must be 0 or 1", parameter=name)
    return text == "1"


def content_hash(parameters: dict[str, str]) -> bytes | None:
    """``hash`` as a digest of 32 bytes, None where it is absent; with or without ``sha256:``."""
    text = parameters.get("hash")
    if text is None:
        return None
    match = _HASH.fullmatch(text)
    if match is None:
        raise BadRequest(
            f"parameter 'hash' is {shown(text)}: it must be 64 hex digits, with or without 'sha256:'",
            parameter="hash",
        )
    return bytes.fromhex(match[1])
