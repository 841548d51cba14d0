"""The client of a running daemon, on ``requests``.

Answers are read with the care that ``seekfs_io.answers`` describes. Two more rules are kept here:

* **A connection never outlives a fork.** Two processes that share a socket read each other's
  bytes, so a client notices that it lives in another process and begins anew. The parent's connections
  are let go of without closing them: that takes locks, and whoever held them at the fork is not here to
  release them.
* **Nothing retries.** The daemon has retried what can be (its budget pays for it), and what is left
  is for the caller to know.

The calls and their answers are those of docs/SPEC.md, section 4.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import requests
import requests.adapters
import urllib3.exceptions
from attrs import frozen

from seekfs_core import frame_format
from seekfs_core.errors import BadRequest, InvalidName
from seekfs_io.answers import (
    BadAnswer,
    Body,
    DaemonError,
    DaemonUnreachable,
    Frame,
    ShortRead,
    body_of,
    decode_document,
    media_type,
    problem_error,
    read_frame,
    reason_of,
    refusal,
)
from seekfs_io.config_rules import UNIX_SOCKET_PATH_BYTES_MAX, ListenAddress, Refused
from seekfs_io.unix_socket import UnixSocketAdapter, root_url

__all__ = [
    "BadAnswer",
    "BlobHead",
    "Body",
    "Client",
    "DaemonError",
    "DaemonUnreachable",
    "Frame",
    "Item",
    "Readiness",
    "ShortRead",
]

POOL_SIZE_MAX: Final = 64
CONNECT_TIMEOUT_SECONDS: Final = 5.0
READ_TIMEOUT_SECONDS: Final = 150.0
"""For a daemon with the usual deadline of a request, 120 s; ``read_timeout_seconds`` of another."""

_inherited: Final[list[object]] = []
"""The parent's connections, after a fork. Kept to the end, since freeing them closes them."""

Item = tuple[str, int, int]
"""One range of a batch: path, offset and length in bytes."""


@frozen(kw_only=True)
class BlobHead:
    """What ``HEAD /blob`` says. ``length`` in bytes; ``hash`` as ``sha256:<hex>``."""

    length: int
    hash: str
    version: int
    stale: bool


@frozen(kw_only=True)
class Readiness:
    """``/readyz``: whether the daemon can serve, and its own words on why not."""

    ready: bool
    document: Mapping[str, Any]


def read_timeout_seconds(request_deadline_seconds: float) -> float:
    """Longer than the daemon's own deadline (``api.request_deadline_sec``), so that its word comes first."""
    return max(READ_TIMEOUT_SECONDS, request_deadline_seconds + 30.0)


class Client:
    """A daemon at ``base_url``: ``http://host:port`` or ``unix:/path``. Calls may come from many threads
    at once.

    ``session`` is the caller's own ``requests.Session`` (its adapters, proxies and headers are used as
    they are, and one adapter is added for a Unix socket). Without one the client makes its own, which reads
    no proxy settings from the environment: a daemon is on this node or beside it.
    """

    def __init__(
        self,
        base_url: str,
        session: requests.Session | None = None,
        *,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        self.base_url = check_url(base_url)
        self._timeout = (connect_timeout_seconds, read_timeout_seconds)
        self._socket_path = _socket_path(self.base_url)
        self._root = self.base_url if self._socket_path is None else root_url(self._socket_path)
        self._is_own = session is None
        self._session = self._mounted(_own_session() if session is None else session)
        self._pid = os.getpid()

    # -- reading ---------------------------------------------------------------------------------

    def blob(
        self,
        ns: str,
        path: str,
        off: int | None = None,
        length: int | None = None,
        *,
        version: int | None = None,
        hash: str | None = None,  # noqa: A002
    ) -> bytes:
        """Bytes [off, off + length) of a file: all of it by default, cut at its end."""
        with self.open_blob(ns, path, off, length, version=version, hash=hash) as body:
            return body.read()

    def open_blob(
        self,
        ns: str,
        path: str,
        off: int | None = None,
        length: int | None = None,
        *,
        version: int | None = None,
        hash: str | None = None,  # noqa: A002
    ) -> Body:
        """The same bytes as a stream, for what should not be in memory at once."""
        query = _blob_query(ns, path, version, hash) | {"off": off, "len": length}
        return self._body("/blob", query)

    def head(
        self,
        ns: str,
        path: str,
        *,
        version: int | None = None,
        hash: str | None = None,  # noqa: A002
    ) -> BlobHead:
        """Length, hash and version of a file, without its bytes."""
        try:
            body = self._body("/blob", _blob_query(ns, path, version, hash), method="HEAD")
        except DaemonError:
            # The answer to a HEAD cannot say what is wrong; that to a GET of nothing at all does.
            self.open_blob(ns, path, 0, 0, version=version, hash=hash).close()
            raise
        with body:
            # Nothing will come of the length that a HEAD announces.
            length, body.length = body.length or 0, 0
            return BlobHead(length=length, hash=body.hash, version=body.version, stale=body.stale)

    def readv(self, ns: str, items: Sequence[Item], version: int | None = None) -> list[bytes]:
        """The bytes of every item, in the order asked for.

        All or nothing: one item that cannot be read, or reaches past the end of its file, fails the
        batch. Use ``readv_frames`` where items may fail one by one.
        """
        response = self._readv(ns, items, version, "application/octet-stream")
        url = f"{self.base_url}/readv"
        with body_of(response, url) as body:
            expected = sum(length for _, _, length in items)
            if body.length != expected:
                raise BadAnswer(
                    f"{url} announced {body.length} bytes for ranges of {expected} in all",
                    expected=expected,
                )
            return [body.read_exactly(length) for _, _, length in items]

    def readv_frames(
        self, ns: str, items: Sequence[Item], version: int | None = None
    ) -> Iterator[tuple[int, bytes | DaemonError]]:
        """``(index, bytes)`` for each item in order, or ``(index, DaemonError)`` for one that failed.

        Every frame's CRC-32C is verified. Items are cut at the end of their file. An item is held in
        memory whole; ``frames`` gives its pieces.
        """
        pieces: list[bytes] = []
        for frame in self.frames(ns, items, version):
            if frame_format.is_failure(frame.status):
                pieces = []
                yield frame.index, problem_error(frame.payload, frame.status, f"{self.base_url}/readv", None)
                continue
            pieces.append(frame.payload)
            if frame_format.ends_item(frame.status):
                yield frame.index, b"".join(pieces)
                pieces = []

    def frames(self, ns: str, items: Sequence[Item], version: int | None = None) -> Iterator[Frame]:
        """Every frame of a batch as it arrives, verified, at most one page of memory at a time.

        Ends after the last frame of the last item; a body that ends sooner is ``ShortRead``, one that goes
        on ``BadAnswer``.
        """
        response = self._readv(ns, items, version, frame_format.MEDIA_TYPE)
        url = f"{self.base_url}/readv"
        with Body(response, url, None) as body:
            if media_type(response) != frame_format.MEDIA_TYPE:
                found = media_type(response) or "no type"
                raise BadAnswer(f"{url} answered {found}, not {frame_format.MEDIA_TYPE}")
            index = 0
            while index < len(items):
                frame = read_frame(body, index, url)
                yield frame
                index += frame_format.ends_item(frame.status)
            if body.read(1):
                raise BadAnswer(f"{url} goes on after the last of {len(items)} items")

    # -- straight to the store, for looking into trouble -----------------------------------------------

    def test_head(
        self, ns: str | None = None, path: str | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """``{key, size, etag, last_modified}`` of the object behind a file, from the store."""
        return self._json("/test_head", {"ns": ns, "path": path, "key": key})

    def test_s3(
        self,
        ns: str | None = None,
        path: str | None = None,
        *,
        off: int,
        length: int,
        key: str | None = None,
    ) -> dict[str, Any]:
        """``{key, off, len, bytes, seconds, status}`` of one GET that passes the cache by."""
        return self._json("/test_s3", {"ns": ns, "path": path, "key": key, "off": off, "len": length})

    def test_stream(self, ns: str, path: str, page_id: int) -> dict[str, Any]:
        """Brings one page into L2: ``{page_id, off, len, crc32c, tier, bytes_fetched}``."""
        return self._json("/test_stream", {"ns": ns, "path": path, "page_id": page_id})

    # -- the daemon itself -------------------------------------------------------------------------

    def health(self) -> bool:
        """True while the process lives; raises where it does not answer."""
        with self._body("/healthz", {}) as body:
            return body.read().strip() == b"ok"

    def ready(self) -> Readiness:
        """Whether the daemon can serve now, and why not."""
        response = self._request("GET", "/readyz", {}, accepted=(200, 503))
        ready = response.status_code == 200
        url = f"{self.base_url}/readyz"
        with body_of(response, url) as body:
            return Readiness(ready=ready, document=decode_document(body.read(), url))

    def metrics(self) -> str:
        """Every counter, in Prometheus's text format."""
        with self._body("/metrics", {}) as body:
            return body.read().decode("utf-8", "replace")

    def advisor(self) -> dict[str, Any]:
        """``{namespaces: [{ns, version, files, bytes, gets_made, gets_saved, ...}]}``."""
        return self._json("/advisor", {})

    def close(self) -> None:
        """Close idle connections. A session that was handed in stays its owner's, and open."""
        if self._is_own:
            self._session_here().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- how ---------------------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        call: str,
        query: Mapping[str, str | int | None],
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accepted: tuple[int, ...] = (200,),
    ) -> requests.Response:
        """One request, its answer's head read; whatever is not ``accepted`` is raised."""
        url = self._root + call + _encoded(query)
        try:
            response = self._session_here().request(
                method,
                url,
                data=data,
                # A body that a proxy has compressed could not be counted against its length.
                headers={"Accept-Encoding": "identity", **(headers or {})},
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise DaemonUnreachable(
                f"no answer from {self.base_url}: {reason_of(error)}", url=self.base_url
            ) from error
        if response.status_code in accepted:
            return response
        raise refusal(response, self.base_url + call)

    def _readv(self, ns: str, items: Sequence[Item], version: int | None, accept: str) -> requests.Response:
        try:
            data = msgspec.json.encode([{"path": path, "off": off, "len": size} for path, off, size in items])
        except UnicodeEncodeError as error:
            raise InvalidName("a path of the batch is not valid Unicode", where="items") from error
        return self._request(
            "POST",
            "/readv",
            {"ns": ns, "version": version},
            data=data,
            headers={"Accept": accept, "Content-Type": "application/json"},
        )

    def _body(self, call: str, query: Mapping[str, str | int | None], *, method: str = "GET") -> Body:
        return body_of(self._request(method, call, query), self.base_url + call)

    def _json(self, call: str, query: Mapping[str, str | int | None]) -> dict[str, Any]:
        with self._body(call, query) as body:
            return decode_document(body.read(), self.base_url + call)

    def _session_here(self) -> requests.Session:
        """The session, with connections of this process."""
        # Without a lock, which could itself be held at a fork: two threads that come here at once open
        # a connection more than one would have.
        if self._pid != os.getpid():
            if self._is_own:
                _inherited.append(self._session)
                self._session = self._mounted(_own_session())
            else:
                _begin_anew(self._session)
            self._pid = os.getpid()
        return self._session

    def _mounted(self, session: requests.Session) -> requests.Session:
        """``session``, which leads to the daemon's Unix socket if it has one."""
        if self._socket_path is not None and f"{self._root}/" not in session.adapters:
            session.mount(f"{self._root}/", UnixSocketAdapter(self._socket_path, pool_maxsize=POOL_SIZE_MAX))
        return session


def _begin_anew(session: requests.Session) -> None:
    """Give a session that has come through a fork connections, and locks, of this process."""
    for adapter in session.adapters.values():
        if isinstance(adapter, requests.adapters.HTTPAdapter):
            _inherited.append(dict(vars(adapter)))
            # As unpickling does, for the same reason: connections are no part of an adapter's state.
            adapter.__setstate__(adapter.__getstate__())  # type: ignore[attr-defined]  # not in the stubs
        else:
            adapter.close()
    session.cookies = copy.copy(session.cookies)


def _own_session() -> requests.Session:
    session = requests.Session()
    # Neither proxies nor .netrc: the file would be looked for at every single request.
    session.trust_env = False
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=POOL_SIZE_MAX)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def check_url(base_url: str) -> str:
    """The address of a daemon, of HTTP without a slash at its end; ``BadRequest`` for what cannot be one."""
    try:
        if _socket_path(base_url) is not None:
            return str(ListenAddress.parse(base_url))
        parts = urlsplit(base_url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_usable = is_usable and not (parts.query or parts.fragment)
    except (ValueError, Refused):
        is_usable = False
    if not is_usable:
        raise BadRequest(
            f"{base_url!r} is no address of a daemon: http://HOST:PORT is, or unix:/PATH of at most"
            f" {UNIX_SOCKET_PATH_BYTES_MAX} bytes",
            url=base_url,
        )
    return base_url.rstrip("/")


def _socket_path(base_url: str) -> str | None:
    return base_url.removeprefix("unix:") if base_url.startswith("unix:") else None


def _blob_query(
    ns: str, path: str, version: int | None, file_hash: str | None
) -> dict[str, str | int | None]:
    return {"ns": ns, "path": path, "version": version, "hash": file_hash}


def _encoded(query: Mapping[str, str | int | None]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    try:
        return "?" + urlencode(given, quote_via=quote, safe="/") if given else ""
    except UnicodeEncodeError as error:
        raise InvalidName("a name that is not valid Unicode", where="query") from error
