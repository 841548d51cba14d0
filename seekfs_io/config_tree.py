"""The tree of the configuration: every key with its default and the rule of its values.

Classes and attributes are named exactly like the sections and keys of ``seekfs.toml``; beside a
size in fractional units stands a property in bytes. ``SCHEMA`` is read off the classes, so that
a key exists in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
from attrs import Factory, field, frozen

from seekfs_core.breaker import BreakerPolicy
from seekfs_core.budget import GetBudget
from seekfs_core.hedge import HedgePolicy
from seekfs_core.manifest import PAGE_SIZE_BYTES_MAX, PAGE_SIZE_BYTES_MIN, PAGE_SIZE_BYTES_MULTIPLE
from seekfs_core.memory_layout import memory_ceiling_of
from seekfs_core.namespace_budgets import NamespaceBudget
from seekfs_core.retry import RetryPolicy
from seekfs_io.config_rules import (
    GIB,
    KIB,
    MIB,
    ListenAddress,
    Rule,
    boolean,
    choice,
    is_bucket,
    is_credential,
    is_http_url,
    is_region,
    listen_address,
    namespace_budgets,
    number,
    pins,
    readable_file,
    size,
    text,
)

FILE_STORE_ROOT_DEFAULT = "./.seekfs/store"

DAY_SECONDS = 86_400
YEAR_SECONDS = 365 * DAY_SECONDS

FETCH_THREADS_MAX = 4096
"""Each GET in flight is a thread; more than this many is a typing error."""


def _key(default: Any, rule: Rule, *, alias: str | None = None) -> Any:
    return field(default=default, repr=not rule.secret, metadata={"rule": rule, "alias": alias})


@frozen(kw_only=True)
class L2Config:
    backend: str = _key("segmentstore", choice("segmentstore", "mem", aliases={"slabfile": "segmentstore"}))
    segment_path: str = _key("/var/lib/seekfs/l2", text("the path of a directory"), alias="slabfile_path")


@frozen(kw_only=True)
class CacheConfig:
    """Sizes are as asked for; the ``*_bytes`` properties are what they come to."""

    slab_size_mib: float = _key(
        8,
        number(
            PAGE_SIZE_BYTES_MIN / MIB,
            PAGE_SIZE_BYTES_MAX / MIB,
            multiple=(PAGE_SIZE_BYTES_MULTIPLE / MIB, "4 KiB (0.00390625)"),
        ),
    )
    l1_memory_gib: float = _key(32, size(GIB))
    l2_ssd_gib: float = _key(512, size(GIB))
    inflight_mib: float = _key(256, size(MIB))
    l2: L2Config = field(factory=L2Config, metadata={"section": L2Config})

    memory_bytes_available: int | None = None
    """What the machine or the control group has; not a key. None: unknown, no cap."""

    @property
    def slab_size_bytes(self) -> int:
        return int(self.slab_size_mib * MIB)

    @property
    def l1_memory_bytes(self) -> int:
        """The ceiling of pages in memory (L1, and L2 where that is ``mem``)."""
        return memory_ceiling_of(int(self.l1_memory_gib * GIB), self.memory_bytes_available)

    @property
    def l1_is_capped(self) -> bool:
        return self.l1_memory_bytes < int(self.l1_memory_gib * GIB)

    @property
    def l2_ssd_bytes(self) -> int:
        return int(self.l2_ssd_gib * GIB)

    @property
    def inflight_bytes(self) -> int:
        return int(self.inflight_mib * MIB)


@frozen(kw_only=True)
class S3Config:
    """``endpoint`` None is AWS itself, ``access_key_id`` None the usual AWS credential chain."""

    engine: str = _key("sdk", choice("sdk", "crt", "file"))
    endpoint: str | None = _key(None, text("the URL of an S3 server, or a directory", optional=True))
    region: str = _key("us-east-1", text('the name of a region, such as "us-east-1"', is_region))
    bucket: str = _key("seekfs", text("the name of a bucket", is_bucket))
    access_key_id: str | None = _key(
        None, text("an access key: visible ASCII without spaces", is_credential, optional=True)
    )
    secret_access_key: str | None = _key(
        None, text("a secret key: visible ASCII without spaces", is_credential, optional=True, secret=True)
    )
    session_token: str | None = _key(
        None, text("a session token: visible ASCII without spaces", is_credential, optional=True, secret=True)
    )
    addressing_style: str = _key("auto", choice("auto", "path", "virtual"))
    ca_bundle: str | None = _key(None, readable_file("the path of a PEM file that can be read"))
    verify: bool = _key(True, boolean())
    proxy: str | None = _key(
        None,
        text(
            '"http://[user:password@]host:port"',
            lambda url: is_http_url(url, user=True, path=False),
            optional=True,
            secret=True,
        ),
    )
    anonymous: bool = _key(False, boolean())
    get_budget_per_sec: float = _key(200, number(0, 1_000_000, above_low=True))
    get_budget_burst: int = _key(20, number(1, 1_000_000, whole=True))
    range_coalesce_max_mib: float = _key(32, size(MIB))
    max_inflight_gets: int = _key(128, number(1, FETCH_THREADS_MAX, whole=True))
    retry_max_attempts: int = _key(3, number(1, 100, whole=True))
    retry_initial_backoff_ms: float = _key(100, number(0, 60_000))
    hedge: bool = _key(True, boolean())
    hedge_min_ms: float = _key(50, number(0, 60_000))
    breaker_failures: int = _key(16, number(0, 1_000_000, whole=True))
    breaker_probe_sec: float = _key(1, number(0, DAY_SECONDS, above_low=True))
    breaker_probe_max_sec: float = _key(30, number(0, DAY_SECONDS, above_low=True))
    namespace_budgets: Mapping[str, Mapping[str, float]] = _key(Factory(dict), namespace_budgets())
    connect_timeout_sec: float = _key(5, number(0, DAY_SECONDS, above_low=True))
    read_timeout_sec: float = _key(20, number(0, DAY_SECONDS, above_low=True))

    @property
    def range_coalesce_max_bytes(self) -> int:
        return int(self.range_coalesce_max_mib * MIB)

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(
            attempts_max=self.retry_max_attempts,
            backoff_seconds_initial=self.retry_initial_backoff_ms / 1000,
        )

    @property
    def request_budget(self) -> GetBudget:
        return GetBudget(self.get_budget_per_sec, self.get_budget_burst)

    @property
    def hedge_policy(self) -> HedgePolicy:
        return HedgePolicy(is_on=self.hedge, seconds_min=self.hedge_min_ms / 1000)

    @property
    def breaker_policy(self) -> BreakerPolicy:
        return BreakerPolicy(
            failures_max=self.breaker_failures,
            probe_seconds_initial=self.breaker_probe_sec,
            probe_seconds_max=max(self.breaker_probe_sec, self.breaker_probe_max_sec),
        )

    @property
    def budgets_of_namespaces(self) -> dict[str, NamespaceBudget]:
        return {ns: self._budget_of(given) for ns, given in self.namespace_budgets.items()}

    def _budget_of(self, given: Mapping[str, float]) -> NamespaceBudget:
        per_second, bytes_per_second = given.get("get_per_sec"), given.get("mib_per_sec")
        burst = int(given.get("get_burst", self.get_budget_burst))
        return NamespaceBudget(
            requests=None if per_second is None else GetBudget(per_second, burst),
            # As much as flows in a second may come at once, and one whole GET in any case.
            bytes=None
            if bytes_per_second is None
            else GetBudget(
                bytes_per_second * MIB, max(int(bytes_per_second * MIB), self.range_coalesce_max_bytes)
            ),
        )

    @property
    def file_root(self) -> str:
        """The directory of the ``file`` engine that holds the bucket's."""
        endpoint = self.endpoint or FILE_STORE_ROOT_DEFAULT
        if endpoint.startswith("file:"):
            return unquote(urlsplit(endpoint).path)
        return endpoint

    @property
    def place(self) -> str:
        """Where the store is, for people."""
        return self.file_root if self.engine == "file" else self.endpoint or f"AWS in {self.region}"


@frozen(kw_only=True)
class ManifestConfig:
    head_ttl_sec: float = _key(10, number(0, YEAR_SECONDS))
    max_mib: float = _key(1024, size(MIB, bytes_min=KIB))
    pins: Mapping[str, int] = _key(Factory(dict), pins())

    @property
    def max_bytes(self) -> int:
        return int(self.max_mib * MIB)


@frozen(kw_only=True)
class ApiConfig:
    listen: str = _key("127.0.0.1:7070", listen_address())
    readv_max_mib: float = _key(4096, size(MIB, bytes_min=KIB))
    request_max_mib: float = _key(64, size(MIB, bytes_min=KIB))
    request_deadline_sec: float = _key(120, number(0, DAY_SECONDS, above_low=True))
    send_timeout_sec: float = _key(30, number(0, DAY_SECONDS, above_low=True))
    drain_sec: float = _key(60, number(0, DAY_SECONDS))
    debug: bool = _key(False, boolean())

    @property
    def address(self) -> ListenAddress:
        return ListenAddress.parse(self.listen)

    @property
    def readv_max_bytes(self) -> int:
        return int(self.readv_max_mib * MIB)

    @property
    def request_max_bytes(self) -> int:
        return int(self.request_max_mib * MIB)


@frozen(kw_only=True)
class TraceConfig:
    """``path`` None: nothing is recorded."""

    path: str | None = _key(None, text("the path of a file", optional=True))
    max_mib: float = _key(64, size(MIB))
    files: int = _key(4, number(1, 1000, whole=True))

    @property
    def max_bytes(self) -> int:
        return int(self.max_mib * MIB)


@frozen(kw_only=True)
class LogConfig:
    level: str = _key("info", choice("debug", "info", "warning", "error"))
    format: str = _key("text", choice("text", "json"))


@frozen(kw_only=True)
class Config:
    """Everything that can be set. ``Config()`` has the defaults of the specification."""

    cache: CacheConfig = field(factory=CacheConfig, metadata={"section": CacheConfig})
    s3: S3Config = field(factory=S3Config, metadata={"section": S3Config})
    manifest: ManifestConfig = field(factory=ManifestConfig, metadata={"section": ManifestConfig})
    api: ApiConfig = field(factory=ApiConfig, metadata={"section": ApiConfig})
    log: LogConfig = field(factory=LogConfig, metadata={"section": LogConfig})
    trace: TraceConfig = field(factory=TraceConfig, metadata={"section": TraceConfig})

    path: str | None = None
    """The file it was read from, or None; not a key."""


@frozen
class Schema:
    """The keys of the tree: ``cache.l2.backend`` → its rule, and the aliases of names."""

    rules: dict[str, Rule]
    aliases: dict[str, str]
    sections: frozenset[str]


def _read_schema() -> Schema:
    rules: dict[str, Rule] = {}
    aliases: dict[str, str] = {}
    sections: set[str] = set()

    def walk(kind: type[Any], prefix: str) -> None:
        for each in attrs.fields(kind):
            name = prefix + each.name
            if "section" in each.metadata:
                sections.add(name)
                walk(each.metadata["section"], f"{name}.")
            elif "rule" in each.metadata:
                rules[name] = each.metadata["rule"]
                if each.metadata["alias"]:
                    aliases[prefix + each.metadata["alias"]] = name

    walk(Config, "")
    return Schema(rules, aliases, frozenset(sections))


SCHEMA = _read_schema()
