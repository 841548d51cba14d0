"""What a person on call finds in the log: for each failure one line, with what, where, and how it went on.

Every test runs against a log as text and a log as JSON, which are read back the same (``log_lines``). At the
end of the module every line of both logs must have been one event, in UTC, with fields of a fixed set.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from attrs import define, field, frozen

from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.e2e.http_wire import Answer, exchange, get_whole_or_cut, raw_connection, read_framed_items
from tests.e2e.http_wire import Wire as Connection
from tests.e2e.serving import slow_reader
from tests.support.daemon import Daemon, s3_settings
from tests.support.dataset import MIB, File, manifest_of, some_bytes, write_dataset, write_manifest
from tests.support.hostile_store import FAULTS
from tests.support.log_lines import Event, events_of
from tests.support.passthrough import Answer as StoreAnswer
from tests.support.passthrough import Match, PassThrough, Plan
from tests.support.waiting import wait_until

PAGE: Final = 64 << 10
DATA: Final = some_bytes(4 * PAGE, 5)
BIG: Final = some_bytes(48 * MIB, 6)
TRIES: Final = 2

FORMS: Final = ("text", "json")


@define(eq=False)
class Watched:
    """A daemon whose log is read as it grows."""

    daemon: Daemon
    form: str
    _seen: int = field(default=0, init=False)

    @property
    def port(self) -> int:
        return self.daemon.port

    def pass_over(self) -> None:
        """What was logged until now is of no interest."""
        self._seen = len(self.daemon.log)

    def news(self) -> list[Event]:
        """What was logged since; the last line may be half written."""
        new = self.daemon.log[self._seen :]
        return list(events_of(new[: new.rfind("\n") + 1], self.form))

    def only_news(self) -> Event:
        """The one line that was logged since; it may come a moment after the answer."""
        wait_until(lambda: bool(self.news()), "something is logged")
        (event,) = self.news()
        return event


def settings_of(front: PassThrough, s3_config: S3ConfigFactory, form: str) -> dict[str, object]:
    return {
        **s3_settings(s3_config(endpoint=front.endpoint)),
        "s3.get_budget_per_sec": 5000,
        "s3.get_budget_burst": 500,
        "s3.retry_initial_backoff_ms": 1,
        "s3.retry_max_attempts": TRIES,
        "s3.read_timeout_sec": 0.5,
        "manifest.head_ttl_sec": 0,
        "api.send_timeout_sec": 1,
        "log.format": form,
    }


@pytest.fixture(scope="module", params=FORMS)
def watched_module(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    s3_config: S3ConfigFactory,
    front: PassThrough,
) -> Iterator[Watched]:
    began = datetime.now(UTC)
    settings = settings_of(front, s3_config, request.param)
    with Daemon(tmp_path_factory.mktemp("logs"), settings) as daemon:
        yield Watched(daemon, request.param)
        daemon.stop()
        events = list(events_of(daemon.log, request.param))
        assert len(events) > 10
        # Milliseconds are cut, and a second of doubt is left to clocks.
        assert all((event.time - began).total_seconds() > -1 for event in events)
        assert all((datetime.now(UTC) - event.time).total_seconds() > -1 for event in events)


@pytest.fixture
def ns(ns: str, module_store: ObjectStore) -> str:
    """A namespace with a file ``a``."""
    write_dataset(module_store, ns, {"a": File(DATA, PAGE)})
    return ns


@pytest.fixture
def watched(watched_module: Watched, ns: str) -> Watched:
    """The daemon, which has read the namespace's manifest, and nothing else of it."""
    assert get_whole_or_cut(watched_module.port, f"/blob?ns={ns}&path=a&len=0").status == 200
    watched_module.pass_over()
    return watched_module


def key_in(ns: str) -> str:
    return f"namespaces/{ns}/files/a"


# --- the store ----------------------------------------------------------------------------------


@frozen
class Told:
    """What a line tells of a fault: status and kind of the answer, what the store said, requests made."""

    status: int
    problem: str
    store_status: int | None = None
    store_code: str | None = None
    attempts: int = 1

    @property
    def fields(self) -> dict[str, str]:
        told = {
            "status": self.status,
            "problem": self.problem,
            "store_status": self.store_status,
            "store_code": self.store_code,
            "attempts": self.attempts,
        }
        return {name: str(value) for name, value in told.items() if value is not None}


UNAVAILABLE, WRONG, SILENT = "store-unavailable", "store-answered-wrongly", "store-timeout"

TOLD: Final = {
    "closed": Told(503, UNAVAILABLE, attempts=TRIES),
    "reset": Told(503, UNAVAILABLE, attempts=TRIES),
    "reset-in-head": Told(503, UNAVAILABLE, attempts=TRIES),
    "no-http": Told(503, UNAVAILABLE, attempts=TRIES),
    "silent": Told(504, SILENT, attempts=TRIES),
    "internal-error": Told(503, UNAVAILABLE, 500, "InternalError", TRIES),
    "bad-gateway": Told(503, UNAVAILABLE, 502, None, TRIES),
    "slow-down": Told(503, UNAVAILABLE, 503, "SlowDown", TRIES),
    "access-denied": Told(502, WRONG, 403, "AccessDenied"),
    "clock-skewed": Told(502, WRONG, 403, "RequestTimeTooSkewed"),
    "token-expired": Told(502, WRONG, 400, "ExpiredToken"),
    "no-such-key": Told(502, WRONG, 404, "NoSuchKey"),
    "no-such-bucket": Told(502, WRONG, 404, "NoSuchBucket"),
    "moved": Told(502, WRONG, 301, "PermanentRedirect"),
    "short-body": Told(502, WRONG, attempts=TRIES),
    "reset-in-body": Told(502, WRONG, attempts=TRIES),
    "another-range": Told(502, WRONG, 206, None, TRIES),
    "whole-for-a-range": Told(502, WRONG, 200, None, TRIES),
    "wrong-byte": Told(502, "page-corrupt", attempts=2),
}


def check_told(event: Event, answer: Answer, told: Told, ns: str) -> None:
    """The line is the problem document's, and has all that it has."""
    problem = json.loads(answer.body)
    assert answer.status == problem["status"] == told.status
    assert (event.level, event.logger) == ("WARNING", "seekfs.http")
    assert event.fields["request_id"] == problem["request_id"] == answer.headers["x-request-id"]
    expected = {**told.fields, "ns": ns, "path": "a", "version": "1", "page_id": "0", "key": key_in(ns)}
    assert {name: event.fields.get(name) for name in expected} == expected
    assert (told.store_status is not None) == ("store_status" in event.fields)
    assert (told.store_code is not None) == ("store_code" in event.fields)
    for name in ("expected", "found", "retry_after"):
        assert (name in event.fields) == (name in problem), name
    # The sentence alone says it, too.
    assert event.message.startswith(f"GET /blob?ns={ns}&path=a: {told.status} ")
    assert problem["detail"] in event.message
    for word in (f"'a' in version 1 of '{ns}'", f"(key '{key_in(ns)}')", told.store_code or ""):
        assert word in event.message
    if told.attempts > 1:
        assert f"after {told.attempts} requests" in event.message or ", twice," in event.message


@pytest.mark.parametrize("name", TOLD)
def test_a_fault_of_the_store_is_one_line_however_often_it_was_asked(
    name: str, watched: Watched, ns: str, front: PassThrough
) -> None:
    plan = FAULTS[name].plan(at=5)
    if name == "slow-down":  # Without waiting for a second.
        plan = Plan(answer=StoreAnswer.error(503, "SlowDown"))
    rule = front.when(Match(method="GET", key=key_in(ns)), plan)
    answer = get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a")
    front.lift(rule)
    check_told(watched.only_news(), answer, TOLD[name], ns)


def test_a_store_that_refuses_connections_is_one_line(watched: Watched, ns: str, front: PassThrough) -> None:
    """The version that was seen is served on, which is another one: nobody's request failed for it."""
    front.down()
    try:
        answer = get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a")
        wait_until(lambda: len(watched.news()) == 2, "both are logged")
    finally:
        front.up()
    served_on, failed = sorted(watched.news(), key=lambda event: event.logger, reverse=True)
    check_told(failed, answer, Told(503, UNAVAILABLE, attempts=TRIES), ns)
    assert (served_on.level, served_on.logger) == ("WARNING", "seekfs.resolve")
    assert f"version 1 of '{ns}' is served on, as HEAD cannot be read: " in served_on.message
    assert served_on.fields["key"] == f"namespaces/{ns}/HEAD"


def test_an_object_that_was_replaced_is_said_to_be(
    watched: Watched, ns: str, module_store: ObjectStore
) -> None:
    module_store.put(key_in(ns), DATA[: PAGE + 1])
    answer = get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a")
    event = watched.only_news()
    check_told(event, answer, Told(502, WRONG, 206, None, TRIES), ns)
    assert event.fields["overwritten"] == "True"
    assert "overwritten" in event.message


def test_an_answer_that_is_cut_off_is_one_line_with_all_of_it(
    watched: Watched, ns: str, front: PassThrough
) -> None:
    rule = front.when(
        Match(method="GET", key=key_in(ns), covers=2 * PAGE), Plan(cut_body_at=2 * PAGE), times=1
    )
    again = front.when(Match(method="GET", key=key_in(ns)), FAULTS["access-denied"].plan())
    answer = get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a")
    assert (answer.status, answer.is_whole) == (200, False)
    front.lift(again)
    assert rule.times_left == 0
    event = watched.only_news()
    assert (event.level, event.logger) == ("WARNING", "seekfs.http")
    assert event.message.startswith(
        f"GET /blob?ns={ns}&path=a: cut off after {2 * PAGE} bytes: 502 GET was answered"
    )
    told = {"request_id": answer.headers["x-request-id"], "page_id": "2", "attempts": "2", "status": "502"}
    told |= {"ns": ns, "path": "a", "version": "1", "key": key_in(ns), "store_code": "AccessDenied"}
    assert {name: event.fields.get(name) for name in told} == told


def test_readers_who_share_a_failure_have_a_line_each_and_no_more(
    watched: Watched, ns: str, front: PassThrough
) -> None:
    gate = threading.Event()
    denied = StoreAnswer.error(500, "InternalError")
    rule = front.when(Match(method="GET", key=key_in(ns)), Plan(hold_request=gate, answer=denied))
    with ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(get_whole_or_cut, watched.port, f"/blob?ns={ns}&path=a") for _ in range(12)]
        front.wait_until(lambda: bool(front.gets(key=key_in(ns))))
        gate.set()
        answers = [reader.result() for reader in readers]
    front.lift(rule)
    assert {answer.status for answer in answers} == {503}
    wait_until(lambda: len(watched.news()) >= 12, "all are logged")
    ids = [event.fields["request_id"] for event in watched.news()]
    assert sorted(ids) == sorted(answer.headers["x-request-id"] for answer in answers)


def test_what_passes_and_what_goes_well_is_no_line(watched: Watched, ns: str, front: PassThrough) -> None:
    front.when(Match(method="GET", key=key_in(ns)), FAULTS["internal-error"].plan(), times=1)
    for _ in range(3):
        assert get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a").body == DATA
    assert get_whole_or_cut(watched.port, "/blob?ns=NO&path=a").status == 400
    assert watched.only_news().fields["status"] == "400"


def test_the_items_of_a_batch_that_fail_are_one_line(watched: Watched, ns: str, front: PassThrough) -> None:
    """Named is one that the store has failed, before those whose names are wrong."""
    rule = front.when(Match(method="GET", key=key_in(ns)), FAULTS["access-denied"].plan())
    items = [{"path": path, "off": 0, "len": 1} for path in ("none", "a", "none", "a")]
    with Connection(watched.port) as wire:
        answer = wire.post(
            f"/readv?ns={ns}", json.dumps(items).encode(), Accept="application/x-seekfs-frames"
        )
    front.lift(rule)
    problems = [item for item in read_framed_items(answer.body) if isinstance(item, dict)]
    assert [each["status"] for each in problems] == [404, 502, 404, 502]
    event = watched.only_news()
    assert event.level == "WARNING"
    assert event.message.startswith(
        f"POST /readv?ns={ns}: 4 of 4 items failed: 502 item 1: GET was answered 403"
    )
    told = {"request_id": answer.headers["x-request-id"], "item": "1", "status": "502", "path": "a", "ns": ns}
    assert {name: event.fields.get(name) for name in told} == told


# --- namespaces and manifests -------------------------------------------------------------------


@pytest.mark.parametrize("what", ["HEAD", "manifests/v-1.json.gz"])
def test_a_namespace_of_which_nothing_is_known_fails_in_one_line(
    what: str, watched: Watched, ns: str, module_store: ObjectStore, front: PassThrough
) -> None:
    ns = f"{ns}-new"
    write_manifest(module_store, ns, 1, manifest_of(ns, 1, {"a": File(DATA, PAGE)}, {}))
    key = f"namespaces/{ns}/{what}"
    rule = front.when(Match(key=key), FAULTS["internal-error"].plan())
    answer = get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a")
    front.lift(rule)
    problem = answer.problem(503, UNAVAILABLE)
    event = watched.only_news()
    told = {"request_id": problem["request_id"], "status": "503", "ns": ns, "key": key}
    told |= {"store_status": "500", "store_code": "InternalError", "attempts": str(TRIES)}
    assert event.level == "WARNING"
    assert {name: event.fields.get(name) for name in told} == told


@pytest.mark.parametrize("fault", ["internal-error", "access-denied", "broken"])
def test_a_new_version_that_cannot_be_had_is_one_line_and_fails_nobody(
    fault: str, watched: Watched, ns: str, module_store: ObjectStore, front: PassThrough
) -> None:
    manifest = manifest_of(ns, 2, {"a": File(DATA, PAGE)}, {})
    if fault == "broken":
        manifest["files"][0]["size"] += 1
    key = f"namespaces/{ns}/manifests/v-2.json.gz"
    rule = front.when(Match(key=key), Plan() if fault == "broken" else FAULTS[fault].plan())
    write_manifest(module_store, ns, 2, manifest)
    answer = get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a&len=0")
    front.lift(rule)
    assert (answer.status, answer.headers["x-seekfs-version"]) == (200, "1")
    event = watched.only_news()
    assert event.level == ("ERROR" if fault == "broken" else "WARNING")
    assert event.message.startswith(f"version 1 of '{ns}' is served on, in place of version 2: ")
    assert (event.fields["ns"], event.fields["version"]) == (ns, "1")
    if fault == "broken":
        assert event.fields["where"] == "$.files[0].size"
        assert "manifest v-2" in event.message
    else:
        code = "AccessDenied" if fault == "access-denied" else "InternalError"
        assert (event.fields["key"], event.fields["store_code"]) == (key, code)


def test_a_head_that_cannot_be_read_or_is_broken_or_gone_is_one_line(
    watched: Watched, ns: str, front: PassThrough, module_store: ObjectStore
) -> None:
    key = f"namespaces/{ns}/HEAD"
    plans = [
        (
            FAULTS["internal-error"].plan(),
            "WARNING",
            "GET was answered 500 InternalError: scripted, after 2 requests (key '",
        ),
        (Plan(answer=StoreAnswer(status=200, body=b"v-x\n\x1b[31m")), "ERROR", f"HEAD of namespace '{ns}'"),
        (FAULTS["no-such-key"].plan(), "WARNING", f"there is no namespace '{ns}': it has no HEAD"),
    ]
    for plan, level, words in plans:
        watched.pass_over()
        rule = front.when(Match(key=key), plan)
        answer = get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a&len=0")
        assert (answer.status, answer.headers["x-seekfs-version"]) == (200, "1")
        front.wait_until(lambda: any(each.plan is plan and each.ended for each in front.select("GET", key)))  # noqa: B023
        front.lift(rule)
        event = watched.only_news()
        assert event.level == level
        assert f"version 1 of '{ns}' is served on, as HEAD cannot be read: " in event.message
        assert words in event.message


# --- the disk -----------------------------------------------------------------------------------


def test_a_disk_that_fails_is_one_line_when_it_begins(
    tmp_path: Path, front: PassThrough, s3_config: S3ConfigFactory, ns: str
) -> None:
    with Daemon(tmp_path / "daemon", settings_of(front, s3_config, "json")) as daemon:
        watched = Watched(daemon, "json")
        segments = daemon.l2 / "segments"
        segments.rmdir()
        segments.write_text("in the way")
        watched.pass_over()
        for _ in range(3):
            assert get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a").body == DATA
        wait_until(lambda: any(event.level == "WARNING" for event in watched.news()), "it is noticed")
        (event,) = [event for event in watched.news() if event.level != "INFO"]
        assert event.logger == "seekfs.cache"
        why = "making a segment: Not a directory; next try in 1 s"
        assert event.message == f"writing the disk cache in '{daemon.l2}' is off: {why}"
        segments.unlink()


# --- clients ------------------------------------------------------------------------------------

MALFORMED: Final = {
    "an unknown parameter": (b"GET /blob?ns=dev&path=a&x=1 HTTP/1.1\r\nHost: x\r\n", 400),
    "a bad escape": (b"GET /blob?ns=dev&path=%zz HTTP/1.1\r\nHost: x\r\n", 400),
    "line breaks": (b"GET /blob?ns=dev&path=a%0d%0a2026-01-01T00:00:00.000Z HTTP/1.1\r\nHost: x\r\n", 400),
    "a terminal's escapes": (b"GET /blob?ns=dev&path=%1b%5b31m HTTP/1.1\r\nHost: x\r\n", 400),
    "escapes as they are": (b"GET /blob?ns=\x1b[31m HTTP/1.1\r\nHost: x\r\n", 400),
    "forged fields": (b"GET /blob?ns=dev&path=a&x%20request_id=0%20level=DEBUG HTTP/1.1\r\nHost: x\r\n", 400),
    "no endpoint": (b"GET /%1b%5b31m%0aINFO HTTP/1.1\r\nHost: x\r\n", 404),
    "another method": (b"PUT /blob HTTP/1.1\r\nHost: x\r\n", 405),
    "no HTTP": (b"\x1b[31m\r\n", 400),
    "a method of escapes": (b"\x1b[31m / HTTP/1.1\r\nHost: x\r\n", 400),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_one_line_with_the_id_of_its_answer(what: str, watched: Watched) -> None:
    sent, status = MALFORMED[what]
    got = exchange(watched.port, sent + b"Connection: close\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"%d" % status
    event = watched.only_news()
    assert (event.level, event.logger) == ("INFO", "seekfs.http")
    assert event.fields["request_id"] == json.loads(body)["request_id"]
    assert event.fields["status"] == str(status)
    assert f": {status} " in event.message or f" {status} " in event.message


def test_names_of_any_kind_make_no_second_line(watched: Watched, ns: str, module_store: ObjectStore) -> None:
    """A path that a manifest may have: separators, marks that turn the line around, quotes, fields."""
    path = 'a b" request_id=0 \u2028\u202e\u00a0\u200b=\\'
    key = f"{ns}/\u2029 x=1 '\u202e"
    write_manifest(module_store, ns, 2, manifest_of(ns, 2, {path: File(DATA, PAGE, key=key)}, {}))
    with Connection(watched.port) as wire:
        answer = wire.get(f"/blob?ns={ns}&path=" + "".join(f"%{byte:02x}" for byte in path.encode()))
    problem = answer.problem(502, WRONG)
    wait_until(lambda: any("request_id" in event.fields for event in watched.news()), "it is logged")
    (event,) = [event for event in watched.news() if "request_id" in event.fields]
    assert (event.fields["path"], event.fields["key"]) == (path, key)
    assert event.fields["request_id"] == problem["request_id"]


def test_what_a_store_says_makes_no_second_line(watched: Watched, ns: str, front: PassThrough) -> None:
    body = (
        "<Error><Code>AccessDenied</Code><Message>no\n2026-01-01T00:00:00.000Z INFO x: forged"
        "\u2028\u202e request_id=0</Message></Error>"
    ).encode()
    rule = front.when(Match(method="GET", key=key_in(ns)), Plan(answer=StoreAnswer(status=403, body=body)))
    answer = get_whole_or_cut(watched.port, f"/blob?ns={ns}&path=a")
    front.lift(rule)
    event = watched.only_news()
    assert event.fields["request_id"] == answer.headers["x-request-id"]
    assert "forged" in event.message


def test_a_client_that_stops_reading_is_one_line_with_the_id_of_its_answer(
    watched: Watched, ns: str, module_store: ObjectStore
) -> None:
    write_dataset(module_store, ns, {"big": File(BIG)}, version=2)
    with slow_reader(watched.port, f"/blob?ns={ns}&path=big") as response:
        request_id = response.headers["X-Request-Id"]
        wait_until(
            lambda: any("stopped reading" in event.message for event in watched.news()), "it is given up"
        )
    (event,) = [event for event in watched.news() if "request_id" in event.fields]
    assert (event.level, event.logger, event.fields) == ("INFO", "seekfs.http", {"request_id": request_id})
    assert event.message.startswith(f"GET /blob?ns={ns}&path=big: cut off after ")
    assert "the client 127.0.0.1:" in event.message
    assert "(api.send_timeout_sec)" in event.message


def test_a_request_that_does_not_come_in_time_is_one_line(watched: Watched) -> None:
    with raw_connection(watched.port, b"GET /blob?ns=dev") as connection:
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    event = watched.only_news()
    assert (event.level, event.fields["status"]) == ("INFO", "408")
    assert event.fields["request_id"].encode() in answer
    assert event.message.startswith("127.0.0.1:")


def test_what_the_store_has_not_brought_in_time_is_one_line(
    ns: str, front: PassThrough, tmp_path: Path, s3_config: S3ConfigFactory
) -> None:
    """A deadline of the request's own, with a store that only takes its time."""
    gate = threading.Event()
    front.when(Match(method="GET", key=key_in(ns)), Plan(hold_head=gate))
    settings = {**settings_of(front, s3_config, "text"), "api.request_deadline_sec": 1}
    with Daemon(tmp_path / "daemon", {**settings, "s3.read_timeout_sec": 60}) as daemon:
        watched = Watched(daemon, "text")
        answer = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=a")
        gate.set()
        answer.problem(504, "deadline-exceeded")
        (event,) = [event for event in watched.news() if event.level == "WARNING"]
        told = {"ns": ns, "path": "a", "version": "1", "page_id": "0", "key": key_in(ns), "status": "504"}
        assert {name: event.fields.get(name) for name in told} == told
        assert f"waited 1 seconds for page 0 of 'a' in version 1 of '{ns}'" in event.message


def test_an_answer_that_the_end_cuts_off_is_one_line(
    tmp_path: Path, front: PassThrough, s3_config: S3ConfigFactory, ns: str, module_store: ObjectStore
) -> None:
    write_dataset(module_store, ns, {"big": File(BIG)}, version=2)
    settings = {**settings_of(front, s3_config, "json"), "api.send_timeout_sec": 60, "api.drain_sec": 1}
    daemon = Daemon(tmp_path / "daemon", settings).start()
    with slow_reader(daemon.port, f"/blob?ns={ns}&path=big") as response:
        os.kill(daemon.pid, signal.SIGTERM)
        assert daemon.wait() == 0
        with contextlib.suppress(http.client.IncompleteRead, OSError):
            response.read()
        request_id = response.headers["X-Request-Id"]
    events = list(events_of(daemon.log, "json"))
    (event,) = [event for event in events if event.fields.get("request_id") == request_id]
    assert event.message.endswith(
        ": the daemon stops, and its answer has not been taken in time (api.drain_sec)"
    )
    assert [event for event in events if event.level != "INFO"] == []
    daemon.close()
