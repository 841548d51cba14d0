"""Page buffers: whose memory it is when somebody still looks at it, and when there is none."""

from __future__ import annotations

import time

import pytest

from seekfs_io.pages import ram

ROOM = 1 << 20


@pytest.fixture
def pages() -> ram.RamPages:
    return ram.RamPages(0, ROOM, time.monotonic)


def test_a_view_that_outlives_its_buffer_is_in_nobodys_way(pages: ram.RamPages) -> None:
    """Memory is made free for other lengths while, in another thread, the frame of a client that went
    away still has a view of it."""
    buffer = pages.take(ROOM // 2)
    view = buffer.view[:10]
    assert pages.release(buffer) == ROOM // 2
    other = pages.take(ROOM * 3 // 4)
    assert pages.release(other) == ROOM * 3 // 4
    assert bytes(view) == bytes(10)


def test_what_could_not_be_had_is_not_counted(pages: ram.RamPages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else free buffers would be thrown away for it for ever after."""

    def no_memory(_length: int) -> bytearray:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(ram, "_allocate", no_memory)
        for _ in range(2):
            with pytest.raises(MemoryError):
                pages.take(ROOM)
    first = pages.take(ROOM)
    memory = first.memory
    pages.release(first)
    assert pages.take(ROOM).memory is memory
