"""``python -m seekfs_wsgi.serve``: the daemon, under gunicorn. ``seekfs serve`` executes this."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from seekfs_io.config import ConfigError, load_config
from seekfs_wsgi.daemon import (
    EXIT_CALLED_WRONGLY,
    EXIT_FAILED,
    EXIT_WORKER_BOOT,
    THREADS_DEFAULT,
    CannotStart,
    check_workers,
    complain,
    create_application,
    gunicorn_settings,
)

THREADS_MAX = 512


class Daemon(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn with settings that are handed in, and neither files nor arguments of its own."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return create_application()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until stopped. Leaves by ``SystemExit``: 0 stopped, 1 failed, 2 called wrongly."""
    options = _parser().parse_args(arguments)
    try:
        check_workers(options.workers)
        config = load_config(options.config, {"api.listen": options.listen})
    except CannotStart as error:
        complain(str(error))
        raise SystemExit(error.status) from None
    except ConfigError as error:
        complain(error)
        raise SystemExit(EXIT_CALLED_WRONGLY) from None
    master = os.getpid()
    try:
        Daemon(gunicorn_settings(config, threads=options.threads)).run()
    except SystemExit as end:
        # The worker leaves through here too, and its status is a message to the master.
        if end.code == EXIT_WORKER_BOOT and os.getpid() == master:
            raise SystemExit(EXIT_FAILED) from None
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seekfs serve",
        description="Run the daemon, under gunicorn, until it is told to stop.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="F", help="configuration file (default: SEEKFS_CONFIG, ./seekfs.toml)"
    )
    parser.add_argument("--listen", metavar="H:P", help="host:port, [ipv6]:port or unix:/path")
    parser.add_argument("--workers", metavar="N", type=_count(2**31), default=1, help="processes: 1")
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_count(THREADS_MAX),
        default=THREADS_DEFAULT,
        help=f"threads, each answering one request (default: {THREADS_DEFAULT})",
    )
    return parser


def _count(most: int) -> Any:
    def count(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 12 and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
        return int(text)

    return count


if __name__ == "__main__":
    main(sys.argv[1:])
