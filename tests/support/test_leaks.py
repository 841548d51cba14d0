"""Whoever looks for secrets finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.leaks import MARK, OUTPUTS, STORE_SECRET, Outputs

SIGNATURE = "0123456789abcdef" * 4
HEADER = f"AWS4-HMAC-SHA256 Credential=me/x, SignedHeaders=host, Signature={SIGNATURE}"


@pytest.mark.parametrize(
    "text",
    [MARK, f"key={STORE_SECRET}", HEADER, f"?X-Amz-Signature={SIGNATURE}", "proxy-authorization: Basic x"],
)
def test_what_is_said_is_looked_through_at_once_and_told_again_at_the_end(text: str) -> None:
    outputs = Outputs()
    outputs.said("s3.secret_access_key: ********, 0123456789abcdef", "a command")
    assert outputs.leaks() == []
    with pytest.raises(AssertionError, match="a command says what nobody may know"):
        outputs.said(f"one line\nand {text}".encode(), "a command")
    (leak,) = outputs.leaks()
    assert leak.startswith("a command: …one line\nand ")


def test_a_file_is_looked_through_at_the_end(tmp_path: Path) -> None:
    outputs = Outputs()
    outputs.kept(tmp_path / "log")
    outputs.kept(tmp_path / "gone")
    (tmp_path / "log").write_text(f"fine\nkey={MARK}\n")
    (leak,) = outputs.leaks()
    assert leak == f"{tmp_path / 'log'}: …key={MARK}…"


@pytest.mark.parametrize("is_sent_first", [False, True])
def test_a_signature_is_found_without_its_name(is_sent_first: bool) -> None:
    outputs = Outputs()
    if is_sent_first:
        outputs.sent(HEADER)
    outputs.said(f"hash {SIGNATURE}", "a command")
    if not is_sent_first:
        assert outputs.leaks() == []
        outputs.sent(HEADER)
    assert outputs.leaks() == ["a command: a signature"]


def test_a_hash_that_was_not_sent_is_none() -> None:
    outputs = Outputs()
    outputs.sent(None)
    outputs.sent("Basic abc")
    outputs.said(f"sha256:{SIGNATURE}", "a command")
    assert outputs.leaks() == []


def test_the_log_of_every_daemon_is_kept(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "daemon")
    assert daemon.log_path in OUTPUTS.files
