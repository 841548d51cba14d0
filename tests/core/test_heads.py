"""What is remembered of HEADs: never back, and the ones that moved last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.heads import (
    KnownHeads,
    bucket_identity,
    decode_heads,
    encode_heads,
    server_at,
    server_in,
)
from seekfs_core.names import VERSION_MAX
from tests.core.strategies import long_lists

NAMES = st.sampled_from("abcdef")


@given(long_lists(st.tuples(NAMES, st.integers(1, 9)), 30))
def test_a_version_never_goes_back_whatever_the_order_of_the_news(news: list[tuple[str, int]]) -> None:
    known = KnownHeads()
    for ns, version in news:
        before = known.versions().get(ns, 0)
        assert known.learn(ns, version) is (version > before)
        assert known.version_of(ns) == max(version, before)
    assert known.versions() == {ns: max(version for name, version in news if name == ns) for ns, _ in news}
    assert list(known.versions().values()) == [known.versions()[ns] for ns in known.versions()]


news_of_any = long_lists(
    st.tuples(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True), st.integers(1, VERSION_MAX)), 8
)


@given(news_of_any, st.integers(-10, 400))
def test_those_that_moved_last_are_kept_as_many_as_fit(news: list[tuple[str, int]], length_max: int) -> None:
    known = KnownHeads()
    for ns, version in news:
        known.learn(ns, version)
        assert known.encoded_length == len(encode_heads(known.versions()))
    before = list(known.versions().items())
    known.trim(length_max)
    after = list(known.versions().items())
    assert after == before[len(before) - len(after) :]
    assert known.encoded_length == len(encode_heads(known.versions()))
    assert known.encoded_length <= length_max or not after
    if len(after) < len(before):  # One more would have been too many.
        assert len(encode_heads(dict(before[-len(after) - 1 :]))) > length_max


def test_what_never_fits_is_given_up() -> None:
    known = KnownHeads()
    known.restore({f"n{number}": 1 for number in range(1000)})
    known.trim(0)
    assert known.versions() == {}
    assert known.encoded_length == len(b"{}")


def test_it_is_written_when_there_is_news_and_again_after_a_refusal() -> None:
    known = KnownHeads()
    known.restore({"a": 1})
    known.learn("a", 1)
    assert known.to_write(100) is None
    known.learn("a", 2)
    assert known.to_write(100) == {"a": 2}
    assert known.to_write(100) is None
    known.refused()
    known.learn("a", 2)
    assert known.to_write(100) == {"a": 2}
    known.learn("b", 1)
    assert known.to_write(len(encode_heads({"b": 1}))) == {"b": 1}


@given(st.dictionaries(NAMES, st.integers(1, VERSION_MAX)))
def test_what_is_kept_is_read_back_in_order(versions: dict[str, int]) -> None:
    decoded = decode_heads(encode_heads(versions))
    assert decoded is not None
    assert list(decoded.items()) == list(versions.items())


@pytest.mark.parametrize("stored", [b"", b"[]", b'{"a": "1"}', b'{"a": 1', b"\xff"])
def test_what_is_no_list_of_heads_is_none(stored: bytes) -> None:
    assert decode_heads(stored) is None


def test_the_order_survives_a_restart() -> None:
    known, again = KnownHeads(), KnownHeads()
    for ns, version in (("a", 1), ("b", 1), ("a", 2)):
        known.learn(ns, version)
    again.restore(known.versions())
    assert list(again.versions()) == ["b", "a"]


def test_what_is_remembered_is_one_buckets() -> None:
    identity = bucket_identity(server_at("http://store:9000", "us-east-1"), "data")
    # These bytes are on disk: others would empty every shelf.
    assert identity.hex() == "2a1303ac1a58271e8d445d278932d3fd7191878ed82296f2aeaaeae32d870003"
    servers = [
        server_at("http://other:9000", "us-east-1"),
        server_at("http://store:9001", "us-east-1"),
        server_at("https://store:9000", "us-east-1"),
        server_at("http://store:9000/behind", "us-east-1"),
        server_at("http://store:9000/Behind", "us-east-1"),
        server_at(None, "us-east-1"),
        server_at(None, "cn-north-1"),  # Another part of AWS, where the same name is another bucket.
        server_in("/data"),
        server_in("/Data"),
        server_in("/data/\udcff"),
    ]
    others = {bucket_identity(server, "data") for server in servers}
    others.add(bucket_identity(server_at("http://store:9000", "us-east-1"), "dat"))
    assert len(others - {identity}) == len(servers) + 1
    assert KnownHeads().version_of("dev") is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://store:9000", "http://store:9000/"),
        ("http://store", "http://store:80"),
        ("https://store", "https://store:443/"),
        ("http://store:443", "http://store:0443"),
        ("http://Store:9000", "HTTP://store:9000"),
        ("http://[::1]", "http://[::1]:80"),
        ("http://[FE80::1]:9000", "http://[fe80::1]:9000/"),
        ("http://store/s3", "http://store:80/s3/"),
    ],
)
def test_two_spellings_of_an_address_are_one_server(one: str, other: str) -> None:
    assert server_at(one, "us-east-1") == server_at(other, "eu-west-1")


def test_an_endpoint_that_is_no_address_is_what_it_is() -> None:
    assert server_at("somewhere", "us-east-1") == "somewhere"
    assert server_at(None, "us-east-1") == "aws:us-east-1"
