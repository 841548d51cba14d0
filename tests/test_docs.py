"""The documents name what there is: keys, calls, commands, recipes, and links that lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from seekfs_io.cli.commands import seekfs
from seekfs_io.config import as_table, load_config
from seekfs_io.config_tree import SCHEMA, Config
from tests.support import states

ROOT = Path(__file__).resolve().parents[1]
SPEC = (ROOT / "docs" / "SPEC.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)


def flat(table: object, prefix: str = "") -> dict[str, object]:
    """``{"cache.l2.backend": "segmentstore", ...}``; a key of the schema is never descended into."""
    if not isinstance(table, dict) or prefix in SCHEMA.rules:
        return {prefix: table}
    found: dict[str, object] = {}
    for name, value in table.items():
        found |= flat(value, f"{prefix}.{name}" if prefix else name)
    return found


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of its level or above."""
    level = heading.split(" ", 1)[0]
    after = text.split(f"\n{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def documented_defaults() -> dict[str, str]:
    """Every key of the contract's table and the text of its default."""
    found: dict[str, str] = {}
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", section(SPEC, "## 3. Configuration"), re.MULTILINE):
        names, defaults = re.findall(r"`([a-z0-9_.]+)`", row[0]), row[1].split(", ")
        if len(defaults) == 1:
            defaults *= len(names)
        found |= dict(zip(names, defaults, strict=True))
    return found


def test_every_key_is_in_the_contract_with_its_default() -> None:
    documented = documented_defaults()
    defaults = flat(as_table(Config()))
    assert set(documented) == set(SCHEMA.rules)
    for key, text in documented.items():
        value = defaults.get(key)
        shown = "none" if value is None else "`{}`" if value == {} else str(value).lower()
        assert text.replace("`", "") == shown.replace("`", ""), key


def test_the_file_beside_the_readme_shows_the_defaults() -> None:
    """But for the local store, which the recipes start."""
    path = ROOT / "seekfs.toml"
    text = path.read_text(encoding="utf-8")
    load_config(str(path), environ={})
    shown = flat(tomllib.loads(text))
    defaults = flat(as_table(Config()))
    local = {"s3.endpoint": "http://localhost:9000"} | dict.fromkeys(
        ("s3.access_key_id", "s3.secret_access_key"), "minioadmin"
    )
    for key, value in shown.items():
        assert value == local.get(key, defaults[key]), key


@pytest.mark.parametrize("table", ["## Configuration"])
def test_the_readme_names_keys_that_there_are(table: str) -> None:
    named = set(re.findall(r"`((?:cache|s3|manifest|api|log)\.[a-z0-9_.]+)`", section(README, table)))
    assert named
    assert named <= set(SCHEMA.rules)


def commands(group: click.Group, prefix: str = "seekfs") -> set[str]:
    found = set()
    for name, command in group.commands.items():
        whole = f"{prefix} {name}"
        found |= commands(command, whole) if isinstance(command, click.Group) else {whole}
    return found


def documented_commands(text: str) -> set[str]:
    """``seekfs manifest show|ls NS`` names two commands."""
    found = set()
    for words in re.findall(r"`seekfs ([a-z|\\ ]+)", text):
        alternatives = [""]
        for word in words.replace("\\", "").split():
            alternatives = [f"{before} {each}" for before in alternatives for each in word.split("|")]
        found |= {f"seekfs{each}" for each in alternatives}
    return found


@pytest.mark.parametrize(
    ("text", "heading"), [(SPEC, "## 5. Command line"), (README, "## Commands")], ids=["contract", "readme"]
)
def test_every_command_is_documented(text: str, heading: str) -> None:
    rows = "\n".join(line for line in section(text, heading).splitlines() if line.startswith("| `"))
    assert documented_commands(rows) == commands(seekfs)


CALLS = {
    *("/blob", "/readv", "/healthz", "/readyz", "/metrics", "/advisor", "/slow"),
    *("/test_head", "/test_s3", "/test_stream"),
}


@pytest.mark.parametrize(
    ("text", "heading"), [(SPEC, "## 4. HTTP"), (README, "## Endpoints")], ids=["contract", "readme"]
)
def test_every_call_is_documented(text: str, heading: str) -> None:
    rows = "\n".join(line for line in section(text, heading).splitlines() if line.startswith("| `"))
    assert set(re.findall(r"(/(?:test_)?[a-z0-9]+)[?`]", rows)) == CALLS


def test_the_recipes_of_the_contract_are_in_the_justfile() -> None:
    justfile = (ROOT / "justfile").read_text(encoding="utf-8")
    rows = [line for line in section(SPEC, "## 6. Recipes").splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9-]+)[- A-Za-z]*`", row.split(" | ")[0])}
    assert len(named) == 34
    for name in named:
        assert re.search(rf"^{name}\b.*:", justfile, re.MULTILINE), name


def test_the_states_are_those_of_the_tables() -> None:
    """``just states`` writes the page."""
    assert (ROOT / "docs" / "states.md").read_text(encoding="utf-8") == states.page()


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        there = document if not name else (document.parent / name).resolve()
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize(
    "package",
    sorted(
        path.parent
        for room in ("core", "io", "wsgi")
        for path in (ROOT / f"seekfs_{room}").rglob("__init__.py")
    ),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_package_says_where_to_find_what(package: Path) -> None:
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py"} - {"__init__", "__main__"}
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    assert modules | packages <= set(re.findall(r"``([a-z_0-9]+)``", said))


def test_shell_scripts_are_well_formed() -> None:
    for script, shell in (("justw", "sh"), (".ci/run", "bash"), ("deploy/mc-upload", "bash")):
        subprocess.run([shell, "-n", ROOT / script], check=True, timeout=60)


def test_every_promise_names_tests_that_there_are() -> None:
    """And every row of docs/SEMANTICS.md that promises something names at least one."""
    text = (ROOT / "docs" / "SEMANTICS.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", text)
    rows = re.findall(r"^\| (?!promise |---)(.*) \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) > 20
    for promise, held_by in rows:
        assert "::test_" in held_by, f"nothing holds: {promise}"
    for path, name in named:
        module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        tests = {each.name for each in ast.walk(module) if isinstance(each, ast.FunctionDef)}
        assert name in tests, f"there is no {name} in {path}"
