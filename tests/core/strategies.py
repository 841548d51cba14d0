"""What Hypothesis draws for several tests."""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

ElementT = TypeVar("ElementT")


def long_lists(elements: st.SearchStrategy[ElementT], length: int) -> st.SearchStrategy[list[ElementT]]:
    """Lists of at most ``length`` elements, of which most are long.

    A list without a least size has five elements or so, whatever its largest, and what goes wrong late
    never happens in it.
    """
    long = st.lists(elements, min_size=length // 2, max_size=length)
    return st.lists(elements, max_size=4) | long | long
