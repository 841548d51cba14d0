"""A small object in one request: HEAD of a namespace, a manifest."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_io.objects.base import ObjectReader, ReadableStore, StoreError


@frozen
class Fetched:
    """The bytes of a small object. ``etag`` as the store sent it."""

    stored: bytes
    etag: str | None


class Watch(Protocol):
    """Who watches that an answer moves, and may break it off."""

    def opened(self, body: ObjectReader) -> None:
        """Its head has come; ``StoreError`` if it is broken off already."""
        ...

    def moved(self) -> None:
        """A piece of it has come; ``StoreError`` if it is broken off."""
        ...


def fetch_whole(store: ReadableStore, key: str, *, bytes_max: int, watch: Watch | None = None) -> Fetched:
    """A whole object, in one request; raises ``StoreError``.

    One that is longer is cut after ``bytes_max + 1`` bytes: its reader refuses it then.
    """
    with store.get(key) as body:
        if watch is not None:
            watch.opened(body)
        buffer = bytearray(min(body.size, bytes_max + 1))
        fill(body, memoryview(buffer), watch)
        return Fetched(bytes(buffer), body.etag)


def fill(body: ObjectReader, view: memoryview, watch: Watch | None = None) -> None:
    """Fill ``view`` with the next bytes of a body; ``StoreError`` (``CUT_SHORT``) where it has fewer."""
    at = 0
    while at < len(view):
        count = body.readinto(view[at:])
        if watch is not None:
            watch.moved()
        if not count:
            where = f"GET broke off when {at} of {len(view)} bytes had come"
            raise StoreError(StoreFailure(kind=FailureKind.CUT_SHORT, detail=where))
        at += count
