"""The disk L2: carries out what ``seekfs_core.segments.SegmentLog`` decides.

How a page comes and goes::

    store ─► PageOffered ─► WritePage ─pwrite─► Publish ─LMDB─► Reveal ─► lease finds it
                                                                  RetireSegment ─► lease does not
                                                                  DropEntries, UnlinkSegment

Rules of this file:

* A hit takes no lock but that of its segment's counter: the table of pages is a dict that is only
  changed under ``_lock``, and what the policy must know of hits is noted and fed later.
* ``_lock`` guards the machines and the table, for microseconds, never across I/O.
* ``store``, ``lease`` and ``readinto`` never raise for the disk's sake. A fault is counted, the
  page is forgotten, and ``TierHealth`` says whether the tier is used at all.
* Every action of the log has an outcome, whatever goes wrong in it: a placement that is never told of
  again would keep its segment for ever.
* A disk that hangs holds up no reader (``seekfs_io.pages.disk_calls``): its read is left behind, with the
  segment that it is in, and counts as a fault. A writer it does hold up, which turns writing off.
* Bytes first, index second, table third. So a kill at any moment leaves an index that names
  whole records only; what it does not name is given up at start.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path

from seekfs_core.cache_directory import descriptors_max
from seekfs_core.disk_watch import READERS
from seekfs_core.pages import PageKey
from seekfs_core.patience import DISK_SECONDS_MAX
from seekfs_core.readback import PageLoss, corruption, disagreement, loss_in_reading
from seekfs_core.restoring import IndexEntry
from seekfs_core.retention import HitsSeen, Refusal, Refuse
from seekfs_core.segment_layout import shares_of
from seekfs_core.segment_messages import (
    CopyPage,
    DropEntries,
    EntriesKept,
    LogAction,
    LogEvent,
    OpenFailed,
    OpenSegment,
    PageDropped,
    PageOffered,
    PagePublished,
    PageWritten,
    Publish,
    RetireSegment,
    Reveal,
    SegmentDrained,
    SegmentHeld,
    SegmentUnlinked,
    UnlinkFailed,
    UnlinkSegment,
    WriteFailed,
    WritePage,
    outcome_of_failure,
)
from seekfs_core.segments import SegmentLog
from seekfs_core.tier import Operation, Outcome
from seekfs_io.pages.base import CLOSE_SECONDS_DEFAULT, TierStatistics
from seekfs_io.pages.directory import CacheDirectory, claim, segment_path
from seekfs_io.pages.disk_calls import DiskCalls, DiskHangs
from seekfs_io.pages.hits import Hits
from seekfs_io.pages.recovery import recover
from seekfs_io.pages.segment_file import Descriptors, SegmentFile, files_max
from seekfs_io.pages.segment_records import Place, Records
from seekfs_io.pages.tier_switch import DiskHealth, outcome_of, reason_of
from seekfs_io.tracing import NO_TRACE, NoTrace

log = logging.getLogger("seekfs.cache")


class SegmentLease:
    """A page that can be read; see ``PageLease``."""

    __slots__ = ("_is_probe", "_key", "_page", "_store", "crc32c", "keeps_view", "length")

    def __init__(self, store: SegmentStore, key: PageKey, page: Place, *, is_probe: bool) -> None:
        self.length = page.length
        self.crc32c = page.crc32c
        self.keeps_view = False
        self._store = store
        self._key = key
        self._page = page
        self._is_probe = is_probe

    @property
    def verified(self) -> bool:
        return self._page.verified

    def readinto(self, view: memoryview, offset: int) -> bool:
        """Fill ``view`` from byte ``offset`` of the page; False on a fault."""
        self._is_probe = False
        try:
            return self._store._read(self._key, self._page, view, offset)
        except DiskHangs as hangs:
            self.keeps_view = hangs.is_tried
            return False

    def mark_verified(self) -> None:
        self._page.verified = True

    def condemn(self) -> None:
        self._store._forget(self._key, self._page, PageLoss.WRONG_CRC)

    def release(self) -> None:
        self._store._release(self._page, is_unused_probe=self._is_probe)


class SegmentStore:
    """Pages in segment files under a directory, indexed by LMDB; see the module's text."""

    name = "segmentstore"

    def __init__(
        self,
        directory: CacheDirectory,
        ceiling_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        answer_seconds_max: float = DISK_SECONDS_MAX,
        tracer: NoTrace = NO_TRACE,
    ) -> None:
        """Take over a claimed directory with whatever it holds; ``CacheRefused`` if that cannot be.

        ``clock`` counts monotonic seconds; the disk may take ``answer_seconds_max`` of this machine's time to
        move. The claim is this store's, also when this raises.
        """
        self._directory = directory
        self._clock = clock
        self._lock = threading.Lock()
        self._log = SegmentLog(shares_of(ceiling_bytes))
        self._feed_log = tracer.watch("segments", self._log)
        self._health = DiskHealth(directory.path, clock, tracer)
        self._pages: dict[PageKey, Place] = {}
        self._files: dict[int, SegmentFile] = {}
        self._placed: dict[PageKey, Place] = {}
        self._descriptors = Descriptors(descriptors_max(files_max()))
        # Whether a disk hangs is a matter of this machine's time, whatever ``clock`` says for decisions.
        self._calls = DiskCalls(
            "seekfs-read", READERS, self._health, answer_seconds_max, time.monotonic, tracer
        )
        self._records = Records(directory.store_id, self._descriptors, self._calls, self._leave)
        self._hits = Hits()
        self._backlog: deque[LogAction] = deque()
        self._stores_active = 0
        self._stores_ended = threading.Condition(self._lock)
        self._ending: threading.Thread | None = None
        self._now = clock()
        self._written = self._evicted = 0
        self._refusals: Counter[Refusal] = Counter()
        self._crc_failures = self._faults = 0
        try:
            directory.use("pages")
        except BaseException:
            self._calls.close()
            directory.release()
            raise
        try:
            self._restore()
        except BaseException:
            self._calls.close()
            directory.release("pages")
            raise

    # Readers

    def __contains__(self, key: PageKey) -> bool:
        return key in self._pages and self._health.reading.would_let_through()

    def lease(self, key: PageKey, length: int, crc32c: int) -> SegmentLease | None:
        """Hold a page for reading; None on a miss. ``length`` and ``crc32c`` are the manifest's."""
        while True:
            page = self._pages.get(key)
            if page is None:
                return None
            loss = disagreement((page.length, page.crc32c), (length, crc32c))
            if loss is not None:
                self._forget(key, page, loss)
                return None
            if page.file.enter():
                break
            # Retired or carried over since; where it was carried to, it can be read.
            if self._pages.get(key) is page:
                return None
        is_let_through, is_probe = self._health.reading.ask()
        if not is_let_through:
            self._release(page, is_unused_probe=False)
            return None
        self._hits.note(key)
        return SegmentLease(self, key, page, is_probe=is_probe)

    def _read(self, key: PageKey, page: Place, view: memoryview, offset: int) -> bool:
        """``DiskHangs`` is passed on, and has been said to the disk's health already."""
        try:
            is_good = self._records.read(key, page, view, offset)
        except DiskHangs as hangs:
            self._lose(key, page, hangs.outcome, reason_of(hangs))
            raise
        except OSError as error:
            self._lose(key, page, outcome_of(error), reason_of(error))
            self._health.failed(Operation.READ, error)
            return False
        except BaseException:
            self._health.reading.abandoned()
            raise
        outcome = Outcome.DONE if is_good else Outcome.DAMAGED
        self._lose(key, page, outcome)
        self._health.went(Operation.READ, outcome)
        return is_good

    def _lose(self, key: PageKey, page: Place, outcome: Outcome, reason: str | None = None) -> None:
        """Forget a page if reading it had an outcome that says so."""
        loss = loss_in_reading(outcome)
        if loss is not None:
            self._forget(key, page, loss, reason)

    def _forget(self, key: PageKey, page: Place, loss: PageLoss, reason: str | None = None) -> None:
        """Let nobody find a page any more. Its entry in the index goes with the next ``store``."""
        log.warning(
            "page %s in segment %d at %d is dropped: %s",
            key.hex()[-16:],
            page.file.number,
            page.offset,
            loss.value if reason is None else f"{loss.value}: {reason}",
        )
        with self._lock:
            self._faults += loss.is_fault
            self._crc_failures += not loss.is_fault
            if self._pages.get(key) is page:
                del self._pages[key]
                self._backlog.extend(self._feed(PageDropped(key)))

    def _release(self, page: Place, *, is_unused_probe: bool) -> None:
        self._leave(page.file)
        if is_unused_probe:
            self._health.reading.abandoned()

    def _leave(self, file: SegmentFile) -> None:
        if file.leave():
            with self._lock:
                self._backlog.extend(self._feed(SegmentDrained(file.number)))

    # Writers

    def store(self, key: PageKey, page: memoryview, crc32c: int) -> bool:
        """Keep a verified page; False when it was not admitted or could not be written."""
        held = self._pages.get(key)
        loss = None
        if held is not None:
            loss = disagreement((held.length, held.crc32c), (len(page), crc32c))
            if loss is None:
                return True
        with self._lock:
            if self._ending is not None:
                return False
            self._stores_active += 1
        try:
            if held is not None and loss is not None:
                self._forget(key, held, loss)
            return self._store(key, page, crc32c)
        finally:
            with self._lock:
                self._stores_active -= 1
                self._stores_ended.notify_all()

    def _store(self, key: PageKey, page: memoryview, crc32c: int) -> bool:
        self.tell_hits()
        is_let_through, is_probe = self._health.writing.ask()
        if not is_let_through:
            with self._lock:
                self._refusals[Refusal.OFF] += 1
            return False
        try:
            self._catch_up()
            with self._lock:
                actions = self._feed(PageOffered(key, len(page), self._leased(), is_probe=is_probe))
            self._carry_out(actions, page, crc32c)
        finally:
            if is_probe:
                self._health.writing.abandoned()  # Unless the disk was touched, and has had its say.
        return key in self._pages

    def _leased(self) -> frozenset[int]:
        """Segments that somebody is in at this moment; a reader may still slip into another one."""
        return frozenset(number for number, file in self._files.items() if file.leases)

    def tell_hits(self) -> None:
        """Tell the policy of the hits, which readers only note."""
        for keys in self._hits.drain():
            with self._lock:
                self._feed(HitsSeen(keys))

    def _catch_up(self) -> None:
        """Do what readers have left to be done."""
        actions: list[LogAction] = []
        with contextlib.suppress(IndexError):
            while True:
                actions.append(self._backlog.popleft())
        self._carry_out(actions)

    def _carry_out(
        self, actions: Iterable[LogAction], page: memoryview | None = None, crc32c: int | None = None
    ) -> None:
        """Do what the machine says, and what it says to that. ``page`` is the page on offer."""
        todo = deque(actions)
        while todo:
            action = todo.popleft()
            try:
                event = self._do(action, page, crc32c)
            except Exception:
                # No memory, or a bug: neither is the disk's fault, and neither may leave things as they are.
                log.exception("%s came to nothing", type(action).__name__)
                event = outcome_of_failure(action)
            if event is not None:
                with self._lock:
                    more = self._feed(event)
                todo.extendleft(reversed(more))

    def _do(self, action: LogAction, page: memoryview | None, crc32c: int | None) -> LogEvent | None:
        match action:
            case OpenSegment():
                return self._make_segment(action)
            case WritePage():
                assert page is not None
                assert crc32c is not None
                return self._write_page(action, page, crc32c)
            case CopyPage():
                return self._copy_page(action)
            case Publish():
                return self._publish(action)
            case DropEntries():
                return self._drop_entries(action)
            case UnlinkSegment(segment):
                return self._unlink(segment)
            case Refuse() | Reveal() | RetireSegment():
                pass  # Done, or counted, under the lock, in _feed.
        return None

    def _make_segment(self, action: OpenSegment) -> LogEvent | None:
        file = self._file(action.segment)
        try:
            with self._calls.under_way(Operation.MAKE) as moves:
                file.make(moves)
            self._descriptors.opened(file)
        except OSError as error:
            self._failed(Operation.MAKE, error)
            return OpenFailed(action.segment)
        finally:
            file.settle()
        return None

    def _write_page(self, action: WritePage, data: memoryview, crc32c: int) -> LogEvent:
        file = self._file(action.segment)
        page = Place(file, action.offset, len(data), crc32c)
        # What this process wrote it does not take for read: the first read back is checked.
        return self._place(action.key, page, lambda: self._records.write(action.key, page, data))

    def _copy_page(self, action: CopyPage) -> LogEvent:
        with self._lock:
            old = self._pages.get(action.key)
        if old is None or old.file.number != action.source or not old.file.enter():
            return WriteFailed(action.key, action.segment)  # Dropped since.
        # Nor can it have come to the same segment again: it is being placed until this has an outcome.
        assert (old.offset, old.length) == (action.source_offset, action.nbytes)
        try:
            page = Place(self._file(action.segment), action.offset, old.length, old.crc32c)
            return self._place(action.key, page, lambda: self._copy(action.key, old, page))
        finally:
            self._release(old, is_unused_probe=False)

    def _place(self, key: PageKey, page: Place, write: Callable[[], bool]) -> LogEvent:
        """Write a record with ``write``, into a segment that another thread may still be making."""
        number = page.file.number
        if not page.file.wait_until_made() or not page.file.enter():
            return WriteFailed(key, number)
        try:
            if not write():
                return WriteFailed(key, number)
        except DiskHangs:
            return WriteFailed(key, number)  # In reading what was to be carried over.
        except OSError as error:
            self._failed(Operation.WRITE, error)
            return WriteFailed(key, number)
        finally:
            self._release(page, is_unused_probe=False)
        with self._lock:
            self._placed[key] = page
        return PageWritten(key, number)

    def _copy(self, key: PageKey, old: Place, page: Place) -> bool:
        """Copy a record; False where it could not be read, or is wrong: then it is dropped."""
        # Asked here and no sooner: nothing but the read may hold up a probe.
        is_let_through, is_probe = self._health.reading.ask()
        if not is_let_through:
            return False
        try:
            crc = self._records.copy(key, page, lambda view, offset: self._read(key, old, view, offset))
        finally:
            if is_probe:
                self._health.reading.abandoned()  # If it was used, this says nothing more.
        if crc is None:
            return False
        loss = corruption(crc, page.crc32c)
        if loss is not None:
            self._forget(key, old, loss)
        return loss is None

    def _publish(self, action: Publish) -> LogEvent | None:
        page = self._placed[action.key]
        entry = IndexEntry(action.segment, action.offset, action.nbytes, page.crc32c)
        try:
            with self._calls.under_way(Operation.INDEX):
                self._index.put(action.key, entry)
        except OSError as error:
            self._failed(Operation.INDEX, error)
            return WriteFailed(action.key, action.segment)
        self._health.went(Operation.INDEX, Outcome.DONE)
        return PagePublished(action.key, action.segment)

    def _drop_entries(self, action: DropEntries) -> LogEvent | None:
        try:
            with self._calls.under_way(Operation.UNINDEX) as moves:
                self._index.drop(action.entries, moves)
        except OSError as error:
            self._failed(Operation.UNINDEX, error)
            return EntriesKept(action.entries)
        return None

    def _unlink(self, number: int) -> LogEvent:
        file = self._file(number)
        file.close()
        self._descriptors.closed(file)
        try:
            with self._calls.under_way(Operation.UNLINK):
                file.path.unlink(missing_ok=True)
        except OSError as error:
            self._failed(Operation.UNLINK, error)
            return UnlinkFailed(number)
        with self._lock:
            del self._files[number]
        return SegmentUnlinked(number)

    def _failed(self, operation: Operation, error: OSError) -> None:
        """A use of the disk that is not a read came to nothing."""
        with self._lock:
            self._faults += 1
        self._health.failed(operation, error)

    def _segment_file(self, number: int, capacity: int, *, made: bool) -> SegmentFile:
        return SegmentFile(segment_path(self._directory, number), number, capacity, made=made)

    def _file(self, number: int) -> SegmentFile:
        with self._lock:
            return self._files[number]

    # Under the lock

    def _feed(self, event: LogEvent) -> list[LogAction]:
        """Feed the log; reveal and retire at once, and return what needs the disk."""
        self._now = max(self._now, self._clock())
        rest: list[LogAction] = []
        todo = deque(self._feed_log(event, self._now))
        while todo:
            match todo.popleft():
                case Reveal(key):
                    self._written += key not in self._pages  # Else it was carried over.
                    self._pages[key] = self._placed[key]
                case Refuse(_, reason):
                    self._refusals[reason] += 1
                case RetireSegment(number, pages):
                    for page in pages:
                        self._pages.pop(page.key, None)
                    self._evicted += len(pages)
                    is_idle = self._files[number].retire()
                    follow = SegmentDrained(number) if is_idle else SegmentHeld(number)
                    todo.extend(self._feed_log(follow, self._now))
                case OpenSegment(number, capacity) as action:
                    # Known at once, since another thread may be told to write into it before it is made.
                    self._files[number] = self._segment_file(number, capacity, made=False)
                    rest.append(action)
                case action:
                    rest.append(action)
        if isinstance(event, PagePublished | WriteFailed):
            self._placed.pop(event.key, None)
        return rest

    # Start and end

    def _restore(self) -> None:
        recovered = recover(self._directory, self._log.shares)
        found = recovered.restoration
        self._index = recovered.index
        self._faults += len(found.lost)
        for segment in found.event.segments:
            self._files[segment.segment] = self._segment_file(segment.segment, segment.capacity, made=True)
        for key, entry in found.entries.items():
            self._pages[key] = Place(self._files[entry.segment], entry.offset, entry.length, entry.crc32c)
        with self._lock:
            actions = self._feed(found.event)
        self._carry_out(actions)
        self._evicted = 0
        try:
            recovered.settle((key, entry) for key, entry in found.entries.items() if key in self._pages)
        except BaseException:
            self._index.close()
            raise

    def statistics(self) -> TierStatistics:
        with self._lock:
            return TierStatistics(
                name=self.name,
                bytes_held=self._log.held_bytes,
                bytes_ceiling=self._log.shares.ceiling_bytes,
                pages_held=len(self._pages),
                pages_written=self._written,
                refusals=dict(self._refusals),
                pages_evicted=self._evicted,
                crc_failures=self._crc_failures,
                faults=self._faults,
                off_because=self._health.off_because,
            )

    def close(self, timeout_seconds: float = CLOSE_SECONDS_DEFAULT) -> None:
        """Finish the writes that are under way and let go of the directory. Leases that are out can
        still be read.

        A disk that hangs is waited for no longer than the bound. What is left then is said in the log and
        goes on by itself, and the directory is let go of when that has come to its end.
        """
        with self._lock:
            ending = self._ending
            if ending is None:
                ending = self._ending = threading.Thread(target=self._end, name="seekfs-close", daemon=True)
                ending.start()
        ending.join(max(0.0, timeout_seconds))
        if ending.is_alive():
            left = f"after {timeout_seconds:g} s; {self._stores_active} pages are still being written"
            log.warning("the disk cache in %s could not be closed %s", self._directory.path, left)

    def _end(self) -> None:
        with self._lock:
            self._stores_ended.wait_for(lambda: not self._stores_active)
            self._pages.clear()
        self._catch_up()
        for file in list(self._files.values()):
            file.close()
        try:
            self._index.close()
        except OSError as error:
            log.warning("the index could not be flushed: %s", error)
        self._calls.close()
        self._directory.release("pages")


def open_segment_store(
    path: str | Path,
    ceiling_bytes: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    answer_seconds_max: float = DISK_SECONDS_MAX,
    tracer: NoTrace = NO_TRACE,
) -> SegmentStore:
    """Claim a directory and open the store in it; ``CacheRefused`` in a sentence."""
    return SegmentStore(
        claim(path), ceiling_bytes, clock=clock, answer_seconds_max=answer_seconds_max, tracer=tracer
    )
