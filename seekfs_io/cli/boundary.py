"""Where every command ends: one exit status, and at most one sentence about why.

====  ============================================================================================
0     it did what was asked
1     it failed: the store, the daemon, a file, a conflict; a sentence on stderr says what and where
2     it was called wrongly: an unknown flag, a missing argument, a name that cannot be one, a
      configuration that cannot be used
130   it was interrupted (SIGINT, SIGTERM, SIGHUP): uploads aborted, nothing half-published
====  ============================================================================================

A signal is raised as ``KeyboardInterrupt``, so that whatever a command has begun is undone in one way; what
those after the first do, ``seekfs_core.closing`` says.

A reader that closes our stdout (``seekfs cat ... | head``) wants no more and no message: status 1, in
silence. Anything that arrives here and is not known is a bug, and the one thing that gets a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import click
from click.shell_completion import shell_complete

from seekfs_core.closing import Interrupted, Interruption, interruption
from seekfs_core.errors import SeekfsError
from seekfs_io.cli.output import explain, flush, warnings_explained
from seekfs_io.config import ConfigError
from seekfs_io.objects.base import StoreError

COMPLETION_VARIABLE = "_SEEKFS_COMPLETE"
"""How a shell asks for the words that may follow, as click has it."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_CALLED_WRONGLY = 2
EXIT_INTERRUPTED = 130


class Failed(Exception):
    """A command ran to its end and has already said what is wrong. ``status`` is its exit status."""

    def __init__(self, status: int = EXIT_FAILED) -> None:
        super().__init__(status)
        self.status = status


def run(arguments: Sequence[str]) -> int:
    """Run ``seekfs`` with these arguments; its exit status. Never raises for what a user can cause."""
    from seekfs_io.cli.commands import seekfs

    with _interruptible(), warnings_explained():
        try:
            status = _invoke(seekfs, arguments)
            # Here, and not at the interpreter's end, where a full disk or a closed pipe is a traceback.
            flush()
            return status
        except BrokenPipeError:
            _drop_stdout()
            return EXIT_FAILED
        except KeyboardInterrupt:
            _drop_stdout()
            explain("interrupted")
            return EXIT_INTERRUPTED
        except OSError as error:
            _drop_stdout()
            explain(_sentence(error))
            return EXIT_FAILED


def _invoke(command: click.Command, arguments: Sequence[str]) -> int:
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        return shell_complete(command, {}, "seekfs", COMPLETION_VARIABLE, instruction)
    try:
        # Not click's own `main`, which says more about interrupts and closed pipes than belongs here.
        with command.make_context("seekfs", list(arguments)) as context:
            command.invoke(context)
        return EXIT_DONE
    except click.exceptions.Exit as end:
        return end.exit_code
    except Failed as failed:
        return failed.status
    except click.exceptions.Abort as abort:
        raise KeyboardInterrupt from abort
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        return error.exit_code
    except ConfigError as error:
        for problem in error.problems:
            explain(str(problem))
        return EXIT_CALLED_WRONGLY
    except (SeekfsError, StoreError) as error:
        explain("\n".join([str(error), *getattr(error, "__notes__", ())]))
        return EXIT_FAILED
    except MemoryError:
        explain("out of memory")
        return EXIT_FAILED


@contextmanager
def _interruptible() -> Iterator[None]:
    """See the module's text. Signals that the parent had ignored (``nohup``) stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        match interruption(Interrupted.COMMAND, heard):
            case Interruption.END_IN_ORDER | Interruption.GIVE_UP:
                raise KeyboardInterrupt
            case Interruption.WARN:
                with suppress(OSError):
                    os.write(2, b"seekfs: undoing what was begun; once more gives that up\n")
            case Interruption.IGNORE:
                pass
            case Interruption.END:
                os._exit(EXIT_INTERRUPTED)

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sentence(error: OSError) -> str:
    names = [
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))
    ]
    what = error.strerror or str(error) or type(error).__name__
    return f"{' -> '.join(names)}: {what}" if names else what


def _drop_stdout() -> None:
    """Throw away what could not be written, so that the interpreter does not try once more at its end."""
    try:
        flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
