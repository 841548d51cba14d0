"""This machine: ``config check``, ``bucket make`` and ``demo``."""

from __future__ import annotations

import click

from seekfs_io.cli.boundary import EXIT_CALLED_WRONGLY, Failed
from seekfs_io.cli.options import config_option, json_option
from seekfs_io.cli.output import emit, emit_json, explain, say
from seekfs_io.cli.stores import opened
from seekfs_io.config import ConfigError, as_table, load_config, render_config
from seekfs_io.objects import check_engine
from seekfs_io.tracing import check_path


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command("check")
@click.argument("file", required=False)
@config_option
@json_option
def config_check(file: str | None, config_path: str | None, as_json: bool) -> None:
    """The effective configuration, secrets masked, or everything that is wrong with it.

    Exit status 2 where anything is.
    """
    if file is not None and config_path is not None and file != config_path:
        raise click.UsageError(f"two configurations: {file} and --config {config_path}")
    try:
        found = load_config(file or config_path)
        check_engine(found.s3)
        check_path(found.trace)
    except ConfigError as error:
        if as_json:
            emit_json({"problems": [{"where": each.where, "what": each.what} for each in error.problems]})
        else:
            for problem in error.problems:
                explain(str(problem))
        raise Failed(EXIT_CALLED_WRONGLY) from None
    if as_json:
        emit_json({"path": found.path, "config": as_table(found)})
    else:
        emit(render_config(found).rstrip("\n"))


@click.group()
def bucket() -> None:
    """Work on the bucket itself."""


@bucket.command("make")
@config_option
@json_option
def bucket_make(config_path: str | None, as_json: bool) -> None:
    """Make the configured bucket, unless it is there already."""
    with opened(config_path) as (store, settings):
        is_new = store.create_bucket()
    name = settings.s3.bucket
    if as_json:
        emit_json({"bucket": name, "created": is_new})
    else:
        say(f"bucket {name}: {'made' if is_new else 'was there'}")


@click.command()
@json_option
def demo(as_json: bool) -> None:
    """A whole round on this machine: a real S3 server, a publish, the daemon, reads checked byte for byte.

    Everything happens on loopback and in one temporary directory, and nothing is left behind.
    """
    from seekfs_io.demo import run_demo
    from seekfs_io.demo.report import as_document, render

    rows = run_demo(say)
    if as_json:
        emit_json({"reads": as_document(rows)})
    else:
        emit(render(rows))
