"""Where a request goes and how it is signed: addressing, percent-encoding, SigV4, the clock.

A target is percent-encoded once, here. The same text is signed and sent, so that keys with
spaces, ``+``, ``%``, ``//`` or any letter of Unicode mean the same to both sides. A request is
signed at the moment of sending, with the credentials that are good then (``credentials``), by a clock
that is put right when the store complains of it.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import assert_never
from urllib.parse import quote, unquote_to_bytes, urlsplit

from attrs import define, field, frozen
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from seekfs_core.errors import StoreFailure
from seekfs_core.signatures import Remedy, not_put_right, put_right, remedy_of
from seekfs_io.config import S3Config
from seekfs_io.objects.base import StoreError
from seekfs_io.objects.credentials import CredentialChain, Held

_log = logging.getLogger("seekfs.store")

_PATH_SAFE = "/-_.~"
_QUERY_SAFE = "-_.~"


@frozen(kw_only=True)
class Address:
    """Where a bucket is. ``host`` is the Host header; ``root`` the percent-encoded path under
    which the bucket's keys lie, without a slash at its end."""

    scheme: str
    connect_host: str
    port: int
    host: str
    root: str

    def target(self, key: str, query: Mapping[str, str]) -> str:
        """The percent-encoded path and query of a request for ``key`` ("" for the bucket)."""
        path = f"{self.root}/{quote(key, safe=_PATH_SAFE)}" if key else self.root or "/"
        if not query:
            return path
        return f"{path}?{encoded_query(query)}"


def encoded_query(query: Mapping[str, str]) -> str:
    pairs = sorted(
        (quote(name, safe=_QUERY_SAFE), quote(value, safe=_QUERY_SAFE)) for name, value in query.items()
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def address_of(config: S3Config) -> Address:
    """How the bucket is addressed.

    ``auto`` is virtual-hosted on AWS itself where the bucket's name can be part of a host name,
    and path style everywhere else: what a custom endpoint answers for ``bucket.host`` is a
    matter of its DNS, and a name with a dot fits no wildcard certificate.
    """
    endpoint = config.endpoint or _aws_endpoint(config.region)
    parts = urlsplit(endpoint)
    hostname = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    virtual = config.addressing_style == "virtual" or (
        config.addressing_style == "auto" and config.endpoint is None and _fits_host_name(config.bucket)
    )
    root = _encoded_path(parts.path.rstrip("/"))
    if virtual:
        hostname = f"{config.bucket}.{hostname}"
    else:
        root = f"{root}/{quote(config.bucket, safe=_QUERY_SAFE)}"
    host = f"[{hostname}]" if _is_ipv6(hostname) else hostname
    if parts.port is not None and port != (443 if parts.scheme == "https" else 80):
        host = f"{host}:{port}"
    return Address(scheme=parts.scheme, connect_host=hostname, port=port, host=host, root=root)


def _encoded_path(path: str) -> str:
    """A path that may be percent-encoded already, in the one form that nobody on the way encodes anew:
    escapes in capitals, and of an escaped slash as well."""
    return "/".join(quote(unquote_to_bytes(segment), safe=_QUERY_SAFE) for segment in path.split("/"))


def _aws_endpoint(region: str) -> str:
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{suffix}"


def _fits_host_name(bucket: str) -> bool:
    label = bucket.replace("-", "")
    return label.isascii() and label.isalnum() and bucket == bucket.lower() and 3 <= len(bucket) <= 63


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


@frozen
class Signed:
    """The headers of a request that is sent now, and what they were signed with.

    ``held`` is None where nothing was signed. ``clock_offset_seconds`` is what the clock of this machine was
    corrected by.
    """

    headers: Mapping[str, str] = field(repr=False)
    held: Held | None
    clock_offset_seconds: float

    def redact(self, text: str) -> str:
        """``text`` without the secrets of this request, wherever a store may quote them."""
        if self.held is None:
            return text
        keys = self.held.keys
        signature = self.headers["Authorization"].rpartition("Signature=")[2]
        for secret in (keys.secret_key, keys.token, signature):
            if secret:
                text = text.replace(secret, "********")
        return text


class _SignedAt(S3SigV4Auth):
    """Signs for a time that it is told, in seconds since 1970: botocore's own is this machine's clock."""

    def __init__(self, keys: ReadOnlyCredentials, region: str, time_signed: float) -> None:
        super().__init__(keys, "s3", region)
        self._time_signed = time_signed

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._time_signed))
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # not in the stubs


@define
class Signer:
    """Adds what proves who asks. Calls may come from many threads.

    ``clock`` is this machine's, in seconds since 1970; it may be wrong.
    """

    config: S3Config
    address: Address
    clock: Callable[[], float] = time.time
    _offset_seconds: float = field(default=0.0, init=False)
    _fixed: Held | None = field(default=None, init=False)
    _chain: CredentialChain = field(init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        config = self.config
        self._chain = CredentialChain(config.read_timeout_sec, self.now)
        if config.access_key_id is not None and config.secret_access_key is not None:
            keys = ReadOnlyCredentials(config.access_key_id, config.secret_access_key, config.session_token)
            self._fixed = Held(0, keys)

    def now(self) -> float:
        """Seconds since 1970, as the store counts them where it has said so."""
        return self.clock() + self._offset_seconds

    def sign(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | memoryview | None
    ) -> Signed:
        """All headers of a request that is sent now. Raises ``StoreError`` where no credentials are to be
        had."""
        every = {"Host": self.address.host, **headers}
        if self.config.anonymous:
            return Signed(every, None, 0.0)
        held = self._fixed or self._chain.held()
        request = AWSRequest(
            method=method,
            url=f"{self.address.scheme}://{self.address.host}{target}",
            headers=every,
            data=b"" if body is None else body,
        )
        offset = self._offset_seconds
        _SignedAt(held.keys, self.config.region, self.clock() + offset).add_auth(request)
        return Signed(dict(request.headers.items()), held, offset)

    def accepted(self, signed: Signed) -> None:
        """The store has done what was asked."""
        if signed.held is not None and signed.held is not self._fixed:
            self._chain.accepted(signed.held)

    def put_right(self, signed: Signed, failure: StoreFailure, store_time: float | None) -> StoreFailure:
        """What a refusal comes to once what was wrong with the signature has been put right.

        ``store_time`` is the answer's ``Date``, in seconds since 1970. May wait for credentials.
        """
        if signed.held is None:
            return failure
        local = self.clock()
        error = None if store_time is None else store_time - (local + signed.clock_offset_seconds)
        can_renew = signed.held is not self._fixed
        match remedy_of(failure.status, failure.code, error, can_renew=can_renew):
            case None:
                return failure
            case Remedy.CORRECT_CLOCK:
                assert store_time is not None
                self._correct_clock(signed, store_time - local)
            case Remedy.RENEW_CREDENTIALS:
                try:
                    if not self._chain.replaced(signed.held):
                        return failure
                except StoreError as none:
                    return not_put_right(failure, none.failure)
            case remedy:
                assert_never(remedy)
        return put_right(failure)

    def _correct_clock(self, signed: Signed, offset_seconds: float) -> None:
        with self._lock:
            if self._offset_seconds != signed.clock_offset_seconds:
                return  # Another request that was signed by the same clock has done so.
            self._offset_seconds = offset_seconds
        _log.warning(
            "the clock of this machine is %.0f seconds %s the store's, which refuses what is signed by it; "
            "requests are signed by the store's time from now on",
            abs(offset_seconds),
            "behind" if offset_seconds > 0 else "ahead of",
        )
