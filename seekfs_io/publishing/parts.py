"""The driver of ``seekfs_core.parted_upload``: a large file, sent in parts by several lanes."""

from __future__ import annotations

import contextlib
import hashlib
from concurrent.futures import Future, wait

from seekfs_core.creation import Conditions
from seekfs_core.errors import SeekfsError
from seekfs_core.parted_upload import (
    Abort,
    Aborted,
    AwaitParts,
    Begin,
    BeginUpload,
    Finish,
    Join,
    Joined,
    PartedEvent,
    PartedUpload,
    PartsSent,
    PartTaken,
    RaiseChanged,
    RaiseFailure,
    StepFailed,
    Sum,
    Summed,
    TakePart,
    UploadBegun,
)
from seekfs_core.sending import part_size_bytes
from seekfs_io.objects.base import StoreError
from seekfs_io.objects.patient import Creation, PatientStore
from seekfs_io.publishing.digests import Digest
from seekfs_io.publishing.inputs import FileChanged, LocalFile, Opened
from seekfs_io.publishing.lanes import Lanes
from seekfs_io.publishing.progress import Progress

ABORT_WAIT_SECONDS = 5.0
"""How long an abort waits for parts under way: one that arrives after it would stay in the bucket."""


def send_parts(
    patient: PatientStore,
    lanes: Lanes,
    file: LocalFile,
    digest: Digest,
    key: str,
    progress: Progress,
    *,
    part_bytes: int,
    conditions: Conditions,
) -> Creation:
    """Send a large file to ``key`` in parts of at least ``part_bytes``, where there is nothing yet.

    ``digest`` is that of the first pass. Raises ``FileChanged`` where the second one differs.
    """
    machine = PartedUpload(
        size=digest.size,
        part_bytes=part_size_bytes(digest.size, part_bytes),
        sha256=digest.sha256,
    )
    event: PartedEvent = Begin()
    failure: BaseException | None = None
    with Opened(file) as opened:
        sending = _Sending(patient, lanes, opened, key, conditions, progress)
        while True:
            (action,) = machine.feed(event, patient.clock())
            match action:
                case Finish():
                    assert sending.creation is not None
                    return sending.creation
                case RaiseChanged():
                    raise FileChanged.while_read(file)
                case RaiseFailure():
                    assert failure is not None
                    raise failure
            try:
                event = sending.carry_out(action)
            except BaseException as error:
                failure, event = error, StepFailed()


class _Sending:
    """One upload, and its parts on their way."""

    def __init__(
        self,
        patient: PatientStore,
        lanes: Lanes,
        opened: Opened,
        key: str,
        conditions: Conditions,
        progress: Progress,
    ) -> None:
        self._patient = patient
        self._lanes = lanes
        self._opened = opened
        self._key = key
        self._conditions = conditions
        self._progress = progress
        self._sha256 = hashlib.sha256()
        self._upload = ""
        self._parts: list[Future[str]] = []
        self.creation: Creation | None = None

    def carry_out(self, action: BeginUpload | TakePart | Sum | AwaitParts | Join | Abort) -> PartedEvent:
        """Do as the machine says; raises whatever is the matter."""
        match action:
            case BeginUpload():
                self._upload = self._patient.create_upload(self._key)
                return UploadBegun()
            case TakePart(number, length):
                part = self._lanes.pass_on(lambda: self._read(length), lambda part: self._send(number, part))
                self._parts.append(part)
                return PartTaken()
            case Sum():
                return Summed(self._sha256.digest())
            case AwaitParts():
                return PartsSent(tuple(each.result() for each in self._parts))
            case Join(etags):
                self.creation = self._patient.complete_upload(
                    self._key, self._upload, etags, size=self._opened.size, conditions=self._conditions
                )
                return Joined(self.creation.created)
            case Abort():
                self._abort()
                return Aborted()

    def _read(self, length: int) -> memoryview:
        part = memoryview(bytearray(length))
        self._opened.read_into(part)
        self._opened.check()
        self._sha256.update(part)
        return part

    def _send(self, number: int, part: memoryview) -> str:
        etag = self._patient.upload_part(self._key, self._upload, number, part)
        self._progress.advance(len(part))
        return etag

    def _abort(self) -> None:
        for each in self._parts:
            each.cancel()
        wait(self._parts, timeout=ABORT_WAIT_SECONDS)
        with contextlib.suppress(StoreError, SeekfsError):
            self._patient.abort_upload(self._key, self._upload)
