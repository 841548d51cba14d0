"""Health, readiness, advice, and the ``test_*`` endpoints that look past the cache.

``test_head`` and ``test_s3`` name a file by ``ns`` and ``path`` or, with ``api.debug``, any object of the
bucket by ``key``. They cost GETs of the budget and are for people, not for trainers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from seekfs_core.errors import RETRY_AFTER_SECONDS_DEFAULT, BadRequest, RangeNotSatisfiable
from seekfs_core.names import check_namespace, check_object_key, check_path
from seekfs_wsgi.exchange import JSON, TEXT, Answer, Request
from seekfs_wsgi.problems import CONTENT_TYPE, Problem
from seekfs_wsgi.query import number, parse_query, required

if TYPE_CHECKING:
    from seekfs_io.config import ApiConfig
    from seekfs_io.dataplane import DataPlane

_NOTHING: frozenset[str] = frozenset()
# key= is taken whether or not it is allowed, so that the answer can say what it needs.
_OBJECT = frozenset(("ns", "path", "key"))


def json_answer(value: Mapping[str, Any]) -> Answer:
    body = json.dumps(value, default=str).encode("ascii") + b"\n"
    return Answer(200, JSON, body, [("Cache-Control", "no-store")], len(body))


def healthz(request: Request) -> Answer:
    """``ok`` while the process lives; asks nothing of the data plane."""
    parse_query(request.query, _NOTHING)
    return Answer(200, TEXT, b"ok", [("Cache-Control", "no-store")], 2)


@frozen
class _Target:
    """An object of the bucket; ``size`` in bytes where the manifest says it."""

    key: str
    size: int | None


class Diagnostics:
    """The endpoints; each method is one."""

    def __init__(self, plane: DataPlane, api: ApiConfig) -> None:
        self._plane = plane
        self._is_debug = api.debug

    def readyz(self, request: Request) -> Answer:
        """200 when reads can be answered, else 503 and the reasons."""
        parse_query(request.query, _NOTHING)
        readiness = self._plane.readiness()
        reasons = list(readiness.reasons)
        if readiness.ready:
            return json_answer({"ready": True, "reasons": reasons})
        problem = Problem(
            status=503,
            slug="not-ready",
            title="Not ready to serve",
            detail="; ".join(reasons) or "not ready",
            facts={"ready": False, "reasons": reasons},
            headers=(("Retry-After", str(RETRY_AFTER_SECONDS_DEFAULT)),),
        )
        body = problem.document(request.id)
        return Answer(503, CONTENT_TYPE, body, [*problem.headers, ("Cache-Control", "no-store")], len(body))

    def advisor(self, request: Request) -> Answer:
        """What each namespace has cost and saved, and which files would gain from warming."""
        parse_query(request.query, _NOTHING)
        return json_answer({"namespaces": self._plane.advice()})

    def slow(self, request: Request) -> Answer:
        """What the reads did that waited longest of late, and the last ones that failed."""
        parse_query(request.query, _NOTHING)
        return json_answer(self._plane.slow_reads())

    def test_head(self, request: Request) -> Answer:
        """Size and ETag of the object behind a file, straight from the store."""
        target = self._target(parse_query(request.query, _OBJECT))
        stat = self._plane.stat_object(target.key)
        return json_answer(
            {"key": stat.key, "size": stat.size, "etag": stat.etag, "last_modified": stat.last_modified}
        )

    def test_s3(self, request: Request) -> Answer:
        """One GET past the cache; what came, and how long it took."""
        parameters = parse_query(request.query, _OBJECT | {"off", "len"})
        off, length = _required_number(parameters, "off"), _required_number(parameters, "len")
        if length == 0:
            raise BadRequest("parameter 'len' is 0: there is nothing to fetch", parameter="len")
        target = self._target(parameters)
        size = self._plane.stat_object(target.key).size if target.size is None else target.size
        if off >= size:
            raise RangeNotSatisfiable(f"off {off} is past the end of {target.key!r}: {size} bytes", size=size)
        fetched = self._plane.fetch_object(target.key, off, min(off + length, size))
        return json_answer(
            {
                "key": fetched.key,
                "off": off,
                "len": length,
                "bytes": fetched.bytes_received,
                "seconds": round(fetched.seconds, 6),
                "status": fetched.status,
            }
        )

    def test_stream(self, request: Request) -> Answer:
        """Brings one page into L2, verified, under its own key."""
        parameters = parse_query(request.query, frozenset(("ns", "path", "page_id")))
        ns = check_namespace(required(parameters, "ns"))
        path = check_path(required(parameters, "path"))
        page_id = _required_number(parameters, "page_id")
        page = self._plane.stage_page(ns, path, page_id)
        return json_answer(
            {
                "page_id": page.page_id,
                "off": page.off,
                "len": page.len,
                "crc32c": page.crc32c,
                "tier": page.tier,
                "bytes_fetched": page.bytes_fetched,
            }
        )

    def _target(self, parameters: dict[str, str]) -> _Target:
        key = parameters.get("key")
        if key is None:
            ns = check_namespace(required(parameters, "ns"))
            path = check_path(required(parameters, "path"))
            file = self._plane.resolve(ns).manifest.file(path)
            return _Target(file.storage_key, file.size)
        if not self._is_debug:
            raise BadRequest("parameter 'key' is taken with api.debug = true only", parameter="key")
        if "ns" in parameters or "path" in parameters:
            raise BadRequest("parameter 'key' stands in place of 'ns' and 'path'", parameter="key")
        return _Target(check_object_key(key), None)


def _required_number(parameters: dict[str, str], name: str) -> int:
    required(parameters, name)
    value = number(parameters, name)
    assert value is not None
    return value
