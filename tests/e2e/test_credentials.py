"""The daemon with credentials of a program: expired, not to be had for a while, not to be had at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from seekfs_io.objects.base import ObjectStore
from seekfs_io.seaweed import ACCESS_KEY
from tests.conftest import S3ConfigFactory
from tests.support.credentials import Program
from tests.support.daemon import Daemon, s3_settings
from tests.support.dataset import File, some_bytes, write_dataset
from tests.support.metrics import metric
from tests.support.passthrough import Answer, Exchange, PassThrough, Plan

SECRET = "SECRETTOKEN123"
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
        assert SECRET not in daemon.log


@pytest.fixture
def read(daemon: Daemon, store: ObjectStore, ns: str) -> Callable[[], requests.Response]:
    write_dataset(store, ns, {"a": File(DATA)})
    return lambda: requests.get(f"{daemon.url}/blob?ns={ns}&path=a", timeout=60)


def test_expired_credentials_fail_no_read(
    program: Program, daemon: Daemon, passthrough: PassThrough, read: Callable[[], requests.Response]
) -> None:
    def is_expired(exchange: Exchange) -> bool:
        if "Credential=old/" not in (exchange.request.get("authorization") or ""):
            return False
        program.says(ACCESS_KEY)
        return True

    program.says("old")
    passthrough.when(is_expired, Plan(answer=Answer.error(400, "ExpiredToken")))
    assert read().content == DATA
    statuses = [each.status for each in passthrough.exchanges]
    # HEAD of the namespace twice, its manifest, the file: every request is counted.
    assert statuses == [400, 200, 200, 206]
    assert program.runs == 2
    assert metric(daemon, "seekfs_store_requests_total", outcome="stale_signature") == 1


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
    program.says_text(SECRET)
    answer = read()
    assert (answer.status_code, answer.headers["Content-Type"]) == (502, "application/problem+json")
    assert "no credentials from the program of the AWS profile" in answer.json()["detail"]
    assert "what it says is not JSON" in answer.json()["detail"]
    assert SECRET not in answer.text
    assert "what it says is not JSON" in daemon.log
    assert passthrough.exchanges == []
    assert SECRET not in requests.get(f"{daemon.url}/metrics", timeout=60).text
