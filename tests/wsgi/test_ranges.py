"""seekfs_wsgi.ranges: Range and conditions against RFC 9110, case by case and against a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_wsgi.ranges import (
    UNSATISFIABLE,
    Unsatisfiable,
    Verdict,
    content_range,
    content_range_unsatisfied,
    evaluate_conditions,
    if_range_holds,
    select_range,
)

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "selected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 1000)),
        ("bytes=0-999", (0, 1000)),
        ("bytes=0-1000", (0, 1000)),
        ("bytes=999-", (999, 1000)),
        ("bytes=999-5000", (999, 1000)),
        ("bytes=10-19", (10, 20)),
        ("bytes=0010-019", (10, 20)),
        ("bytes=-1", (999, 1000)),
        ("bytes=-1000", (0, 1000)),
        # A suffix longer than the file is all of it.
        ("bytes=-1001", (0, 1000)),
        ("bytes=-99999999999999999999999999", (0, 1000)),
        ("bytes=5-" + "9" * 5000, (5, 1000)),
        ("BYTES=1-2", (1, 3)),
        ("bytes= 1-2 ", (1, 3)),
        ("bytes=1-2,", (1, 3)),
        ("bytes=,\t,1-2", (1, 3)),
    ],
)
def test_a_range_that_can_be_satisfied(header: str, selected: tuple[int, int]) -> None:
    assert select_range(header, SIZE) == selected


@pytest.mark.parametrize(
    "header",
    [
        "bytes=1000-",
        "bytes=1000-1000",
        "bytes=5000-6000",
        "bytes=-0",
        "bytes=-000",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_a_range_that_begins_at_or_past_the_end(header: str) -> None:
    assert select_range(header, SIZE) is UNSATISFIABLE


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=7-9"])
def test_no_range_of_an_empty_representation_can_be_satisfied(header: str) -> None:
    assert select_range(header, 0) is UNSATISFIABLE


@pytest.mark.parametrize(
    "header",
    [
        # Several ranges.
        "bytes=0-1,2-3", "bytes=0-1, -1", "bytes=0-,0-",
        # Another unit.
        "items=0-1", "byte=0-1", "bytes 0-1", "=0-1", "none",
        # Malformed.
        "", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=a-b", "bytes=1", "bytes=1-2-3", "bytes=--1",
        "bytes=2-1", "bytes=1 - 2", "bytes=+1-2", "bytes=0x1-2", "bytes=1-2;", "bytes=٣-٤", "bytes=1.0-2",
        "bytes=1-2\n", "bytes==1-2",
    ],
)  # fmt: skip
def test_a_range_that_is_ignored(header: str) -> None:
    assert select_range(header, SIZE) is None


@given(size=st.integers(0, 50), first=st.integers(0, 60), last=st.integers(0, 60))
def test_first_and_last_against_a_list(size: int, first: int, last: int) -> None:
    whole = list(range(size))
    selected = select_range(f"bytes={first}-{last}", size)
    if first > last:
        assert selected is None
    elif first >= size:
        assert selected is UNSATISFIABLE
    else:
        assert isinstance(selected, tuple)
        assert whole[slice(*selected)] == whole[first : last + 1]
        assert content_range(*selected, size) == f"bytes {first}-{min(last, size - 1)}/{size}"


@given(size=st.integers(0, 50), suffix=st.integers(0, 60))
def test_suffix_against_a_list(size: int, suffix: int) -> None:
    whole = list(range(size))
    selected = select_range(f"bytes=-{suffix}", size)
    expected = whole[-suffix:] if suffix else []
    if not expected:
        assert selected is UNSATISFIABLE
    else:
        assert isinstance(selected, tuple)
        assert whole[slice(*selected)] == expected


@given(header=st.text(alphabet="bytes=-,0123456789 \t;x", max_size=30), size=st.integers(0, 2**63 - 1))
def test_any_text_is_answered_with_something_inside_the_file(header: str, size: int) -> None:
    selected = select_range(header, size)
    if isinstance(selected, tuple):
        assert 0 <= selected[0] < selected[1] <= size
    else:
        assert selected is None or isinstance(selected, Unsatisfiable)


def test_the_content_range_of_a_416() -> None:
    assert content_range_unsatisfied(12) == "bytes */12"


ETAG = '"sha256:aa"'


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "verdict"),
    [
        (None, None, Verdict.PROCEED),
        (ETAG, None, Verdict.PROCEED),
        ("*", None, Verdict.PROCEED),
        (" * ", None, Verdict.PROCEED),
        (f'"x", {ETAG}', None, Verdict.PROCEED),
        (f'"x",,{ETAG},', None, Verdict.PROCEED),
        ('"x"', None, Verdict.FAILED),
        ("", None, Verdict.FAILED),
        ("sha256:aa", None, Verdict.FAILED),
        # Strong comparison: a weak tag never matches.
        (f"W/{ETAG}", None, Verdict.FAILED),
        (f'W/{ETAG}, "x"', None, Verdict.FAILED),
        (None, ETAG, Verdict.NOT_MODIFIED),
        (None, "*", Verdict.NOT_MODIFIED),
        # Weak comparison: the same tag, weak, matches.
        (None, f"W/{ETAG}", Verdict.NOT_MODIFIED),
        (None, f'"x", W/{ETAG}', Verdict.NOT_MODIFIED),
        (None, '"x"', Verdict.PROCEED),
        (None, '"x*"', Verdict.PROCEED),
        (None, "sha256:aa", Verdict.PROCEED),
        (None, "", Verdict.PROCEED),
        # A comma inside a tag divides nothing.
        (None, '"a,b", "sha256:a', Verdict.PROCEED),
        # If-Match comes first.
        ('"x"', ETAG, Verdict.FAILED),
        (ETAG, ETAG, Verdict.NOT_MODIFIED),
        (ETAG, '"x"', Verdict.PROCEED),
    ],
)
def test_conditions(if_match: str | None, if_none_match: str | None, verdict: Verdict) -> None:
    assert evaluate_conditions(ETAG, if_match, if_none_match) is verdict


@pytest.mark.parametrize(
    ("header", "holds"),
    [
        (ETAG, True),
        (f" {ETAG} ", True),
        (f"W/{ETAG}", False),
        ('"x"', False),
        ("Sat, 21 Nov 2026 10:00:00 GMT", False),
        ("*", False),
        ("", False),
    ],
)
def test_if_range_compares_strongly(header: str, holds: bool) -> None:
    assert if_range_holds(header, ETAG) is holds
