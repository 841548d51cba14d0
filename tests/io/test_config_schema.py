"""Every key of the configuration from every layer, read off the schema: a key that is added is tested here as
it is, and nothing has to be listed. What values it may have is asked of its rule (``configurations``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from seekfs_io.config import Config, ConfigError, environment_name, load_config, render_config
from seekfs_io.config_tree import SCHEMA
from tests.support.configurations import (
    accepts,
    allowed_by,
    default_of,
    settled,
    text_of,
    toml_of_keys,
    two_values,
    unknown_keys,
    value_of,
    wrong_text,
    wrong_values,
)

GIB: Final = 1 << 30

LAYERS: Final = ("file", "environment", "command line")
"""The later goes before the earlier."""

KEYS: Final = sorted(SCHEMA.rules)
SECTIONS: Final = sorted(SCHEMA.sections)

Load = Callable[..., Config]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the file, in a directory that has no other."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "test.toml"


@pytest.fixture
def load(path: Path) -> Load:
    """``load({layer: {key: value}})``: there is always a file. Texts are not told from other values on the
    command line and in the environment."""

    def load(layers: Mapping[str, Mapping[str, Any]]) -> Config:
        assert set(layers) <= {*LAYERS}
        path.write_text(toml_of_keys(layers.get("file", {})), encoding="utf-8")
        variables = layers.get("environment", {}).items()
        options = layers.get("command line", {}).items()
        return load_config(
            str(path),
            {key: text_of(value) for key, value in options},
            {environment_name(key): text_of(value) for key, value in variables},
            lambda: 64 * GIB,
        )

    return load


def origin(layer: str, key: str, path: Path) -> str:
    """How a message calls where a value came from."""
    match layer:
        case "file":
            return f"(from {path})"
        case "environment":
            return f"(from {environment_name(key)})"
        case _:
            return "(from the command line)"


def problems_of(load: Load, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(layers)
    assert all(text.isprintable() for each in caught.value.problems for text in (each.where, each.what))
    return {each.where: each.what for each in caught.value.problems}


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("key", KEYS)
def test_a_value_takes_effect_and_changes_no_other_key(key: str, layer: str, load: Load) -> None:
    for value in two_values(key):
        given = settled({key: value})
        assert given is not None
        config = load({layer: given})
        assert value_of(config, key) == value
        assert type(value_of(config, key)) is type(value)
        for other in SCHEMA.rules.keys() - given.keys():
            assert value_of(config, other) == default_of(other), other


@pytest.mark.parametrize(("lower", "higher"), list(itertools.combinations(LAYERS, 2)))
@pytest.mark.parametrize("key", KEYS)
def test_a_layer_goes_before_those_below_it(key: str, lower: str, higher: str, load: Load) -> None:
    for below, above in itertools.permutations(two_values(key)):
        given = settled({key: above})
        assert given is not None
        assert value_of(load({lower: {**given, key: below}, higher: {key: above}}), key) == above


def test_every_layer_that_is_not_the_highest_gives_way_at_once(load: Load) -> None:
    for key in KEYS:
        first, second = two_values(key)
        given = settled({key: second})
        assert given is not None
        layers = dict(zip(LAYERS, ({**given, key: first}, {key: first}, {key: second}), strict=True))
        assert value_of(load(layers), key) == second


@pytest.mark.parametrize("key", [key for key in KEYS if SCHEMA.rules[key].optional])
@pytest.mark.parametrize("layer", LAYERS[1:])
def test_an_empty_text_takes_an_optional_key_away(key: str, layer: str, load: Load) -> None:
    given = settled({key: two_values(key)[0]})
    assert given is not None
    # What was given for its sake goes with it.
    away = dict.fromkeys((each for each in given if SCHEMA.rules[each].optional), "")
    assert value_of(load({"file": given, layer: away}), key) is None


def test_what_is_rendered_loads_as_the_same_configuration(path: Path, load: Load) -> None:
    for key in KEYS:
        given = settled({key: two_values(key)[0]})
        assert given is not None
        if any(SCHEMA.rules[each].secret for each in given):
            continue
        config = load({"file": given})
        path.write_text(render_config(config), encoding="utf-8")
        assert load_config(str(path), {}, {}, lambda: 64 * GIB) == config


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("alias", sorted(SCHEMA.aliases))
def test_an_alias_is_the_key(alias: str, layer: str, path: Path, load: Load) -> None:
    key = SCHEMA.aliases[alias]
    first, second = two_values(key)
    assert value_of(load({layer: {alias: first}}), key) == first
    for lower, higher in itertools.combinations(LAYERS, 2):
        assert value_of(load({lower: {key: first}, higher: {alias: second}}), key) == second
        assert value_of(load({lower: {alias: first}, higher: {key: second}}), key) == second
    (what,) = problems_of(load, {layer: {key: first, alias: first}}).values()
    name = alias.rpartition(".")[2]
    assert what == f"is given together with its alias {name} {origin(layer, alias, path)}; give one of them"
    assert list(problems_of(load, {layer: {alias: wrong_text(key)}})) == [key]


def test_a_word_may_stand_for_another(load: Load) -> None:
    found = 0
    for key in KEYS:
        for word, meant in re.findall(r"\((\w+) means (\w+)\)", allowed_by(SCHEMA.rules[key])):
            found += 1
            for layer in LAYERS:
                assert value_of(load({layer: {key: word}}), key) == meant
    assert found


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("key", KEYS)
def test_a_name_that_is_no_key_is_refused_with_the_one_that_was_meant(
    key: str, layer: str, path: Path, load: Load
) -> None:
    wrong = f"{key}s"
    assert wrong not in SCHEMA.rules
    ((where, what),) = problems_of(load, {layer: {wrong: two_values(key)[0]}}).items()
    if layer == "environment":
        assert (where, what) == (
            environment_name(wrong),
            f"is not the variable of any key; did you mean {environment_name(key)}?",
        )
    else:
        assert where == wrong
        told = f"{origin(layer, wrong, path)} is not a key of the configuration; did you mean {key}?"
        assert what == told


@pytest.mark.parametrize("section", ["", *SECTIONS])
def test_a_name_that_is_near_to_nothing_is_refused_too(section: str, load: Load) -> None:
    name = f"{section}.x0" if section else "x0"
    for layer in LAYERS:
        ((where, what),) = problems_of(load, {layer: {name: 1}}).items()
        assert where == (environment_name(name) if layer == "environment" else name)
        assert "is not " in what


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_is_a_value_is_refused(section: str, path: Path, load: Load) -> None:
    found = problems_of(load, {"file": {section: 1}})
    assert found == {section: f"1 (from {path}) is not a section; write [{section}]"}


@pytest.mark.parametrize("name", ['"a\\nb"', '"\\u001b[31m"', '"a.b"', '""', '"api.debug"', "ünïcode"])
def test_a_name_speaks_to_no_terminal(name: str, path: Path, load: Load) -> None:
    path.write_text(f"{name} = 1\n[s3]\n{name} = 1\n".replace("ünïcode", '"ünïcode"'), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {}, {}, lambda: None)
    assert len(caught.value.problems) == 2
    assert str(caught.value).replace("\n", "").isprintable()
    assert str(caught.value).count("\n") == 1


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_value_is_named_with_its_key_its_origin_and_what_is_allowed(
    key: str, layer: str, path: Path, load: Load
) -> None:
    rule = SCHEMA.rules[key]
    tried = 0
    for value in wrong_values(key):
        if layer != "file":
            text = text_of(value)
            if (rule.optional and not text) or accepts(rule, rule.read(text)):
                continue
        tried += 1
        ((where, what),) = problems_of(load, {layer: {key: value}}).items()
        assert where == key
        assert f"{origin(layer, key, path)} is not allowed: it must be {allowed_by(rule)[:20]}" in what
        assert len(what) < 600
        assert what.startswith("the value (not shown)") == rule.secret
    assert tried >= 3


@pytest.mark.parametrize("layer", LAYERS)
def test_all_that_is_wrong_is_said_at_once(layer: str, load: Load) -> None:
    unknown = dict.fromkeys(unknown_keys(), 1)
    wrong = {key: wrong_text(key) for key in KEYS}
    found = problems_of(load, {layer: {**wrong, **unknown}})
    names = {environment_name(key) for key in unknown} if layer == "environment" else set(unknown)
    assert set(found) == {*KEYS, *names}


def test_what_is_wrong_in_several_layers_is_said_at_once(path: Path, load: Load) -> None:
    by_layer: dict[str, dict[str, Any]] = {layer: {} for layer in LAYERS}
    for layer, key in zip(itertools.cycle(LAYERS), KEYS, strict=False):
        by_layer[layer][key] = wrong_text(key)
    found = problems_of(load, by_layer)
    assert set(found) == {*KEYS}
    for layer, given in by_layer.items():
        assert all(origin(layer, key, path) in found[key] for key in given)


def test_defaults_are_right_by_their_own_rules() -> None:
    for key, rule in SCHEMA.rules.items():
        default = default_of(key)
        assert (default is None and rule.optional) or rule.accept(default) == default
    assert attrs.evolve(load_config("/dev/null", {}, {}, lambda: None), path=None) == Config()
