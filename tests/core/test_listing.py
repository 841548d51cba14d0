"""A listing that breaks off and goes on: nothing twice, nothing left out, in any order of keys."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_core.listing import ListingProgress
from seekfs_core.retry import RetryPolicy

BUSY = StoreFailure(kind=FailureKind.BUSY, detail="busy")
POLICY = RetryPolicy(attempts_max=2, backoff_seconds_initial=0.0)


def progress_of(prefix: str = "") -> ListingProgress:
    return ListingProgress(prefix, POLICY, random.Random(1))


@given(
    keys=st.lists(st.text(max_size=3), unique=True, max_size=20),
    page_length=st.integers(1, 5),
    breaks=st.lists(st.integers(0, 6), max_size=10),
)
def test_every_key_is_news_once_as_long_as_there_is_progress(
    keys: list[str], page_length: int, breaks: list[int]
) -> None:
    """Against a store in a few lines, whose tokens say where to go on."""
    progress = progress_of()
    seen: list[str] = []
    # Each try comes further than the one before, or is the last one.
    for limit in [*sorted(set(breaks)), None]:
        before, pages = len(seen), 0
        while not progress.is_over and pages != limit:
            start = int(progress.token or 0)
            page = keys[start : start + page_length]
            more = start + page_length < len(keys)
            taken = progress.take(page, str(start + page_length) if more else None)
            assert isinstance(taken, tuple)
            seen.extend(page[index] for index in taken)
            pages += 1
        if not progress.is_over and len(seen) > before:
            assert progress.delay(BUSY) is not None
            assert progress.token is None
        elif not progress.is_over:
            progress.token = None
    assert seen == keys
    assert progress.is_over


def test_without_progress_it_ends() -> None:
    progress = progress_of()
    assert progress.take(["a"], "1") == (0,)
    assert progress.delay(BUSY) is not None
    assert progress.take(["a"], "1") == ()
    assert progress.delay(BUSY) is None
    assert progress.take(["b", "a", "c"], "1") == (0, 2)
    assert progress.delay(BUSY) is not None


def test_it_is_begun_again_from_its_start() -> None:
    progress = progress_of()
    progress.take(["a"], "1")
    assert (progress.token, progress.is_over) == ("1", False)
    progress.delay(BUSY)
    assert (progress.token, progress.is_over) == (None, False)
    assert progress.take(["a"], "1") == ()
    assert progress.take(["b"], None) == (0,)
    assert progress.is_over


@pytest.mark.parametrize("tokens", [["1", "1"], ["1", "2", "1"], ["1", "2", "3", "2"]])
def test_a_listing_that_goes_round_in_circles_does_not_go_on(tokens: list[str]) -> None:
    progress = progress_of()
    *fine, bad = tokens
    for token in fine:
        assert progress.take([], token) == ()
    found = progress.take(["a"], bad)
    assert isinstance(found, StoreFailure)
    assert (found.kind, found.detail) == (FailureKind.BAD_ANSWER, "the listing does not go on")
    assert progress.delay(found) is not None
    assert progress.take(["a"], "1") == (0,)


def test_a_page_with_a_key_outside_of_the_prefix_is_not_taken() -> None:
    progress = progress_of("p/")
    found = progress.take(["p/a", "q/a"], None)
    assert isinstance(found, StoreFailure)
    assert found.kind is FailureKind.BAD_ANSWER
    assert not progress.is_over
    assert progress.take(["p/a"], None) == (0,)


def test_an_answer_that_does_not_pass_is_not_asked_for_again() -> None:
    denied = StoreFailure(kind=FailureKind.DENIED, detail="denied")
    assert progress_of().delay(denied) is None
