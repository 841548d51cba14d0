"""The daemon with credentials of every source, what becomes of those that end or are wrong, and how it gets
to the store. That no secret is in anything it says is looked after by ``tests.support.leaks``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

import pytest
import requests
from attrs import frozen

from seekfs_io.devserver import DevServer
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.signing import Signer, address_of
from seekfs_io.seaweed import ACCESS_KEY
from tests.conftest import S3ConfigFactory, StoreFactory
from tests.support.credentials import Container, Program
from tests.support.daemon import REPOSITORY, Daemon, s3_settings
from tests.support.dataset import File, some_bytes, write_dataset
from tests.support.leaks import MARK, STORE_SECRET
from tests.support.metrics import metric
from tests.support.passthrough import Answer, Exchange, PassThrough, Plan

TLS: Final = Path(__file__).parents[1] / "support" / "tls"
DATA = some_bytes(1 << 20)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "program", tmp_path / "aws-config")


@pytest.fixture
def daemon(
    tmp_path: Path, program: Program, passthrough: PassThrough, s3_config: S3ConfigFactory
) -> Iterator[Daemon]:
    s3 = s3_config(endpoint=passthrough.endpoint, access_key_id=None, secret_access_key=None)
    environ = {"AWS_CONFIG_FILE": str(tmp_path / "aws-config"), "AWS_EC2_METADATA_DISABLED": "true"}
    # Every request asks for HEAD anew: an answer that failed would be remembered as long.
    settings = {**s3_settings(s3), "manifest.head_ttl_sec": 0}
    with Daemon(tmp_path / "daemon", settings, environ=environ) as daemon:
        yield daemon
        assert MARK not in daemon.log


def expiring(passthrough: PassThrough, renew: Callable[[], object]) -> None:
    """The store calls the credentials ``old`` expired, and whoever has them has others from then on."""

    def is_expired(exchange: Exchange) -> bool:
        if "Credential=old/" not in (exchange.request.get("authorization") or ""):
            return False
        renew()
        return True

    passthrough.when(is_expired, Plan(answer=Answer.error(400, "ExpiredToken")))


def check_renewed_once(answer: requests.Response, daemon: Daemon, passthrough: PassThrough) -> None:
    assert answer.content == DATA
    # HEAD of the namespace twice, its manifest, the file: every request is counted.
    assert [each.status for each in passthrough.exchanges] == [400, 200, 200, 206]
    assert metric(daemon, "seekfs_store_requests_total", outcome="stale_signature") == 1
    assert [line for line in daemon.log.splitlines() if " INFO " not in line] == []


@pytest.fixture
def read(daemon: Daemon, store: ObjectStore, ns: str) -> Callable[[], requests.Response]:
    write_dataset(store, ns, {"a": File(DATA)})
    return lambda: requests.get(f"{daemon.url}/blob?ns={ns}&path=a", timeout=60)


def test_credentials_that_cannot_be_had_for_a_while(
    program: Program, daemon: Daemon, read: Callable[[], requests.Response]
) -> None:
    answer = read()  # It has nothing to print, and fails.
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "no credentials from the program of the AWS profile" in answer.json()["detail"]
    program.says(ACCESS_KEY)
    assert read().content == DATA


def test_credentials_that_cannot_be_had(
    program: Program, daemon: Daemon, passthrough: PassThrough, read: Callable[[], requests.Response]
) -> None:
    program.says_text(MARK)
    answer = read()
    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "application/problem+json")
    assert "no credentials from the program of the AWS profile" in answer.json()["detail"]
    assert "what it says is not JSON" in answer.json()["detail"]
    assert MARK not in answer.text
    assert "what it says is not JSON" in daemon.log
    assert passthrough.exchanges == []
    assert MARK not in requests.get(f"{daemon.url}/metrics", timeout=60).text


# --- every source -------------------------------------------------------------------------------


def test_a_program_s_credentials_that_expire_while_running_fail_no_read(
    program: Program, daemon: Daemon, passthrough: PassThrough, read: Callable[[], requests.Response]
) -> None:
    program.says("old")
    expiring(passthrough, lambda: program.says(ACCESS_KEY))
    check_renewed_once(read(), daemon, passthrough)
    assert program.runs == 2


class Start(Protocol):
    def __call__(self, environ: Mapping[str, str] | None = None, /, **changes: object) -> Reader: ...


@frozen
class Reader:
    """A daemon, and what asks it for the file."""

    daemon: Daemon
    ns: str

    def ask(self, endpoint: str) -> requests.Response:
        return requests.get(f"{self.daemon.url}{endpoint}?ns={self.ns}&path=a", timeout=60)

    def read(self) -> requests.Response:
        return self.ask("/blob")


@pytest.fixture
def start(
    tmp_path: Path, s3_config: S3ConfigFactory, passthrough: PassThrough, store: ObjectStore, ns: str
) -> Iterator[Start]:
    """``start(environ, **changes)``: a daemon behind ``passthrough`` with fields of ``s3`` changed."""
    write_dataset(store, ns, {"a": File(DATA)})
    with contextlib.ExitStack() as started:

        def start(environ: Mapping[str, str] | None = None, /, **changes: object) -> Reader:
            settings = {
                **s3_settings(s3_config(**{"endpoint": passthrough.endpoint, **changes})),
                "manifest.head_ttl_sec": 0,
                "s3.retry_initial_backoff_ms": 1,
            }
            every = {"AWS_EC2_METADATA_DISABLED": "true", **(environ or {})}
            directory = tmp_path / f"of-{len(list(tmp_path.iterdir()))}"
            daemon = started.enter_context(Daemon(directory, settings, environ=every))
            return Reader(daemon, ns)

        yield start


CHAIN: Final = {"access_key_id": None, "secret_access_key": None}
"""Whoever looks for credentials himself is given none."""


def test_credentials_of_the_configuration(start: Start, passthrough: PassThrough) -> None:
    assert start().read().content == DATA
    # The store knows no such token, and is not to: what counts is that it was sent, and is signed.
    start(session_token=f"{MARK}.of.the.session").read()
    last = passthrough.exchanges[-1].request
    assert last.get("x-amz-security-token") == f"{MARK}.of.the.session"
    assert "x-amz-security-token" in (last.get("authorization") or "")


def test_credentials_of_the_environment(start: Start) -> None:
    environ = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": STORE_SECRET}
    assert start(environ, **CHAIN).read().content == DATA


def test_credentials_of_a_profile_of_the_shared_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shared").write_text(
        f"[default]\naws_access_key_id = other\naws_secret_access_key = {MARK}\n"
        f"[jobs]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {STORE_SECRET}\n"
    )
    environ = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "shared"), "AWS_PROFILE": "jobs"}
    assert start(environ, **CHAIN).read().content == DATA


def test_a_container_s_credentials_that_expire_while_running_fail_no_read(
    start: Start, passthrough: PassThrough
) -> None:
    with Container(MARK) as container:
        thread = threading.Thread(target=container.serve_forever, args=(0.01,))
        thread.start()
        container.access_key = "old"
        expiring(passthrough, lambda: setattr(container, "access_key", ACCESS_KEY))
        environ = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{container.server_port}/x",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": MARK,
        }
        reader = start(environ, **CHAIN)
        check_renewed_once(reader.read(), reader.daemon, passthrough)
        assert container.asked == 2
        container.shutdown()
        thread.join()


# --- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"secret_access_key": f"{MARK}/wrong"}, "SignatureDoesNotMatch"),
        ({"access_key_id": "nobody"}, "InvalidAccessKeyId"),
        ({"anonymous": True, **CHAIN}, "AccessDenied"),
    ],
)
def test_a_wrong_key_is_a_502_with_the_store_s_code(
    start: Start, passthrough: PassThrough, changes: dict[str, object], code: str
) -> None:
    reader = start(**changes)
    answer = reader.read()
    problem = answer.json()
    assert (answer.status_code, problem["store_status"], problem["store_code"]) == (502, 403, code)
    assert len(passthrough.exchanges) == 1
    (line,) = [line for line in reader.daemon.log.splitlines() if " INFO " not in line]
    assert f" request_id={problem['request_id']} " in line
    assert f" store_code={code}" in line


CLOCK: Final = """
import time
right = time.time
time.time = lambda: right() + {seconds}
"""
"""What Python runs before all else, where it finds it: the clock of one process is wrong."""


@pytest.mark.parametrize(("seconds", "how"), [(3600, "ahead of"), (-86_400, "behind")])
def test_a_wrong_clock_is_corrected_once_with_a_warning(
    start: Start, passthrough: PassThrough, tmp_path: Path, seconds: int, how: str
) -> None:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK.format(seconds=seconds))
    reader = start({"PYTHONPATH": f"{tmp_path / 'clock'}{os.pathsep}{REPOSITORY}"})
    for _ in range(3):
        assert reader.read().content == DATA
    assert [each.status for each in passthrough.exchanges].count(403) == 1
    (line,) = [line for line in reader.daemon.log.splitlines() if " INFO " not in line]
    told = rf" WARNING seekfs\.store: the clock of this machine is [0-9]+ seconds {how} the store's, which "
    assert re.search(told, line)


# --- how it gets there --------------------------------------------------------------------------


@pytest.fixture
def tls_front(seaweed: DevServer) -> Iterator[PassThrough]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem")
    with PassThrough("127.0.0.1", seaweed.s3_port, tls=context) as front:
        yield front


def test_a_store_with_a_certificate_of_a_private_authority(start: Start, tls_front: PassThrough) -> None:
    reader = start(endpoint=tls_front.endpoint, ca_bundle=str(TLS / "ca.pem"))
    assert reader.read().content == DATA
    assert " WARNING " not in reader.daemon.log
    stranger = start(endpoint=tls_front.endpoint)
    problem = stranger.read().json()
    assert problem["status"] == 503
    assert "TLS" in problem["detail"]
    assert "certificate" in problem["detail"]


def test_a_certificate_that_is_not_checked_is_warned_about_once(start: Start, tls_front: PassThrough) -> None:
    reader = start(endpoint=tls_front.endpoint, verify=False)
    for _ in range(3):
        assert reader.read().content == DATA
    (line,) = [line for line in reader.daemon.log.splitlines() if " INFO " not in line]
    told = "s3.verify is false: the certificate of the store is not checked"
    assert line.endswith(f" WARNING seekfs.store: {told}")


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_either_addressing_through_a_proxy_with_a_password(
    start: Start, passthrough: PassThrough, seaweed: DevServer, style: str
) -> None:
    """The pass-through is the proxy, which resolves no names: ``bucket.localhost`` is the store's."""
    port, bucket = seaweed.s3_port, seaweed.bucket
    proxy = passthrough.endpoint.replace("http://", f"http://me:{MARK}@")
    reader = start(endpoint=f"http://localhost:{port}", addressing_style=style, proxy=proxy)
    assert reader.read().content == DATA
    place = f"http://localhost:{port}/{bucket}/" if style == "path" else f"http://{bucket}.localhost:{port}/"
    assert len(passthrough.exchanges) == 3
    for each in passthrough.exchanges:
        assert each.target.startswith(f"{place}namespaces/")
        sent = each.request.get("proxy-authorization") or ""
        assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"me:{MARK}"
    passthrough.down()
    problem = reader.ask("/test_head").json()
    assert problem["status"] == 503
    assert "the proxy cannot be connected to" in problem["detail"]
    assert MARK not in str(problem)


PUBLIC: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": ["{}"]}],
}


def test_a_public_bucket_is_read_unsigned(
    start: Start,
    passthrough: PassThrough,
    s3_config: S3ConfigFactory,
    open_s3: StoreFactory,
    bucket: str,
    ns: str,
) -> None:
    write_dataset(open_s3(bucket=bucket), ns, {"a": File(DATA)})
    config = s3_config(bucket=bucket)
    policy = json.dumps(PUBLIC).replace("{}", f"arn:aws:s3:::{bucket}/*").encode()
    signer = Signer(config, address_of(config))
    target = signer.address.target("", {"policy": ""})
    signed = signer.sign("PUT", target, {"Content-Type": "application/json"}, policy)
    put = requests.put(f"{config.endpoint}{target}", data=policy, headers=dict(signed.headers), timeout=60)
    assert put.status_code == 204
    reader = start(bucket=bucket, anonymous=True, **CHAIN)
    assert reader.read().content == DATA
    assert [each.status for each in passthrough.exchanges] == [200, 200, 206]
    assert all(each.request.get("authorization") is None for each in passthrough.exchanges)
