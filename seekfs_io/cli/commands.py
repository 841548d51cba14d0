"""The tree of commands."""

from __future__ import annotations

import click

from seekfs_io.cli.daemon import cat, head, health, serve
from seekfs_io.cli.data import manifest, publish, put
from seekfs_io.cli.setup import bucket, config, demo
from seekfs_io.cli.traces import replay, trace


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="seekfs", message="seekfs %(version)s")
def seekfs() -> None:
    """Verified, cached, versioned byte-range reads of an S3 bucket, for training.

    Publish files as versions of a namespace, run the daemon, read over HTTP. `seekfs demo` shows a whole
    round on this machine.
    """


for command in (serve, publish, put, manifest, cat, head, health, config, bucket, replay, trace, demo):
    seekfs.add_command(command)
