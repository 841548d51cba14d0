"""Whose a cache directory is: ours and nobody else's, by one process at a time, of a layout we know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seekfs_io.pages.directory import CacheRefused, claim, write_file
from seekfs_io.pages.segment_format import encode_layout


def listing(path: Path) -> set[str]:
    return {str(entry.relative_to(path)) for entry in path.rglob("*")}


def test_a_new_directory_is_made_and_can_be_claimed_again(tmp_path: Path) -> None:
    directory = claim(tmp_path / "a" / "l2")
    store_id = directory.store_id
    assert listing(directory.path) == {"seekfs.layout", "seekfs.lock", "segments", "shelf"}
    directory.release()
    again = claim(tmp_path / "a" / "l2")
    assert again.store_id == store_id
    again.release()


def test_within_a_process_claims_are_shared_and_counted(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "l2")
    one, other = claim(tmp_path / "l2"), claim(tmp_path / "link")
    assert one is other
    one.use("pages")
    with pytest.raises(CacheRefused, match="by this very process"):
        other.use("pages")
    other.use("shelf")
    other.release("shelf")
    assert not claimable_elsewhere(tmp_path / "l2")
    one.release("pages")
    assert claimable_elsewhere(tmp_path / "l2")


def claimable_elsewhere(path: Path) -> bool:
    """Whether another process can have the directory; if not, its error says why and who."""
    code = "import sys; from seekfs_io.pages.directory import claim; claim(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        assert "is in use by another process" in done.stderr
        assert f"pid {os.getpid()}" in done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(
    "name", ["data.txt", "segments/notes.seg", "index/data.txt", "shelf/x", ".hidden", "segments/1.seg"]
)
def test_a_directory_that_holds_anything_else_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "l2"
    claim(path).release()
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("somebody's")
    (path / "seekfs.lock").unlink()  # Not even that is made again.
    before = listing(path)
    with pytest.raises(CacheRefused, match=name):
        claim(path)
    assert listing(path) == before
    assert (path / name).read_text() == "somebody's"


@pytest.mark.parametrize("name", ["data.txt", "segments", "index"])
def test_a_directory_of_somebody_else_is_not_even_locked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(CacheRefused, match=r"name an empty or new directory"):
        claim(tmp_path)
    assert listing(tmp_path) == {name}


def test_the_root_of_a_file_system_is_a_fine_place(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    claim(tmp_path).release()
    claim(tmp_path).release()


def test_a_kill_while_it_was_made_leaves_what_can_be_finished(tmp_path: Path) -> None:
    (tmp_path / "seekfs.lock").write_bytes(b"")
    (tmp_path / "seekfs.layout.tmp").write_bytes(b"seekfs")
    claim(tmp_path).release()
    (tmp_path / "segments").rmdir()
    claim(tmp_path).release()
    assert (tmp_path / "segments").is_dir()


def test_an_older_layout_starts_empty_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    claim(tmp_path).release()
    (tmp_path / "seekfs.layout").write_bytes(b"seekfs cache directory\nlayout 0\n")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "data.mdb").write_bytes(b"old")
    (tmp_path / "segments" / "0000000000000001.seg").write_bytes(b"old")
    (tmp_path / "shelf" / "dev@1.manifest").write_bytes(b"old")
    (tmp_path / "seekfs.boot").write_bytes(b"old")
    claim(tmp_path).release()
    assert "layout 0; starting empty" in caplog.text
    assert listing(tmp_path) == {"seekfs.layout", "seekfs.lock", "segments", "shelf"}


def test_a_newer_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    claim(tmp_path).release()
    (tmp_path / "seekfs.layout").write_bytes(b"seekfs cache directory\nlayout 7\nof the future\n")
    (tmp_path / "what-the-future-keeps").write_bytes(b"")
    (tmp_path / "seekfs.lock").unlink()
    before = listing(tmp_path)
    with pytest.raises(CacheRefused, match="layout 7, of a newer seekfs"):
        claim(tmp_path)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("stored", [b"", b"hello\n", encode_layout(bytes(16))[:-5]])
def test_a_layout_file_that_is_none_is_refused(tmp_path: Path, stored: bytes) -> None:
    claim(tmp_path).release()
    (tmp_path / "seekfs.layout").write_bytes(stored)
    with pytest.raises(CacheRefused, match="not a layout file"):
        claim(tmp_path)


def test_a_directory_that_cannot_be_written_is_named_with_two_ways_out(tmp_path: Path) -> None:
    path = Path("/proc/seekfs/l2")  # Where not even root can make one.
    with pytest.raises(CacheRefused) as refused:
        claim(path)
    assert refused.value.key == "cache.l2.segment_path"
    assert repr(str(path)) in refused.value.detail
    assert "name another path" in refused.value.detail
    assert f'sudo install -d -m 700 -o "$(id -un)" {path}' in refused.value.detail


@pytest.mark.parametrize("below", ["", "l2", "a/b"])
@pytest.mark.parametrize("kind", ["file", "device", "dangling link"])
def test_what_is_no_directory_is_to_be_moved_away_and_not_made_one(
    tmp_path: Path, kind: str, below: str
) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_bytes(b"somebody's")
    else:
        place.symlink_to("/dev/null" if kind == "device" else "nowhere")
    with pytest.raises(CacheRefused) as refused:
        claim(place / below)
    assert refused.value.key == "cache.l2.segment_path"
    assert refused.value.detail.endswith(
        f": name another path, or if nothing needs {str(place)!r}, which is no directory, move that away"
    )


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"one")
    write_file(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"two"
    assert listing(tmp_path) == {"file"}
