"""``/blob``: the bytes of one file, or of a part of it.

``off`` and ``len`` choose the representation; ``Range`` and the conditions then apply to that. The order
is the contract's: what is malformed (400), what does not exist (404), an ``off`` past the end (416: there is
no such representation to set a condition on), ``If-Match`` (412), ``If-None-Match`` (304), then ``Range``,
on GET only.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from werkzeug.exceptions import PreconditionFailed

from seekfs_core.errors import RangeNotSatisfiable
from seekfs_core.names import check_namespace, check_path
from seekfs_core.plan import plan_read
from seekfs_wsgi.exchange import BINARY, Answer, Refused, Request, Stream
from seekfs_wsgi.explaining import explained
from seekfs_wsgi.problems import Headers
from seekfs_wsgi.query import content_hash, flag, number, parse_query, required, version_number
from seekfs_wsgi.ranges import (
    Unsatisfiable,
    Verdict,
    content_range,
    content_range_unsatisfied,
    evaluate_conditions,
    if_range_holds,
    select_range,
)

if TYPE_CHECKING:
    from seekfs_core.manifest import FileEntry
    from seekfs_io.dataplane import DataPlane
    from seekfs_io.resolving import Resolution

PARAMETERS = frozenset(("ns", "path", "off", "len", "hash", "version", "explain"))

CACHE_NOT = "no-cache"
CACHE_FOREVER = "max-age=31536000, immutable"
"""Content that was asked for by hash or version cannot change; a year is as long as caches take."""


def version_headers(resolution: Resolution) -> Headers:
    """Which version answers, and whether HEAD could not be read to know that it is the newest."""
    headers = [("X-Seekfs-Version", str(resolution.version))]
    if resolution.stale:
        headers.append(("X-Seekfs-Stale", "1"))
    return headers


class Blob:
    """The endpoint ``/blob``."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def __call__(self, request: Request) -> Answer:
        parameters = parse_query(request.query, PARAMETERS)
        ns = check_namespace(required(parameters, "ns"))
        path = check_path(required(parameters, "path"))
        off = number(parameters, "off") or 0
        length = number(parameters, "len")
        digest = content_hash(parameters)
        version = version_number(parameters)
        explains = flag(parameters, "explain")

        began = monotonic()
        resolution = self._plane.resolve(ns, version)
        file = resolution.manifest.file(path, digest)
        etag = f'"{file.hash_text}"'
        headers = [("ETag", etag), *version_headers(resolution)]
        if off > file.size:
            raise _out_of_range(f"off {off} is past the end", file, file.size, headers)
        stop = file.size if length is None else min(off + length, file.size)

        is_forever = digest is not None or version is not None
        caching = ("Cache-Control", CACHE_FOREVER if is_forever else CACHE_NOT)
        match evaluate_conditions(etag, request.header("IF_MATCH"), request.header("IF_NONE_MATCH")):
            case Verdict.FAILED:
                raise Refused(
                    PreconditionFailed(f"If-Match does not name {etag}, which {path!r} is now"), headers
                )
            case Verdict.NOT_MODIFIED:
                return Answer(304, "", headers=[*headers, caching])
            case Verdict.PROCEED:
                pass
        return self._bytes(
            request, resolution, file, off, stop, [*headers, caching], began if explains else None
        )

    def _bytes(
        self,
        request: Request,
        resolution: Resolution,
        file: FileEntry,
        off: int,
        stop: int,
        headers: Headers,
        explain_from: float | None,
    ) -> Answer:
        """Bytes [off, stop) of the file, or the part of them that ``Range`` asks for; or what reading them
        did since ``explain_from``."""
        status = 200
        start, whole = off, stop - off
        if request.method == "GET" and (asked := request.header("RANGE")) is not None:
            unless = request.header("IF_RANGE")
            selected = None
            if unless is None or if_range_holds(unless, headers[0][1]):
                selected = select_range(asked, whole)
            if isinstance(selected, Unsatisfiable):
                raise _out_of_range(f"Range {asked[:100]!r} begins past the end", file, whole, headers[:-1])
            if selected is not None:
                status = 206
                headers.append(("Content-Range", content_range(*selected, whole)))
                start, stop = off + selected[0], off + selected[1]
        headers.append(("Accept-Ranges", "bytes"))
        length = stop - start
        plan = plan_read(resolution.manifest, ((file.path, start, length),), clip=False)
        if explain_from is not None and request.method == "GET":
            return explained(self._plane, plan, request, headers, began=explain_from, by_item=False)
        if request.method == "HEAD" or length == 0:
            return Answer(status, BINARY, headers=headers, length=length)
        stream = self._plane.read(plan, request.id)
        return Answer(status, BINARY, Stream(iter(stream), stream.close), headers, length)


def _out_of_range(what: str, file: FileEntry, length: int, headers: Headers) -> Refused:
    """A 416; ``length`` is that of the representation, ``headers`` begin with its ETag."""
    error = RangeNotSatisfiable(
        f"{what} of {file.path!r}: there are {length} bytes", path=file.path, size=length
    )
    return Refused(error, [*headers, ("Content-Range", content_range_unsatisfied(length))])
