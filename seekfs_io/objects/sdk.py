"""The ``sdk`` engine: S3 over urllib3's connection pools, signed with botocore's SigV4.

Every call is one request, without retries, redirects or decoding. A response that is not read to
its end closes its connection, so that nobody reads a stale remainder from the pool. After a fork
the child begins with a pool of its own.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import ssl
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

import urllib3
from attrs import define, field, frozen
from urllib3.exceptions import HTTPError, InsecureRequestWarning, ReadTimeoutError

from seekfs_core.errors import FailureKind, Problem, StoreFailure
from seekfs_core.store_answers import (
    believed_etag,
    impossible_match,
    is_contradicted,
    is_length_believed,
    is_range_asked_for,
    is_upload_forgotten,
    was_bucket_there,
)
from seekfs_io.config import ConfigError, S3Config
from seekfs_io.objects.answers import (
    DOCUMENT_BYTES_MAX,
    ERROR_BYTES_MAX,
    bad_answer,
    child_text,
    failure_of,
    parse_content_range,
    parse_http_date,
    parse_http_time,
    parse_length,
    parse_list_page,
    parse_upload_id,
    parse_xml,
)
from seekfs_io.objects.base import ListPage, ObjectStat, StoreError
from seekfs_io.objects.connection_failures import failure_before_head, failure_in_body
from seekfs_io.objects.signing import Signed, Signer, address_of

_log = logging.getLogger("seekfs.store")

READ_BYTES_MAX = 1 << 20
"""How much is taken from a response at once: urllib3 hands out new bytes, which are copied into the
caller's view while they are still in the processor's cache."""


def open_sdk_store(config: S3Config, clock: Callable[[], float] = time.time) -> SdkStore:
    """``clock`` is this machine's, in seconds since 1970. Raises ``ConfigError`` where the CA bundle holds
    no certificates."""
    return SdkStore(config=config, tls=_tls_context(config), clock=clock)


def _tls_context(config: S3Config) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_bundle)
    except (ssl.SSLError, OSError) as error:
        what = f"{config.ca_bundle!r} holds no certificates in PEM form ({type(error).__name__})"
        raise ConfigError((Problem("s3.ca_bundle", what),)) from None
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if config.endpoint is None or config.endpoint.startswith("https:"):
            # One line instead of urllib3's warning for every request.
            urllib3.disable_warnings(InsecureRequestWarning)
            _log.warning("s3.verify is false: the certificate of the store is not checked")
    return context


@frozen(kw_only=True)
class _Answer:
    """A response whose body has been read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    signed: Signed
    """The request that it answers."""


class SdkReader:
    """The open body of one GET; see ``ObjectReader``. Belongs to one thread."""

    __slots__ = ("_position", "_response", "etag", "key", "size", "start", "stop")

    def __init__(
        self,
        response: urllib3.BaseHTTPResponse,
        *,
        key: str,
        etag: str | None,
        size: int,
        start: int,
        stop: int,
    ) -> None:
        self.key, self.etag, self.size, self.start, self.stop = key, etag, size, start, stop
        self._response: urllib3.BaseHTTPResponse | None = response
        self._position = start
        if start == stop:
            self._finish()

    def readinto(self, view: memoryview) -> int:
        want = min(len(view), self.stop - self._position, READ_BYTES_MAX)
        if want == 0:
            return 0
        if self._response is None:
            raise ValueError("read of a closed reader")
        try:
            count = self._response.readinto(view[:want])
        except (HTTPError, OSError) as error:
            self.close()
            raise StoreError(self._cut(error)) from None
        if count == 0:
            self.close()
            raise StoreError(self._cut(None))
        self._position += count
        if self._position == self.stop:
            self._finish()
        return count

    def abort(self) -> None:
        response = self._response
        if response is not None:
            # It may have been read to its end, or closed, in this very moment.
            with contextlib.suppress(ValueError, RuntimeError, OSError):
                response.shutdown()

    def _finish(self) -> None:
        """The body has been read to its end: its connection can serve another request."""
        response, self._response = self._response, None
        if response is not None:
            response.drain_conn()
            response.release_conn()

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()
            # The closed connection goes back to the pool, which opens it anew for its next request.
            response.release_conn()

    def _cut(self, error: Exception | None) -> StoreFailure:
        where = f"{self._position - self.start} of {self.stop - self.start} bytes of the body had come"
        if isinstance(error, ReadTimeoutError | TimeoutError):
            return StoreFailure(kind=FailureKind.TIMED_OUT, detail=f"GET fell silent when {where}")
        return StoreFailure(kind=FailureKind.CUT_SHORT, detail=f"GET broke off when {where}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@define
class SdkStore:
    """A bucket of an S3 server; see ``ObjectStore``."""

    config: S3Config
    tls: ssl.SSLContext
    clock: Callable[[], float] = time.time
    _signer: Signer = field(init=False)
    _pool: urllib3.HTTPConnectionPool | None = field(default=None, init=False)
    _pool_pid: int = field(default=0, init=False)
    name = "sdk"

    def __attrs_post_init__(self) -> None:
        self._signer = Signer(self.config, address_of(self.config), self.clock)

    def head(self, key: str) -> ObjectStat:
        answer = self._call("HEAD", key, expect=(200,))
        size = parse_length(answer.headers.get("content-length"))
        if size is None:
            raise bad_answer("HEAD was answered without a length", status=answer.status)
        return ObjectStat(
            key=key,
            size=size,
            etag=believed_etag(answer.headers.get("etag")),
            last_modified=parse_http_date(answer.headers.get("last-modified")),
        )

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str | None = None,
    ) -> SdkReader:
        if start < 0 or (stop is None and start) or (stop is not None and stop <= start):
            raise ValueError(f"no bytes lie in [{start}, {stop})")
        headers: dict[str, str] = {}
        if stop is not None:
            headers["Range"] = f"bytes={start}-{stop - 1}"
        if if_match is not None:
            headers["If-Match"] = _sendable(if_match)
        response, signed = self._send("GET", key, headers=headers)
        try:
            if response.status != (200 if stop is None else 206):
                raise self._refused("GET", response, signed, conditional=if_match is not None)
            return _reader(response, key=key, start=start, stop=stop, if_match=if_match)
        except BaseException:
            _discard(response)
            raise

    def put(
        self,
        key: str,
        body: bytes | memoryview,
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> str | None:
        headers = {"Content-Type": content_type}
        if if_none_match:
            headers["If-None-Match"] = "*"
        if if_match is not None:
            headers["If-Match"] = _sendable(if_match)
        answer = self._call("PUT", key, headers=headers, body=body, expect=(200, 201, 204))
        return believed_etag(answer.headers.get("etag"))

    def list_page(self, prefix: str, token: str | None = None) -> ListPage:
        query = {"list-type": "2", "prefix": prefix, "max-keys": "1000", "encoding-type": "url"}
        if token is not None:
            query["continuation-token"] = token
        return parse_list_page(self._call("GET", "", query=query, expect=(200,)).body)

    def create_upload(self, key: str) -> str:
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._call("POST", key, query={"uploads": ""}, headers=headers, expect=(200,))
        return parse_upload_id(answer.body)

    def upload_part(self, key: str, upload: str, number: int, body: bytes | memoryview) -> str:
        query = {"partNumber": str(number), "uploadId": upload}
        answer = self._call("PUT", key, query=query, body=body, expect=(200,))
        etag = believed_etag(answer.headers.get("etag"))
        if not etag:
            raise bad_answer(f"the answer for part {number} has no ETag", status=answer.status)
        return etag

    def complete_upload(
        self, key: str, upload: str, etags: Sequence[str], *, if_none_match: bool = False
    ) -> str | None:
        root = ElementTree.Element("CompleteMultipartUpload")
        root.set("xmlns", "http://s3.amazonaws.com/doc/2006-03-01/")
        for number, etag in enumerate(etags, 1):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = etag
        body = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
        headers = {"Content-Type": "application/xml"}
        if if_none_match:
            headers["If-None-Match"] = "*"
        answer = self._call(
            "POST", key, query={"uploadId": upload}, headers=headers, body=body, expect=(200,)
        )
        # The status is sent before the work is done: only the body says how it went.
        try:
            document = parse_xml(answer.body)
        except ElementTree.ParseError:
            raise bad_answer("the answer to CompleteMultipartUpload is not XML", status=200) from None
        if not document.tag.endswith("CompleteMultipartUploadResult"):
            raise StoreError(self._failure("POST", answer, conditional=if_none_match))
        return believed_etag(child_text(document, "ETag"))

    def abort_upload(self, key: str, upload: str) -> None:
        answer = self._call("DELETE", key, query={"uploadId": upload}, expect=(200, 204, 404))
        if answer.status == 404:
            failure = self._failure("DELETE", answer, conditional=False)
            if not is_upload_forgotten(failure.code):
                raise StoreError(failure)

    def create_bucket(self) -> bool:
        if self._call("HEAD", "", expect=(200, 404)).status == 200:
            return False
        body = b""
        if self.config.region != "us-east-1":
            root = ElementTree.Element("CreateBucketConfiguration")
            root.set("xmlns", "http://s3.amazonaws.com/doc/2006-03-01/")
            ElementTree.SubElement(root, "LocationConstraint").text = self.config.region
            body = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
        answer = self._call("PUT", "", body=body, expect=(200, 409))
        if answer.status == 200:
            return True
        failure = self._failure("PUT", answer, conditional=False)
        if was_bucket_there(failure.code):
            return False
        raise StoreError(failure)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _call(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview | None = None,
        expect: Collection[int],
    ) -> _Answer:
        """One request whose answer has a small body, read in full. Another status than those
        expected is a ``StoreError``."""
        response, signed = self._send(method, key, query=query or {}, headers=headers or {}, body=body)
        try:
            if response.status not in expect:
                conditional = not {"If-Match", "If-None-Match"}.isdisjoint(headers or {})
                raise self._refused(method, response, signed, conditional=conditional)
            content = _read_bounded(response, DOCUMENT_BYTES_MAX)
            if content is None:
                raise bad_answer(f"the answer to {method} is over {DOCUMENT_BYTES_MAX} bytes long")
        except BaseException as error:
            _discard(response)
            if isinstance(error, HTTPError | OSError):
                raise StoreError(failure_in_body(method, error)) from None
            raise
        response.release_conn()
        return _Answer(status=response.status, headers=_lower(response), body=content, signed=signed)

    def _send(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str],
        body: bytes | memoryview | None = None,
    ) -> tuple[urllib3.BaseHTTPResponse, Signed]:
        """Sign and send; the response with its body unread. Raises ``StoreError`` where no
        answer's head came."""
        address = self._signer.address
        target = address.target(key, query or {})
        signed = self._signer.sign(method, target, headers, body)
        # Not signed, since what stands between may change them.
        sent = {**signed.headers, "Accept-Encoding": "identity", "User-Agent": "seekfs"}
        if self.config.proxy is not None and address.scheme == "http":
            target = f"http://{address.host}{target}"
        try:
            response = self._current_pool().urlopen(
                method,
                target,
                body=body,  # type: ignore[arg-type]  # any buffer is sent as it is
                headers=sent,
                retries=False,
                redirect=False,
                assert_same_host=False,
                decode_content=False,
                preload_content=False,
            )
        except (HTTPError, OSError) as error:
            raise StoreError(failure_before_head(method, error)) from None
        if response.status < 300:
            self._signer.accepted(signed)
        return response, signed

    def _refused(
        self, method: str, response: urllib3.BaseHTTPResponse, signed: Signed, *, conditional: bool
    ) -> StoreError:
        try:
            body = _read_bounded(response, ERROR_BYTES_MAX) or b""
        except (HTTPError, OSError):
            body = b""
        answer = _Answer(status=response.status, headers=_lower(response), body=body, signed=signed)
        return StoreError(self._failure(method, answer, conditional=conditional))

    def _failure(self, method: str, answer: _Answer, *, conditional: bool) -> StoreFailure:
        # A store may quote what it was sent.
        body = answer.signed.redact(answer.body.decode("utf-8", "replace")).encode("utf-8")
        now = datetime.fromtimestamp(self._signer.now(), UTC)
        failure = failure_of(method, answer.status, answer.headers, body, conditional=conditional, now=now)
        date = parse_http_time(answer.headers.get("date"))
        return self._signer.put_right(answer.signed, failure, None if date is None else date.timestamp())

    def _current_pool(self) -> urllib3.HTTPConnectionPool:
        pool = self._pool
        if pool is None or self._pool_pid != os.getpid():
            # Two threads may both make one; the loser's serves its one request and is forgotten.
            pool = self._new_pool()
            self._pool, self._pool_pid = pool, os.getpid()
        return pool

    def _new_pool(self) -> urllib3.HTTPConnectionPool:
        config, address = self.config, self._signer.address
        timeout = urllib3.Timeout(connect=config.connect_timeout_sec, read=config.read_timeout_sec)
        # Connections beyond the pool's size are closed after use: one for each GET in flight, and a
        # few for what publishing and HEAD do beside them.
        size = config.max_inflight_gets + 8
        if config.proxy is not None:
            proxy = urlsplit(config.proxy)
            user = unquote(proxy.netloc.rpartition("@")[0])
            # Not urllib3's own way, which knows no letters but those of Latin-1.
            encoded = base64.b64encode(user.encode()).decode()
            manager = urllib3.ProxyManager(
                f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}",
                proxy_headers={"Proxy-Authorization": f"Basic {encoded}"} if user else None,
                proxy_ssl_context=self.tls,
                ssl_context=self.tls,
                timeout=timeout,
                maxsize=size,
                retries=False,
            )
            return manager.connection_from_host(address.connect_host, address.port, address.scheme)
        if address.scheme == "https":
            return urllib3.HTTPSConnectionPool(
                address.connect_host, address.port, timeout=timeout, maxsize=size, ssl_context=self.tls
            )
        return urllib3.HTTPConnectionPool(address.connect_host, address.port, timeout=timeout, maxsize=size)


def _reader(
    response: urllib3.BaseHTTPResponse, *, key: str, start: int, stop: int | None, if_match: str | None
) -> SdkReader:
    """The reader of a 200 or 206, after everything in its head was checked. Raises ``StoreError``."""
    headers = response.headers
    length = parse_length(headers.get("content-length"))
    etag = believed_etag(headers.get("etag"))
    if length is None or not is_length_believed(length, is_chunked="transfer-encoding" in headers):
        raise bad_answer("GET was answered without a length", status=response.status)
    if is_contradicted(if_match, etag):
        detail = f"GET If-Match {if_match} was answered with the object {etag}"
        raise StoreError(StoreFailure(kind=FailureKind.PRECONDITION, detail=detail, status=response.status))
    if stop is None:
        return SdkReader(response, key=key, etag=etag, size=length, start=0, stop=length)
    got = parse_content_range(headers.get("content-range"))
    if got is None or not is_range_asked_for(start, stop, got, length):
        raise bad_answer(
            f"GET of bytes {start}-{stop - 1} was answered with Content-Range "
            f"{headers.get('content-range')!r} and a length of {length}",
            status=response.status,
            object_size=None if got is None else got.size,
        )
    return SdkReader(response, key=key, etag=etag, size=got.size, start=start, stop=stop)


def _sendable(if_match: str) -> str:
    failure = impossible_match(if_match)
    if failure is not None:
        raise StoreError(failure)
    return if_match


def _read_bounded(response: urllib3.BaseHTTPResponse, bytes_max: int) -> bytes | None:
    """The whole body, or None where it is longer than ``bytes_max``."""
    content = bytearray()
    while chunk := response.read(64 << 10):
        content += chunk
        if len(content) > bytes_max:
            return None
    return bytes(content)


def _lower(response: urllib3.BaseHTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _discard(response: urllib3.BaseHTTPResponse) -> None:
    response.close()
    response.release_conn()
