"""The samplers measure what they say, over a tree of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disk import disk_sampler, used_bytes
from tests.support.memory import memory_sampler, resident_bytes
from tests.support.processes import is_alive, tree
from tests.support.sampling import Sampler

MIB = 1 << 20

# Starts a child; each of the two does what its lines of input say.
SHELL = """
import mmap, os, subprocess, sys
child = None
if len(sys.argv) == 1:
    command = [sys.executable, "-c", os.environ["SHELL_CODE"], "child"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
kept = []
def map_file(path):
    with open(path, "rb") as file:
        kept.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    kept[-1][:]
print("ready", flush=True)
for line in sys.stdin:
    if line.startswith("child "):
        print(line[6:], end="", file=child.stdin, flush=True)
    else:
        exec(line)
        print("done", flush=True)
"""


class Shell:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SHELL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SHELL_CODE": SHELL},
        )
        # Both say that they are ready, on the same pipe.
        self._expect("ready")
        self._expect("ready")

    def _expect(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        self._expect("done")


@pytest.fixture
def shell() -> Iterator[Shell]:
    started = Shell()
    pids = tree(started.process.pid)
    assert len(pids) == 2
    yield started
    assert started.process.stdin is not None
    assert started.process.stdout is not None
    started.process.stdin.close()
    # The parent's end of its child's input closes with the parent.
    started.process.wait()
    assert started.process.stdout.read() == ""
    started.process.stdout.close()
    assert not is_alive(pids[0])


def test_memory_of_the_whole_tree(shell: Shell, tmp_path: Path) -> None:
    pid = shell.process.pid
    before = resident_bytes(pid)
    with memory_sampler(pid) as sampler:
        shell.do(f"kept.append(b'x' * {32 * MIB})")
        shell.do(f"child kept.append(b'x' * {16 * MIB})")
        sampler.wait_for_next()
        shell.do("child kept.clear()")
    assert before + 48 * MIB <= sampler.peak < before + 60 * MIB
    assert resident_bytes(pid) < before + 40 * MIB
    # Pages of a file are not the process's own; those of shared memory are.
    path = tmp_path / "file"
    path.write_bytes(bytes(32 * MIB))
    level = resident_bytes(pid)
    shell.do(f"map_file({str(path)!r})")
    assert resident_bytes(pid) < level + 8 * MIB
    shell.do(f"kept.append(mmap.mmap(-1, {8 * MIB})); kept[-1].write(bytes({8 * MIB}))")
    assert resident_bytes(pid) >= level + 8 * MIB


def test_disk_with_unlinked_files(shell: Shell, tmp_path: Path) -> None:
    pids = tree(shell.process.pid)
    directory = tmp_path / "cache"
    (directory / "deeper").mkdir(parents=True)
    empty = used_bytes(directory, pids)
    (directory / "deeper" / "a").write_bytes(bytes(4 * MIB))
    os.link(directory / "deeper" / "a", directory / "again")
    (tmp_path / "outside").write_bytes(bytes(4 * MIB))
    assert used_bytes(directory, pids) == empty + 4 * MIB
    with disk_sampler(directory, shell.process.pid) as sampler:
        path = directory / "b"
        path.write_bytes(bytes(2 * MIB))
        shell.do(f"child kept.append(open({str(path)!r}, 'rb'))")
        path.unlink()
        assert used_bytes(directory, pids) == empty + 6 * MIB
        path.write_bytes(bytes(MIB))
        shell.do(f"map_file({str(path)!r})")
        path.unlink()
        assert used_bytes(directory, pids) == empty + 7 * MIB
        sampler.wait_for_next()
        shell.do("child kept.clear()")
        assert used_bytes(directory, pids) == empty + 5 * MIB
    assert sampler.peak >= empty + 7 * MIB
    assert used_bytes(directory, []) == empty + 4 * MIB


def test_a_sampler_that_fails_says_so() -> None:
    values = iter([1, 3])
    with pytest.raises(StopIteration):
        with Sampler(lambda: next(values)) as sampler:
            sampler._thread.join()
    assert sampler.peak == 3
