"""The ``sdk`` engine against a store that misbehaves, and how it connects."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seekfs_core.errors import FailureKind
from seekfs_io.config import ConfigError, S3Config
from seekfs_io.devserver import DevServer, free_ports
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.sdk import SdkStore, open_sdk_store
from tests.conftest import S3ConfigFactory, StoreFactory
from tests.support.daemon import REPOSITORY
from tests.support.leaks import MARK, STORE_SECRET
from tests.support.objects import drain, failure_of, listed
from tests.support.passthrough import Answer, Head, Match, PassThrough, Plan

MIB = 1 << 20
TLS = Path(__file__).parents[1] / "support" / "tls"


@pytest.fixture
def through(passthrough: PassThrough, open_s3: StoreFactory) -> ObjectStore:
    return open_s3(endpoint=passthrough.endpoint, read_timeout_sec=30)


@pytest.fixture
def key(store: ObjectStore, ns: str) -> str:
    store.put(f"{ns}/a", bytes(range(256)) * 8192)
    return f"{ns}/a"


# --- answers that are wrong -------------------------------------------------------------------


def head_with(name: str, value: str) -> Callable[[Head], Head]:
    return lambda head: head.with_header(name, value)


WRONG_HEADS: list[tuple[str, Callable[[Head], Head]]] = [
    ("another range", head_with("Content-Range", "bytes 11-20/2097152")),
    ("a longer range", head_with("Content-Range", "bytes 10-20/2097152")),
    ("a range past the end", head_with("Content-Range", "bytes 10-19/15")),
    ("an unknown size", head_with("Content-Range", "bytes 10-19/*")),
    ("no range", lambda head: head.without("Content-Range")),
    ("another length", head_with("Content-Length", "9")),
    ("no length", lambda head: head.without("Content-Length")),
    ("a chunked body", head_with("Transfer-Encoding", "chunked")),
]


@pytest.mark.parametrize(("what", "change"), WRONG_HEADS, ids=[what for what, _ in WRONG_HEADS])
def test_a_range_is_taken_only_if_it_is_the_one_asked_for(
    passthrough: PassThrough, through: ObjectStore, key: str, what: str, change: Callable[[Head], Head]
) -> None:
    passthrough.when(Match(), Plan(change_head=change), times=1)
    assert failure_of(lambda: through.get(key, start=10, stop=20)).kind is FailureKind.BAD_ANSWER
    assert len(drain(through, key, start=10, stop=20)) == 10
    assert len(passthrough.exchanges) == 2


@pytest.mark.parametrize("status", [200, 203, 204])
def test_another_status_for_a_range_is_refused(
    passthrough: PassThrough, through: ObjectStore, key: str, status: int
) -> None:
    headers = {"Content-Range": "bytes 10-19/2097152", "Content-Length": "0" if status == 204 else "10"}
    answer = Answer(status=status, headers=headers, body=b"" if status == 204 else b"x" * 10)
    passthrough.when(Match(), Plan(answer=answer))
    failure = failure_of(lambda: through.get(key, start=10, stop=20))
    assert (failure.kind, failure.status) == (FailureKind.BAD_ANSWER, status)


def test_a_store_that_ignores_if_match_is_found_out(
    passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    answer = Answer(status=200, headers={"ETag": '"other"'}, body=b"x")
    passthrough.when(Match(), Plan(answer=answer))
    assert failure_of(lambda: through.get(key, if_match='"mine"')).kind is FailureKind.PRECONDITION


def test_an_encoded_body_is_not_decoded(passthrough: PassThrough, through: ObjectStore) -> None:
    answer = Answer(status=200, headers={"Content-Encoding": "gzip", "ETag": '"x"'}, body=b"not gzip")
    passthrough.when(Match(), Plan(answer=answer))
    assert drain(through, "a") == b"not gzip"
    assert passthrough.exchanges[0].request.get("accept-encoding") == "identity"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(
    passthrough: PassThrough, through: ObjectStore, seaweed: DevServer, key: str, status: int
) -> None:
    headers = {"Location": f"{seaweed.endpoint}/{seaweed.bucket}/{key}"}
    passthrough.when(Match(), Plan(answer=Answer(status=status, headers=headers)), times=1)
    assert failure_of(lambda: through.get(key)).kind is FailureKind.REDIRECTED
    assert len(passthrough.exchanges) == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_nothing_is_tried_again(
    passthrough: PassThrough, through: ObjectStore, key: str, status: int
) -> None:
    passthrough.when(Match(), Plan(answer=Answer.error(status, "SlowDown", Retry_After="3")))
    for call in (lambda: through.get(key), lambda: through.put(key, b"1"), lambda: listed(through)):
        failure = failure_of(call)
        assert (failure.kind, failure.code, failure.retry_after_seconds) == (
            FailureKind.BUSY,
            "SlowDown",
            3.0,
        )
    assert len(passthrough.exchanges) == 3


def test_a_huge_error_document_is_not_read(passthrough: PassThrough, through: ObjectStore) -> None:
    body = b"<Error><Code>X</Code><Message>" + b"x" * (64 * MIB) + b"</Message></Error>"
    passthrough.when(Match(), Plan(answer=Answer(status=500, body=body)))
    failure = failure_of(lambda: through.get("a"))
    assert (failure.kind, failure.code) == (FailureKind.BUSY, None)
    passthrough.wait_until(lambda: passthrough.exchanges[0].outcome == "client left")


def test_a_huge_listing_is_refused(passthrough: PassThrough, through: ObjectStore) -> None:
    passthrough.when(Match(), Plan(answer=Answer(status=200, body=b" " * (17 * MIB))))
    assert failure_of(lambda: listed(through)).kind is FailureKind.BAD_ANSWER


def listing(inner: str) -> Answer:
    return Answer(status=200, body=f"<ListBucketResult>{inner}</ListBucketResult>".encode())


CONTENTS = "<Contents><Key>p/{}</Key><Size>1</Size></Contents>"
MORE = "<IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>"


def test_a_page_of_a_listing_is_one_request(passthrough: PassThrough, through: ObjectStore) -> None:
    """Whatever it says: that it is of another prefix, or does not go on, is for the core to find."""
    passthrough.when(Match(), Plan(answer=listing(CONTENTS.format("a") + MORE)))
    page = through.list_page("q/", "same")
    assert ([each.key for each in page.objects], page.next_token) == (["p/a"], "same")
    (asked,) = passthrough.exchanges
    assert (asked.query["prefix"], asked.query["continuation-token"]) == ("q/", "same")


@pytest.mark.parametrize("padding", [b"", b"  \r\n" * 1000])
def test_a_completed_upload_that_failed(
    passthrough: PassThrough, through: ObjectStore, padding: bytes
) -> None:
    body = (
        padding
        + b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>we failed</Message></Error>"
    )
    passthrough.when(Match(), Plan(answer=Answer(status=200, body=body)))
    failure = failure_of(lambda: through.complete_upload("a", "u", ['"x"']))
    assert (failure.kind, failure.status, failure.code) == (FailureKind.BUSY, 200, "InternalError")


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"<Other/>", b'<?xml version="1.0" encoding="gbk"?><CompleteMultipartUploadResult/>']
)
def test_a_completed_upload_with_no_answer(
    passthrough: PassThrough, through: ObjectStore, body: bytes
) -> None:
    passthrough.when(Match(), Plan(answer=Answer(status=200, body=body)))
    assert failure_of(lambda: through.complete_upload("a", "u", ['"x"'])).kind is FailureKind.BAD_ANSWER


def test_the_etag_of_an_upload_is_believed_where_it_can_be_sent_back(
    passthrough: PassThrough, through: ObjectStore
) -> None:
    """A manifest with any other would be one that no node takes."""
    name, found = "CompleteMultipartUploadResult", []
    for etag in ('"right"', '"wr\N{SNOWMAN}ng"', ""):
        body = f"<{name}><ETag>{etag}</ETag></{name}>".encode()
        passthrough.when(Match(), Plan(answer=Answer(status=200, body=body)), times=1)
        found.append(through.complete_upload("a", "u", ['"x"']))
    assert found == ['"right"', None, None]


def test_a_part_without_an_etag_is_refused(passthrough: PassThrough, through: ObjectStore) -> None:
    passthrough.when(Match(), Plan(answer=Answer(status=200)))
    assert failure_of(lambda: through.upload_part("a", "u", 1, b"x")).kind is FailureKind.BAD_ANSWER


def test_a_bucket_of_somebody_else(passthrough: PassThrough, open_s3: StoreFactory) -> None:
    store = open_s3(endpoint=passthrough.endpoint, bucket="theirs", region="eu-west-1")
    passthrough.when(Match(method="HEAD"), Plan(answer=Answer(status=404)))
    passthrough.when(Match(method="PUT"), Plan(answer=Answer.error(409, "BucketAlreadyOwnedByYou")), times=1)
    passthrough.when(Match(method="PUT"), Plan(answer=Answer.error(409, "BucketAlreadyExists")), times=1)
    assert store.create_bucket() is False
    failure = failure_of(store.create_bucket)
    assert (failure.kind, failure.code) == (FailureKind.BAD_ANSWER, "BucketAlreadyExists")
    assert passthrough.select("PUT")[0].body_bytes_received > 0


# --- connections ------------------------------------------------------------------------------


def test_bodies_that_end_early(passthrough: PassThrough, through: ObjectStore, key: str) -> None:
    for cut in (0, 1, MIB, 2 * MIB - 1):
        passthrough.forget()
        passthrough.when(Match(), Plan(cut_body_at=cut))
        failure = failure_of(lambda: drain(through, key))
        assert failure.kind is FailureKind.CUT_SHORT
        assert "of 2097152 bytes" in failure.detail


def test_a_store_that_falls_silent(passthrough: PassThrough, open_s3: StoreFactory, key: str) -> None:
    store = open_s3(endpoint=passthrough.endpoint, read_timeout_sec=0.2)
    never = threading.Event()
    passthrough.when(Match(), Plan(hold_request=never), times=1)
    passthrough.when(Match(), Plan(hold_head=never), times=1)
    passthrough.when(Match(), Plan(hold_body=((MIB, never),)), times=1)
    for _ in range(3):
        assert failure_of(lambda: drain(store, key)).kind is FailureKind.TIMED_OUT
    never.set()


def test_a_store_that_does_not_accept_in_time(open_s3: StoreFactory) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        # Connections that nobody accepts fill its queue; later ones hang.
        waiting = []
        for _ in range(2):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        store = open_s3(endpoint=f"http://127.0.0.1:{port}", connect_timeout_sec=0.2, read_timeout_sec=0.2)
        failure = failure_of(lambda: store.head("a"))
        # Not reached, which is a 503; a store that was reached and says nothing is a 504.
        assert failure.kind is FailureKind.UNREACHABLE
        assert "did not accept a connection in time" in failure.detail
        for client in waiting:
            client.close()


def test_a_store_that_is_not_there(open_s3: StoreFactory) -> None:
    port = free_ports(1)[0]
    failure = failure_of(lambda: open_s3(endpoint=f"http://127.0.0.1:{port}").get("a"))
    assert failure.kind is FailureKind.UNREACHABLE
    assert failure.detail == "GET: the store cannot be connected to (Connection refused)"


def test_a_name_that_nobody_knows(open_s3: StoreFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # The one part of a network that a test cannot have: a resolver's answer.
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    failure = failure_of(lambda: open_s3(endpoint="http://store.invalid:9000").get("a"))
    assert failure.kind is FailureKind.UNREACHABLE
    assert "name is not known" in failure.detail


@pytest.mark.parametrize("what", ["request", "answer"])
def test_a_connection_that_breaks(
    passthrough: PassThrough, through: ObjectStore, key: str, what: Any
) -> None:
    passthrough.when(Match(), Plan(drop=what))
    for call in (lambda: through.get(key), lambda: through.head(key), lambda: through.put(f"{key}2", b"1")):
        assert failure_of(call).kind is FailureKind.UNREACHABLE


def test_what_is_no_http(open_s3: StoreFactory) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        store = open_s3(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert failure_of(lambda: store.get("a")).kind is FailureKind.UNREACHABLE
        thread.join()


def test_connections_are_used_again_unless_left_in_the_middle(
    passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    for _ in range(3):
        drain(through, key)
        through.head(key)
        failure_of(lambda: through.get("missing"))
        failure_of(lambda: through.head("missing"))
        listed(through, key)
        through.put(f"{key}2", b"")
        drain(through, f"{key}2")
    assert passthrough.connections_made == 1
    with through.get(key) as reader:
        reader.readinto(memoryview(bytearray(10)))
    drain(through, key)
    assert passthrough.connections_made == 2


def test_a_remainder_that_is_still_to_come_is_nobodys_answer(
    passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    gate = threading.Event()
    passthrough.when(Match(), Plan(hold_body=((10, gate),)), times=1)
    with through.get(key, start=0, stop=MIB) as reader:
        assert reader.readinto(memoryview(bytearray(10))) == 10
    # Nothing is waiting on that connection, so that it looks like a good one.
    assert through.head(key).size == 2 * MIB
    gate.set()
    assert passthrough.connections_made == 2


def test_a_connection_that_the_store_has_closed_is_opened_anew(
    passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    drain(through, key)
    passthrough.down()
    passthrough.up()
    drain(through, key)


FORK = """
import os, sys
from seekfs_io.config import S3Config
from seekfs_io.objects import open_store
store = open_store(S3Config(endpoint=sys.argv[1], bucket=sys.argv[2], access_key_id="minioadmin",
                            secret_access_key=sys.argv[4]))
def read():
    with store.get(sys.argv[3], start=0, stop=1000) as reader:
        assert reader.readinto(memoryview(bytearray(1000))) == 1000
read()
for _ in range(4):
    child = os.fork()
    if child == 0:
        for _ in range(5):
            read()
        os._exit(0)
    read()
    assert os.waitpid(child, 0)[1] == 0
store.close()
"""


def test_a_forked_child_has_connections_of_its_own(
    passthrough: PassThrough, seaweed: DevServer, key: str
) -> None:
    arguments = [passthrough.endpoint, seaweed.bucket, key, STORE_SECRET]
    subprocess.run([sys.executable, "-c", FORK, *arguments], check=True, timeout=60, cwd=REPOSITORY)
    assert passthrough.connections_made == 5
    assert {each.status for each in passthrough.exchanges} == {206}
    assert len(passthrough.exchanges) == 1 + 4 * 6


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"secret_access_key": "wrong-secret"}, "SignatureDoesNotMatch"),
        ({"access_key_id": "nobody"}, "InvalidAccessKeyId"),
        ({"anonymous": True, "access_key_id": None, "secret_access_key": None}, "AccessDenied"),
    ],
)
def test_a_store_that_says_no(open_s3: StoreFactory, key: str, changes: dict[str, object], code: str) -> None:
    failure = failure_of(lambda: open_s3(**changes).get(key))
    assert (failure.kind, failure.status, failure.code) == (FailureKind.DENIED, 403, code)


# --- TLS and proxies --------------------------------------------------------------------------


@pytest.fixture
def tls_front(seaweed: DevServer) -> Iterator[PassThrough]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem")
    with PassThrough("127.0.0.1", seaweed.s3_port, tls=context) as front:
        yield front


def test_a_certificate_of_a_private_authority(
    tls_front: PassThrough, open_s3: StoreFactory, key: str
) -> None:
    trusted = open_s3(endpoint=tls_front.endpoint, ca_bundle=str(TLS / "ca.pem"))
    assert len(drain(trusted, key)) == 2 * MIB
    assert len(drain(trusted, key, start=1, stop=MIB)) == MIB - 1
    assert tls_front.connections_made == 1
    failure = failure_of(lambda: open_s3(endpoint=tls_front.endpoint).get(key))
    assert failure.kind is FailureKind.UNREACHABLE
    assert "TLS" in failure.detail
    assert "certificate" in failure.detail


def test_a_certificate_that_is_not_checked_is_warned_about_once(
    tls_front: PassThrough, open_s3: StoreFactory, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_s3(endpoint=tls_front.endpoint, verify=False)
    for _ in range(3):
        assert len(drain(store, key)) == 2 * MIB
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["s3.verify is false: the certificate of the store is not checked"]


def test_tls_to_a_store_without_it(seaweed: DevServer, open_s3: StoreFactory) -> None:
    endpoint = seaweed.endpoint.replace("http:", "https:")
    assert failure_of(lambda: open_s3(endpoint=endpoint).get("a")).kind is FailureKind.UNREACHABLE


def test_a_bundle_without_certificates(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    with pytest.raises(ConfigError, match=r"s3\.ca_bundle: .*holds no certificates"):
        open_store(S3Config(ca_bundle=str(tmp_path / "empty.pem")))


def test_a_proxy(passthrough: PassThrough, seaweed: DevServer, open_s3: StoreFactory, key: str) -> None:
    # The pass-through is a proxy to this one server, which takes whole URLs as targets.
    proxy = passthrough.endpoint.replace("http://", "http://user:pass%40w%C3%B6rd%E2%98%83@")
    store = open_s3(proxy=proxy)
    assert len(drain(store, key)) == 2 * MIB
    assert drain(store, key, start=0, stop=10) == bytes(range(10))
    assert [each.target for each in passthrough.exchanges] == [
        f"{seaweed.endpoint}/{seaweed.bucket}/{key}"
    ] * 2
    sent = passthrough.exchanges[0].request.get("proxy-authorization") or ""
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == "user:pass@wörd☃"
    assert passthrough.connections_made == 1


def tunnel(listener: socket.socket, seen: list[bytes]) -> None:
    """A proxy for one CONNECT."""
    client, _ = listener.accept()
    with client:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        seen.append(head)
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")

            def copy(source: socket.socket, sink: socket.socket) -> None:
                # Either side may reset when it has all it wants.
                with contextlib.suppress(OSError):
                    while data := source.recv(65536):
                        sink.sendall(data)
                    sink.shutdown(socket.SHUT_WR)

            back = threading.Thread(target=copy, args=(upstream, client))
            back.start()
            copy(client, upstream)
            back.join()


def test_tls_through_a_proxy(tls_front: PassThrough, s3_config: S3ConfigFactory, key: str) -> None:
    seen: list[bytes] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=tunnel, args=(listener, seen))
        thread.start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        changes = {"endpoint": tls_front.endpoint, "ca_bundle": str(TLS / "ca.pem"), "proxy": proxy}
        store = open_sdk_store(s3_config(**changes))
        assert drain(store, key, start=0, stop=10) == bytes(range(10))
        store.close()
        thread.join()
    assert seen[0].startswith(f"CONNECT 127.0.0.1:{tls_front.port} HTTP/1.".encode())


def test_a_proxy_that_is_not_there(open_s3: StoreFactory) -> None:
    proxy = f"http://someone:{MARK}@127.0.0.1:{free_ports(1)[0]}"
    failure = failure_of(lambda: open_s3(proxy=proxy).get("a"))
    assert failure.kind is FailureKind.UNREACHABLE
    assert failure.detail == "GET: the proxy cannot be connected to (Connection refused)"


# --- engines ----------------------------------------------------------------------------------


def test_open_store() -> None:
    store = open_store(S3Config(endpoint="http://localhost:9000"))
    assert isinstance(store, SdkStore)
    with pytest.raises(ConfigError, match=r"s3.engine: .*seekfs\[crt\]"):
        open_store(S3Config(engine="crt"))
