"""``publish``, ``put`` and ``manifest`` on a directory (the engine ``file``): what they print, and how
they end. What they do to a bucket is tested with the publisher, and end to end."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.support.command_line import Seekfs

HELLO = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration at all: the store is ``./.seekfs/store``."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SEEKFS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def seekfs(capfdbinary: pytest.CaptureFixture[bytes]) -> Seekfs:
    return Seekfs(capfdbinary)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    (directory / "sub").mkdir(parents=True)
    (directory / "a.txt").write_bytes(b"hello\n")
    (directory / "sub" / "b ☃.txt").write_bytes(b"world\n")
    (directory / "empty").touch()
    return directory


# -- publish -------------------------------------------------------------------------------------


def test_publish_says_what_is_now_there(seekfs: Seekfs, files: Path) -> None:
    ran = seekfs.done("publish", "dev", str(files))
    assert ran.lines == ["dev is at version 1: 3 files changed; uploaded 3 objects, 12 B"]
    assert ran.err == ""
    ran = seekfs.done("publish", "dev", str(files))
    assert ran.lines == ["dev stays at version 1: nothing has changed; uploaded nothing"]
    (files / "a.txt").write_bytes(b"other\n")
    ran = seekfs.done("publish", "dev", str(files))
    assert ran.lines == ["dev is at version 2: 1 file changed, 2 as before; uploaded 1 object, 6 B"]


def test_publish_as_json(seekfs: Seekfs, files: Path) -> None:
    ran = seekfs.done("publish", "dev", str(files / "a.txt"), "--as", "x/☃", "--json")
    assert ran.json == {
        "ns": "dev", "version": 1, "new": True, "changed": 1, "unchanged": 0,
        "uploaded_objects": 1, "uploaded_bytes": 6,
    }  # fmt: skip
    assert seekfs.done("manifest", "ls", "dev").lines == [f"6  {HELLO}  x/☃"]


def test_as_names_one_thing(seekfs: Seekfs, files: Path) -> None:
    for command in ("publish", "put"):
        ran = seekfs(command, "dev", str(files / "a.txt"), str(files / "empty"), "--as", "x")
        assert ran.status == 2
        assert "--as gives one FILE or DIR its path; here are 2" in ran.err


@pytest.mark.parametrize("command", ["publish", "put"])
def test_files_that_cannot_be_taken_are_all_named(seekfs: Seekfs, tmp_path: Path, command: str) -> None:
    bad_name = tmp_path / "d" / os.fsdecode(b"\xff.bin")
    bad_name.parent.mkdir()
    bad_name.touch()
    (tmp_path / "link").symlink_to("nowhere")
    ran = seekfs(command, "dev", "d", "link", "missing", "/dev/null")
    assert (ran.status, ran.out) == (1, b"")
    for words in ("missing", "link", "/dev/null", "d/\\udcff.bin"):
        assert words in ran.err
    assert not (tmp_path / ".seekfs" / "store" / "seekfs" / "namespaces").exists()


def test_a_store_that_cannot_be_written_is_a_sentence(
    seekfs: Seekfs, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEKFS_S3_ENDPOINT", "/proc/nothing/here")
    ran = seekfs("publish", "dev", str(files))
    assert (ran.status, ran.out) == (1, b"")
    assert "No such file or directory" in ran.err


# -- put, manifest gen ---------------------------------------------------------------------------


def test_put_lists_its_keys_and_says_what_to_run_next(seekfs: Seekfs, files: Path, tmp_path: Path) -> None:
    ran = seekfs.done("put", "dev", str(files))
    assert ran.lines == [
        "namespaces/dev/files/a.txt",
        "namespaces/dev/files/empty",
        "namespaces/dev/files/sub/b ☃.txt",
    ]
    assert ran.err.splitlines()[0] == "uploaded 3 files, 12 B"
    following = ran.err.splitlines()[1].removeprefix("not published yet; next: ")
    program, *words = shlex.split(following)
    assert program == "seekfs"
    assert seekfs.done(*words).lines == ["dev is at version 1: 3 files changed"]


def test_what_to_run_next_works_for_odd_paths_and_many(seekfs: Seekfs, files: Path, tmp_path: Path) -> None:
    config = tmp_path / "a config.toml"
    config.write_text('[s3]\nengine = "file"\n')
    ran = seekfs.done("put", "dev", str(files / "a.txt"), "--as", "--json", "--config", str(config))
    words = shlex.split(ran.err.splitlines()[1].partition("next: ")[2])
    assert seekfs.done(*words[1:]).lines == ["dev is at version 1: 1 file changed"]
    many = tmp_path / "many"
    many.mkdir()
    for number in range(9):
        (many / str(number)).touch()
    ran = seekfs.done("put", "two", str(many))
    assert ran.err.splitlines()[1].endswith("next: seekfs manifest gen two")


def test_put_refuses_to_change_what_is_there(seekfs: Seekfs, files: Path) -> None:
    seekfs.done("put", "dev", str(files))
    again = seekfs.done("put", "dev", str(files), "--json")
    assert (again.json["uploaded_objects"], len(again.json["keys"])) == (0, 3)
    assert "3 files with the same bytes already there" in again.err
    (files / "a.txt").write_bytes(b"OTHER\n")
    ran = seekfs("put", "dev", str(files / "a.txt"))
    assert ran.status == 1
    assert "namespaces/dev/files/a.txt is there already, with other bytes" in ran.err


def test_gen_of_nothing_is_a_failure(seekfs: Seekfs, files: Path) -> None:
    assert "there is no object under" in seekfs("manifest", "gen", "dev").err
    ran = seekfs("manifest", "gen", "dev", "nope")
    assert ran.status == 1
    assert "no such object: 'namespaces/dev/files/nope'" in ran.err


def test_gen_names_keys_that_cannot_be_a_path(seekfs: Seekfs, files: Path) -> None:
    seekfs.done("put", "old", str(files))
    arguments = ["manifest", "gen", "dev", "--from-prefix", "namespaces/old/files/sub", "--json"]
    ran = seekfs(*arguments)
    assert ran.status == 1
    assert [each["key"] for each in ran.json["left_out"]] == ["namespaces/old/files/sub/b ☃.txt"]
    assert "left out 'namespaces/old/files/sub/b ☃.txt'" in ran.err
    assert "did you mean --from-prefix namespaces/old/files/sub/ ?" in ran.err
    assert "1 key left out; --skip-invalid" in ran.err
    ran = seekfs.done(*arguments, "--skip-invalid")
    assert len(ran.json["left_out"]) == 1
    ran = seekfs.done(*arguments[:-1], "--skip-invalid")
    assert ran.lines == ["nothing to publish: there is no namespace dev, and none was made"]


def test_gen_leaves_out_what_is_its_own_and_can_be_verified_ever_after(seekfs: Seekfs, files: Path) -> None:
    """HEAD is another object as soon as the version that would have it is published."""
    seekfs.done("publish", "dev", str(files))
    arguments = ["manifest", "gen", "all", "--from-prefix", "", "--json"]
    first, again = seekfs(*arguments), seekfs(*arguments)
    assert [(ran.status, ran.json["version"]) for ran in (first, again)] == [(1, 1), (1, 1)]
    own = [{each["key"] for each in ran.json["left_out"]} for ran in (first, again)]
    assert own[0] == {
        ".seekfs/conditional-writes-probe", "namespaces/dev/HEAD", "namespaces/dev/manifests/v-1.json.gz"
    }  # fmt: skip
    assert own[1] - own[0] == {"namespaces/all/HEAD", "namespaces/all/manifests/v-1.json.gz"}
    assert "left out 'namespaces/dev/HEAD': it is seekfs's own HEAD of namespace 'dev'" in first.err
    assert "did you mean" not in first.err
    assert len(seekfs.done("manifest", "ls", "all").lines) == 3
    seekfs.done("manifest", "verify", "all")
    ran = seekfs("manifest", "gen", "all", "HEAD", "--from-prefix", "namespaces/dev/")
    assert (ran.status, ran.out) == (1, b"")
    assert "is seekfs's own HEAD of namespace 'dev'" in ran.err


# -- looking at versions -------------------------------------------------------------------------


def store_manifest(directory: Path, document: dict[str, object]) -> None:
    """Version 1 of ``dev``, written by somebody else."""
    namespace = directory / ".seekfs/store/seekfs/namespaces/dev"
    (namespace / "manifests").mkdir(parents=True)
    (namespace / "manifests" / "v-1.json.gz").write_bytes(json.dumps(document).encode())
    (namespace / "HEAD").write_bytes(b"v-1\n")


@pytest.fixture
def three_versions(seekfs: Seekfs, files: Path) -> Path:
    """v1: a.txt, empty, sub/b ☃.txt; v2: a.txt with other bytes and new.bin; v3: without ``empty``."""
    seekfs.done("publish", "dev", str(files))
    (files / "a.txt").write_bytes(b"changed\n")
    (files / "new.bin").write_bytes(bytes(1000))
    seekfs.done("publish", "dev", str(files))
    ran = seekfs.done("manifest", "rm", "dev", "empty")
    assert ran.lines == ["dev is at version 3: 1 file changed"]
    return files


@pytest.mark.usefixtures("three_versions")
def test_ls_and_show_of_any_version(seekfs: Seekfs) -> None:
    assert [line.split("  ")[-1] for line in seekfs.done("manifest", "ls", "dev").lines] == [
        "a.txt", "new.bin", "sub/b ☃.txt"
    ]  # fmt: skip
    first = seekfs.done("manifest", "ls", "dev", "--version", "1", "--json").json
    assert first["version"] == 1
    assert first["files"][0] == {
        "path": "a.txt", "size": 6, "hash": HELLO, "pages": 1, "page_size": 6,
        "key": f"namespaces/dev/objects/{HELLO.removeprefix('sha256:')}",
    }  # fmt: skip
    shown = dict(line.split(maxsplit=1) for line in seekfs.done("manifest", "show", "dev").lines)
    assert shown["version"] == "3"
    assert shown["parents"] == "2"
    assert shown["dropped"] == "empty"
    assert shown["bytes"] == "1014"
    document = seekfs.done("manifest", "show", "dev", "--version", "1", "--json").json
    assert (document["version"], document["files"][0]["hash"]) == (1, HELLO)


@pytest.mark.parametrize(
    ("created_at", "shown"),
    [
        (1712345678, "2024-04-05T19:34:38Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (253402300799, "9999-12-31T23:59:59Z"),
        (253402300800, "253402300800"),
        (1712345678000, "1712345678000"),
        (-(10**15), "-1000000000000000"),
        (2**62, str(2**62)),
        (2**63, str(2**63)),
        (-(10**300), str(-(10**300))),
    ],
)
def test_show_has_a_time_that_no_calendar_has_as_a_number(
    seekfs: Seekfs, tmp_path: Path, created_at: int, shown: str
) -> None:
    store_manifest(tmp_path, {"version": 1, "created_at": created_at, "files": []})
    assert f"created      {shown}" in seekfs.done("manifest", "show", "dev").lines
    assert seekfs.done("manifest", "show", "dev", "--json").json["created_at"] == created_at


def test_show_lets_nothing_in_a_manifest_speak_to_the_terminal(seekfs: Seekfs, tmp_path: Path) -> None:
    words = "\x1b]0;title\x07\x9b2J\nversion  99"
    store_manifest(tmp_path, {"version": 1, "publication_id": words, "files": []})
    ran = seekfs.done("manifest", "show", "dev")
    assert "publication  \\x1b]0;title\\x07\\x9b2J\\nversion  99" in ran.lines
    assert all(line.isprintable() for line in ran.lines)
    assert seekfs.done("manifest", "show", "dev", "--json").json["publication_id"] == words


@pytest.mark.usefixtures("three_versions")
def test_diff_between_versions_and_with_the_current_one(seekfs: Seekfs) -> None:
    assert seekfs.done("manifest", "diff", "dev", "1").lines == ["+ new.bin", "- empty", "~ a.txt"]
    assert seekfs.done("manifest", "diff", "dev", "3", "2", "--json").json == {
        "ns": "dev", "old": 3, "new": 2, "added": ["empty"], "removed": [], "changed": [], "moved": []
    }  # fmt: skip
    assert seekfs.done("manifest", "diff", "dev", "2", "2").out == b""


@pytest.mark.usefixtures("three_versions")
def test_rollback_publishes_an_old_version_as_a_new_one_unless_it_is_as_that_already(seekfs: Seekfs) -> None:
    assert seekfs.done("manifest", "rollback", "dev", "1", "--json").json["version"] == 4
    assert seekfs.done("manifest", "diff", "dev", "1").out == b""
    again = seekfs.done("manifest", "rollback", "dev", "1")
    assert again.lines == ["dev stays at version 4: nothing has changed"]
    assert seekfs.done("manifest", "rollback", "dev", "4", "--json").json["new"] is False
    ran = seekfs("manifest", "rollback", "dev", "9")
    assert ran.status == 1
    assert "there is no version 9 of namespace 'dev', whose current version is 4" in ran.err


def test_verify_says_what_differs(seekfs: Seekfs, three_versions: Path, tmp_path: Path) -> None:
    ran = seekfs.done("manifest", "verify", "dev")
    assert ran.out == b""
    assert ran.err == "3 files of dev at version 3, 1014 B: all as published\n"
    objects = tmp_path / ".seekfs" / "store" / "seekfs" / "namespaces" / "dev" / "objects"
    damaged = next(file for file in objects.iterdir() if file.stat().st_size == 1000)
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(999) + b"\1")
    ran = seekfs("manifest", "verify", "dev")
    assert ran.status == 1
    assert all(line.startswith("new.bin: ") for line in ran.lines)
    assert "page 0 has CRC-32C" in ran.lines[0]
    ran = seekfs("manifest", "verify", "dev", "new.bin", "--version", "2", "--json")
    assert ran.status == 1
    assert {each["path"] for each in ran.json["differences"]} == {"new.bin"}
    assert seekfs.done("manifest", "verify", "dev", "a.txt").err.startswith("1 file of dev")


@pytest.mark.parametrize(
    "arguments",
    [
        ["manifest", "show", "nope"],
        ["manifest", "ls", "nope"],
        ["manifest", "rm", "nope", "a"],
        ["manifest", "rollback", "nope", "1"],
        ["manifest", "verify", "nope"],
        ["manifest", "diff", "nope", "1"],
    ],
)
def test_a_namespace_that_is_not_there_is_a_sentence(seekfs: Seekfs, arguments: list[str]) -> None:
    ran = seekfs(*arguments)
    assert (ran.status, ran.out) == (1, b"")
    assert ran.err == "seekfs: there is no namespace 'nope'\n"


def test_a_damaged_manifest_is_named(seekfs: Seekfs, files: Path, tmp_path: Path) -> None:
    seekfs.done("publish", "dev", str(files))
    stored = tmp_path / ".seekfs/store/seekfs/namespaces/dev/manifests/v-1.json.gz"
    stored.chmod(0o644)
    stored.write_bytes(json.dumps({"version": 1, "files": [{"path": "/"}]}).encode())
    for command in (["manifest", "ls", "dev"], ["publish", "dev", str(files)]):
        ran = seekfs(*command)
        assert (ran.status, ran.out) == (1, b"")
        assert "manifest v-1 of namespace 'dev'" in ran.err


def test_bucket_make_may_be_repeated(seekfs: Seekfs) -> None:
    assert seekfs.done("bucket", "make").err == "bucket seekfs: made\n"
    assert seekfs.done("bucket", "make").err == "bucket seekfs: was there\n"
    assert seekfs.done("bucket", "make", "--json").json == {"bucket": "seekfs", "created": False}
