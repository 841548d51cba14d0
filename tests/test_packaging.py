"""What installs, builds and checks the project: metadata, lock, lint rules, recipes, deployment files."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("seekfs_core", "seekfs_io", "seekfs_wsgi")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
JUST = Path(sys.executable).with_name("just")


def run(
    *command: str | Path, env: Mapping[str, str] | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """One command in the project's directory, to its end."""
    return subprocess.run(
        command, cwd=ROOT, env=env, input=given, capture_output=True, text=True, timeout=60, check=False
    )


# ---------------------------------------------------------------------------------- distribution


def test_the_distribution_is_installed_with_its_command() -> None:
    scripts = {
        script.name: script.value for script in importlib.metadata.entry_points(group="console_scripts")
    }
    assert scripts["seekfs"] == "seekfs_io.cli:main"
    assert importlib.metadata.version("seekfs") == PROJECT["project"]["version"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()
    assert PROJECT["tool"]["setuptools"]["package-data"][package] == ["py.typed"]


def declared() -> Iterator[Requirement]:
    project = PROJECT["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        yield Requirement(line)


def locked() -> dict[str, tuple[Version, int]]:
    """What the lock pins: version, and the number of its hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, tuple[Version, int]] = {}
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        pinned = re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line)
        assert pinned, line
        found[canonicalize_name(pinned[1])] = (Version(pinned[2]), line.count("--hash=sha256:"))
    return found


def test_dependencies_have_lower_bounds_only() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    for line in [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]:
        assert [spec.operator for spec in Requirement(line).specifier] == [">="], line


def test_the_lock_holds_every_dependency_with_hashes() -> None:
    lock = locked()
    for requirement in declared():
        version, _ = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}"
    assert [name for name, (_, hashes) in lock.items() if hashes == 0] == []


def test_the_lock_brings_what_builds_the_project() -> None:
    """justw builds without isolation, so that nothing is fetched that the lock does not name."""
    for line in PROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked()[canonicalize_name(requirement.name)][0])


def test_the_lock_names_no_registry() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links|--trusted-host", text)


# ---------------------------------------------------------------------------------- purity of the core

PURE_MODULES = {
    "__future__", "abc", "array", "attrs", "bisect", "collections", "enum", "functools", "hashlib", "heapq",
    "itertools", "math", "msgspec", "operator", "random", "re", "seekfs_core", "string", "struct", "types",
    "typing", "zlib",
}  # fmt: skip
IMPURE_BUILTINS = {
    "__import__",
    "breakpoint",
    "compile",
    "eval",
    "exec",
    "exit",
    "id",
    "input",
    "open",
    "print",
}


def impurities(source: str) -> list[str]:
    """What of a module of the core would reach out of it: imports, builtins, an unseeded generator.

    The allowed imports are listed, where ruff and import-linter list forbidden ones: a module that nobody
    has thought of is caught here.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names if alias.name.partition(".")[0] not in PURE_MODULES]
            case ast.ImportFrom(module=module, names=names):
                if (module or "").partition(".")[0] not in PURE_MODULES:
                    found.append(str(module))
                if module == "random":
                    found += [f"random.{alias.name}" for alias in names if alias.name != "Random"]
            case ast.Name(id=name) if name in IMPURE_BUILTINS:
                found.append(name)
            case ast.Attribute(value=ast.Name(id="random"), attr=attr) if attr != "Random":
                found.append(f"random.{attr}")
            case ast.Call(func=ast.Name(id="Random") | ast.Attribute(attr="Random"), args=[]):
                found.append("Random() without a seed")
    return found


MAY_REACH = {
    "testing/replaying.py": ["open"],  # A test's trace; nothing that is served imports it.
    "trace_encoding.py": ["id"] * 5,  # To know a value again while it is held; none of them is written.
}
CORE_MODULES = sorted((ROOT / "seekfs_core").rglob("*.py"))


@pytest.mark.parametrize("module", CORE_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_reaches_nothing_outside_itself(module: Path) -> None:
    may_reach = MAY_REACH.get(str(module.relative_to(ROOT / "seekfs_core")), [])
    assert impurities(module.read_text(encoding="utf-8")) == may_reach


@pytest.mark.parametrize(
    "line",
    [
        "import os.path",
        "from time import monotonic",
        "import seekfs_io.config",
        "open('x')",
        "print('x')",
        "import random; random.random()",
        "import random; random.Random()",
        "from random import choice",
        "from random import Random; Random()",
        "from importlib import import_module",
    ],
)
def test_an_impure_core_would_be_noticed(line: str) -> None:
    assert impurities(line)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("import socket", "TID251"),
        ("from time import monotonic", "TID251"),
        ("import random\n\nx = random.random()", "TID251"),
        ("x = open('y')", "PTH123"),
        ("print(1)", "T201"),
    ],
)
def test_ruff_keeps_the_core_pure_and_leaves_the_io_layer_alone(line: str, rule: str) -> None:
    def broken_in(name: str) -> str:
        command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
        return run(*command, "--stdin-filename", name, "-", given=line).stdout

    assert rule in broken_in("seekfs_core/probe.py")
    if rule != "T201":
        assert rule not in broken_in("seekfs_io/probe.py")


def test_the_contracts_on_imports_name_the_three_rooms() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    layers = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert layers == [["seekfs_wsgi", "seekfs_io", "seekfs_core"]]
    forbidden = {
        module
        for contract in contracts
        if contract["type"] == "forbidden" and contract["source_modules"] == ["seekfs_core"]
        for module in contract["forbidden_modules"]
    }
    third_party = {"urllib3", "botocore", "requests", "lmdb", "crc32c", "werkzeug", "gunicorn"}
    assert third_party | {"socket", "os", "threading", "time", "logging"} <= forbidden
    assert not forbidden & PURE_MODULES


# ---------------------------------------------------------------------------------- recipes

RECIPES = """
    build run-sdk run-crt run-crt-slab kind-up kind-down minio-apply minio-apply-pv minio-port-forward
    minio-uninstall mc-alias mc-mb mc-upload mc-upload-ns manifest-gen smoke-head smoke-stream smoke-demo
    ctl-health s3-up s3-down demo test lint bench
""".split()


@pytest.fixture(scope="module")
def justfile() -> dict[str, Any]:
    done = run(JUST, "--dump", "--dump-format", "json")
    dump: dict[str, Any] = json.loads(done.stdout)
    return dump


def test_every_recipe_of_the_contract_is_there_and_described(justfile: dict[str, Any]) -> None:
    assert set(RECIPES) <= set(justfile["recipes"])
    public = [recipe for recipe in justfile["recipes"].values() if not recipe["private"]]
    assert [recipe["name"] for recipe in public if not recipe["doc"]] == []


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        ("mc-upload", ["FILE", "KEY"]),
        ("mc-upload-ns", ["FILE", "PATH", "NS"]),
        ("manifest-gen", ["NS", "PATH"]),
    ],
)
def test_recipes_take_what_the_contract_says(
    justfile: dict[str, Any], recipe: str, parameters: list[str]
) -> None:
    assert [parameter["name"] for parameter in justfile["recipes"][recipe]["parameters"]] == parameters


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A directory to be all of PATH: a shell, and none of the programs for a cluster."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for program in ("bash", "sh"):
        found = shutil.which(program)
        assert found
        (directory / program).symlink_to(found)
    return directory


@pytest.mark.parametrize(
    ("recipe", "program", "page"),
    [
        ("kind-up", "kind", "kind.sigs.k8s.io"),
        ("kind-down", "kind", "kind.sigs.k8s.io"),
        ("minio-apply", "kubectl", "kubernetes.io"),
        ("minio-apply-pv", "kubectl", "kubernetes.io"),
        ("minio-port-forward", "kubectl", "kubernetes.io"),
        ("minio-uninstall", "helm", "helm.sh/docs"),
    ],
)
def test_a_missing_program_is_named_with_its_documentation(
    bare_path: Path, recipe: str, program: str, page: str
) -> None:
    done = run(JUST, recipe, env={"PATH": str(bare_path)})
    assert done.returncode == 1
    assert f"'{program}'" in done.stderr
    assert page in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_helm_is_looked_for_before_anything_is_applied(bare_path: Path, tmp_path: Path) -> None:
    applied = tmp_path / "applied"
    kubectl = bare_path / "kubectl"
    kubectl.write_text(f"#!/bin/sh\necho ran >{applied}\n")
    kubectl.chmod(0o755)
    done = run(JUST, "minio-apply", env={"PATH": str(bare_path)})
    assert done.returncode == 1
    assert "'helm'" in done.stderr
    assert not applied.exists()


def test_an_upload_with_mc_never_changes_what_is_there(bare_path: Path, tmp_path: Path) -> None:
    """deploy/mc-upload, with a directory standing in for the store behind mc."""
    store = tmp_path / "store"
    store.mkdir()
    mc = bare_path / "mc"
    mc.write_text(
        "#!/bin/bash\n"
        'case $1 in stat) [ -f "$2" ] ;; cat) exec cat "$2" ;; cp) mkdir -p "${4%/*}"; cp "$3" "$4" ;; esac\n'
    )
    mc.chmod(0o755)
    env = {**os.environ, "PATH": f"{bare_path}:{os.environ['PATH']}"}
    file = tmp_path / "a file"
    file.write_bytes(b"one")

    def upload() -> subprocess.CompletedProcess[str]:
        return run("bash", ROOT / "deploy/mc-upload", file, store, "namespaces/dev/files/a b", env=env)

    assert upload().returncode == 0
    assert (store / "namespaces/dev/files/a b").read_bytes() == b"one"
    again = upload()
    assert again.returncode == 0
    assert again.stdout.startswith("unchanged")
    file.write_bytes(b"two")
    other = upload()
    assert other.returncode == 1
    assert "never changed" in other.stderr
    assert (store / "namespaces/dev/files/a b").read_bytes() == b"one"


# ---------------------------------------------------------------------------------- deployment files


def check_deploy(directory: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, directory / "deploy/check.py")


@pytest.fixture
def deploy_copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copy(ROOT / "seekfs.toml", tmp_path)
    return tmp_path


def test_the_deployment_files_pass_their_check() -> None:
    done = check_deploy(ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("deploy/minio/values.yaml", "rootUser:", "rootuser:", "values.rootuser"),
        ("deploy/minio/values.yaml", "rootPassword: minioadmin", "rootPassword: other", "rootPassword"),
        ("deploy/minio/values.yaml", "mode: standalone", "mode: single", "values.mode"),
        ("deploy/minio/values.yaml", 'port: "9000"', "port: 9000", "values.service.port"),
        ("deploy/minio/values.yaml", "replicas: 1", "replicas: yes", "values.replicas"),
        ("deploy/minio/values.yaml", "name: seekfs", "name: other", "values.buckets"),
        ("deploy/minio/values.yaml", "purge: false", "purge: true", "purge"),
        ("deploy/minio/values-pv.yaml", "enabled: true", "enabled: false", "values-pv.persistence.enabled"),
        (
            "deploy/minio/values-pv.yaml",
            "storageClass:",
            "storageclass:",
            "values-pv.persistence.storageclass",
        ),
        ("deploy/minio/namespace.yaml", "name: minio", "name: other", "namespace.metadata.name"),
        ("deploy/kind/cluster.yaml", "role: control-plane", "role: worker", "cluster.nodes"),
        ("deploy/kind/cluster.yaml", "v1alpha4", "v1alpha3", "cluster.apiVersion"),
        ("seekfs.toml", "minioadmin", "other", "rootUser"),
        ("seekfs.toml", "localhost:9000", "localhost:9001", "service.port"),
    ],
)
def test_a_mistake_in_the_deployment_files_is_named(
    deploy_copy: Path, file: str, old: str, new: str, named: str
) -> None:
    text = (deploy_copy / file).read_text(encoding="utf-8")
    assert old in text
    (deploy_copy / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    done = check_deploy(deploy_copy)
    assert done.returncode == 1
    assert named in done.stderr


# ---------------------------------------------------------------------------------- nothing of elsewhere


def test_continuous_integration_runs_the_recipes() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert os.access(ROOT / "justw", os.X_OK)
    assert [line for line in script.splitlines() if "justw" in line] == [
        "./justw lint",
        "./justw test",
        "./justw coverage",
        "./justw sim --seeds 2000",
    ]
