"""The configuration of seekfs (docs/SPEC.md, section 3): one frozen tree, named like the TOML.

Four layers, the earlier wins: command line, environment, file, default. The file is the one
named by ``--config``, else by ``SEEKFS_CONFIG``, else ``./seekfs.toml``. Everything wrong in any
layer is found and reported at once (``ConfigError``), before anything starts.

* An environment variable is ``SEEKFS_<SECTION>_<KEY>``, nested sections joined
  (``SEEKFS_CACHE_L2_SEGMENT_PATH``). Text is a number or a boolean as TOML writes it; a table is
  an inline TOML table or JSON. An empty text takes an optional key away.
* Any other name that begins with ``SEEKFS_`` is an error, except those that Kubernetes sets by itself
  for a Service called ``seekfs-s3`` or alike (``SEEKFS_S3_SERVICE_HOST``, ``SEEKFS_S3_PORT``).
* An absent key has the default of the specification, also in a file that leaves it out. Only
  where there is no file at all the daemon is set up for a newcomer: the ``file`` engine on
  ``./.seekfs/store`` and L2 under ``./.seekfs/l2``.
* The root of the ``file`` engine is ``s3.endpoint``: ``file:///dir`` or a plain path, by default
  ``./.seekfs/store``. The bucket is the directory ``<root>/<s3.bucket>``.

What a single value may be is said in ``config_rules``, the keys and defaults in ``config_tree``,
what values may be together here.
"""

from __future__ import annotations

import codecs
import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
from attrs import Attribute, frozen

from seekfs_core.errors import Problem
from seekfs_core.memory_layout import buffers_for, memory_for
from seekfs_core.segment_layout import ceiling_for, shares_of
from seekfs_io.config_rules import GIB, MIB, UNIT_NAMES, ListenAddress, Refused, is_http_url
from seekfs_io.config_tree import (
    SCHEMA,
    ApiConfig,
    CacheConfig,
    Config,
    L2Config,
    LogConfig,
    ManifestConfig,
    S3Config,
    TraceConfig,
)
from seekfs_io.memory_limits import memory_bytes_available
from seekfs_io.printable import printable

__all__ = [
    "ApiConfig",
    "CacheConfig",
    "Config",
    "ConfigError",
    "L2Config",
    "ListenAddress",
    "LogConfig",
    "ManifestConfig",
    "S3Config",
    "TraceConfig",
    "as_table",
    "environment_name",
    "load_config",
    "render_config",
    "small_ceilings",
]

NEWCOMER_SEGMENT_PATH = "./.seekfs/l2"

MASK = "********"

SectionT = TypeVar("SectionT")


class ConfigError(Exception):
    """A configuration that cannot be used. ``problems`` holds everything wrong with it; no text
    of it shows a secret."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


COMMAND_LINE = "the command line"
"""How a message calls the layer that goes before all others."""

FILE_VARIABLE = "SEEKFS_CONFIG"
"""Names the file; every other variable that begins like it stands for a key."""

_VARIABLE_PREFIX = "SEEKFS_"


def environment_name(key: str) -> str:
    """``cache.l2.segment_path`` → ``SEEKFS_CACHE_L2_SEGMENT_PATH``."""
    return _VARIABLE_PREFIX + key.replace(".", "_").upper()


_VARIABLES = {environment_name(key): key for key in [*SCHEMA.rules, *SCHEMA.aliases]}

# What Kubernetes puts into every pod for a Service of the pod's namespace.
_SERVICE_LINK = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)"
)


def load_config(
    path: str | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    memory_bytes: Callable[[], int | None] = memory_bytes_available,
) -> Config:
    """Read and check the configuration.

    ``path`` is ``--config``. ``overrides`` is the command line's: dotted key → value, where None
    is an option that was not given and text stands for any kind of value, as in the environment.
    ``memory_bytes`` tells how much memory there is, in bytes, or None.

    Raises ``ConfigError`` with everything that is wrong.
    """
    variables = os.environ if environ is None else environ
    problems: list[Problem] = []
    found, named_by = _file_to_read(path, variables)
    values: dict[str, object] = {}
    if found is None:
        values |= {"s3.engine": "file", "cache.l2.segment_path": NEWCOMER_SEGMENT_PATH}
    else:
        values |= _checked(_from_file(found, named_by, problems), problems)
    values |= _checked(_from_environment(variables, problems), problems)
    values |= _checked(_from_overrides(overrides or {}, problems), problems)
    config = _build(Config, "", values)
    config = attrs.evolve(
        config,
        path=found,
        cache=attrs.evolve(config.cache, memory_bytes_available=memory_bytes()),
    )
    wrong_already = {problem.where for problem in problems}
    problems += [problem for problem in _contradictions(config) if problem.where not in wrong_already]
    if problems:
        raise ConfigError(tuple(problems))
    return config


@frozen(kw_only=True)
class _Given:
    """One value of one layer, before its rule has seen it. ``by`` says where it came from."""

    key: str
    value: object
    by: str


def _file_to_read(path: str | None, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """The file, or None, and how a message calls whoever named it. An empty ``--config`` names a file, and
    one that cannot be there: it stands for a variable of a script that was not set."""
    if path is not None:
        return path, "--config"
    if named := environ.get(FILE_VARIABLE):
        return named, FILE_VARIABLE
    return ("seekfs.toml" if os.path.isfile("seekfs.toml") else None), "found here"


def _from_file(path: str, named_by: str, problems: list[Problem]) -> list[_Given]:
    where = printable(path) or named_by
    try:
        with open(path, "rb") as file:
            stored = file.read().removeprefix(codecs.BOM_UTF8)  # Editors of Windows begin a file with it.
        table = tomllib.loads(stored.decode())
    except OSError as error:
        problems.append(Problem(where, f"cannot be read ({named_by}): {error.strerror}"))
        return []
    except UnicodeDecodeError as error:
        problems.append(Problem(where, f"is not UTF-8 at byte {error.start}"))
        return []
    except (ValueError, RecursionError) as error:  # Of TOML, or of a number that is too long for one.
        problems.append(Problem(where, f"is not TOML: {error}"))
        return []
    given: list[_Given] = []

    def walk(table: Mapping[str, object], prefix: str) -> None:
        for name, value in table.items():
            key = prefix + name
            if key in SCHEMA.sections and "." not in name:
                if isinstance(value, Mapping):
                    walk(value, f"{key}.")
                else:
                    what = f"{_shown(value)} (from {where}) is not a section; write [{key}]"
                    problems.append(Problem(key, what))
            elif (key in SCHEMA.rules or key in SCHEMA.aliases) and "." not in name:
                given.append(_Given(key=key, value=value, by=where))
            else:
                problems.append(_unknown(key, where))

    walk(table, "")
    return _without_aliases(given, problems)


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> list[_Given]:
    given: list[_Given] = []
    for name, value in sorted(environ.items()):
        if name in _VARIABLES:
            given.append(_from_text(_VARIABLES[name], value, name))
        elif (
            name.startswith(_VARIABLE_PREFIX) and name != FILE_VARIABLE and not _SERVICE_LINK.fullmatch(name)
        ):
            problems.append(_unknown_variable(name))
    return _without_aliases(given, problems)


def _from_overrides(overrides: Mapping[str, object], problems: list[Problem]) -> list[_Given]:
    given: list[_Given] = []
    for key, value in overrides.items():
        if value is None:
            continue
        if key not in SCHEMA.rules and key not in SCHEMA.aliases:
            problems.append(_unknown(key, COMMAND_LINE))
        elif isinstance(value, str):
            given.append(_from_text(key, value, COMMAND_LINE))
        else:
            given.append(_Given(key=key, value=value, by=COMMAND_LINE))
    return _without_aliases(given, problems)


def _from_text(key: str, value: str, by: str) -> _Given:
    rule = SCHEMA.rules[SCHEMA.aliases.get(key, key)]
    if rule.optional and value == "":
        return _Given(key=key, value=None, by=by)
    return _Given(key=key, value=rule.read(value), by=by)


def _without_aliases(given: list[_Given], problems: list[Problem]) -> list[_Given]:
    """The values of one layer under the names of their keys; a key beside its alias is refused."""
    keys = {each.key for each in given}
    kept: list[_Given] = []
    for each in given:
        key = SCHEMA.aliases.get(each.key)
        if key is None:
            kept.append(each)
        elif key in keys:
            alias = each.key.rpartition(".")[2]
            what = f"is given together with its alias {alias} (from {each.by}); give one of them"
            problems.append(Problem(key, what))
        else:
            kept.append(attrs.evolve(each, key=key))
    return kept


def _checked(given: list[_Given], problems: list[Problem]) -> dict[str, object]:
    values: dict[str, object] = {}
    for each in given:
        rule = SCHEMA.rules[each.key]
        if each.value is None and rule.optional:
            values[each.key] = None
            continue
        try:
            values[each.key] = rule.accept(each.value)
        except Refused as refused:
            shown = "the value (not shown)" if rule.secret else _shown(each.value)
            what = f"{shown} (from {each.by}) is not allowed: it must be {refused}"
            problems.append(Problem(each.key, what))
    return values


def _unknown(key: str, by: str) -> Problem:
    known = [*SCHEMA.rules]
    if key.rpartition(".")[0] not in SCHEMA.sections:
        # Of a key in a section that there is, the section's own name would be the nearest, and no help.
        known += SCHEMA.sections
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return Problem(printable(key), f"(from {by}) is not a key of the configuration{hint}")


def _unknown_variable(name: str) -> Problem:
    # Without the prefix, which all have: it would make any short name near to any other.
    known = [each.removeprefix(_VARIABLE_PREFIX) for each in [*_VARIABLES, FILE_VARIABLE]]
    near = difflib.get_close_matches(name.removeprefix(_VARIABLE_PREFIX), known, n=1)
    hint = f"; did you mean {_VARIABLE_PREFIX}{near[0]}?" if near else ""
    return Problem(printable(name), f"is not the variable of any key{hint}")


def _build(kind: type[SectionT], prefix: str, values: Mapping[str, object]) -> SectionT:
    given: dict[str, object] = {}
    each: Attribute[Any]
    for each in attrs.fields(kind):  # type: ignore[arg-type]
        name = prefix + each.name
        if "section" in each.metadata:
            given[each.name] = _build(each.metadata["section"], f"{name}.", values)
        elif name in values:
            given[each.name] = values[name]
    return kind(**given)


def _contradictions(config: Config) -> Iterator[Problem]:
    """Values that are right by themselves and impossible together."""
    yield from small_ceilings(config.cache)
    yield from _credential_contradictions(config.s3)
    endpoint = config.s3.endpoint
    if config.s3.engine == "file":
        if not _is_directory_name(endpoint):
            yield Problem(
                "s3.endpoint",
                f'{_shown(endpoint)} does not go with engine = "file": give "file:///dir" or a path, '
                'or engine = "sdk" for an S3 server',
            )
    elif endpoint is not None and not is_http_url(endpoint):
        yield Problem(
            "s3.endpoint",
            f'{_shown(endpoint)} does not go with engine = "{config.s3.engine}": give '
            '"http://host:port" or "https://host:port", or leave it out for AWS',
        )


def small_ceilings(cache: CacheConfig) -> Iterator[Problem]:
    """What is wrong with ceilings under which something has no room for one page."""
    page = cache.slab_size_bytes

    def small(key: str, asked: str, bytes_min: int, unit_bytes: int, shared: str = "") -> Problem:
        least = math.ceil(1000 * bytes_min / unit_bytes) / 1000
        return Problem(
            key,
            f"{asked} has no room for one page of {cache.slab_size_mib:g} MiB (cache.slab_size_mib){shared}; "
            f"{least:g} {UNIT_NAMES[unit_bytes]} would do",
        )

    if cache.inflight_bytes < buffers_for(page):
        yield small("cache.inflight_mib", f"{cache.inflight_mib:g} MiB", buffers_for(page), MIB)
    holds_l2 = cache.l2.backend == "mem"
    if cache.l1_memory_bytes < memory_for(page, holds_l2=holds_l2):
        capped = f", capped at {cache.l1_memory_bytes / GIB:g} GiB: half of the memory there is,"
        yield small(
            "cache.l1_memory_gib",
            f"{cache.l1_memory_gib:g} GiB{capped if cache.l1_is_capped else ''}",
            memory_for(page, holds_l2=holds_l2),
            GIB,
            " in L1, and in the mem backend, which has half of it" if holds_l2 else "",
        )
    if not holds_l2 and not shares_of(cache.l2_ssd_bytes).has_room_for(page):
        yield small(
            "cache.l2_ssd_gib",
            f"{cache.l2_ssd_gib:g} GiB",
            ceiling_for(page),
            GIB,
            " beside the index and the manifests",
        )


def _credential_contradictions(s3: S3Config) -> Iterator[Problem]:
    if s3.access_key_id is not None and s3.secret_access_key is None:
        yield Problem(
            "s3.secret_access_key", "is absent while s3.access_key_id is given: give both or neither"
        )
    if s3.secret_access_key is not None and s3.access_key_id is None:
        yield Problem(
            "s3.access_key_id", "is absent while s3.secret_access_key is given: give both or neither"
        )
    if s3.session_token is not None and s3.access_key_id is None:
        yield Problem("s3.session_token", "is given without s3.access_key_id and s3.secret_access_key")
    if s3.anonymous and s3.access_key_id is not None:
        yield Problem(
            "s3.anonymous", "true does not go with s3.access_key_id: requests are signed or they are not"
        )


def _is_directory_name(endpoint: str | None) -> bool:
    if endpoint is None or "://" not in endpoint:
        return endpoint is None or not endpoint.startswith("file:")
    return endpoint.startswith("file:///") and not set(endpoint) & {"?", "#"}


def _shown(value: object) -> str:
    """A value as it may stand in a message: as TOML would write it, on one line, cut, without a password."""
    if isinstance(value, str):
        value = re.sub(r"(?<=://)[^/@\s]*@", f"{MASK}@", value)
        shown = printable(json.dumps(value, ensure_ascii=False))
    elif isinstance(value, bool):
        shown = str(value).lower()
    else:
        try:
            shown = str(value)
        except ValueError:  # Of more digits than Python converts.
            shown = "a number of thousands of digits"
    return shown if len(shown) <= 100 else shown[:97] + "..."


def as_table(config: Config) -> dict[str, Any]:
    """The effective configuration as nested tables of JSON values, secrets masked."""

    def walk(section: object, prefix: str) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for each in attrs.fields(type(section)):  # type: ignore[arg-type]
            name = prefix + each.name
            value = getattr(section, each.name)
            if "section" in each.metadata:
                table[each.name] = walk(value, f"{name}.")
            elif "rule" in each.metadata:
                secret = each.metadata["rule"].secret and value is not None
                table[each.name] = MASK if secret else value
        return table

    return walk(config, "")


def render_config(config: Config) -> str:
    """The effective configuration as TOML, secrets masked, absent keys as comments."""
    blocks = [f"# from {config.path}" if config.path else "# no configuration file: built-in defaults"]

    def block(table: dict[str, Any], name: str) -> None:
        lines = [f"[{name}]"]
        for key, value in table.items():
            if not isinstance(value, dict) or f"{name}.{key}" in SCHEMA.rules:
                lines.append(_rendered(f"{name}.{key}", key, value, config))
        blocks.append("\n".join(lines))
        for key, value in table.items():
            if f"{name}.{key}" in SCHEMA.sections:
                block(value, f"{name}.{key}")

    for name, table in as_table(config).items():
        block(table, name)
    return "\n\n".join(blocks) + "\n"


def _rendered(name: str, key: str, value: object, config: Config) -> str:
    if value is None:
        return f"# {key} is absent"
    line = f"{key} = {_as_toml(value)}"
    if name == "cache.l1_memory_gib" and config.cache.l1_is_capped:
        line += f"  # capped at {config.cache.l1_memory_bytes / GIB:.2f} GiB: half of the memory there is"
    return line


def _as_toml(value: object) -> str:
    """A value on one line; JSON's strings, numbers and booleans are TOML's."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(name)} = {_as_toml(each)}" for name, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(value, ensure_ascii=False)
