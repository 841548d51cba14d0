"""What tests ask of a store, beyond what it offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seekfs_core.errors import StoreFailure
from seekfs_io.objects.base import ObjectStat, ObjectStore, StoreError


def listed(store: ObjectStore, prefix: str = "") -> list[ObjectStat]:
    """Every object whose key begins with ``prefix``, page after page; raises ``StoreError``."""
    page = store.list_page(prefix)
    found = [*page.objects]
    while page.next_token is not None:
        page = store.list_page(prefix, page.next_token)
        found += page.objects
    return found


def drain(store: ObjectStore, key: str, **arguments: Any) -> bytes:
    """The bytes of one GET; ``arguments`` as of ``get``. Raises ``StoreError``."""
    content = bytearray()
    view = memoryview(bytearray(1 << 20))
    with store.get(key, **arguments) as reader:
        while count := reader.readinto(view):
            content += view[:count]
    return bytes(content)


def failure_of(call: Callable[[], object]) -> StoreFailure:
    """Of a call that has to fail."""
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value.failure
