"""How much disk a directory takes, with what its users have unlinked and still hold open or mapped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.support.processes import tree
from tests.support.sampling import Sampler

BLOCK_BYTES = 512
"""The unit of ``st_blocks``, whatever the file system's own is."""


def used_bytes(directory: Path, pids: list[int]) -> int:
    """Allocated bytes of everything under ``directory``, itself included, and of every unlinked file
    of it that one of ``pids`` holds open or mapped. Each file counts once."""
    blocks: dict[tuple[int, int], int] = {}
    for stat in (*_listed(directory), *_unlinked(directory, pids)):
        blocks[stat.st_dev, stat.st_ino] = stat.st_blocks
    return sum(blocks.values()) * BLOCK_BYTES


def _listed(directory: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(directory):
        for path in (parent, *(os.path.join(parent, name) for name in names)):
            try:
                yield os.stat(path, follow_symlinks=False)
            except FileNotFoundError:
                # Removed since it was listed.
                continue


def _unlinked(directory: Path, pids: list[int]) -> Iterator[os.stat_result]:
    inside = f"{directory.resolve()}/"
    for pid in pids:
        for kind in ("fd", "map_files"):
            try:
                links = os.listdir(f"/proc/{pid}/{kind}")
            except OSError:
                # The process has ended.
                continue
            for link in links:
                path = f"/proc/{pid}/{kind}/{link}"
                try:
                    target = os.readlink(path)
                    if target.startswith(inside) and target.endswith(" (deleted)"):
                        yield os.stat(path)
                except OSError:
                    continue


def disk_sampler(directory: Path, pid: int) -> Sampler:
    """Samples ``directory`` and what the tree under ``pid`` holds of it."""
    return Sampler(lambda: used_bytes(directory, tree(pid)))
