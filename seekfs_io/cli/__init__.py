"""The command line: ``seekfs``.

``boundary`` turns whatever happens into an exit status and a sentence, ``options`` and ``output`` say how
every command takes and gives, and the commands themselves are grouped by what they work on: ``data`` (a
bucket), ``daemon`` (a running daemon, or starting one), ``traces`` (what one recorded) and ``setup`` (this
machine); ``commands`` has them all. ``stores`` opens what they work on, ``progress`` shows long work.

Modules that are slow to load (the signer, the HTTP client) are imported inside the commands that
need them: ``seekfs --help`` and a wrong flag should answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """What the console script calls. Never returns."""
    try:
        # Here, because an impatient Ctrl-C may come while modules are still being loaded.
        from seekfs_io.cli.boundary import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    if status == 130:
        # Threads whose request was given up would be waited for otherwise, by an interpreter that answers
        # the next Ctrl-C with a traceback. All that is to be undone or said has been.
        os._exit(status)
    sys.exit(status)
