"""``?explain=1``: what a read did, in place of its bytes.

The read is made as always, from the same tiers and by the same rules, and its bytes are dropped. The answer
is 200 whatever became of it: what failed is in the explanation. What is refused before the read (a malformed
request, no such file) is refused here too.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from seekfs_core.errors import SeekfsError
from seekfs_core.explain import EXPLAINED_MAX, WaitCause
from seekfs_core.plan import ReadPlan
from seekfs_wsgi.exchange import JSON, Answer, Request
from seekfs_wsgi.problems import Headers

if TYPE_CHECKING:
    from seekfs_io.dataplane import DataPlane


def explained(
    plane: DataPlane, plan: ReadPlan, request: Request, headers: Headers, *, began: float, by_item: bool
) -> Answer:
    """Make a read and tell what it did. ``began`` is when its version was asked for, in monotonic seconds;
    ``by_item``: one item that fails does not end it."""
    resolved = time.monotonic()
    stream = plane.read(plan, request.id, EXPLAINED_MAX)
    try:
        for index, (file, _, _) in enumerate(plan.extents):
            try:
                for _ in stream.item(index) if file is not None else ():
                    pass
            except SeekfsError:
                if not by_item:
                    break
    finally:
        stream.close()
    stream.notes.waited(WaitCause.MANIFEST, resolved - began)
    body = json.dumps(stream.notes.explanation(time.monotonic()), default=str).encode("ascii") + b"\n"
    kept = [header for header in headers if header[0].startswith("X-Seekfs-")]
    return Answer(200, JSON, body, [*kept, ("Cache-Control", "no-store")], len(body))
