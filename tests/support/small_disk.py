"""A file system of its own, small enough to be filled, so that it is the kernel that says what is full."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

FILLER = "something-else"
"""A file of somebody else's, that takes the room."""


class SmallDisk:
    """A tmpfs that is mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    def fill(self) -> None:
        """Leave no block of it free."""
        fd = os.open(self.path / FILLER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while free := self.free_bytes:
                with contextlib.suppress(OSError):  # Somebody else was faster.
                    os.write(fd, bytes(min(free, 1 << 20)))
        finally:
            os.close(fd)

    def grow(self, nbytes: int) -> None:
        """Give the file system that many bytes in all."""
        subprocess.run(
            ["mount", "-o", f"remount,size={nbytes}", self.path], check=True, capture_output=True, timeout=60
        )

    def drain(self) -> None:
        """Give the room of ``fill`` back."""
        (self.path / FILLER).unlink()


@contextlib.contextmanager
def small_disk(path: Path, nbytes: int) -> Iterator[SmallDisk]:
    """``PermissionError`` where this process may mount nothing."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={nbytes},mode=700", "seekfs-test", path],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        raise PermissionError(f"no file system may be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)
