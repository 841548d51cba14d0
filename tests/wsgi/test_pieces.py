"""seekfs_wsgi.pieces: joined or not, the bytes are the same, and nothing large is held back or copied."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from seekfs_wsgi.pieces import JOINED_BYTES, SMALL_BYTES, joined_pieces

LENGTHS = st.lists(
    st.one_of(
        st.integers(1, 40), st.sampled_from([SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, 3 * SMALL_BYTES])
    ),
    max_size=40,
)


def reused_views(lengths: list[int]) -> Iterator[memoryview]:
    """Views of one buffer, overwritten at every step: whoever keeps one sees it change."""
    buffer = bytearray(max(lengths, default=0))
    for index, length in enumerate(lengths):
        buffer[:length] = bytes([index % 251]) * length
        yield memoryview(buffer)[:length]


@given(LENGTHS)
def test_the_same_bytes_in_the_same_order(lengths: list[int]) -> None:
    expected = b"".join(bytes([index % 251]) * length for index, length in enumerate(lengths))
    received = b"".join(bytes(piece) for piece in joined_pieces(reused_views(lengths), sum(lengths)))
    assert received == expected


@given(LENGTHS)
def test_no_piece_is_empty_and_only_the_last_may_be_small(lengths: list[int]) -> None:
    sizes = [len(piece) for piece in joined_pieces(reused_views(lengths), sum(lengths))]
    assert 0 not in sizes
    large = [length for length in lengths if length >= SMALL_BYTES]
    assert len(sizes) <= 2 * len(large) + 1 + sum(lengths) // JOINED_BYTES


def test_a_large_view_is_passed_on_as_it_is() -> None:
    page = bytearray(SMALL_BYTES)
    (piece,) = joined_pieces([memoryview(page)], len(page))
    assert piece.obj is page


def test_a_large_view_is_passed_on_before_the_next_is_asked_for() -> None:
    pages = iter([memoryview(bytes(SMALL_BYTES))])

    def views() -> Iterator[memoryview]:
        yield next(pages)
        raise AssertionError("the second page was asked for before the first was taken")

    assert len(next(joined_pieces(views(), 2 * SMALL_BYTES))) == SMALL_BYTES


def test_small_views_come_in_few_pieces() -> None:
    lengths = [4096] * 1000
    sizes = [len(piece) for piece in joined_pieces(reused_views(lengths), sum(lengths))]
    assert len(sizes) == 8
    assert sum(sizes) == 4096 * 1000
    assert max(sizes) < JOINED_BYTES + SMALL_BYTES
