"""What every engine does alike: the same tests against a real S3 server and against a directory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_io.config import S3Config
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectReader, ObjectStore, StoreError
from tests.conftest import S3ConfigFactory
from tests.support.daemon import REPOSITORY
from tests.support.objects import listed

MIB = 1 << 20

# Keys that all engines can hold; each must come back from a listing as it went in.
ODD_NAMES = [
    "plain",
    "with space",
    "a+b",
    "100%",
    "a%2Fb",
    "%",
    "☃",
    "ü/é",
    "e\u0301",
    "x:y",
    "k=v&z?q#h;p",
    "q'()!*~",
    '<&>"',
    "comma,at@dollar$",
    "[brackets]{braces}|^`",
    "n\u00a0b",
    "\U0001f600",
    "deep/" * 20 + "file",
    "x" * 250,
]


@pytest.fixture(params=["sdk", "file"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> S3Config:
    if request.param == "file":
        return S3Config(engine="file", endpoint=str(tmp_path / "store"), bucket="seekfs")
    factory: S3ConfigFactory = request.getfixturevalue("s3_config")
    return factory(bucket=request.getfixturevalue("bucket"))


@pytest.fixture
def store(config: S3Config) -> Iterator[ObjectStore]:
    opened = open_store(config)
    opened.create_bucket()
    yield opened
    opened.close()


def read_all(reader: ObjectReader) -> bytes:
    content = bytearray()
    view = memoryview(bytearray(300_000))
    with reader:
        while count := reader.readinto(view):
            content += view[:count]
    return bytes(content)


def failure_of(call: Callable[[], object]) -> StoreFailure:
    with pytest.raises(StoreError) as caught:
        call()
    assert caught.value.failure.detail
    return caught.value.failure


def run_threads(work: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def test_name(config: S3Config, store: ObjectStore) -> None:
    assert store.name == config.engine


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_keys(store: ObjectStore, name: str) -> None:
    key = f"namespaces/{name}"
    content = name.encode() * 3
    etag = store.put(key, content)
    assert read_all(store.get(key)) == content
    assert read_all(store.get(key, start=1, stop=len(content), if_match=etag)) == content[1:]
    found = store.head(key)
    assert (found.key, found.size, found.etag) == (key, len(content), etag)
    (there,) = listed(store, "namespaces/")
    assert (there.key, there.size, there.etag) == (key, len(content), etag)
    # To the second, and within one of each other: a listing rounds where HEAD cuts, or the reverse.
    assert found.last_modified is not None
    assert there.last_modified is not None
    assert found.last_modified[:10] == there.last_modified[:10]
    assert found.last_modified.endswith("Z")


@pytest.mark.parametrize("size", [0, 1, 64 << 10, (64 << 10) + 1, 5 * MIB + 3])
def test_sizes(store: ObjectStore, size: int) -> None:
    content = bytes(index * 7 % 251 for index in range(1021)) * (size // 1021 + 1)
    content = content[:size]
    etag = store.put("a", memoryview(content))
    reader = store.get("a")
    assert (reader.key, reader.size, reader.start, reader.stop, reader.etag) == ("a", size, 0, size, etag)
    assert read_all(reader) == content
    assert store.head("a").size == size


def test_ranges(store: ObjectStore) -> None:
    content = bytes(range(256)) * 8192
    store.put("a", content)
    size = len(content)
    for start, stop in [(0, 1), (0, size), (size - 1, size), (1000, 1_500_000)]:
        reader = store.get("a", start=start, stop=stop)
        assert (reader.start, reader.stop, reader.size) == (start, stop, size)
        assert read_all(reader) == content[start:stop]
    for start, stop in [(size, size + 1), (size - 1, size + 1), (2 * size, 3 * size)]:
        failure = failure_of(lambda: store.get("a", start=start, stop=stop))  # noqa: B023
        assert failure.kind is FailureKind.BAD_ANSWER
    impossible: list[tuple[int, int | None]] = [(5, 5), (5, 4), (-1, 5), (5, None)]
    for first, after in impossible:
        with pytest.raises(ValueError, match="no bytes"):
            store.get("a", start=first, stop=after)


def test_a_reader_fills_the_front_of_the_view(store: ObjectStore) -> None:
    store.put("a", b"0123456789")
    with store.get("a", start=2, stop=8) as reader:
        view = memoryview(bytearray(b"-" * 10))
        count = reader.readinto(view)
        assert 0 < count <= 6
        assert bytes(view) == b"234567"[:count] + b"-" * (10 - count)
        assert reader.readinto(memoryview(bytearray())) == 0
    rest = store.get("a")
    assert rest.readinto(memoryview(bytearray(4))) == 4
    rest.close()
    rest.close()
    with pytest.raises(ValueError, match="closed"):
        rest.readinto(memoryview(bytearray(1)))


def test_what_is_not_there(store: ObjectStore) -> None:
    store.put("a/b/c", b"1")
    for key in ["no", "a", "a/b", "a/b/d", "a/b/c/d"]:
        assert failure_of(lambda: store.get(key)).kind is FailureKind.MISSING  # noqa: B023
        assert failure_of(lambda: store.head(key)).kind is FailureKind.MISSING  # noqa: B023
        assert failure_of(lambda: store.get(key, start=0, stop=1)).status == 404  # noqa: B023


def test_a_bucket_that_is_not_there(config: S3Config) -> None:
    store = open_store(attrs.evolve(config, bucket="not-there"))
    try:
        assert failure_of(lambda: store.get("a")).kind is FailureKind.MISSING
        assert failure_of(lambda: store.head("a")).kind is FailureKind.MISSING
    finally:
        store.close()


def test_create_bucket(config: S3Config) -> None:
    store = open_store(attrs.evolve(config, bucket=f"{config.bucket[:40]}-made"))
    try:
        assert store.create_bucket() is True
        assert store.create_bucket() is False
        assert listed(store) == []
    finally:
        store.close()


def test_conditions(store: ObjectStore) -> None:
    first = store.put("a", b"1", if_none_match=True)
    refused = failure_of(lambda: store.put("a", b"2", if_none_match=True))
    assert (refused.kind, refused.status) == (FailureKind.PRECONDITION, 412)
    assert first is not None
    second = store.put("a", b"2", if_match=first)
    assert second != first
    assert failure_of(lambda: store.put("a", b"3", if_match=first)).kind is FailureKind.PRECONDITION
    assert read_all(store.get("a")) == b"2"
    assert failure_of(lambda: store.get("a", if_match=first)).kind is FailureKind.PRECONDITION
    assert (
        failure_of(lambda: store.get("a", start=0, stop=1, if_match=first)).kind is FailureKind.PRECONDITION
    )
    gone = failure_of(lambda: store.put("b", b"1", if_match=first)).kind
    assert gone in (FailureKind.PRECONDITION, FailureKind.MISSING)
    assert failure_of(lambda: store.get("a", if_match='"x"\r\nX: y')).kind is FailureKind.PRECONDITION


def test_a_put_replaces_at_once(store: ObjectStore) -> None:
    old, new = b"o" * (3 * MIB), b"n" * MIB
    store.put("a", old)
    with store.get("a") as reader:
        view = memoryview(bytearray(MIB))
        reader.readinto(view)
        store.put("a", new)
        assert read_all(store.get("a")) == new
    assert read_all(store.get("a")) == new


def test_listing_goes_over_many_pages(store: ObjectStore) -> None:
    keys = [f"p/{number:05}" for number in range(1234)]

    def work(offset: int) -> None:
        for key in keys[offset::8]:
            store.put(key, b"")

    run_threads(work, 8)
    assert [each.key for each in listed(store, "p/")] == keys
    assert [each.key for each in listed(store, "p/0000")] == keys[:10]


def test_prefixes(store: ObjectStore) -> None:
    for key in ["a", "ab", "b/a", "b/ab/c", "b/b", "c"]:
        store.put(key, b"1")

    def keys(prefix: str) -> list[str]:
        return sorted(each.key for each in listed(store, prefix))

    assert keys("") == ["a", "ab", "b/a", "b/ab/c", "b/b", "c"]
    assert keys("a") == ["a", "ab"]
    assert keys("b/") == ["b/a", "b/ab/c", "b/b"]
    assert keys("b/a") == ["b/a", "b/ab/c"]
    assert keys("b/ab/") == ["b/ab/c"]
    assert keys("b/ab/c") == ["b/ab/c"]
    assert keys("b/ab/cd") == []
    assert keys("d") == []
    assert keys("d/e/f") == []
    assert keys("a/") == []


def test_multipart(store: ObjectStore) -> None:
    parts = [bytes([number]) * size for number, size in ((1, 5 * MIB), (2, 5 * MIB + 1), (3, 7))]
    upload = store.create_upload("big")
    assert listed(store) == []
    etags = [store.upload_part("big", upload, number, part) for number, part in enumerate(parts, 1)]
    # A part may be sent again; the later one counts.
    etags[2] = store.upload_part("big", upload, 3, b"other")
    etag = store.complete_upload("big", upload, etags, if_none_match=True)
    assert store.head("big").etag == etag
    assert read_all(store.get("big")) == parts[0] + parts[1] + b"other"
    assert [each.key for each in listed(store)] == ["big"]


def test_an_upload_may_create_only(store: ObjectStore) -> None:
    store.put("big", b"there")
    upload = store.create_upload("big")
    etag = store.upload_part("big", upload, 1, b"1")
    refused = failure_of(lambda: store.complete_upload("big", upload, [etag], if_none_match=True))
    assert refused.kind is FailureKind.PRECONDITION
    assert read_all(store.get("big")) == b"there"
    store.abort_upload("big", upload)
    assert [each.key for each in listed(store)] == ["big"]


def test_an_upload_can_be_forgotten(store: ObjectStore) -> None:
    upload = store.create_upload("big")
    etag = store.upload_part("big", upload, 1, b"1")
    store.abort_upload("big", upload)
    store.abort_upload("big", upload)
    assert failure_of(lambda: store.complete_upload("big", upload, [etag])).kind is FailureKind.MISSING
    assert failure_of(lambda: store.upload_part("big", upload, 2, b"2")).kind is FailureKind.MISSING
    assert failure_of(lambda: store.get("big")).kind is FailureKind.MISSING


def test_an_upload_is_completed_with_the_parts_it_has(store: ObjectStore) -> None:
    upload = store.create_upload("big")
    store.upload_part("big", upload, 1, b"1")
    failure = failure_of(lambda: store.complete_upload("big", upload, ['"0123456789abcdef0123456789abcdef"']))
    assert (failure.kind, failure.code) == (FailureKind.BAD_ANSWER, "InvalidPart")
    assert failure_of(lambda: store.get("big")).kind is FailureKind.MISSING


def run_writers(config: S3Config, code: str, count: int) -> list[str]:
    """What each of ``count`` processes prints, that all begin at once and run ``code`` with a
    ``store`` and their ``number``."""
    program = f"""
import json, sys
from seekfs_core.errors import FailureKind
from seekfs_io.config import S3Config
from seekfs_io.objects import open_store
from seekfs_io.objects.base import StoreError
store = open_store(S3Config(**json.loads(sys.argv[1])))
number = int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
{code}
store.close()
"""
    arguments = json.dumps(attrs.asdict(config))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, arguments, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for number in range(count)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    results = [writer.communicate(timeout=120)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * count
    return results


CREATE_ONLY = """
won = []
for race in range(20):
    try:
        store.put(f"race/{race}", str(number).encode(), if_none_match=True)
        won.append(race)
    except StoreError as error:
        assert error.failure.kind is FailureKind.PRECONDITION, error
print(json.dumps(won))
"""


def test_one_of_many_processes_creates(config: S3Config, store: ObjectStore) -> None:
    won = [json.loads(text) for text in run_writers(config, CREATE_ONLY, 6)]
    assert sorted(race for races in won for race in races) == list(range(20))
    for number, races in enumerate(won):
        for race in races:
            assert read_all(store.get(f"race/{race}")) == str(number).encode()


COMPARE_AND_SWAP = """
view = memoryview(bytearray(100))
done = 0
while done < 10:
    with store.get("counter") as reader:
        value = int(bytes(view[: reader.readinto(view)]))
        etag = reader.etag
    try:
        store.put("counter", str(value + 1).encode(), if_match=etag)
        done += 1
    except StoreError as error:
        assert error.failure.kind is FailureKind.PRECONDITION, error
"""


def test_no_swap_of_many_processes_is_lost(config: S3Config, store: ObjectStore) -> None:
    # Always two digits: what is compared is not the length.
    store.put("counter", b"10")
    run_writers(config, COMPARE_AND_SWAP, 5)
    assert read_all(store.get("counter")) == b"60"


def test_many_threads_share_a_store(store: ObjectStore) -> None:
    content = bytes(range(256)) * 4096
    store.put("a", content)
    wrong: list[int] = []

    def work(number: int) -> None:
        for round_number in range(5):
            start = (number * 7919 + round_number * 104729) % (len(content) - 1)
            stop = min(len(content), start + 200_000)
            if read_all(store.get("a", start=start, stop=stop)) != content[start:stop]:
                wrong.append(number)

    run_threads(work, 16)
    assert wrong == []
