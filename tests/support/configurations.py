"""Values for any key of the configuration, good and wrong ones, told by the key's own rule."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from seekfs_core.errors import Problem
from seekfs_io.config import Config, ConfigError, load_config
from seekfs_io.config_rules import Refused, Rule
from seekfs_io.config_tree import SCHEMA
from seekfs_io.objects import check_engine

POOL: Final[tuple[Any, ...]] = (
    *(0.0625, 64, 0.5, 1, 2, 3, 7, 16, 100, 1.25),
    *(True, False),
    *("abc", "word-1", "/data", "127.0.0.1:1", "[::1]:0", "unix:/run/s", "http://a:1", "https://b.example:2"),
    *(__file__, json.__file__),
    *({"dev": 42}, {"dev": 1, "other": 2**63 - 1}),
    *({"dev": {"get_per_sec": 5, "get_burst": 2}}, {"dev": {"mib_per_sec": 0.5}, "other": {}}),
)
"""Of every kind that there is, and of each more than one."""

WRONG_POOL: Final[tuple[Any, ...]] = (
    *(-1, 0, 0.1234567, 1e30, 10**400, math.nan, math.inf, True),
    *("", " ", "a b", "a\nb", "\x1b[31m", "no such word", "true", "8", "nan", "http://a?b", "x" * 5000),
    *([], [1], {}, {"Dev": 1}, {"dev": 0}, {"dev": True}),
    *({"dev": {"get_per_sec": 0}}, {"dev": {"get_burst": 2}}, {"dev": {"rate": 1}}),
)


def value_of(config: Config, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def default_of(key: str) -> Any:
    """What a key is where nobody gives it."""
    return value_of(Config(), key)


def accepts(rule: Rule, value: object) -> bool:
    try:
        rule.accept(value)
    except Refused:
        return False
    return True


def allowed_by(rule: Rule) -> str:
    """What a rule says that a value must be."""
    try:
        rule.accept(object())
    except Refused as refused:
        return str(refused)
    raise AssertionError("a rule that takes anything")


@functools.cache
def two_values(key: str) -> tuple[Any, Any]:
    """Two values that may be given, with what ``settled`` adds. The first is not the default; the second is
    where there are only two."""
    rule = SCHEMA.rules[key]
    words = re.findall(r'"([^"]+)"', allowed_by(rule))
    default = default_of(key)
    found: list[Any] = []
    for value in (*words, *POOL, default):
        if value in found or (value == default and not found) or not accepts(rule, value):
            continue
        # A word may stand for another one: what is given is to be what is kept.
        if rule.accept(value) == value and settled({key: value}) is not None:
            found.append(value)
            if len(found) == 2:
                return found[0], found[1]
    raise AssertionError(f"{key} can be nothing but {default!r}: add what it can be to the pool")


def wrong_values(key: str) -> list[Any]:
    """Values that no layer may give."""
    return [value for value in WRONG_POOL if not accepts(SCHEMA.rules[key], value)]


def _problems_of(values: Mapping[str, Any]) -> tuple[Problem, ...]:
    try:
        check_engine(load_config("/dev/null", values, {}, lambda: None).s3)
    except ConfigError as error:
        return error.problems
    return ()


def settled(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """``values`` and what else has to be given for them to go together: of the keys that a complaint names,
    the first good value each. None where nothing makes them go together."""
    every = dict(values)
    while problems := _problems_of(every):
        said = "\n".join(map(str, problems))
        named = [key for key in SCHEMA.rules if key not in every and key in said]
        if not named:
            return None
        for key in named:
            every[key] = next(value for value in POOL if accepts(SCHEMA.rules[key], value))
    return every


def text_of(value: Any) -> str:
    """As an environment variable has it."""
    return value if isinstance(value, str) else json.dumps(value)


def toml_of_value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(name)} = {toml_of_value(each)}" for name, each in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value).replace("\x7f", "\\u007f")


def toml_of_keys(values: Mapping[str, Any]) -> str:
    """Dotted keys, one a line."""
    return "".join(f"{key} = {toml_of_value(value)}\n" for key, value in values.items())


def wrong_text(key: str) -> str:
    """A text that neither a file nor the environment may give."""
    rule = SCHEMA.rules[key]
    return next(
        value
        for value in wrong_values(key)
        if isinstance(value, str) and value.strip() and not accepts(rule, rule.read(value))
    )


def unknown_keys() -> list[str]:
    """A name in each section that is none of a key, and is near to none."""
    return [f"{section}.x0" for section in sorted(SCHEMA.sections)]
