"""``seekfs demo``: a whole round on one machine, every byte compared.

A real S3 server, real files, a publish, the daemon under gunicorn, reads cold and warm, a second version
beside the first. ``round`` has the steps, ``dataset`` the files, ``reads`` what is read and how it is
compared, ``daemon`` the process, ``report`` the table.
"""

from __future__ import annotations

from seekfs_io.demo.round import run_demo

__all__ = ["run_demo"]
