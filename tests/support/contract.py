"""What the contract has for any request to ``/blob`` and ``/readv``: a model that shares no code with seekfs.

Written from the text of docs/SPEC.md, section 4, one rule after the other, and as slowly as it is plain. It
is of the dataset in ``malformed.base``.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from tests.support.dataset import MIB, File
from tests.support.malformed.base import FILES, NS, OLD, SETTINGS

LARGEST: Final = 2**63 - 1
HEX_DIGITS: Final = "0123456789abcdefABCDEF"
ITEMS_MAX: Final = 65_536
READV_BYTES_MAX: Final = int(float(str(SETTINGS["api.readv_max_mib"])) * MIB)
VERSIONS: Final = {1: OLD, 2: FILES}
CURRENT: Final = 2


@frozen
class Expected:
    """``body`` is None where it is not for the contract to say: a problem's. ``frames`` are the items of a
    framed answer: bytes, or the status of one that fails. ``headers`` are some that must be there. ``items``
    may be named by a problem, and one of them is where there are any."""

    status: int
    body: bytes | None = field(default=None, repr=False)
    headers: dict[str, str] = field(factory=dict)
    items: tuple[int, ...] = ()
    frames: list[bytes | int] | None = field(default=None, repr=False)


class Refused(Exception):
    """A rule that is not obeyed."""

    def __init__(self, status: int, *items: int, **headers: str) -> None:
        super().__init__(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.expected = Expected(status, headers=named, items=items)


# -- queries and names -----------------------------------------------------------------------------------


def query(raw: str, allowed: set[str]) -> dict[str, str]:
    """Split once, decoded once; ``raw`` is visible ASCII."""
    parameters: dict[str, str] = {}
    for piece in raw.split("&"):
        if not piece:
            continue
        name, _, value = piece.partition("=")
        name, value = text(name), text(value)
        if name not in allowed or name in parameters:
            raise Refused(400)
        parameters[name] = value
    return parameters


def text(escaped: str) -> str:
    decoded = bytearray()
    at = 0
    while at < len(escaped):
        if escaped[at] == "%":
            digits = escaped[at + 1 : at + 3]
            if len(digits) < 2 or any(digit not in HEX_DIGITS for digit in digits):
                raise Refused(400)
            decoded.append(int(digits, 16))
            at += 3
        else:
            decoded.append(ord(" " if escaped[at] == "+" else escaped[at]))
            at += 1
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400) from None


def number(digits: str | None) -> int | None:
    if digits is None:
        return None
    if not 1 <= len(digits) <= 19 or set(digits) - set("0123456789") or int(digits) > LARGEST:
        raise Refused(400)
    return int(digits)


def is_path(path: str) -> bool:
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    return (
        1 <= size <= 1024
        and not any(segment in ("", ".", "..") for segment in path.split("/"))
        and not any(ord(letter) < 0x20 or 0x7F <= ord(letter) <= 0x9F for letter in path)
    )


def files_of(parameters: dict[str, str]) -> tuple[int, dict[str, File]]:
    """What ``ns`` and ``version`` name; whatever is malformed of them comes before what is not there."""
    if parameters["ns"] != NS:
        raise Refused(404)
    version = number(parameters.get("version")) or CURRENT
    if version not in VERSIONS:
        raise Refused(404)
    return version, VERSIONS[version]


def check_names(parameters: dict[str, str], *needed: str) -> None:
    if any(name not in parameters for name in needed):
        raise Refused(400)
    if not re.fullmatch("[a-z0-9][a-z0-9._-]{0,62}", parameters["ns"]):
        raise Refused(400)
    if number(parameters.get("version")) == 0:
        raise Refused(400)


# -- /blob --------------------------------------------------------------------------------------------------


def blob(method: str, raw_query: str, conditions: dict[str, str]) -> Expected:
    """``conditions`` are headers by their names in small letters."""
    try:
        return _blob(method, raw_query, conditions)
    except Refused as refused:
        return refused.expected


def _blob(method: str, raw_query: str, conditions: dict[str, str]) -> Expected:
    parameters = query(raw_query, {"ns", "path", "off", "len", "hash", "version"})
    check_names(parameters, "ns", "path")
    off, length = number(parameters.get("off")) or 0, number(parameters.get("len"))
    wanted = parameters.get("hash", "").removeprefix("sha256:").lower()
    if not is_path(parameters["path"]) or ("hash" in parameters and not re.fullmatch("[0-9a-f]{64}", wanted)):
        raise Refused(400)
    version, files = files_of(parameters)
    file = files.get(parameters["path"])
    if file is None:
        raise Refused(404)
    content = hashlib.sha256(file.data).hexdigest()
    if wanted not in ("", content):
        raise Refused(404)
    tag = f'"sha256:{content}"'
    size = len(file.data)
    if off > size:
        raise Refused(416, content_range=f"bytes */{size}", etag=tag)
    chosen = file.data[off:] if length is None else file.data[off : off + length]
    match, none_match = conditions.get("if-match"), conditions.get("if-none-match")
    if match is not None and match != "*" and tag not in tags(match):
        raise Refused(412)
    weakly = [each.removeprefix("W/") for each in tags(none_match or "")]
    if none_match == "*" or tag in weakly:
        return Expected(304, b"", {"etag": tag})
    headers = {"etag": tag, "x-seekfs-version": str(version), "accept-ranges": "bytes"}
    is_fixed = "hash" in parameters or "version" in parameters
    headers["cache-control"] = "max-age=31536000, immutable" if is_fixed else "no-cache"
    part = None
    if method == "GET" and "range" in conditions and conditions.get("if-range", tag) == tag:
        part = byte_range(conditions["range"], len(chosen))
    if part is None:
        headers["content-length"] = str(len(chosen))
        return Expected(200, b"" if method == "HEAD" else chosen, headers)
    if not part:
        raise Refused(416, content_range=f"bytes */{len(chosen)}", etag=tag)
    headers["content-range"] = f"bytes {part[0]}-{part[-1]}/{len(chosen)}"
    headers["content-length"] = str(len(part))
    return Expected(206, chosen[part.start : part.stop], headers)


def tags(header: str) -> list[str]:
    """A list of entity tags, none of which has a comma within."""
    return [each.strip() for each in header.split(",")]


def byte_range(header: str, length: int) -> range | None:
    """The positions that are asked for, in the order of the contract's table; None where that is ignored."""
    unit, sign, specs = header.partition("=")
    named = [spec.strip(" \t") for spec in specs.split(",") if spec.strip(" \t")]
    if not sign or unit.strip(" \t").lower() != "bytes" or len(named) != 1:
        return None
    first, dash, last = named[0].partition("-")
    if not dash or set(first + last) - set("0123456789") or not first + last:
        return None
    if not first:
        return range(max(length - int(last), 0), length)
    if last and int(last) < int(first):
        return None
    return range(min(int(first), length), min(int(last) + 1, length) if last else length)


# -- /readv --------------------------------------------------------------------------------------------------


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written."""


@frozen
class Integer:
    digits: str


Item: TypeAlias = tuple[str, int, int]


def readv(raw_query: str, body: bytes, *, framed: bool) -> Expected:
    try:
        parameters = query(raw_query, {"ns", "version"})
        check_names(parameters, "ns")
        items = batch(body)
        return _framed(parameters, items) if framed else _plain(parameters, items)
    except Refused as refused:
        return refused.expected


def batch(body: bytes) -> list[Item]:
    """Read by Python's own ``json``, with nothing made of numbers and objects."""
    try:
        written = json.loads(
            body.decode("utf-8"), object_pairs_hook=Pairs, parse_int=Integer, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise Refused(400) from None
    if not isinstance(written, list) or isinstance(written, Pairs) or not written:
        raise Refused(400)
    read = [_item(each) for each in written]
    items = [item for item in read if item is not None]
    if len(items) < len(read):
        # The contract does not say which is named, where there are several.
        raise Refused(400, *[index for index, item in enumerate(read) if item is None])
    if len(items) > ITEMS_MAX or sum(length for _, _, length in items) > READV_BYTES_MAX:
        raise Refused(413)
    return items


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _item(written: object) -> Item | None:
    """None where it is malformed."""
    if not isinstance(written, Pairs) or sorted(key for key, _ in written) != ["len", "off", "path"]:
        return None
    members = dict(written)
    path, off, length = members["path"], members["off"], members["len"]
    if not isinstance(path, str) or not isinstance(off, Integer) or not isinstance(length, Integer):
        return None
    try:
        path.encode("utf-8")
        return path, number(off.digits) or 0, number(length.digits) or 0
    except (UnicodeEncodeError, Refused):
        return None


def _plain(parameters: dict[str, str], items: list[Item]) -> Expected:
    for index, (path, _, _) in enumerate(items):
        if not is_path(path):
            raise Refused(400, index)
    version, files = files_of(parameters)
    data = b""
    for index, (path, off, length) in enumerate(items):
        if path not in files:
            raise Refused(404, index)
        if off + length > len(files[path].data):
            raise Refused(416, index)
        data += files[path].data[off : off + length]
    return Expected(200, data, {"x-seekfs-version": str(version), "content-length": str(len(data))})


def _framed(parameters: dict[str, str], items: list[Item]) -> Expected:
    try:
        version, files = files_of(parameters)
    except Refused:
        return _plain(parameters, items)
    answers: list[bytes | int] = []
    for path, off, length in items:
        if not is_path(path):
            answers.append(400)
        elif path not in files:
            answers.append(404)
        elif off > len(files[path].data):
            answers.append(416)
        else:
            answers.append(files[path].data[off : off + length])
    return Expected(200, None, {"x-seekfs-version": str(version)}, frames=answers)
