"""Where a request goes and how it is signed: what is signed is what is sent, by a clock that is right."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from seekfs_core.budget import GetBudget
from seekfs_core.errors import FailureKind
from seekfs_core.retry import RetryPolicy
from seekfs_io.config import S3Config
from seekfs_io.devserver import DevServer
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.objects.sdk import SdkStore, open_sdk_store
from seekfs_io.objects.signing import address_of
from tests.conftest import S3ConfigFactory, StoreFactory
from tests.support.leaks import MARK
from tests.support.objects import drain, failure_of, listed
from tests.support.passthrough import Answer, Head, Match, PassThrough, Plan

HOUR = 3600.0


@pytest.fixture
def through(passthrough: PassThrough, open_s3: StoreFactory) -> ObjectStore:
    return open_s3(endpoint=passthrough.endpoint)


@pytest.fixture
def key(store: ObjectStore, ns: str) -> str:
    store.put(f"{ns}/a", b"content")
    return f"{ns}/a"


# --- targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a b", "a%20b"),
        ("a+b", "a%2Bb"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("☃", "%E2%98%83"),
        ("a//b", "a//b"),
        ("x:y=z", "x%3Ay%3Dz"),
        ("q'()!*~", "q%27%28%29%21%2A~"),
        ("k?v#h&", "k%3Fv%23h%26"),
        ("dots/..a/.b", "dots/..a/.b"),
        ("back\\slash", "back%5Cslash"),
    ],
)
def test_what_is_signed_is_what_is_sent(
    passthrough: PassThrough, through: ObjectStore, seaweed: DevServer, ns: str, name: str, target: str
) -> None:
    through.put(f"{ns}/{name}", b"bytes")
    assert drain(through, f"{ns}/{name}") == b"bytes"
    assert {each.target for each in passthrough.exchanges} == {f"/{seaweed.bucket}/{ns}/{target}"}
    assert {each.status for each in passthrough.exchanges} == {200}


def config(**changes: Any) -> S3Config:
    return S3Config(bucket="data", access_key_id="id", secret_access_key=MARK, **changes)


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "https://data.s3.us-east-1.amazonaws.com"),
        ({"region": "eu-central-1"}, "https://data.s3.eu-central-1.amazonaws.com"),
        ({"region": "cn-north-1"}, "https://data.s3.cn-north-1.amazonaws.com.cn"),
        ({"addressing_style": "path"}, "https://s3.us-east-1.amazonaws.com/data"),
        ({"endpoint": "http://localhost:9000"}, "http://localhost:9000/data"),
        ({"endpoint": "http://localhost:80/"}, "http://localhost/data"),
        ({"endpoint": "https://host:443"}, "https://host/data"),
        ({"endpoint": "https://host:80"}, "https://host:80/data"),
        ({"endpoint": "http://[::1]:9000"}, "http://[::1]:9000/data"),
        ({"endpoint": "https://host/storage/v1/s3/"}, "https://host/storage/v1/s3/data"),
        ({"endpoint": "https://host/a/b%2fc"}, "https://host/a/b%2Fc/data"),
        ({"endpoint": "https://host/%7ea%20b/%zz/%c3%a9"}, "https://host/~a%20b/%25zz/%C3%A9/data"),
        ({"endpoint": "https://host:8443", "addressing_style": "virtual"}, "https://data.host:8443"),
    ],
)
def test_addresses(changes: dict[str, str], url: str) -> None:
    address = address_of(config(**changes))
    assert f"{address.scheme}://{address.host}{address.root}" == url
    assert address.target("a b", {}) == f"{address.root}/a%20b"
    assert address.target("", {"x": "1 2", "a": ""}) == f"{address.root or '/'}?a=&x=1%202"


def test_a_name_with_a_dot_fits_no_certificate_of_aws() -> None:
    address = address_of(S3Config(bucket="my.data"))
    assert (address.host, address.root) == ("s3.us-east-1.amazonaws.com", "/my.data")


def test_an_endpoint_with_escapes_in_its_path(passthrough: PassThrough) -> None:
    """They are sent as they were signed: whoever sends them spells an escape in capitals."""
    passthrough.when(Match(), Plan(answer=Answer(status=404)))
    store = open_store(config(endpoint=f"{passthrough.endpoint}/a/b%2fc/%7e"))
    failure_of(lambda: store.get("k"))
    store.close()
    assert (
        passthrough.exchanges[0].target
        == "/a/b%2Fc/~/data/k"
        == address_of(store_config(store)).target("k", {})
    )


def store_config(store: ObjectStore) -> S3Config:
    assert isinstance(store, SdkStore)
    return store.config


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_addressing_of_a_real_bucket(
    passthrough: PassThrough, seaweed: DevServer, open_s3: StoreFactory, bucket: str, style: str
) -> None:
    # Through a proxy, which resolves no names: "bucket.localhost" is this server's.
    endpoint = f"http://localhost:{seaweed.s3_port}"
    store = open_s3(endpoint=endpoint, bucket=bucket, addressing_style=style, proxy=passthrough.endpoint)
    store.put("a b/ü", b"content")
    assert drain(store, "a b/ü", start=1, stop=3) == b"on"
    assert store.head("a b/ü").size == 7
    assert [each.key for each in listed(store)] == ["a b/ü"]
    place = f"{seaweed.s3_port}/{bucket}" if style == "path" else f"{seaweed.s3_port}"
    host = "localhost" if style == "path" else f"{bucket}.localhost"
    assert passthrough.exchanges[0].target == f"http://{host}:{place}/a%20b/%C3%BC"


# --- what a request carries -------------------------------------------------------------------


def sent_headers(passthrough: PassThrough, config: S3Config) -> Mapping[str, str]:
    """What a GET with ``config`` carries; the answer is made up."""
    passthrough.when(Match(), Plan(answer=Answer(status=404)))
    store = open_store(config)
    failure_of(lambda: store.get("a"))
    store.close()
    return {name.lower(): value for name, value in passthrough.exchanges[-1].request.headers}


def test_static_credentials(passthrough: PassThrough) -> None:
    headers = sent_headers(passthrough, config(endpoint=passthrough.endpoint, session_token="a-token"))
    assert headers["x-amz-security-token"] == "a-token"
    assert re.match(
        r"AWS4-HMAC-SHA256 Credential=id/[0-9]{8}/us-east-1/s3/aws4_request, SignedHeaders=host;",
        headers["authorization"],
    )


def test_anonymous_requests_carry_nothing(passthrough: PassThrough) -> None:
    headers = sent_headers(passthrough, S3Config(endpoint=passthrough.endpoint, anonymous=True))
    assert "authorization" not in headers
    assert not any(name.startswith("x-amz") for name in headers)


def test_no_secret_is_ever_shown(passthrough: PassThrough, caplog: pytest.LogCaptureFixture) -> None:
    """A store that echoes everything it was sent, at every level of logging."""
    caplog.set_level(logging.DEBUG)
    store = open_store(config(endpoint=passthrough.endpoint, session_token="secret-token"))
    echo = f"you sent {MARK} and secret-token"
    answer = Answer(
        status=403,
        body=f"<Error><Code>SignatureDoesNotMatch</Code><Message>{echo}</Message></Error>".encode(),
    )
    passthrough.when(Match(), Plan(answer=answer))
    failure = failure_of(lambda: store.get("a"))
    store.close()
    signature = (passthrough.exchanges[0].request.get("authorization") or "").rpartition("Signature=")[2]
    assert len(signature) == 64
    assert "you sent ******** and ********" in failure.detail
    shown = repr(failure) + repr(store) + caplog.text
    for secret in (MARK, "secret-token", signature):
        assert secret not in shown


def test_a_signature_that_the_store_quotes_is_not_shown(
    passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    """The store's answer is made of the request, so that it is known only when it is asked."""
    seen: list[str] = []
    answer = Answer(status=403)

    def quoting(exchange: Any) -> bool:
        seen.append((exchange.request.get("authorization") or "").rpartition("Signature=")[2])
        text = f"<Error><Code>AccessDenied</Code><Message>not {seen[0]}</Message></Error>"
        object.__setattr__(answer, "body", text.encode())
        return True

    passthrough.when(quoting, Plan(answer=answer))
    assert failure_of(lambda: through.get(key)).detail == "GET was answered 403 AccessDenied: not ********"
    assert len(seen[0]) == 64


# --- the clock --------------------------------------------------------------------------------


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


CALLS: dict[str, Callable[[ObjectStore, str], object]] = {
    "GET": drain,
    "HEAD": lambda store, key: store.head(key),
    "PUT": lambda store, key: store.put(key, b"content"),
}


@pytest.mark.parametrize(
    ("seconds", "said"), [(-86_400.0, "86400 seconds behind"), (HOUR, "3600 seconds ahead of")]
)
@pytest.mark.parametrize("first", CALLS)
def test_a_wrong_clock_is_corrected_once_with_a_warning(
    passthrough: PassThrough,
    s3_config: S3ConfigFactory,
    key: str,
    caplog: pytest.LogCaptureFixture,
    first: str,
    seconds: float,
    said: str,
) -> None:
    store = open_sdk_store(s3_config(endpoint=passthrough.endpoint), lambda: time.time() + seconds)
    failure = failure_of(lambda: CALLS[first](store, key))
    # An answer to HEAD has no code; the time of the answer tells.
    assert (failure.kind, failure.status, failure.code) == (
        FailureKind.STALE_SIGNATURE,
        403,
        None if first == "HEAD" else "RequestTimeTooSkewed",
    )
    for call in (CALLS[first], *CALLS.values()):
        call(store, key)
    store.close()
    assert [each.status for each in passthrough.exchanges] == [403] + [200] * 4
    (warning,) = warnings_of(caplog)
    # The clock went on between the two readings of it, so that the last digit may be another.
    number, _, rest = said.partition(" ")
    found = re.fullmatch(r"the clock of this machine is ([0-9]+) seconds (.*) the store's, which .*", warning)
    assert found is not None
    assert abs(int(found[1]) - int(number)) <= 10
    assert found[2] == rest.removeprefix("seconds ")


def test_many_requests_by_a_wrong_clock_are_all_made_again_and_warned_about_once(
    passthrough: PassThrough, s3_config: S3ConfigFactory, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    passthrough.when(Match(), Plan(hold_request=gate), times=8)
    store = open_sdk_store(s3_config(endpoint=passthrough.endpoint), lambda: time.time() - HOUR)
    with ThreadPoolExecutor(8) as pool:
        failures = [pool.submit(failure_of, lambda: store.get(key)) for _ in range(8)]
        passthrough.wait_until(lambda: len(passthrough.exchanges) == 8)
        gate.set()
        assert {each.result().kind for each in failures} == {FailureKind.STALE_SIGNATURE}
        assert set(pool.map(lambda _: drain(store, key), range(8))) == {b"content"}
    store.close()
    assert len(warnings_of(caplog)) == 1


def test_a_clock_that_is_set_right_afterwards_is_followed(
    s3_config: S3ConfigFactory, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = [HOUR]
    store = open_sdk_store(s3_config(), lambda: time.time() + ahead[0])
    for seconds in (HOUR, 0.0):
        ahead[0] = seconds
        assert failure_of(lambda: store.get(key)).kind is FailureKind.STALE_SIGNATURE
        assert drain(store, key) == b"content"
    store.close()
    assert len(warnings_of(caplog)) == 2


def test_whoever_retries_does_not_notice_a_wrong_clock(
    passthrough: PassThrough, s3_config: S3ConfigFactory, key: str
) -> None:
    store = open_sdk_store(s3_config(endpoint=passthrough.endpoint), lambda: time.time() - HOUR)
    patient = PatientStore(
        store, policy=RetryPolicy(attempts_max=2, backoff_seconds_initial=60), budget=GetBudget(1000, 1),
        rng=random.Random(1),
    )  # fmt: skip
    fetched = patient.fetch(key, bytes_max=10)
    assert fetched is not None
    assert fetched.stored == b"content"
    assert [each.status for each in passthrough.exchanges] == [403, 200]
    store.close()


def without_date(head: Head) -> Head:
    return head.without("Date")


@pytest.mark.parametrize("change", [None, without_date])
def test_a_store_that_complains_of_a_clock_like_its_own_is_not_asked_again(
    passthrough: PassThrough, through: ObjectStore, key: str, change: Callable[[Head], Head] | None
) -> None:
    headers = {} if change else {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())}
    body = Answer.error(403, "RequestTimeTooSkewed").body
    passthrough.when(Match(), Plan(answer=Answer(status=403, headers=headers, body=body)))
    failure = failure_of(lambda: through.get(key))
    assert (failure.kind, failure.code) == (FailureKind.DENIED, "RequestTimeTooSkewed")
