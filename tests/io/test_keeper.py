"""What a keeper starts ends with it. That it sees to its command and its files is tested with the server
that it keeps (``test_devserver``)."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from seekfs_io import keeper

ASK = f"""
import runpy, os
die_with = runpy.run_path({keeper.__file__!r})["die_with"]
die_with(os.getppid() + {{}})
print("lives")
"""


@pytest.mark.parametrize(("another", "status", "told"), [(0, 0, b"lives\n"), (1, -signal.SIGKILL, b"")])
def test_a_parent_that_ended_before_it_was_asked_for_takes_its_child_along(
    another: int, status: int, told: bytes
) -> None:
    ran = subprocess.run([sys.executable, "-c", ASK.format(another)], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (status, told)
