"""How much memory this process may use at most: the machine's, or its control group's if smaller."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

ReadText = Callable[[str], str | None]
"""The text of a file, or None where it is not there or cannot be read."""

_CGROUP_ROOT = "/sys/fs/cgroup"


def read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def memory_bytes_available(read: ReadText = read_text) -> int | None:
    """The smallest of the machine's RAM and every limit of the control groups around this
    process, version 2 and 1; None where neither can be told."""
    limits = [*_machine(read), *_cgroups(read)]
    return min(limits, default=None)


def _machine(read: ReadText) -> Iterator[int]:
    found = re.search(r"^MemTotal:\s+([0-9]+) kB$", read("/proc/meminfo") or "", re.MULTILINE)
    if found:
        yield int(found[1]) * 1024


def _cgroups(read: ReadText) -> Iterator[int]:
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if controllers == "":
            mount, name = _CGROUP_ROOT, "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = f"{_CGROUP_ROOT}/memory", "memory.limit_in_bytes"
        else:
            continue
        # A limit of any ancestor binds too. Inside a container the path may be the host's, which
        # is not there; the mount's own root is then the container's group, and is always read.
        names = [part for part in path.split("/") if part]
        for depth in range(len(names), -1, -1):
            value = (read("/".join([mount, *names[:depth], name])) or "").strip()
            # "max" means no limit; so does version 1's number just below 2^63.
            if value.isascii() and value.isdigit() and 0 < int(value) < 1 << 62:
                yield int(value)
