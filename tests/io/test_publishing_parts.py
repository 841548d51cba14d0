"""Undoing a multipart upload: real requests that are late, refused or interrupted.

What is decided is tested in ``tests/core/test_parted_upload.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from attrs import define, evolve, field

from seekfs_core import parted_upload
from seekfs_core.creation import Conditions
from seekfs_core.errors import ShuttingDown, StoreAnswered
from seekfs_core.parted_upload import PartedEvent, PartedState, PartedUpload, UploadBegun
from seekfs_core.sending import MIB, PART_BYTES
from seekfs_core.transfer_layout import UploadLayout
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import Creation, PatientStore
from seekfs_io.publishing import parts
from seekfs_io.publishing.inputs import FileChanged, LocalFile
from seekfs_io.publishing.lanes import Lanes
from seekfs_io.publishing.parts import send_parts
from seekfs_io.publishing.progress import SILENT
from seekfs_io.publishing.uploading import digest_file
from tests.conftest import StoreFactory
from tests.io.test_publisher import configure
from tests.support.daemon import s3_settings
from tests.support.dataset import some_bytes
from tests.support.passthrough import Answer, Exchange, Match, PassThrough, Plan

KEY = "large"


@define
class Sender:
    """Sends one large file, in three parts, to a store; each time as a command of its own."""

    store: ObjectStore
    file: LocalFile
    settings: dict[str, object]
    key: str = KEY
    is_changed: bool = False
    """Whether the second pass finds other bytes than the first."""
    patient: PatientStore = field(init=False)

    def __call__(self) -> Creation:
        self.patient = PatientStore.of(self.store, configure(self.settings).s3)
        digest = digest_file(self.file, MIB, SILENT)
        with Lanes(self.patient, UploadLayout(part_bytes=MIB, buffers=3, lanes=2)) as lanes:
            return send_parts(
                self.patient,
                lanes,
                self.file,
                evolve(digest, sha256=bytes(32)) if self.is_changed else digest,
                self.key,
                SILENT,
                part_bytes=PART_BYTES if self.file.size > PART_BYTES else MIB,
                conditions=Conditions.KEPT,
            )

    def changed(self) -> None:
        """Send it, and find at the end that it has changed."""
        self.is_changed = True
        try:
            with contextlib.suppress(FileChanged):
                self()
        finally:
            self.is_changed = False


def local_file(path: Path, size: int) -> LocalFile:
    path.write_bytes(some_bytes(size))
    return LocalFile(str(path), "large", size)


@pytest.fixture
def through(passthrough: PassThrough, open_s3: StoreFactory, ns: str, tmp_path: Path) -> Sender:
    """To the real server, through the pass-through; parts of its own length."""
    store = open_s3(endpoint=passthrough.endpoint)
    settings = s3_settings(store.config)  # type: ignore[attr-defined]
    return Sender(store, local_file(tmp_path / "large", 2 * PART_BYTES + 5), settings, key=ns)


def is_part(number: int) -> Callable[[Exchange], bool]:
    return lambda exchange: exchange.query.get("partNumber") == str(number)


def refused(passthrough: PassThrough) -> None:
    """From now on: part 2 is refused, so that the upload is to be undone."""
    passthrough.when(is_part(2), Plan(answer=Answer.error(403, "AccessDenied")))


def is_forgotten(sender: Sender, upload: str) -> bool:
    """Whether the server itself knows nothing of the upload."""
    answer = sender.store._call("GET", sender.key, query={"uploadId": upload}, expect=(200, 404))  # type: ignore[attr-defined]
    return bool(answer.status == 404)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


# --- a store that is late, or says no -----------------------------------------------------------------


def test_an_abort_is_made_again_after_a_part_that_was_on_its_way(
    through: Sender,
    passthrough: PassThrough,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(parted_upload, "LANDING_SECONDS", 0.0)  # The moment that an abort waits.
    answer = threading.Event()
    passthrough.when(is_part(1), Plan(hold_head=answer))
    refused(passthrough)

    def let_it_go() -> None:
        passthrough.wait_until(lambda: any(each.status == 204 for each in passthrough.select("DELETE")))
        answer.set()

    other = threading.Thread(target=let_it_go)
    other.start()
    with pytest.raises(StoreAnswered, match="AccessDenied"):
        through()
    other.join()
    (part,) = filter(is_part(1), passthrough.exchanges)
    first, second = passthrough.select("DELETE")
    assert part.ended is not None
    assert first.started < part.ended <= second.started
    assert is_forgotten(through, second.query["uploadId"])
    assert warnings_in(caplog) == []


def test_an_abort_that_fails_in_passing_is_made_again(
    through: Sender, passthrough: PassThrough, caplog: pytest.LogCaptureFixture
) -> None:
    refused(passthrough)
    passthrough.when(Match(method="DELETE"), Plan(answer=Answer.error(503, "SlowDown")), times=2)
    with pytest.raises(StoreAnswered, match="AccessDenied"):
        through()
    aborts = passthrough.select("DELETE")
    assert [each.status for each in aborts] == [503, 503, 204]
    assert is_forgotten(through, aborts[0].query["uploadId"])
    assert warnings_in(caplog) == []


@pytest.mark.parametrize(("status", "code", "aborts"), [(503, "SlowDown", 4), (403, "AccessDenied", 1)])
def test_an_abort_that_fails_for_good_is_told_of_and_so_is_what_led_to_it(
    through: Sender,
    passthrough: PassThrough,
    caplog: pytest.LogCaptureFixture,
    status: int,
    code: str,
    aborts: int,
) -> None:
    through.settings["s3.retry_max_attempts"] = 4
    refused(passthrough)
    passthrough.when(Match(method="DELETE"), Plan(answer=Answer.error(status, code)))
    with pytest.raises(StoreAnswered, match="PUT was answered 403 AccessDenied"):
        through()
    made = passthrough.select("DELETE")
    assert len(made) == aborts
    upload = made[0].query["uploadId"]
    (warning,) = warnings_in(caplog)
    assert warning == (
        f"parts may be left in the bucket, of the upload {upload} to {through.key}: it could not be aborted "
        f"(DELETE was answered {status} {code}: scripted)"
    )
    assert not is_forgotten(through, upload)


def test_nothing_is_sent_again_that_was_called_off(through: Sender, passthrough: PassThrough) -> None:
    """Part 1 would be tried again, in a while."""
    through.settings |= {"s3.retry_initial_backoff_ms": 60_000, "s3.retry_max_attempts": 9}
    answer = threading.Event()
    passthrough.when(is_part(1), Plan(answer=Answer.error(503, "SlowDown")))
    passthrough.when(is_part(2), Plan(hold_request=answer, answer=Answer.error(403, "AccessDenied")))

    def let_it_go() -> None:
        passthrough.wait_until(
            lambda: any(is_part(1)(each) and each.outcome for each in passthrough.exchanges)
        )
        answer.set()

    other = threading.Thread(target=let_it_go)
    other.start()
    with pytest.raises(StoreAnswered, match="AccessDenied"):
        through()
    other.join()
    assert len(list(filter(is_part(1), passthrough.exchanges))) == 1
    assert [each.status for each in passthrough.select("DELETE")] == [204]
    with pytest.raises(ShuttingDown):
        through.patient.pause(0)


# --- interruptions ------------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Sender]:
    """To a directory."""
    settings: dict[str, object] = {"s3.engine": "file", "s3.endpoint": str(tmp_path / "store")}
    store = open_store(configure(settings).s3)
    store.create_bucket()
    yield Sender(store, local_file(tmp_path / "large", 2 * MIB + 5), settings)
    store.close()


def leftovers(local: Sender) -> list[str]:
    """Uploads that the directory still holds parts of."""
    incoming = Path(local.store.root) / ".seekfs" / "incoming"  # type: ignore[attr-defined]
    return sorted(each.name for each in incoming.iterdir()) if incoming.exists() else []


def is_interrupted_at(call: Callable[[], object], line: int) -> bool:
    """Make a call, with Ctrl-C before line number ``line`` that the machine and its driver run in this
    thread, counted from 1; whether they came to it."""
    files = {parted_upload.__file__, parts.__file__}
    lines = itertools.count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line" and next(lines) == line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


# Between the end of ``with`` and its ``__exit__`` the file is left for Python to close.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_interruption_between_any_two_lines_leaves_no_parts(
    local: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of an upload that is being undone already: its abort is not lost."""
    for line in itertools.count(1):
        if not is_interrupted_at(local.changed, line):
            break
        assert leftovers(local) == [], line
    made = []
    for line in itertools.count(1):
        local.key = f"before-line-{line}"
        came = is_interrupted_at(local, line)
        assert leftovers(local) == [], line
        if not came:
            break
        made.append(any(each.key == local.key for each in local.store.list_page(local.key).objects))
    # Nothing, up to the request that joins the parts; and from there on an object.
    assert made == sorted(made)
    assert set(made) == {False, True}
    assert warnings_in(caplog) == []


def test_a_machine_that_is_interrupted_in_the_middle_is_as_it_was(
    local: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what comes of the interruption is what the table says of one state or the next."""
    seen: list[tuple[PartedUpload, PartedState]] = []
    feed = PartedUpload.feed

    def interrupted(machine: PartedUpload, event: PartedEvent, now: float) -> tuple[Any, ...]:
        actions = feed(machine, event, now)
        seen.append((machine, machine.state))
        if isinstance(event, UploadBegun):
            raise KeyboardInterrupt
        return actions

    monkeypatch.setattr(PartedUpload, "feed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        local()
    states = [state for _, state in seen]
    assert states[:3] == [PartedState.OPENING, PartedState.TAKING, PartedState.CALLING_OFF]
    # The machine that had begun to take parts was thrown away.
    assert seen[2][0]._taken == 0
    assert leftovers(local) == []


def test_an_interruption_while_the_upload_is_begun_waits_for_its_id(
    through: Sender, passthrough: PassThrough, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has begun it, and its answer is still to come."""
    answer = threading.Event()
    passthrough.when(Match(method="POST"), Plan(hold_head=answer))
    feed = PartedUpload.feed

    def let_it_go(machine: PartedUpload, event: PartedEvent, now: float) -> tuple[Any, ...]:
        actions = feed(machine, event, now)
        if actions == (parted_upload.AwaitLanding(),):
            answer.set()
        return actions

    monkeypatch.setattr(PartedUpload, "feed", let_it_go)
    submit = Lanes.submit

    def interrupted(lanes: Lanes, job: Callable[[], object]) -> Any:
        submit(lanes, job)
        passthrough.wait_until(lambda: bool(passthrough.select("POST")))
        raise KeyboardInterrupt

    monkeypatch.setattr(Lanes, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        through()
    (abort,) = passthrough.select("DELETE")
    assert abort.status == 204
    assert is_forgotten(through, abort.query["uploadId"])
