"""Mutants of the core, drawn at random from those of cosmic-ray, and who catches them: ``just mutants``.

The same ones are drawn from the same sources. What changes nothing that is ever evaluated, such as an
operator in an annotation, is no mutant. Each is judged by the tests of its module, then by all tests of
the core, then by the simulator; the first that fails has caught it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import queue
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import cosmic_ray.commands
from attrs import frozen
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db

from tests.planted.checks import ROOT, Workspace

COUNT: Final = 200
SEED: Final = 1
SEEDS: Final = 60
CORE: Final = ROOT / "seekfs_core"

OWN_TESTS: Final = {
    "fetch": ("fetch", "hedge"),
    "publication": ("publication", "creation"),
    "segment": ("segments", "segment_layout", "restoring"),
    "resolver": ("resolver",),
    "trace": ("trace", "replaying"),
    "machine": ("machine_contract",),
    "slots": ("fetch", "budget", "breaker"),
    "states": ("machine_contract",),
    "pages": ("manifest", "plan"),
    "replaying": ("replaying",),
    "clock": ("virtual_clock",),
}
"""Of modules whose tests have another name: by the beginning of the module's."""


@frozen
class Mutant:
    """``code`` is the module with one thing changed, as ``diff`` shows."""

    path: str
    line: int
    operator: str
    code: str
    diff: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.operator}"


def _evaluated(code: str) -> str:
    """What of a module is evaluated: all but its annotations, texts that nobody asks for, and comments."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef():
                node.returns = None
            case ast.arg():
                node.annotation = None
            case ast.AnnAssign():
                node.annotation = ast.Constant(value=None)
            case ast.Expr(value=ast.Constant(value=str())):
                node.value = ast.Constant(value="")
            case _:
                pass
    return ast.dump(tree)


def _mutants(directory: Path) -> Iterator[Mutant]:
    """Every mutant, in the same order each time."""
    modules = sorted(CORE.rglob("*.py"))
    with use_db(str(directory / "mutants.sqlite"), WorkDB.Mode.create) as database:
        cosmic_ray.commands.init(modules, database, {})
        specs = [mutation for item in database.work_items for mutation in item.mutations]
    specs.sort(key=lambda each: (str(each.module_path), each.start_pos, each.operator_name, each.occurrence))
    chosen = random.Random(SEED)
    chosen.shuffle(specs)
    for spec in specs:
        path = Path(spec.module_path)
        before = path.read_text(encoding="utf-8")
        operator = get_operator(spec.operator_name)(**spec.operator_args)
        code = mutate_code(before, operator, spec.occurrence)
        if code is None or _is_the_same(before, code):
            continue
        name = str(path.relative_to(ROOT))
        lines = difflib.unified_diff(before.splitlines(), code.splitlines(), lineterm="", n=0)
        changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        yield Mutant(name, spec.start_pos[0], spec.operator_name.split("/")[1], code, "\n".join(changed))


def _is_the_same(before: str, after: str) -> bool:
    try:
        return _evaluated(before) == _evaluated(after)
    except SyntaxError:
        return True  # No program at all.


def draw(count: int) -> list[Mutant]:
    with tempfile.TemporaryDirectory(prefix="seekfs-mutants-") as directory:
        mutants = _mutants(Path(directory))
        return [mutant for mutant, _ in zip(mutants, range(count), strict=False)]


def own_tests(path: str) -> list[str]:
    """The files with the tests of a module."""
    stem = Path(path).stem
    names = [stem]
    for beginning, others in OWN_TESTS.items():
        if stem.startswith(beginning):
            names += others
    found = {file for name in names for file in (ROOT / "tests" / "core").glob(f"test_{name}*.py")}
    return sorted(str(file.relative_to(ROOT)) for file in found)


def judge(mutant: Mutant, copy: Workspace, seeds: int) -> str:
    """Who catches it; nothing where nobody does."""
    file = copy.directory / mutant.path
    before = file.read_text(encoding="utf-8")
    file.write_text(mutant.code, encoding="utf-8")
    try:
        own = own_tests(mutant.path)
        if own and copy.run_tests(own, stop_at_first=True).is_caught:
            return "own tests"
        if copy.run_tests(["tests/core"], stop_at_first=True).is_caught:
            return "tests of others"
        if copy.run_simulator(seeds).is_caught:
            return "simulator"
        return ""
    finally:
        file.write_text(before, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="just mutants", description="Random mutants of the core.")
    parser.add_argument("--count", type=int, default=COUNT, metavar="N", help=f"how many ({COUNT})")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="not the first so many of them (0)")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"of the simulator ({SEEDS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="copies at once")
    given = parser.parse_args(argv)
    began = time.monotonic()
    mutants = draw(given.skip + given.count)[given.skip :]
    by: Counter[str] = Counter()
    survivors: list[Mutant] = []
    with ExitStack() as opened:
        copies: queue.SimpleQueue[Workspace] = queue.SimpleQueue()
        for _ in range(given.jobs):
            directory = opened.enter_context(tempfile.TemporaryDirectory(prefix="seekfs-mutants-"))
            copies.put(Workspace.of_checkout(Path(directory)))

        def judged(mutant: Mutant) -> str:
            copy = copies.get()
            try:
                return judge(mutant, copy, given.seeds)
            finally:
                copies.put(copy)

        pool = opened.enter_context(ThreadPoolExecutor(given.jobs))
        for number, (mutant, who) in enumerate(zip(mutants, pool.map(judged, mutants), strict=True)):
            by[who] += 1
            print(f"{given.skip + number}: {mutant}: {who or 'SURVIVED'}", flush=True)
            if not who:
                survivors.append(mutant)
                print(mutant.diff, flush=True)
    caught = len(mutants) - len(survivors)
    told = ", ".join(f"{count} by {who}" for who, count in by.most_common() if who)
    print(f"\n{caught} of {len(mutants)} caught: {told}; {time.monotonic() - began:.0f} s")
    return 0 if 10 * caught >= 9 * len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
