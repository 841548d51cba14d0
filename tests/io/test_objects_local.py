"""What only the ``file`` engine has to answer for: the file system below it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_io.objects.base import StoreError
from seekfs_io.objects.local import HASHED_BYTES_MAX, LocalStore
from tests.support.daemon import REPOSITORY
from tests.support.objects import listed

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(root=str(tmp_path / "store"), bucket="b")


def failure_of(call: Callable[[], object]) -> StoreFailure:
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value.failure


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_opening_makes_nothing_and_writing_makes_the_bucket(store: LocalStore, tmp_path: Path) -> None:
    assert listed(store) == []
    assert failure_of(lambda: store.get("a")).kind is FailureKind.MISSING
    assert not (tmp_path / "store").exists()
    store.put("d/a", b"bytes")
    assert (tmp_path / "store" / "b" / "d" / "a").read_bytes() == b"bytes"
    assert files(tmp_path / "store") == [".seekfs/lock", "b/d/a"]


def test_files_that_people_put_there_are_objects(store: LocalStore, tmp_path: Path) -> None:
    folder = tmp_path / "store" / "b" / "namespaces"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"by hand")
    (found,) = listed(store, "namespaces/")
    assert (found.key, found.size, found) == ("namespaces/file", 7, store.head("namespaces/file"))


def test_keys_are_listed_in_the_order_of_their_bytes(store: LocalStore) -> None:
    keys = ["a b", "a!/x", "a-b", "a.b", "a/b", "a/b!", "a/c/d", "a0", "Z", "~", "é", "☃", "\U0001f600"]
    for key in keys:
        store.put(key, b"")
    assert [each.key for each in listed(store)] == sorted(keys, key=str.encode)


IMPOSSIBLE_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../b/secret",
    "a/../../secret",
    "a/./b",
    "a\0b",
    "x" * 256,
    "☃" * 86,
    "\udcff",
]


@pytest.mark.parametrize("key", IMPOSSIBLE_KEYS)
def test_keys_that_no_file_can_have(store: LocalStore, tmp_path: Path, key: str) -> None:
    store.put("a/b", b"1")
    (tmp_path / "store" / "secret").write_bytes(b"outside")
    before = files(tmp_path)
    for call in (lambda: store.get(key), lambda: store.head(key)):
        assert failure_of(call).kind is FailureKind.MISSING
    for write in (lambda: store.put(key, b"x"), lambda: store.create_upload(key)):
        failure = failure_of(write)
        assert (failure.kind, failure.code) == (FailureKind.BAD_ANSWER, "InvalidObjectName")
        assert failure.detail.startswith("the file engine cannot hold this key: it ")
    assert [each.key for each in listed(store, key)] == (["a/b"] if key in ("", "a/") else [])
    assert files(tmp_path) == before


def test_a_key_that_is_a_part_of_another_ones_path(store: LocalStore) -> None:
    store.put("a", b"1")
    store.put("d/b", b"2")
    for key in ("a/b", "a/b/c", "d"):
        failure = failure_of(lambda: store.put(key, b"x"))  # noqa: B023
        assert (failure.kind, failure.code) == (FailureKind.BAD_ANSWER, "InvalidObjectName")
        conditional = failure_of(lambda: store.put(key, b"x", if_none_match=True))  # noqa: B023
        assert conditional.kind is FailureKind.BAD_ANSWER
    assert [each.key for each in listed(store)] == ["a", "d/b"]


def test_a_path_that_is_too_long_as_a_whole(store: LocalStore) -> None:
    failure = failure_of(lambda: store.put("/".join(["x" * 250] * 20), b"1"))
    assert (failure.kind, failure.code) == (FailureKind.BAD_ANSWER, "InvalidObjectName")


def test_symbolic_links_are_no_objects_and_lead_nowhere(store: LocalStore, tmp_path: Path) -> None:
    store.put("a", b"1")
    bucket, outside = tmp_path / "store" / "b", tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (bucket / "link").symlink_to(outside / "secret")
    (bucket / "inside").symlink_to(bucket / "a")
    (bucket / "dir").symlink_to(outside)
    (bucket / "loop").symlink_to(bucket)
    for key in ("link", "inside", "dir/secret", "dir", "loop/a"):
        assert failure_of(lambda: store.get(key)).kind is FailureKind.MISSING  # noqa: B023
    assert [each.key for each in listed(store)] == ["a"]
    for prefix in ("dir/", "loop/", "link"):
        assert listed(store, prefix) == []
    for key in ("dir/new", "dir/deeper/new", "loop/new"):
        assert failure_of(lambda: store.put(key, b"x")).code == "InvalidObjectName"  # noqa: B023
    assert files(outside) == ["secret"]
    # The link itself is replaced, never what it points to.
    store.put("link", b"mine")
    assert (outside / "secret").read_bytes() == b"secret"
    assert store.head("link").size == 4


def test_links_above_the_bucket_are_its_owners_affair(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = LocalStore(root=str(tmp_path / "link"), bucket="b")
    store.put("a/b", b"1")
    assert [each.key for each in listed(store, "a/")] == ["a/b"]
    assert store.head("a/b").size == 1


def test_what_is_no_regular_file_is_no_object(store: LocalStore, tmp_path: Path) -> None:
    store.put("a", b"1")
    os.mkfifo(tmp_path / "store" / "b" / "pipe")
    assert failure_of(lambda: store.get("pipe")).kind is FailureKind.MISSING
    assert [each.key for each in listed(store)] == ["a"]


def test_names_that_are_not_utf_8_are_left_out(
    store: LocalStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.put("a", b"1")
    (tmp_path / "store" / "b" / os.fsdecode(b"bad-\xff")).write_bytes(b"1")
    assert [each.key for each in listed(store)] == ["a"]
    assert "not UTF-8" in caplog.text


@pytest.mark.parametrize("size", [5, HASHED_BYTES_MAX + 1])
def test_the_etag_changes_with_the_object(store: LocalStore, tmp_path: Path, size: int) -> None:
    etags = [store.put("a", bytes([number]) * size) for number in range(50)]
    assert len(set(etags)) == 50
    path = tmp_path / "store" / "b" / "a"
    os.utime(path, ns=(1, 1))
    path.write_bytes(b"z" * size)
    assert store.head("a").etag not in etags


def test_a_small_object_is_known_by_its_content(store: LocalStore, tmp_path: Path) -> None:
    """Inode, size and time of a replaced HEAD can be those of an earlier one."""
    etag = store.put("HEAD", b"v-1\n")
    path = tmp_path / "store" / "b" / "HEAD"
    times = path.stat()
    path.write_bytes(b"v-3\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_ino == times.st_ino
    assert failure_of(lambda: store.put("HEAD", b"v-2\n", if_match=etag)).kind is FailureKind.PRECONDITION


def test_a_file_that_is_cut_while_it_is_read(store: LocalStore, tmp_path: Path) -> None:
    store.put("a", b"x" * MIB)
    view = memoryview(bytearray(MIB))
    with store.get("a") as reader:
        assert reader.readinto(view[:1000]) == 1000
        os.truncate(tmp_path / "store" / "b" / "a", 2000)
        assert reader.readinto(view) == 1000
        failure = failure_of(lambda: reader.readinto(view))
    assert failure.kind is FailureKind.CUT_SHORT
    assert "2000 of 1048576 bytes" in failure.detail


def test_nothing_stays_of_a_write_that_fails(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"old")
    before = files(tmp_path)
    real_write = os.write
    written: list[int] = []

    def full(descriptor: int, data: memoryview) -> int:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(real_write(descriptor, data[:1000]))
        return written[0]

    monkeypatch.setattr(os, "write", full)
    failure = failure_of(lambda: store.put("a", b"x" * MIB))
    assert (failure.kind, failure.detail) == (
        FailureKind.UNREACHABLE,
        "write failed: No space left on device",
    )
    monkeypatch.undo()
    assert files(tmp_path) == before
    with store.get("a") as reader:
        assert reader.size == 3


def test_a_refusal_of_the_disk_is_a_refusal(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"1")
    real_open = os.open

    def refused(path: str, flags: int, mode: int = 0o777) -> int:
        if path.endswith("/a"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real_open(path, flags, mode)

    # Not by chmod: tests may run as root, to whom everything is open.
    monkeypatch.setattr(os, "open", refused)
    failure = failure_of(lambda: store.get("a"))
    assert (failure.kind, failure.detail) == (FailureKind.DENIED, "open failed: Permission denied")


def has_a_waiter(path: Path) -> bool:
    """Whether somebody waits for a lock of this file (``/proc/locks``, proc(5))."""
    inode = path.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return any("-> FLOCK" in line and f":{inode} " in line for line in lines)


def test_of_two_swaps_at_once_the_second_sees_the_first(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.put("a", b"0")
    looked, go_on = threading.Event(), threading.Event()
    real_replace = os.replace

    def replace(source: str, target: str) -> None:
        """The first has found the object as expected, and does not replace it yet."""
        if threading.current_thread().name == "1":
            looked.set()
            go_on.wait(60)
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", replace)
    outcomes: dict[str, object] = {}

    def swap() -> None:
        name = threading.current_thread().name
        try:
            outcomes[name] = store.put("a", name.encode(), if_match=first)
        except StoreError as error:
            outcomes[name] = error.failure.kind

    threads = [threading.Thread(target=swap, name=name) for name in ("1", "2")]
    threads[0].start()
    assert looked.wait(60)
    threads[1].start()
    deadline = time.monotonic() + 60
    while not outcomes and not has_a_waiter(tmp_path / "store" / ".seekfs" / "lock"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join()
    assert outcomes == {"1": store.head("a").etag, "2": FailureKind.PRECONDITION}


KILLED = """
import os, signal, sys
from seekfs_io.objects.local import LocalStore
store = LocalStore(root=sys.argv[1], bucket="b")
real = os.replace
def replace(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
store.put("a", b"new")
"""


def test_a_writer_killed_in_the_middle_leaves_the_old_object_and_no_lock(
    store: LocalStore, tmp_path: Path
) -> None:
    store.put("a", b"old")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "store")], check=False, cwd=REPOSITORY, timeout=60
    )
    assert killed.returncode == -9
    with store.get("a") as reader:
        view = memoryview(bytearray(10))
        assert bytes(view[: reader.readinto(view)]) == b"old"
    assert [each.key for each in listed(store)] == ["a"]
    store.put("a", b"newer")
    assert store.head("a").size == 5


@pytest.mark.parametrize("upload", ["", "..", "../../b", "0" * 31, "g" * 32, "0" * 32])
def test_upload_ids_that_were_never_given(store: LocalStore, upload: str) -> None:
    store.put("a", b"1")
    assert failure_of(lambda: store.upload_part("k", upload, 1, b"x")).code == "NoSuchUpload"
    assert failure_of(lambda: store.complete_upload("k", upload, ['"x"'])).code == "NoSuchUpload"
    store.abort_upload("k", upload)
    assert store.head("a").size == 1


def test_a_part_is_named_by_nothing_but_its_etag(store: LocalStore) -> None:
    upload = store.create_upload("k")
    store.upload_part("k", upload, 1, b"x")
    for etag in ('"../../../b/a"', "", '""'):
        assert failure_of(lambda: store.complete_upload("k", upload, [etag])).code == "InvalidPart"  # noqa: B023
    assert failure_of(lambda: store.complete_upload("k", upload, [])).code == "InvalidPart"


def test_uploads_leave_nothing(store: LocalStore, tmp_path: Path) -> None:
    upload = store.create_upload("k")
    etag = store.upload_part("k", upload, 1, b"x" * MIB)
    store.complete_upload("k", upload, [etag])
    upload = store.create_upload("k")
    store.upload_part("k", upload, 1, b"x" * MIB)
    store.abort_upload("k", upload)
    assert files(tmp_path / "store") == [".seekfs/lock", "b/k"]
    assert list((tmp_path / "store" / ".seekfs" / "incoming").iterdir()) == []
