"""The planted bugs fit the core as it is, and the page is about them; ``just planted-bugs`` judges them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.planted.__main__ import BUGS, PAGE, Bug, rows_of, summary
from tests.planted.checks import ROOT, Workspace

PATCHES = sorted(BUGS.glob("*.patch"))


def test_there_are_enough_of_them() -> None:
    assert len(PATCHES) >= 30


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_bug_fits_the_core_and_says_what_is_wrong_and_whose_tests_are_its_own(path: Path) -> None:
    bug = Bug.of(path)
    assert bug.wrong
    assert (ROOT / bug.module).is_file()
    assert bug.own
    assert [name for name in bug.own if not (ROOT / name).is_file()] == []
    done = subprocess.run(
        ["git", "apply", "--check", str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"make it anew: {done.stderr}"


def test_a_bug_is_in_its_copy_and_not_in_the_checkout(tmp_path: Path) -> None:
    bug = Bug.of(PATCHES[0])
    before = (ROOT / bug.module).read_bytes()
    copy = Workspace.of_checkout(tmp_path)
    copy.apply(bug.path)
    assert (tmp_path / bug.module).read_bytes() != before
    assert (ROOT / bug.module).read_bytes() == before
    with pytest.raises(ValueError, match="does not apply"):
        copy.apply(bug.path)


def test_a_copy_is_judged_by_its_own_code(tmp_path: Path) -> None:
    copy = Workspace.of_checkout(tmp_path)
    tests = ["tests/core/test_frame_format.py"]
    assert not copy.run_tests(tests).is_caught
    assert not copy.run_simulator(1).is_caught
    module = tmp_path / "seekfs_core" / "frame_format.py"
    module.write_text(module.read_text(encoding="utf-8").replace("<= 599", "<= 500"), encoding="utf-8")
    caught = copy.run_tests(tests)
    assert {each.file for each in caught.failed} == set(tests)
    grid = tmp_path / "seekfs_core" / "grid.py"
    grid.write_text("raise RuntimeError('broken')\n", encoding="utf-8")
    assert copy.run_simulator(1).is_caught


def test_the_page_has_a_row_for_each_and_says_what_they_come_to() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = rows_of(page)
    assert list(rows) == [path.stem for path in PATCHES]
    for path in PATCHES:
        assert Bug.of(path).wrong in rows[path.stem]
    assert page.rstrip().endswith(f"{summary(rows.values())}.")
    assert f"{len(PATCHES)} of {len(PATCHES)} caught" in page
