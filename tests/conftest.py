"""Fixtures that every part of the suite may use: one real S3 server, and a place of its own on it
for each test.

The server is SeaweedFS, started once for the whole run. Tests do not clean up behind themselves:
each has a namespace (``ns``) or, where it needs one, a bucket of its own (``bucket``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Protocol

import pytest

from seekfs_io.config import S3Config
from seekfs_io.devserver import DevServer
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore

_numbers = itertools.count(1)


class S3ConfigFactory(Protocol):
    def __call__(self, **changes: object) -> S3Config: ...


class StoreFactory(Protocol):
    def __call__(self, **changes: object) -> ObjectStore: ...


@pytest.fixture(scope="session")
def seaweed() -> Iterator[DevServer]:
    """The S3 server: ``endpoint``, ``s3_port``, ``bucket``, ``s3_config(...)``."""
    with DevServer() as server:
        yield server


@pytest.fixture(scope="session")
def s3_config(seaweed: DevServer) -> S3ConfigFactory:
    """``s3_config(bucket=…, endpoint=…)``: how to reach the server, with fields changed."""
    return seaweed.s3_config


@pytest.fixture
def open_s3(s3_config: S3ConfigFactory) -> Iterator[StoreFactory]:
    """``open_s3(**changes)``: a store on the server, closed when the test ends."""
    opened: list[ObjectStore] = []

    def factory(**changes: object) -> ObjectStore:
        opened.append(open_store(s3_config(**changes)))
        return opened[-1]

    yield factory
    for store in opened:
        store.close()


@pytest.fixture
def store(open_s3: StoreFactory) -> ObjectStore:
    """The server's bucket, which all tests share; see ``ns``."""
    return open_s3()


def _unique_name(request: pytest.FixtureRequest) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"t{next(_numbers)}-{words}"[:50].rstrip("-")


@pytest.fixture
def ns(request: pytest.FixtureRequest) -> str:
    """A namespace that no other test of this run has."""
    return _unique_name(request)


@pytest.fixture
def bucket(request: pytest.FixtureRequest, open_s3: StoreFactory) -> str:
    """A bucket that no other test of this run has, empty."""
    name = _unique_name(request)
    assert open_s3(bucket=name).create_bucket()
    return name
