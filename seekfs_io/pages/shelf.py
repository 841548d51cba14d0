"""Manifests and the last known HEAD of each namespace, kept so that seen versions can be served
while the store is away, also after a restart.

A shelf is a directory of small files, each one written whole (a new file, then a rename) and
checking itself when it is read::

    {namespace}@{version}.manifest    a manifest's bytes as they are stored in the bucket
    heads                             {"namespace": version} of the namespaces used last, as JSON
    bucket                            which bucket all of it is from

Each file is an envelope, little-endian: magic ``seekfsmf`` (8), layout version (2), length of
the name (2), CRC-32C of the body (4), manifest version (8), length of the body (8), the name,
CRC-32C of all that (4), and the body. A damaged file is a miss, and is removed.

A shelf that is opened for another bucket than it was filled from starts empty
(``seekfs_core.restoring.doubt_of_shelf``). One that cannot be emptied, or told whose it is now, keeps nothing
on the disk: the next process would take it for the other bucket's.

Which manifests go when the ceiling is met is ``seekfs_core.shelf``'s to say. Nothing here ever raises
for the disk's sake. Keeping is serialised, across the disk write: two writers that each make room
for themselves would together pass the ceiling. Loading waits for nobody, and for a disk that hangs no longer
than it may take to answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from crc32c import crc32c

from seekfs_core.cache_directory import TEMPORARY_SUFFIX
from seekfs_core.disk_watch import LOADERS, STEP_BYTES
from seekfs_core.heads import KnownHeads, decode_heads, encode_heads
from seekfs_core.patience import DISK_SECONDS_MAX
from seekfs_core.restoring import doubt_of_shelf
from seekfs_core.shelf import (
    BUCKET_FILE,
    HEADS_BYTES_MAX,
    HEADS_FILE,
    FoundManifest,
    KeptLoss,
    ManifestName,
    ShelfRetention,
    file_charge,
    is_shelf_file,
    loss_in_loading,
    manifest_file,
    manifest_in,
    shelf_layout,
)
from seekfs_core.tier import Operation, Outcome
from seekfs_io.pages.directory import CacheDirectory, write_file
from seekfs_io.pages.disk_calls import DiskCalls, DiskHangs, Moves
from seekfs_io.pages.tier_switch import DiskHealth, outcome_of, reason_of
from seekfs_io.tracing import NO_TRACE, NoTrace

log = logging.getLogger("seekfs.cache")

ENVELOPE_VERSION = 1

_MAGIC = b"seekfsmf"
_ENVELOPE = struct.Struct("<8sHHIQQ")
_CRC = struct.Struct("<I")


def encode_envelope(name: str, version: int, body: bytes) -> bytes:
    """A shelf file: ``body`` under the name and version that it is kept for."""
    named = name.encode("ascii")
    front = _ENVELOPE.pack(_MAGIC, ENVELOPE_VERSION, len(named), crc32c(body), version, len(body)) + named
    return front + _CRC.pack(crc32c(front)) + body


def decode_envelope(stored: bytes, name: str, version: int) -> bytes | None:
    """The body, or None unless ``stored`` is whole and of this name and version."""
    if len(stored) < _ENVELOPE.size:
        return None
    magic, layout, name_length, body_crc, found_version, body_length = _ENVELOPE.unpack_from(stored)
    front_length = _ENVELOPE.size + name_length
    body_start = front_length + _CRC.size
    if (magic, layout, found_version) != (_MAGIC, ENVELOPE_VERSION, version):
        return None
    if len(stored) != body_start + body_length or stored[_ENVELOPE.size : front_length] != name.encode(
        "ascii"
    ):
        return None
    body = stored[body_start:]
    (front_crc,) = _CRC.unpack_from(stored, front_length)
    if front_crc != crc32c(stored[:front_length]) or body_crc != crc32c(body):
        return None
    return body


class Shelf(Protocol):
    """Manifests by namespace and version, and known HEADs. Calls may come from many threads."""

    def keep(self, ns: str, version: int, stored_bytes: bytes) -> None:
        """Keep a manifest's bytes, as stored in the bucket, if there is room."""
        ...

    def load(self, ns: str, version: int) -> bytes | None:
        """The bytes that were kept, whole, or None."""
        ...

    def refuse(self, ns: str, version: int) -> None:
        """What was loaded is no manifest: the next copy that is to be kept replaces it."""
        ...

    def keep_head(self, ns: str, version: int) -> None:
        """Remember the newest version that HEAD of a namespace was seen to name."""
        ...

    def heads(self) -> dict[str, int]:
        """The versions remembered, by namespace."""
        ...

    def close(self) -> None: ...


class ManifestShelf:
    """The shelf on disk, under ``ceiling_bytes`` with everything it writes."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        ceiling_bytes: int,
        *,
        bucket: bytes = b"",
        pins: Mapping[str, int] | None = None,
        claimed: CacheDirectory | None = None,
        answer_seconds_max: float = DISK_SECONDS_MAX,
        tracer: NoTrace = NO_TRACE,
    ) -> None:
        """Open a shelf and drop what is over the ceiling, or from another bucket.

        ``bucket`` is its identity (``seekfs_core.heads``); ``pins`` are the versions that this node serves
        of pinned namespaces. ``claimed`` is released by ``close``. The disk may take ``answer_seconds_max``
        to answer.
        """
        self._path = Path(directory)
        self._claimed = claimed
        self._health = DiskHealth(self._path, time.monotonic, tracer)
        self._calls = DiskCalls(
            "seekfs-load", LOADERS, self._health, answer_seconds_max, time.monotonic, tracer
        )
        shares = shelf_layout(ceiling_bytes)
        self._heads_length_max = shares.heads_length_max
        self._lock = threading.Lock()
        self._keeping = threading.Lock()
        self._is_ours = False
        self._heads = KnownHeads()
        self._retention = ShelfRetention(shares.manifests_bytes, self._heads, dict(pins or {}))
        with self._disk("opened"):
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._belong_to(bucket)
            self._is_ours = True
            self._take_stock()
        with self._disk("trimmed"):
            self._remove(self._retention.surplus())

    def keep(self, ns: str, version: int, stored_bytes: bytes) -> None:
        name = (ns, version)
        if not self._is_ours:
            return
        with self._keeping, self._disk("written"):
            envelope = encode_envelope(ns, version, stored_bytes)
            charge = file_charge(len(envelope))
            with self._lock:
                if not self._retention.wants(name):
                    return
                victims = self._retention.room_for(name, charge)
            if victims is None:
                log.info("the manifest of %s v-%d has no place on the shelf", ns, version)
                return
            self._remove(victims)
            write_file(self._file(name), envelope)
            with self._lock:
                self._retention.kept(name, charge)

    def load(self, ns: str, version: int) -> bytes | None:
        name = (ns, version)
        with self._lock:
            if not self._retention.used(name):
                return None
        is_let_through, _ = self._health.reading.ask()
        if not is_let_through:
            return None
        try:
            read = self._calls.wait_for(Operation.READ, lambda moves: self._read(name, moves))
        except DiskHangs as hangs:
            log.warning("%s %s: %s", self._file(name), KeptLoss.UNREADABLE.value, reason_of(hangs))
            read = hangs.outcome
        except BaseException:
            self._health.reading.abandoned()
            raise
        if isinstance(read, bytes):
            with self._lock:
                self._retention.loaded(name)
            return read
        loss = loss_in_loading(read)
        if loss is not None:
            with self._lock:
                is_removed = self._retention.lost(name, loss)
            # Without waiting for a disk that hangs in a write.
            if is_removed and self._keeping.acquire(blocking=False):
                try:
                    with self._disk("removed"):
                        # Another reader may have been first, and another copy be there by now.
                        if not isinstance(self._read(name), bytes):
                            self._remove((name,))
                finally:
                    self._keeping.release()
        return None

    def refuse(self, ns: str, version: int) -> None:
        with self._lock:
            self._retention.lost((ns, version), KeptLoss.REFUSED)

    def keep_head(self, ns: str, version: int) -> None:
        with self._lock:
            self._heads.learn(ns, version)
        if not self._is_ours:
            return
        with self._keeping, self._disk("written"):
            with self._lock:
                versions = self._heads.to_write(self._heads_length_max)
            if versions is None:
                return
            try:
                write_file(self._path / HEADS_FILE, encode_envelope(HEADS_FILE, 0, encode_heads(versions)))
            except OSError:
                with self._lock:
                    self._heads.refused()
                raise

    def heads(self) -> dict[str, int]:
        with self._lock:
            return self._heads.versions()

    def close(self) -> None:
        """Let go of the directory; everything is written already."""
        self._calls.close()
        claimed, self._claimed = self._claimed, None
        if claimed is not None:
            claimed.release("shelf")

    def _file(self, name: ManifestName) -> Path:
        return self._path / manifest_file(name)

    @contextlib.contextmanager
    def _disk(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("the shelf of manifests in %s could not be %s: %s", self._path, what, error)

    def _belong_to(self, bucket: bytes) -> None:
        """Empty the shelf unless it was filled from this bucket. The name is written last, so that one who
        is interrupted in between begins again."""
        path = self._path / BUCKET_FILE
        filled_from = None
        with contextlib.suppress(FileNotFoundError):
            filled_from = decode_envelope(path.read_bytes(), BUCKET_FILE, 0)
        doubt = doubt_of_shelf(filled_from, bucket)
        if doubt is None:
            return
        found = [entry for entry in self._path.iterdir() if is_shelf_file(entry.name)]
        for entry in found:
            if entry != path:
                entry.unlink()
        if found:
            log.warning("the shelf of manifests in %s starts empty: %s", self._path, doubt.value)
        write_file(path, encode_envelope(BUCKET_FILE, 0, bucket))

    def _take_stock(self) -> None:
        found = []
        for entry in self._path.iterdir():
            name = manifest_in(entry.name)
            if name is not None:
                stat = entry.lstat()
                found.append(
                    FoundManifest(name=name, used_at=stat.st_mtime_ns, nbytes=file_charge(stat.st_size))
                )
            elif entry.name.endswith(TEMPORARY_SUFFIX) and is_shelf_file(entry.stem):
                entry.unlink()
        self._retention.restored(found)
        with contextlib.suppress(FileNotFoundError):
            body = decode_envelope((self._path / HEADS_FILE).read_bytes(), HEADS_FILE, 0)
            versions = None if body is None else decode_heads(body)
            if versions is None:
                log.warning("%s is damaged; ignored", self._path / HEADS_FILE)
            else:
                self._heads.restore(versions)

    def _read(self, name: ManifestName, moves: Moves = lambda: None) -> bytes | Outcome:
        """What is kept of a manifest, or what came of reading it, which is logged."""
        path = self._file(name)
        try:
            body = decode_envelope(_read_in_steps(path, moves), *name)
        except DiskHangs:
            raise
        except OSError as error:
            outcome, why = outcome_of(error), f": {reason_of(error)}"
        else:
            if body is not None:
                self._health.went(Operation.READ, Outcome.DONE)
                with contextlib.suppress(OSError):
                    os.utime(path)  # The order of use, for the next process.
                return body
            outcome, why = Outcome.DAMAGED, ""
        self._health.went(Operation.READ, outcome, why.removeprefix(": "))
        loss = loss_in_loading(outcome) or KeptLoss.UNREADABLE
        log.warning("%s %s%s", path, loss.value, why)
        return outcome

    def _remove(self, names: Iterable[ManifestName]) -> None:
        """Charged until the file is gone."""
        for name in names:
            self._file(name).unlink(missing_ok=True)
            with self._lock:
                self._retention.gone(name)


def _read_in_steps(path: Path, moves: Moves) -> bytes:
    """A file's bytes; ``moves`` is called between its steps. ``OSError``."""
    pieces = []
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(STEP_BYTES):
            pieces.append(piece)
            moves()
    return b"".join(pieces)


class MemoryShelf:
    """The shelf of the ``mem`` backend: the same, until the process ends."""

    def __init__(self, ceiling_bytes: int, *, pins: Mapping[str, int] | None = None) -> None:
        self._lock = threading.Lock()
        self._heads = KnownHeads()
        self._retention = ShelfRetention(ceiling_bytes, self._heads, dict(pins or {}))
        self._manifests: dict[ManifestName, bytes] = {}

    def keep(self, ns: str, version: int, stored_bytes: bytes) -> None:
        name = (ns, version)
        with self._lock:
            if not self._retention.wants(name):
                return
            victims = self._retention.room_for(name, len(stored_bytes))
            if victims is None:
                return
            for victim in victims:
                del self._manifests[victim]
                self._retention.gone(victim)
            self._manifests[name] = stored_bytes
            self._retention.kept(name, len(stored_bytes))

    def load(self, ns: str, version: int) -> bytes | None:
        with self._lock:
            return self._manifests[ns, version] if self._retention.used((ns, version)) else None

    def refuse(self, ns: str, version: int) -> None:
        with self._lock:
            self._retention.lost((ns, version), KeptLoss.REFUSED)

    def keep_head(self, ns: str, version: int) -> None:
        with self._lock:
            if self._heads.learn(ns, version):
                self._heads.trim(HEADS_BYTES_MAX)

    def heads(self) -> dict[str, int]:
        with self._lock:
            return self._heads.versions()

    def close(self) -> None:
        """Nothing to let go of."""
