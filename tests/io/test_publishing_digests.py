"""Digests: the same whatever the pieces, and those that others compute."""

from __future__ import annotations

import hashlib

import crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core.manifest import Manifest
from seekfs_core.manifest_format import decode_manifest, encode_manifest
from seekfs_io.publishing.digests import Digester, digest_of

PAGE = 64 * 1024


@settings(deadline=None)
@given(st.integers(0, 5 * PAGE), st.lists(st.integers(1000, 3 * PAGE), min_size=1, max_size=5))
def test_pieces_do_not_matter(size: int, pieces: list[int]) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    digester = Digester(PAGE)
    at = turn = 0
    while at < size:
        piece = content[at : at + pieces[turn % len(pieces)]]
        digester.update(memoryview(piece))
        at += len(piece)
        turn += 1
    digest = digester.digest()
    assert digest == digest_of(content, PAGE)
    assert digest.size == size
    assert digest.sha256 == hashlib.sha256(content).digest()
    assert list(digest.crcs) == [crc32c.crc32c(content[i : i + PAGE]) for i in range(0, size, PAGE)]


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_a_digest_makes_an_entry_that_readers_take(size: int) -> None:
    entry = digest_of(bytes(size), PAGE).entry("a", "k", None)
    manifest = Manifest(ns="dev", version=1, files={"a": entry})
    assert decode_manifest(encode_manifest(manifest), ns="dev", version=1, max_bytes=10**6) == manifest
