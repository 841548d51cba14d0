"""The configuration: what the specification says of single keys, of the file, and of values together. What
holds of every key alike is in ``test_config_schema``.
"""

from __future__ import annotations

import json
import pickle
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from seekfs_core.budget import GetBudget
from seekfs_core.namespace_budgets import NamespaceBudget
from seekfs_io.config import (
    Config,
    ConfigError,
    ListenAddress,
    as_table,
    load_config,
    render_config,
)
from seekfs_io.config_tree import SCHEMA

GIB = 1 << 30
MIB = 1 << 20
KIB = 1 << 10

# What else must be given for a key's value to make sense.
COMPANIONS: dict[str, dict[str, str]] = {
    "s3.access_key_id": {"s3.secret_access_key": '"abc"'},
    "s3.secret_access_key": {"s3.access_key_id": '"abc"'},
    "s3.session_token": {"s3.access_key_id": '"abc"', "s3.secret_access_key": '"abc"'},
}


def load(
    path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    memory: int | None = 64 * GIB,
) -> Config:
    return load_config(None if path is None else str(path), overrides, environ or {}, lambda: memory)


def write(directory: Path, text: str) -> Path:
    path = directory / "test.toml"
    path.write_text(text, encoding="utf-8")
    return path


def toml(values: Mapping[str, str]) -> str:
    lines = []
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        lines.append(f"{section}.{name} = {value}")
    return "\n".join(lines) + "\n"


def value_of(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def problems_of(*arguments: Any, **keywords: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **keywords)
    return {problem.where: problem.what for problem in caught.value.problems}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def test_where_the_file_is_found(tmp_path: Path) -> None:
    named = write(tmp_path, "[s3]\nbucket = 'named'\n")
    other = tmp_path / "other.toml"
    other.write_text("[s3]\nbucket = 'other'\n")
    environ = {"SEEKFS_CONFIG": str(other)}
    assert load(named, environ=environ).s3.bucket == "named"
    assert load(environ=environ).s3.bucket == "other"
    Path("seekfs.toml").write_text("[s3]\nbucket = 'here'\n")
    assert load(environ=environ).s3.bucket == "other"
    assert load().s3.bucket == "here"
    assert load().path == "seekfs.toml"


def test_without_a_file_a_newcomer_needs_no_server() -> None:
    config = load()
    assert (config.path, config.s3.engine, config.s3.file_root) == (None, "file", "./.seekfs/store")
    assert config.cache.l2.segment_path == "./.seekfs/l2"
    changed = load(environ={"SEEKFS_S3_ENGINE": "sdk", "SEEKFS_CACHE_L2_SEGMENT_PATH": "/l2"})
    assert (changed.s3.engine, changed.s3.endpoint, changed.cache.l2.segment_path) == ("sdk", None, "/l2")


def test_an_empty_file_has_the_defaults_of_the_specification(tmp_path: Path) -> None:
    config = load(write(tmp_path, ""), memory=None)
    assert attrs.evolve(config, path=None) == Config()
    assert (config.s3.engine, config.s3.endpoint, config.s3.access_key_id) == ("sdk", None, None)
    assert config.cache.l2.segment_path == "/var/lib/seekfs/l2"


def test_the_file_of_the_repository_shows_every_default() -> None:
    path = Path(__file__).parents[2] / "seekfs.toml"
    config = load(path, memory=None)
    shown = {"s3.endpoint": "http://localhost:9000"}
    shown |= {"s3.access_key_id": "minioadmin", "s3.secret_access_key": "minioadmin"}
    for key in SCHEMA.rules:
        assert value_of(config, key) == shown.get(key, value_of(Config(), key))
    written = {
        f"{section}.{key}" for section, table in tomllib.loads(path.read_text()).items() for key in table
    }
    absent = {
        "manifest.max_mib",
        "s3.session_token",
        "s3.addressing_style",
        "s3.ca_bundle",
        "s3.verify",
        "s3.proxy",
        "s3.anonymous",
        "s3.hedge",
        "s3.hedge_min_ms",
        "s3.breaker_failures",
        "s3.breaker_probe_sec",
        "s3.breaker_probe_max_sec",
        "s3.namespace_budgets",
        "trace.path",
        "trace.max_mib",
        "trace.files",
    }
    assert written | absent == {key for key in SCHEMA.rules if not key.startswith("cache.l2.")} | {"cache.l2"}


WRONG_VALUES: list[tuple[str, str]] = [
    ("cache.slab_size_mib", "true"),
    ("cache.slab_size_mib", '"8"'),
    ("cache.slab_size_mib", "0.05"),
    ("cache.slab_size_mib", "65"),
    ("cache.slab_size_mib", "1.001"),
    ("cache.slab_size_mib", "nan"),
    ("cache.l1_memory_gib", "0"),
    ("cache.l1_memory_gib", "-0.0"),
    ("cache.l1_memory_gib", "1e-5"),
    ("cache.l1_memory_gib", "-1"),
    ("cache.l1_memory_gib", "inf"),
    ("cache.l1_memory_gib", "nan"),
    ("cache.l1_memory_gib", "[1]"),
    ("cache.l2_ssd_gib", "1e300"),
    ("cache.inflight_mib", "{}"),
    ("cache.inflight_mib", "0.06"),
    ("cache.l2.backend", '"disk"'),
    ("cache.l2.backend", "1"),
    ("cache.l2.segment_path", '""'),
    ("cache.l2.segment_path", '"a\\u0000b"'),
    ("cache.l2.segment_path", '" "'),
    ("cache.l2.segment_path", '"\\u00a0\\u2003"'),
    ("cache.l2.segment_path", '"a\\nb"'),
    ("s3.engine", '"SDK"'),
    ("s3.endpoint", '""'),
    ("s3.endpoint", '" "'),
    ("s3.endpoint", '"localhost:9000"'),
    ("s3.endpoint", '"ftp://localhost"'),
    ("s3.endpoint", '"http://"'),
    ("s3.endpoint", '"http://host:port"'),
    ("s3.endpoint", '"http://host:70000"'),
    ("s3.endpoint", '"http://host?x=1"'),
    ("s3.endpoint", '"http://user:word@host"'),
    ("s3.endpoint", '"file:///data"'),
    ("s3.region", '"us east"'),
    ("s3.bucket", '"a/b"'),
    ("s3.bucket", '".."'),
    ("s3.ca_bundle", '"/does/not/exist.pem"'),
    ("s3.verify", "0"),
    ("s3.verify", '"false"'),
    ("s3.proxy", '"proxy:3128"'),
    ("s3.anonymous", "1"),
    ("s3.get_budget_per_sec", "0"),
    ("s3.get_budget_burst", "0"),
    ("s3.get_budget_burst", "1.5"),
    ("s3.get_budget_burst", "true"),
    ("s3.range_coalesce_max_mib", "0"),
    ("s3.range_coalesce_max_mib", "1e-7"),
    ("s3.max_inflight_gets", "0"),
    ("s3.hedge", "1"),
    ("s3.hedge_min_ms", "-1"),
    ("s3.breaker_failures", "-1"),
    ("s3.breaker_failures", "2.5"),
    ("s3.breaker_probe_sec", "0"),
    ("s3.breaker_probe_max_sec", "0"),
    ("s3.namespace_budgets", "[]"),
    ("s3.namespace_budgets", "{ dev = 5 }"),
    ("s3.namespace_budgets", "{ Dev = { get_per_sec = 5 } }"),
    ("s3.namespace_budgets", "{ dev = { gets = 5 } }"),
    ("s3.namespace_budgets", "{ dev = { get_per_sec = 0 } }"),
    ("s3.namespace_budgets", "{ dev = { get_per_sec = true } }"),
    ("s3.namespace_budgets", "{ dev = { get_per_sec = 5, get_burst = 0 } }"),
    ("s3.namespace_budgets", "{ dev = { get_burst = 5 } }"),
    ("s3.namespace_budgets", "{ dev = { mib_per_sec = -1 } }"),
    ("s3.max_inflight_gets", "1e1"),
    ("s3.retry_max_attempts", "0"),
    ("s3.retry_initial_backoff_ms", "-1"),
    ("s3.connect_timeout_sec", "0"),
    ("s3.read_timeout_sec", "1e9"),
    ("s3.addressing_style", '"Path"'),
    ("s3.access_key_id", '"a b"'),
    ("s3.secret_access_key", '"a\\nb"'),
    ("manifest.head_ttl_sec", "-0.1"),
    ("manifest.max_mib", "0"),
    ("manifest.max_mib", "1e-7"),
    ("manifest.pins", "[]"),
    ("manifest.pins", "{ dev = 0 }"),
    ("manifest.pins", "{ dev = 9223372036854775808 }"),
    ("manifest.pins", "{ dev = true }"),
    ("manifest.pins", "{ dev = 1.0 }"),
    ("manifest.pins", '{ dev = "1" }'),
    ("manifest.pins", "{ Dev = 1 }"),
    ("api.listen", '""'),
    ("api.listen", '":7070"'),
    ("api.listen", '"127.0.0.1"'),
    ("api.listen", '"127.0.0.1:"'),
    ("api.listen", '"127.0.0.1:65536"'),
    ("api.listen", '"127.0.0.1:+1"'),
    ("api.listen", '"127.0.0.1:７"'),
    ("api.listen", '"::1:7070"'),
    ("api.listen", '"[localhost]:7070"'),
    ("api.listen", '"[::1]"'),
    ("api.listen", '"unix:"'),
    ("api.listen", '"unix: "'),
    ("api.listen", '"unix:/a\\tb"'),
    ("api.listen", f'"unix:/{"x" * 107}"'),
    ("api.listen", "7070"),
    ("api.readv_max_mib", "0"),
    ("api.readv_max_mib", "9e-4"),
    ("api.request_max_mib", "nan"),
    ("api.request_max_mib", "1e-7"),
    ("api.request_deadline_sec", "0"),
    ("api.send_timeout_sec", "0"),
    ("api.drain_sec", "-1"),
    ("api.debug", '"yes"'),
    ("log.level", '"INFO"'),
    ("log.format", '"xml"'),
]


@pytest.mark.parametrize(("key", "written"), WRONG_VALUES)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(
    tmp_path: Path, key: str, written: str
) -> None:
    values = COMPANIONS.get(key, {}) | {key: written}
    found = problems_of(write(tmp_path, toml(values)))
    assert list(found) == [key]
    assert "it must be" in found[key] or "give" in found[key]


@pytest.mark.parametrize(
    "key", ["api.drain_sec", "cache.slab_size_mib", "s3.get_budget_burst", "manifest.pins"]
)
def test_a_number_of_thousands_of_digits_is_a_wrong_value_like_any_other(tmp_path: Path, key: str) -> None:
    number = f"0x{'f' * 9000}"
    value = f"{{ dev = {number} }}" if key == "manifest.pins" else number
    (what,) = problems_of(write(tmp_path, f"{key} = {value}\n")).values()
    assert what.startswith("a number of thousands of digits (from ")


def test_the_smallest_sizes_are_taken_and_named(tmp_path: Path) -> None:
    smallest = {"s3.range_coalesce_max_mib": 1 / 16, "manifest.max_mib": 1 / 1024}
    smallest |= {"api.readv_max_mib": 1 / 1024, "api.request_max_mib": 1 / 1024}
    config = load(overrides=smallest)
    assert config.s3.range_coalesce_max_bytes == 64 * 1024
    assert config.manifest.max_bytes == config.api.readv_max_bytes == config.api.request_max_bytes == 1024
    found = problems_of(overrides={key: value * 0.999 for key, value in smallest.items()})
    for key, what in found.items():
        least = "64 KiB" if key.startswith("s3.") else "1 KiB"
        assert what.endswith(f"is not allowed: it must be a size in MiB, at least {least} and at most 1 EiB")
    assert set(found) == set(smallest)


@pytest.mark.parametrize("text", ["1_0", " 1", "1 ", "１", "0x10", "1e", "", "nan", "inf", "None", "true"])
def test_numbers_in_the_environment_are_written_as_in_toml(text: str) -> None:
    assert list(problems_of(environ={"SEEKFS_API_DRAIN_SEC": text})) == ["api.drain_sec"]


@pytest.mark.parametrize("text", ["1", "True", "yes", "", "on"])
def test_booleans_in_the_environment_are_true_and_false(text: str) -> None:
    assert list(problems_of(environ={"SEEKFS_API_DEBUG": text})) == ["api.debug"]


@pytest.mark.parametrize("text", ["{ dev = 1 }", '{"dev": 1}', "{dev=1}"])
def test_tables_in_the_environment_are_toml_or_json(text: str) -> None:
    assert load(environ={"SEEKFS_MANIFEST_PINS": text}).manifest.pins == {"dev": 1}


@pytest.mark.parametrize("text", ["dev=1", "{}\nx = 1", "[" * 100_000, "{ dev = 1", "null"])
def test_what_is_no_table_is_refused(text: str) -> None:
    assert list(problems_of(environ={"SEEKFS_MANIFEST_PINS": text})) == ["manifest.pins"]


def test_an_empty_variable_takes_an_optional_key_away(tmp_path: Path) -> None:
    path = write(tmp_path, "[s3]\naccess_key_id = 'a'\nsecret_access_key = 'b'\nendpoint = 'http://x'\n")
    names = ("SEEKFS_S3_ACCESS_KEY_ID", "SEEKFS_S3_SECRET_ACCESS_KEY", "SEEKFS_S3_ENDPOINT")
    config = load(path, environ=dict.fromkeys(names, ""))
    assert (config.s3.access_key_id, config.s3.secret_access_key, config.s3.endpoint) == (None, None, None)


def test_unknown_keys_are_refused_with_what_may_have_been_meant(tmp_path: Path) -> None:
    text = "[cache]\nl1_memory_gb = 1\nfoo = 1\n[api.tls]\ncert = 'x'\n[chache]\n[cache.l2]\npath = '/x'\n"
    found = problems_of(write(tmp_path, text), {"s3.buckets": "x"}, {"SEEKFS_S3_BUKET": "x"})
    assert set(found) == {
        "cache.l1_memory_gb",
        "cache.foo",
        "api.tls",
        "chache",
        "cache.l2.path",
        "s3.buckets",
        "SEEKFS_S3_BUKET",
    }
    assert "did you mean cache.l1_memory_gib?" in found["cache.l1_memory_gb"]
    assert "did you mean" not in found["cache.foo"]
    assert "did you mean cache?" in found["chache"]
    assert "did you mean s3.bucket?" in found["s3.buckets"]
    assert "did you mean SEEKFS_S3_BUCKET?" in found["SEEKFS_S3_BUKET"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SEEKFS_CACH_L1_MEMORY_GIB", "SEEKFS_CACHE_L1_MEMORY_GIB"),
        ("SEEKFS_LISTEN", "SEEKFS_API_LISTEN"),
        ("SEEKFS_CONFG", "SEEKFS_CONFIG"),
        ("SEEKFS_BUCKET", "SEEKFS_S3_BUCKET"),
        ("SEEKFS_api_listen", None),
        ("SEEKFS_MOOD", None),
        ("SEEKFS_", None),
    ],
)
def test_a_variable_that_stands_for_nothing_is_refused_whatever_its_section(
    name: str, meant: str | None
) -> None:
    hint = "" if meant is None else f"; did you mean {meant}?"
    assert problems_of(environ={name: ""}) == {name: f"is not the variable of any key{hint}"}


def test_variables_of_others_are_theirs() -> None:
    load(environ={"SEEKFS": "x", "MY_SEEKFS_MOOD": "x", "_SEEKFS_COMPLETE": "x", "seekfs_mood": "x"})


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    path = write(tmp_path, "api.drain_sec = -0.0\nmanifest.head_ttl_sec = -0\n")
    config = load(path, environ={"SEEKFS_S3_RETRY_INITIAL_BACKOFF_MS": "-0.0"})
    values = (config.api.drain_sec, config.manifest.head_ttl_sec, config.s3.retry_initial_backoff_ms)
    assert [repr(value) for value in values] == ["0.0", "0", "0.0"]


def test_a_key_with_a_dot_in_quotes_is_not_a_path(tmp_path: Path) -> None:
    assert list(problems_of(write(tmp_path, '"api.listen" = "127.0.0.1:1"\n'))) == ["api.listen"]


def test_what_kubernetes_sets_for_a_service_is_not_an_unknown_key() -> None:
    load(
        environ={
            "SEEKFS_PORT": "tcp://10.0.0.1:7070",
            "SEEKFS_S3_SERVICE_HOST": "10.0.0.1",
            "SEEKFS_S3_SERVICE_PORT": "9000",
            "SEEKFS_S3_SERVICE_PORT_HTTP": "9000",
            "SEEKFS_S3_PORT": "tcp://10.0.0.1:9000",
            "SEEKFS_S3_PORT_9000_TCP": "tcp://10.0.0.1:9000",
            "SEEKFS_S3_PORT_9000_TCP_ADDR": "10.0.0.1",
        }
    )


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "[cache]\nslab_size_mib = 64\ninflight_mib = 1\n[s3]\nengine = 'x'\nfoo = 1\n")
    found = problems_of(
        path, {"api.listen": "x"}, {"SEEKFS_LOG_LEVEL": "loud", "SEEKFS_S3_ACCESS_KEY_ID": "a"}
    )
    assert set(found) == {
        "s3.engine",
        "s3.foo",
        "log.level",
        "api.listen",
        "cache.inflight_mib",
        "s3.secret_access_key",
    }
    assert "(from SEEKFS_LOG_LEVEL)" in found["log.level"]
    assert "(from the command line)" in found["api.listen"]


IMPOSSIBLE_TOGETHER: list[tuple[str, str]] = [
    ("cache.inflight_mib = 7.9", "cache.inflight_mib"),
    ("cache.l1_memory_gib = 0.0078125", "cache.l1_memory_gib"),  # One page, and nothing for keeping it.
    ("cache.l1_memory_gib = 0.016\ncache.l2.backend = 'mem'", "cache.l1_memory_gib"),
    ("cache.l2_ssd_gib = 0.008", "cache.l2_ssd_gib"),  # One page, and nothing for the index.
    ("cache.slab_size_mib = 64\ncache.inflight_mib = 63", "cache.inflight_mib"),
    ("s3.access_key_id = 'a'", "s3.secret_access_key"),
    ("s3.secret_access_key = 'a'", "s3.access_key_id"),
    ("s3.session_token = 'a'", "s3.session_token"),
    ("s3.anonymous = true\ns3.access_key_id = 'a'\ns3.secret_access_key = 'a'", "s3.anonymous"),
    ("s3.engine = 'file'\ns3.endpoint = 'http://localhost:9000'", "s3.endpoint"),
    ("s3.engine = 'file'\ns3.endpoint = 'file://host/dir'", "s3.endpoint"),
    ("s3.engine = 'file'\ns3.endpoint = 'file:dir'", "s3.endpoint"),
    ("s3.engine = 'sdk'\ns3.endpoint = '/data'", "s3.endpoint"),
]


@pytest.mark.parametrize(("text", "where"), IMPOSSIBLE_TOGETHER)
def test_values_that_are_impossible_together(tmp_path: Path, text: str, where: str) -> None:
    assert list(problems_of(write(tmp_path, text + "\n"))) == [where]


def test_the_memory_tier_has_no_disk_ceiling_to_check(tmp_path: Path) -> None:
    load(write(tmp_path, "cache.l2_ssd_gib = 0.001\ncache.l2.backend = 'mem'\n"))


@pytest.mark.parametrize("page_mib", [1 / 8, 1 / 4, 1, 5.25, 8, 63.99609375, 64])
@pytest.mark.parametrize(
    ("key", "backend", "what"),
    [
        ("cache.inflight_mib", "segmentstore", "has no room for one page"),
        ("cache.l1_memory_gib", "segmentstore", "has no room for one page"),
        ("cache.l1_memory_gib", "mem", "in L1, and in the mem backend, which has half of it"),
        ("cache.l2_ssd_gib", "segmentstore", "beside the index and the manifests"),
    ],
)
def test_a_ceiling_without_room_for_a_page_is_refused_with_one_that_would_do(
    page_mib: float, key: str, backend: str, what: str
) -> None:
    given: dict[str, object] = {"cache.slab_size_mib": page_mib, "cache.l2.backend": backend}
    found = problems_of(overrides=given | {key: 1 / 16 if key.endswith("mib") else 64 * KIB / GIB})
    assert list(found) == [key]
    assert what in found[key]
    assert f"{page_mib:g} MiB (cache.slab_size_mib)" in found[key]
    enough = re.search(r"; ([0-9.]+) [MG]iB would do$", found[key])
    assert enough is not None
    least = float(enough[1])
    load(overrides=given | {key: least})
    # Rounded up to three digits, and for a disk to the next mebibyte.
    too_little = least - (2.1 / 1024 if key == "cache.l2_ssd_gib" else 0.0011)
    if too_little * (MIB if key.endswith("mib") else GIB) >= 64 * KIB:
        assert list(problems_of(overrides=given | {key: too_little})) == [key]


def test_a_ceiling_that_was_capped_is_refused_as_what_it_was_capped_at(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    load(path, memory=2 * (8 * MIB + KIB))
    (found,) = problems_of(path, memory=2 * (8 * MIB + KIB) - 1).values()
    assert found.startswith("32 GiB, capped at 0.0078")
    assert "half of the memory there is, has no room for one page" in found
    load(path, {"cache.l2.backend": "mem"}, memory=36 * MIB)
    assert problems_of(path, {"cache.l2.backend": "mem"}, memory=32 * MIB)


@pytest.mark.parametrize(
    ("endpoint", "root"),
    [
        (None, "./.seekfs/store"),
        ("file:///data/my%20store", "/data/my store"),
        ("/data/a%20b", "/data/a%20b"),
        ("relative/dir", "relative/dir"),
    ],
)
def test_the_root_of_the_file_engine(endpoint: str | None, root: str) -> None:
    assert load(overrides={"s3.endpoint": endpoint}).s3.file_root == root


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7070", ListenAddress(host="127.0.0.1", port=7070)),
        ("localhost:0", ListenAddress(host="localhost", port=0)),
        ("[::]:7070", ListenAddress(host="::", port=7070)),
        ("unix:/run/seekfs.sock", ListenAddress(unix_path="/run/seekfs.sock")),
        ("unix:./seekfs.sock", ListenAddress(unix_path="./seekfs.sock")),
    ],
)
def test_listen_addresses(text: str, address: ListenAddress) -> None:
    config = load(overrides={"api.listen": text})
    assert config.api.address == address
    assert str(config.api.address) == text


def test_sizes_in_bytes(tmp_path: Path) -> None:
    config = load(write(tmp_path, "cache.l2_ssd_gib = 0.0625\ncache.slab_size_mib = 0.0625\n"))
    assert config.cache.l2_ssd_bytes == 64 * MIB
    assert config.cache.slab_size_bytes == 64 * 1024
    assert config.cache.inflight_bytes == 256 * MIB
    assert config.s3.range_coalesce_max_bytes == 32 * MIB
    assert config.manifest.max_bytes == GIB
    assert config.api.readv_max_bytes == 4 * GIB
    assert config.api.request_max_bytes == 64 * MIB


def test_l1_is_capped_at_half_of_the_memory_there_is(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    assert load(path, memory=None).cache.l1_memory_bytes == 32 * GIB
    assert load(path, memory=64 * GIB).cache.l1_memory_bytes == 32 * GIB
    capped = load(path, memory=10 * GIB)
    assert (capped.cache.l1_memory_bytes, capped.cache.l1_is_capped) == (5 * GIB, True)
    assert "capped at 5.00 GiB" in render_config(capped)
    assert list(problems_of(path, memory=15 * MIB)) == ["cache.l1_memory_gib"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[api\n", "is not TOML"),
        (b"\xff = 1\n", "is not UTF-8 at byte 0"),
        ("\ufeffs3.bucket = 'a'\n".encode("utf-16-le"), "is not UTF-8"),
        (b"a = 1\na = 2\n", "is not TOML"),
        (b"a = " + b"[" * 100_000, "is not TOML"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (b"s3.bucket = '\x00'\n", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_parsed(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    assert what in problems_of(path)[str(path)]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.toml")
    assert problems_of(tmp_path / "no.toml") == {
        missing: "cannot be read (--config): No such file or directory"
    }
    assert problems_of(environ={"SEEKFS_CONFIG": missing}) == {
        missing: "cannot be read (SEEKFS_CONFIG): No such file or directory"
    }


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == {str(tmp_path): "cannot be read (--config): Is a directory"}
    below = tmp_path / "file" / "seekfs.toml"
    below.parent.touch()
    assert problems_of(below) == {str(below): "cannot be read (--config): Not a directory"}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("seekfs.toml")
        # It is no file, and so it is not found here; but it can be named.
        assert load().path is None
        assert problems_of(Path("seekfs.toml")) == {
            "seekfs.toml": "cannot be read (--config): No such device or address"
        }


def test_an_empty_name_of_a_file_is_no_file() -> None:
    """As from a variable of a script that was not set. Elsewhere it is as if nothing was said."""
    with pytest.raises(ConfigError) as caught:
        load_config("", {}, {}, lambda: None)
    assert str(caught.value) == "--config: cannot be read (--config): No such file or directory"
    assert load(environ={"SEEKFS_CONFIG": ""}).path is None


@pytest.mark.parametrize("content", ["", "\n", "# nothing\n", "[s3]\n", "\ufeff", "\ufeff[s3]\n"])
def test_a_file_that_says_nothing_leaves_the_defaults(tmp_path: Path, content: str) -> None:
    config = load(write(tmp_path, content), memory=None)
    assert attrs.evolve(config, path=None) == Config()


def test_a_byte_order_mark_is_overlooked(tmp_path: Path) -> None:
    """Editors of Windows write one."""
    assert load(write(tmp_path, "\ufeffs3.bucket = 'marked'\n")).s3.bucket == "marked"


SECRETS = {
    "s3.access_key_id": "visible-id",
    "s3.secret_access_key": "hidden-secret",
    "s3.session_token": "hidden-token",
    "s3.proxy": "http://someone:hidden-word@proxy:3128",
}


def test_secrets_are_never_shown() -> None:
    config = load(overrides=SECRETS)
    for shown in (render_config(config), json.dumps(as_table(config)), repr(config), str(config)):
        assert "hidden" not in shown
        assert "visible-id" in shown
    bad = {key: value + " \n" for key, value in SECRETS.items()}
    with pytest.raises(ConfigError) as caught:
        load(overrides=bad | {"s3.endpoint": "http://someone:hidden-word@host"})
    assert "hidden" not in str(caught.value) + repr(caught.value)
    assert {problem.where for problem in caught.value.problems} == {*SECRETS, "s3.endpoint"}


def test_the_error_can_be_pickled() -> None:
    with pytest.raises(ConfigError) as caught:
        load(overrides={"a.b": 1, "api.listen": 1})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


def test_budgets_of_namespaces_are_in_requests_and_bytes_and_have_bursts() -> None:
    text = "{ a = { get_per_sec = 5 }, b = { mib_per_sec = 100 }, c = { get_per_sec = 1, get_burst = 7 }"
    text += ", d = {} }"
    config = load(environ={"SEEKFS_S3_NAMESPACE_BUDGETS": text, "SEEKFS_S3_GET_BUDGET_BURST": "9"})
    mib = 1 << 20
    assert config.s3.budgets_of_namespaces == {
        "a": NamespaceBudget(requests=GetBudget(5, 9)),
        "b": NamespaceBudget(bytes=GetBudget(100 * mib, 100 * mib)),
        "c": NamespaceBudget(requests=GetBudget(1, 7)),
        "d": NamespaceBudget(),
    }
    # A burst has room for one whole GET, however slow the bytes flow.
    slow = load(environ={"SEEKFS_S3_NAMESPACE_BUDGETS": "{ a = { mib_per_sec = 1 } }"})
    assert slow.s3.budgets_of_namespaces["a"].bytes == GetBudget(mib, 32 * mib)
