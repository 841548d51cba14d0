"""Which objects become files: what is named must be there, what is found may be left out."""

from __future__ import annotations

import pytest

from seekfs_core.errors import BadRequest, InvalidName, NoSuchObject
from seekfs_core.names import PROBE_KEY, files_prefix, head_key
from seekfs_core.selection import LeftOut, Selection, check_all_there, select_listed, select_named

PREFIX = files_prefix("dev")


def test_each_named_path_is_selected_once_in_order() -> None:
    assert select_named(PREFIX, ["b", "a", "b"]) == Selection({"b": PREFIX + "b", "a": PREFIX + "a"})


@pytest.mark.parametrize("path", ["", "a//b", "/a", "../a"])
def test_a_named_path_that_cannot_be_one_is_an_error(path: str) -> None:
    with pytest.raises(InvalidName):
        select_named(PREFIX, ["a", path])


def test_a_named_object_that_cannot_be_a_file_is_an_error() -> None:
    with pytest.raises(BadRequest, match="HEAD of namespace 'dev'"):
        select_named("namespaces/dev/", ["HEAD"])


def test_all_named_objects_that_are_not_there_are_told_of() -> None:
    named = select_named(PREFIX, ["a", "b", "c"])
    check_all_there(named, {PREFIX + path for path in "abcd"})
    with pytest.raises(NoSuchObject, match=r"files/a', '.*files/c'") as raised:
        check_all_there(named, [PREFIX + "b"])
    assert raised.value.context["keys"] == [PREFIX + "a", PREFIX + "c"]


def test_what_was_only_found_is_left_out_where_no_file_can_be_made_of_it() -> None:
    found = select_listed("", dict.fromkeys(["a", "b//c", head_key("dev"), PROBE_KEY, "d/e"], 7))
    assert found.keys == {"a": "a", "d/e": "d/e"}
    assert [each.key for each in found.left_out] == ["b//c", head_key("dev"), PROBE_KEY]
    assert found.left_out[1] == LeftOut(head_key("dev"), "it is seekfs's own HEAD of namespace 'dev'")


def test_a_listing_without_any_object_is_an_error_and_one_without_files_is_none() -> None:
    with pytest.raises(NoSuchObject, match=f"there is no object under '{PREFIX}'"):
        select_listed(PREFIX, {})
    assert select_listed(PREFIX, {PREFIX + "a//b": 7}).keys == {}


def test_an_object_that_stands_for_a_folder_is_neither_a_file_nor_a_failure() -> None:
    found = select_listed(PREFIX, {PREFIX: 0, PREFIX + "a/": 0, PREFIX + "a/b": 7, PREFIX + "c/": 1})
    assert found.keys == {"a/b": PREFIX + "a/b"}
    assert found.folder_markers == (PREFIX, PREFIX + "a/")
    assert [each.key for each in found.left_out] == [PREFIX + "c/"]
    with pytest.raises(NoSuchObject):
        select_listed(PREFIX, {PREFIX: 0})
