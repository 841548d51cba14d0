"""Where a request goes and how it is signed: addressing, percent-encoding, SigV4, credentials.

A target is percent-encoded once, here. The same text is signed and sent, so that keys with
spaces, ``+``, ``%``, ``//`` or any letter of Unicode mean the same to both sides. A request is
signed at the moment of sending, with credentials that botocore has refreshed by then.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import botocore.session
from attrs import define, field, frozen
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError

from seekfs_core.errors import FailureKind, StoreFailure
from seekfs_io.config import S3Config
from seekfs_io.objects.base import StoreError

# botocore writes canonical requests and signatures at debug level; nobody is to see them.
logging.getLogger("botocore").setLevel(logging.INFO)

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
    root = quote(parts.path.rstrip("/"), safe=_PATH_SAFE + "%")
    if virtual:
        hostname = f"{config.bucket}.{hostname}"
    else:
        root = f"{root}/{quote(config.bucket, safe=_QUERY_SAFE)}"
    host = f"[{hostname}]" if _is_ipv6(hostname) else hostname
    if parts.port is not None and port != (443 if parts.scheme == "https" else 80):
        host = f"{host}:{port}"
    return Address(scheme=parts.scheme, connect_host=hostname, port=port, host=host, root=root)


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


@define
class Signer:
    """Adds what proves who asks. Calls may come from many threads.

    The credential chain is looked up at the first request and again in a forked child: a lock of
    botocore's may have been held by another thread at the fork.
    """

    config: S3Config
    address: Address
    _lock: threading.Lock = field(factory=threading.Lock, init=False, repr=False)
    _credentials: Credentials | None = field(default=None, init=False, repr=False)
    _used: ReadOnlyCredentials | None = field(default=None, init=False, repr=False)
    _pid: int = field(default=0, init=False)

    def headers(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | memoryview | None
    ) -> dict[str, str]:
        """All headers of a request that is sent now. Raises ``StoreError`` (``DENIED``) where no
        credentials can be had."""
        every = {"Host": self.address.host, **headers}
        if self.config.anonymous:
            return every
        self._used = credentials = self._frozen_credentials()
        request = AWSRequest(
            method=method,
            url=f"{self.address.scheme}://{self.address.host}{target}",
            headers=every,
            data=b"" if body is None else body,
        )
        S3SigV4Auth(credentials, "s3", self.config.region).add_auth(request)
        return dict(request.headers.items())

    def redact(self, text: str) -> str:
        """``text`` without the secrets of the credentials last used, wherever a store may echo them."""
        used = self._used
        for secret in () if used is None else (used.secret_key, used.token):
            if secret:
                text = text.replace(secret, "********")
        return text

    def _frozen_credentials(self) -> ReadOnlyCredentials:
        try:
            return self._current().get_frozen_credentials()
        except BotoCoreError as error:
            # The messages of botocore name files, profiles and providers, not their content; those
            # of a provider process may quote its output.
            raise _denied(f"the AWS credential chain failed: {type(error).__name__}") from None

    def _current(self) -> Credentials:
        pid = os.getpid()
        if self._pid != pid:
            # Before the lock: one that was held at the fork is never released in the child.
            self._lock, self._credentials, self._pid = threading.Lock(), None, pid
        with self._lock:
            if self._credentials is None:
                self._credentials = self._look_up()
            return self._credentials

    def _look_up(self) -> Credentials:
        config = self.config
        if config.access_key_id is not None and config.secret_access_key is not None:
            return Credentials(config.access_key_id, config.secret_access_key, config.session_token)
        found = botocore.session.Session().get_credentials()
        if found is None:
            raise _denied(
                "no credentials: neither s3.access_key_id is configured, nor does the AWS credential chain "
                "(environment, shared files, container, instance) know any; s3.anonymous = true asks unsigned"
            )
        return found


def _denied(detail: str) -> StoreError:
    return StoreError(StoreFailure(kind=FailureKind.DENIED, detail=detail))
