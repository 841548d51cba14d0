"""Which versions are remembered as current over a restart, of which namespaces.

A remembered version never goes back: it is what a node without a store serves, and calls that
remember may overtake each other. The namespaces that moved last are kept when not all of them fit.
They are remembered as JSON, ``{"namespace": version}``, the one that moved last at the end.

A namespace of one bucket is not that of another: whatever is remembered by the names of namespaces is
believed only where ``bucket_identity`` is what it was (``seekfs_core.restoring``). A bucket is known by
its server and its name. Two spellings of a server's address are one server where that is sure; where it is
not they are two, which costs what was remembered and serves nobody another's bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping

import msgspec
from attrs import define, field

_ADDRESS = re.compile(r"(https?)://([^/]*?)(?::([0-9]+))?(/.*)?", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


def server_at(endpoint: str | None, region: str) -> str:
    """The server that an ``endpoint`` names, in one spelling: letter case, the port that goes without saying,
    and a slash at the end make no other one.

    Without an endpoint it is AWS in ``region``, which says in which part of AWS a bucket's name is unique.
    With one, the region is only what requests are signed for.
    """
    if endpoint is None:
        return f"aws:{region}"
    address = _ADDRESS.fullmatch(endpoint)
    if address is None:
        return endpoint
    scheme, host = address[1].lower(), address[2].lower()
    port = _PORTS[scheme] if address[3] is None else int(address[3])
    return f"{scheme}://{host}:{port}{(address[4] or '').rstrip('/')}"


def server_in(directory: str) -> str:
    """The ``file`` engine on a directory, given by its absolute path without links: where a relative one
    leads depends on where the process was started."""
    return f"file:{directory}"


def bucket_identity(server: str, bucket: str) -> bytes:
    """32 bytes that are the same for one bucket of one server and no other."""
    # A directory's name may be bytes that are no UTF-8.
    named = f"{server}\n{bucket}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(named, digest_size=32).digest()


def encode_heads(versions: Mapping[str, int]) -> bytes:
    """What is remembered, as it is kept."""
    return msgspec.json.encode(versions)


def decode_heads(stored: bytes) -> dict[str, int] | None:
    """What was kept, or None where it is none of that."""
    try:
        return msgspec.json.decode(stored, type=dict[str, int])
    except msgspec.DecodeError:
        return None


def _entry_length(ns: str, version: int) -> int:
    """Bytes of one entry: quotes, colon, and the comma or the brace behind it. No namespace needs escapes."""
    return len(ns) + len(str(version)) + 4


@define
class KnownHeads:
    """The newest version seen of each namespace. Not thread-safe."""

    _versions: OrderedDict[str, int] = field(factory=OrderedDict, init=False)
    _entries_length: int = field(default=0, init=False)
    _has_news: bool = field(default=False, init=False)
    """Whether something was learned that is not written yet."""

    def learn(self, ns: str, version: int) -> bool:
        """HEAD of ``ns`` named ``version``; whether that is news."""
        before = self._versions.get(ns)
        if version <= (before or 0):
            return False
        if before is not None:
            self._entries_length -= _entry_length(ns, before)
        self._versions[ns] = version
        self._versions.move_to_end(ns)
        self._entries_length += _entry_length(ns, version)
        self._has_news = True
        return True

    def version_of(self, ns: str) -> int | None:
        """What is remembered of a namespace."""
        return self._versions.get(ns)

    def restore(self, versions: Mapping[str, int]) -> None:
        """What was remembered earlier, oldest first."""
        for ns, version in versions.items():
            self.learn(ns, version)
        self._has_news = False

    @property
    def encoded_length(self) -> int:
        """Bytes that ``encode_heads`` makes of what is remembered."""
        return max(2, 1 + self._entries_length)

    def trim(self, length_max: int) -> None:
        """Forget the oldest until the rest is kept in ``length_max`` bytes, or nothing is left."""
        while self._versions and self.encoded_length > length_max:
            ns, version = self._versions.popitem(last=False)
            self._entries_length -= _entry_length(ns, version)

    def to_write(self, length_max: int) -> dict[str, int] | None:
        """What is to be written now, trimmed to ``length_max`` bytes, or None where nothing is new since it
        was written. It counts as written unless ``refused`` follows."""
        if not self._has_news:
            return None
        self._has_news = False
        self.trim(length_max)
        return self.versions()

    def refused(self) -> None:
        """What was to be written could not be. It is with the next news, whatever that is of."""
        self._has_news = True

    def versions(self) -> dict[str, int]:
        """Versions by namespace, the one that moved last at the end."""
        return dict(self._versions)
