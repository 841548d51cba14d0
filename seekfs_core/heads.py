"""Which versions are remembered as current over a restart, of which namespaces.

A remembered version never goes back: it is what a node without a store serves, and calls that
remember may overtake each other. The namespaces that moved last are kept when not all of them fit.

A namespace of one bucket is not that of another: whatever is remembered by the names of namespaces is
believed only where ``bucket_identity`` is what it was.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping

from attrs import define, field

DROPPED_SHARE = 8
"""One in so many goes at once when they do not fit: each try to fit costs an encoding of all."""


def bucket_identity(engine: str, where: str | None, bucket: str) -> bytes:
    """32 bytes that are the same for one bucket of one store and no other.

    ``where`` is the store's endpoint (None: the engine's own), or the directory of one that is a directory.
    """
    return hashlib.blake2b(f"{engine}\n{where}\n{bucket}".encode(), digest_size=32).digest()


@define
class KnownHeads:
    """The newest version seen of each namespace. Not thread-safe."""

    _versions: OrderedDict[str, int] = field(factory=OrderedDict, init=False)

    def learn(self, ns: str, version: int) -> bool:
        """HEAD of ``ns`` named ``version``; whether that is news."""
        if version <= self._versions.get(ns, 0):
            return False
        self._versions[ns] = version
        self._versions.move_to_end(ns)
        return True

    def version_of(self, ns: str) -> int | None:
        """What is remembered of a namespace."""
        return self._versions.get(ns)

    def restore(self, versions: Mapping[str, int]) -> None:
        """What was remembered earlier, oldest first."""
        for ns, version in versions.items():
            self.learn(ns, version)

    def trim(self, fits: Callable[[Mapping[str, int]], bool]) -> Mapping[str, int]:
        """Forget the oldest until ``fits`` says that the rest does; the rest."""
        while self._versions and not fits(self._versions):
            for _ in range(1 + len(self._versions) // DROPPED_SHARE):
                self._versions.popitem(last=False)
        return self.versions()

    def versions(self) -> dict[str, int]:
        """Versions by namespace, the one that moved last at the end."""
        return dict(self._versions)
