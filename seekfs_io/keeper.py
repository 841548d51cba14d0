"""Runs one command and sees to it that nothing of it outlives its owner.

    python keeper.py [--owner PID] [--grace SECONDS] [--unlink FILE]... [--orphan DIR] -- COMMAND...

The command ends when the owner does, however that ends (``pidfd_open``), or when the keeper is
sent SIGTERM or SIGINT: SIGTERM first, SIGKILL after the grace. Then the files are unlinked that
the command leaves behind, and where the owner has ended before its time, its temporary directory is
removed, which nobody else knows of now. The command itself asks the kernel to be killed with the keeper, so
that even ``kill -9`` of the keeper leaves no process. Without an owner it runs detached. The exit
status is the command's.

Only the standard library is imported, so that it starts in a blink and under ``python -I -S``.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="keeper")
    parser.add_argument("--owner", type=int)
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--unlink", action="append", default=[])
    parser.add_argument("--orphan")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    try:
        return _keep(options.command, options.owner, options.grace)
    finally:
        for path in options.unlink:
            with contextlib.suppress(OSError):
                os.unlink(path)
        if options.orphan is not None and os.getppid() != options.owner:
            # Of several keepers of one directory, the one whose command ends last removes what is left.
            shutil.rmtree(options.orphan, ignore_errors=True)


def _keep(command: list[str], owner: int | None, grace_seconds: float) -> int:
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    watched = [wake_read]
    if owner is not None:
        try:
            watched.append(os.pidfd_open(owner))
        except ProcessLookupError:
            return 1
        if os.getppid() != owner:
            # It ended before the descriptor was open; that descriptor is then another process's.
            return 1
    keeper = os.getpid()
    child = subprocess.Popen(command, preexec_fn=lambda: die_with(keeper))  # noqa: PLW1509  # there is one thread
    child_end = os.pidfd_open(child.pid)
    ready, _, _ = select.select([*watched, child_end], [], [])
    if child_end not in ready:
        child.terminate()
        if not select.select([child_end], [], [], grace_seconds)[0]:
            child.kill()
    status = child.wait()
    return status if status >= 0 else 128 - status


def die_with(parent: int) -> None:
    """Be killed when the process ``parent`` ends, this one's parent, or at once if it has ended by now."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
