"""``serve`` starts the daemon; ``cat``, ``head`` and ``health`` ask one that runs."""

from __future__ import annotations

import os
import sys

import click

from seekfs_io.cli.boundary import Failed
from seekfs_io.cli.options import (
    NUMBER,
    config_option,
    daemon_client,
    daemon_url,
    json_option,
    namespace_argument,
    path_argument,
    url_option,
    version_option,
)
from seekfs_io.cli.output import emit, emit_bytes, emit_json
from seekfs_io.printable import printable


@click.command()
@config_option
@click.option("--listen", metavar="H:P", help="host:port, [ipv6]:port or unix:/path.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of each process.")
def serve(config_path: str | None, listen: str | None, workers: int | None, threads: int | None) -> None:
    """Run the daemon, under gunicorn, until it is told to stop."""
    options = {"--config": config_path, "--listen": listen, "--workers": workers, "--threads": threads}
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    # -P: modules come from where this program's did, never from whatever directory it was called in.
    isolated = [] if {"", os.getcwd()} & set(sys.path) else ["-P"]
    # Executed and not imported: this layer stands below the one that speaks HTTP.
    os.execv(sys.executable, [sys.executable, *isolated, "-m", "seekfs_wsgi.serve", *given])


@click.command()
@namespace_argument
@path_argument
@click.option("--off", type=NUMBER, metavar="N", help="First byte; 0 by default.")
@click.option("--len", "length", type=NUMBER, metavar="N", help="How many bytes; to the end by default.")
@version_option
@config_option
@url_option
def cat(
    ns: str,
    path: str,
    off: int | None,
    length: int | None,
    version: int | None,
    config_path: str | None,
    url: str | None,
) -> None:
    """Write a file's bytes, or a range of them, to stdout."""
    with daemon_client(config_path, url) as client:
        with client.open_blob(ns, path, off, length, version=version) as body:
            for piece in body:
                emit_bytes(piece)


@click.command()
@namespace_argument
@path_argument
@version_option
@config_option
@url_option
@json_option
def head(
    ns: str, path: str, version: int | None, config_path: str | None, url: str | None, as_json: bool
) -> None:
    """Size, hash and version of a file."""
    with daemon_client(config_path, url) as client:
        facts = client.head(ns, path, version=version)
    if as_json:
        emit_json(
            {
                "ns": ns,
                "path": path,
                "size": facts.length,
                "hash": facts.hash,
                "version": facts.version,
                "stale": facts.stale,
            }
        )
        return
    emit(f"size     {facts.length}")
    emit(f"hash     {printable(facts.hash)}")
    emit(f"version  {facts.version}{' (stale: HEAD could not be read)' if facts.stale else ''}")


@click.command()
@config_option
@url_option
@json_option
def health(config_path: str | None, url: str | None, as_json: bool) -> None:
    """Whether the daemon lives, and whether it can serve; exit status 1 when it cannot."""
    from seekfs_io.client import Client

    address = daemon_url(config_path, url)
    with Client(address, read_timeout_seconds=10) as client:
        is_alive = client.health()
        readiness = client.ready()
    if as_json:
        emit_json({"url": address, "alive": is_alive, **readiness.document, "ready": readiness.ready})
    else:
        reasons = readiness.document.get("reasons") or readiness.document.get("detail") or []
        why = reasons if isinstance(reasons, str) else "; ".join(map(str, reasons))
        state = "ready" if readiness.ready else f"not ready: {printable(why)}"
        emit(f"{address} is {'alive' if is_alive else 'not itself'} and {state}")
    if not (is_alive and readiness.ready):
        raise Failed
