"""The driver of a publication: that Ctrl-C, wherever it comes, publishes nothing or all of a version.

What the machine makes of an interruption is tested in ``tests/core/test_publication.py``; what becomes of
requests that were under way in ``test_publisher.py``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from seekfs_core import publication
from seekfs_core.errors import NoSuchNamespace, ShuttingDown
from seekfs_core.manifest import FileEntry
from seekfs_core.names import head_key
from seekfs_core.publication import Publication
from seekfs_core.publication_protocol import Begin, Event, State
from seekfs_core.rebase import Change
from seekfs_io import publisher
from seekfs_io.config import Config, load_config
from seekfs_io.objects import open_store
from seekfs_io.objects.base import ObjectStore
from seekfs_io.objects.patient import PatientStore
from seekfs_io.publishing import driving
from seekfs_io.publishing.digests import digest_of
from seekfs_io.publishing.driving import Publishing, publishing_of
from tests.support.objects import listed


@pytest.fixture
def config(tmp_path: Path) -> Config:
    settings = {"s3.engine": "file", "s3.endpoint": str(tmp_path / "store"), "s3.get_budget_per_sec": 1e6}
    return load_config(None, {**settings, "s3.retry_initial_backoff_ms": 0}, environ={})


@pytest.fixture
def store(config: Config) -> Iterator[ObjectStore]:
    opened = open_store(config.s3)
    opened.create_bucket()
    yield opened
    opened.close()


def begun(store: ObjectStore, config: Config, ns: str) -> Publishing:
    publishing = publishing_of(PatientStore.of(store, config.s3), config, ns, False)
    publishing.begin()
    return publishing


def file_in(store: ObjectStore) -> FileEntry:
    """An object of one byte, as the file "a"."""
    return digest_of(b"1", 1).entry("a", "somewhere", store.put("somewhere", b"1"))


def is_published(store: ObjectStore, config: Config, ns: str) -> bool:
    """Whether all of a version is there; that a part of it is, is an error."""
    try:
        found = publisher.load(store, config, ns)
    except NoSuchNamespace:
        assert listed(store, f"namespaces/{ns}/") == []
        return False
    assert (found.version, list(found.files)) == (1, ["a"])
    return True


def is_interrupted_at(line: int, call: Callable[[], object]) -> bool:
    """Make a call, with Ctrl-C before line number ``line`` that the machine and its driver run, counted
    from 1; whether they came to it."""
    files = {publication.__file__, driving.__file__}
    lines = itertools.count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line" and next(lines) == line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interruption_between_any_two_lines_never_leaves_half_of_a_version(
    store: ObjectStore, config: Config
) -> None:
    change = Change(puts={"a": file_in(store)})
    published = []
    for line in itertools.count(1):
        ns = f"before-line-{line}"
        if not is_interrupted_at(line, partial(begun(store, config, ns).publish, change)):
            break
        published.append(is_published(store, config, ns))
    # Nothing, up to the request that creates the version; and from there on all of it.
    assert published == sorted(published)
    assert set(published) == {False, True}


def test_a_machine_that_is_interrupted_in_the_middle_is_as_it_was(
    store: ObjectStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing = publishing_of(PatientStore.of(store, config.s3), config, "dev", False)
    before, feed = publishing._machine, Publication.feed

    def interrupted(machine: Publication, event: Event, now: float) -> NoReturn:
        feed(machine, event, now)
        raise KeyboardInterrupt

    monkeypatch.setattr(Publication, "feed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publishing._feed(Begin())
    assert publishing._machine is before
    assert before.state is State.NEW


def test_what_an_interruption_leaves_in_the_bucket_is_said(
    store: ObjectStore, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publishing, put = begun(store, config, "dev"), Publishing._put

    def head_is_interrupted(self: Publishing, *given: Any, **named: Any) -> None:
        if given[0] == head_key("dev"):
            interrupt()
        put(self, *given, **named)

    monkeypatch.setattr(Publishing, "_put", head_is_interrupted)
    monkeypatch.setattr(Publishing, "_read_head", interrupt)
    with pytest.raises(KeyboardInterrupt):
        publishing.publish(Change(puts={"a": file_in(store)}))
    assert "version 1 of namespace 'dev' is written, and HEAD could not be moved to it" in caplog.text


def interrupt(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


def test_an_interruption_while_the_manifest_is_packed_publishes_nothing(
    store: ObjectStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "pack_manifest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        begun(store, config, "dev").publish(Change(puts={"a": file_in(store)}))
    assert not is_published(store, config, "dev")


def test_an_interrupted_proof_ends_all_who_wait_for_it(
    store: ObjectStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing = begun(store, config, "dev")
    monkeypatch.setattr(publishing, "_put", interrupt)
    with pytest.raises(KeyboardInterrupt):
        publishing.prove()
    with pytest.raises(ShuttingDown):
        publishing.prove()
