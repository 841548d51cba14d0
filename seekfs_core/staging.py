"""How one page is brought to disk on demand, and where it is said to be then.

A page that is on disk is left there. Otherwise it is read as any reader would, which verifies it
and may already write it; that writing is waited for, since a page that somebody else is writing
would be refused a second place. If it is not there then, it is offered once more: admission may
have turned it down for a reader, and has the last word here too. What is on disk, in RAM or in
neither is said in that order: a page in both is safe on disk.

How it is driven: carry out ``FIRST``; feed what came of it; carry out the action that comes out,
and so on, until it is one of ``REPORTS``.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation, RangeNotSatisfiable
from seekfs_core.machine import advance
from seekfs_core.manifest import FileEntry, Manifest


def file_with_page(manifest: Manifest, path: str, page_id: int) -> FileEntry:
    """The file of a version that has this page. ``NoSuchFile``; ``RangeNotSatisfiable`` past its end."""
    file = manifest.file(path)
    if page_id >= file.page_count:
        raise RangeNotSatisfiable(
            f"{path!r} has {file.page_count} pages in version {manifest.version}, no page {page_id}",
            path=path,
            size=file.size,
            page_count=file.page_count,
        )
    return file


class StagingStep(enum.Enum):
    """What to do next; each is also the state in which its outcome is waited for."""

    LOOK_ON_DISK = "look whether it is on disk"
    READ = "read it, as a reader would"
    AWAIT_WRITING = "wait until nobody is writing it"
    OFFER = "offer it to the disk, and look whether it is there"
    LOOK_IN_RAM = "look whether it is in RAM"
    REPORT_DISK = "it is on disk"
    REPORT_RAM = "it is in RAM"
    REPORT_STORE = "it is in no tier"


@frozen
class Seen:
    """What came of looking for the page somewhere."""

    is_there: bool


@frozen
class Done:
    """Reading, or waiting, is over."""


FIRST: Final = StagingStep.LOOK_ON_DISK

REPORTS: Final = frozenset({StagingStep.REPORT_DISK, StagingStep.REPORT_RAM, StagingStep.REPORT_STORE})

STAGING_TRANSITIONS: Final[dict[tuple[StagingStep, Seen | Done], StagingStep]] = {
    (StagingStep.LOOK_ON_DISK, Seen(True)): StagingStep.REPORT_DISK,
    (StagingStep.LOOK_ON_DISK, Seen(False)): StagingStep.READ,
    (StagingStep.READ, Done()): StagingStep.AWAIT_WRITING,
    (StagingStep.AWAIT_WRITING, Done()): StagingStep.OFFER,
    (StagingStep.OFFER, Seen(True)): StagingStep.REPORT_DISK,
    (StagingStep.OFFER, Seen(False)): StagingStep.LOOK_IN_RAM,
    (StagingStep.LOOK_IN_RAM, Seen(True)): StagingStep.REPORT_RAM,
    (StagingStep.LOOK_IN_RAM, Seen(False)): StagingStep.REPORT_STORE,
}
"""What was being done and what came of it, to what is done next."""


@define
class PageStaging:
    """The way of one page to disk; see the module's text."""

    _doing: StagingStep = field(default=FIRST, init=False)
    _now: float = field(default=float("-inf"), init=False)

    def feed(self, event: Seen | Done, now: float) -> tuple[StagingStep]:
        """One outcome in, the one thing to do next out; see ``seekfs_core.machine``."""
        later = advance(self._now, now)
        following = STAGING_TRANSITIONS.get((self._doing, event))
        if following is None:
            raise ContractViolation(f"{event} cannot come of {self._doing.value!r}")
        self._doing, self._now = following, later
        return (following,)

    def next_deadline(self) -> None:
        """How long to wait is for the request's deadline to say."""
