"""The core imports nothing that could read a clock, a file, the environment or the network.

Linters ban the names that its source may say. Here it is loaded where such modules do not exist:
what it brings in by way of others would fail to load. Third-party packages and the parts of the
standard library that it may use are loaded before, because they import what they like for
themselves.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import seekfs_core

PACKAGE = Path(seekfs_core.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

ALLOWED = (
    "__future__ array bisect collections enum hashlib heapq math operator random re struct typing zlib "
    "attrs msgspec"
).split()
"""All that the core imports: values, arithmetic, and bytes in memory. Another one is a decision."""

LOADER = """
import importlib, sys

allowed, modules = sys.argv[1].split(","), sys.argv[2].split(",")
for name in allowed:
    importlib.import_module(name)

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {"seekfs_core", *allowed}:
            raise ImportError(f"the core imports {name}")

sys.meta_path.insert(0, Refuse())
# Whatever is loaded already is found without a finder; so it is taken away.
for name in list(sys.modules):
    if name.partition(".")[0] in sys.argv[3].split(","):
        sys.modules[name] = None
for name in modules:
    importlib.import_module(name)
print(*sorted(name for name in sys.modules if name.startswith("seekfs")))
"""

FORBIDDEN = (
    "socket ssl select selectors threading _thread queue asyncio concurrent multiprocessing subprocess "
    "signal os posix pathlib shutil tempfile glob mmap fcntl time datetime secrets uuid logging warnings "
    "urllib http lmdb crc32c urllib3 botocore requests"
).split()


def imports_of(module: Path) -> list[tuple[str, str | None]]:
    """What a module's source imports: module, and name where one is taken from it."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_a_module_imports_only_what_cannot_do_anything(module: Path) -> None:
    for name, _ in imports_of(module):
        top = name.partition(".")[0]
        assert top in ALLOWED or top == "seekfs_core", f"{module.name} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_chance_is_only_ever_handed_in(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr == "Random", f"{module.name} uses random.{node.attr}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "Random", f"{module.name} makes a generator"
    assert [name for top, name in imports_of(module) if top == "random" and name] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_a_module_opens_no_file_and_prints_nothing(module: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    # A recorded trace that is a unit test is a file, and nothing that is served imports that module.
    called -= {"open"} if module == PACKAGE / "testing" / "replaying.py" else set()
    assert called.isdisjoint("open print input eval exec compile __import__ breakpoint".split())


def test_what_is_for_tests_is_not_what_is_served() -> None:
    for module in MODULES:
        if module.parent.name != "testing":
            assert not any(name.startswith("seekfs_core.testing") for name, _ in imports_of(module)), module


def test_the_core_loads_where_there_is_no_clock_no_file_and_no_network() -> None:
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES]
    modules = [name.removesuffix(".__init__") for name in names]
    arguments = [",".join(each) for each in (sorted(ALLOWED), modules, FORBIDDEN)]
    # Who counts what has run counts in every process of ours, and does not get by in this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    loaded = subprocess.run(
        [sys.executable, "-c", LOADER, *arguments],
        env=environment,
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == sorted({"seekfs_core", *modules})
