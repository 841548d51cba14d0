"""Manifests on disk: whole or not there, under the ceiling, found again by the next process."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from seekfs_core.cache_directory import TEMPORARY_SUFFIX
from seekfs_core.shelf import ManifestName
from seekfs_core.tier import Outcome
from seekfs_io.pages.disk_calls import Moves
from seekfs_io.pages.shelf import ManifestShelf, MemoryShelf, Shelf, decode_envelope, encode_envelope

MIB = 1 << 20


def used_bytes(path: Path) -> int:
    return sum(entry.stat().st_blocks * 512 for entry in path.iterdir())


def test_an_envelope_is_these_bytes() -> None:
    stored = encode_envelope("dev", 42, b"body")
    assert stored[:-4] == bytes.fromhex(
        "7365656b66736d66"  # seekfsmf
        "0100"  # version of the envelope
        "0300"  # length of the name
        "50c93f26"  # CRC-32C of the body
        "2a00000000000000"  # version of the manifest
        "0400000000000000"  # length of the body
        "646576"  # name
        "30c432a3"  # CRC-32C of what is before
    )
    assert stored[-4:] == b"body"
    assert decode_envelope(stored, "dev", 42) == b"body"
    assert decode_envelope(stored, "dev", 43) is None
    assert decode_envelope(stored, "dew", 42) is None


def test_an_envelope_with_any_byte_changed_or_cut_anywhere_is_none() -> None:
    stored = encode_envelope("dev", 42, b"body")
    for index in range(len(stored)):
        changed = bytearray(stored)
        changed[index] ^= 0x10
        assert decode_envelope(bytes(changed), "dev", 42) is None
        assert decode_envelope(stored[:index], "dev", 42) is None
    assert decode_envelope(stored + b"x", "dev", 42) is None


@pytest.fixture(params=["disk", "memory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return ManifestShelf(tmp_path / "shelf", 4 * MIB) if request.param == "disk" else MemoryShelf(4 * MIB)


def test_what_is_kept_is_loaded(shelf: Shelf) -> None:
    assert shelf.load("dev", 1) is None
    shelf.keep("dev", 1, b"one")
    shelf.keep("dev", 2, b"two")
    shelf.keep("dev.2", 1, b"other")
    assert shelf.load("dev", 1) == b"one"
    assert shelf.load("dev", 2) == b"two"
    assert shelf.load("dev.2", 1) == b"other"
    shelf.close()


def test_heads_only_go_forward(shelf: Shelf) -> None:
    assert shelf.heads() == {}
    shelf.keep_head("dev", 4)
    shelf.keep_head("dev", 3)
    shelf.keep_head("other", 1)
    assert shelf.heads() == {"dev": 4, "other": 1}


def test_the_manifest_used_least_recently_goes_first(shelf: Shelf) -> None:
    body = bytes(MIB)
    for version in (1, 2, 3):
        shelf.keep("dev", version, body)
    assert shelf.load("dev", 1) == body
    shelf.keep("dev", 4, body)
    shelf.keep("dev", 5, body)
    assert shelf.load("dev", 2) is None
    assert shelf.load("dev", 1) == body
    assert shelf.load("dev", 5) == body


def test_the_version_that_head_names_outlives_older_ones(shelf: Shelf) -> None:
    """It is served from memory and never loaded again, and is what a restart without the store needs."""
    body = bytes(MIB)
    shelf.keep("dev", 9, body)
    shelf.keep_head("dev", 9)
    for version in range(1, 6):
        shelf.keep("dev", version, body)
    assert shelf.load("dev", 9) == body
    assert shelf.load("dev", 1) is None
    assert shelf.load("dev", 5) == body


def test_a_pinned_version_outlives_others(tmp_path: Path) -> None:
    body = bytes(MIB)
    shelves: tuple[Shelf, ...] = (
        ManifestShelf(tmp_path, 4 * MIB, pins={"dev": 3}),
        MemoryShelf(4 * MIB, pins={"dev": 3}),
    )
    for shelf in shelves:
        for version in (3, 4, 5, 6, 7):
            shelf.keep("dev", version, body)
        assert shelf.load("dev", 3) == body
        assert shelf.load("dev", 4) is None


def test_a_manifest_larger_than_the_shelf_is_not_kept_and_costs_nobody_a_place(shelf: Shelf) -> None:
    shelf.keep("dev", 1, b"one")
    shelf.keep("dev", 2, bytes(5 * MIB))
    assert shelf.load("dev", 2) is None
    assert shelf.load("dev", 1) == b"one"


def test_the_next_process_finds_everything(tmp_path: Path) -> None:
    shelf = ManifestShelf(tmp_path, 4 * MIB)
    for version in range(1, 5):
        shelf.keep("dev", version, bytes([version]) * (600 << 10))
    shelf.keep_head("dev", 4)
    # The order of use is that of the files' times, which may be too close to tell apart here.
    for version in range(1, 5):
        os.utime(tmp_path / f"dev@{version}.manifest", ns=(version, version))
    assert shelf.load("dev", 1) is not None
    shelf.close()
    (tmp_path / "dev@9.manifest.tmp").write_bytes(b"half of")
    (tmp_path / "thesis.tmp").write_bytes(b"somebody's")
    shelf = ManifestShelf(tmp_path, 4 * MIB)
    assert [entry.name for entry in tmp_path.glob("*.tmp")] == ["thesis.tmp"]
    assert shelf.heads() == {"dev": 4}
    shelf.keep("dev", 5, bytes(MIB))
    shelf.keep("dev", 6, bytes(600 << 10))
    assert shelf.load("dev", 2) is None
    assert shelf.load("dev", 1) == b"\1" * (600 << 10)
    assert shelf.load("dev", 4) == b"\4" * (600 << 10)


def test_a_smaller_ceiling_is_met_at_once(tmp_path: Path) -> None:
    shelf = ManifestShelf(tmp_path, 8 * MIB)
    for version in range(1, 7):
        shelf.keep("dev", version, bytes(MIB))
    shelf.keep_head("dev", 6)
    os.utime(tmp_path / "dev@6.manifest", ns=(0, 0))  # As if it had not been used for long.
    shelf = ManifestShelf(tmp_path, 2 * MIB)
    assert used_bytes(tmp_path) <= 2 * MIB
    assert shelf.load("dev", 6) == bytes(MIB)


def test_names_that_no_shelf_writes_are_nobodys_manifests(tmp_path: Path) -> None:
    shelf = ManifestShelf(tmp_path, 4 * MIB)
    shelf.keep("dev", 1, b"one")
    for name in ("dev@01.manifest", "dev@0.manifest"):
        (tmp_path / name).write_bytes((tmp_path / "dev@1.manifest").read_bytes())
    shelf = ManifestShelf(tmp_path, 4 * MIB)
    assert shelf.load("dev", 1) == b"one"
    assert shelf.load("dev", 0) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "another"])
def test_a_damaged_manifest_is_a_miss_and_can_be_kept_again(tmp_path: Path, damage: str) -> None:
    shelf = ManifestShelf(tmp_path, 4 * MIB)
    shelf.keep("dev", 1, b"the bytes")
    path = tmp_path / "dev@1.manifest"
    stored = path.read_bytes()
    damaged = {
        "flip": stored[:-1] + b"S",
        "cut": stored[:-1],
        "empty": b"",
        "another": encode_envelope("dev", 2, b"the bytes"),
    }
    path.write_bytes(damaged[damage])
    assert shelf.load("dev", 1) is None
    assert not path.exists()
    shelf.keep("dev", 1, b"the bytes")
    assert shelf.load("dev", 1) == b"the bytes"


def test_damaged_heads_are_no_heads(tmp_path: Path) -> None:
    shelf = ManifestShelf(tmp_path, 4 * MIB)
    shelf.keep_head("dev", 4)
    for damaged in (b"{}", encode_envelope("heads", 0, b"[4]")):
        (tmp_path / "heads").write_bytes(damaged)
        assert ManifestShelf(tmp_path, 4 * MIB).heads() == {}


def test_a_disk_that_refuses_is_no_reason_to_raise(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    nowhere = ManifestShelf(tmp_path / "file" / "shelf", 4 * MIB)
    nowhere.keep("dev", 1, b"one")
    nowhere.keep_head("dev", 1)
    assert nowhere.load("dev", 1) is None
    assert nowhere.heads() == {"dev": 1}
    shelf = ManifestShelf(tmp_path / "shelf", 4 * MIB)
    shelf.keep("dev", 1, b"one")
    (tmp_path / "shelf" / "dev@1.manifest").unlink()
    (tmp_path / "shelf" / "dev@1.manifest").mkdir()
    assert shelf.load("dev", 1) is None


def test_a_manifest_that_cannot_be_read_just_now_is_not_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be all there is while the store is away; once the store has given another, that is kept."""
    shelf = ManifestShelf(tmp_path / "shelf", 4 * MIB)
    shelf.keep("dev", 1, b"one")

    def refuse(path: Path, moves: object) -> bytes:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("seekfs_io.pages.shelf._read_in_steps", refuse)
        assert shelf.load("dev", 1) is None
    assert shelf.load("dev", 1) == b"one"
    with monkeypatch.context() as patched:
        patched.setattr("seekfs_io.pages.shelf._read_in_steps", refuse)
        assert shelf.load("dev", 1) is None
    (tmp_path / "shelf" / "dev@1.manifest").write_bytes(b"rot")
    shelf.keep("dev", 1, b"one")
    assert shelf.load("dev", 1) == b"one"
    assert used_bytes(tmp_path / "shelf") <= 4 * MIB


def test_what_is_kept_and_no_manifest_is_replaced(shelf: Shelf) -> None:
    """Of an earlier seekfs that had other rules, or before a limit was lowered."""
    shelf.keep("dev", 1, b"one")
    shelf.refuse("dev", 1)
    assert shelf.load("dev", 1) == b"one"
    shelf.refuse("dev", 1)
    shelf.keep("dev", 1, b"another")
    assert shelf.load("dev", 1) == b"another"
    shelf.keep("dev", 1, b"a third")
    assert shelf.load("dev", 1) == b"another"


def test_a_copy_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    shelf = ManifestShelf(tmp_path / "shelf", 4 * MIB)
    shelf.keep("dev", 1, b"one")
    shelf.refuse("dev", 1)
    # No temporary file can be made at the name of a directory.
    taken = tmp_path / "shelf" / f"dev@1.manifest{TEMPORARY_SUFFIX}"
    taken.mkdir()
    shelf.keep("dev", 1, b"another")
    assert shelf.load("dev", 1) == b"one"


def test_what_was_replaced_in_the_meantime_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers of a damaged copy: the first has had it replaced before the second removes it."""
    shelf = ManifestShelf(tmp_path / "shelf", 4 * MIB)
    shelf.keep("dev", 1, b"one")
    file = tmp_path / "shelf" / "dev@1.manifest"
    file.write_bytes(b"rot")
    read = ManifestShelf._read

    def replaced_after(self: ManifestShelf, name: ManifestName, moves: Moves) -> bytes | Outcome:
        found = read(self, name, moves)
        monkeypatch.setattr(ManifestShelf, "_read", read)
        assert self.load("dev", 1) is None
        self.keep("dev", 1, b"one")
        return found

    monkeypatch.setattr(ManifestShelf, "_read", replaced_after)
    assert shelf.load("dev", 1) is None
    assert shelf.load("dev", 1) == b"one"


def test_who_finds_a_damaged_copy_waits_for_no_disk_that_hangs_in_a_write(tmp_path: Path) -> None:
    """Nor does it take the shelf for one that cannot be read."""
    shelf = ManifestShelf(tmp_path / "shelf", 4 * MIB, answer_seconds_max=0.1)
    shelf.keep("dev", 1, b"one")
    shelf.keep("dev", 2, b"two")
    (tmp_path / "shelf" / "dev@1.manifest").write_bytes(b"rot")
    with shelf._keeping:  # As a writer does for as long as the disk takes.
        assert shelf.load("dev", 1) is None
        assert shelf.load("dev", 2) == b"two"
    shelf.keep("dev", 1, b"one")
    assert shelf.load("dev", 1) == b"one"
    assert used_bytes(tmp_path / "shelf") <= 4 * MIB


def test_heads_that_a_disk_refused_are_written_with_the_next(tmp_path: Path) -> None:
    shelf = ManifestShelf(tmp_path / "shelf", 4 * MIB)
    (tmp_path / "shelf").rename(tmp_path / "away")
    shelf.keep_head("dev", 7)
    (tmp_path / "away").rename(tmp_path / "shelf")
    shelf.keep_head("dev", 7)
    assert ManifestShelf(tmp_path / "shelf", 4 * MIB).heads() == {"dev": 7}


def test_more_namespaces_than_have_room_lose_the_oldest(tmp_path: Path) -> None:
    shelf = ManifestShelf(tmp_path, 256 << 10)
    names = [f"namespace-{n:04d}-{'x' * 40}" for n in range(1000)]
    for name in names[:-300]:
        shelf._heads.learn(name, 1)  # As if kept: writing the file each time is not what is tested.
    for name in names[-300:]:
        shelf.keep_head(name, 1)
        assert used_bytes(tmp_path) <= 256 << 10
    heads = ManifestShelf(tmp_path, 256 << 10).heads()
    assert names[-1] in heads
    assert names[0] not in heads


def test_the_ceiling_holds_while_many_threads_keep(tmp_path: Path) -> None:
    ceiling = 3 * MIB
    shelf = ManifestShelf(tmp_path, ceiling)
    done, most = threading.Event(), 0

    def sample() -> None:
        nonlocal most
        while not done.is_set():
            total = 0
            for entry in os.scandir(tmp_path):
                try:
                    total += entry.stat().st_blocks * 512
                except FileNotFoundError:
                    continue
            most = max(most, total)

    def keep(thread: int) -> None:
        for version in range(1, 15):
            shelf.keep(f"ns{thread}", version, os.urandom(300_000))
            shelf.keep_head(f"ns{thread}", version)

    sampler = threading.Thread(target=sample)
    sampler.start()
    threads = [threading.Thread(target=keep, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    sampler.join()
    assert 0 < most <= ceiling
    assert shelf.heads() == {f"ns{n}": 14 for n in range(4)}


def test_a_shelf_that_was_filled_from_another_bucket_starts_empty(tmp_path: Path) -> None:
    """Its versions and HEADs would be taken for those of the bucket at hand."""
    shelf = ManifestShelf(tmp_path / "shelf", MIB, bucket=b"here")
    shelf.keep("dev", 7, b"of here")
    shelf.keep_head("dev", 7)
    shelf.close()
    same = ManifestShelf(tmp_path / "shelf", MIB, bucket=b"here")
    assert (same.load("dev", 7), same.heads()) == (b"of here", {"dev": 7})
    same.close()
    for bucket in (b"there", b"here"):
        other = ManifestShelf(tmp_path / "shelf", MIB, bucket=bucket)
        assert (other.load("dev", 7), other.heads()) == (None, {})
        other.close()


def test_a_shelf_that_cannot_be_told_whose_it_is_keeps_nothing_of_another_bucket(tmp_path: Path) -> None:
    """The next process would serve it as that of the bucket that is noted."""
    shelf = ManifestShelf(tmp_path, MIB, bucket=b"here")
    shelf.keep("dev", 1, b"of here")
    shelf.close()
    (tmp_path / "bucket.tmp").mkdir()  # So that the note cannot be replaced.
    other = ManifestShelf(tmp_path, MIB, bucket=b"there")
    other.keep("dev", 7, b"of there")
    other.keep_head("dev", 7)
    assert (other.load("dev", 7), other.heads()) == (None, {"dev": 7})
    other.close()
    (tmp_path / "bucket.tmp").rmdir()
    again = ManifestShelf(tmp_path, MIB, bucket=b"here")
    assert (again.load("dev", 1), again.load("dev", 7), again.heads()) == (None, None, {})


def test_a_shelf_that_says_nothing_of_its_bucket_starts_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = ManifestShelf(tmp_path, MIB, bucket=b"here")
    shelf.keep("dev", 1, b"of here")
    (tmp_path / "bucket").unlink()
    assert ManifestShelf(tmp_path, MIB, bucket=b"here").load("dev", 1) is None
    assert "starts empty: which bucket it was filled from is not known" in caplog.text


def test_the_memory_of_heads_in_memory_is_bounded() -> None:
    shelf = MemoryShelf(MIB)
    for n in range(5000):
        shelf.keep_head(f"namespace-{n:04d}-{'x' * 40}", 1)
    heads = shelf.heads()
    assert 4000 < len(heads) < 4500
    assert f"namespace-4999-{'x' * 40}" in heads
