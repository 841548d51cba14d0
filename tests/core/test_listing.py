"""A listing that breaks off and goes on: nothing twice, nothing left out, in any order of keys."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.listing import ListingProgress
from seekfs_core.retry import RetryPolicy

BUSY = StoreFailure(kind=FailureKind.BUSY, detail="busy")
POLICY = RetryPolicy(attempts_max=2, backoff_seconds_initial=0.0)


@given(
    keys=st.lists(st.text(max_size=3), unique=True, max_size=20),
    breaks=st.lists(st.integers(0, 20), max_size=10),
)
def test_every_key_is_news_once_as_long_as_there_is_progress(keys: list[str], breaks: list[int]) -> None:
    progress = ListingProgress(POLICY, random.Random(1))
    seen: list[str] = []
    # Each try comes further than the one before, or is the last one.
    for limit in [*sorted(set(breaks)), len(keys)]:
        before = len(seen)
        seen.extend(key for key in keys[:limit] if progress.is_news(key))
        if limit < len(keys) and len(seen) > before:
            assert progress.delay(BUSY) is not None
    assert seen == keys


def test_without_progress_it_ends() -> None:
    progress = ListingProgress(POLICY, random.Random(1))
    assert progress.is_news("a")
    assert progress.delay(BUSY) is not None
    assert not progress.is_news("a")
    assert progress.delay(BUSY) is None
    assert progress.is_news("b")
    assert progress.delay(BUSY) is not None


def test_an_answer_that_does_not_pass_is_not_asked_for_again() -> None:
    denied = StoreFailure(kind=FailureKind.DENIED, detail="denied")
    assert ListingProgress(POLICY, random.Random(1)).delay(denied) is None
