"""What one configuration value may be: a rule for each kind of key.

A ``Rule`` takes a value as TOML gives it and returns the value to keep, or raises ``Refused``
with what is allowed. It also reads the value from text, for the environment and the command
line: numbers and booleans as TOML writes them, tables as an inline TOML table or as JSON.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from seekfs_core.manifest import PAGE_SIZE_BYTES_MIN
from seekfs_core.names import VERSION_MAX, namespace_fault

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
UNIT_NAMES = {MIB: "MiB", GIB: "GiB"}

SIZE_BYTES_MIN = PAGE_SIZE_BYTES_MIN
"""The smallest page: whatever holds pages, or asks for some, is no smaller."""

SIZE_BYTES_MAX = 1 << 60
"""1 EiB: more than any machine has, and far from where byte counts overflow 64 bits."""

UNIX_SOCKET_PATH_BYTES_MAX = 107
"""``sun_path`` of Linux holds 108 bytes, the last of which is a NUL."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}(?<![-.])")


class Refused(Exception):
    """A value that its rule does not take. The text is what is allowed, after "it must be"."""


@frozen(kw_only=True)
class Rule:
    """How the values of one key are checked.

    ``accept`` returns the value to keep or raises ``Refused``. ``read`` turns the text of an
    environment variable into what ``accept`` takes; text it cannot read is handed on as it is,
    so that ``accept`` refuses it in its own words. ``optional`` keys may be absent (None), and
    an empty text takes them away. ``secret`` values are never shown.
    """

    accept: Callable[[object], object]
    read: Callable[[str], object] = str
    optional: bool = False
    secret: bool = False


def number(
    low: float,
    high: float,
    *,
    above_low: bool = False,
    whole: bool = False,
    multiple: tuple[float, str] | None = None,
    allowed: str = "",
) -> Rule:
    """A finite number from ``low`` (or only above it) to ``high``; a bool is not a number.

    ``multiple`` is a divisor and how it is called in the message. ``allowed`` is another message.
    """
    kind = "a whole number" if whole else "a number"
    bounds = f"above {low:,g} and at most {high:,g}" if above_low else f"from {low:,g} to {high:,g}"
    what = allowed or f"{kind} {bounds}" + (f", a multiple of {multiple[1]}" if multiple else "")

    def accept(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise Refused(what)
        # Not isfinite: an integer may be too large for it. NaN is in no range.
        if not low <= value <= high or (above_low and value == low):
            raise Refused(what)
        if multiple and value % multiple[0]:
            raise Refused(what)
        return value + 0  # -0.0 is 0.0

    return Rule(accept=accept, read=_read_number)


def size(unit_bytes: int, *, bytes_min: int = SIZE_BYTES_MIN) -> Rule:
    """A size, counted in units of ``unit_bytes``; fractions are fine. ``bytes_min`` is whole KiB: a
    fraction that comes to no bytes at all is a ceiling under which nothing works."""
    return number(
        bytes_min / unit_bytes,
        SIZE_BYTES_MAX / unit_bytes,
        allowed=f"a size in {UNIT_NAMES[unit_bytes]}, at least {bytes_min // KIB} KiB and at most 1 EiB",
    )


def boolean() -> Rule:
    def accept(value: object) -> object:
        if not isinstance(value, bool):
            raise Refused("true or false")
        return value

    return Rule(accept=accept, read=lambda text: {"true": True, "false": False}.get(text, text))


def choice(*values: str, aliases: Mapping[str, str] | None = None) -> Rule:
    """One of a few words; an alias becomes the word it stands for."""
    renamed = aliases or {}
    also = "".join(f" ({alias} means {value})" for alias, value in renamed.items())
    allowed = "one of " + ", ".join(f'"{value}"' for value in values) + also

    def accept(value: object) -> object:
        if not isinstance(value, str):
            raise Refused(allowed)
        word = renamed.get(value, value)
        if word not in values:
            raise Refused(allowed)
        return word

    return Rule(accept=accept)


def text(
    allowed: str,
    suits: Callable[[str], bool] = lambda _: True,
    *,
    optional: bool = False,
    secret: bool = False,
) -> Rule:
    """A string without control characters, not blank, that ``suits``."""

    def accept(value: object) -> object:
        if not isinstance(value, str) or not value.strip() or _CONTROL.search(value) or not suits(value):
            raise Refused(allowed)
        return value

    return Rule(accept=accept, optional=optional, secret=secret)


def pins() -> Rule:
    """A table of namespaces and versions."""
    allowed = "a table of namespaces and versions, such as { dev = 42 }, versions from 1 to 2^63-1"

    def accept(value: object) -> object:
        if not isinstance(value, Mapping):
            raise Refused(allowed)
        for ns, version in value.items():
            if not isinstance(ns, str) or (fault := namespace_fault(ns)) is not None:
                raise Refused(f"{allowed}; {ns!r} {fault if isinstance(ns, str) else 'is not a name'}")
            if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= VERSION_MAX:
                raise Refused(f"{allowed}; the version of {ns!r} is none")
        return dict(value)

    return Rule(accept=accept, read=_read_table)


def namespace_budgets() -> Rule:
    """A table of namespaces and what each may take a second."""
    allowed = (
        "a table of namespaces and their budgets, such as "
        "{ dev = { get_per_sec = 20, get_burst = 5, mib_per_sec = 100 } }, of which each key may be left out"
    )
    rules = {
        "get_per_sec": number(0, 1_000_000, above_low=True),
        "get_burst": number(1, 1_000_000, whole=True),
        "mib_per_sec": number(0, 1_000_000, above_low=True),
    }

    def budget(ns: object, given: object) -> dict[str, object]:
        if not isinstance(ns, str) or (fault := namespace_fault(ns)) is not None:
            raise Refused(f"{allowed}; {ns!r} {fault if isinstance(ns, str) else 'is not a name'}")
        if not isinstance(given, Mapping) or not given.keys() <= rules.keys():
            raise Refused(f"{allowed}; the budget of {ns!r} is none")
        accepted: dict[str, object] = {}
        for key, value in given.items():
            try:
                accepted[key] = rules[key].accept(value)
            except Refused as refused:
                raise Refused(f"{allowed}; {key} of {ns!r} must be {refused}") from None
        if "get_burst" in given and "get_per_sec" not in given:
            raise Refused(f"{allowed}; {ns!r} has get_burst without get_per_sec")
        return accepted

    def accept(value: object) -> object:
        if not isinstance(value, Mapping):
            raise Refused(allowed)
        return {ns: budget(ns, given) for ns, given in value.items()}

    return Rule(accept=accept, read=_read_table)


def listen_address() -> Rule:
    def accept(value: object) -> object:
        if not isinstance(value, str):
            raise Refused(ListenAddress.ALLOWED)
        ListenAddress.parse(value)
        return value

    return Rule(accept=accept)


def readable_file(allowed: str) -> Rule:
    """An optional path of a file that this process can read."""
    return text(allowed, lambda path: os.path.isfile(path) and os.access(path, os.R_OK), optional=True)


def is_bucket(value: str) -> bool:
    return _BUCKET.fullmatch(value) is not None


def is_region(value: str) -> bool:
    return _REGION.fullmatch(value) is not None


def is_credential(value: str) -> bool:
    """Visible ASCII: what can stand in a header without being quoted."""
    return value.isascii() and value.isprintable() and " " not in value


def is_http_url(value: str, *, user: bool = False, path: bool = True) -> bool:
    """``http(s)://host[:port][/path]``; ``user`` allows ``user:password@`` before the host."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and parts.hostname is not None
        and is_host(parts.hostname)
        and port != 0
        and not parts.netloc.endswith(":")
        and (user or "@" not in parts.netloc)
        and (path or parts.path in ("", "/"))
        and "?" not in value
        and "#" not in value
        and " " not in value
    )


def is_host(value: str) -> bool:
    """An IP address, or what may be the name of a machine."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return _HOST_NAME.fullmatch(value) is not None
    return True


@frozen
class ListenAddress:
    """Where the daemon listens: a TCP ``host`` and ``port`` (0: any free one), or the path of a
    Unix socket."""

    ALLOWED = '"host:port", "[ipv6]:port" or "unix:/path", the port from 0 to 65535'

    host: str | None = field(default=None)
    port: int | None = field(default=None)
    unix_path: str | None = field(default=None)

    @classmethod
    def parse(cls, value: str) -> ListenAddress:
        """Raises ``Refused`` with what is allowed."""
        if value.startswith("unix:"):
            path = value.removeprefix("unix:")
            if (
                not path.strip()
                or _CONTROL.search(path)
                or len(os.fsencode(path)) > UNIX_SOCKET_PATH_BYTES_MAX
            ):
                raise Refused(f"{cls.ALLOWED}, the path at most {UNIX_SOCKET_PATH_BYTES_MAX} bytes")
            return cls(unix_path=path)
        host, colon, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        name = host[1:-1] if bracketed else host
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise Refused(cls.ALLOWED)
        if bracketed != (":" in name) or not is_host(name):
            raise Refused(cls.ALLOWED + ("" if name else '; all addresses are "0.0.0.0:port" or "[::]:port"'))
        return cls(host=name, port=int(port))

    def __str__(self) -> str:
        """As gunicorn's ``bind`` takes it."""
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def _read_number(value: str) -> object:
    # int() and float() would take "1_0", " 1" and digits of other scripts.
    if _INTEGER.fullmatch(value) and len(value) <= 40:
        return int(value)
    if _FLOAT.fullmatch(value):
        return float(value)
    return value


def _read_table(value: str) -> object:
    try:
        table: Any = json.loads(value)
    except (ValueError, RecursionError):
        try:
            parsed = tomllib.loads(f"table = {value}")
        except (ValueError, RecursionError):
            return value
        # A line feed in the text could smuggle in more than one value.
        return parsed["table"] if len(parsed) == 1 else value
    return table
