"""What is remembered of HEADs: never back, and the ones that moved last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.heads import KnownHeads, bucket_identity

NAMES = st.sampled_from("abcdef")


@given(st.lists(st.tuples(NAMES, st.integers(1, 9))))
def test_a_version_never_goes_back_whatever_the_order_of_the_news(news: list[tuple[str, int]]) -> None:
    known = KnownHeads()
    for ns, version in news:
        before = known.versions().get(ns, 0)
        assert known.learn(ns, version) is (version > before)
        assert known.version_of(ns) == max(version, before)
    assert known.versions() == {ns: max(version for name, version in news if name == ns) for ns, _ in news}
    assert list(known.versions().values()) == [known.versions()[ns] for ns in known.versions()]


@given(st.lists(st.tuples(NAMES, st.integers(1, 9))), st.integers(0, 7))
def test_those_that_moved_last_are_kept(news: list[tuple[str, int]], room: int) -> None:
    known = KnownHeads()
    for ns, version in news:
        known.learn(ns, version)
    before = list(known.versions().items())
    kept = known.trim(lambda versions: len(versions) <= room)
    assert list(kept.items()) == before[len(before) - min(room, len(before)) :]
    assert known.versions() == kept


def test_what_never_fits_is_given_up_and_that_ends() -> None:
    known = KnownHeads()
    known.restore({f"n{number}": 1 for number in range(1000)})
    tries = 0

    def fits(versions: object) -> bool:
        nonlocal tries
        tries += 1
        return False

    assert known.trim(fits) == {}
    assert tries < 60


def test_the_order_survives_a_restart() -> None:
    known, again = KnownHeads(), KnownHeads()
    for ns, version in (("a", 1), ("b", 1), ("a", 2)):
        known.learn(ns, version)
    again.restore(known.versions())
    assert list(again.versions()) == ["b", "a"]


def test_what_is_remembered_is_one_buckets() -> None:
    identity = bucket_identity("botocore", "http://store:9000", "data")
    # These bytes are on disk: others would empty every shelf.
    assert identity.hex() == "e789f116ca69f49f53231d276067fa49af7de5f28b9303fe37d3709b883b81fe"
    others = {
        bucket_identity("crt", "http://store:9000", "data"),
        bucket_identity("botocore", "http://other:9000", "data"),
        bucket_identity("botocore", None, "data"),
        bucket_identity("botocore", "http://store:9000", "dat"),
    }
    assert len(others - {identity}) == 4
    assert KnownHeads().version_of("dev") is None
