"""Which manifests are kept beside the pages, and how the space for them is divided.

A manifest that a node serves from memory is never loaded again, so by use alone it would be the first
to leave the shelf, and a restart without the store could not serve it. So those that may be asked for
then, the *current* ones, leave last: what the remembered HEAD of a namespace names (or what is newer:
it was read because HEAD names it by now), and pinned versions. Among each sort the ones used least
recently go first, and no other manifest displaces a current one.

Everything here is told lengths and versions. A manifest is charged until the driver says that its
file is gone.
"""

from __future__ import annotations

import enum
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias, assert_never

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation
from seekfs_core.heads import KnownHeads
from seekfs_core.names import VERSION_MAX, namespace_fault
from seekfs_core.tier import Outcome

ManifestName: TypeAlias = tuple[str, int]
"""Namespace and version."""

LOOKING: Final = 2
"""Manifests that are looked for at once, and decoded."""

KEEPING: Final = 1
"""Manifests and heads written at once: a disk that hangs takes this one, and no request to the store."""

BLOCK_BYTES = 4096
FILE_OVERHEAD_BYTES = 512
"""Charged for each file on top of its blocks: its entry in the directory."""

HEADS_BYTES_MAX = 256 << 10
HEADS_PART = 8
"""The file of heads has at most this part of the ceiling."""

HEADS_FILE = "heads"
BUCKET_FILE = "bucket"
_MANIFEST_FILE = re.compile(r"(.+)@([1-9][0-9]*)\.manifest")


class KeptLoss(enum.Enum):
    """Why a kept manifest is not to be had. Each is a miss: the store is asked."""

    DAMAGED = "is damaged"
    VANISHED = "is not there"
    UNREADABLE = "cannot be read"
    REFUSED = "is no manifest that this node takes"

    @property
    def is_final(self) -> bool:
        """Whether its file is removed, as soon as no other is being written. What cannot be read, or is
        refused for a limit that somebody set, may do later, and be all there is while the store is away."""
        return self in (KeptLoss.DAMAGED, KeptLoss.VANISHED)


def loss_in_loading(outcome: Outcome) -> KeptLoss | None:
    """Why a kept manifest is not to be had when reading it had this outcome; None: it was read, or may be at
    any moment."""
    match outcome:
        case Outcome.DAMAGED:
            return KeptLoss.DAMAGED
        case Outcome.VANISHED:
            return KeptLoss.VANISHED
        case Outcome.REFUSED | Outcome.HUNG:
            return KeptLoss.UNREADABLE
        case Outcome.DONE | Outcome.STARVED | Outcome.UNTRIED | Outcome.CAME_BACK:
            return None
        case _:
            assert_never(outcome)


def manifest_file(name: ManifestName) -> str:
    """The name of the file that a manifest is kept in."""
    ns, version = name
    return f"{ns}@{version}.manifest"


def manifest_in(file: str) -> ManifestName | None:
    """Which manifest a file of this name holds, or None: no shelf gives a file that name."""
    found = _MANIFEST_FILE.fullmatch(file)
    if found is None or namespace_fault(found[1]) is not None or int(found[2]) > VERSION_MAX:
        return None
    return found[1], int(found[2])


def is_shelf_file(file: str) -> bool:
    """Whether a shelf gives a file this name."""
    return file in (HEADS_FILE, BUCKET_FILE) or manifest_in(file) is not None


def file_charge(length: int) -> int:
    """Bytes of disk that a file of ``length`` bytes takes."""
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES + FILE_OVERHEAD_BYTES


@frozen(kw_only=True)
class ShelfShares:
    """How a ceiling is divided, in bytes."""

    manifests_bytes: int
    """What manifests are charged with between them."""
    heads_length_max: int
    """The longest file of heads, without what says whose it is; less than 1 when there is no room for any."""


def shelf_layout(ceiling_bytes: int) -> ShelfShares:
    """The division of a ceiling on a shelf on disk: 1/8 (at most 256 KiB) for heads, the rest manifests.

    What is not a manifest is replaced as a whole, so that its new copy is beside the old for a moment:
    the heads, and two blocks for the bucket's name and the directory.
    """
    heads_bytes = min(HEADS_BYTES_MAX, ceiling_bytes // HEADS_PART)
    return ShelfShares(
        manifests_bytes=max(0, ceiling_bytes - 2 * (heads_bytes + 2 * BLOCK_BYTES)),
        heads_length_max=heads_bytes - BLOCK_BYTES,
    )


@frozen(kw_only=True)
class FoundManifest:
    """A manifest that is on the shelf at start. ``used_at`` orders them by their last use, whatever its unit;
    ``nbytes`` is what it is charged with."""

    name: ManifestName
    used_at: int
    nbytes: int


@define
class ShelfRetention:
    """See the module's text. Not thread-safe.

    ``heads`` are the remembered ones, which the driver goes on telling of news. ``pins`` are the versions
    that this node serves of pinned namespaces.
    """

    ceiling_bytes: int
    heads: KnownHeads
    pins: Mapping[str, int] = field(factory=dict)
    _charges: OrderedDict[ManifestName, int] = field(factory=OrderedDict, init=False)
    """Least recently used first."""
    _doubted: set[ManifestName] = field(factory=set, init=False)
    """Those whose copy was of no use when it was last looked at, and may be of use later."""

    def __contains__(self, name: ManifestName) -> bool:
        return name in self._charges

    @property
    def charged_bytes(self) -> int:
        return sum(self._charges.values())

    def used(self, name: ManifestName) -> bool:
        """A manifest is asked for; whether it is kept."""
        if name not in self._charges:
            return False
        self._charges.move_to_end(name)
        return True

    def wants(self, name: ManifestName) -> bool:
        """The store gave a manifest; whether it is to be kept, since there is no copy, or a doubtful one that
        it replaces."""
        return not self.used(name) or name in self._doubted

    def kept(self, name: ManifestName, nbytes: int) -> None:
        """A manifest is on the shelf, as the one used last, instead of a doubtful copy if there was one.
        It has room."""
        if nbytes < 0 or (name in self._charges and name not in self._doubted):
            raise ContractViolation(f"{name} of {nbytes} bytes is on the shelf, or cannot be")
        self.gone(name)
        self._charges[name] = nbytes

    def loaded(self, name: ManifestName) -> None:
        """The copy of a manifest is whole."""
        self._doubted.discard(name)

    def lost(self, name: ManifestName, loss: KeptLoss) -> bool:
        """The copy of a manifest is of no use; whether the driver is to remove it, if it need not wait for
        that. One that stays is replaced when the store has given another. Unknown ones are ignored."""
        if name not in self._charges:
            return False
        self._doubted.add(name)
        return loss.is_final

    def restored(self, found: Iterable[FoundManifest]) -> None:
        """What is on the shelf at start, in any order. It may be more than there is room for: ``surplus``."""
        for each in sorted(found, key=lambda each: (each.used_at, each.name)):
            self.kept(each.name, each.nbytes)

    def gone(self, name: ManifestName) -> None:
        """A manifest is no longer there. Unknown ones are ignored."""
        self._charges.pop(name, None)
        self._doubted.discard(name)

    def room_for(self, name: ManifestName, nbytes: int) -> tuple[ManifestName, ...] | None:
        """Which manifests must go before this one of ``nbytes`` is put there; None when it is not worth it.

        Nothing goes for one that is larger than the ceiling, or for which a current one would have to go
        that it is not itself. A copy that it replaces is beside it until it is written.
        """
        if nbytes > self.ceiling_bytes:
            return None
        victims = [*self._leaving(nbytes)]
        if not self._is_current(name) and any(map(self._is_current, victims)):
            return None
        return tuple(victims)

    def surplus(self) -> tuple[ManifestName, ...]:
        """Which manifests must go because of a ceiling that is lower than it was."""
        return tuple(self._leaving(0))

    def _leaving(self, need_bytes: int) -> Iterator[ManifestName]:
        over = self.charged_bytes + need_bytes - self.ceiling_bytes
        for name in sorted(self._charges, key=self._is_current):  # Stable, so in order of use.
            if over <= 0:
                return
            over -= self._charges[name]
            yield name

    def _is_current(self, name: ManifestName) -> bool:
        ns, version = name
        head = self.heads.version_of(ns)
        return version == self.pins.get(ns) or (head is not None and version >= head)
