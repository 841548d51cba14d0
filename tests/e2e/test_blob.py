"""``/blob`` against the contract, sentence by sentence, on a real store under real gunicorn (issue row 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from random import Random
from typing import Final
from urllib.parse import quote

import pytest

from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.e2e.conftest import DaemonFactory
from tests.e2e.http_wire import Answer, Wire, exchange
from tests.support.daemon import Daemon, s3_settings
from tests.support.dataset import MIB, File, some_bytes, write_dataset
from tests.support.passthrough import PassThrough

PAGE: Final = 64 * 1024
SIZE: Final = 3 * MIB + 1234
NAMES: Final = (
    "a b",
    "a+b",
    "100%",
    "a%20b",
    "☃/é",
    "q?x=1&y=2#z",
    "~tilde-._!*'()",
    "x" * 1024,
    "日本/" * 100 + "本",
)

FILES: Final = {
    "file": File(some_bytes(SIZE), PAGE),
    "ten": File(b"0123456789", PAGE),
    "empty": File(b""),
    "two": File(some_bytes(20 * MIB, 2), 8 * MIB),
    **{name: File(name.encode(), PAGE, key=f"odd/{number}") for number, name in enumerate(NAMES)},
}
DATA: Final = FILES["file"].data
ETAG: Final = f'"sha256:{hashlib.sha256(DATA).hexdigest()}"'
YEAR: Final = "max-age=31536000, immutable"
NS: Final = "blob"
TARGET: Final = f"/blob?ns={NS}&path=file"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, s3_config: S3ConfigFactory) -> Iterator[Daemon]:
    bucket = "blob-contract"
    store = open_store(s3_config(bucket=bucket))
    assert store.create_bucket()
    write_dataset(store, NS, {"file": File(some_bytes(100, 9), key="old/file")}, version=1)
    write_dataset(store, NS, FILES, version=2)
    store.close()
    with Daemon(tmp_path_factory.mktemp("blob"), s3_settings(s3_config(bucket=bucket))) as running:
        yield running


@pytest.fixture
def wire(daemon: Daemon) -> Iterator[Wire]:
    """A connection that must be in step at the end of the test too."""
    with Wire(daemon.port) as wire:
        yield wire
        assert wire.get("/healthz").body == b"ok"


def check_whole(answer: Answer, data: bytes, etag: str = ETAG, caching: str = "no-cache") -> None:
    assert answer.status == 200
    assert answer.body == data
    assert answer.headers["etag"] == etag
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"] == caching
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-seekfs-version"]
    assert "content-range" not in answer.headers
    assert "transfer-encoding" not in answer.headers
    assert "x-seekfs-stale" not in answer.headers


def check_part(answer: Answer, start: int, stop: int, whole: bytes = DATA) -> None:
    assert answer.status == 206
    assert answer.body == whole[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["etag"] == ETAG
    assert answer.headers["x-seekfs-version"] == "2"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["cache-control"] == "no-cache"


def check_416(answer: Answer, size: int) -> None:
    document = answer.problem(416, "range-not-satisfiable")
    assert document["size"] == size
    assert answer.headers["content-range"] == f"bytes */{size}"
    assert answer.headers["etag"] == ETAG
    assert answer.headers["x-seekfs-version"] == "2"


# -- parameters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_the_query_is_decoded_once_as_utf8(wire: Wire, name: str) -> None:
    assert wire.get(f"/blob?ns={NS}&path={quote(name, safe='')}").body == name.encode()
    assert wire.get(f"/blob?path={quote(name, safe='/').replace('%20', '+')}&ns={NS}").body == name.encode()


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (f"ns={NS}&path=%", "path"),
        (f"ns={NS}&path=a%4", "path"),
        (f"ns={NS}&path=%zz", "path"),
        (f"ns={NS}&path=%ff", "path"),
        (f"ns={NS}&path=%ed%a0%80", "path"),
        (f"ns={NS}&path=file&offset=0", "offset"),
        (f"ns={NS}&path=file&ns={NS}", "ns"),
        (f"ns={NS}&path=file&off=1&%6Fff=1", "off"),
        (f"ns={NS}", "path"),
        ("path=file", "ns"),
        (f"ns={NS}&path=file&off=", "off"),
        (f"ns={NS}&path=file&off=-1", "off"),
        (f"ns={NS}&path=file&off=+1", "off"),
        (f"ns={NS}&path=file&off=1.0", "off"),
        (f"ns={NS}&path=file&len=0x1", "len"),
        (f"ns={NS}&path=file&len=%D9%A3", "len"),
        (f"ns={NS}&path=file&len=9223372036854775808", "len"),
        (f"ns={NS}&path=file&len=00000000000000000001", "len"),
        (f"ns={NS}&path=file&version=two", "version"),
        (f"ns={NS}&path=file&hash=abc", "hash"),
    ],
)
def test_a_malformed_query_is_400_naming_the_parameter(wire: Wire, query: str, named: str) -> None:
    document = wire.get(f"/blob?{query}").problem(400, "bad-request")
    assert document["parameter"] == named
    assert named in document["detail"]


@pytest.mark.parametrize(
    "path", ["", "/file", "file/", "a//b", ".", "a/../b", "./file", "a%00b", "a%0Ab", "x" * 1025]
)
def test_a_path_that_cannot_be_one_is_400(wire: Wire, path: str) -> None:
    assert wire.get(f"/blob?ns={NS}&path={path}").problem(400, "invalid-name")["parameter"] == "path"


@pytest.mark.parametrize("ns", ["", "Blob", "-a", "a/b", "a" * 64, "a%20b", "%E2%98%83"])
def test_a_namespace_that_cannot_be_one_is_400(wire: Wire, ns: str) -> None:
    assert wire.get(f"/blob?ns={ns}&path=file").problem(400, "invalid-name")["parameter"] == "namespace"


def test_the_largest_numbers(wire: Wire) -> None:
    check_whole(wire.get(f"{TARGET}&len=9223372036854775807"), DATA)
    check_416(wire.get(f"{TARGET}&off=9223372036854775807"), SIZE)


# -- off and len choose the representation -----------------------------------------------------------------


def test_the_whole_file(wire: Wire) -> None:
    check_whole(wire.get(TARGET), DATA)


@pytest.mark.parametrize(
    ("off", "length", "start", "stop"),
    [
        (0, None, 0, SIZE),
        (None, 10, 0, 10),
        (None, 0, 0, 0),
        (5, None, 5, SIZE),
        (PAGE - 1, 2, PAGE - 1, PAGE + 1),
        (PAGE, PAGE, PAGE, 2 * PAGE),
        (7, 2 * MIB, 7, 2 * MIB + 7),
        # Past the end it is cut, at the end it is empty.
        (SIZE - 1, 100, SIZE - 1, SIZE),
        (SIZE - 100, 100, SIZE - 100, SIZE),
        (SIZE, None, SIZE, SIZE),
        (SIZE, 10, SIZE, SIZE),
        (SIZE, 0, SIZE, SIZE),
    ],
)
def test_off_and_len(wire: Wire, off: int | None, length: int | None, start: int, stop: int) -> None:
    query = ("" if off is None else f"&off={off}") + ("" if length is None else f"&len={length}")
    check_whole(wire.get(TARGET + query), DATA[start:stop])
    headed = wire.head(TARGET + query)
    assert headed.status == 200
    assert headed.headers["content-length"] == str(stop - start)


def test_off_past_the_end_is_416(wire: Wire) -> None:
    check_416(wire.get(f"{TARGET}&off={SIZE + 1}"), SIZE)
    check_416(wire.get(f"{TARGET}&off={SIZE + 1}&len=0"), SIZE)
    headed = wire.head(f"{TARGET}&off={SIZE + 1}")
    assert (headed.status, headed.body) == (416, b"")
    assert headed.headers["content-range"] == f"bytes */{SIZE}"


def test_an_empty_file(wire: Wire) -> None:
    etag = f'"sha256:{hashlib.sha256(b"").hexdigest()}"'
    check_whole(wire.get(f"/blob?ns={NS}&path=empty"), b"", etag)
    assert wire.get(f"/blob?ns={NS}&path=empty&off=1").headers["content-range"] == "bytes */0"


def test_any_range_of_a_file_with_large_pages(wire: Wire) -> None:
    data = FILES["two"].data
    chance = Random(7)
    for _ in range(40):
        off = chance.choice([0, 8 * MIB - 1, 8 * MIB, 16 * MIB + 1, chance.randrange(len(data))])
        length = chance.choice([1, 2, 4096, 700_000, 8 * MIB, 9 * MIB + 3, 30 * MIB])
        assert wire.get(f"/blob?ns={NS}&path=two&off={off}&len={length}").body == data[off : off + length]


# -- Range ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=10-19", 10, 20),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes=0-{SIZE + 1000}", 0, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        (f"bytes=-{SIZE}", 0, SIZE),
        # A suffix longer than the file is all of it.
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        ("bytes=-99999999999999999999999999", 0, SIZE),
        ("Bytes=1-2", 1, 3),
        (f"bytes={PAGE - 1}-{2 * PAGE}", PAGE - 1, 2 * PAGE + 1),
    ],
)
def test_a_range_is_206(wire: Wire, header: str, start: int, stop: int) -> None:
    check_part(wire.get(TARGET, Range=header), start, stop)


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
def test_a_range_that_begins_at_or_past_the_end_is_416(wire: Wire, header: str) -> None:
    check_416(wire.get(TARGET, Range=header), SIZE)


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-1,5-6",
        "bytes=0-0,-1",
        "items=0-1",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=",
        "bytes=-",
        "bytes 0-1",
        "x",
    ],
)
def test_several_ranges_another_unit_and_malformed_ones_are_ignored(wire: Wire, header: str) -> None:
    check_whole(wire.get(TARGET, Range=header), DATA)


def test_a_range_applies_inside_off_and_len_and_counts_from_off(wire: Wire) -> None:
    inside = DATA[1000:1100]
    check_part(wire.get(f"{TARGET}&off=1000&len=100", Range="bytes=10-19"), 10, 20, inside)
    check_part(wire.get(f"{TARGET}&off=1000&len=100", Range="bytes=90-500"), 90, 100, inside)
    check_part(wire.get(f"{TARGET}&off=1000&len=100", Range="bytes=-5"), 95, 100, inside)
    check_part(wire.get(f"{TARGET}&off=1000&len=100", Range="bytes=-500"), 0, 100, inside)
    check_416(wire.get(f"{TARGET}&off=1000&len=100", Range="bytes=100-"), 100)
    check_416(wire.get(f"{TARGET}&off={SIZE}", Range="bytes=0-"), 0)


# -- conditions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("tags", [ETAG, f'"other", {ETAG}', "*"])
def test_if_match_that_holds(wire: Wire, method: str, tags: str) -> None:
    assert wire.ask(method, TARGET, If_Match=tags).status == 200


@pytest.mark.parametrize("tags", ['"other"', f"W/{ETAG}", ETAG.strip('"'), '"other", "another"'])
def test_if_match_that_does_not_hold_is_412(wire: Wire, tags: str) -> None:
    wire.get(TARGET, If_Match=tags).problem(412, "precondition-failed")
    assert wire.head(TARGET, If_Match=tags).status == 412


@pytest.mark.parametrize("tags", [ETAG, f"W/{ETAG}", f'"other", W/{ETAG}', "*"])
def test_if_none_match_that_matches_is_304(wire: Wire, tags: str) -> None:
    for method in ("GET", "HEAD"):
        answer = wire.ask(method, TARGET, If_None_Match=tags)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == ETAG
        assert answer.headers["x-seekfs-version"] == "2"
        assert "content-type" not in answer.headers
        assert "content-length" not in answer.headers


def test_if_none_match_that_does_not_match(wire: Wire) -> None:
    check_whole(wire.get(TARGET, If_None_Match='"other", W/"another"'), DATA)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (ETAG, True),
        (f"W/{ETAG}", False),
        ('"other"', False),
        ("Sat, 21 Nov 2026 10:00:00 GMT", False),
        ("*", False),
    ],
)
def test_if_range_compares_strongly(wire: Wire, condition: str, holds: bool) -> None:
    answer = wire.get(TARGET, Range="bytes=3-4", If_Range=condition)
    if holds:
        check_part(answer, 3, 5)
    else:
        check_whole(answer, DATA)


def test_if_range_without_range_means_nothing(wire: Wire) -> None:
    check_whole(wire.get(TARGET, If_Range=ETAG), DATA)


def test_the_order_400_404_412_304_range(wire: Wire) -> None:
    conditions = {"If_Match": '"other"', "If_None_Match": ETAG, "Range": f"bytes={SIZE}-"}
    assert wire.get(f"/blob?ns={NS}&path=none&off=x", **conditions).status == 400
    assert wire.get(f"/blob?ns={NS}&path=none", **conditions).status == 404
    assert wire.get(TARGET, **conditions).status == 412
    del conditions["If_Match"]
    assert wire.get(TARGET, **conditions).status == 304
    del conditions["If_None_Match"]
    assert wire.get(TARGET, **conditions).status == 416


# -- HEAD ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["", "&off=7", "&off=7&len=9", f"&off={SIZE}", "&version=1", f"&hash={ETAG[1:-1]}"]
)
def test_head_answers_as_get_does(wire: Wire, query: str) -> None:
    got, headed = wire.get(TARGET + query), wire.head(TARGET + query)
    assert (headed.status, headed.body) == (got.status, b"")
    for name in (
        "content-length",
        "etag",
        "x-seekfs-version",
        "accept-ranges",
        "cache-control",
        "content-type",
    ):
        assert headed.headers[name] == got.headers[name]


@pytest.mark.parametrize("header", ["bytes=0-9", f"bytes={SIZE}-", "bytes=-0"])
def test_head_knows_no_range(wire: Wire, header: str) -> None:
    answer = wire.head(TARGET, Range=header, If_Range=ETAG)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == str(SIZE)
    assert "content-range" not in answer.headers


def test_head_never_reads_the_store(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    write_dataset(store, ns, {"cold": File(some_bytes(100_000, 4), PAGE)})
    with Wire(start_daemon().port) as wire:
        for query in ("", "&off=5", "&len=5", f"&off={100_001}"):
            wire.head(f"/blob?ns={ns}&path=cold{query}")
        assert passthrough.gets(key=f"namespaces/{ns}/files/cold") == []
        assert wire.get(f"/blob?ns={ns}&path=cold").status == 200
    assert len(passthrough.gets(key=f"namespaces/{ns}/files/cold")) == 1


# -- versions and hashes -------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_hash_asks_for_exactly_that_content(wire: Wire, prefix: str) -> None:
    hexadecimal = hashlib.sha256(DATA).hexdigest()
    check_whole(wire.get(f"{TARGET}&hash={prefix}{hexadecimal}"), DATA, caching=YEAR)
    other = hashlib.sha256(b"other").hexdigest()
    document = wire.get(f"{TARGET}&hash={prefix}{other}").problem(404, "no-such-content")
    assert document["path"] == "file"
    assert document["hash"] == ETAG[1:-1]


def test_version_asks_for_that_version(wire: Wire) -> None:
    old = some_bytes(100, 9)
    answer = wire.get(f"{TARGET}&version=1")
    check_whole(answer, old, f'"sha256:{hashlib.sha256(old).hexdigest()}"', YEAR)
    assert answer.headers["x-seekfs-version"] == "1"
    answer = wire.get(f"{TARGET}&version=2")
    check_whole(answer, DATA, caching=YEAR)
    assert answer.headers["x-seekfs-version"] == "2"


def test_what_was_asked_for_by_version_may_be_kept_for_a_year_also_in_part(wire: Wire) -> None:
    assert wire.get(f"{TARGET}&version=2", Range="bytes=0-1").headers["cache-control"] == YEAR
    assert wire.get(f"{TARGET}&version=2", If_None_Match=ETAG).headers["cache-control"] == YEAR
    assert wire.get(TARGET, If_None_Match=ETAG).headers["cache-control"] == "no-cache"


def test_what_does_not_exist_is_404_naming_it(wire: Wire) -> None:
    assert wire.get("/blob?ns=none&path=file").problem(404, "no-such-namespace")["ns"] == "none"
    assert wire.get(f"/blob?ns={NS}&path=none").problem(404, "no-such-file")["path"] == "none"
    assert wire.get(f"{TARGET}&version=3").problem(404, "no-such-version")["version"] == 3
    assert wire.get(f"/blob?ns={NS}&path=ten&version=1").problem(404, "no-such-file")["version"] == 1
    assert wire.head(f"/blob?ns={NS}&path=none").status == 404


# -- around it -----------------------------------------------------------------------------------------


def test_other_methods_are_405(wire: Wire) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = wire.ask(method, TARGET, b"")
        answer.problem(405, "method-not-allowed")
        assert answer.headers["allow"] == "GET, HEAD"


def test_http_1_0(daemon: Daemon) -> None:
    head, _, body = exchange(daemon.port, f"GET {TARGET} HTTP/1.0\r\n\r\n".encode()).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\n"))
    assert b"chunked" not in head.lower()
    assert body == DATA


def test_every_request_has_an_id_and_the_log_has_those_that_failed(daemon: Daemon, wire: Wire) -> None:
    good = wire.get(f"{TARGET}&len=1").headers["x-request-id"]
    bad = wire.get(f"/blob?ns={NS}&path=nowhere").headers["x-request-id"]
    assert good != bad
    lines = [line for line in daemon.log.splitlines() if bad in line]
    assert len(lines) == 1
    assert "nowhere" in lines[0]


def test_a_page_that_is_wrong_in_the_store(store: ObjectStore, ns: str, start_daemon: DaemonFactory) -> None:
    """First page: 502 with all that is known. A later one: the connection ends after the last good page."""
    data = some_bytes(10 * PAGE, 5)
    write_dataset(store, ns, {"first": File(data, PAGE), "later": File(data, PAGE)})
    for path, page in (("first", 0), ("later", 6)):
        at = page * PAGE + 11
        wrong = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        store.put(f"namespaces/{ns}/files/{path}", wrong)
    daemon = start_daemon()
    with Wire(daemon.port) as wire:
        document = wire.get(f"/blob?ns={ns}&path=first").problem(502, "page-corrupt")
        assert document["path"] == "first"
        assert document["version"] == 1
        assert document["key"] == f"namespaces/{ns}/files/first"
        assert document["page_id"] == 0
        assert document["expected"] != document["found"]
        # The page behind it is good.
        assert wire.get(f"/blob?ns={ns}&path=first&off={PAGE}&len=5").body == data[PAGE : PAGE + 5]
    request = f"GET /blob?ns={ns}&path=later HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    head, _, body = exchange(daemon.port, request).partition(b"\r\n\r\n")
    assert f"content-length: {len(data)}".encode() in head.lower()
    assert body == data[: 6 * PAGE]
    assert "cut off after 393216 bytes" in daemon.log
