"""The grid on which GETs are cut.

Each file has a fixed grid of *windows*: window ``k`` holds the pages that *start* in bytes
[k*W, (k+1)*W), with W = ``range_coalesce_max`` or one page where that is larger. One GET fetches
a run of missing pages inside one window and never crosses it. Because the grid depends on the
file alone, readers that arrive at different offsets ask for the same GETs and can share them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seekfs_core.manifest import FileEntry


def window_size(file: FileEntry, coalesce_bytes: int) -> int:
    """W of a file, in bytes."""
    return max(coalesce_bytes, file.page_size_bytes)


def window_of(file: FileEntry, page_id: int, coalesce_bytes: int) -> int:
    """The window that page ``page_id`` starts in."""
    return page_id * file.page_size_bytes // window_size(file, coalesce_bytes)


def window_pages(file: FileEntry, window: int, coalesce_bytes: int) -> range:
    """The ids of the pages that start in a window."""
    size = window_size(file, coalesce_bytes)
    start = -(-window * size // file.page_size_bytes)
    stop = -(-(window + 1) * size // file.page_size_bytes)
    return range(min(start, file.page_count), min(stop, file.page_count))


def cut_gets(
    file: FileEntry, missing: Sequence[int], coalesce_bytes: int, get_bytes_max: int
) -> Iterator[tuple[int, int]]:
    """The GETs that cover the missing pages, as half-open runs of page ids, in order.

    ``missing`` ascends without repeats. A run ends where a page is not missing, where the window
    ends, or where one more page would make the GET larger than ``get_bytes_max`` (the room that
    page buffers have at most); a single page is always one GET.
    """
    first = previous = None
    for page_id in missing:
        if first is not None and previous is not None:
            grows = (
                page_id == previous + 1
                and window_of(file, page_id, coalesce_bytes) == window_of(file, first, coalesce_bytes)
                and file.page_extent(page_id)[1] - file.page_extent(first)[0] <= get_bytes_max
            )
            if not grows:
                yield first, previous + 1
                first = page_id
        else:
            first = page_id
        previous = page_id
    if first is not None and previous is not None:
        yield first, previous + 1
