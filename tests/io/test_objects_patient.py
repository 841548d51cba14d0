"""Patience: what is asked again, what is an answer, and that waiting ends when it is told to."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator

import pytest

from seekfs_core.budget import BudgetState, GetBudget, RequestKind
from seekfs_core.creation import Conditions
from seekfs_core.errors import ShuttingDown, StoreAnswered, StoreUnavailable
from seekfs_core.retry import RetryPolicy
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import PatientStore
from tests.conftest import S3ConfigFactory
from tests.support.passthrough import Answer, Exchange, Match, PassThrough, Plan

BUSY = Plan(answer=Answer.error(503, "SlowDown"))


def patient_of(store: ObjectStore, *, rate: float = 10_000, backoff_seconds: float = 0.001) -> PatientStore:
    return PatientStore(
        store,
        policy=RetryPolicy(attempts_max=3, backoff_seconds_initial=backoff_seconds),
        budget=GetBudget(rate, 20),
        rng=random.Random(1),
    )


@pytest.fixture
def patient(passthrough: PassThrough, s3_config: S3ConfigFactory) -> Iterator[PatientStore]:
    store = open_store(s3_config(endpoint=passthrough.endpoint))
    yield patient_of(store)
    store.close()


def test_a_busy_store_is_asked_again_as_often_as_allowed(
    patient: PatientStore, passthrough: PassThrough, ns: str
) -> None:
    passthrough.when(Match(key=ns), BUSY, times=2)
    assert patient.create(ns, b"1").created
    passthrough.when(Match(key=ns), BUSY, times=2)
    found = patient.fetch(ns, bytes_max=10)
    assert found is not None
    assert found.stored == b"1"
    passthrough.when(Match(method="HEAD", key=ns), Plan(answer=Answer(status=503)))
    passthrough.forget()
    passthrough.when(Match(key=ns), BUSY)
    with pytest.raises(StoreUnavailable):
        patient.stat(ns)
    assert len(passthrough.exchanges) == 3


def test_a_refusal_is_not_asked_again(patient: PatientStore, passthrough: PassThrough, ns: str) -> None:
    passthrough.when(Match(key=ns), Plan(answer=Answer.error(403, "AccessDenied")))
    with pytest.raises(StoreAnswered, match="AccessDenied"):
        patient.fetch(ns, bytes_max=10)
    assert len(passthrough.exchanges) == 1


def test_an_absence_is_an_answer(patient: PatientStore, ns: str) -> None:
    assert patient.stat(ns) is None
    assert patient.fetch(ns, bytes_max=10) is None
    assert patient.read_range(ns, memoryview(bytearray(1)), 0, if_match=None) is None


def test_an_object_longer_than_wanted_is_cut_one_byte_later(patient: PatientStore, ns: str) -> None:
    patient.create(ns, b"0123456789")
    for limit, stored in ((10, b"0123456789"), (9, b"0123456789"), (4, b"01234")):
        found = patient.fetch(ns, bytes_max=limit)
        assert found is not None
        assert found.stored == stored


def test_a_create_leaves_what_is_there(patient: PatientStore, ns: str) -> None:
    first = patient.create(ns, b"first")
    second = patient.create(ns, b"second")
    assert (first.created, second.created) == (True, False)
    assert (second.size, second.etag) == (5, first.etag)
    assert not patient.create(ns, b"third", conditions=Conditions.REFUSED).created


def test_a_create_that_is_refused_for_nothing_is_tried_again(
    patient: PatientStore, passthrough: PassThrough, ns: str
) -> None:
    """409: two conditional writes met, and it may be that neither won."""
    conflict = Plan(answer=Answer.error(409, "ConditionalRequestConflict"))
    passthrough.when(Match(method="PUT", key=ns), conflict, times=1)
    assert patient.create(ns, b"1").created
    passthrough.when(Match(method="PUT", key=ns + "2"), conflict)
    with pytest.raises(StoreAnswered):
        patient.create(ns + "2", b"1")


def test_a_range_of_another_object_than_the_one_begun(patient: PatientStore, ns: str) -> None:
    etag = patient.create(ns, b"0123456789").etag
    view = memoryview(bytearray(4))
    found = patient.read_range(ns, view, 2, if_match=etag)
    assert found is not None
    assert (bytes(view), found.size, found.etag) == (b"2345", 10, etag)
    assert patient.read_range(ns, view, 2, if_match='"another"') is None
    assert patient.read_range(ns, view, 100, if_match=None) is None


@pytest.mark.parametrize("plan", [Plan(cut_body_at=3), Plan(drop="request"), Plan(drop="answer"), BUSY])
def test_a_range_that_breaks_off_is_read_again(
    patient: PatientStore, passthrough: PassThrough, ns: str, plan: Plan
) -> None:
    patient.create(ns, b"0123456789")
    passthrough.when(Match(method="GET", key=ns), plan, times=2)
    view = memoryview(bytearray(10))
    assert patient.read_range(ns, view, 0, if_match=None) is not None
    assert bytes(view) == b"0123456789"


def test_a_listing_that_breaks_off_goes_on_without_repeating(
    patient: PatientStore, passthrough: PassThrough, store: ObjectStore, ns: str
) -> None:
    names = [f"{ns}/{number:04}" for number in range(1005)]
    for name in names:
        store.put(name, b"")

    def is_second_page(exchange: Exchange) -> bool:
        return "continuation-token" in exchange.query

    passthrough.when(is_second_page, BUSY, times=2)
    assert [each.key for each in patient.listing(f"{ns}/")] == names
    passthrough.when(is_second_page, BUSY)
    with pytest.raises(StoreUnavailable):
        list(patient.listing(f"{ns}/"))


@pytest.fixture
def charged(passthrough: PassThrough, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests had been made whenever one was paid for."""
    take, times = GetBudget.take, []

    def counted(budget: GetBudget, state: BudgetState, now: float) -> tuple[BudgetState, float]:
        times.append(len(passthrough.exchanges))
        return take(budget, state, now)

    monkeypatch.setattr(GetBudget, "take", counted)
    return times


def test_what_reads_is_paid_for_each_time_and_what_writes_never_is(
    patient: PatientStore, passthrough: PassThrough, charged: list[int], ns: str
) -> None:
    passthrough.when(Match(), BUSY, times=1)
    patient.create(ns, b"1")
    patient.create(ns, b"2")
    upload = patient.create_upload(ns + "2")
    etag = patient.upload_part(ns + "2", upload, 1, b"1234")
    patient.complete_upload(ns + "2", upload, [etag], size=4)
    patient.abort_upload(ns + "2", upload)
    patient.once(RequestKind.WRITE, lambda store: store.put(ns, b"3"))
    passthrough.when(Match(key=ns), BUSY, times=1)
    patient.fetch(ns, bytes_max=10)
    patient.stat(ns)
    patient.read_range(ns, memoryview(bytearray(1)), 0, if_match=None)
    patient.once(RequestKind.GET, lambda store: store.get(ns).close())
    assert len(list(patient.listing(ns))) == 2
    read = [each.number for each in passthrough.exchanges if each.method in ("GET", "HEAD")]
    # Of the second create and its look: what was found is looked at.
    assert len(read) == 7
    assert charged == read


def test_each_page_of_a_listing_is_paid_for(
    patient: PatientStore, passthrough: PassThrough, charged: list[int], ns: str
) -> None:
    tokens = (None, "1", "2", None)
    for number, (token, following) in enumerate(itertools.pairwise(tokens)):
        more = "" if following is None else f"<NextContinuationToken>{following}</NextContinuationToken>"
        body = (
            f"<ListBucketResult><Contents><Key>{ns}/{number}</Key><Size>1</Size></Contents>"
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}</ListBucketResult>"
        )

        def is_page(exchange: Exchange, token: str | None = token) -> bool:
            return exchange.query.get("continuation-token") == token

        passthrough.when(is_page, BUSY, times=1)
        passthrough.when(is_page, Plan(answer=Answer(status=200, body=body.encode())))
    # Each page fails once, and the listing is begun again from the first.
    assert [each.key for each in patient.listing(f"{ns}/")] == [f"{ns}/{number}" for number in range(3)]
    asked = [each.query.get("continuation-token") for each in passthrough.exchanges]
    assert asked == [None, None, "1", None, "1", "2", None, "1", "2"]
    assert charged == [*range(len(asked))]


@pytest.mark.parametrize(
    ("prefix", "what"), [("p/", "the listing does not go on"), ("q/", "a key outside the prefix")]
)
def test_a_listing_that_makes_no_sense_is_given_up(
    patient: PatientStore, passthrough: PassThrough, prefix: str, what: str
) -> None:
    body = (
        b"<ListBucketResult><Contents><Key>p/a</Key><Size>1</Size></Contents>"
        b"<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken></ListBucketResult>"
    )
    passthrough.when(Match(), Plan(answer=Answer(status=200, body=body)))
    with pytest.raises(StoreAnswered, match=what):
        list(patient.listing(prefix))


def test_a_complete_whose_answer_was_lost_is_recognised(
    patient: PatientStore, passthrough: PassThrough, ns: str
) -> None:
    upload = patient.create_upload(ns)
    etag = patient.upload_part(ns, upload, 1, b"1234")
    passthrough.when(Match(method="POST", key=ns), Plan(drop="answer"), times=1)
    done = patient.complete_upload(ns, upload, [etag], size=4)
    assert done.size == 4
    found = patient.fetch(ns, bytes_max=10)
    assert found is not None
    assert (found.stored, found.etag) == (b"1234", done.etag)


@pytest.mark.parametrize("waits_for", ["budget", "backoff"])
def test_who_waits_is_told_to_stop(
    passthrough: PassThrough, s3_config: S3ConfigFactory, ns: str, waits_for: str
) -> None:
    store = open_store(s3_config(endpoint=passthrough.endpoint))
    if waits_for == "budget":
        patient = patient_of(store, rate=1 / 3600)
    else:
        patient = patient_of(store, backoff_seconds=3600)
        passthrough.when(Match(key=ns), BUSY)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            patient.create(ns, b"1") if waits_for == "backoff" else patient.stat(ns)
        except ShuttingDown as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    if waits_for == "backoff":
        passthrough.wait_until(lambda: len(passthrough.exchanges) == 1)
    patient.stop()
    waiter.join(30)
    assert len(raised) == 1
    with pytest.raises(ShuttingDown):
        patient.create(ns, b"1")
    store.close()
