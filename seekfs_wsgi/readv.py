"""``/readv``: a batch of ranges, answered in request order, plain or in frames.

The plain answer is the ranges' bytes, one after the other, with a Content-Length. Nothing in it marks where
an item ends, so a range that cannot be answered whole fails the batch, before the first byte, naming the
item. Frames (``frames``) carry the failure of an item beside the others' bytes.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from seekfs_core.errors import SeekfsError
from seekfs_core.frame_format import MEDIA_TYPE
from seekfs_core.names import check_namespace
from seekfs_core.plan import ReadPlan, of_item, plan_read, refusal_of
from seekfs_wsgi import frames
from seekfs_wsgi.blob import version_headers
from seekfs_wsgi.bodies import read_body
from seekfs_wsgi.exchange import BINARY, Answer, Request, Stream
from seekfs_wsgi.explaining import explained
from seekfs_wsgi.items import Item, decode_items
from seekfs_wsgi.pieces import joined_pieces
from seekfs_wsgi.problems import Problem, problem_of
from seekfs_wsgi.query import flag, parse_query, required, version_number

if TYPE_CHECKING:
    from seekfs_io.config import ApiConfig
    from seekfs_io.dataplane import DataPlane

log = logging.getLogger("seekfs.http")

PARAMETERS = frozenset(("ns", "version", "explain"))


def wants_frames(accept: str | None) -> bool:
    """Whether an ``Accept`` header prefers frames to plain bytes.

    Frames must be named: ``*/*`` is what clients send that have never heard of them. Equal quality is
    taken for frames then, since whoever names them can read them.
    """
    if accept is None or "x-seekfs-frames" not in accept.lower():
        return False
    preferences = parse_accept_header(accept, MIMEAccept)
    if not any(media_type.lower() == MEDIA_TYPE for media_type in preferences.values()):
        # It is only a part of a name or a value, or its quality is none.
        return False
    quality = preferences.quality(MEDIA_TYPE)
    return quality > 0 and quality >= preferences.quality(BINARY)


class Readv:
    """The endpoint ``/readv``."""

    def __init__(self, plane: DataPlane, api: ApiConfig) -> None:
        self._plane = plane
        self._readv_max_bytes = api.readv_max_bytes
        self._request_max_bytes = api.request_max_bytes

    def __call__(self, request: Request) -> Answer:
        parameters = parse_query(request.query, PARAMETERS)
        ns = check_namespace(required(parameters, "ns"))
        version = version_number(parameters)
        explains = flag(parameters, "explain")
        body = read_body(request.environ, self._request_max_bytes)
        items = decode_items(body, self._readv_max_bytes)
        framed = wants_frames(request.header("ACCEPT"))
        began = monotonic()
        try:
            resolution = self._plane.resolve(ns, version)
        except SeekfsError as error:
            raise refusal_of(items, error) from None
        plan = plan_read(resolution.manifest, items, clip=framed)
        headers = [*version_headers(resolution), ("Vary", "Accept")]
        if explains:
            return explained(self._plane, plan, request, headers, began=began, by_item=framed)
        if framed:
            return self._framed(request, items, plan, [*headers, ("Cache-Control", "no-store")])
        if plan.total_bytes == 0:
            return Answer(200, BINARY, headers=headers, length=0)
        stream = self._plane.read(plan, request.id)
        pieces = joined_pieces(stream, plan.total_bytes)
        return Answer(200, BINARY, Stream(pieces, stream.close), headers, plan.total_bytes)

    def _framed(
        self, request: Request, items: list[Item], plan: ReadPlan, headers: list[tuple[str, str]]
    ) -> Answer:
        stream = self._plane.read(plan, request.id)
        failed_count = 0
        told: Problem | None = None

        def failure(index: int, error: SeekfsError) -> tuple[int, bytes]:
            nonlocal failed_count, told
            if index not in plan.errors:
                # What the plan refused says which item it was; what the read met does not.
                error = of_item(index, error)
            failed_count += 1
            # Not the error itself, which would keep what its traceback refers to.
            problem = problem_of(error)
            if told is None or told.status < 500 <= problem.status:
                told = problem
            return problem.status, problem.document(request.id)

        def close() -> None:
            stream.close()
            if told is not None:
                # One line, however many: a batch of 65,536 wrong paths must not fill the log.
                log.log(
                    told.log_level,
                    "%s %s: %d of %d items failed: %d %s",
                    request.method,
                    request.target,
                    failed_count,
                    len(items),
                    told.status,
                    told.detail,
                    extra=told.for_log(request.id),
                )

        pieces = frames.frame_pieces(plan, stream, failure)
        return Answer(200, MEDIA_TYPE, Stream(pieces, close), headers)
