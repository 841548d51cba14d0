"""seekfs_wsgi.items: a batch is decoded exactly, or refused naming the item."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import BadRequest, SeekfsError, TooLarge
from seekfs_wsgi.items import ITEMS_MAX, Item, decode_items

NO_LIMIT = 2**80
GOOD = b'{"path":"a","off":1,"len":2}'


def refusal(body: bytes, kind: type[SeekfsError] = BadRequest) -> SeekfsError:
    with pytest.raises(kind) as refused:
        decode_items(body, NO_LIMIT)
    return refused.value


def test_items_in_order() -> None:
    body = b'[{"path":"a","off":1,"len":2}, {"len":3,\n"off":0 , "path":"b/\xe2\x98\x83"}]'
    assert decode_items(body, NO_LIMIT) == [("a", 1, 2), ("b/☃", 0, 3)]


@given(
    st.lists(
        st.tuples(
            st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12),
            st.integers(0, 2**63 - 1),
            st.integers(0, 2**63 - 1),
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_whatever_json_writes_is_read_back(items: list[Item], ascii_only: bool) -> None:
    objects = [{"path": path, "off": off, "len": length} for path, off, length in items]
    assert decode_items(json.dumps(objects, ensure_ascii=ascii_only).encode(), NO_LIMIT) == items


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (b'{"path":"a","off":1,"len":2,"off":1}', "'off' is given more than once"),
        (b'{"path":"a","off":1,"len":2,"len":3}', "'len' is given more than once"),
        (b'{"path":"a","off":1,"len":2,"path":"a"}', "'path' is given more than once"),
        (b'{"path":"a","off":1,"len":2,"p\\u0061th":"a"}', "'path' is given more than once"),
        (b'{"path":"a\\"","off":1,"len":2,"off":1}', "'off' is given more than once"),
        (b'{"path":"a\\\\","off":1,"len":2,"off":1}', "'off' is given more than once"),
        (b'{"path":"a","off":-0,"len":2}', "off is -0"),
        (b'{"path":"a","off":1,"len" :\t-0}', "len is -0"),
        (b'{"path":"a","off":-1,"len":2}', "off"),
        (b'{"path":"a","off":1.0,"len":2}', "off: Expected int, got float"),
        (b'{"path":"a","off":1e2,"len":2}', "off: Expected int, got float"),
        (b'{"path":"a","off":true,"len":2}', "off"),
        (b'{"path":"a","off":"1","len":2}', "off"),
        (b'{"path":"a","off":null,"len":2}', "off"),
        (b'{"path":"a","off":9223372036854775808,"len":2}', "off"),
        (b'{"path":"a","off":1,"len":99999999999999999999999999}', "len"),
        (b'{"path":1,"off":1,"len":2}', "path"),
        (b'{"path":null,"off":1,"len":2}', "path"),
        (b'{"path":"a","off":1}', "len"),
        (b'{"off":1,"len":2}', "path"),
        (b"{}", "path"),
        (b'{"path":"a","off":1,"len":2,"length":2}', "length"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'["a",1,2]', "object"),
        (b'{"path":"\xff","off":1,"len":2}', "UTF-8"),
        (b'{"path":"\xed\xa0\x80","off":1,"len":2}', "UTF-8"),
        (b'{"path":"\\ud800","off":1,"len":2}', "UTF-8"),
        (b'{"path":"a","off":1,"len":2,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "unknown field x"),
    ],
)
@pytest.mark.parametrize("before", [0, 3])
def test_a_bad_item_is_refused_and_named(item: bytes, says: str, before: int) -> None:
    body = b"[" + b",".join([GOOD] * before + [item, GOOD]) + b"]"
    error = refusal(body)
    assert error.context["item"] == before
    assert f"item {before}: " in error.detail
    assert says in error.detail


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "empty"),
        (b"{}", "array"),
        (b"null", "array"),
        (b'"a"', "array"),
        (b"1", "array"),
        (b"[" + GOOD, "not JSON"),
        (b"[" + GOOD + b"] x", "not JSON"),
        (b"[" + GOOD + b",]", "not JSON"),
        (b"[" + GOOD + b"][" + GOOD + b"]", "not JSON"),
        (b"\xef\xbb\xbf[" + GOOD + b"]", "not JSON"),
        (b'[{"path":"a","off":007,"len":2}]', "not JSON"),
        (b'[{"path":"a\x01","off":0,"len":2}]', "not JSON"),
        (b"[NaN]", "not JSON"),
        (b"\xff\xfe[\x00]\x00", "not UTF-8 at byte 0"),
        (b"{" * 100_000, ""),
        (b'{"a":' * 100_000, "array"),
    ],
    ids=lambda value: repr(value[:24]),
)
def test_a_body_that_is_no_batch_is_refused(body: bytes, says: str) -> None:
    assert says in refusal(body).detail


@pytest.mark.parametrize("bracket", [b"[", b'[{"path":', b'[{"path":"a","off":1,"len":2,"x":'])
def test_nesting_without_end_is_refused(bracket: bytes) -> None:
    assert refusal(bracket * 100_000).status == 400
    assert refusal(b"[" + bracket * 100_000).status == 400


@pytest.mark.parametrize("path", ["a:-0", "-0", 'x": -0', "a\\", '\\"', '\\\\"', "\\\\", '"'])
def test_paths_that_look_like_a_fault_are_none(path: str) -> None:
    body = json.dumps([{"path": path, "off": 0, "len": 1}]).encode()
    assert decode_items(body, NO_LIMIT) == [(path, 0, 1)]


def test_a_refusal_never_repeats_megabytes() -> None:
    body = json.dumps([{"path": "a", "off": 1, "len": 2, "x" * 1_000_000: 1}]).encode()
    assert len(refusal(body).detail) < 1000


def test_as_many_items_as_allowed() -> None:
    body = b"[" + b",".join([GOOD] * ITEMS_MAX) + b"]"
    assert decode_items(body, NO_LIMIT) == [("a", 1, 2)] * 65_536


def test_one_item_too_many() -> None:
    error = refusal(b"[" + b",".join([GOOD] * (ITEMS_MAX + 1)) + b"]", TooLarge)
    assert "65537" in error.detail


def test_far_too_many_items_are_refused_before_they_are_made() -> None:
    assert "400000 ranges" in refusal(b"[" + b",".join([GOOD] * 400_000) + b"]", TooLarge).detail


def test_the_sum_of_lengths_is_limited() -> None:
    body = b'[{"path":"a","off":0,"len":60},{"path":"a","off":0,"len":40}]'
    assert len(decode_items(body, 100)) == 2
    with pytest.raises(TooLarge, match="100 bytes in all; at most 99"):
        decode_items(body, 99)
