"""What every benchmark starts: a daemon's configuration, and a file that is published."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

from seekfs_io.config import S3Config

MIB: Final = 1 << 20


def write_config(path: Path, s3: S3Config, l2: Path, *, slab_size_mib: float = 8, **settings: object) -> Path:
    """A daemon's configuration for this store, with ``settings`` of the section ``[s3]``."""
    more = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    path.write_text(
        f"""
        [cache]
        slab_size_mib = {slab_size_mib}
        l1_memory_gib = 4
        l2_ssd_gib = 8
        [cache.l2]
        segment_path = "{l2}"
        [s3]
        endpoint = "{s3.endpoint}"
        bucket = "{s3.bucket}"
        access_key_id = "{s3.access_key_id}"
        secret_access_key = "{s3.secret_access_key}"
        {more}
        """,
        encoding="utf-8",
    )
    return path


def write_noise(path: Path, size: int, seed: int = 0) -> Path:
    """A file of so many bytes that do not compress."""
    noise = random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(noise.randbytes(min(MIB, size - start)))
    return path


def publish(config: Path, ns: str, *sources: Path) -> None:
    """Publish files as a version of ``ns``."""
    command = [sys.executable, "-m", "seekfs_io.cli", "publish", "--config", str(config), ns]
    subprocess.run([*command, *map(str, sources)], check=True, stdout=subprocess.DEVNULL)
