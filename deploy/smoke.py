"""The ``smoke-*`` recipes: a first look at whether a running daemon serves one file.

    python deploy/smoke.py head NS PATH      what the store itself says of the object
    python deploy/smoke.py stream NS PATH    bring the first page into L2
    python deploy/smoke.py demo NS PATH      read it every way there is, cold and warm, and compare

The daemon is the one that ``api.listen`` names. Reads at most the first 64 MiB of the file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import click

from seekfs_core.errors import SeekfsError
from seekfs_io.cli.options import daemon_url
from seekfs_io.client import Client
from seekfs_io.config import ConfigError

READ_BYTES_MAX = 64 << 20
RANGE_BYTES = 4096


def demo(client: Client, ns: str, path: str) -> int:
    head = client.head(ns, path)
    length = min(head.length, READ_BYTES_MAX)
    print(f"{ns}/{path}: version {head.version}, {head.length} bytes, {head.hash}")

    started = time.perf_counter()
    first = client.blob(ns, path, 0, length)
    between = time.perf_counter()
    again = client.blob(ns, path, 0, length)
    ended = time.perf_counter()
    print(f"blob    {length} bytes in {between - started:.3f} s, again in {ended - between:.3f} s")

    # In this order on purpose: a batch answers in request order, whatever order is cheapest to read.
    offsets = sorted({max(0, length - RANGE_BYTES), length // 2, 0}, reverse=True)
    items = [(path, off, min(RANGE_BYTES, length - off)) for off in offsets]
    expected = [first[off : off + size] for _, off, size in items]
    plain = client.readv(ns, items)
    framed = [piece for _, piece in client.readv_frames(ns, items)]
    print(f"readv   {len(items)} ranges of at most {RANGE_BYTES} bytes, plain and in frames")

    differing = [
        name
        for name, found, wanted in (
            ("the second read", again, first),
            ("readv", plain, expected),
            ("readv in frames", framed, expected),
        )
        if found != wanted
    ]
    if len(first) != length:
        differing.append(f"the length ({len(first)} of {length} bytes)")
    for name in differing:
        print(f"{ns}/{path}: {name} differs from the first read", file=sys.stderr)
    if not differing:
        print("every byte is the same")
    return 1 if differing else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="A first look at a running daemon.")
    parser.add_argument("command", choices=("head", "stream", "demo"))
    parser.add_argument("ns")
    parser.add_argument("path")
    given = parser.parse_args()
    try:
        with Client(daemon_url(None, None)) as client:
            match given.command:
                case "head":
                    print(json.dumps(client.test_head(given.ns, given.path)))
                case "stream":
                    print(json.dumps(client.test_stream(given.ns, given.path, 0)))
                case _:
                    return demo(client, given.ns, given.path)
    except (ConfigError, SeekfsError, click.ClickException) as error:
        print(f"smoke-{given.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
