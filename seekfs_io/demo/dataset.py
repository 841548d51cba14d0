"""The files of the demo: about 200 MiB, the same bytes on every run of one Python.

Some are real (this Python's own library, packed as tar shards), the others are noise of sizes that
matter to pages: none, one byte, one page exactly, one byte less and more, many pages. Version 2
gives some of the same paths other bytes, and most of them another size.
"""

from __future__ import annotations

import io
import random
import sysconfig
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

KIB: Final = 2**10
MIB: Final = 2**20

SHARD_SIZE_BYTES: Final = 8 * MIB
SHARDS_BYTES_MAX: Final = 64 * MIB
"""As much of the library as is packed; some distributions ship hundreds of MiB beside it."""

CHUNK_SIZE_BYTES: Final = MIB

SIZES_V1: Final[Mapping[str, int]] = {
    "weights/model.safetensors": 72 * MIB + 12_345,
    "train/part-00000.bin": 16 * MIB,
    "train/part-00001.bin": 8 * MIB + 1,
    "train/part-00002.bin": 8 * MIB,
    "train/part-00003.bin": 8 * MIB - 1,
    "labels/été 100% + ☃.json": 64 * KIB,
    "tiny/one-byte": 1,
    "tiny/empty": 0,
    **{f"images/{number:05}.jpg": 20 * KIB + 3_001 * number for number in range(64)},
}
"""Path to bytes, of the files that are noise."""

SIZES_V2: Final[Mapping[str, int]] = {
    "weights/model.safetensors": 40 * MIB + 7,
    "train/part-00002.bin": 8 * MIB,
    "labels/été 100% + ☃.json": 64 * KIB + 1,
    "tiny/empty": 3,
    "tiny/one-byte": 1,
    "notes/new in version 2.txt": 1_000,
}
"""What version 2 changes: four sizes, two files of the same size with other bytes, and one new path."""


@frozen
class Dataset:
    """One version as it should be read: path to the local file that has its bytes."""

    version: int
    files: Mapping[str, Path]

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files.values())


def make_first(directory: Path, size_bytes: int) -> Dataset:
    """Writes version 1, ``size_bytes`` in all or a little more, into ``directory``."""
    files = dict(_pack_library(directory / "pylib"))
    for path, size in SIZES_V1.items():
        files[path] = _write_noise(directory, path, size, version=1)
    missing = size_bytes - sum(file.stat().st_size for file in files.values())
    if missing > 0:
        files["train/rest.bin"] = _write_noise(directory, "train/rest.bin", missing, version=1)
    return Dataset(1, files)


def make_second(directory: Path, first: Dataset) -> Dataset:
    """Writes into ``directory`` only what version 2 changes; the rest of it is ``first``'s."""
    changed = {path: _write_noise(directory, path, size, version=2) for path, size in SIZES_V2.items()}
    return Dataset(2, {**first.files, **changed})


def _write_noise(directory: Path, path: str, size: int, *, version: int) -> Path:
    file = directory / path
    file.parent.mkdir(parents=True, exist_ok=True)
    # Seeded by name and version: the same bytes on every run, and others for every file.
    noise = random.Random(f"{path} of version {version}")
    with file.open("wb") as out:
        for start in range(0, size, CHUNK_SIZE_BYTES):
            out.write(noise.randbytes(min(CHUNK_SIZE_BYTES, size - start)))
    return file


def _pack_library(directory: Path) -> Iterator[tuple[str, Path]]:
    """The Python sources of the running library as tar shards of about 8 MiB."""
    directory.mkdir(parents=True)
    root = Path(sysconfig.get_path("stdlib"))
    shard: tarfile.TarFile | None = None
    packed = number = 0
    try:
        for source in _library_sources(root):
            if packed >= SHARDS_BYTES_MAX:
                break
            if shard is None:
                file = directory / f"pylib-{number:05}.tar"
                shard = tarfile.open(file, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
                number += 1
                yield f"pylib/{file.name}", file
            # Only name and size: neither owner nor time of this machine gets into the bytes.
            entry = tarfile.TarInfo(source.relative_to(root).as_posix())
            data = source.read_bytes()
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))
            packed += len(data)
            if shard.offset >= SHARD_SIZE_BYTES:
                shard.close()
                shard = None
    finally:
        if shard is not None:
            shard.close()


def _library_sources(root: Path) -> Iterator[Path]:
    """Every ``.py`` of the library, in the order of their names; no installed packages."""
    for source in sorted(root.rglob("*.py")):
        if not {"site-packages", "dist-packages"} & set(source.relative_to(root).parts) and source.is_file():
            yield source
