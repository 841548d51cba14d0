"""Manifests and HEADs that must be refused, in a real bucket: what readers get, and what is logged.

Each is the next version of a namespace that is being read, and the first of one that nothing is known of.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from attrs import frozen

from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.e2e.conftest import DaemonFactory
from tests.e2e.http_wire import Answer, get_whole_or_cut
from tests.support.broken_manifests import (
    BADLY_STORED,
    BYTES_MAX,
    CHANGED,
    FILES,
    MIB,
    UNREADABLE,
    VERSION,
    Changed,
    Spoilt,
    Tree,
    tree,
)
from tests.support.daemon import Daemon, s3_settings
from tests.support.dataset import key_of
from tests.support.passthrough import PassThrough
from tests.support.waiting import wait_until


@frozen
class Broken:
    """What is stored as a manifest, and what is to be said of it: ``what`` as in ``Changed``."""

    name: str
    stored: Callable[[Tree], bytes]
    where: str
    what: str

    def __str__(self) -> str:
        return self.name


def text_of(manifest: Tree) -> bytes:
    return json.dumps(manifest, separators=(",", ":"), ensure_ascii=False).encode()


def every_kind() -> Iterator[Broken]:
    for changed in CHANGED:

        def change(manifest: Tree, changed: Changed = changed) -> bytes:
            changed.apply(manifest)
            return gzip.compress(text_of(manifest))

        yield Broken(changed.name, change, changed.where, changed.what)
    for spoilt in UNREADABLE:

        def spoil(manifest: Tree, spoilt: Spoilt = spoilt) -> bytes:
            return gzip.compress(spoilt.spoil(text_of(manifest)))

        yield Broken(spoilt.name, spoil, spoilt.where, spoilt.what)
    for spoilt in BADLY_STORED:

        def store(manifest: Tree, spoilt: Spoilt = spoilt) -> bytes:
            return spoilt.spoil(text_of(manifest))

        yield Broken(spoilt.name, store, spoilt.where, spoilt.what)


HEADS: Final = {
    "nothing": b"",
    "words": b"the newest",
    "no number": b"v-\n",
    "version 0": b"v-0\n",
    "a negative version": b"v--2\n",
    "a version over 63 bits": b"v-9223372036854775808\n",
    "a version and more": b"v-2 v-3\n",
    "two lines": b"v-2\n\n",
    "digits of another alphabet": "v-٢\n".encode(),
    "a version of 65 bytes": b"v-" + b"0" * 61 + b"2\n",
    "a page of HTML": b"<html>" + bytes(MIB),
    "bytes": bytes(range(32)),
}


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, s3_config: S3ConfigFactory, front: PassThrough
) -> Iterator[Daemon]:
    settings = {
        "s3.get_budget_per_sec": 5000,
        "s3.get_budget_burst": 500,
        "manifest.head_ttl_sec": 0,
        "manifest.max_mib": BYTES_MAX / MIB,
    }
    directory = tmp_path_factory.mktemp("broken-manifests")
    with Daemon(directory, {**s3_settings(s3_config(endpoint=front.endpoint)), **settings}) as daemon:
        yield daemon


def put_manifest(store: ObjectStore, ns: str, version: int, stored: bytes) -> None:
    store.put(f"namespaces/{ns}/manifests/v-{version}.json.gz", stored)


def put_head(store: ObjectStore, ns: str, stored: bytes) -> None:
    store.put(f"namespaces/{ns}/HEAD", stored)


def publish(store: ObjectStore, ns: str, version: int) -> None:
    """A good version, in place of whatever is there."""
    store.put(key_of(ns, "b", FILES["b"]), FILES["b"].data)
    put_manifest(store, ns, version, gzip.compress(text_of({**tree(ns), "version": version})))
    put_head(store, ns, b"v-%d\n" % version)


def read(daemon: Daemon, ns: str, version: int | None = None) -> Answer:
    asked = "" if version is None else f"&version={version}"
    return get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path=b{asked}")


def check_served(answer: Answer, version: int, *, stale: bool = False) -> None:
    assert (answer.status, answer.body) == (200, FILES["b"].data)
    assert answer.headers["x-seekfs-version"] == str(version)
    assert ("x-seekfs-stale" in answer.headers) == stale


def check_logged(daemon: Daemon, problem: dict[str, Any]) -> None:
    """By the request that failed, once, with what and where."""
    (line,) = [line for line in daemon.log.splitlines() if problem["request_id"] in line]
    assert f": 502 {problem['detail']} request_id=" in line


def served_on(daemon: Daemon, ns: str, why: str) -> list[str]:
    """Lines that say what is served in place of what cannot be had."""
    said = f" ERROR seekfs.resolve: version {VERSION - 1} of '{ns}' is served on, {why}: "
    return [line for line in daemon.log.splitlines() if said in line]


@pytest.mark.parametrize("broken", list(every_kind()), ids=str)
def test_a_manifest_is_refused_with_what_and_where(
    broken: Broken, ns: str, daemon: Daemon, module_store: ObjectStore
) -> None:
    publish(module_store, ns, VERSION - 1)
    check_served(read(daemon, ns), VERSION - 1)
    for each in (ns, f"{ns}-new"):
        put_manifest(module_store, each, VERSION, broken.stored(tree(each)))
        put_head(module_store, each, b"v-%d\n" % VERSION)

    for answer in (read(daemon, ns, VERSION), read(daemon, f"{ns}-new"), read(daemon, f"{ns}-new", VERSION)):
        problem = answer.problem(502, "manifest-invalid")
        named = f"manifest v-{VERSION} of namespace '{problem['ns']}': {broken.where}: "
        assert problem["detail"].startswith(named)
        assert any(part in problem["detail"].lower() for part in broken.what.lower().split("|"))
        assert (problem["version"], problem["where"]) == (VERSION, broken.where)
        check_logged(daemon, problem)
    # The last good version is served throughout, until there is another one.
    for _ in range(3):
        check_served(read(daemon, ns), VERSION - 1)
    assert broken.where in served_on(daemon, ns, f"in place of version {VERSION}")[-1]
    publish(module_store, ns, VERSION + 1)
    check_served(read(daemon, ns), VERSION + 1)


@pytest.mark.parametrize("stored", list(HEADS.values()), ids=list(HEADS))
def test_a_head_is_refused_with_what_and_where(
    stored: bytes, ns: str, daemon: Daemon, module_store: ObjectStore
) -> None:
    publish(module_store, ns, VERSION - 1)
    check_served(read(daemon, ns), VERSION - 1)
    for each in (ns, f"{ns}-new"):
        put_head(module_store, each, stored)
    problem = read(daemon, f"{ns}-new").problem(502, "manifest-invalid")
    assert problem["ns"] == f"{ns}-new"
    assert problem["key"] == f"namespaces/{ns}-new/HEAD"
    assert problem["detail"].startswith(f"HEAD of namespace '{ns}-new' ")
    check_logged(daemon, problem)
    for _ in range(3):
        check_served(read(daemon, ns), VERSION - 1, stale=True)
    assert f"HEAD of namespace '{ns}' " in served_on(daemon, ns, "as HEAD cannot be read")[-1]
    publish(module_store, ns, VERSION + 1)
    # Who can be served is not made to wait for HEAD after it has failed: the next one hears of it.
    wait_until(lambda: read(daemon, ns).headers["x-seekfs-version"] == str(VERSION + 1), "HEAD is read again")
    check_served(read(daemon, ns), VERSION + 1)


def test_wrong_names_cost_nothing_after_the_first_time(
    ns: str, module_store: ObjectStore, passthrough: PassThrough, start_daemon: DaemonFactory
) -> None:
    publish(module_store, ns, VERSION)
    daemon = start_daemon(manifest__head_ttl_sec=3600)
    check_served(read(daemon, ns), VERSION)
    other = f"{ns}-none"
    # What there is not, and the GETs that it takes to find that out.
    for query, gets in {
        f"ns={other}&path=b": 1,
        f"ns={other}&path=c": 0,
        f"ns={other}&path=b&version=1": 0,
        f"ns={ns}&path=none": 0,
        f"ns={ns}&path=none&version={VERSION}": 0,
        f"ns={ns}&path=b&hash={'0' * 64}": 0,
        f"ns={ns}&path=b&version={VERSION - 1}": 1,
        f"ns={ns}&path=none&version={VERSION - 1}": 0,
        f"ns={ns}&path=b&version={VERSION + 1}": 0,
        f"ns={ns}&path=b&version={2**63 - 1}": 0,
    }.items():
        passthrough.forget()
        for _ in range(5):
            assert get_whole_or_cut(daemon.port, f"/blob?{query}").status == 404
            assert len(passthrough.exchanges) == gets, query
    for target in (
        f"/test_head?ns={ns}&path=none",
        f"/test_head?ns={other}&path=b",
        f"/test_s3?ns={ns}&path=none&off=0&len=1",
        f"/test_stream?ns={other}&path=b&page_id=0",
    ):
        passthrough.forget()
        assert get_whole_or_cut(daemon.port, target).status == 404
        assert passthrough.exchanges == []


def test_after_a_restart_too(ns: str, daemon: Daemon, module_store: ObjectStore) -> None:
    """A bad version at HEAD does not take from a node what it has had all along."""
    publish(module_store, ns, VERSION - 1)
    check_served(read(daemon, ns), VERSION - 1)
    put_manifest(module_store, ns, VERSION, b"[]")
    put_head(module_store, ns, b"v-%d\n" % VERSION)
    check_served(read(daemon, ns), VERSION - 1)
    assert daemon.restart() == 0
    for _ in range(3):
        check_served(read(daemon, ns), VERSION - 1)
    publish(module_store, ns, VERSION + 1)
    check_served(read(daemon, ns), VERSION + 1)
