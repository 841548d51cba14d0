"""The arguments and options that several commands share, checked where they enter.

A name that cannot be one is a wrong call (exit status 2); one that nothing has is a failure (1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from seekfs_core.errors import BadRequest
from seekfs_core.names import NUMBER_MAX, VERSION_MAX, check_namespace, check_path
from seekfs_io.config import Config, ListenAddress, load_config

if TYPE_CHECKING:
    from seekfs_io.client import Client


def _namespace(ctx: click.Context, param: click.Parameter, value: str) -> str:
    return _checked(check_namespace, value, ctx, param)


def _path(ctx: click.Context, param: click.Parameter, value: str) -> str:
    return _checked(check_path, value, ctx, param)


def _paths(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_checked(check_path, each, ctx, param) for each in value)


def _path_or_none(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return None if value is None else _checked(check_path, value, ctx, param)


def _url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from seekfs_io.client import check_url

    return _checked(check_url, value, ctx, param)


def _checked(check: Callable[[str], str], value: str, ctx: click.Context, param: click.Parameter) -> str:
    try:
        return check(value)
    except BadRequest as error:
        raise click.BadParameter(error.detail, ctx, param) from None


VERSION = click.IntRange(1, VERSION_MAX)
NUMBER = click.IntRange(0, NUMBER_MAX)

config_option = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    help="The configuration; by default SEEKFS_CONFIG, then ./seekfs.toml, then built-in defaults.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
url_option = click.option(
    "--url",
    metavar="URL",
    callback=_url,
    help="Where the daemon is, http://HOST:PORT or unix:/PATH; by default api.listen of the configuration.",
)
namespace_argument = click.argument("ns", callback=_namespace)
path_argument = click.argument("path", callback=_path)
version_option = click.option(
    "--version", type=VERSION, metavar="N", help="This version, not the current one."
)
overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    help="Win over a change of the same path that somebody else published meanwhile.",
)
single_writer_option = click.option(
    "--single-writer",
    is_flag=True,
    help="Nobody else publishes: go on where the store does not honour conditional writes.",
)
optional_paths_argument = click.argument("paths", metavar="[PATH]...", nargs=-1, callback=_paths)
paths_argument = click.argument("paths", metavar="PATH...", nargs=-1, required=True, callback=_paths)
as_option = click.option(
    "--as",
    "as_path",
    metavar="PATH",
    callback=_path_or_none,
    help="The path it gets; for a directory, what its files' paths begin with.",
)


def configuration(config_path: str | None) -> Config:
    """The effective configuration for one command."""
    return load_config(config_path)


def daemon_client(config_path: str | None, url: str | None) -> Client:
    """A client of the daemon of this configuration, or of the one at ``url``."""
    from seekfs_io.client import Client, read_timeout_seconds

    if url is not None:
        return Client(url)
    api = configuration(config_path).api
    timeout = read_timeout_seconds(api.request_deadline_sec)
    return Client(_reached_at(api.address), read_timeout_seconds=timeout)


def daemon_url(config_path: str | None, url: str | None) -> str:
    """Where the daemon of this configuration is reached from here."""
    return _reached_at(configuration(config_path).api.address) if url is None else url


def _reached_at(address: ListenAddress) -> str:
    if address.unix_path is not None:
        return str(address)
    # A daemon that listens on every address is reached on loopback.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", None: "127.0.0.1"}.get(address.host, address.host) or ""
    return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"
