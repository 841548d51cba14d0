"""What the ``mc-*`` recipes do where MinIO's ``mc`` is not there: with seekfs's own object store.

    python deploy/bucket.py check               the server answers, and takes the credentials
    python deploy/bucket.py upload FILE KEY     upload one object; never changes what is there

Endpoint, bucket and credentials are those of ``seekfs.toml`` and the environment.
"""

from __future__ import annotations

import argparse
import mmap
import sys
from pathlib import Path

from seekfs_core.errors import FailureKind, SeekfsError
from seekfs_core.names import check_object_key
from seekfs_io.config import Config, ConfigError, load_config
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore, StoreError

COMPARE_BYTES = 1 << 20


def check(store: ObjectStore, config: Config) -> None:
    where = f"{config.s3.endpoint or 'AWS'}, bucket {config.s3.bucket}"
    try:
        store.list_page("namespaces/")
    except StoreError as error:
        if error.failure.kind is not FailureKind.MISSING:
            raise
        print(f"{where}: the server answers, the bucket is not there yet (just mc-mb makes it)")
    else:
        print(f"{where}: the server answers and takes the credentials; no alias is needed without mc")


def upload(store: ObjectStore, file: Path, key: str) -> int:
    check_object_key(key)
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        # An empty file cannot be mapped; a large one need not be read into memory.
        body = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        with memoryview(body) as view:
            try:
                store.put(key, view, if_none_match=True)
            except StoreError as error:
                if error.failure.kind is not FailureKind.PRECONDITION:
                    raise
                if not holds(store, key, view):
                    print(f"{key} is there already, with other bytes; it is never changed", file=sys.stderr)
                    return 1
                print(f"unchanged  {key}")
            else:
                print(f"uploaded   {key}  ({size} bytes)")
    return 0


def holds(store: ObjectStore, key: str, expected: memoryview) -> bool:
    """Whether the object's bytes are exactly these."""
    window = memoryview(bytearray(COMPARE_BYTES))
    with store.get(key) as reader:
        if reader.size != len(expected):
            return False
        done = 0
        while count := reader.readinto(window):
            if window[:count] != expected[done : done + count]:
                return False
            done += count
    return done == len(expected)


def main() -> int:
    parser = argparse.ArgumentParser(description="What the mc-* recipes do without mc.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check")
    upload_parser = commands.add_parser("upload")
    upload_parser.add_argument("file", type=Path)
    upload_parser.add_argument("key")
    given = parser.parse_args()
    try:
        config = load_config()
        store = open_store(config.s3)
        try:
            if given.command == "upload":
                return upload(store, given.file, given.key)
            check(store, config)
        finally:
            store.close()
    except (ConfigError, SeekfsError, StoreError, OSError) as error:
        print(f"{given.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
