"""The framed answer of a batch: every item in order, good or bad, each frame checkable by itself.

The format is ``seekfs_core.frame_format``'s. The frames of an item that fails half-way are void. An item
of no bytes is one empty frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import crc32c

from seekfs_core.errors import SeekfsError
from seekfs_core.frame_format import HEADER, LAST, MORE
from seekfs_core.manifest import FileEntry
from seekfs_core.plan import ReadPlan
from seekfs_wsgi.pieces import JOINED_BYTES, SMALL_BYTES, Joiner

_PROBLEM_BYTES_MAX = SMALL_BYTES - HEADER.size - 1
"""A problem document is joined like any small payload; one so long is cut to nothing but its status."""


class Items(Protocol):
    """What frames need of the data plane's ReadStream."""

    def item(self, index: int) -> Iterator[memoryview]: ...


def frame_pieces(
    plan: ReadPlan, stream: Items, failure: Callable[[int, SeekfsError], tuple[int, bytes]]
) -> Iterator[memoryview]:
    """The frames of all items, small ones joined, payloads of large ones as they come.

    ``failure`` turns the error of an item into its status and problem document. Anything but a
    ``SeekfsError`` ends the answer.
    """
    joiner = Joiner(JOINED_BYTES + SMALL_BYTES)
    errors = plan.errors
    for index, (file, start, stop) in enumerate(plan.extents):
        error = errors.get(index)
        if error is None and start == stop:
            if joiner.add(HEADER.pack(LAST, 0, 0)):
                yield joiner.take()
            continue
        if error is None and file is not None:
            position = start
            try:
                for view in stream.item(index):
                    length = len(view)
                    position += length
                    header = HEADER.pack(
                        LAST if position == stop else MORE, _crc(file, position - length, view), length
                    )
                    full = joiner.add(header)
                    if length < SMALL_BYTES and not full:
                        full = joiner.add(view)
                        if full:
                            yield joiner.take()
                    else:
                        yield joiner.take()
                        yield view
                continue
            except SeekfsError as failed:
                error = failed
        assert error is not None
        status, document = failure(index, error)
        if len(document) > _PROBLEM_BYTES_MAX:
            document = b""
        if joiner.add(HEADER.pack(status, crc32c.crc32c(document), len(document)) + document):
            yield joiner.take()
    if joiner.filled:
        yield joiner.take()


def _crc(file: FileEntry, start: int, view: memoryview) -> int:
    """The CRC-32C of bytes of a file that begin at ``start``.

    That of a whole page is the manifest's: it was checked when the page came in, and a byte that has
    changed in memory since is then found by the client.
    """
    page_id, offset = divmod(start, file.page_size_bytes)
    if offset == 0:
        page_start, page_stop = file.page_extent(page_id)
        if len(view) == page_stop - page_start:
            return file.page_crc32c(page_id)
    return crc32c.crc32c(view)
