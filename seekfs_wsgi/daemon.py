"""The daemon under gunicorn: one set of settings, whether ``seekfs serve`` starts it or gunicorn by hand.

A master process listens, watches and holds nothing; one worker, forked from it, opens the data plane and
answers with threads. One, because the caches belong to a process. Nothing is opened before the fork that must
not be in two processes; what can be found wrong is found before it, and said in a sentence.

What a signal to the master does:

=======================  =====================================================================================
SIGTERM, SIGINT, SIGHUP  the port is closed, streams finish for ``api.drain_sec``, what waits to be written to
                         disk is written, exit status 0
the same once more       ends at once: the caches are made to stand that
SIGQUIT                  as SIGTERM, without waiting for streams
=======================  =====================================================================================

SIGHUP is no reload: a new configuration wants a new process, which whoever supervises this one starts.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from seekfs_core.closing import (
    FLUSH_SECONDS_MAX,
    Interrupted,
    Interruption,
    end_seconds,
    interruption,
)
from seekfs_core.errors import SeekfsError
from seekfs_io.config import Config, ConfigError, ListenAddress, load_config
from seekfs_io.objects import check_engine
from seekfs_io.pages.directory import CacheRefused, claim
from seekfs_io.tracing import check_path

if TYPE_CHECKING:
    from types import FrameType

    from seekfs_wsgi.app import Application

log = logging.getLogger("seekfs.daemon")

THREADS_DEFAULT = 16

EXIT_FAILED = 1
EXIT_CALLED_WRONGLY = 2
EXIT_WORKER_BOOT = 3
"""gunicorn's own: a worker that ends with it is not started again, and takes the master with it."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT)

KEEPALIVE_SECONDS = 75
"""Longer than clients' pools keep an idle connection: who closes first loses a request now and then."""

SILENCE_SECONDS_MAX = 300
"""A worker whose polling thread says nothing for so long is replaced. Streams do not hold that thread up."""

REQUEST_LINE_BYTES_MAX = 8190
"""gunicorn's largest: a path of 1024 bytes is 3072 when escaped."""

HELD_BYTES_MAX = 64 * 1024
"""Kept of a request until a thread takes it; so also the longest head. 256 MiB if every client fills it."""

RESERVE_THREADS = 4
"""For /healthz, /readyz and /metrics, beside those that serve reads."""

CONNECTIONS_MAX = 4096
"""Clients at once, most of them idle: every DataLoader worker of every job on a node keeps a connection."""

FILES_OF_OUR_OWN = 1024
"""Descriptors that are not clients': requests to the store, segment files, the index."""

ADDRESS_WAIT_SECONDS = 5.0
"""A daemon that was killed a moment ago may not have let go of its port."""

_ADDRESS_POLL_SECONDS = 0.1
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
}
_SHARED_MEMORY = "/dev/shm"


class CannotStart(Exception):
    """One sentence for whoever started the daemon. ``status`` is its exit status."""

    def __init__(self, sentence: str, status: int = EXIT_FAILED) -> None:
        super().__init__(sentence)
        self.status = status


def check_workers(count: int) -> None:
    """Raises ``CannotStart`` for any number of processes but one."""
    if count != 1:
        raise CannotStart(
            f"--workers {count}: one process holds the caches, and more than one is not possible yet; "
            "--threads is what grows",
            EXIT_CALLED_WRONGLY,
        )


# The configuration that this process was started with. The worker is forked, and inherits it.
_running: Config | None = None


def running_config() -> Config:
    """What ``gunicorn_settings`` was given; else what is found as the command line would find it."""
    global _running  # noqa: PLW0603 - a process is one daemon
    if _running is None:
        _running = load_config()
    return _running


def gunicorn_settings(config: Config, *, threads: int = THREADS_DEFAULT) -> dict[str, Any]:
    """Every setting of gunicorn that differs from its default, by name."""
    global _running  # noqa: PLW0603
    _running = config
    return {
        "bind": str(config.api.address),
        "wsgi_app": "seekfs_wsgi.daemon:create_application()",
        "worker_class": "seekfs_wsgi.worker.Worker",
        "logger_class": "seekfs_wsgi.worker.Logger",
        "workers": 1,
        "threads": threads,
        "preload_app": False,
        "keepalive": KEEPALIVE_SECONDS,
        "timeout": SILENCE_SECONDS_MAX,
        # How long the master waits for its worker.
        "graceful_timeout": end_seconds(config.api.drain_sec),
        "limit_request_line": REQUEST_LINE_BYTES_MAX,
        # Nothing here depends on what a proxy says. A SCRIPT_NAME that does not fit the path would be a 500.
        "forwarder_headers": "",
        "secure_scheme_headers": {},
        # The worker's sign of life is the time of a file: in memory, so that a busy disk is no death.
        "worker_tmp_dir": _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None,
        # It would put a socket into the home directory.
        "control_socket_disable": True,
        "accesslog": None,
        "proc_name": "seekfs",
        "on_starting": _on_starting,
        "when_ready": _when_ready,
        "post_fork": _on_fork,
        "worker_exit": _on_worker_exit,
    }


def settings_or_exit() -> dict[str, Any]:
    """For ``gunicorn.conf.py``: the settings, or exit status 2 and all that is wrong with them."""
    try:
        return gunicorn_settings(load_config())
    except ConfigError as error:
        complain(error)
        raise SystemExit(EXIT_CALLED_WRONGLY) from None


def complain(error: Exception | str) -> None:
    """Say on stderr what stands in the way, one line a thing."""
    lines = [str(problem) for problem in error.problems] if isinstance(error, ConfigError) else [str(error)]
    sys.stderr.write("".join(f"seekfs: {line}\n" for line in lines))
    sys.stderr.flush()


def create_application() -> Application:
    """The WSGI application over a data plane of its own. Called in the worker, once.

    A plane that cannot be opened ends the worker with one line in the log, and the master with it.
    """
    from seekfs_io.dataplane import DataPlane
    from seekfs_wsgi.app import Application

    config = running_config()
    try:
        plane = DataPlane(config)
    except (SeekfsError, ConfigError, CacheRefused, OSError) as error:
        for line in str(error).splitlines():
            log.critical("cannot start: %s", line)
        raise SystemExit(EXIT_WORKER_BOOT) from None
    log.info("%s", _summary(config))
    return Application(plane, config)


def check_before_start(config: Config, addresses: Iterable[ListenAddress] | None = None) -> None:
    """Find out what would keep the worker from starting; ``CannotStart`` says so. Leaves nothing open.

    ``addresses`` is where gunicorn is about to listen, if that is not what ``api.listen`` says.
    """
    try:
        check_engine(config.s3)
        check_path(config.trace)
    except ConfigError as error:
        raise CannotStart(str(error), EXIT_CALLED_WRONGLY) from None
    if config.cache.l2.backend == "segmentstore":
        try:
            claim(config.cache.l2.segment_path).release()
        except CacheRefused as error:
            raise CannotStart(str(error)) from None
    for address in (config.api.address,) if addresses is None else addresses:
        _wait_for_address(address, "api.listen" if address == config.api.address else "--bind")


def addresses_of(settings: Any) -> list[ListenAddress]:
    """Where gunicorn's settings say to listen; sockets handed to it open (``fd://``) are not among them."""
    return [
        ListenAddress(unix_path=each) if isinstance(each, str) else ListenAddress(host=each[0], port=each[1])
        for each in settings.address
        if not isinstance(each, int)
    ]


def _wait_for_address(address: ListenAddress, origin: str) -> None:
    deadline = time.monotonic() + ADDRESS_WAIT_SECONDS
    while True:
        try:
            _try_address(address)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise CannotStart(f"{origin}: cannot listen on {address}: {error.strerror}") from None
        time.sleep(_ADDRESS_POLL_SECONDS)


def _try_address(address: ListenAddress) -> None:
    if address.unix_path is not None:
        _try_unix_path(address.unix_path)
        return
    family = socket.AF_INET6 if ":" in (address.host or "") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.host, address.port))
        # Two may bind one port with SO_REUSEADDR; only one may listen.
        probe.listen(1)


def _try_unix_path(path: str) -> None:
    """gunicorn would remove any socket at the path, also one that another daemon answers on."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if not stat.S_ISSOCK(mode):
            raise FileExistsError(errno.EEXIST, f"there is {_KINDS.get(stat.S_IFMT(mode), 'a device')}")
    with socket.socket(socket.AF_UNIX) as probe:
        # One that listens with a full queue would be waited for.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            pass
        except (FileNotFoundError, ConnectionRefusedError):
            directory = os.path.dirname(path) or "."
            if not os.access(directory, os.W_OK | os.X_OK):
                code = errno.EACCES if os.path.isdir(directory) else errno.ENOENT
                raise OSError(code, f"{directory}: {os.strerror(code)}") from None
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _summary(config: Config) -> str:
    cache, s3 = config.cache, config.s3
    l2 = cache.l2.segment_path if cache.l2.backend == "segmentstore" else "memory"
    return (
        f"serving bucket {s3.bucket} of {s3.place} ({s3.engine}); configuration "
        f"{config.path or 'built in: no file was found'}; L2 in {l2}"
    )


def connections_for(file_limit: int) -> int:
    """How many clients may be connected when so many files may be open."""
    return min(CONNECTIONS_MAX, max(file_limit - FILES_OF_OUR_OWN, file_limit // 2))


def _raised_file_limit() -> int:
    """How many files this process and its worker may have open, after asking for as many as are useful.

    The usual limit of 1024 is there for programs that use ``select``; nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + FILES_OF_OUR_OWN
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (OSError, ValueError):
        return soft
    return raised


# -- gunicorn's hooks ----------------------------------------------------------------------------------


def _on_starting(server: Any) -> None:
    """In the master, before it listens or forks."""
    try:
        check_workers(server.cfg.workers)
        # gunicorn's own command line may have named other addresses than the configuration.
        check_before_start(running_config(), addresses_of(server.cfg))
    except CannotStart as error:
        complain(str(error))
        raise SystemExit(error.status) from None
    server.cfg.set("worker_connections", connections_for(_raised_file_limit()))
    # A signal between a fork and the child's own handlers would go into a queue that nobody reads there.
    os.register_at_fork(
        before=functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK, STOP_SIGNALS),
        after_in_parent=functools.partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOP_SIGNALS),
    )
    server.hangup_is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _when_ready(server: Any) -> None:
    """In the master, once it listens: replace the signals whose meaning is another one here."""
    stop = _stopper(server)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if server.hangup_is_ignored else stop)
    for name in ("TTIN", "TTOU", "USR2"):
        # gunicorn looks its handlers up by name when the signal has come.
        setattr(server, f"handle_{name.lower()}", functools.partial(_refuse, name))


def _on_fork(server: Any, worker: Any) -> None:
    """In the worker, before anything else."""
    # What systemd or another process opened and handed over is theirs, and what is done to it stays.
    worker.listens_alone = not (server.systemd or any(isinstance(each, int) for each in server.cfg.address))


def _stopper(server: Any) -> Callable[[int, FrameType | None], None]:
    heard = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if interruption(Interrupted.DAEMON, heard) is Interruption.END:
            for pid in list(server.WORKERS):
                os.kill(pid, signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        # The handler of gunicorn only puts it into a queue, which is all that is safe to do here.
        server.signal(signal.SIGTERM, frame)

    return stop


def _refuse(name: str) -> None:
    log.warning("SIG%s is ignored: one process holds the caches; stop the daemon and start it anew", name)


def _on_worker_exit(server: Any, worker: Any) -> None:
    """In the worker, at its end, however it came to it; also where it never got an application."""
    application = getattr(worker, "wsgi", None)
    if application is None or worker.pid != os.getpid():
        return
    worker.cut_connections()
    try:
        application.close(FLUSH_SECONDS_MAX)
    except (SeekfsError, OSError) as error:
        log.error("the caches could not be closed: %s", error)
