"""What works on a bucket: ``publish``, ``put`` and the group ``manifest``.

The work is done by ``seekfs_io.publisher``; here are arguments, progress and what is printed.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from seekfs_io.cli.boundary import Failed
from seekfs_io.cli.options import (
    VERSION,
    as_option,
    config_option,
    json_option,
    namespace_argument,
    optional_paths_argument,
    overwrite_option,
    paths_argument,
    single_writer_option,
    version_option,
)
from seekfs_io.cli.output import count, emit, emit_bytes, emit_json, moment, say, size
from seekfs_io.cli.progress import bar
from seekfs_io.cli.stores import opened
from seekfs_io.printable import printable

if TYPE_CHECKING:
    from seekfs_io.publisher import PublishResult

NEXT_PATHS_MAX = 8
"""More paths than this are not repeated in what ``put`` says to run next."""

inputs_argument = click.argument("inputs", metavar="FILE|DIR...", nargs=-1, required=True)


def one_path_for_one_input(inputs: tuple[str, ...], as_path: str | None) -> None:
    """A command that names more is called wrongly."""
    from seekfs_io.publishing.inputs import InputError, check_one_path

    try:
        check_one_path(len(inputs), as_path)
    except InputError as error:
        raise click.UsageError(str(error)) from None


# -- publish, put --------------------------------------------------------------------------------


@click.command()
@namespace_argument
@inputs_argument
@as_option
@overwrite_option
@single_writer_option
@config_option
@json_option
def publish(
    ns: str,
    inputs: tuple[str, ...],
    as_path: str | None,
    overwrite: bool,
    single_writer: bool,
    config_path: str | None,
    as_json: bool,
) -> None:
    """Upload files by content and publish a version that has them.

    A FILE gets the path of its own name, the files of a DIR paths relative to it; symbolic links are
    followed. What is in the bucket
    already is not sent again, and where nothing has changed no version is made; objects of the current
    version that are gone are sent again.
    """
    from seekfs_io import publisher

    one_path_for_one_input(inputs, as_path)
    with opened(config_path) as (store, config), bar("looking") as progress:
        result = publisher.publish(
            store,
            config,
            ns,
            inputs,
            as_path=as_path,
            overwrite=overwrite,
            single_writer=single_writer,
            progress=progress,
        )
    if as_json:
        uploaded = {"uploaded_objects": result.uploaded_objects, "uploaded_bytes": result.uploaded_bytes}
        emit_json(facts_of(result) | uploaded)
        return
    sent = f"{count(result.uploaded_objects, 'object')}, {size(result.uploaded_bytes)}"
    emit(f"{sentence_of(result)}; uploaded {sent if result.uploaded_objects else 'nothing'}")


@click.command()
@namespace_argument
@inputs_argument
@as_option
@config_option
@json_option
def put(
    ns: str, inputs: tuple[str, ...], as_path: str | None, config_path: str | None, as_json: bool
) -> None:
    """Upload files under files/ of a namespace, and publish nothing.

    What is there already is never changed: the same bytes are fine, others are an error.
    """
    from seekfs_io import publisher

    one_path_for_one_input(inputs, as_path)
    with opened(config_path) as (store, config), bar("looking") as progress:
        result = publisher.put(store, config, ns, inputs, as_path=as_path, progress=progress)
    if as_json:
        emit_json(
            {
                "ns": ns,
                "keys": list(result.keys),
                "uploaded_objects": result.uploaded,
                "uploaded_bytes": result.uploaded_bytes,
            }
        )
    else:
        for key in result.keys:
            emit(key)
    there = len(result.keys) - result.uploaded
    was_there = f"; {count(there, 'file')} with the same bytes already there" if there else ""
    say(f"uploaded {count(result.uploaded, 'file')}, {size(result.uploaded_bytes)}{was_there}")
    say(f"not published yet; next: {next_command(ns, result.paths, config_path)}")


def next_command(ns: str, paths: tuple[str, ...], config_path: str | None) -> str:
    """What publishes the files that were put; without their paths where these are many."""
    options = [] if config_path is None else ["--config", config_path]
    named = paths if len(paths) <= NEXT_PATHS_MAX else ()
    # A path that looks like an option is none behind two dashes.
    dashes = ["--"] if any(path.startswith("-") for path in named) else []
    return shlex.join(["seekfs", "manifest", "gen", *options, *dashes, ns, *named])


def facts_of(result: PublishResult) -> dict[str, Any]:
    """A publication as JSON."""
    return {
        "ns": result.ns,
        "version": result.version,
        "new": result.new,
        "changed": result.changed,
        "unchanged": result.unchanged,
    }


def sentence_of(result: PublishResult) -> str:
    """A publication for a person."""
    if result.version == 0:
        return f"nothing to publish: there is no namespace {result.ns}, and none was made"
    if not result.new:
        return f"{result.ns} stays at version {result.version}: nothing has changed"
    files = count(result.changed, "file")
    unchanged = f", {result.unchanged:,} as before" if result.unchanged else ""
    return f"{result.ns} is at version {result.version}: {files} changed{unchanged}"


def tell(result: PublishResult, as_json: bool) -> None:
    """Print what came of a publication."""
    if as_json:
        emit_json(facts_of(result))
    else:
        emit(sentence_of(result))


# -- manifest ------------------------------------------------------------------------------------


@click.group()
def manifest() -> None:
    """Make versions of what is in the bucket, and look at them."""


@manifest.command("gen")
@namespace_argument
@optional_paths_argument
@click.option(
    "--from-prefix",
    metavar="KEYPREFIX",
    help="Where the keys begin; it is taken off to make the path. By default files/ of NS.",
)
@click.option("--skip-invalid", is_flag=True, help="Keys that are left out are no failure.")
@overwrite_option
@single_writer_option
@config_option
@json_option
def manifest_gen(
    ns: str,
    paths: tuple[str, ...],
    from_prefix: str | None,
    skip_invalid: bool,
    overwrite: bool,
    single_writer: bool,
    config_path: str | None,
    as_json: bool,
) -> None:
    """Publish a version of objects that are in the bucket already.

    Each is read once, to learn its hash and page checksums. Without PATH these are all under files/.
    """
    from seekfs_io import publisher

    with opened(config_path) as (store, config), bar("looking") as progress:
        result = publisher.generate(
            store,
            config,
            ns,
            paths,
            from_prefix=from_prefix,
            overwrite=overwrite,
            single_writer=single_writer,
            progress=progress,
        )
    if as_json:
        left_out = [{"key": each.key, "reason": each.reason} for each in result.left_out]
        folder_markers = list(result.folder_markers)
        emit_json(facts_of(result.published) | {"left_out": left_out, "folder_markers": folder_markers})
    else:
        emit(sentence_of(result.published))
    for key in result.folder_markers:
        say(f"left out {key!r}: it is empty and stands for a folder")
    for each in result.left_out:
        say(f"left out {each.key!r}: {each.reason}")
    if result.meant_prefix is not None:
        say(f"did you mean --from-prefix {shlex.quote(result.meant_prefix)} ?")
    if result.left_out and not skip_invalid:
        say(f"{count(len(result.left_out), 'key')} left out; --skip-invalid takes that for no failure")
        raise Failed


@manifest.command("rm")
@namespace_argument
@paths_argument
@overwrite_option
@single_writer_option
@config_option
@json_option
def manifest_rm(
    ns: str,
    paths: tuple[str, ...],
    overwrite: bool,
    single_writer: bool,
    config_path: str | None,
    as_json: bool,
) -> None:
    """Publish a version without these files. Nothing in the bucket is deleted."""
    from seekfs_io import publisher

    with opened(config_path) as (store, config):
        result = publisher.remove(store, config, ns, paths, overwrite=overwrite, single_writer=single_writer)
    tell(result, as_json)


@manifest.command("rollback")
@namespace_argument
@click.argument("version", metavar="N", type=VERSION)
@single_writer_option
@config_option
@json_option
def manifest_rollback(
    ns: str, version: int, single_writer: bool, config_path: str | None, as_json: bool
) -> None:
    """Publish version N's content as a new version; fails if somebody publishes meanwhile."""
    from seekfs_io import publisher

    with opened(config_path) as (store, config):
        result = publisher.rollback(store, config, ns, version, single_writer=single_writer)
    tell(result, as_json)


@manifest.command("show")
@namespace_argument
@version_option
@config_option
@json_option
def manifest_show(ns: str, version: int | None, config_path: str | None, as_json: bool) -> None:
    """What a version is made of; with --json the manifest itself."""
    from seekfs_core.manifest_format import encode_manifest
    from seekfs_io import publisher

    with opened(config_path) as (store, config):
        found = publisher.load(store, config, ns, version)
    if as_json:
        emit_bytes(encode_manifest(found) + b"\n")
        return
    emit(f"namespace    {found.ns}")
    emit(f"version      {found.version}")
    emit(f"created      {moment(found.created_at)}")
    emit(f"parents      {', '.join(map(str, found.parents)) or 'none'}")
    emit(f"files        {len(found.files)}")
    emit(f"bytes        {found.total_bytes}")
    emit(f"publication  {printable(found.publication_id) or 'unknown'}")
    for path in found.tombstones:
        emit(f"dropped      {path}")


@manifest.command("ls")
@namespace_argument
@version_option
@config_option
@json_option
def manifest_ls(ns: str, version: int | None, config_path: str | None, as_json: bool) -> None:
    """The files of a version: size in bytes, hash, path."""
    from seekfs_io import publisher

    with opened(config_path) as (store, config):
        found = publisher.load(store, config, ns, version)
    if as_json:
        files = [
            {
                "path": file.path,
                "size": file.size,
                "hash": file.hash_text,
                "pages": file.page_count,
                "page_size": file.page_size_bytes,
                "key": file.storage_key,
            }
            for file in found.files.values()
        ]
        emit_json({"ns": ns, "version": found.version, "files": files})
        return
    width = max((len(str(file.size)) for file in found.files.values()), default=1)
    for file in found.files.values():
        emit(f"{file.size:>{width}}  {file.hash_text}  {file.path}")


@manifest.command("diff")
@namespace_argument
@click.argument("old", metavar="N", type=VERSION)
@click.argument("new", metavar="[M]", type=VERSION, required=False)
@config_option
@json_option
def manifest_diff(ns: str, old: int, new: int | None, config_path: str | None, as_json: bool) -> None:
    """What version M (by default the current one) has that N has not, and the reverse.

    "+" added, "-" removed, "~" other bytes, ">" the same bytes in another object.
    """
    from seekfs_io import publisher

    with opened(config_path) as (store, config):
        before = publisher.load(store, config, ns, old)
        after = publisher.load(store, config, ns, new)
    found = publisher.diff(before, after)
    groups = {"added": found.added, "removed": found.removed, "changed": found.changed, "moved": found.moved}
    if as_json:
        versions = {"ns": ns, "old": before.version, "new": after.version}
        emit_json(versions | {name: list(paths) for name, paths in groups.items()})
        return
    for sign, paths in zip("+-~>", groups.values(), strict=True):
        for path in paths:
            emit(f"{sign} {path}")


@manifest.command("verify")
@namespace_argument
@optional_paths_argument
@version_option
@config_option
@json_option
def manifest_verify(
    ns: str, paths: tuple[str, ...], version: int | None, config_path: str | None, as_json: bool
) -> None:
    """Read everything back from the store and say what differs from the manifest.

    Exit status 1 where anything does.
    """
    from seekfs_io import publisher

    with opened(config_path) as (store, config), bar("verifying") as progress:
        found = publisher.verify(store, config, ns, version, paths, progress=progress)
    if as_json:
        differences = [{"path": each.path, "key": each.key, "what": each.what} for each in found.differences]
        emit_json(
            {
                "ns": ns,
                "version": found.version,
                "files": found.files,
                "bytes": found.bytes,
                "differences": differences,
            }
        )
    else:
        for each in found.differences:
            emit(f"{each.path}: {printable(each.what)} ({each.key})")
    read = f"{count(found.files, 'file')} of {ns} at version {found.version}, {size(found.bytes)}"
    say(f"{read}: {count(len(found.differences), 'difference') if found.differences else 'all as published'}")
    if found.differences:
        raise Failed
