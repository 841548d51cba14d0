"""Who is in a segment's file, and when it is open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seekfs_io.pages.segment_file import Descriptors, SegmentFile, read_fully, write_fully


@pytest.fixture
def file(tmp_path: Path) -> SegmentFile:
    file = SegmentFile(tmp_path / "1.seg", 1, 8192, made=False)
    file.make()
    file.settle()
    return file


def is_open(file: SegmentFile) -> bool:
    links = (Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
    return str(file.path) in {os.readlink(link) for link in links if link.is_symlink()}


def test_a_file_is_made_with_all_its_blocks(file: SegmentFile) -> None:
    assert file.wait_until_made()
    stat = file.path.stat()
    assert (stat.st_size, stat.st_mode & 0o777) == (8192, 0o600)
    assert stat.st_blocks * 512 >= 8192


def test_a_file_that_is_there_already_is_never_taken_for_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "1.seg").write_bytes(b"something")
    file = SegmentFile(tmp_path / "1.seg", 1, 8192, made=False)
    with pytest.raises(FileExistsError):
        file.make()
    file.settle()
    assert not file.wait_until_made()


def test_nobody_enters_a_retired_segment_and_the_last_one_out_is_told(file: SegmentFile) -> None:
    assert file.enter()
    assert file.enter()
    assert not file.retire()
    assert not file.enter()
    assert file.leases == 2
    assert not file.leave()
    assert is_open(file)
    assert file.leave()
    assert not is_open(file)


def test_a_segment_that_nobody_is_in_is_retired_at_once(file: SegmentFile) -> None:
    assert file.retire()
    assert not is_open(file)
    assert not file.enter()


def test_a_file_stays_open_while_somebody_is_in(file: SegmentFile) -> None:
    file.enter()
    assert not file.close_if_idle()
    assert not file.close()
    assert is_open(file)
    assert not file.leave()
    assert not is_open(file)


def test_no_more_files_than_allowed_are_open_while_nobody_is_in_them(tmp_path: Path) -> None:
    descriptors = Descriptors(2)
    files = []
    for n in range(5):
        path = tmp_path / f"{n}.seg"
        path.write_bytes(bytes([n]) * 100)
        files.append(SegmentFile(path, n, 100, made=True))
    files[0].enter()
    files[0].descriptor(descriptors)
    for _ in range(2):
        for n, file in enumerate(files):
            assert file.enter()
            buffer = memoryview(bytearray(10))
            assert read_fully(file.descriptor(descriptors), [buffer], 50)
            assert bytes(buffer) == bytes([n]) * 10
            file.leave()
            assert is_open(files[0])
            assert sum(map(is_open, files)) <= 3
    files[0].leave()
    for file in files:
        file.close()


def test_reading_past_the_end_is_no_success(file: SegmentFile) -> None:
    descriptors = Descriptors(2)
    file.enter()
    fd = file.descriptor(descriptors)
    write_fully(fd, [memoryview(b"abc"), memoryview(b""), memoryview(b"defg")], 8185)
    one, other = memoryview(bytearray(2)), memoryview(bytearray(5))
    assert read_fully(fd, [one, other], 8185)
    assert bytes(one) + bytes(other) == b"abcdefg"
    assert not read_fully(fd, [one, other], 8186)
    file.leave()
    file.close()


def test_views_are_written_and_read_one_behind_the_other(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    parts = [memoryview(os.urandom(n)) for n in (1, 0, 70_000, 3)]
    write_fully(fd, parts, 10)
    back = [memoryview(bytearray(n)) for n in (50_000, 20_004)]
    assert read_fully(fd, back, 10)
    assert b"".join(back) == b"".join(parts)
    os.close(fd)
