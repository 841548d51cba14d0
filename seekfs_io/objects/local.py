"""The ``file`` engine: a directory as a bucket, with the semantics of the others.

::

    <root>/<bucket>/<key>              one file an object
    <root>/.seekfs/lock                held while an object is put into its place
    <root>/.seekfs/incoming/           what is being written, and uploads not yet completed; what a
                                       killed writer left there is nobody's and may be deleted

An object appears whole or not at all, and conditional writes have one winner, across processes
too: bytes are written and synced beside the bucket, then linked or renamed into it under a lock.
Only regular files are objects. Symbolic links are neither listed nor opened, so that no key leads
out of the bucket.

A file system holds fewer keys than S3: no empty, ``.`` or ``..`` segments, none over 255 bytes,
no key that is also the beginning of another one's path. Such keys are ``MISSING`` to readers, and
writing one fails with a sentence.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import crc32c
from attrs import define, evolve

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_io.objects.base import ListPage, ObjectStat, StoreError

_log = logging.getLogger("seekfs.store")

SEGMENT_BYTES_MAX = 255
"""NAME_MAX of every Linux file system worth the name."""

HASHED_BYTES_MAX = 64 << 10
"""Objects up to here have the hash of their content for an ETag. Inode, size and time can repeat
when a small object is replaced twice within a tick of the file system's clock, and HEAD of a
namespace, which is compared and swapped, is such an object."""

_UPLOAD = re.compile(r"[0-9a-f]{32}")
_COPY_BYTES = 1 << 20


class LocalReader:
    """The open body of one read; see ``ObjectReader``. Belongs to one thread."""

    __slots__ = ("_descriptor", "_position", "etag", "key", "size", "start", "stop")

    def __init__(self, descriptor: int, *, key: str, etag: str, size: int, start: int, stop: int) -> None:
        self.key, self.size, self.start, self.stop = key, size, start, stop
        self.etag: str | None = etag
        self._descriptor: int | None = descriptor
        self._position = start

    def readinto(self, view: memoryview) -> int:
        want = min(len(view), self.stop - self._position)
        if want == 0:
            return 0
        if self._descriptor is None:
            raise ValueError("read of a closed reader")
        try:
            count = os.preadv(self._descriptor, [view[:want]], self._position)
        except OSError as error:
            raise _disk_failure("read", error) from None
        if count == 0:
            where = f"{self._position - self.start} of {self.stop - self.start} bytes had been read"
            raise _failed(FailureKind.CUT_SHORT, f"read broke off when {where}: the file was cut")
        self._position += count
        return count

    def abort(self) -> None:
        """A read of a disk cannot be broken off; it ends by itself."""

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


@define
class LocalStore:
    """A bucket under the directory ``root``; see ``ObjectStore``. It is made when first written to."""

    root: str
    bucket: str
    name = "file"

    def __attrs_post_init__(self) -> None:
        # Links above the bucket are the user's own affair; below it there are none.
        self.root = os.path.realpath(self.root)

    @property
    def _bucket_path(self) -> str:
        return os.path.join(self.root, self.bucket)

    @property
    def _incoming(self) -> str:
        return os.path.join(self.root, ".seekfs", "incoming")

    def head(self, key: str) -> ObjectStat:
        descriptor, status = self._open(key)
        try:
            return _stat(key, status, _etag(descriptor, status))
        finally:
            os.close(descriptor)

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str | None = None,
    ) -> LocalReader:
        if start < 0 or (stop is None and start) or (stop is not None and stop <= start):
            raise ValueError(f"no bytes lie in [{start}, {stop})")
        descriptor, status = self._open(key)
        try:
            etag, size = _etag(descriptor, status), status.st_size
            if if_match is not None and if_match != etag:
                raise _failed(
                    FailureKind.PRECONDITION,
                    f"the object is {etag}, not {if_match}",
                    412,
                    "PreconditionFailed",
                )
            if stop is not None and stop > size:
                detail = f"bytes {start}-{stop - 1} do not lie in an object of {size} bytes"
                short = _failed(FailureKind.BAD_ANSWER, detail, 416, "InvalidRange")
                raise StoreError(evolve(short.failure, facts={"object_size": size}))
            end = size if stop is None else stop
            return LocalReader(descriptor, key=key, etag=etag, size=size, start=start, stop=end)
        except BaseException:
            os.close(descriptor)
            raise

    def put(
        self,
        key: str,
        body: bytes | memoryview,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> str | None:
        path = self._writable_path(key)
        with _disk("write"), self._new_file() as (descriptor, temporary):
            _write_all(descriptor, body)
            os.fsync(descriptor)
            etag = _etag(descriptor, os.fstat(descriptor))
            self._commit(temporary, path, key, if_none_match=if_none_match, if_match=if_match)
        return etag

    def list_page(self, prefix: str, token: str | None = None) -> ListPage:
        """Everything, on one page: a second one would walk through the directories again."""
        if token is not None:
            raise ValueError(f"no page is at {token!r}: there is one")
        return ListPage(objects=tuple(self._matching(prefix)), next_token=None)

    def _matching(self, prefix: str) -> Iterator[ObjectStat]:
        # Only the deepest directory that the prefix names as a whole can hold matches.
        folder, _, _ = prefix.rpartition("/")
        if folder and _key_fault(folder) is not None:
            return
        base = f"{folder}/" if folder else ""
        top = os.path.join(self._bucket_path, base)
        if os.path.realpath(top) != os.path.normpath(top):
            return
        yield from _listed(top, base, prefix)

    def create_upload(self, key: str) -> str:
        self._writable_path(key)
        upload = secrets.token_hex(16)
        with _disk("write"):
            os.makedirs(os.path.join(self._incoming, upload))
        return upload

    def upload_part(self, key: str, upload: str, number: int, body: bytes | memoryview) -> str:
        directory = self._upload_directory(upload)
        etag = f"{crc32c.crc32c(body):08x}-{len(body):x}"
        with _disk("write"), self._new_file() as (descriptor, temporary):
            _write_all(descriptor, body)
            os.replace(temporary, os.path.join(directory, f"{number}-{etag}"))
        return f'"{etag}"'

    def complete_upload(
        self, key: str, upload: str, etags: Sequence[str], *, if_none_match: bool = False
    ) -> str | None:
        path = self._writable_path(key)
        directory = self._upload_directory(upload)
        parts = [
            os.path.join(directory, f"{number}-{os.path.basename(etag.strip(chr(34)))}")
            for number, etag in enumerate(etags, 1)
        ]
        if not parts or not all(os.path.isfile(part) for part in parts):
            raise _failed(FailureKind.BAD_ANSWER, "a part was not uploaded", 400, "InvalidPart")
        with _disk("write"), self._new_file() as (descriptor, temporary):
            for part in parts:
                _append(descriptor, part)
            os.fsync(descriptor)
            etag = _etag(descriptor, os.fstat(descriptor))
            self._commit(temporary, path, key, if_none_match=if_none_match)
            shutil.rmtree(directory)
        return etag

    def abort_upload(self, key: str, upload: str) -> None:
        directory = os.path.join(self._incoming, upload)
        if _UPLOAD.fullmatch(upload) and os.path.isdir(directory):
            with _disk("remove"):
                shutil.rmtree(directory)

    def create_bucket(self) -> bool:
        with _disk("write"):
            os.makedirs(self.root, exist_ok=True)
            try:
                os.mkdir(self._bucket_path)
            except FileExistsError:
                return False
        return True

    def close(self) -> None:
        pass

    def _open(self, key: str) -> tuple[int, os.stat_result]:
        """The object's file, open for reading. Raises ``StoreError``."""
        path = os.path.join(self._bucket_path, key)
        if _key_fault(key) is not None or os.path.realpath(path) != path:
            raise _missing()
        try:
            # A pipe would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG):
                raise _missing() from None
            raise _disk_failure("open", error) from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise _missing()
        return descriptor, status

    def _writable_path(self, key: str) -> str:
        fault = _key_fault(key)
        if fault is not None:
            detail = f"the file engine cannot hold this key: it {fault}"
            raise _failed(FailureKind.BAD_ANSWER, detail, 400, "InvalidObjectName")
        return os.path.join(self._bucket_path, key)

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[tuple[int, str]]:
        """A file outside of the bucket, open for reading and writing; gone at the end unless moved."""
        os.makedirs(self._incoming, exist_ok=True)
        path = os.path.join(self._incoming, f"{os.getpid()}-{secrets.token_hex(8)}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor, path
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _commit(
        self,
        temporary: str,
        path: str,
        key: str,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> None:
        """Put a written file into its place, if the object there is the one expected."""
        folder = os.path.dirname(path)
        with self._locked():
            if os.path.realpath(folder) != folder:
                raise _unholdable("a part of its path is a symbolic link")
            try:
                os.makedirs(folder, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise _unholdable("a part of its path is another object") from None
            if os.path.isdir(path):
                raise _unholdable("it is a part of other objects' paths")
            if if_none_match and os.path.lexists(path):
                raise _failed(FailureKind.PRECONDITION, "the object exists", 412, "PreconditionFailed")
            if if_match is not None:
                found = self.head(key).etag
                if found != if_match:
                    detail = f"the object is {found}, not {if_match}"
                    raise _failed(FailureKind.PRECONDITION, detail, 412, "PreconditionFailed")
            os.replace(temporary, path)
            _sync_directory(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One commit at a time, in this process and others; the kernel frees it when a holder dies."""
        path = os.path.join(self.root, ".seekfs", "lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _upload_directory(self, upload: str) -> str:
        directory = os.path.join(self._incoming, upload)
        if not _UPLOAD.fullmatch(upload) or not os.path.isdir(directory):
            raise _failed(FailureKind.MISSING, "there is no such upload", 404, "NoSuchUpload")
        return directory


def _key_fault(key: str) -> str | None:
    """Why no file can have this name, as the rest of a sentence, or None."""
    try:
        encoded = key.encode("utf-8")
    except UnicodeEncodeError:
        return "is not Unicode text"
    if b"\0" in encoded:
        return "has a NUL"
    for segment in encoded.split(b"/"):
        if segment == b"":
            return "has an empty segment (a '/' at an end, or two together)"
        if segment in (b".", b".."):
            return "has a segment '.' or '..'"
        if len(segment) > SEGMENT_BYTES_MAX:
            return f"has a segment of more than {SEGMENT_BYTES_MAX} bytes"
    return None


def _listed(directory: str, base: str, prefix: str) -> Iterator[ObjectStat]:
    """The objects under ``directory``, whose keys begin with ``base``, in the byte order of keys.

    A directory sorts as its name with a slash: everything in it begins with that.
    """
    names: list[tuple[bytes, str, bool]] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                if not is_directory and not entry.is_file(follow_symlinks=False):
                    continue
                try:
                    encoded = entry.name.encode("utf-8")
                except UnicodeEncodeError:
                    _log.warning("a file that is no object, as its name is not UTF-8: %r", entry.path)
                    continue
                names.append((encoded + b"/" if is_directory else encoded, entry.name, is_directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _disk_failure("list", error) from None
    for _, name, is_directory in sorted(names):
        key = base + name
        if is_directory:
            inner = f"{key}/"
            if inner.startswith(prefix) or prefix.startswith(inner):
                yield from _listed(os.path.join(directory, name), inner, prefix)
        elif key.startswith(prefix):
            try:
                descriptor = os.open(
                    os.path.join(directory, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                )
            except FileNotFoundError:
                # Removed since it was listed.
                continue
            except OSError as error:
                raise _disk_failure("list", error) from None
            try:
                status = os.fstat(descriptor)
                found = _stat(key, status, _etag(descriptor, status))
            finally:
                os.close(descriptor)
            yield found


def _stat(key: str, status: os.stat_result, etag: str) -> ObjectStat:
    modified = datetime.fromtimestamp(status.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ObjectStat(key=key, size=status.st_size, etag=etag, last_modified=modified)


def _etag(descriptor: int, status: os.stat_result) -> str:
    if status.st_size > HASHED_BYTES_MAX:
        return f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'
    content = os.pread(descriptor, HASHED_BYTES_MAX, 0)
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _write_all(descriptor: int, body: bytes | memoryview) -> None:
    left = memoryview(body).cast("B")
    while left:
        left = left[os.write(descriptor, left) :]


def _append(descriptor: int, path: str) -> None:
    with open(path, "rb", buffering=0) as part:
        while chunk := part.read(_COPY_BYTES):
            _write_all(descriptor, chunk)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _disk_failure(action, error) from None


def _disk_failure(action: str, error: OSError) -> StoreError:
    """An error of the disk: EACCES is a refusal, all others are a store that is not there."""
    denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    kind = FailureKind.DENIED if denied else FailureKind.UNREACHABLE
    if error.errno == errno.ENAMETOOLONG:
        return _unholdable("its path is too long")
    return _failed(kind, f"{action} failed: {error.strerror}")


def _unholdable(why: str) -> StoreError:
    return _failed(
        FailureKind.BAD_ANSWER, f"the file engine cannot hold this key: {why}", 400, "InvalidObjectName"
    )


def _missing() -> StoreError:
    return _failed(FailureKind.MISSING, "there is no such object", 404, "NoSuchKey")


def _failed(kind: FailureKind, detail: str, status: int | None = None, code: str | None = None) -> StoreError:
    return StoreError(StoreFailure(kind=kind, detail=detail, status=status, code=code))
