"""What counts by tier say: against pages that are looked for one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.tier_counts import CACHES, STORE, TIERS, Looks, hit_ratio, looks_of


@given(st.lists(st.sampled_from(TIERS)), st.permutations(TIERS))
def test_each_page_is_looked_for_in_one_cache_after_the_other(found: list[str], order: list[str]) -> None:
    looks = {cache: [0, 0] for cache in CACHES}
    for tier in found:
        for cache in CACHES:
            looks[cache][cache != tier] += 1
            if cache == tier:
                break
    # In whichever order they are told, and whether or not those with no page are.
    told = {tier: found.count(tier) for tier in order if tier in found}
    assert looks_of(told) == {
        cache: Looks(hits=hits, misses=misses) for cache, (hits, misses) in looks.items()
    }
    assert list(looks_of(told)) == list(CACHES)
    if found:
        assert hit_ratio(told) == pytest.approx(sum(tier != STORE for tier in found) / len(found))


def test_before_any_read_there_is_no_ratio() -> None:
    assert hit_ratio({}) is hit_ratio(dict.fromkeys(TIERS, 0)) is None
