"""FILE and DIR arguments: what they name, and that everything wrong with them is said at once."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from seekfs_io.publishing.inputs import FileChanged, InputError, LocalFile, Opened, collect_inputs


def paths(files: list[LocalFile]) -> list[str]:
    return [file.path for file in files]


def problems(error: InputError) -> list[str]:
    found: list[str] = error.context["problems"]
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for path in ("b", "a/x", "a/deep/er/y", ".hidden", "a b+%☃"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def test_a_directory_gives_paths_relative_to_it(tree: Path) -> None:
    found = collect_inputs([tree])
    assert paths(found) == [".hidden", "a b+%☃", "a/deep/er/y", "a/x", "b"]
    assert found == sorted(found, key=lambda file: file.path.encode())
    assert found[-1] == LocalFile(str(tree / "b"), "b", 1)
    assert collect_inputs([f"{tree}/"])[-1].path == "b"


def test_a_file_gives_its_own_name_or_the_one_it_is_given(tree: Path) -> None:
    assert paths(collect_inputs([tree / "a" / "x"])) == ["x"]
    assert paths(collect_inputs([tree / "a" / "x"], "sub/dir/z")) == ["sub/dir/z"]


def test_a_directory_is_put_below_the_path_it_is_given(tree: Path) -> None:
    for as_path in ("v1/train", "v1/train/"):
        assert paths(collect_inputs([tree / "a"], as_path)) == ["v1/train/deep/er/y", "v1/train/x"]


def test_several_inputs(tree: Path) -> None:
    assert paths(collect_inputs([tree / "b", tree / "a"])) == ["b", "deep/er/y", "x"]
    with pytest.raises(InputError, match="here are 2"):
        collect_inputs([tree / "b", tree / "a"], "p")
    with pytest.raises(InputError, match="no FILE or DIR"):
        collect_inputs([])


def test_two_inputs_with_one_path_are_named_both(tree: Path) -> None:
    (tree / "a" / "b").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        collect_inputs([tree / "b", tree / "a"])
    (problem,) = problems(caught.value)
    assert str(tree / "a" / "b") in problem
    assert f"the same path as {tree / 'b'}: 'b'" in problem


def test_links_are_followed_wherever_they_are_and_lead(tree: Path) -> None:
    (tree.parent / "link").symlink_to(tree)
    (tree.parent / "one").symlink_to(tree / "b")
    assert len(collect_inputs([tree.parent / "link"])) == 5
    assert paths(collect_inputs([tree.parent / "one"])) == ["one"]
    outside = tree.parent / "blobs"
    outside.mkdir()
    (outside / "3f").write_bytes(b"three")
    (tree / "to-file").symlink_to("../blobs/3f")
    (tree / "to-link").symlink_to("to-file")
    (tree / "to-dir").symlink_to(tree / "a")
    (tree / "a" / "out").symlink_to(outside)
    found = {file.path: file for file in collect_inputs([tree])}
    more = {"to-file", "to-link", "to-dir/x", "to-dir/deep/er/y", "to-dir/out/3f", "a/out/3f"}
    assert set(found) == {".hidden", "a b+%☃", "a/deep/er/y", "a/x", "b", *more}
    assert found["to-dir/out/3f"] == LocalFile(str(tree / "to-dir" / "out" / "3f"), "to-dir/out/3f", 5)
    with Opened(found["to-link"]) as opened:
        view = memoryview(bytearray(5))
        opened.read_into(view)
    assert bytes(view) == b"three"


def test_a_link_that_leads_back_to_where_it_lies_is_named(tree: Path) -> None:
    """Whatever it is called on the way; one that leads aside is none."""
    (tree / "a" / "deep" / "self").symlink_to(".")
    (tree / "a" / "deep" / "er" / "top").symlink_to(tree)
    (tree / "aside").symlink_to(tree / "a" / "deep" / "er")
    with pytest.raises(InputError) as caught:
        collect_inputs([tree])
    back = "leads back to a directory that it lies in"
    # Through "aside", "a" and all below it are reached once more, up to the links that lead back.
    assert set(problems(caught.value)) == {
        f"{tree / link}: {back}" for link in ("a/deep/self", "a/deep/er/top", "aside/top")
    }
    (tree / "aside").unlink()
    (tree / "a" / "deep" / "er" / "top").unlink()
    (tree / "a" / "deep" / "self").unlink()
    assert len(collect_inputs([tree])) == 5


def test_a_link_that_leads_nowhere_is_named(tree: Path) -> None:
    (tree / "dangling").symlink_to("no\nwhere")
    (tree / "loop").symlink_to("loop")
    with pytest.raises(InputError) as caught:
        collect_inputs([tree, tree / "dangling"])
    dangling = f"{tree / 'dangling'}: is a symbolic link to no\\nwhere, which is not there"
    assert problems(caught.value) == [
        dangling,
        f"{tree / 'loop'}: cannot be read: Too many levels of symbolic links",
        dangling,
    ]


def test_what_is_no_file(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    (tree / "device").symlink_to("/dev/null")
    (tree / "empty").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
    with pytest.raises(InputError) as caught:
        collect_inputs([tree])
    what = "is neither a file nor a directory"
    assert problems(caught.value) == [f"{tree / name}: {what}" for name in ("device", "pipe", "socket")]
    with pytest.raises(InputError, match="there is no file in this directory"):
        collect_inputs([tree / "empty"])
    with pytest.raises(InputError, match="nowhere: cannot be read: No such file"):
        collect_inputs([tree / "nowhere"])


def test_names_that_cannot_be_paths_are_shown_as_they_can_be_printed(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    for name in (b"caf\xe9", b"line\nbreak\x1b[2J", "n\u00e4he \u2603".encode()):
        (Path(os.fsdecode(bytes(directory))) / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(InputError) as caught:
        collect_inputs([directory])
    first, second = problems(caught.value)
    assert "caf\\udce9" in first
    assert "not valid UTF-8" in first
    assert "U+000A" in second
    assert second.startswith(f"{directory}/line\\nbreak\\x1b[2J: ")
    assert len(str(caught.value).encode().splitlines()) == 2
    (directory / "n\u00e4he \u2603").unlink()
    (directory / "n\u00e4he \u2603").symlink_to("x")
    with pytest.raises(InputError, match="/n\u00e4he \u2603: is a symbolic link to x, which is not there"):
        collect_inputs([directory])


def test_as_must_be_a_path(tree: Path) -> None:
    for wrong in ("", "/abs", "a/../b", "a//b"):
        with pytest.raises(InputError):
            collect_inputs([tree / "b"], wrong)


def test_everything_wrong_is_said_at_once(tree: Path) -> None:
    for i in range(30):
        (tree / f"link{i:02}").symlink_to("x")
    with pytest.raises(InputError) as caught:
        collect_inputs([tree, tree / "nowhere"])
    assert len(problems(caught.value)) == 31
    assert "and 11 more" in caught.value.detail


def test_a_file_that_cannot_be_opened_is_told_before_anything_is_read(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the system's answer, not by mode bits: root may read everything."""
    real_open = os.open

    def refuse(path: str, flags: int, *rest: int) -> int:
        if str(path).endswith("/a/x"):
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match="a/x: cannot be read: Permission denied"):
        collect_inputs([tree])


def test_a_file_that_changes_is_noticed(tree: Path) -> None:
    (file,) = collect_inputs([tree / "b"])
    with Opened(file) as opened:
        opened.check()
        with open(file.source, "ab") as more:
            more.write(b"x")
        with pytest.raises(FileChanged, match="b changed while it was being read"):
            opened.check()
    with pytest.raises(FileChanged):
        Opened(file)
    Path(file.source).write_bytes(b"")
    with pytest.raises(FileChanged):
        Opened(file)


def test_a_file_cut_short_while_it_is_read(tree: Path) -> None:
    (file,) = collect_inputs([tree / "b"])
    with Opened(file) as opened:
        os.truncate(file.source, 0)
        with pytest.raises(FileChanged):
            opened.read_into(memoryview(bytearray(1)))


def test_a_file_that_is_gone(tree: Path) -> None:
    (file,) = collect_inputs([tree / "b"])
    assert stat.S_ISREG(os.stat(file.source).st_mode)
    os.unlink(file.source)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        Opened(file)
