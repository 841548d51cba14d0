"""How much memory there is: what the machine has, or less where a control group says so."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from seekfs_io.memory_limits import memory_bytes_available

GIB = 1 << 30
MIB = 1 << 20


def memory(files: Mapping[str, str]) -> int | None:
    return memory_bytes_available(files.get)


MEMINFO = {"/proc/meminfo": "MemTotal:       16777216 kB\nMemFree: 1 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({}, 16 * GIB),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "1073741824\n"}, GIB),
        ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/memory.max": "1073741824\n"}, GIB),
        ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.max": "max\n"}, 16 * GIB),
        ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/memory.max": "99999999999999\n"}, 16 * GIB),
        (
            {
                "/proc/self/cgroup": "4:cpu,memory:/x/y\n1:name=systemd:/\n",
                "/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes": "2147483648\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            2 * GIB,
        ),
    ],
)
def test_memory_is_the_smallest_limit(files: dict[str, str], expected: int | None) -> None:
    assert memory(files if expected is None else MEMINFO | files) == expected


def test_the_memory_of_this_machine_can_be_told() -> None:
    total = memory_bytes_available()
    assert total is not None
    assert total > 64 * MIB
