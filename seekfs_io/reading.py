"""One read: the slices of a plan, in order, from wherever their pages are.

A slice is looked for in RAM, then on disk; what is in neither is asked for and waited for. The
thread that reads does the looking and the waiting; it never talks to the store.

Memory: a read holds the page that its current slice is in, pages that came before their turn,
and pages that later slices of the plan come back to (both in ``Inbox.at_hand``). All of it is room that was
granted, or RAM's (see ``seekfs_io.pages.ram``), and all but the current page is taken back when others
cannot go on without it (``AheadDropped``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from copy import copy
from types import TracebackType
from typing import Self, assert_never

from attrs import define, field
from crc32c import crc32c

from seekfs_core import grid
from seekfs_core.errors import SeekfsError, ShuttingDown
from seekfs_core.explain import NOTED_MAX, ReadNotes, WaitCause, cause_of_failure
from seekfs_core.fetch_messages import FetchLimits, PageSource
from seekfs_core.lookup import (
    FIRST,
    Asked,
    Knowledge,
    LookupAction,
    NotAtHand,
    NotOnDisk,
    PageLookup,
    WaitOver,
    is_asked_for,
    is_failure_remembered,
    left_every_tier,
    looks_on_disk,
)
from seekfs_core.manifest import FileEntry
from seekfs_core.pages import FileKey, PageKey, page_key
from seekfs_core.patience import Patience, overdue_page
from seekfs_core.plan import ReadPlan
from seekfs_core.readahead import (
    AheadEvent,
    AheadLost,
    PageMissed,
    ProbeWindow,
    ReadAhead,
    WindowEntered,
    WindowProbed,
)
from seekfs_core.readback import WINDOW_BYTES, corruption, reads_whole_page
from seekfs_core.retry import is_passing
from seekfs_core.reuse import (
    AllLetGo,
    KeepPage,
    LetGoOfPage,
    NotKept,
    Reuse,
    ReuseAction,
    ReuseEvent,
    SliceRead,
)
from seekfs_core.tier_counts import DISK, RAM, STORE, TIERS
from seekfs_io.fetching import (
    AheadDropped,
    Fetcher,
    Inbox,
    Letter,
    PageCame,
    PageFailed,
    RoomGranted,
    RoomRefused,
    WaitedTooLong,
)
from seekfs_io.pages.base import PageLease, PageStore
from seekfs_io.pages.ram import PageBuffer, RamPages
from seekfs_io.tracing import NO_TRACE, Feed, NoTrace


@define
class ReadCounters:
    """What one read took from where, in pages and bytes by tier, and which paths it touched."""

    pages_from: dict[str, int] = field(factory=lambda: dict.fromkeys(TIERS, 0))
    bytes_from: dict[str, int] = field(factory=lambda: dict.fromkeys(TIERS, 0))
    paths: set[str] = field(factory=set)


@define(frozen=True)
class ReadSetting:
    """What all reads of a plane share."""

    ram: RamPages
    l2: PageStore
    fetcher: Fetcher
    limits: FetchLimits
    wait_seconds_max: float
    finished: Callable[[ReadPlan, ReadCounters, ReadNotes], None]
    tracer: NoTrace = NO_TRACE


class ReadStream:
    """The bytes of a plan. Belongs to one thread; close it, or use it as a context manager.

    Views that it yields are valid until the next step only: after that their memory belongs to
    other pages, and they are released so that a late use fails instead of giving wrong bytes.
    """

    def __init__(
        self, setting: ReadSetting, plan: ReadPlan, label: str = "", noted_max: int = NOTED_MAX
    ) -> None:
        self._setting = setting
        self._plan = plan
        manifest = plan.manifest
        self.notes = ReadNotes(manifest.ns, manifest.version, time.monotonic(), label, noted_max)
        self.counters = ReadCounters()
        self._file_keys: dict[str, FileKey] = {}
        self._sources: dict[str, PageSource] = {}
        self._current: PageBuffer | None = None
        self._current_key: PageKey | None = None
        self._piece: memoryview | None = None
        self._tier = RAM
        self._counted_key: PageKey | None = None
        # Only a read that misses has the following; most never do.
        self._read: int | None = None
        self._inbox = Inbox()
        self._ahead: Feed[AheadEvent, ProbeWindow] | None = None
        self._window: tuple[str, int] | None = None
        self._reuse: Feed[ReuseEvent, ReuseAction] | None = None
        self._expected: set[PageKey] = set()
        self._came: set[PageKey] = set()
        self._failed: dict[PageKey, SeekfsError] = {}
        self._awaited: PageKey | None = None
        self._disk_lease: PageLease | None = None
        self._scratch: PageBuffer | None = None
        self._patience = Patience(setting.wait_seconds_max)
        self._closed = False

    def __iter__(self) -> Iterator[memoryview]:
        """All bytes of the plan, in order. Raises ``SeekfsError`` where they cannot be had."""
        return self._pieces(0, len(self._plan.extents))

    def item(self, index: int) -> Iterator[memoryview]:
        """The bytes of one item; items are taken in ascending order.

        What it raises concerns this item alone: the next one can still be read.
        """
        return self._pieces(index, index + 1)

    def close(self) -> None:
        """Let go of everything. Safe to call twice.

        ``BufferError`` where the last view has been handed on and is still looked at: its page is never
        given to anybody else.
        """
        if self._closed:
            return
        self._closed = True
        self.notes.ended(time.monotonic(), sum(self.counters.bytes_from.values()))
        try:
            self._let_go()
        finally:
            try:
                if self._read is not None or self._disk_lease is not None:  # Of one that missed.
                    self._leave()
            finally:
                self._setting.finished(self._plan, self.counters, self.notes)

    def _leave(self) -> None:
        with contextlib.ExitStack() as steps:  # Last in, first out; each whatever the others raise.
            if self._read is not None:
                steps.callback(self._setting.fetcher.leave, self._read)
            steps.callback(self._drop_scratch)
            steps.callback(self._drop_at_hand)
            steps.callback(self._leave_disk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the warm path ----------------------------------------------------------------------

    def _pieces(self, item_start: int, item_stop: int) -> Iterator[memoryview]:
        try:
            bytes_from = self.counters.bytes_from
            self._release_piece()  # Of an item that was not read to its end.
            self._leave_disk()
            for _, file, page_id, start, stop in self._plan.slices(item_start, item_stop):
                key = page_key(self._file_keys.get(file.path) or self._file_key(file), page_id)
                buffer = self._current
                if key != self._current_key or buffer is None:
                    self._let_go()
                    self.counters.paths.add(file.path)
                    buffer = self._at_hand(key)
                    if buffer is None:
                        lease = self._lease(file, key, page_id)
                        if lease is not None and not reads_whole_page(
                            verified=lease.verified, slice_bytes=stop - start, page_bytes=lease.length
                        ):
                            yield from self._from_disk_window(lease, file, key, page_id, start, stop)
                            if self._reuse is not None:
                                self._keep_at_hand(self._reuse, file, page_id, lease.length)
                            continue
                        buffer = self._absent(lease, file, key, page_id)
                    self._count_page(key, file, page_id)
                    self._current, self._current_key = buffer, key
                    if self._ahead is not None:
                        self._look_ahead(file, page_id)
                bytes_from[self._tier] += stop - start
                piece = self._piece = buffer.view[start:stop]
                yield piece
                piece.release()
                self._piece = None
                if self._reuse is not None:
                    self._keep_at_hand(self._reuse, file, page_id, buffer.length)
        except SeekfsError as error:
            self.notes.failed(error)
            raise

    def _count_page(self, key: PageKey, file: FileEntry, page_id: int) -> None:
        """A page was found in ``_tier``; slices of one page in a row count it once."""
        if key != self._counted_key:
            self._counted_key = key
            self.counters.pages_from[self._tier] += 1
            self.notes.page(file.path, page_id, self._tier)

    def _at_hand(self, key: PageKey) -> PageBuffer | None:
        """A page that this read holds already, or that is in RAM."""
        if self._read is not None:
            while not self._inbox.letters.empty():
                self._take_in(self._inbox.letters.get_nowait())
            buffer = self._inbox.at_hand.pop(key, None)
            if buffer is not None:
                self._tier = STORE if key in self._came else RAM
                self._came.discard(key)
                return buffer
        buffer = self._setting.ram.hold(key)
        if buffer is not None:
            self._tier = RAM
        return buffer

    def _file_key(self, file: FileEntry) -> FileKey:
        key = self._file_keys[file.path] = self._plan.manifest.file_key(file)
        return key

    def _let_go(self) -> None:
        """Done with the current page, for now. Its memory may be another page's from here on."""
        self._release_piece()
        buffer, self._current = self._current, None
        key, self._current_key = self._current_key, None
        if buffer is not None and key is not None:
            self._setting.fetcher.release(buffer)

    def _release_piece(self) -> None:
        """The view that was yielded last fails from here on; ``BufferError`` while it is looked at."""
        if self._piece is not None:
            self._piece.release()
            self._piece = None

    # --- on disk ----------------------------------------------------------------------------

    def _lease(self, file: FileEntry, key: PageKey, page_id: int) -> PageLease | None:
        if not looks_on_disk(self._known(key)):
            return None
        start, stop = file.page_extent(page_id)
        return self._setting.l2.lease(key, stop - start, file.page_crc32c(page_id))

    def _from_disk_window(
        self, lease: PageLease, file: FileEntry, key: PageKey, page_id: int, start: int, stop: int
    ) -> Iterator[memoryview]:
        """Bytes of a slice straight from disk, a window at a time; the rest from elsewhere on a fault."""
        self._disk_lease = lease
        at = start
        while at < stop:
            window = self._piece = self._scratch_window()[: stop - at]
            if not self._read_disk(lease, window, at):
                scratch, self._scratch = self._scratch, None
                assert scratch is not None
                self._release_unfilled(scratch, lease)
                break
            self.counters.bytes_from[DISK] += len(window)
            at += len(window)
            yield window
            self._release_piece()
        self._release_piece()
        self._leave_disk()
        if at == stop:
            self._tier = DISK
            self._count_page(key, file, page_id)
            return
        buffer = self._absent(None, file, key, page_id)
        self._current, self._current_key = buffer, key
        self._count_page(key, file, page_id)
        self.counters.bytes_from[self._tier] += stop - at
        self._piece = buffer.view[at:stop]
        yield self._piece
        self._release_piece()

    def _leave_disk(self) -> None:
        lease, self._disk_lease = self._disk_lease, None
        if lease is not None:
            lease.release()

    def _scratch_window(self) -> memoryview:
        if self._scratch is None:
            length = min(WINDOW_BYTES, self._setting.limits.room_bytes_max)
            self._await_room(length)
            self._scratch = self._take(length)
        return self._scratch.view

    def _drop_scratch(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            self._setting.fetcher.release(scratch)

    def _read_back(self, lease: PageLease, key: PageKey) -> PageBuffer | None:
        """All of a page from disk, checked; None on a fault, and the page is gone there."""
        try:
            self._await_room(lease.length)
            buffer = self._take(lease.length)
            if not self._read_disk(lease, buffer.view, 0) or not self._is_right(lease, buffer):
                self._release_unfilled(buffer, lease)
                return None
            self._setting.fetcher.keep(buffer, key, lease.crc32c)
            return buffer
        finally:
            lease.release()

    def _read_disk(self, lease: PageLease, view: memoryview, at: int) -> bool:
        began = time.monotonic()
        is_read = lease.readinto(view, at)
        self.notes.waited(WaitCause.DISK, time.monotonic() - began)
        return is_read

    def _is_right(self, lease: PageLease, buffer: PageBuffer) -> bool:
        """Whether a page that was read back whole is believed; it is said to its tier."""
        if corruption(crc32c(buffer.view), lease.crc32c) is None:
            lease.mark_verified()
            return True
        lease.condemn()
        return False

    def _release_unfilled(self, buffer: PageBuffer, lease: PageLease) -> None:
        """Let go of a buffer that did not get the bytes of ``lease``."""
        if lease.keeps_view:
            self._setting.fetcher.return_room(self._setting.ram.leave(buffer))
        else:
            self._setting.fetcher.release(buffer)

    def _take(self, length: int) -> PageBuffer:
        """A buffer for room that was granted."""
        try:
            return self._setting.ram.take(length)
        except BaseException:
            self._setting.fetcher.return_room(length)
            raise

    # --- not in RAM -------------------------------------------------------------------------

    def _absent(self, lease: PageLease | None, file: FileEntry, key: PageKey, page_id: int) -> PageBuffer:
        """A page that is not in RAM: read it back through ``lease``, or have it fetched."""
        doing = FIRST
        try:
            self._setting.limits.check(file)
            lookup = self._setting.tracer.watch(f"read {self._join()}, lookup", PageLookup())
            while True:
                outcome: NotOnDisk | Asked | WaitOver | NotAtHand
                match doing:
                    case LookupAction.READ_BACK:
                        held, lease = lease, None
                        found = None if held is None else self._read_back(held, key)
                        if found is not None:
                            self._tier = DISK
                            return found
                        outcome = NotOnDisk(self._known(key))
                    case LookupAction.ASK_FOR_WINDOW:
                        if self._ahead is None:
                            self._begin_looking_ahead()
                        self._look_ahead(file, page_id)
                        outcome = Asked(self._known(key))
                    case LookupAction.ASK_FOR_PAGE:
                        self._ask(file, page_id)
                        outcome = Asked(self._known(key))
                    case LookupAction.WAIT:
                        self._await_page(key, file, page_id)
                        outcome = WaitOver()
                    case LookupAction.LOOK_AT_HAND:
                        found = self._at_hand(key)
                        if found is not None:
                            return found
                        lease = self._lease(file, key, page_id)
                        outcome = NotAtHand()
                    case LookupAction.RAISE_FAILURE:
                        raise copy(self._failed[key])  # One that was raised collects tracebacks.
                    case LookupAction.GIVE_UP:
                        raise left_every_tier(file.path, page_id)
                    case _:
                        assert_never(doing)
                (doing,) = lookup(outcome, time.monotonic())
        finally:
            if lease is not None:
                lease.release()

    def _known(self, key: PageKey) -> Knowledge:
        if key in self._failed:
            return Knowledge.FAILED
        if key in self._inbox.at_hand:
            return Knowledge.CAME
        return Knowledge.ON_ITS_WAY if key in self._expected else Knowledge.NOTHING

    def _begin_looking_ahead(self) -> None:
        read, watch, limits = self._join(), self._setting.tracer.watch, self._setting.limits
        ahead = ReadAhead(self._plan, limits.coalesce_bytes, limits.ahead_bytes, limits.room_bytes_max)
        self._ahead = watch(f"read {read}, ahead", ahead)
        reuse = Reuse(self._plan, limits.reuse_bytes)
        self._reuse = None if reuse.is_pointless else watch(f"read {read}, reuse", reuse)

    def _join(self) -> int:
        if self._read is None:
            self._read, self._inbox = self._setting.fetcher.join()
        return self._read

    def _look_ahead(self, file: FileEntry, page_id: int) -> None:
        window = (file.path, grid.window_of(file, page_id, self._setting.limits.coalesce_bytes))
        if window != self._window:
            self._window = window
            assert self._ahead is not None
            self._probe(self._ahead(WindowEntered(*window), time.monotonic()))

    def _ask(self, file: FileEntry, page_id: int) -> None:
        assert self._ahead is not None
        self._probe(self._ahead(PageMissed(file, page_id), time.monotonic()))

    def _probe(self, steps: tuple[ProbeWindow, ...]) -> None:
        while steps:
            (step,) = steps
            missing_bytes = 0
            assert self._ahead is not None
            source = self._source(step.file)
            wanted = [
                page_id for page_id in step.pages if is_asked_for(self._known(page_key(source.key, page_id)))
            ]
            missing = self._setting.fetcher.want(self._join(), source, wanted, is_ahead=step.is_ahead)
            self._expected.update(page_key(source.key, page_id) for page_id in missing)
            for page_id in missing:
                start, stop = step.file.page_extent(page_id)
                missing_bytes += stop - start
            steps = self._ahead(WindowProbed(missing_bytes), time.monotonic())

    def _source(self, file: FileEntry) -> PageSource:
        source = self._sources.get(file.path)
        if source is None:
            manifest = self._plan.manifest
            key = manifest.file_key(file)
            source = self._sources[file.path] = PageSource(manifest.ns, manifest.version, file, key)
        return source

    def _keep_at_hand(
        self, reuse: Feed[ReuseEvent, ReuseAction], file: FileEntry, page_id: int, length: int
    ) -> None:
        """Keep the current page, and let go of others, as later slices need them."""
        for action in reuse(SliceRead((file.path, page_id), length), time.monotonic()):
            path, page = action.page
            key = page_key(self._file_keys[path], page)
            match action:
                case LetGoOfPage():
                    if (buffer := self._inbox.at_hand.pop(key, None)) is not None:
                        self._setting.fetcher.release(buffer)
                case KeepPage() if key not in self._inbox.at_hand:
                    if (buffer := self._setting.ram.hold(key)) is not None:
                        self._inbox.at_hand[key] = buffer
                    else:
                        reuse(NotKept(action.page), time.monotonic())

    def _drop_at_hand(self) -> None:
        if self._reuse is not None:
            self._reuse(AllLetGo(), time.monotonic())
        self._came.clear()
        for buffer in self._inbox.take_all():
            self._setting.fetcher.release(buffer)

    # --- waiting ----------------------------------------------------------------------------

    def _await_page(self, key: PageKey, file: FileEntry, page_id: int) -> None:
        """Until the page has come or failed, or is no longer on its way."""
        told = False
        self._awaited = key
        since = time.monotonic()
        self._patience.begin(since)
        while key in self._expected:
            if not told and self._inbox.letters.empty():
                self._setting.fetcher.wait_for(self._join(), key, self._patience.until(time.monotonic()))
                told = True
            letter = self._inbox.letters.get()
            match letter:
                case WaitedTooLong(is_asked):
                    self._note_wait(WaitCause.STORE if is_asked else WaitCause.BUDGET, since)
                    raise overdue_page(self._patience, self._source(file), page_id)
                case PageCame(came, get) if came == key:
                    self.notes.waited_for(self.notes.came(get, self._join()), since, time.monotonic())
                case PageFailed(failed, _, kind) if failed == key:
                    self._note_wait(cause_of_failure(kind), since)
            self._take_in(letter)
        self._awaited = None

    def _await_room(self, length: int) -> None:
        read = self._join()
        self._setting.fetcher.want_room(read, length)
        since = time.monotonic()
        self._patience.begin(since)
        told = False
        while True:
            if not told and self._inbox.letters.empty():
                self._setting.fetcher.wait_for(read, None, self._patience.until(time.monotonic()))
                told = True
            letter = self._inbox.letters.get()
            if isinstance(letter, RoomGranted | RoomRefused | WaitedTooLong):
                self._note_wait(WaitCause.ROOM, since)
                since = time.monotonic()
            if isinstance(letter, WaitedTooLong):
                raise self._patience.spent("room to read a page into", ns=self._plan.manifest.ns)
            # A grant that came too late for an earlier wait may have another length.
            if isinstance(letter, RoomGranted) and letter.length == length:
                return
            if isinstance(letter, RoomRefused):
                raise ShuttingDown("the daemon is stopping: this read was not finished")
            self._take_in(letter)

    def _note_wait(self, cause: WaitCause, since: float) -> None:
        self.notes.waited(cause, time.monotonic() - since)

    def _take_in(self, letter: Letter) -> None:
        match letter:
            case PageCame(key, get):
                self._expected.discard(key)
                self._came.add(key)
                self.notes.came(get, self._join())
            case PageFailed(key, error, kind):
                self._expected.discard(key)
                if is_failure_remembered(is_passing=is_passing(kind), is_awaited=key == self._awaited):
                    self._failed[key] = error
            case AheadDropped(lost):
                self._expected.difference_update(lost)
                if self._ahead is not None:
                    self._ahead(AheadLost(), time.monotonic())
                self._drop_at_hand()
                self._drop_scratch()
            case RoomGranted(length):
                self._setting.fetcher.return_room(length)
            case RoomRefused() | WaitedTooLong():
                pass  # Of an earlier wait, that ended otherwise.
