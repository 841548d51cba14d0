"""Publications put on trial: what one asks of the store, how one goes wrong at a chosen request, and what
must hold of a namespace afterwards, whatever happened to whom.

Nothing here is told which requests a publication makes: a clean one is recorded, and every request that it
made can be named afterwards (``RequestName``). One that is added to the code is there the next time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

from attrs import define, field, frozen
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from seekfs_core.manifest import Manifest
from seekfs_core.names import format_head, head_key, manifest_key, parse_head
from seekfs_io import publisher
from seekfs_io.config import Config, S3Config
from seekfs_io.objects.base import ObjectStore
from tests.support.exchanges import Exchange
from tests.support.objects import listed
from tests.support.wire import Head

Files = Mapping[str, bytes]
"""By path."""

_VERSIONS_MAX = 1_000


# --- which request -------------------------------------------------------------------------------


@frozen
class RequestName:
    """One request of a publication, whatever namespace it is to: the how manyeth (from 0) of this method to
    this key, which begins behind the namespace's prefix. ``step`` is one of a multipart upload."""

    method: str
    key: str
    step: str
    nth: int

    def __str__(self) -> str:
        return " ".join(filter(None, (self.method, self.key, self.step, f"#{self.nth + 1}")))


def requests_of(exchanges: Iterable[Exchange], ns: str) -> list[RequestName]:
    """The names of what was recorded, in its order."""
    names: list[RequestName] = []
    for exchange in exchanges:
        kind = _kind_of(exchange, ns)
        nth = sum((name.method, name.key, name.step) == kind for name in names)
        names.append(RequestName(*kind, nth))
    return names


def _kind_of(exchange: Exchange, ns: str) -> tuple[str, str, str]:
    query = exchange.query
    if "uploads" in query:
        step = "begin"
    elif "partNumber" in query:
        step = f"part {query['partNumber']}"
    else:
        step = "upload" if "uploadId" in query else ""
    return exchange.method, exchange.key.removeprefix(f"namespaces/{ns}/"), step


@define
class Is:
    """Matches one request of a publication to ``ns``; made for one use."""

    name: RequestName
    ns: str
    _left: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self.name.nth

    def __call__(self, exchange: Exchange) -> bool:
        if _kind_of(exchange, self.ns) != (self.name.method, self.name.key, self.name.step):
            return False
        self._left -= 1
        return self._left < 0


# --- a store that ignores conditions --------------------------------------------------------------


@frozen
class Ignoring:
    """Changes a request to what a store that ignores ``condition`` would have heard: the header is not there,
    and the signature is that of a request without it."""

    condition: str
    s3: S3Config

    def __call__(self, head: Head) -> Head:
        if head.get(self.condition) is None:
            return head
        method, target, _ = head.line.split(" ", 2)
        bare = head.without(self.condition).without("Authorization")
        request = AWSRequest(
            method=method,
            url=f"http://{bare.get('host')}{target}",
            headers={name: bare.get(name) for name in ("Host", "X-Amz-Content-SHA256")},
        )
        _SignsWithoutBody(self.s3).add_auth(request)
        for name in ("X-Amz-Date", "Authorization"):
            bare = bare.with_header(name, request.headers[name])
        return bare


class _SignsWithoutBody(S3SigV4Auth):
    """Signs a request whose body is not at hand, by the digest of it that the client has sent."""

    def __init__(self, s3: S3Config) -> None:
        assert s3.access_key_id is not None
        assert s3.secret_access_key is not None
        super().__init__(Credentials(s3.access_key_id, s3.secret_access_key), "s3", s3.region)
        self._digest = ""

    def add_auth(self, request: AWSRequest) -> None:
        self._digest = request.headers["X-Amz-Content-SHA256"]
        super().add_auth(request)

    def payload(self, request: AWSRequest) -> str:
        return self._digest


# --- what must hold -------------------------------------------------------------------------------


@frozen
class Namespace:
    """As whoever has the keys to the bucket sees it."""

    store: ObjectStore
    config: Config
    ns: str

    def versions(self) -> list[Manifest]:
        """All of them, from 1 on, each checked; raises where one cannot be read."""
        prefix = manifest_key(self.ns, 1).partition("v-")[0]
        numbers = []
        for each in listed(self.store, prefix):
            found = re.fullmatch(r"v-([1-9][0-9]*)\.json\.gz", each.key.removeprefix(prefix))
            assert found is not None, each.key
            numbers.append(int(found[1]))
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), sorted(numbers)
        return [publisher.load(self.store, self.config, self.ns, version) for version in sorted(numbers)]

    def audit(self, changes: Iterable[Files]) -> list[Manifest]:
        """The versions, of which this holds: each has what the one before it has, and one of ``changes``,
        whole; there is one for each, and HEAD is at the last; all of their bytes are in the bucket."""
        versions = self.versions()
        left = [{path: hashlib.sha256(data).digest() for path, data in files.items()} for files in changes]
        assert len(versions) == len(left), f"{len(versions)} versions of {len(left)} publications"
        assert len({each.publication_id for each in versions}) == len(versions)
        before: dict[str, bytes] = {}
        for manifest in versions:
            after = {path: entry.sha256 for path, entry in manifest.files.items()}
            assert manifest.parents == ((manifest.version - 1,) if manifest.version > 1 else ())
            assert manifest.tombstones == ()
            assert not before.keys() - after.keys(), f"v-{manifest.version} lost what was there"
            changed = {path: digest for path, digest in after.items() if before.get(path) != digest}
            made = [each for each in left if changed.items() <= each.items() <= after.items()]
            assert made, f"v-{manifest.version} is half a publication, or nobody's: {sorted(changed)}"
            left.remove(made[0])
            before = after
        assert publisher.load(self.store, self.config, self.ns).version == len(versions)
        found = publisher.verify(self.store, self.config, self.ns)
        assert found.differences == ()
        return versions


def check_head_only_moves_forward(exchanges: Iterable[Exchange], ns: str) -> int:
    """Whether every PUT of HEAD of which the store has heard all, answered or not, could move it forward
    only: each names what it replaces, or that there is nothing, and the store honours that. How many there
    were."""
    versions = {_etag_of_head(version): version for version in range(1, _VERSIONS_MAX)}
    moves = 0
    for exchange in exchanges:
        if exchange.method != "PUT" or exchange.key != head_key(ns):
            continue
        if exchange.body_bytes_received < int(exchange.request.get("content-length") or 0):
            continue  # Broken off before all of it was sent.
        moves += 1
        old = exchange.request.get("if-match")
        if old is None:
            assert exchange.request.get("if-none-match") == "*", exchange.request
            continue
        assert parse_head(exchange.body_start, ns=ns) > versions[old], (exchange.body_start, old)
    return moves


def _etag_of_head(version: int) -> str:
    # As the server makes it of what is sent in one piece.
    return f'"{hashlib.md5(format_head(version)).hexdigest()}"'


def check_versions_grow(versions: list[Manifest]) -> None:
    """Each is a superset of its parent, entry by entry."""
    for before, after in pairwise(versions):
        assert before.files.items() <= after.files.items(), f"v-{after.version}"
