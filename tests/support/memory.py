"""How much memory a process and its descendants hold: RssAnon + RssShmem (proc(5)).

Pages of files in the page cache (RssFile) are the kernel's to take back and do not count.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.processes import tree
from tests.support.sampling import Sampler

_FIELD = re.compile(r"^Rss(?:Anon|Shmem):\s+([0-9]+) kB$", re.MULTILINE)


def resident_bytes(pid: int) -> int:
    """Of the whole tree under ``pid``. Shared memory counts once for each process that maps it."""
    total = 0
    for each in tree(pid):
        try:
            status = Path(f"/proc/{each}/status").read_text()
        except OSError:
            # It ended between the listing and the look.
            continue
        total += sum(int(kilobytes) * 1024 for kilobytes in _FIELD.findall(status))
    return total


def memory_sampler(pid: int) -> Sampler:
    return Sampler(lambda: resident_bytes(pid))
