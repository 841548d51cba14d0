"""What the tables of requests are made of: bytes as they go out, and what is to be said of them.

All of them are about one dataset, ``FILES`` in the namespace ``NS``, and a daemon with ``SETTINGS``.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attrs import field, frozen

from tests.support.dataset import MIB, File, some_bytes

NS: Final = "dev"
FILES: Final = {
    "file": File(some_bytes(MIB + 77, 9), 64 * 1024),
    "ten": File(b"0123456789"),
    "empty": File(b""),
    "a#b": File(b"a number sign"),
    "a b/é%": File(b"escaped"),
}
OLD: Final = {"file": File(b"of version 1", key="old/file")}
"""Version 1; ``FILES`` are version 2."""

SETTINGS: Final = {"api.request_max_mib": 1, "api.readv_max_mib": 4, "api.debug": True}
BODY_BYTES_MAX: Final = MIB

HASH: Final = hashlib.sha256(FILES["file"].data).hexdigest()
ITEM: Final = b'{"path":"ten","off":1,"len":2}'
BATCH: Final = b"[" + ITEM + b"]"
BATCH_DATA: Final = b"12"


@frozen
class Malformed:
    """A request that is answered with ``status``, and nothing else.

    ``said`` is a part of the problem's detail, ``parameter`` and ``item`` members of it. ``next_status`` is
    of what the rest of the bytes is taken for, where the request ends before they do.
    """

    name: str
    sent: bytes = field(repr=lambda sent: repr(sent[:200]))
    status: int = 400
    said: str = ""
    parameter: str | None = None
    item: int | None = None
    next_status: int | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def is_head(self) -> bool:
        """Whether there is no body to say anything in."""
        return self.sent.startswith((b"HEAD ", b"\r\nHEAD "))


@frozen
class Odd:
    """A request that looks wrong and is right: ``status`` and ``body`` are what the contract has for it."""

    name: str
    sent: bytes = field(repr=lambda sent: repr(sent[:200]))
    status: int
    body: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def is_head(self) -> bool:
        return self.sent.startswith(b"HEAD ")


def request(method: str, target: str | bytes, *headers: str | bytes, body: bytes = b"") -> bytes:
    """With a ``Host``, and the headers as they are given."""
    lines = [f"{method} ".encode() + _bytes(target) + b" HTTP/1.1", b"Host: x", *map(_bytes, headers)]
    return b"\r\n".join([*lines, b"", body])


def get(target: str | bytes, *headers: str | bytes) -> bytes:
    return request("GET", target, *headers)


def blob(query: str | bytes, *headers: str | bytes) -> bytes:
    """``query`` is what follows ``ns=dev&path=ten``."""
    return get(f"/blob?ns={NS}&path=ten".encode() + _bytes(query), *headers)


def post(body: bytes, *headers: str | bytes, query: str = f"ns={NS}") -> bytes:
    """A batch with its length."""
    return request("POST", f"/readv?{query}", f"Content-Length: {len(body)}", *headers, body=body)


def post_as(*headers: str | bytes, body: bytes = b"") -> bytes:
    """A batch with whatever the headers say of its length."""
    return request("POST", f"/readv?ns={NS}", *headers, body=body)


def chunked(raw: bytes, *headers: str | bytes) -> bytes:
    """A batch in chunks; ``raw`` is all that comes behind the head."""
    return post_as("Transfer-Encoding: chunked", *headers, body=raw)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
