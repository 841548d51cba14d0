"""A small object in one request: HEAD of a namespace, a manifest."""

from __future__ import annotations

from attrs import frozen

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_io.objects.base import ObjectReader, ReadableStore, StoreError


@frozen
class Fetched:
    """The bytes of a small object. ``etag`` as the store sent it."""

    stored: bytes
    etag: str | None


def fetch_whole(store: ReadableStore, key: str, *, bytes_max: int) -> Fetched:
    """A whole object, in one request; raises ``StoreError``.

    One that is longer is cut after ``bytes_max + 1`` bytes: its reader refuses it then.
    """
    with store.get(key) as body:
        buffer = bytearray(min(body.size, bytes_max + 1))
        fill(body, memoryview(buffer))
        return Fetched(bytes(buffer), body.etag)


def fill(body: ObjectReader, view: memoryview) -> None:
    """Fill ``view`` with the next bytes of a body; ``StoreError`` (``CUT_SHORT``) where it has fewer."""
    at = 0
    while at < len(view):
        count = body.readinto(view[at:])
        if not count:
            where = f"GET broke off when {at} of {len(view)} bytes had come"
            raise StoreError(StoreFailure(kind=FailureKind.CUT_SHORT, detail=where))
        at += count
