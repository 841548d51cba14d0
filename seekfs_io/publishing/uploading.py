"""The driver of ``seekfs_core.uploads``: local files into the bucket, several at a time, within a bound
of memory (``seekfs_core.transfer_layout``).

A file that is no longer than a part is read once into memory, hashed there and sent by one PUT. A
larger one is read twice: the key of content is its hash, so the hash must be known before the first
byte is sent, and the whole does not fit into memory. (A single pass would have to upload to a
temporary key and copy.) The first pass takes SHA-256 and page CRCs, the second sends the parts.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable

from seekfs_core.creation import Conditions
from seekfs_core.sending import MIB
from seekfs_core.transfer_layout import UploadLayout
from seekfs_core.uploads import (
    Compare,
    Compared,
    FileDigested,
    Finish,
    Keep,
    Look,
    Looked,
    Prove,
    Proven,
    Refuse,
    SendParts,
    SendWhole,
    Sent,
    Share,
    There,
    UploadAction,
    UploadEvent,
    Uploads,
)
from seekfs_io.objects.patient import Creation, PatientStore
from seekfs_io.publishing.digests import Digest, Digester, digest_of
from seekfs_io.publishing.inputs import LocalFile, Opened
from seekfs_io.publishing.lanes import Lanes
from seekfs_io.publishing.parts import send_parts
from seekfs_io.publishing.progress import Progress


class Uploader:
    """Brings files to where ``uploads`` says. ``prove`` and ``compare`` (a key's object to a file) are
    what it may ask for beyond the store."""

    def __init__(
        self,
        uploads: Uploads,
        *,
        layout: UploadLayout,
        patient: PatientStore,
        lanes: Lanes,
        page_size_bytes: int,
        progress: Progress,
        prove: Callable[[], object] | None = None,
        compare: Callable[[str, Digest], bool] | None = None,
    ) -> None:
        self._uploads = uploads
        self._layout = layout
        self._patient = patient
        self._lanes = lanes
        self._page_size_bytes = page_size_bytes
        self._progress = progress
        self._prove = prove
        self._compare = compare
        self._lock = threading.Lock()
        self.digests: dict[str, Digest] = {}
        """Of the files that were read, by path."""

    def add_all(self, files: Iterable[LocalFile]) -> None:
        """Bring files there; small ones by the lanes, which may be at it still when this returns."""
        for file in files:
            if self._layout.is_beside_others(file.size):
                self._lanes.submit(functools.partial(self._add_small, file))
            else:
                self._add_large(file)

    def _add_small(self, file: LocalFile) -> None:
        self._progress.describe(file.path)
        content, digest = read_whole(file, self._page_size_bytes)
        self._bring(file, digest, content)
        self._progress.advance(file.size)

    def _add_large(self, file: LocalFile) -> None:
        self._progress.describe(file.path)
        self._bring(file, digest_file(file, self._page_size_bytes, self._progress), None)

    def _bring(self, file: LocalFile, digest: Digest, content: memoryview | None) -> None:
        """All that has to be done about one file; ``content`` of a small one."""
        self.digests[file.path] = digest
        event: UploadEvent = FileDigested(path=file.path, size=digest.size, sha256=digest.sha256)
        while True:
            action = self._next(event)
            match action:
                case Keep() | Share() | Finish():
                    return
                case Refuse(_, error):
                    raise error
                case Prove(path):
                    assert self._prove is not None
                    self._prove()
                    event = Proven(path)
                case Look(path, key):
                    stat = self._patient.stat(key)
                    event = Looked(path, None if stat is None else There(size=stat.size, etag=stat.etag))
                case SendWhole(path, key, conditions):
                    assert content is not None
                    event = _sent(path, self._patient.create(key, content, conditions=conditions))
                case SendParts(path, key, conditions):
                    event = _sent(path, self._send_parts(file, digest, key, conditions))
                case Compare(path, key):
                    assert self._compare is not None
                    event = Compared(path, self._compare(key, digest))

    def _next(self, event: UploadEvent) -> UploadAction:
        with self._lock:  # The clock is read inside it, so that the machine sees no time go back.
            (action,) = self._uploads.feed(event, self._patient.clock())
        return action

    def _send_parts(self, file: LocalFile, digest: Digest, key: str, conditions: Conditions) -> Creation:
        self._progress.expect(digest.size)  # It is read a second time.
        return send_parts(
            self._patient,
            self._lanes,
            file,
            digest,
            key,
            self._progress,
            part_bytes=self._layout.part_bytes,
            conditions=conditions,
        )


def _sent(path: str, creation: Creation) -> Sent:
    there = There(size=creation.size, etag=creation.etag)
    return Sent(path, creation.created, there, creation.conditions)


def read_whole(file: LocalFile, page_size_bytes: int) -> tuple[memoryview, Digest]:
    """The bytes of a small file, read once, and their digest. Raises ``InputError``."""
    with Opened(file) as opened:
        content = memoryview(bytearray(opened.size))
        opened.read_into(content)
        opened.check()
    return content, digest_of(content, page_size_bytes)


def digest_file(file: LocalFile, page_size_bytes: int, progress: Progress) -> Digest:
    """The digest of a large file, read in pieces. Raises ``InputError``."""
    digester = Digester(page_size_bytes)
    buffer = memoryview(bytearray(MIB))
    with Opened(file) as opened:
        left = opened.size
        while left:
            piece = buffer[: min(left, len(buffer))]
            opened.read_into(piece)
            digester.update(piece)
            left -= len(piece)
            progress.advance(len(piece))
        opened.check()
    return digester.digest()
