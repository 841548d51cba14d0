"""What FILE and DIR arguments name, with everything that is wrong with them said before anything
is uploaded.

A FILE becomes a path of its own name; the files of a DIR, at any depth, paths relative to it.
``--as`` replaces the name of a FILE, and is put before the paths of a DIR. Symbolic links are followed,
wherever they lead: caches of datasets are made of them. What several of them lead to is several files of
one content. One that leads nowhere, or back to a directory that it lies in, is an error.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from attrs import frozen

from seekfs_core.errors import BadRequest, Problem
from seekfs_core.names import path_fault

PROBLEMS_SHOWN_MAX = 20

Input: TypeAlias = "str | os.PathLike[str]"
"""A FILE or DIR argument."""

_Identity: TypeAlias = "tuple[int, int]"
"""Device and inode: what tells a directory, by whatever name it was reached."""


class InputError(BadRequest):
    """Files that cannot be published as they are. ``context["problems"]`` has all of them."""

    slug, title = "input-unusable", "A file that cannot be published"

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> InputError:
        shown = [str(problem) for problem in problems[:PROBLEMS_SHOWN_MAX]]
        if len(problems) > PROBLEMS_SHOWN_MAX:
            shown.append(f"and {len(problems) - PROBLEMS_SHOWN_MAX} more")
        return cls("\n".join(shown), problems=[str(problem) for problem in problems])


@frozen
class LocalFile:
    """A file of this machine, the path that it gets, and its size in bytes when it was looked at."""

    source: str
    path: str
    size: int


def check_one_path(count: int, as_path: str | None) -> None:
    """``--as`` names one thing. Raises ``InputError``."""
    if as_path is not None and count > 1:
        raise InputError(f"--as gives one FILE or DIR its path; here are {count}")


def collect_inputs(inputs: Iterable[Input], as_path: str | None = None) -> list[LocalFile]:
    """The files that the arguments name, sorted by path. Raises ``InputError``."""
    sources = [os.fspath(each) for each in inputs]
    check_one_path(len(sources), as_path)
    if not sources:
        raise InputError("no FILE or DIR is given")
    problems: list[Problem] = []
    found: dict[str, LocalFile] = {}
    for source in sources:
        for file in _files_of(source, as_path, problems):
            fault = path_fault(file.path)
            if fault is not None:
                problems.append(Problem(_shown(file.source), f"its path {file.path!r} {fault}"))
                continue
            other = found.setdefault(file.path, file)
            if other is not file:
                what = f"would get the same path as {_shown(other.source)}: {file.path!r}"
                problems.append(Problem(_shown(file.source), what))
    if problems:
        raise InputError.of(problems)
    return [found[path] for path in sorted(found)]


def _files_of(source: str, as_path: str | None, problems: list[Problem]) -> Iterator[LocalFile]:
    try:
        seen = os.stat(source)
        if not stat.S_ISDIR(seen.st_mode):
            path = os.path.basename(source) if as_path is None else as_path
            yield from _file(source, path, seen, problems)
            return
        prefix = "" if as_path is None else as_path.rstrip("/") + "/"
        count, problems_before = 0, len(problems)
        for file, path, there in _walk(source, seen, problems):
            count += 1
            yield from _file(file, prefix + path, there, problems)
        if not count and len(problems) == problems_before:
            problems.append(Problem(_shown(source), "there is no file in this directory"))
    except OSError as error:
        problems.append(_problem_of(source, error))


def _walk(
    directory: str, seen: os.stat_result, problems: list[Problem]
) -> Iterator[tuple[str, str, os.stat_result]]:
    """Everything below a directory that is no directory: where it is, relative to it, and what it is."""
    below: list[tuple[str, str, tuple[_Identity, ...]]] = [(directory, "", (_identity(seen),))]
    while below:
        current, prefix, above = below.pop()
        try:
            with os.scandir(current) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            problems.append(_problem_of(current, error))
            continue
        for name in names:
            source = os.path.join(current, name)
            try:
                there = os.stat(source)
            except OSError as error:
                problems.append(_problem_of(source, error))
                continue
            if not stat.S_ISDIR(there.st_mode):
                yield source, prefix + name, there
            elif _identity(there) in above:
                problems.append(Problem(_shown(source), "leads back to a directory that it lies in"))
            else:
                below.append((source, f"{prefix}{name}/", (*above, _identity(there))))


def _identity(seen: os.stat_result) -> _Identity:
    return seen.st_dev, seen.st_ino


def _file(source: str, path: str, seen: os.stat_result, problems: list[Problem]) -> Iterator[LocalFile]:
    if not stat.S_ISREG(seen.st_mode):
        problems.append(Problem(_shown(source), "is neither a file nor a directory"))
    else:
        try:
            os.close(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            problems.append(_problem_of(source, error))
        else:
            yield LocalFile(source, path, seen.st_size)


def _problem_of(source: str, error: OSError) -> Problem:
    if isinstance(error, FileNotFoundError) and os.path.islink(source):
        return Problem(_shown(source), f"is a symbolic link to {_target(source)}, which is not there")
    return Problem(_shown(source), f"cannot be read: {error.strerror or type(error).__name__}")


def _target(link: str) -> str:
    try:
        return _shown(os.readlink(link))
    except OSError:
        return "something"  # It has been removed just now.


def _shown(source: str) -> str:
    """A file's name as it can be printed, on one line: escapes for what is no UTF-8 or not for the eye."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in source)


class FileChanged(InputError):
    """A file that changed while it was being published."""

    slug, title = "file-changed", "A file changed while it was being published"

    @classmethod
    def while_read(cls, file: LocalFile) -> FileChanged:
        return cls(
            f"{_shown(file.source)} changed while it was being read; nothing was published",
            source=_shown(file.source),
            path=file.path,
        )


class Opened:
    """A file open for reading, and whether it is still as it was when it was opened."""

    def __init__(self, file: LocalFile) -> None:
        self.file = file
        try:
            self._opened = open(file.source, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
            self._first = self._look()
        except OSError as error:
            raise InputError.of([_problem_of(file.source, error)]) from None
        self.size = self._first[0]
        if self.size != file.size:
            self._opened.close()
            raise FileChanged.while_read(file)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _look(self) -> tuple[int, int, int, int]:
        seen = os.fstat(self._opened.fileno())
        return seen.st_size, seen.st_mtime_ns, seen.st_ino, seen.st_dev

    def check(self) -> None:
        """Raises ``FileChanged`` unless size and time are as they were."""
        if self._look() != self._first:
            raise FileChanged.while_read(self.file)

    def read_into(self, view: memoryview) -> None:
        """Fill ``view`` with the next bytes; the file has as many, or it has changed."""
        at = 0
        while at < len(view):
            try:
                count = self._opened.readinto(view[at:])
            except OSError as error:
                raise InputError.of([_problem_of(self.file.source, error)]) from None
            if not count:
                raise FileChanged.while_read(self.file)
            at += count
