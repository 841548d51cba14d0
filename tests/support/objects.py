"""What tests ask of a store, beyond what it offers."""

from __future__ import annotations

from seekfs_io.objects.base import ObjectStat, ObjectStore


def listed(store: ObjectStore, prefix: str = "") -> list[ObjectStat]:
    """Every object whose key begins with ``prefix``, page after page; raises ``StoreError``."""
    page = store.list_page(prefix)
    found = [*page.objects]
    while page.next_token is not None:
        page = store.list_page(prefix, page.next_token)
        found += page.objects
    return found
