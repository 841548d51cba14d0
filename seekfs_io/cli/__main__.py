"""``python -m seekfs_io.cli``: the same as ``seekfs``."""

from __future__ import annotations

from seekfs_io.cli import main

if __name__ == "__main__":
    main()
