"""What leaves the shelf: the least recently used first, what a node serves last; never over the ceiling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import ContractViolation
from seekfs_core.heads import KnownHeads
from seekfs_core.names import VERSION_MAX
from seekfs_core.shelf import (
    BLOCK_BYTES,
    FILE_OVERHEAD_BYTES,
    HEADS_BYTES_MAX,
    FoundManifest,
    KeptLoss,
    ManifestName,
    ShelfRetention,
    file_charge,
    is_shelf_file,
    loss_in_loading,
    manifest_file,
    manifest_in,
    shelf_layout,
)
from seekfs_core.tier import Outcome
from tests.core.strategies import long_lists


def shelf_of(
    ceiling_bytes: int, kept: dict[ManifestName, int], *, heads: dict[str, int] | None = None, **pins: int
) -> ShelfRetention:
    known = KnownHeads()
    known.restore(heads or {})
    shelf = ShelfRetention(ceiling_bytes, known, pins)
    for name, nbytes in kept.items():
        shelf.kept(name, nbytes)
    return shelf


def test_the_manifest_used_least_recently_goes_first_and_no_more_than_need_to() -> None:
    shelf = shelf_of(16, {("a", 1): 4, ("a", 2): 4, ("a", 3): 4})
    assert shelf.room_for(("a", 4), 4) == ()
    assert shelf.room_for(("a", 4), 5) == (("a", 1),)
    assert shelf.used(("a", 1))
    assert shelf.room_for(("a", 4), 5) == (("a", 2),)
    assert shelf.room_for(("a", 4), 16) == (("a", 2), ("a", 3), ("a", 1))
    assert shelf.room_for(("a", 4), 17) is None
    assert not shelf.used(("a", 4))


def test_the_version_that_head_names_outlives_any_number_of_older_ones() -> None:
    """It is served from memory, so that it is never loaded again."""
    shelf = shelf_of(10, {("a", 9): 4}, heads={"a": 9})
    for version in range(1, 9):
        victims = shelf.room_for(("a", version), 4)
        assert victims is not None
        for victim in victims:
            shelf.gone(victim)
        shelf.kept(("a", version), 4)
    assert ("a", 9) in shelf
    assert [version for version in range(1, 9) if ("a", version) in shelf] == [8]


def test_what_is_not_current_displaces_nothing_that_is() -> None:
    shelf = shelf_of(8, {("a", 9): 4, ("b", 2): 4}, heads={"a": 9}, b=2)
    assert shelf.room_for(("a", 8), 1) is None
    assert shelf.room_for(("b", 3), 1) is None
    assert shelf.room_for(("c", 1), 1) is None


def test_of_current_ones_the_least_recently_used_goes_and_after_all_others() -> None:
    kept = {("a", 9): 2, ("b", 2): 2, ("a", 1): 2, ("c", 5): 2}
    shelf = shelf_of(8, kept, heads={"a": 9, "d": 1}, b=2)
    assert shelf.room_for(("d", 1), 4) == (("a", 1), ("c", 5))
    assert shelf.room_for(("d", 1), 5) == (("a", 1), ("c", 5), ("a", 9))


def test_a_version_newer_than_the_remembered_head_is_current() -> None:
    """It is read because HEAD names it by now, and that is remembered a moment later."""
    shelf = shelf_of(4, {("a", 9): 4}, heads={"a": 9})
    assert shelf.room_for(("a", 10), 4) == (("a", 9),)
    shelf.heads.learn("a", 10)
    assert shelf.room_for(("a", 9), 1) == (("a", 9),)


@pytest.mark.parametrize("loss", KeptLoss)
def test_a_copy_that_was_of_no_use_is_replaced_and_one_that_is_gone_too(loss: KeptLoss) -> None:
    shelf = shelf_of(10, {("a", 1): 4, ("b", 1): 2})
    assert not shelf.wants(("a", 1))
    assert shelf.lost(("a", 1), loss) is loss.is_final
    assert shelf.wants(("a", 1)), "the driver need not have removed it yet"
    if loss.is_final:
        shelf.gone(("a", 1))
    assert shelf.wants(("a", 1))
    # Until the new one is written both take space.
    assert shelf.room_for(("a", 1), 5) == (() if loss.is_final else (("b", 1),))
    shelf.gone(("b", 1))
    shelf.kept(("a", 1), 5)
    assert shelf.charged_bytes == 5
    assert not shelf.wants(("a", 1))


def test_a_copy_that_turns_out_to_be_whole_is_not_replaced() -> None:
    shelf = shelf_of(10, {("a", 1): 4})
    shelf.lost(("a", 1), KeptLoss.UNREADABLE)
    shelf.loaded(("a", 1))
    assert not shelf.wants(("a", 1))
    shelf.lost(("a", 2), KeptLoss.UNREADABLE)
    shelf.kept(("a", 2), 4)
    assert not shelf.wants(("a", 2))


def test_what_loading_a_copy_says_of_it() -> None:
    assert {outcome: loss_in_loading(outcome) for outcome in Outcome} == {
        Outcome.DONE: None,
        Outcome.DAMAGED: KeptLoss.DAMAGED,
        Outcome.VANISHED: KeptLoss.VANISHED,
        Outcome.REFUSED: KeptLoss.UNREADABLE,
        Outcome.HUNG: KeptLoss.UNREADABLE,
        # The disk was not asked, so that nothing is known of it.
        Outcome.STARVED: None,
        Outcome.UNTRIED: None,
        Outcome.CAME_BACK: None,
    }


def test_of_a_copy_that_went_no_doubt_is_left() -> None:
    shelf = shelf_of(10, {("a", 1): 4})
    shelf.lost(("a", 1), KeptLoss.REFUSED)
    shelf.gone(("a", 1))
    shelf.kept(("a", 1), 4)
    assert not shelf.wants(("a", 1))


def test_a_ceiling_that_became_lower_is_met_and_what_is_current_goes_last() -> None:
    kept = {("a", 9): 4, ("a", 1): 4, ("b", 1): 4}
    assert shelf_of(12, kept, heads={"a": 9}).surplus() == ()
    assert shelf_of(8, kept, heads={"a": 9}).surplus() == (("a", 1),)
    assert shelf_of(4, kept, heads={"a": 9}).surplus() == (("a", 1), ("b", 1))
    assert shelf_of(3, kept, heads={"a": 9}).surplus() == (("a", 1), ("b", 1), ("a", 9))


@given(st.permutations(range(4)))
def test_what_is_found_at_start_leaves_in_the_order_of_its_last_use(order: list[int]) -> None:
    shelf = shelf_of(16, {})
    shelf.restored(FoundManifest(name=("a", 9 - at), used_at=at // 2, nbytes=4) for at in order)
    # Those of the same time in the order of their names, so that it is one order.
    assert shelf.room_for(("b", 1), 16) == (("a", 8), ("a", 9), ("a", 6), ("a", 7))
    assert shelf.charged_bytes == 16


def test_what_it_refuses() -> None:
    shelf = shelf_of(8, {("a", 1): 4})
    for name, nbytes in ((("a", 1), 4), (("a", 2), -1)):
        with pytest.raises(ContractViolation):
            shelf.kept(name, nbytes)
    assert shelf.charged_bytes == 4
    shelf.gone(("a", 2))


names = st.tuples(st.sampled_from("ab"), st.integers(1, 5))


@given(
    st.integers(0, 20),
    st.dictionaries(st.sampled_from("ab"), st.integers(1, 5)),
    long_lists(st.tuples(names, st.integers(0, 8), st.booleans()), 30),
)
def test_the_ceiling_holds_and_no_current_one_leaves_for_another(
    ceiling_bytes: int, heads: dict[str, int], steps: list[tuple[ManifestName, int, bool]]
) -> None:
    shelf = shelf_of(ceiling_bytes, {}, heads=heads)
    kept: dict[ManifestName, int] = {}

    def is_current(name: ManifestName) -> bool:
        return name[1] >= heads.get(name[0], 99)

    for name, nbytes, is_news in steps:
        if is_news and shelf.heads.learn(*name):
            heads[name[0]] = name[1]
        assert shelf.used(name) is (name in kept)
        if name in kept:
            kept[name] = kept.pop(name)
            continue
        victims = shelf.room_for(name, nbytes)
        if victims is None:
            fits_beside = sum(kept[each] for each in kept if is_current(each)) + nbytes <= ceiling_bytes
            assert nbytes > ceiling_bytes or not (is_current(name) or fits_beside)
            continue
        in_order = sorted(kept, key=is_current)
        assert list(victims) == in_order[: len(victims)]
        assert is_current(name) or not any(map(is_current, victims))
        if victims:  # One fewer would not have done.
            assert sum(kept.values()) - sum(kept[each] for each in victims[:-1]) + nbytes > ceiling_bytes
        for victim in victims:
            shelf.gone(victim)
            del kept[victim]
        shelf.kept(name, nbytes)
        kept[name] = nbytes
        assert shelf.charged_bytes == sum(kept.values()) <= ceiling_bytes


@pytest.mark.parametrize(("length", "blocks"), [(0, 0), (1, 1), (4096, 1), (4097, 2)])
def test_a_file_is_charged_by_the_block(length: int, blocks: int) -> None:
    assert file_charge(length) == blocks * BLOCK_BYTES + FILE_OVERHEAD_BYTES


@given(st.integers(0, 1 << 40))
def test_a_division_leaves_room_for_two_copies_of_what_is_replaced(ceiling_bytes: int) -> None:
    shares = shelf_layout(ceiling_bytes)
    beside = 2 * (shares.heads_length_max + BLOCK_BYTES)
    assert shares.manifests_bytes == 0 or shares.manifests_bytes + beside + 4 * BLOCK_BYTES == ceiling_bytes
    assert shares.heads_length_max < HEADS_BYTES_MAX
    assert ceiling_bytes < 1 << 20 or shares.manifests_bytes >= ceiling_bytes // 2


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True), st.integers(1, VERSION_MAX))
def test_a_manifest_is_known_by_the_name_of_its_file(ns: str, version: int) -> None:
    assert manifest_in(manifest_file((ns, version))) == (ns, version)
    assert is_shelf_file(manifest_file((ns, version)))


@pytest.mark.parametrize(
    "file",
    [
        "dev@0.manifest",
        "dev@01.manifest",
        f"dev@{VERSION_MAX + 1}.manifest",
        "dev@1.manifest.tmp",
        "Dev@1.manifest",
        "a@b@1.manifest",
        "@1.manifest",
        "dev@1",
        "",
    ],
)
def test_other_names_are_no_manifests(file: str) -> None:
    assert manifest_in(file) is None
    assert not is_shelf_file(file)
