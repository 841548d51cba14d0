"""``gunicorn -c gunicorn.conf.py``: the same daemon as ``seekfs serve``, started by gunicorn.

The configuration is found as everywhere: ``SEEKFS_CONFIG``, else ``./seekfs.toml``, else built-in defaults.
What gunicorn's own command line or ``GUNICORN_CMD_ARGS`` say (``--bind``, ``--threads``) goes before it.
"""

from __future__ import annotations

from seekfs_wsgi.daemon import settings_or_exit

globals().update(settings_or_exit())
