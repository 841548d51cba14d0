"""Bringing a page to disk: every pair of step and outcome, and what is reported in the end."""

from __future__ import annotations

import itertools

import pytest

from seekfs_core.errors import ContractViolation, NoSuchFile, RangeNotSatisfiable
from seekfs_core.staging import (
    FIRST,
    REPORTS,
    STAGING_TRANSITIONS,
    Done,
    PageStaging,
    Seen,
    StagingStep,
    file_with_page,
)
from tests.core.model_files import blank_file, manifest_of

WAY_TO: dict[StagingStep, tuple[Seen | Done, ...]] = {
    StagingStep.LOOK_ON_DISK: (),
    StagingStep.READ: (Seen(False),),
    StagingStep.AWAIT_WRITING: (Seen(False), Done()),
    StagingStep.OFFER: (Seen(False), Done(), Done()),
    StagingStep.LOOK_IN_RAM: (Seen(False), Done(), Done(), Seen(False)),
    StagingStep.REPORT_DISK: (Seen(True),),
    StagingStep.REPORT_RAM: (Seen(False), Done(), Done(), Seen(False), Seen(True)),
    StagingStep.REPORT_STORE: (Seen(False), Done(), Done(), Seen(False), Seen(False)),
}


@pytest.mark.parametrize(
    ("step", "outcome"), [*itertools.product(StagingStep, (Seen(True), Seen(False), Done()))]
)
def test_every_pair_of_step_and_outcome_is_in_the_table_or_refused(
    step: StagingStep, outcome: Seen | Done
) -> None:
    staging, doing = PageStaging(), FIRST
    for event in WAY_TO[step]:
        (doing,) = staging.feed(event, 0.0)
    assert doing is step
    if (step, outcome) in STAGING_TRANSITIONS:
        assert staging.feed(outcome, 0.0) == (STAGING_TRANSITIONS[step, outcome],)
    else:
        with pytest.raises(ContractViolation):
            staging.feed(outcome, 0.0)


@pytest.mark.parametrize(
    ("on_disk", "admitted", "in_ram", "report", "reads"),
    [
        (True, True, True, StagingStep.REPORT_DISK, 0),
        (False, True, True, StagingStep.REPORT_DISK, 1),
        (False, True, False, StagingStep.REPORT_DISK, 1),
        (False, False, True, StagingStep.REPORT_RAM, 1),
        (False, False, False, StagingStep.REPORT_STORE, 1),
    ],
)
def test_where_a_page_is_said_to_be(
    on_disk: bool, admitted: bool, in_ram: bool, report: StagingStep, reads: int
) -> None:
    outcomes: dict[StagingStep, Seen | Done] = {
        StagingStep.LOOK_ON_DISK: Seen(on_disk),
        StagingStep.READ: Done(),
        StagingStep.AWAIT_WRITING: Done(),
        StagingStep.OFFER: Seen(admitted),
        StagingStep.LOOK_IN_RAM: Seen(in_ram),
    }
    staging, step, done = PageStaging(), FIRST, []
    while step not in REPORTS:
        done.append(step)
        (step,) = staging.feed(outcomes[step], 0.0)
    assert step is report
    assert done.count(StagingStep.READ) == reads


def test_a_page_is_one_of_a_file_of_the_version() -> None:
    file = blank_file("a", 25, 10)
    manifest = manifest_of(file)
    assert file_with_page(manifest, "a", 2) == file
    with pytest.raises(RangeNotSatisfiable, match="'a' has 3 pages in version .*, no page 3"):
        file_with_page(manifest, "a", 3)
    with pytest.raises(NoSuchFile):
        file_with_page(manifest, "b", 0)
