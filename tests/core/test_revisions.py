"""What may be asked of versions, and how they compare."""

from __future__ import annotations

import pytest

from seekfs_core.errors import (
    BadRequest,
    FailureKind,
    NoSuchFile,
    NoSuchNamespace,
    NoSuchObject,
    NoSuchVersion,
    SeekfsError,
    ShuttingDown,
    StoreAnswered,
    StoreFailure,
    error_of,
)
from seekfs_core.manifest import Manifest
from seekfs_core.names import VERSION_MAX
from seekfs_core.revisions import (
    content_differences,
    diff,
    is_difference,
    removal,
    restoration,
    size_difference,
    version_asked,
)
from tests.core.model_files import blank_file, manifest_of


def base_of(*paths: str) -> Manifest:
    return manifest_of(*(blank_file(path, 30, 10) for path in paths))


@pytest.mark.parametrize(("version", "head", "asked"), [(None, 3, 3), (1, 3, 1), (3, 3, 3)])
def test_which_version_is_meant(version: int | None, head: int, asked: int) -> None:
    assert version_asked("dev", version, head) == asked


@pytest.mark.parametrize(
    ("version", "head", "error"),
    [
        (None, None, NoSuchNamespace),
        (1, None, NoSuchNamespace),
        (4, 3, NoSuchVersion),
        (0, 3, BadRequest),
        (-1, None, BadRequest),
        (VERSION_MAX + 1, 3, BadRequest),
    ],
)
def test_which_version_cannot_be_meant(
    version: int | None, head: int | None, error: type[SeekfsError]
) -> None:
    with pytest.raises(error):
        version_asked("dev", version, head)


def test_each_path_is_removed_once_and_all_that_are_missing_are_named() -> None:
    change = removal("dev", base_of("a", "b"), ["b", "a", "b"], overwrite=True, created_at=7)
    assert (change.removals, change.puts, change.overwrite, change.created_at) == (("b", "a"), {}, True, 7)
    with pytest.raises(NoSuchFile, match="'x', 'y'") as raised:
        removal("dev", base_of("a"), ["x", "a", "y"], overwrite=False, created_at=0)
    assert raised.value.context["paths"] == ["x", "y"]
    with pytest.raises(NoSuchNamespace):
        removal("dev", None, ["a"], overwrite=False, created_at=0)


def test_a_restoration_is_everything_and_nothing_else() -> None:
    old = base_of("a")
    change = restoration(old, created_at=7)
    assert (change.puts, change.exact, change.created_at) == (old.files, True, 7)


def test_a_diff_tells_other_bytes_from_the_same_bytes_elsewhere() -> None:
    old = manifest_of(*(blank_file(path, 30, 10) for path in ("gone", "other", "same", "there")))
    there = old.files["there"]
    moved = type(there)(
        path="there",
        size=there.size,
        sha256=there.sha256,
        page_size_bytes=there.page_size_bytes,
        crcs=there.crcs,
        storage_key="namespaces/dev/objects/there",
        storage_etag=there.storage_etag,
    )
    new = manifest_of(blank_file("came", 1, 1), blank_file("other", 31, 10), old.files["same"], moved)
    found = diff(old, new)
    assert (found.added, found.removed) == (("came",), ("gone",))
    assert (found.changed, found.moved) == (("other",), ("there",))


def test_what_is_wrong_with_an_object() -> None:
    entry = blank_file("a", 30, 10)
    assert size_difference(entry, 30) is None
    assert "gone" in str(size_difference(entry, None))
    assert "29 bytes, the manifest 30" in str(size_difference(entry, 29))
    assert content_differences(entry, 30, [0, 1, 2], entry.sha256) == []
    page, whole = content_differences(entry, 30, [0, 9, 2], bytes(32))
    assert page.startswith("page 1 has CRC-32C 0x00000009, the manifest 0x00000001")
    assert entry.hash_text in whole


@pytest.mark.parametrize("pages", [0, 1, 4])
def test_an_object_of_another_size_has_no_pages_to_compare(pages: int) -> None:
    entry = blank_file("a", 30, 10)
    (what,) = content_differences(entry, pages * 10, list(range(pages)), bytes(32))
    assert what == f"the object has {pages * 10} bytes, the manifest 30"


@pytest.mark.parametrize(
    ("failure", "differs"),
    [
        (StoreFailure(kind=FailureKind.MISSING, detail="", status=404), True),
        (StoreFailure(kind=FailureKind.PRECONDITION, detail="", status=412), True),
        (StoreFailure(kind=FailureKind.BAD_ANSWER, detail="", status=206), True),
        (StoreFailure(kind=FailureKind.CUT_SHORT, detail=""), True),
        (StoreFailure(kind=FailureKind.DENIED, detail="", status=403), False),
        (StoreFailure(kind=FailureKind.DENIED, detail="a file that may not be read"), False),
        (StoreFailure(kind=FailureKind.REDIRECTED, detail="", status=301), False),
        (StoreFailure(kind=FailureKind.MISSING, detail="", status=404, code="NoSuchBucket"), False),
        (StoreFailure(kind=FailureKind.UNREACHABLE, detail=""), False),
        (StoreFailure(kind=FailureKind.TIMED_OUT, detail=""), False),
        (StoreFailure(kind=FailureKind.BUSY, detail="", status=503), False),
        (StoreFailure(kind=FailureKind.CLOSING, detail=""), False),
    ],
)
def test_which_errors_are_about_one_file(failure: StoreFailure, differs: bool) -> None:
    assert is_difference(error_of(failure, key="k")) is differs


def test_an_object_that_is_gone_or_keeps_changing_is_a_difference() -> None:
    assert is_difference(NoSuchObject("there is no object 'k'"))
    assert is_difference(StoreAnswered("'k' changed while it was being read"))
    assert not is_difference(ShuttingDown("stopped"))
