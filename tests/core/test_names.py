"""Names: what is allowed, what is refused, and that the refusal says why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core import names
from seekfs_core.errors import InvalidName, ManifestInvalid


@pytest.mark.parametrize("ns", ["a", "0", "dev", "a.b_c-d", "9" * 63])
def test_namespaces_that_are_fine(ns: str) -> None:
    assert names.check_namespace(ns) == ns


@pytest.mark.parametrize(
    "ns", ["", ".", "..", "-a", "_a", ".a", "A", "a/b", "a b", "a\n", "é", "9" * 64, "a\0", "٣"]
)
def test_namespaces_that_are_refused(ns: str) -> None:
    with pytest.raises(InvalidName, match="is not a namespace") as caught:
        names.check_namespace(ns)
    assert caught.value.context["parameter"] == "namespace"


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b",
        ".hidden",
        "..hidden",
        "...",
        "a/.../b",
        "a./b",
        "a b",
        "+%&?#=",
        "☃/é/e\u0301",
        "\U0001f600",
        "\u00a0",
        "\u2028",
        "x" * 1024,
        "é" * 512,
        "\\",
        "a:b",
        "~",
    ],
)
def test_paths_that_are_fine(path: str) -> None:
    assert names.check_path(path) == path
    assert names.check_object_key(path) == path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "is empty"),
        ("/", "begins with"),
        ("/a", "begins with"),
        ("a/", "ends with"),
        ("a//b", "empty segment"),
        (".", r"segment '\.'"),
        ("..", r"segment '\.\.'"),
        ("a/.", r"segment '\.'"),
        ("a/../b", r"segment '\.\.'"),
        ("./a", r"segment '\.'"),
        ("a\0b", r"U\+0000 at 1"),
        ("a\n", r"U\+000A at 1"),
        ("\x1f", r"U\+001F"),
        ("\x7f", r"U\+007F"),
        ("\x80", r"U\+0080"),
        ("\x9f", r"U\+009F"),
        ("\udc80", "lone surrogate"),
        ("a\ud800", "lone surrogate"),
        ("x" * 1025, "1025 bytes"),
        ("é" * 512 + "x", "1025 bytes"),
        ("x" * 2000 + "//", "empty segment|ends with"),
    ],
)
def test_paths_that_are_refused(path: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why):
        names.check_path(path)


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "//", "a b+%☃", "x" * 1024])
def test_keys_may_have_empty_segments(key: str) -> None:
    assert names.check_object_key(key) == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "empty"),
        (".", "segment"),
        ("a/../b", "segment"),
        ("a//./b", "segment"),
        ("a\tb", r"U\+0009"),
        ("\ud800", "surrogate"),
        ("x" * 1025, "1025 bytes"),
    ],
)
def test_keys_that_are_refused(key: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why):
        names.check_object_key(key)


@pytest.mark.parametrize(
    ("prefix", "key", "path"),
    [
        ("namespaces/dev/files/", "namespaces/dev/files/a/b", "a/b"),
        ("raw/", "raw/a", "a"),
        ("raw", "rawer", "er"),
        ("", "a", "a"),
        ("", "a/HEAD", "a/HEAD"),
        ("", "namespaces/Not one/HEAD", "namespaces/Not one/HEAD"),
        ("", "namespaces/dev/files/HEAD", "namespaces/dev/files/HEAD"),
        ("", "namespaces/dev/manifests/v-1.json.gz.bak", "namespaces/dev/manifests/v-1.json.gz.bak"),
        ("namespaces/dev/", "namespaces/dev/objects/00", "objects/00"),
        ("a//", "a//b", "b"),
    ],
)
def test_the_path_of_a_key(prefix: str, key: str, path: str) -> None:
    assert names.path_of_key(prefix, key) == path


@pytest.mark.parametrize(
    ("prefix", "key", "why"),
    [
        ("raw", "raw/a", "'/a' begins with '/'"),
        ("raw/", "raw/", "'' is empty"),
        ("raw/", "raw/a/", "'a/' ends with '/'"),
        ("", "a\tb", "'a\\tb' has the control character U+0009 at 1"),
        ("../", "../a", "as a key it has a segment '..'"),
        ("x" * 1000 + "/", "x" * 1000 + "/" + "y" * 24, "as a key it is 1025 bytes long"),
        ("", "namespaces/dev/HEAD", "it is seekfs's own HEAD of namespace 'dev'"),
        ("namespaces/", "namespaces/d.2/HEAD", "it is seekfs's own HEAD of namespace 'd.2'"),
        ("namespaces/dev/", names.head_key("dev"), "is seekfs's own HEAD of namespace 'dev'"),
        ("", names.manifest_key("dev", names.VERSION_MAX), "is seekfs's own manifest of namespace 'dev'"),
        ("", names.PROBE_KEY, "it is seekfs's own probe for conditional writes"),
    ],
)
def test_keys_of_which_no_file_can_be_made(prefix: str, key: str, why: str) -> None:
    found = names.path_of_key(prefix, key)
    assert isinstance(found, names.NoPath)
    assert why in found.reason


@pytest.mark.parametrize(
    ("key", "size", "is_marker"),
    [
        ("fold/", 0, True),
        ("fold/sub/", 0, True),
        ("fold//", 0, True),
        ("fold/", 1, False),
        ("fold", 0, False),
        ("fold/a", 0, False),
    ],
)
def test_a_folder_marker_is_empty_and_ends_in_a_slash(key: str, size: int, is_marker: bool) -> None:
    assert names.is_folder_marker(key, size) == is_marker


@pytest.mark.parametrize(
    ("prefix", "left_out", "meant"),
    [
        ("raw", ["raw/a", "raw/b"], "raw/"),
        ("raw", ["rawer\t", "raw/b"], "raw/"),
        ("raw", ["rawer\t"], None),
        ("raw", [], None),
        ("raw/", ["raw//a"], None),
        ("", ["/a"], None),
    ],
)
def test_a_slash_that_was_forgotten(prefix: str, left_out: list[str], meant: str | None) -> None:
    assert names.meant_prefix(prefix, left_out) == meant


def test_a_huge_name_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InvalidName) as caught:
        names.check_path("x" * 10_000_000)
    assert len(str(caught.value)) < 400


@settings(deadline=None)
@given(st.text(st.characters(codec=None), max_size=40))
def test_the_one_search_agrees_with_the_rules_written_out(path: str) -> None:
    def naive() -> bool:
        try:
            encoded = path.encode("utf-8")
        except UnicodeEncodeError:
            return False
        if not 1 <= len(encoded) <= 1024:
            return False
        if any(ord(c) <= 0x1F or 0x7F <= ord(c) <= 0x9F for c in path):
            return False
        return not any(segment in ("", ".", "..") for segment in path.split("/"))

    assert (names.path_fault(path) is None) == naive()


@settings(deadline=None)
@given(st.text("./a\x7f", max_size=8))
def test_the_one_search_agrees_on_dots_and_slashes(path: str) -> None:
    naive = bool(path) and "\x7f" not in path
    assert (names.path_fault(path) is None) == (
        naive and not any(s in ("", ".", "..") for s in path.split("/"))
    )
    assert (names.object_key_fault(path) is None) == (
        naive and not any(s in (".", "..") for s in path.split("/"))
    )


@pytest.mark.parametrize("stored", [b"v-42\n", b"v-42", b"v42\n", b"v42", b"42\n", b"42", b"v-0042\n"])
def test_heads_that_are_read(stored: bytes) -> None:
    assert names.parse_head(stored, ns="dev") == 42


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\n",
        b"v",
        b"v-",
        b"v--1",
        b"-1",
        b"V-1",
        b"v-1\n\n",
        b"v-1\r\n",
        b" v-1",
        b"v-1 ",
        b"v-1.0",
        b"v-0\n",
        b"v-9223372036854775808\n",
        b"v-" + b"1" * 62,
        b"0" * 64 + b"1",
        "v-\u0664".encode(),
        b"\xff",
        b"\x1f\x8b",
    ],
)
def test_heads_that_are_refused(stored: bytes) -> None:
    with pytest.raises(ManifestInvalid, match="HEAD of namespace 'dev' ") as caught:
        names.parse_head(stored, ns="dev")
    assert caught.value.context == {"ns": "dev", "key": "namespaces/dev/HEAD"}


@settings(deadline=None)
@given(st.integers(1, names.VERSION_MAX))
def test_head_round_trip(version: int) -> None:
    assert names.parse_head(names.format_head(version), ns="dev") == version


def test_the_layout_of_the_bucket() -> None:
    assert names.format_head(42) == b"v-42\n"
    assert names.head_key("dev") == "namespaces/dev/HEAD"
    assert names.manifest_key("dev", 42) == "namespaces/dev/manifests/v-42.json.gz"
    assert names.file_object_key("dev", "a b/☃") == "namespaces/dev/files/a b/☃"
    assert names.file_object_key("dev", "a").startswith(names.files_prefix("dev"))
    assert names.content_object_key("dev", "ab" * 32) == "namespaces/dev/objects/" + "ab" * 32
    for wrong in ("AB" * 32, "ab" * 31, "../../x"):
        with pytest.raises(ValueError, match="SHA-256"):
            names.content_object_key("dev", wrong)


def test_a_name_in_a_sentence_is_never_long() -> None:
    assert names.shown("a\n☃") == "'a\\n☃'"
    assert names.shown("a" * 200) == repr("a" * 200)
    assert names.shown("a" * 10**6) == repr("a" * 200) + "..."
