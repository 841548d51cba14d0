"""seekfs_wsgi.frames: what an independent reader of the format makes of the answer."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.errors import SeekfsError, StoreUnavailable
from seekfs_core.manifest import FileEntry, Manifest, pack_crcs
from seekfs_core.plan import ReadPlan, plan_read
from seekfs_wsgi.frames import frame_pieces
from seekfs_wsgi.pieces import SMALL_BYTES

PAGE = 65_536
CONTENT = bytes((i * 7 + i // 251) % 256 for i in range(3 * PAGE + 100))


def entry(path: str, content: bytes) -> FileEntry:
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    return FileEntry(
        path=path,
        size=len(content),
        sha256=bytes(32),
        page_size_bytes=min(PAGE, len(content)),
        crcs=pack_crcs(crc32c.crc32c(page) for page in pages),
        storage_key=f"namespaces/dev/files/{path}",
    )


MANIFEST = Manifest(
    ns="dev",
    version=1,
    files={"big": entry("big", CONTENT), "empty": entry("empty", b""), "one": entry("one", b"x")},
)
BYTES = {"big": CONTENT, "empty": b"", "one": b"x"}


class Stream:
    """The bytes of a plan in views of at most one page, of a buffer that is used again."""

    def __init__(self, plan: ReadPlan, fail: dict[int, int] | None = None) -> None:
        self._plan = plan
        self._fail = fail or {}

    def item(self, index: int) -> Iterator[memoryview]:
        buffer = bytearray(PAGE)
        slices = enumerate(self._plan.slices(index, index + 1))
        for sent, (_, file, page_id, start, stop) in slices:
            if sent == self._fail.get(index):
                raise StoreUnavailable("no store")
            at = page_id * PAGE
            buffer[: stop - start] = BYTES[file.path][at + start : at + stop]
            yield memoryview(buffer)[: stop - start]


def failure(index: int, error: SeekfsError) -> tuple[int, bytes]:
    return error.status, f"item {index} {error.slug}".encode()


def read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Written from the contract's text alone."""
    frames: list[tuple[int, bytes]] = []
    while data:
        status, crc, length = struct.unpack("<IIQ", data[:16])
        payload, data = data[16 : 16 + length], data[16 + length :]
        assert len(payload) == length
        assert crc32c.crc32c(payload) == crc
        frames.append((status, payload))
    return frames


def framed(items: list[tuple[str, int, int]], fail: dict[int, int] | None = None) -> list[tuple[int, bytes]]:
    plan = plan_read(MANIFEST, items, clip=True)
    return read_frames(b"".join(bytes(piece) for piece in frame_pieces(plan, Stream(plan, fail), failure)))


def test_a_small_item_is_one_frame() -> None:
    assert framed([("one", 0, 1)]) == [(200, b"x")]


def test_an_item_of_no_bytes_is_one_empty_frame() -> None:
    assert framed([("empty", 0, 5), ("big", 7, 0), ("one", 1, 1)]) == [(200, b""), (200, b""), (200, b"")]


def test_an_item_of_many_pages_is_a_frame_a_page() -> None:
    frames = framed([("big", 10, len(CONTENT))])
    assert [status for status, _ in frames] == [206, 206, 206, 200]
    assert [len(payload) for _, payload in frames] == [PAGE - 10, PAGE, PAGE, 100]
    assert b"".join(payload for _, payload in frames) == CONTENT[10:]


def test_bad_items_among_good_ones() -> None:
    frames = framed([("one", 0, 1), ("none", 0, 1), ("big", 0, 3), ("big", 10**9, 1), ("one", 0, 9)])
    assert frames == [
        (200, b"x"),
        (404, b"item 1 no-such-file"),
        (200, CONTENT[:3]),
        (416, b"item 3 range-not-satisfiable"),
        (200, b"x"),
    ]


def test_an_item_that_fails_half_way_ends_with_its_problem() -> None:
    frames = framed([("big", 0, 3 * PAGE), ("one", 0, 1)], fail={0: 2})
    assert [status for status, _ in frames] == [206, 206, 503, 200]
    assert frames[2][1] == b"item 0 store-unavailable"
    assert frames[3] == (200, b"x")


def test_an_item_that_fails_at_once_has_only_its_problem() -> None:
    assert framed([("big", 0, 3)], fail={0: 0}) == [(503, b"item 0 store-unavailable")]


def test_the_crc_of_a_whole_page_is_the_manifests() -> None:
    """So that a byte that has changed in memory since it was verified does not pass as good."""
    plan = plan_read(MANIFEST, [("big", 0, PAGE)], clip=True)

    class Flipped(Stream):
        def item(self, index: int) -> Iterator[memoryview]:
            for view in super().item(index):
                yield memoryview(bytes([view[0] ^ 1]) + bytes(view[1:]))

    data = b"".join(bytes(piece) for piece in frame_pieces(plan, Flipped(plan), failure))
    with pytest.raises(AssertionError):
        read_frames(data)


def test_a_problem_too_long_to_join_keeps_its_status() -> None:
    plan = plan_read(MANIFEST, [("none", 0, 1)], clip=True)
    pieces = frame_pieces(plan, Stream(plan), lambda _, error: (error.status, b"x" * SMALL_BYTES))
    assert read_frames(b"".join(bytes(piece) for piece in pieces)) == [(404, b"")]


def test_an_error_that_is_not_foreseen_ends_the_answer() -> None:
    plan = plan_read(MANIFEST, [("one", 0, 1)], clip=True)

    class Broken:
        def item(self, index: int) -> Iterator[memoryview]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(frame_pieces(plan, Broken(), failure))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["big", "one", "empty", "none"]),
            st.sampled_from(
                [0, 1, 2, PAGE - 1, PAGE, PAGE + 1, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 1]
            ),
            st.sampled_from([0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 10**12]),
        ),
        max_size=30,
    )
)
def test_every_item_in_order_against_slices_of_bytes(items: list[tuple[str, int, int]]) -> None:
    frames = iter(framed(items))
    for path, off, length in items:
        received = b""
        status, payload = next(frames)
        while status == 206:
            received += payload
            status, payload = next(frames)
        content = BYTES.get(path)
        if content is None:
            assert status == 404
        elif off > len(content):
            assert status == 416
        else:
            assert status == 200
            assert received + payload == content[off : off + length]
    assert next(frames, None) is None


def test_many_small_items_come_in_few_pieces() -> None:
    plan = plan_read(MANIFEST, [("big", index, 100) for index in range(20_000)], clip=True)
    sizes = [len(piece) for piece in frame_pieces(plan, Stream(plan), failure)]
    assert sum(sizes) == 20_000 * 116
    assert len(sizes) <= 6
