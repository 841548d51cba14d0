"""The driver of ``seekfs_core.parted_upload``: a large file, sent in parts by several lanes.

Everything that leaves something in the bucket is a request of a lane, and counted there: an interruption,
which only ever meets the thread that drives, loses none of them, be it between any two lines.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from seekfs_core.creation import Conditions
from seekfs_core.errors import StoreFailure
from seekfs_core.machine import Tick
from seekfs_core.parted_upload import (
    Abort,
    Aborted,
    AbortFailed,
    AwaitLanding,
    AwaitParts,
    Begin,
    BeginUpload,
    CalledOff,
    CallOff,
    Finish,
    Interrupted,
    Join,
    Joined,
    Landed,
    PartedAction,
    PartedEnding,
    PartedEvent,
    PartedStep,
    PartedUpload,
    PartsSent,
    PartTaken,
    RaiseChanged,
    RaiseFailure,
    StepFailed,
    Sum,
    Summed,
    TakePart,
    TellLeft,
    Told,
    UploadBegun,
)
from seekfs_core.sending import part_size_bytes
from seekfs_io.objects.base import StoreError
from seekfs_io.objects.patient import Creation, PatientStore
from seekfs_io.publishing.digests import Digest
from seekfs_io.publishing.inputs import FileChanged, LocalFile, Opened
from seekfs_io.publishing.lanes import Lanes, await_all
from seekfs_io.publishing.progress import Progress

_log = logging.getLogger("seekfs.publishing")


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

    ``digest`` is that of the first pass. Raises ``FileChanged`` where the second one differs. Where it
    raises, the upload has been aborted, or a warning says that it could not be; and ``patient`` is stopped.
    """
    machine = PartedUpload(
        size=digest.size,
        part_bytes=part_size_bytes(digest.size, part_bytes),
        sha256=digest.sha256,
        policy=patient.policy,
        rng=patient.rng,
    )
    with Opened(file) as opened:
        return _Sending(machine, patient, lanes, opened, key, conditions, progress).run()


class _UnderWay:
    """The requests that have been begun and have not ended. Without a lock: an interruption of the thread
    that holds one may leave it locked."""

    def __init__(self) -> None:
        self._begun: list[None] = []
        self._ended: list[None] = []
        self._endings: SimpleQueue[None] = SimpleQueue()

    def __bool__(self) -> bool:
        return len(self._ended) < len(self._begun)

    def run(self, request: Callable[[], None]) -> None:
        """Make a request, on a thread that no interruption meets."""
        self._begun.append(None)
        try:
            request()
        finally:
            self._ended.append(None)
            self._endings.put(None)

    def wait(self, seconds: float | None) -> None:
        """Wait until one ends, at most so long; may be of one that has ended before."""
        with contextlib.suppress(Empty):
            self._endings.get(timeout=seconds)


class _Sending:
    """One upload, and its parts on their way."""

    def __init__(
        self,
        machine: PartedUpload,
        patient: PatientStore,
        lanes: Lanes,
        opened: Opened,
        key: str,
        conditions: Conditions,
        progress: Progress,
    ) -> None:
        self._machine = machine
        self._patient = patient
        self._lanes = lanes
        self._opened = opened
        self._key = key
        self._conditions = conditions
        self._progress = progress
        self._sha256 = hashlib.sha256()
        self._under_way = _UnderWay()
        self._upload: str | None = None
        self._etags: dict[int, str] = {}
        self._parts: list[Future[None]] = []
        self._creation: Creation | None = None
        self._failure: BaseException | None = None

    def run(self) -> Creation:
        """Feed the machine and carry out what follows. An interruption is the machine's to judge, and is
        raised when it says that it is over."""
        interruption: KeyboardInterrupt | None = None
        step: PartedEvent | PartedEnding = Begin()
        while True:
            try:
                while not isinstance(step, PartedEnding):
                    step = self._step(step)
                break
            except KeyboardInterrupt as caught:
                interruption, step = caught, Interrupted()
        match step:
            case Finish():
                assert self._creation is not None
                return self._creation
            case RaiseChanged():
                raise FileChanged.while_read(self._opened.file)
            case RaiseFailure():
                if interruption is not None:
                    raise interruption from self._failure
                assert self._failure is not None
                raise self._failure

    def _step(self, event: PartedEvent) -> PartedEvent | PartedEnding:
        """What comes of ``event``: the next one, or the end."""
        actions = self._feed(event)
        if not actions:
            return self._sleep()
        (action,) = actions
        if isinstance(action, PartedEnding):
            return action
        try:
            return self._carry_out(action)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failure = error
            return StepFailed()

    def _feed(self, event: PartedEvent) -> tuple[PartedAction, ...]:
        """Interrupted at any point of it, the machine is as before, or has taken the event and its
        action is lost."""
        machine = copy.copy(self._machine)
        actions = machine.feed(event, self._patient.clock())
        self._machine = machine
        return actions

    def _carry_out(self, action: PartedStep) -> PartedEvent:
        """Do as the machine says; raises whatever is the matter."""
        match action:
            case BeginUpload():
                self._lanes.submit(lambda: self._under_way.run(self._begin)).result()
                assert self._upload is not None
                return UploadBegun(self._upload)
            case TakePart(number, length):
                part = self._lanes.pass_on(
                    lambda: self._read(length),
                    lambda part: self._under_way.run(lambda: self._send(number, part)),
                )
                self._parts.append(part)
                return PartTaken()
            case Sum():
                return Summed(self._sha256.digest())
            case AwaitParts():
                await_all(self._parts)
                return PartsSent(tuple(etag for _, etag in sorted(self._etags.items())))
            case Join(etags):
                return self._join(etags)
            case CallOff():
                # Whoever counts as begun from now on asks whether it is stopped, and sends nothing.
                self._patient.stop()
                under_way = bool(self._under_way)
                return CalledOff(self._upload, under_way)
            case AwaitLanding():
                if self._under_way:
                    due = self._machine.next_deadline()
                    self._under_way.wait(None if due is None else self._seconds_until(due))
                return Tick() if self._under_way else Landed(self._upload)
            case Abort(upload):
                return self._abort(upload)
            case TellLeft(upload, failure):
                _tell_left(self._key, upload, failure)
                return Told()

    def _begin(self) -> None:
        self._upload = self._patient.create_upload(self._key)

    def _read(self, length: int) -> memoryview:
        part = memoryview(bytearray(length))
        self._opened.read_into(part)
        self._opened.check()
        self._sha256.update(part)
        return part

    def _send(self, number: int, part: memoryview) -> None:
        assert self._upload is not None
        self._etags[number] = self._patient.upload_part(self._key, self._upload, number, part)
        self._progress.advance(len(part))

    def _join(self, etags: tuple[str, ...]) -> PartedEvent:
        assert self._upload is not None
        self._creation = self._patient.complete_upload(
            self._key, self._upload, etags, size=self._opened.size, conditions=self._conditions
        )
        return Joined(self._creation.created)

    def _abort(self, upload: str) -> PartedEvent:
        try:
            self._patient.abort_upload(self._key, upload)
        except StoreError as error:
            return AbortFailed(error.failure)
        return Aborted()

    def _sleep(self) -> Tick:
        """Until the deadline; also when stopped, since it is for undoing."""
        due = self._machine.next_deadline()
        assert due is not None
        time.sleep(self._seconds_until(due))
        return Tick()

    def _seconds_until(self, due: float) -> float:
        return max(0.0, due - self._patient.clock())


def _tell_left(key: str, upload: str, failure: StoreFailure | None) -> None:
    why = "the abort was broken off" if failure is None else failure.detail
    _log.warning(
        "parts may be left in the bucket, of the upload %s to %s: it could not be aborted (%s)",
        upload,
        key,
        why,
    )
