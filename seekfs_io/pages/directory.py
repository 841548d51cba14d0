"""The cache directory: claimed by one process, made or emptied where it has to be, or refused.

What may be in it and what becomes of one that is found is ``seekfs_core.cache_directory``'s to say.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shlex
import shutil
import threading
from pathlib import Path
from typing import assert_never

from seekfs_core.cache_directory import (
    BOOT_NAME,
    CONTENT_NAMES,
    INDEX_NAME,
    INNER,
    LAYOUT_NAME,
    LOCK_NAME,
    SEGMENTS_NAME,
    SHELF_NAME,
    TEMPORARY_SUFFIX,
    Fate,
    fate_of,
    foreign_beside_no_layout,
    foreign_name,
    segment_file,
)
from seekfs_io.pages.segment_format import (
    LAYOUT_VERSION,
    STORE_ID_LENGTH,
    Layout,
    decode_layout,
    encode_layout,
)

log = logging.getLogger("seekfs.cache")


class CacheRefused(Exception):
    """A cache directory that cannot be used; one sentence for whoever configured it.

    ``key`` is the configuration key to change.
    """

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key}: {detail}")
        self.key = key
        self.detail = detail

    def __reduce__(self) -> tuple[type[CacheRefused], tuple[str, str]]:
        return type(self), (self.key, self.detail)


PATH_KEY = "cache.l2.segment_path"


class CacheDirectory:
    """A directory that this process has claimed. Counted: the last ``release`` lets go of the lock."""

    def __init__(self, path: Path, store_id: bytes, lock_fd: int) -> None:
        self.path = path
        self.store_id = store_id
        self._lock_fd = lock_fd
        self._pid = os.getpid()
        self._claims = 1
        self._uses: set[str] = set()

    @property
    def index_path(self) -> Path:
        return self.path / INDEX_NAME

    @property
    def segments_path(self) -> Path:
        return self.path / SEGMENTS_NAME

    @property
    def shelf_path(self) -> Path:
        return self.path / SHELF_NAME

    @property
    def boot_path(self) -> Path:
        return self.path / BOOT_NAME

    def use(self, what: str) -> None:
        """Be the only one in this process that uses a part of the directory, until ``release(what)``."""
        with _claims_lock:
            if what in self._uses:
                raise CacheRefused(PATH_KEY, f"{str(self.path)!r} is in use already, by this very process")
            self._uses.add(what)

    def release(self, what: str | None = None) -> None:
        """Take one claim back, and the use that went with it."""
        with _claims_lock:
            if what is not None:
                self._uses.discard(what)
            self._claims -= 1
            if self._claims or self._pid != os.getpid():
                return
            _claims.pop(os.path.realpath(self.path), None)
            os.close(self._lock_fd)


_claims_lock = threading.Lock()
_claims: dict[str, CacheDirectory] = {}


def claim(path: str | os.PathLike[str]) -> CacheDirectory:
    """Take a directory for this process, and make it if it is not there; ``CacheRefused`` if not.

    The same directory may be claimed again within the process (the pages and the shelf of
    manifests share one).
    """
    real = os.path.realpath(path)
    with _claims_lock:
        claimed = _claims.get(real)
        if claimed is not None and claimed._pid == os.getpid():
            claimed._claims += 1
            return claimed
        directory = _claim(Path(path))
        _claims[real] = directory
        return directory


def _claim(path: Path) -> CacheDirectory:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before anything is made here, the lock included; and once more under it.
        _fate_of(path)
        lock_fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CacheRefused(
                PATH_KEY,
                f"{str(path)!r} is in use by another process{_owner(lock_fd)}: one daemon has one directory; "
                "stop the other one or name another path",
            ) from None
        store_id = _take(path)
        os.pwrite(lock_fd, b"%-20d\n" % os.getpid(), 0)
    except OSError as error:
        os.close(lock_fd)
        raise _unwritable(path, error) from None
    except BaseException:
        os.close(lock_fd)
        raise
    return CacheDirectory(path, store_id, lock_fd)


def _owner(lock_fd: int) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f" (pid {int(os.pread(lock_fd, 32, 0))})"
    return ""


def _fate_of(path: Path) -> tuple[Fate, Layout | None]:
    """What is to become of the directory, and its layout; ``CacheRefused`` where it is not ours to use.

    Changes nothing.
    """
    _refuse_foreign(path, foreign_beside_no_layout(os.listdir(path)))
    layout_path = path / LAYOUT_NAME
    stored = None
    with contextlib.suppress(FileNotFoundError):
        stored = layout_path.read_bytes()
    layout = None if stored is None else decode_layout(stored)
    version = None if layout is None else layout.version
    fate = fate_of(is_there=stored is not None, layout=version, own_layout=LAYOUT_VERSION)
    match fate:
        case Fate.MADE:
            pass
        case Fate.USED | Fate.EMPTIED:
            _refuse_foreign(path, _foreign_name(path))
        case Fate.REFUSED_NEWER:
            raise CacheRefused(
                PATH_KEY,
                f"{str(path)!r} has layout {version}, of a newer seekfs; this one knows layout "
                f"{LAYOUT_VERSION}: run the newer one, name another path, or empty the directory",
            )
        case Fate.REFUSED_UNKNOWN:
            raise CacheRefused(
                PATH_KEY,
                f"{str(layout_path)!r} is not a layout file that seekfs wrote; if nothing in {str(path)!r} "
                "is needed any more, empty the directory, else name another path",
            )
        case _:
            assert_never(fate)
    return fate, layout


def _take(path: Path) -> bytes:
    """The identity of the directory, which is whole, of this layout and ours when this returns."""
    fate, layout = _fate_of(path)
    if fate is Fate.USED:
        assert layout is not None
        assert layout.store_id is not None
        _make_inner(path)
        return layout.store_id
    if fate is Fate.EMPTIED:
        assert layout is not None
        log.warning("cache directory %s has layout %d; starting empty", path, layout.version)
        _empty(path)
    return _make(path)


def _make(path: Path) -> bytes:
    # The layout first: what is found beside one is ours, even after a kill in between.
    store_id = os.urandom(STORE_ID_LENGTH)
    write_file(path / LAYOUT_NAME, encode_layout(store_id))
    _make_inner(path)
    return store_id


def _make_inner(path: Path) -> None:
    for name in (SEGMENTS_NAME, SHELF_NAME):
        (path / name).mkdir(mode=0o700, exist_ok=True)


def _empty(path: Path) -> None:
    """Remove what seekfs wrote, except for the layout file: a kill in between repeats this."""
    for name in CONTENT_NAMES:
        inner = path / name
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner)
        else:
            inner.unlink(missing_ok=True)


def _foreign_name(path: Path) -> str | None:
    """What ``foreign_name`` says of a directory with a layout file."""
    inner: dict[str, list[str]] = {}
    for directory in INNER:
        with contextlib.suppress(FileNotFoundError):
            inner[directory] = os.listdir(path / directory)
    return foreign_name(os.listdir(path), inner)


def _refuse_foreign(path: Path, name: str | None) -> None:
    if name is not None:
        raise CacheRefused(
            PATH_KEY,
            f"{str(path)!r} holds {name!r}, which is not seekfs's: name an empty or new directory, or move "
            "that away",
        )


def _unwritable(path: Path, error: OSError) -> CacheRefused:
    in_the_way = [each for each in (path, *path.parents) if os.path.lexists(each) and not os.path.isdir(each)]
    if in_the_way:
        way_out = f"if nothing needs {str(in_the_way[0])!r}, which is no directory, move that away"
    else:
        quoted = shlex.quote(str(path))
        way_out = f'create it for this user with: sudo install -d -m 700 -o "$(id -un)" {quoted}'
    return CacheRefused(
        PATH_KEY,
        f"the directory {str(path)!r} cannot be used ({error.strerror or error}): name another path, or "
        f"{way_out}",
    )


def segment_path(directory: CacheDirectory, number: int) -> Path:
    """Where a segment's file is."""
    return directory.segments_path / segment_file(number)


def write_file(path: Path, stored: bytes) -> None:
    """Replace a small file as a whole: a reader, or a kill, sees the old bytes or the new ones."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(stored)
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.close(fd)
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    os.close(fd)
    os.replace(temporary, path)
