"""``seekfs manifest gen``: a version of objects that are in the bucket already."""

from __future__ import annotations

import time
from collections.abc import Sequence

from attrs import frozen

from seekfs_core.manifest import FileEntry
from seekfs_core.names import check_namespace, files_prefix, meant_prefix
from seekfs_core.rebase import Change
from seekfs_core.selection import LeftOut, Selection, check_all_there, select_listed, select_named
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStat, ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing.driving import PublishResult, publishing_of, result_of
from seekfs_io.publishing.progress import SILENT, Progress
from seekfs_io.publishing.scanning import scanner_of


@frozen(kw_only=True)
class GenerateResult:
    """``left_out`` is to be told, and is a failure unless the user said to skip such keys.
    ``meant_prefix`` is what was probably meant, where that is why. ``folder_markers`` are keys that were
    left out as well, which is no failure: they only stand for folders."""

    published: PublishResult
    left_out: tuple[LeftOut, ...]
    folder_markers: tuple[str, ...] = ()
    meant_prefix: str | None = None


def generate(
    store: ObjectStore,
    config: Config,
    ns: str,
    paths: Sequence[str] = (),
    *,
    from_prefix: str | None = None,
    overwrite: bool = False,
    single_writer: bool = False,
    progress: Progress = SILENT,
) -> GenerateResult:
    """Publish a version that has objects which are in the bucket already, each read once.

    Without ``paths`` these are all objects under ``files/``, or under ``from_prefix``: a prefix of
    keys, which is taken off to make the path. Keys of which no file can be made are left out and returned.
    """
    check_namespace(ns)
    prefix = files_prefix(ns) if from_prefix is None else from_prefix
    patient = PatientStore.of(store, config.s3)
    publishing = publishing_of(patient, config, ns, single_writer)
    publishing.begin(reads_first=True)
    progress.describe("listing")
    selected, found = _find(patient, prefix, paths)
    for stat in found.values():
        progress.expect(stat.size)
    with scanner_of(patient, config, len(found), progress) as scanner:

        def entry_of(item: tuple[str, ObjectStat]) -> FileEntry:
            path, stat = item
            scanned = scanner.scan(stat.key, config.cache.slab_size_bytes, stat)
            return scanned.digest.entry(path, scanned.key, scanned.etag)

        entries = scanner.map(entry_of, found.items())
    progress.describe("publishing")
    puts = {entry.path: entry for entry in entries}
    change = Change(puts=puts, overwrite=overwrite, created_at=int(time.time()))
    result = result_of(publishing, change, ns)
    return GenerateResult(
        published=result,
        left_out=selected.left_out,
        folder_markers=selected.folder_markers,
        meant_prefix=meant_prefix(prefix, (each.key for each in selected.left_out)),
    )


def _find(
    patient: PatientStore, prefix: str, paths: Sequence[str]
) -> tuple[Selection, dict[str, ObjectStat]]:
    """What is selected of ``paths``, or of all under ``prefix``; and the objects of that, by path."""
    if paths:
        selected = select_named(prefix, paths)
        looked = {key: patient.stat(key) for key in selected.keys.values()}
        there = {key: stat for key, stat in looked.items() if stat is not None}
        check_all_there(selected, there)
    else:
        there = {stat.key: stat for stat in patient.listing(prefix)}
        selected = select_listed(prefix, {key: stat.size for key, stat in there.items()})
    return selected, {path: there[key] for path, key in selected.keys.items()}
