"""Every way in which the AWS credential chain fails: a sentence each, which names the source and the reason
and shows no secret."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from seekfs_core.errors import FailureKind
from seekfs_io.devserver import free_ports
from seekfs_io.seaweed import ACCESS_KEY
from tests.conftest import StoreFactory
from tests.support.command_line import Seekfs
from tests.support.leaks import MARK
from tests.support.objects import failure_of
from tests.support.passthrough import PassThrough

pytestmark = pytest.mark.usefixtures("aws_config")

PROCESS = "the program of the AWS profile (credential_process)"
ENVIRONMENT = "the environment (AWS_ACCESS_KEY_ID"
CONTAINER = "the container's endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI"
SETTINGS = "the AWS settings"
DENIED, UNREACHABLE = FailureKind.DENIED, FailureKind.UNREACHABLE


def answer(**fields: object) -> str:
    document = {"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": MARK, **fields}
    return "credential_process = " + " ".join(["/bin/echo", f"'{json.dumps(document)}'"])


def environment(**changes: str) -> Mapping[str, str]:
    return {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": MARK, **changes}


def container_at(url: str, **changes: str) -> Mapping[str, str]:
    return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, **changes}


NOBODY = f"http://127.0.0.1:{free_ports(1)[0]}/{MARK}"

LOOP = """role_arn = arn:aws:iam::1:role/x
source_profile = b
[profile b]
role_arn = arn:aws:iam::1:role/y
source_profile = c
[profile c]
role_arn = arn:aws:iam::1:role/z
source_profile = b
"""

FAILURES: dict[str, tuple[str, Mapping[str, str], FailureKind, str, str]] = {
    "no JSON": (f"credential_process = /bin/echo {MARK}", {}, DENIED, PROCESS, "is not JSON"),
    "deep JSON": (
        f"credential_process = {sys.executable} -c 'print(\"[\" * 200000)'",
        {},
        DENIED,
        PROCESS,
        "is not JSON",
    ),
    "a list": ("credential_process = /bin/echo []", {}, DENIED, PROCESS, "lacks a field"),
    "no version": ("credential_process = /bin/echo {}", {}, UNREACHABLE, PROCESS, "it failed"),
    "no keys": ("credential_process = /bin/echo '{\"Version\":1}'", {}, UNREACHABLE, PROCESS, "it failed"),
    "a number": (answer(AccessKeyId=5), {}, DENIED, PROCESS, "the access key is not visible ASCII"),
    "a bad end": (
        answer(Expiration=f"day {MARK}"),
        {},
        DENIED,
        PROCESS,
        "a value that cannot be used (Parser",
    ),
    "an end in the past": (
        answer(Expiration="2020-01-01T00:00:00Z"),
        {},
        DENIED,
        PROCESS,
        "has expired already",
    ),
    "a snowman": (answer(SessionToken="☃" + MARK), {}, DENIED, PROCESS, "the session token is not visible"),
    "a program that fails": (
        f"credential_process = sh -c 'echo {MARK} >&2; exit 1'",
        {},
        UNREACHABLE,
        PROCESS,
        "it failed",
    ),
    "bytes": (
        f"credential_process = sh -c 'printf \"\\\\377{MARK}\"'",
        {},
        DENIED,
        PROCESS,
        "letters that cannot be",
    ),
    "no such program": (
        "credential_process = /no/such/program",
        {},
        DENIED,
        PROCESS,
        "'/no/such/program': No such file or directory",
    ),
    "an open quote": (
        "credential_process = '",
        {},
        DENIED,
        PROCESS,
        "a value that cannot be used (ValueError)",
    ),
    "no such profile": ("", {"AWS_PROFILE": "nope"}, DENIED, SETTINGS, "profile (nope) could not be found"),
    "no such source profile": (
        "role_arn = arn:aws:iam::1:role/x\nsource_profile = nope",
        {},
        DENIED,
        "the role of",
        'source_profile "nope"',
    ),
    "a loop of profiles": (
        LOOP,
        {},
        DENIED,
        "the role of",
        "loop",
    ),
    "no such sign-on": (
        "sso_session = nope\nsso_account_id = 1\nsso_role_name = x",
        {},
        DENIED,
        "the single sign-on",
        "nope",
    ),
    "no web identity": (
        "",
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such", "AWS_ROLE_ARN": "x"},
        DENIED,
        "the web identity",
        "'/no/such': No such file",
    ),
    "a timeout that is none": ("", {"AWS_METADATA_SERVICE_TIMEOUT": "x"}, DENIED, SETTINGS, "(ValueError)"),
    "half of it": ("", {"AWS_ACCESS_KEY_ID": "id"}, DENIED, ENVIRONMENT, "missing: AWS_SECRET_ACCESS_KEY"),
    "an end that is none": (
        "",
        environment(AWS_CREDENTIAL_EXPIRATION=f"junk {MARK}"),
        DENIED,
        ENVIRONMENT,
        "cannot be used (Parser",
    ),
    "a snowman for a key": (
        "",
        environment(AWS_ACCESS_KEY_ID=f"☃{MARK}"),
        DENIED,
        ENVIRONMENT,
        "the access key is not visible ASCII",
    ),
    "lines in a key": (
        "",
        environment(AWS_ACCESS_KEY_ID=f"a\r\nX: {MARK}"),
        DENIED,
        ENVIRONMENT,
        "the access key is not",
    ),
    "a snowman for a secret": (
        "",
        environment(AWS_SECRET_ACCESS_KEY=f"☃{MARK}"),
        DENIED,
        ENVIRONMENT,
        "the secret key is not visible",
    ),
    "no letters for a secret": (
        "",
        environment(AWS_SECRET_ACCESS_KEY=f"\udcff{MARK}"),
        DENIED,
        ENVIRONMENT,
        "the secret key is not",
    ),
    "a line end in a token": (
        "",
        environment(AWS_SESSION_TOKEN=f"{MARK}\n"),
        DENIED,
        ENVIRONMENT,
        "the session token is not visible",
    ),
    "another host": (
        "",
        container_at(f"http://example.com/{MARK}"),
        DENIED,
        CONTAINER,
        "cannot be used (ValueError)",
    ),
    "no URL": ("", container_at(MARK), DENIED, CONTAINER, "cannot be used (ValueError)"),
    "a line end in the container's token": (
        "",
        container_at(NOBODY, AWS_CONTAINER_AUTHORIZATION_TOKEN=f"{MARK}\n"),
        DENIED,
        CONTAINER,
        "cannot be used (ValueError)",
    ),
    "a snowman in the container's token": (
        "",
        container_at(NOBODY, AWS_CONTAINER_AUTHORIZATION_TOKEN=f"☃{MARK}"),
        DENIED,
        CONTAINER,
        "letters that cannot be",
    ),
    "no file of the container's token": (
        "",
        container_at(NOBODY, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="/no/such"),
        DENIED,
        CONTAINER,
        "'/no/such': No such file",
    ),
    "nobody at the container's endpoint": (
        "",
        container_at(NOBODY, AWS_CONTAINER_AUTHORIZATION_TOKEN=MARK),
        UNREACHABLE,
        CONTAINER,
        "it failed or cannot be reached (Connection refused)",
    ),
    "nothing at all": ("", {}, DENIED, "neither s3.access_key_id is configured", "s3.anonymous = true"),
}


@pytest.fixture(params=FAILURES)
def failing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, aws_config: Path
) -> tuple[FailureKind, str, str]:
    """Set up wrongly: the failure's kind, the source and the reason that it names."""
    config, variables, kind, source, why = FAILURES[request.param]
    aws_config.write_text(f"[default]\n{config}\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return kind, source, why


def test_a_chain_that_fails_is_a_sentence_without_a_secret(
    open_s3: StoreFactory,
    passthrough: PassThrough,
    failing: tuple[FailureKind, str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    kind, source, why = failing
    store = open_s3(endpoint=passthrough.endpoint, access_key_id=None, secret_access_key=None)
    failure = failure_of(lambda: store.get("a"))
    assert (failure.kind, failure.status) == (kind, None)
    for words in ("credentials", source, why):
        assert words in failure.detail
    assert failure.detail.isprintable()
    assert passthrough.exchanges == []
    for text in (str(failure), repr(store), caplog.text):
        assert MARK not in text


SHORT_LIVED = """
import json, pathlib, sys
from datetime import UTC, datetime, timedelta
if not pathlib.Path(sys.argv[1]).exists():
    pathlib.Path(sys.argv[1]).touch()
    end = datetime.now(UTC) + timedelta(minutes=5)
    print(json.dumps({"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "SECRETTOKEN123",
                      "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}))
else:
    sys.exit("SECRETTOKEN123")
"""


def test_what_a_program_says_when_it_fails_is_not_logged(
    open_s3: StoreFactory, tmp_path: Path, aws_config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """botocore renews what ends soon by itself, and has a traceback for the log if that fails."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "program.py").write_text(SHORT_LIVED)
    aws_config.write_text(
        f"[default]\ncredential_process = {sys.executable} {tmp_path / 'program.py'} {tmp_path / 'ran'}\n"
    )
    store = open_s3(access_key_id=None, secret_access_key=None)
    failure = failure_of(lambda: store.get("a"))
    assert failure.kind is UNREACHABLE
    assert MARK not in str(failure) + caplog.text


# --- on the command line ------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["no JSON", "a snowman for a key", "a line end in the container's token"])
def test_a_command_ends_with_a_sentence(
    what: str,
    passthrough: PassThrough,
    tmp_path: Path,
    aws_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    config, variables, _, source, why = FAILURES[what]
    aws_config.write_text(f"[default]\n{config}\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "seekfs.toml").write_text(f'[s3]\nendpoint = "{passthrough.endpoint}"\n')
    ran = Seekfs(capfdbinary)("manifest", "ls", "dev", "--config", str(tmp_path / "seekfs.toml"))
    assert ran.status == 1
    assert ran.out == b""
    assert source in ran.err
    assert why in ran.err
    assert MARK not in ran.err
