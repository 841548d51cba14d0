"""One read of a client: ``seekfs_io.reading``, in virtual time, and what the client makes of it.

The client compares every byte with what the version that it got holds in truth.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, assert_never

from attrs import define, field

from seekfs_core import grid
from seekfs_core.errors import SeekfsError, ShuttingDown
from seekfs_core.fetch_messages import PageSource
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
from seekfs_core.pages import PageKey, page_key
from seekfs_core.patience import Patience, overdue_page
from seekfs_core.plan import Item, ReadPlan
from seekfs_core.readahead import (
    AheadLost,
    PageMissed,
    ProbeWindow,
    ReadAhead,
    WindowEntered,
    WindowProbed,
)
from seekfs_core.readback import WINDOW_BYTES, corruption, reads_whole_page
from seekfs_core.retry import is_passing
from seekfs_core.reuse import AllLetGo, KeepPage, LetGoOfPage, NotKept, Reuse, SliceRead
from tests.sim.content import Piece
from tests.sim.fetching import (
    AheadDropped,
    Inbox,
    Letter,
    PageCame,
    PageFailed,
    RoomGranted,
    RoomRefused,
    WaitedTooLong,
)
from tests.sim.memory import Buffer
from tests.sim.tasks import NOW, Signal, Steps
from tests.sim.tier import Lease

if TYPE_CHECKING:
    from tests.sim.process import Process


@define(eq=False)
class SimRead:
    """The slices of a plan, in order, from wherever their pages are."""

    process: Process
    plan: ReadPlan
    got: Callable[[Item, Piece, int, int], None]
    """Is told of each slice: the item, the page's bytes, and from where to where in the page."""
    pause: Callable[[], float]
    """How long the client takes for a slice."""
    _current: Buffer | None = None
    _current_key: PageKey | None = None
    _read: int | None = None
    _inbox: Inbox = field(factory=Inbox)
    _ahead: Callable[..., tuple[ProbeWindow, ...]] | None = None
    _window: tuple[str, int] | None = None
    _reuse: Callable[..., tuple[object, ...]] | None = None
    _expected: set[PageKey] = field(factory=set)
    _failed: dict[PageKey, SeekfsError] = field(factory=dict)
    _sources: dict[str, PageSource] = field(factory=dict)
    _awaited: PageKey | None = None
    _scratch: Buffer | None = None
    _patience: Patience = field(init=False)
    _found: Buffer | None = None

    def __attrs_post_init__(self) -> None:
        self._patience = Patience(self.process.world.wait_seconds_max)

    @property
    def _now(self) -> float:
        return self.process.world.clock.now

    def item(self, index: int, asked: Item) -> Steps:
        """The bytes of one item. Raises ``SeekfsError``."""
        for _, file, page_id, start, stop in self.plan.slices(index, index + 1):
            key = self._key(file, page_id)
            buffer = self._current
            if key != self._current_key or buffer is None:
                self._let_go()
                buffer = self._at_hand(key)
                if buffer is None:
                    lease = self._lease(file, key, page_id)
                    if lease is not None and not reads_whole_page(
                        verified=lease.verified, slice_bytes=stop - start, page_bytes=lease.length
                    ):
                        yield from self._from_disk(lease, file, key, page_id, start, stop, asked)
                        continue
                    buffer = yield from self._absent(lease, file, key, page_id)
                self._current, self._current_key = buffer, key
                if self._ahead is not None:
                    self._look_ahead(file, page_id)
            assert buffer.piece is not None
            self.got(asked, buffer.piece, start, stop)
            yield self.pause()
            if buffer.piece is None:
                raise AssertionError("a page was let go of while its reader looked at it")
            self._keep_at_hand(file, page_id, buffer.length)

    def offer_current(self) -> None:
        """Offer the page that was read last to the second tier once more."""
        if self._current_key is not None:
            self.process.fetcher.offer(self._current_key)

    def close(self) -> None:
        """Let go of everything."""
        self._let_go()
        self._drop_at_hand()
        self._drop_scratch()
        if self._read is not None:
            self.process.fetcher.leave(self._read)

    # --- at hand ----------------------------------------------------------------------------

    def _at_hand(self, key: PageKey) -> Buffer | None:
        if self._read is not None:
            while self._inbox.letters:
                self._take_in(self._inbox.letters.popleft())
            buffer = self._inbox.at_hand.pop(key, None)
            if buffer is not None:
                return buffer
        return self.process.ram.hold(key)

    def _key(self, file: FileEntry, page_id: int) -> PageKey:
        return page_key(self._source(file).key, page_id)

    def _source(self, file: FileEntry) -> PageSource:
        source = self._sources.get(file.path)
        if source is None:
            manifest = self.plan.manifest
            source = PageSource(manifest.ns, manifest.version, file, manifest.file_key(file))
            self._sources[file.path] = source
        return source

    def _let_go(self) -> None:
        buffer, self._current, self._current_key = self._current, None, None
        if buffer is not None:
            self.process.fetcher.release(buffer)

    # --- on disk ----------------------------------------------------------------------------

    def _lease(self, file: FileEntry, key: PageKey, page_id: int) -> Lease | None:
        if self.process.tier is None or not looks_on_disk(self._known(key)):
            return None
        start, stop = file.page_extent(page_id)
        return self.process.tier.lease(key, stop - start, file.page_crc32c(page_id))

    def _from_disk(
        self,
        lease: Lease,
        file: FileEntry,
        key: PageKey,
        page_id: int,
        start: int,
        stop: int,
        asked: Item,
    ) -> Steps:
        """A slice straight from disk; from elsewhere on a fault."""
        try:
            if self._scratch is None:
                length = min(WINDOW_BYTES, self.process.limits.room_bytes_max)
                yield from self._await_room(length)
                self._scratch = self.process.ram.take(length)
            piece = yield from lease.read()
        except SeekfsError:
            lease.release()
            raise
        if piece is not None:
            lease.release()
            self.got(asked, piece, start, stop)
            yield self.pause()
            self._keep_at_hand(file, page_id, piece.length)
            return
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            self._release_unfilled(scratch, lease)
        lease.release()
        buffer = yield from self._absent(None, file, key, page_id)
        self._current, self._current_key = buffer, key
        assert buffer.piece is not None
        self.got(asked, buffer.piece, start, stop)
        yield self.pause()
        self._keep_at_hand(file, page_id, buffer.length)

    def _drop_scratch(self) -> None:
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            self.process.fetcher.release(scratch)

    def _read_back(self, lease: Lease, key: PageKey) -> Generator[float | Signal, None, Buffer | None]:
        """All of a page from disk, checked; None on a fault."""
        try:
            yield from self._await_room(lease.length)
        except SeekfsError:
            lease.release()
            raise
        buffer = self.process.ram.take(lease.length)
        piece = yield from lease.read()
        if piece is not None and corruption(piece.crc, lease.crc) is not None:
            lease.condemn()
            piece = None
        if piece is None:
            self._release_unfilled(buffer, lease)
            lease.release()
            return None
        lease.mark_verified()
        buffer.piece = piece
        self.process.fetcher.keep(buffer, key, lease.crc)
        lease.release()
        return buffer

    def _release_unfilled(self, buffer: Buffer, lease: Lease) -> None:
        if lease.keeps_view:
            self.process.fetcher.return_room(self.process.ram.release(buffer))
        else:
            self.process.fetcher.release(buffer)

    # --- not in RAM -------------------------------------------------------------------------

    def _absent(
        self, lease: Lease | None, file: FileEntry, key: PageKey, page_id: int
    ) -> Generator[float | Signal, None, Buffer]:
        doing = FIRST
        try:
            self.process.limits.check(file)
        except SeekfsError:
            if lease is not None:
                lease.release()
            raise
        if self.process.world.chance.happens(0.05):
            yield 0.01  # It may be delivered before this one looks.
        lookup = self.process.watch(f"read {self._join()}, lookup", PageLookup(self.process.world.looks_max))
        while True:
            outcome: NotOnDisk | Asked | WaitOver | NotAtHand
            match doing:
                case LookupAction.READ_BACK:
                    held, lease = lease, None
                    found = None
                    if held is not None:
                        found = yield from self._read_back(held, key)
                    if found is not None:
                        return found
                    outcome = NotOnDisk(self._known(key))
                case LookupAction.ASK_FOR_WINDOW:
                    if self._ahead is None:
                        self._begin_looking_ahead()
                    self._look_ahead(file, page_id)
                    if self.process.world.chance.happens(0.1):
                        yield 0.01  # Others may deliver it before this one looks.
                    outcome = Asked(self._known(key))
                case LookupAction.ASK_FOR_PAGE:
                    assert self._ahead is not None
                    self._probe(self._ahead(PageMissed(file, page_id), self._now))
                    outcome = Asked(self._known(key))
                case LookupAction.WAIT:
                    yield from self._await_page(key, file, page_id)
                    outcome = WaitOver()
                case LookupAction.LOOK_AT_HAND:
                    found = self._at_hand(key)
                    if found is not None:
                        return found
                    yield NOW
                    lease = self._lease(file, key, page_id)
                    outcome = NotAtHand()
                case LookupAction.RAISE_FAILURE:
                    raise self._failed[key]
                case LookupAction.GIVE_UP:
                    if lease is not None:
                        lease.release()
                    raise left_every_tier(file.path, page_id)
                case _:
                    assert_never(doing)
            (doing,) = lookup(outcome, self._now)

    def _known(self, key: PageKey) -> Knowledge:
        if key in self._failed:
            return Knowledge.FAILED
        if key in self._inbox.at_hand:
            return Knowledge.CAME
        return Knowledge.ON_ITS_WAY if key in self._expected else Knowledge.NOTHING

    def _begin_looking_ahead(self) -> None:
        read, watch, limits = self._join(), self.process.watch, self.process.limits
        ahead = ReadAhead(self.plan, limits.coalesce_bytes, limits.ahead_bytes, limits.room_bytes_max)
        self._ahead = watch(f"read {read}, ahead", ahead)
        reuse = Reuse(self.plan, limits.reuse_bytes)
        self._reuse = None if reuse.is_pointless else watch(f"read {read}, reuse", reuse)

    def _join(self) -> int:
        if self._read is None:
            self._read, self._inbox = self.process.fetcher.join()
        return self._read

    def _look_ahead(self, file: FileEntry, page_id: int) -> None:
        window = (file.path, grid.window_of(file, page_id, self.process.limits.coalesce_bytes))
        if window != self._window:
            self._window = window
            assert self._ahead is not None
            self._probe(self._ahead(WindowEntered(*window), self._now))

    def _probe(self, steps: tuple[ProbeWindow, ...]) -> None:
        while steps:
            (step,) = steps
            missing_bytes = 0
            assert self._ahead is not None
            source = self._source(step.file)
            wanted = [
                page_id for page_id in step.pages if is_asked_for(self._known(page_key(source.key, page_id)))
            ]
            missing = self.process.fetcher.want(self._join(), source, wanted, is_ahead=step.is_ahead)
            self._expected.update(page_key(source.key, page_id) for page_id in missing)
            for page_id in missing:
                start, stop = step.file.page_extent(page_id)
                missing_bytes += stop - start
            steps = self._ahead(WindowProbed(missing_bytes), self._now)

    def _keep_at_hand(self, file: FileEntry, page_id: int, length: int) -> None:
        if self._reuse is None:
            return
        for action in self._reuse(SliceRead((file.path, page_id), length), self._now):
            match action:
                case LetGoOfPage((path, page)):
                    key = page_key(self._sources[path].key, page)
                    if (buffer := self._inbox.at_hand.pop(key, None)) is not None:
                        self.process.fetcher.release(buffer)
                case KeepPage((path, page)):
                    key = page_key(self._sources[path].key, page)
                    if key in self._inbox.at_hand:
                        continue
                    if (buffer := self.process.ram.hold(key)) is not None:
                        self._inbox.at_hand[key] = buffer
                    else:
                        self._reuse(NotKept((path, page)), self._now)

    def _drop_at_hand(self) -> None:
        if self._reuse is not None:
            self._reuse(AllLetGo(), self._now)
        for buffer in self._inbox.take_all():
            self.process.fetcher.release(buffer)

    # --- waiting ----------------------------------------------------------------------------

    def _await_page(self, key: PageKey, file: FileEntry, page_id: int) -> Steps:
        told = False
        self._awaited = key
        self._patience.begin(self._now)
        while key in self._expected:
            if not told and not self._inbox.letters:
                yield NOW  # Between the look into the inbox and the telling others may come.
                self.process.fetcher.wait_for(self._join(), key, self._patience.until(self._now))
                told = True
            while not self._inbox.letters:
                yield self._inbox.signal
            letter = self._inbox.letters.popleft()
            if isinstance(letter, WaitedTooLong):
                raise overdue_page(self._patience, self._source(file), page_id)
            self._take_in(letter)
        self._awaited = None

    def _await_room(self, length: int) -> Steps:
        read = self._join()
        self.process.fetcher.want_room(read, length)
        self._patience.begin(self._now)
        told = False
        while True:
            if not told and not self._inbox.letters:
                yield NOW
                self.process.fetcher.wait_for(read, None, self._patience.until(self._now))
                told = True
            while not self._inbox.letters:
                yield self._inbox.signal
            letter = self._inbox.letters.popleft()
            if isinstance(letter, WaitedTooLong):
                raise self._patience.spent("room to read a page into", ns=self.plan.manifest.ns)
            if isinstance(letter, RoomGranted) and letter.length == length:
                return
            if isinstance(letter, RoomRefused):
                raise ShuttingDown("the daemon is stopping")
            self._take_in(letter)

    def _take_in(self, letter: Letter) -> None:
        match letter:
            case PageCame(key):
                self._expected.discard(key)
            case PageFailed(key, error, kind):
                self._expected.discard(key)
                if is_failure_remembered(is_passing=is_passing(kind), is_awaited=key == self._awaited):
                    self._failed[key] = error
            case AheadDropped(lost):
                self._expected.difference_update(lost)
                if self._ahead is not None:
                    self._ahead(AheadLost(), self._now)
                self._drop_at_hand()
                self._drop_scratch()
            case RoomGranted(length):
                self.process.fetcher.return_room(length)
            case RoomRefused() | WaitedTooLong():
                pass
