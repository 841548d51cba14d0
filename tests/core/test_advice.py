"""seekfs_core.advice: what counters say, and how many of them are kept."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core import advice
from seekfs_core.advice import NamespaceCounts, WarmFile, WarmSearch, advise, still_counted
from seekfs_core.errors import ContractViolation
from tests.core.model_files import blank_file, manifest_of

MANIFEST = manifest_of(*(blank_file(f"f{number:02}", 100, 10) for number in range(20)), version=3)


def counts(
    *, gets: int = 0, l1: int = 0, l2: int = 0, store: int = 0, reads: dict[str, int] | None = None
) -> NamespaceCounts:
    pages = {"l1": l1, "l2": l2, "store": store}
    return NamespaceCounts(
        gets_made=gets,
        pages_from=pages,
        bytes_from={tier: 10 * count for tier, count in pages.items()},
        reads_by_path=reads or {},
    )


def searched(reads: dict[str, int], absent: Mapping[str, int]) -> tuple[list[WarmFile], list[str]]:
    """What a search finds in a cache that lacks ``absent`` pages, and which files it had looked at."""
    search, looked_at = WarmSearch(MANIFEST, reads), []
    while search.next_file is not None:
        looked_at.append(search.next_file.path)
        search.seen(absent.get(search.next_file.path, 0))
    return search.found, looked_at


def test_what_is_said_of_a_namespace() -> None:
    said = advise("dev", MANIFEST, counts(gets=3, l1=5, l2=1, store=6), [])
    assert said == {
        "ns": "dev",
        "version": 3,
        "files": 20,
        "bytes": 2000,
        "gets_made": 3,
        "gets_saved": 9,
        "bytes_from": {"l1": 50, "l2": 10, "store": 60},
        "hit_ratio": 0.5,
        "warm": [],
    }


def test_a_namespace_that_nobody_read_has_no_hit_ratio_and_one_that_is_not_loaded_no_version() -> None:
    said = advise("dev", None, counts(reads={"f00": 1}), [])
    assert (said["version"], said["files"], said["bytes"], said["hit_ratio"]) == (None, None, None, None)
    assert said["warm"] == []


def test_gets_for_pages_that_nobody_took_save_nothing() -> None:
    assert advise("dev", MANIFEST, counts(gets=9, store=1), [])["gets_saved"] == 0


def test_the_most_read_files_with_pages_in_no_tier_are_worth_warming() -> None:
    reads = {"f03": 7, "gone": 100, "f01": 50, "f02": 9}
    found, looked_at = searched(reads, {"f02": 4, "f03": 1})
    assert found == [WarmFile("f02", 4, 9), WarmFile("f03", 1, 7)]
    assert looked_at == ["f01", "f02", "f03"]
    assert advise("dev", MANIFEST, counts(reads=reads), found)["warm"] == [
        {"path": "f02", "pages_absent": 4, "reads": 9},
        {"path": "f03", "pages_absent": 1, "reads": 7},
    ]


def test_few_files_are_named_and_no_more_are_looked_at() -> None:
    found, looked_at = searched(dict.fromkeys(MANIFEST.files, 1), dict.fromkeys(MANIFEST.files, 1))
    assert [each.path for each in found] == looked_at == sorted(MANIFEST.files)[: advice.WARM_PATHS_MAX]


def test_nothing_is_heard_of_a_file_that_was_not_to_be_looked_at() -> None:
    with pytest.raises(ContractViolation):
        WarmSearch(MANIFEST, {}).seen(1)


@given(st.dictionaries(st.integers(0, 50).map(str), st.integers(1, 5), max_size=40), st.integers(2, 30))
def test_the_least_read_are_forgotten_first(reads: dict[str, int], most: int) -> None:
    usual, advice.PATHS_COUNTED_MAX = advice.PATHS_COUNTED_MAX, most
    try:
        kept = still_counted(reads)
    finally:
        advice.PATHS_COUNTED_MAX = usual
    assert kept.items() <= reads.items()
    assert len(kept) == (len(reads) if len(reads) <= most else most // 2)
    forgotten = [count for path, count in reads.items() if path not in kept]
    assert max(forgotten, default=0) <= min(kept.values(), default=max(forgotten, default=0))
