"""The recorder of traces: what the machines of a data plane are fed, written to a file by a thread of its
own.

    feed = tracer.watch("scheduler", scheduler)      # in place of scheduler.feed, under the same lock

Rules of this file:

* **Off, it is not there**: ``NO_TRACE.watch`` returns the machine's own ``feed``.
* **Nobody waits for it.** Who feeds a machine appends what came of that to a queue, which is one step of the
  interpreter and takes no lock. So what is recorded of a machine is in the order in which it was fed. Where
  the queue is full events are lost, which is counted and written down; who lost some is born again.
* **It fails nobody.** A disk that is full, or a thing that cannot be in a trace, ends the recording with one
  line in the log, and the file can be replayed up to there.
* **Every file is whole by itself**: whoever is fed for the first time since it was begun is recorded with all
  its state before that, under the lock of its driver.

The file that is written to is ``path``; of those before it, ``path.1`` is the latest. One that is older than
this process was written by another one, and is kept as such.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from seekfs_core.errors import Problem, TraceError
from seekfs_core.machine import Machine
from seekfs_core.trace import MAGIC, Begun, TraceWriter, is_trace
from seekfs_core.trace_encoding import taken_machine
from seekfs_io.config import ConfigError, TraceConfig

log = logging.getLogger("seekfs.trace")

EVENTS_WAITING_MAX: Final = 16_384
"""Events that wait to be written: what the writer needs a good second for, and some tens of MiB at most."""

CLOSE_SECONDS_DEFAULT: Final = 60.0

_WAKES_AT: Final = 1024
_WRITE_SECONDS: Final = 0.2
"""How long an event may wait to be written; a process that is killed loses so much."""

_CHUNK_BYTES: Final = 1 << 18

EventT = TypeVar("EventT")
ActionT = TypeVar("ActionT")
Feed: TypeAlias = Callable[[EventT, float], tuple[ActionT, ...]]

_Note: TypeAlias = tuple[int, Callable[..., bytes], tuple[Any, ...]]
"""The number of the file that it belongs to, the method of its ``TraceWriter``, and what to call that
with."""


class NoTrace:
    """No recording."""

    def watch(self, name: str, machine: Machine[EventT, ActionT]) -> Feed[EventT, ActionT]:
        """What to call in place of ``machine.feed``, under the lock under which that would be. ``name`` is
        for people."""
        return machine.feed

    def close(self, timeout_seconds: float = CLOSE_SECONDS_DEFAULT) -> None:
        """Write what is not written yet, and let go of the file; or leave that to itself after so long, where
        a disk hangs."""


NO_TRACE: Final = NoTrace()


def open_tracer(config: TraceConfig, clock: Callable[[], float]) -> NoTrace:
    """The recorder that the configuration asks for; ``ConfigError`` in a sentence where it cannot be begun.
    ``clock`` counts the monotonic seconds that machines are told."""
    if config.path is None:
        return NO_TRACE
    check_path(config)
    return Tracer(Path(config.path), config.max_bytes, config.files, clock)


def check_path(config: TraceConfig) -> None:
    """``ConfigError`` where traces cannot be written to ``trace.path``, or would take the place of what is
    none of ours. Leaves nothing behind."""
    if config.path is None:
        return
    for path in _generations(Path(config.path), config.files):
        with contextlib.suppress(FileNotFoundError):
            try:
                with open(path, "rb") as file:
                    if not is_trace(file.read(len(MAGIC))):
                        raise _refused(
                            f"{str(path)!r} is there, and is no trace of seekfs: name another path"
                        )
                    _lock(file.fileno(), path)
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    raise
                raise _refused(f"{str(path)!r} cannot be read: {error.strerror}") from None
    directory = Path(config.path).parent
    if not os.access(directory, os.W_OK | os.X_OK):
        what = "is not there" if not directory.is_dir() else "may not be written to"
        raise _refused(f"the directory {str(directory)!r} {what}")


def _refused(what: str) -> ConfigError:
    return ConfigError((Problem("trace.path", what),))


def _generations(path: Path, files: int) -> list[Path]:
    """Where traces are: the one that is written to, and those before it, the latest first."""
    return [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, files))]


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refused(f"{str(path)!r} is written to by another process: name another path") from None


class _TraceFile:
    """One file, and what is on its way into it. All raise ``OSError``."""

    def __init__(self, path: Path, number: int, begun: Begun) -> None:
        self.number = number
        self.writer = TraceWriter()
        self.length = 0
        self.state_length = 0
        """How much of that is machines."""
        self._waiting = bytearray()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o600)
        with contextlib.suppress(OSError):  # Of a file system that has no locks.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.add(self.writer.begin(begun))

    def add(self, data: bytes) -> None:
        self.length += len(data)
        self._waiting += data
        if len(self._waiting) >= _CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = memoryview(bytes(self._waiting)), bytearray()
        while waiting:
            waiting = waiting[os.write(self._fd, waiting) :]

    def end(self) -> None:
        """Nothing comes any more."""
        try:
            self.add(self.writer.end())
            self.flush()
        finally:
            self.let_go()

    def let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Watched:
    """One machine that is recorded. Fed as the machine is: by one caller at a time."""

    __slots__ = ("_file", "_machine", "_name", "_number", "_tracer")

    def __init__(self, tracer: Tracer, name: str, machine: Machine[Any, Any]) -> None:
        self._tracer = tracer
        self._name = name
        self._machine = machine
        self._number = next(tracer.numbers)
        self._file: int | None = None
        """The file in which it was born; None where it has to be born before its next event."""

    def feed(self, event: Any, now: float) -> tuple[Any, ...]:
        tracer = self._tracer
        file, waiting = tracer.file, tracer.waiting
        if file is None:
            return self._machine.feed(event, now)
        if len(waiting) >= _WAKES_AT:
            tracer.wake.set()
            if len(waiting) >= EVENTS_WAITING_MAX:
                self._file = None
                tracer.lose()
                return self._machine.feed(event, now)
        if self._file != file:
            self._file = file
            waiting.append(self._born(file))
        try:
            actions = self._machine.feed(event, now)
        except Exception as error:
            raised = (self._number, now, event, type(error).__name__, str(error))
            waiting.append((file, TraceWriter.refused, raised))
            raise
        waiting.append((file, TraceWriter.fed, (self._number, now, event, actions)))
        return actions

    def _born(self, file: int) -> _Note:
        try:
            state = taken_machine(self._machine)
        except Exception as error:  # It is said by the writer, and fails nobody here.
            return file, _raise, (error,)
        return file, TraceWriter.born, (self._number, self._name, state)

    def __del__(self) -> None:
        if self._file is not None:
            self._tracer.waiting.append((self._file, TraceWriter.gone, (self._number,)))


def _raise(_: TraceWriter, error: Exception) -> bytes:
    raise error


class Tracer(NoTrace):
    """See the module's text."""

    def __init__(self, path: Path, bytes_max: int, files: int, clock: Callable[[], float]) -> None:
        """Begin a file of about ``bytes_max``, the first of so many ``files``; ``ConfigError``."""
        self._path = path
        self._bytes_max = bytes_max
        self._files = files
        self._clock = clock
        self.numbers = iter(range(1, 2**63))
        self.waiting: deque[_Note] = deque()
        self.wake = threading.Event()
        self._lock = threading.Lock()
        self._lost = 0
        self._lost_said = 0
        self.events_recorded = 0
        self._closing = False
        self._previous: _TraceFile | None = None
        try:
            self._current = self._begin(1)
        except OSError as error:
            raise _refused(f"{str(path)!r} cannot be written: {error.strerror}") from None
        self.file: int | None = 1
        """The number of the file that machines are to be born in; None where nothing is recorded any more."""
        self._thread = threading.Thread(target=self._run, name="seekfs-trace", daemon=True)
        self._thread.start()

    def watch(self, name: str, machine: Machine[EventT, ActionT]) -> Feed[EventT, ActionT]:
        return _Watched(self, name, machine).feed

    @property
    def events_lost(self) -> int:
        """Events that were not recorded, because too many waited."""
        return self._lost

    def lose(self) -> None:
        """An event is not recorded."""
        with self._lock:
            self._lost += 1

    def close(self, timeout_seconds: float = CLOSE_SECONDS_DEFAULT) -> None:
        self._closing = True
        self.wake.set()
        self._thread.join(timeout_seconds)

    # --- the writer -------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            is_last = self._closing
            leaving = self._previous
            if not is_last:
                self.wake.wait(_WRITE_SECONDS)
                self.wake.clear()
            try:
                self._write_what_waits()
                # Whoever had not seen that a file was begun when this began has appended its event by now.
                if leaving is not None and leaving is self._previous:
                    self._previous = None
                    leaving.end()
                if is_last:
                    self._end()
                    return
            except Exception as error:
                self._give_up(error)
                return

    def _write_what_waits(self) -> None:
        for _ in range(len(self.waiting)):
            number, write, arguments = self.waiting.popleft()
            file = self._current if number == self._current.number else self._previous
            if file is None or number != file.number:
                self.lose()
                continue
            data = write(file.writer, *arguments)
            file.add(data)
            if write is TraceWriter.born:
                file.state_length += len(data)
            else:
                self.events_recorded += write is not TraceWriter.gone
            # A state that is larger than a file may be is not begun with again and again.
            if self._current.length >= max(self._bytes_max, 2 * self._current.state_length):
                self._rotate()
        lost = self._lost
        if lost > self._lost_said:
            self._current.add(self._current.writer.lost(lost - self._lost_said))
            self._lost_said = lost
        if self._previous is not None:
            self._previous.flush()
        self._current.flush()

    def _rotate(self) -> None:
        if self._previous is not None:
            self._previous.end()
        self._previous, self._current = self._current, self._begin(self._current.number + 1)
        self.file = self._current.number

    def _begin(self, number: int) -> _TraceFile:
        """A new file at ``path``; those that are there move up, and the oldest goes."""
        generations = _generations(self._path, self._files)
        if self._path.exists() and self._path.stat().st_size:
            for older, newer in zip(reversed(generations), reversed(generations[:-1]), strict=False):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(newer, older)
            if len(generations) == 1:
                self._path.unlink()
        begun = Begun(seekfs=version("seekfs"), monotonic=self._clock(), unix=time.time())
        return _TraceFile(self._path, number, begun)

    def _end(self) -> None:
        if self._previous is not None:
            self._previous.end()
        self._current.end()
        self.file = None
        log.info("the trace in %s has %d events; %d were lost", self._path, self.events_recorded, self._lost)

    def _give_up(self, error: Exception) -> None:
        self.file = None
        self.waiting.clear()
        for file in (self._previous, self._current):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.let_go()
        what = error.strerror if isinstance(error, OSError) else str(error)
        log.error(
            "tracing is off: %s: %s; %d events are recorded, and nothing else is affected",
            self._path,
            what or type(error).__name__,
            self.events_recorded,
            exc_info=None if isinstance(error, OSError | TraceError) else error,
        )
