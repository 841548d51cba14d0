"""Object stores behind one interface (``base``): ``sdk`` for S3 servers, ``local`` for a directory.

``signing`` signs requests with what ``credentials`` finds; ``answers`` and ``connection_failures`` say
what comes back means. ``whole`` reads a small object; ``patient`` wraps a store for tools that do one thing
at a time.
"""

from __future__ import annotations

from seekfs_core.errors import Problem
from seekfs_io.config import ConfigError, S3Config
from seekfs_io.objects.base import ObjectStore


def check_engine(config: S3Config) -> None:
    """Raises ``ConfigError`` where this installation cannot run ``config.engine``."""
    if config.engine == "crt":
        what = (
            '"crt" is not part of this version; pip install "seekfs[crt]" will bring it. '
            'engine = "sdk" speaks to the same servers'
        )
        raise ConfigError((Problem("s3.engine", what),))


def open_store(config: S3Config) -> ObjectStore:
    """The store that ``config.engine`` names. Nothing is asked of it yet.

    Raises ``ConfigError`` where this installation cannot run that engine.
    """
    check_engine(config)
    if config.engine == "file":
        from seekfs_io.objects.local import LocalStore

        return LocalStore(root=config.file_root, bucket=config.bucket)
    from seekfs_io.objects.sdk import open_sdk_store

    return open_sdk_store(config)
