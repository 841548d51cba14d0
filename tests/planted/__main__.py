"""Plant each bug of ``bugs/`` into a copy, and show who catches it: ``just planted-bugs``.

Prints a line a bug as it is judged, and at the end the table; docs/planted-bugs.md has it. Ends with 1
where one was not caught, or where fewer than half were by the simulator or a search.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.planted.checks import ROOT, SimulatorOutcome, TestsOutcome, Workspace

BUGS: Final = Path(__file__).parent / "bugs"
SEEDS: Final = 200
PAGE: Final = ROOT / "docs" / "planted-bugs.md"
NONE: Final = "-"


@frozen
class Bug:
    """One of ``bugs/``: its first lines say what is wrong and which tests are the module's own."""

    path: Path
    wrong: str
    own: tuple[str, ...]
    module: str

    @property
    def name(self) -> str:
        return self.path.stem

    @classmethod
    def of(cls, path: Path) -> Bug:
        head, _, diff = path.read_text(encoding="utf-8").partition("--- a/")
        fields = dict(line.split(": ", 1) for line in head.strip().splitlines())
        return cls(path, fields["Wrong"], tuple(fields["Own tests"].split()), diff.partition("\n")[0].strip())


@frozen
class Verdict:
    """Who caught a bug."""

    bug: Bug
    tests: TestsOutcome
    simulator: SimulatorOutcome

    @property
    def examples(self) -> list[str]:
        """The module's own tests that noticed, but for searches."""
        own = [each for each in self.tests.failed if each.file in self.bug.own and not each.is_search]
        return sorted({each.short for each in own})

    @property
    def searches(self) -> list[str]:
        return sorted({each.short for each in self.tests.failed if each.is_search})

    @property
    def others(self) -> list[str]:
        found = {each.short for each in self.tests.failed if not each.is_search}
        return sorted(found - {*self.examples})

    @property
    def is_caught(self) -> bool:
        return self.tests.is_caught or self.simulator.is_caught

    @property
    def is_found(self) -> bool:
        """By who looks for what breaks promises, and has no example of this very bug."""
        return bool(self.searches) or self.simulator.is_caught


def judge(bug: Bug, seeds: int) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="seekfs-planted-") as directory:
        copy = Workspace.of_checkout(Path(directory))
        copy.apply(bug.path)
        return Verdict(bug, copy.run_tests(["tests/core"]), copy.run_simulator(seeds))


def check_clean_copy(seeds: int) -> None:
    """A copy without a bug fails nothing, or no verdict would mean anything."""
    with tempfile.TemporaryDirectory(prefix="seekfs-planted-") as directory:
        copy = Workspace.of_checkout(Path(directory))
        tests, simulator = copy.run_tests(["tests/core"]), copy.run_simulator(seeds)
    if tests.is_caught or simulator.is_caught:
        raise SystemExit(f"a copy without a bug fails already: {tests} {simulator}")


def _first_of(names: Sequence[str]) -> str:
    if not names:
        return NONE
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    file, _, test = names[0].partition("::")
    return f"`{file.removesuffix('.py')}`: {test.removeprefix('test_').replace('_', ' ')}{more}"


HEAD: Final = """| bug | what is wrong | own tests | searches | simulator, by seed |
|---|---|---|---|---|"""


def row(verdict: Verdict) -> str:
    """Of docs/planted-bugs.md."""
    simulator = verdict.simulator.said.replace("|", "/")[:110]
    if verdict.simulator.seed is not None:
        simulator = f"{verdict.simulator.seed}: {simulator}"
    examples = _first_of(verdict.examples)
    if examples == NONE and verdict.others:
        examples = f"none; {_first_of(verdict.others)}"
    examples = verdict.tests.note or examples
    cells = [
        f"`{verdict.bug.name}`",
        verdict.bug.wrong,
        examples,
        _first_of(verdict.searches),
        simulator or NONE,
    ]
    return f"| {' | '.join(cells)} |"


def rows_of(page: str) -> dict[str, str]:
    """The rows that a page has, by the name of their bug."""
    return {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}


def summary(rows: Iterable[str]) -> str:
    """What the rows come to together."""
    cells = [row.strip("| ").split(" | ") for row in rows]
    own = [not each[2].startswith((NONE, "none")) for each in cells]
    searched = [each[3] != NONE for each in cells]
    simulated = [each[4] != NONE for each in cells]
    found = [one or other for one, other in zip(searched, simulated, strict=True)]
    caught = sum(each[2] != NONE or by for each, by in zip(cells, found, strict=True))
    alone = sum(by and not example for by, example in zip(found, own, strict=True))
    return (
        f"{caught} of {len(cells)} caught; {sum(found)} by the simulator or a search ({sum(simulated)} by "
        f"the simulator, {sum(searched)} by a search), {alone} of these by no example of the module's own"
    )


def _write(rows: Mapping[str, str]) -> None:
    """Put rows into the page, in the place of those that it has for the same bugs."""
    page = PAGE.read_text(encoding="utf-8")
    there = {bug.stem for bug in BUGS.glob("*.patch")}
    rows = {name: row for name, row in sorted({**rows_of(page), **rows}.items()) if name in there}
    before = page.partition(HEAD.partition("\n")[0])[0]
    said = summary(rows.values())
    PAGE.write_text("\n".join([f"{before}{HEAD}", *rows.values(), "", f"{said}.", ""]), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="just planted-bugs", description="Who catches which bug.")
    parser.add_argument("names", nargs="*", metavar="BUG", help="only these (all)")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"of the simulator ({SEEDS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="copies at once")
    parser.add_argument("--write", action="store_true", help="write the table into docs/planted-bugs.md")
    given = parser.parse_args(argv)
    bugs = [Bug.of(path) for path in sorted(BUGS.glob("*.patch"))]
    unknown = {*given.names} - {bug.name for bug in bugs}
    if unknown:
        parser.error(f"there is no bug {', '.join(sorted(unknown))}")
    bugs = [bug for bug in bugs if not given.names or bug.name in given.names]
    began = time.monotonic()
    check_clean_copy(given.seeds)
    print(f"{len(bugs)} bugs; a copy without one fails nothing", flush=True)
    verdicts = []
    with ThreadPoolExecutor(given.jobs) as pool:
        for each in pool.map(lambda bug: judge(bug, given.seeds), bugs):
            verdicts.append(each)
            by = [
                f"{len(each.examples)} own",
                f"{len(each.searches)} searches",
                f"{len(each.others)} others",
                f"simulator {each.simulator.seed if each.simulator.is_caught else 'not'}",
            ]
            found = "caught" if each.is_caught else "NOT CAUGHT"
            print(f"{each.bug.name}: {found}: {', '.join(by)} {each.tests.note}", flush=True)
    rows = {each.bug.name: row(each) for each in verdicts}
    print("\n".join(["", HEAD, *rows.values(), "", summary(rows.values())]))
    print(f"{time.monotonic() - began:.0f} s")
    if given.write:
        _write(rows)
    is_enough = 2 * sum(each.is_found for each in verdicts) >= len(verdicts)
    return 0 if is_enough and all(each.is_caught for each in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
