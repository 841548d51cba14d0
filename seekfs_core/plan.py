"""From a batch of ranges to slices of pages, in the order they were asked for.

A plan holds one small tuple a range and nothing a page: slices are made while they are read, so a
range of a terabyte costs as much to plan as one of a byte.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from attrs import define, evolve, field

from seekfs_core import grid
from seekfs_core.errors import InvalidName, NotFound, RangeNotSatisfiable, SeekfsError
from seekfs_core.manifest import FileEntry, Manifest
from seekfs_core.names import check_path

Item: TypeAlias = tuple[str, int, int]
"""What was asked for: path, offset and length in bytes."""

Extent: TypeAlias = tuple[FileEntry | None, int, int]
"""What answers an item: bytes [start, stop) of a file; no file where the item cannot be answered."""

Slice: TypeAlias = tuple[int, FileEntry, int, int, int]
"""Item index, file, page id, and bytes [start, stop) *within the page*. Never empty."""


@define(kw_only=True)
class ReadPlan:
    """The ranges of one read, resolved against one manifest. Made by ``plan_read``.

    ``errors`` says why an item without a file has none; ``total_bytes`` sums all extents.
    """

    manifest: Manifest
    extents: list[Extent]
    errors: dict[int, SeekfsError]
    total_bytes: int
    _runs: dict[str, list[tuple[int, int]]] | None = field(default=None, repr=False)

    def slices(self, item_start: int = 0, item_stop: int | None = None) -> Iterator[Slice]:
        """The slices of items [``item_start``, ``item_stop``); together exactly their bytes, in order."""
        stop_at = len(self.extents) if item_stop is None else item_stop
        for index in range(item_start, stop_at):
            file, start, stop = self.extents[index]
            if file is None or start == stop:
                continue
            size = file.page_size_bytes
            page_id, begin = divmod(start, size)
            remaining = stop - start
            while True:
                take = min(remaining, size - begin)
                yield index, file, page_id, begin, begin + take
                remaining -= take
                if not remaining:
                    break
                page_id += 1
                begin = 0

    def windows(self, coalesce_bytes: int) -> Windows:
        """The GET windows that the slices walk through, in order, without repeats in a row.

        In every window up to a file's last a page starts, because none is larger than a window.
        """
        return Windows(self, coalesce_bytes)

    def pages_in_window(self, file: FileEntry, window: int, coalesce_bytes: int) -> tuple[int, ...]:
        """The pages of a window that any item of the plan touches, ascending."""
        runs = self._page_runs().get(file.path, [])
        inside = grid.window_pages(file, window, coalesce_bytes)
        pages: list[int] = []
        at = max(0, bisect.bisect_right(runs, (inside.start, file.page_count)) - 1)
        for start, stop in runs[at:]:
            if start >= inside.stop:
                break
            pages.extend(range(max(start, inside.start), min(stop, inside.stop)))
        return tuple(pages)

    def page_uses(self) -> dict[tuple[str, int], int]:
        """How many slices touch each page that more than one touches, by path and page id."""
        uses: dict[tuple[str, int], int] = {}
        if len(self.extents) > 1:
            for _, file, page_id, _, _ in self.slices():
                uses[file.path, page_id] = uses.get((file.path, page_id), 0) + 1
        return {page: count for page, count in uses.items() if count > 1}

    def _page_runs(self) -> dict[str, list[tuple[int, int]]]:
        """Per path, the pages touched, as sorted half-open runs that do not overlap.

        Made when it is first asked for, which a read that finds everything cached never does.
        """
        if self._runs is None:
            touched: dict[str, list[tuple[int, int]]] = {}
            for file, start, stop in self.extents:
                if file is not None and start < stop:
                    size = file.page_size_bytes
                    touched.setdefault(file.path, []).append((start // size, (stop - 1) // size + 1))
            self._runs = {path: _merged(runs) for path, runs in touched.items()}
        return self._runs


@define
class Windows:
    """An iterator whose place is a few numbers, so that it can be recorded, and gone back to."""

    plan: ReadPlan
    coalesce_bytes: int
    _extent: int = field(default=0, alias="extent")
    """Index of the extent that the next window is looked for in."""
    _window: int = field(default=-1, alias="window")
    """The window that was returned last of that extent; -1 before its first."""
    _last: tuple[str, int] | None = field(default=None, alias="last")

    def __iter__(self) -> Windows:
        return self

    def __next__(self) -> tuple[FileEntry, int]:
        extents = self.plan.extents
        while self._extent < len(extents):
            file, start, stop = extents[self._extent]
            if file is not None and start < stop:
                size = file.page_size_bytes
                first = grid.window_of(file, start // size, self.coalesce_bytes)
                final = grid.window_of(file, (stop - 1) // size, self.coalesce_bytes)
                self._window = max(first, self._window + 1)
                if self._last == (file.path, self._window):
                    self._window += 1
                if self._window <= final:
                    self._last = (file.path, self._window)
                    return file, self._window
            self._extent += 1
            self._window = -1
        raise StopIteration

    def copy(self) -> Windows:
        """Another one at the same place."""
        return evolve(self)


def _merged(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    runs.sort()
    merged = [runs[0]]
    for start, stop in runs[1:]:
        last_start, last_stop = merged[-1]
        if start <= last_stop:
            merged[-1] = (last_start, max(last_stop, stop))
        else:
            merged.append((start, stop))
    return merged


def plan_read(manifest: Manifest, items: Sequence[Item], *, clip: bool) -> ReadPlan:
    """Resolve ranges against a manifest.

    With ``clip`` a range is cut at the end of its file and a bad item becomes an entry of
    ``errors``. Without it nothing marks where an item ends, so the first bad item raises:
    ``InvalidName`` for a path that cannot be one, before all else; ``NoSuchFile``; or
    ``RangeNotSatisfiable`` for a range that passes the end of its file. All carry the index in
    ``context["item"]``. Offsets and lengths are not negative.
    """
    extents: list[Extent] = []
    errors: dict[int, SeekfsError] = {}
    total_bytes = 0
    for index, (path, off, length) in enumerate(items):
        try:
            file = manifest.file(path)
            stop = off + length
            if stop > file.size:
                if not clip or off > file.size:
                    raise _out_of_range(manifest, file, off, length)
                stop = file.size
        except (NotFound, RangeNotSatisfiable) as error:
            if not clip:
                raise refusal_of(items, of_item(index, error)) from None
            errors[index] = _invalid_name(index, path) or of_item(index, error)
            extents.append((None, 0, 0))
            continue
        extents.append((file, off, stop))
        total_bytes += stop - off
    return ReadPlan(manifest=manifest, extents=extents, errors=errors, total_bytes=total_bytes)


def refusal_of(items: Sequence[Item], error: SeekfsError) -> SeekfsError:
    """What a batch that fails as a whole with ``error`` is refused with: malformed comes before all
    else, as everywhere, so the first path that cannot be one is named instead."""
    for index, (path, _, _) in enumerate(items):
        invalid = _invalid_name(index, path)
        if invalid is not None:
            return invalid
    return error


def of_item(index: int, error: SeekfsError) -> SeekfsError:
    """``error``, saying which item of its batch it is about."""
    return type(error)(f"item {index}: {error.detail}", **(error.context | {"item": index}))


def _invalid_name(index: int, path: str) -> SeekfsError | None:
    """Only asked of paths that no manifest has: those that one has are valid."""
    try:
        check_path(path)
    except InvalidName as error:
        return of_item(index, error)
    return None


def _out_of_range(manifest: Manifest, file: FileEntry, off: int, length: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(
        f"bytes {off} to {off + length} reach past the end of {file.path!r}, which has {file.size} bytes "
        f"in version {manifest.version} of {manifest.ns!r}",
        path=file.path,
        size=file.size,
        off=off,
        len=length,
    )
