"""The configured bucket, for the length of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from seekfs_core.errors import ManifestInvalid, PageCorrupt, StoreAnswered, StoreTimeout, StoreUnavailable
from seekfs_io.cli.options import configuration
from seekfs_io.config import Config
from seekfs_io.objects.base import ObjectStore, StoreError


@contextmanager
def opened(config_path: str | None) -> Iterator[tuple[ObjectStore, Config]]:
    """The bucket and the configuration that names it.

    What the store does wrong inside the block is told together with which store that was: a typing
    error in the endpoint looks like any other trouble.
    """
    from seekfs_io.objects import open_store

    config = configuration(config_path)
    store = open_store(config.s3)
    try:
        yield store, config
    except (ManifestInvalid, PageCorrupt):
        raise  # Somebody's bytes are wrong, and not the address.
    except (StoreError, StoreAnswered, StoreUnavailable, StoreTimeout) as error:
        error.add_note(f"the store is {_described(config)}")
        raise
    finally:
        store.close()


def _described(config: Config) -> str:
    s3 = config.s3
    source = f"configured in {config.path}" if config.path else "configured in no file"
    return f"{s3.place}, bucket {s3.bucket}, {source} (seekfs config check shows all of it)"
