"""Where a page that is not in RAM is looked for, in which order, and when that is given up.

A read looks on disk, then asks for the page: first for all that it wants of the page's window
(``seekfs_core.readahead``), and if that was asked for before and the page is gone again, for the
page. What is on its way is waited for; what turned out to be in a tier after all is looked for at
hand again. A page may slip from tier to tier meanwhile, so this goes round until it is found.

How it is driven: carry out ``FIRST``; feed what came of it; carry out the action that comes out,
and so on, until the page is found (then nothing more is fed) or the action is ``RAISE_FAILURE`` or
``GIVE_UP``.
"""

from __future__ import annotations

import enum
from typing import Final, assert_never

from attrs import define, field, frozen

from seekfs_core.errors import ContractViolation, StoreUnavailable
from seekfs_core.machine import advance

LOOKS_MAX: Final = 100
"""How often a page may slip from tier to tier while it is looked for, before that is an error."""


class Knowledge(enum.Enum):
    """What a read knows of a page that it looks for."""

    NOTHING = "nothing"
    ON_ITS_WAY = "on its way"
    CAME = "came while something else was waited for"
    FAILED = "failed"


def looks_on_disk(known: Knowledge) -> bool:
    """Whether a page of which this is known may be read back: one that comes, or failed to, is not there."""
    return known not in (Knowledge.ON_ITS_WAY, Knowledge.FAILED)


def is_asked_for(known: Knowledge) -> bool:
    """Whether such a page is asked for with its window: not one that is at hand, or has failed this read."""
    return known not in (Knowledge.CAME, Knowledge.FAILED)


def is_lacking(*, is_under_way: bool, in_ram: bool, on_disk: bool) -> bool:
    """Whether a page has to be asked for. One that is under way is joined, whatever a tier may say of it
    meanwhile: its readers are told when it is there for them."""
    return is_under_way or not (in_ram or on_disk)


def is_failure_remembered(*, is_passing: bool, is_awaited: bool) -> bool:
    """Whether a failure to fetch a page is this read's for good. One that may pass is forgotten where the
    page was only asked for ahead: by the time that the read comes to it, the store may be well again."""
    return is_awaited or not is_passing


def left_every_tier(path: str, page_id: int) -> StoreUnavailable:
    """What to raise at ``GIVE_UP``: tiers so busy that trying again is all that helps."""
    return StoreUnavailable(f"page {page_id} of {path!r} left every cache as fast as it came; try again")


@frozen
class NotOnDisk:
    """The page is not on disk, or could not be read from there."""

    known: Knowledge


@frozen
class Asked:
    """The page's window, or the page, was asked for. ``NOTHING``: no tier lacked it, or it had been
    asked for before."""

    known: Knowledge


@frozen
class WaitOver:
    """The page is no longer on its way: it has come, has failed, or was given up for others' sake."""


@frozen
class NotAtHand:
    """Neither this read nor RAM holds the page."""


class LookupAction(enum.Enum):
    """What to do next; each is also the state in which its outcome is waited for."""

    READ_BACK = "read it back from disk"
    ASK_FOR_WINDOW = "ask for what is wanted of its window"
    ASK_FOR_PAGE = "ask for it"
    WAIT = "wait for it"
    LOOK_AT_HAND = "look whether this read or RAM holds it"
    RAISE_FAILURE = "raise what the fetch of it failed with"
    GIVE_UP = "say that it left every tier as fast as it came"


FIRST: Final = LookupAction.READ_BACK

LOOKUP_TRANSITIONS: Final[dict[tuple[LookupAction, type], frozenset[LookupAction]]] = {
    (LookupAction.READ_BACK, NotOnDisk): frozenset(
        {
            LookupAction.ASK_FOR_WINDOW,
            LookupAction.WAIT,
            LookupAction.LOOK_AT_HAND,
            LookupAction.RAISE_FAILURE,
        }
    ),
    (LookupAction.ASK_FOR_WINDOW, Asked): frozenset(
        {LookupAction.ASK_FOR_PAGE, LookupAction.WAIT, LookupAction.LOOK_AT_HAND}
    ),
    (LookupAction.ASK_FOR_PAGE, Asked): frozenset({LookupAction.WAIT, LookupAction.LOOK_AT_HAND}),
    (LookupAction.WAIT, WaitOver): frozenset({LookupAction.LOOK_AT_HAND}),
    (LookupAction.LOOK_AT_HAND, NotAtHand): frozenset({LookupAction.READ_BACK, LookupAction.GIVE_UP}),
}
"""What was being done and what came of it, to what may be done next."""


@define
class PageLookup:
    """The way of one read to one page; see the module's text."""

    looks_max: int = field(default=LOOKS_MAX)
    _doing: LookupAction = field(default=FIRST, init=False)
    _looks: int = field(default=0, init=False)
    _now: float = field(default=float("-inf"), init=False)

    def feed(self, event: NotOnDisk | Asked | WaitOver | NotAtHand, now: float) -> tuple[LookupAction]:
        """One outcome in, the one thing to do next out; see ``seekfs_core.machine``."""
        later = advance(self._now, now)
        allowed = LOOKUP_TRANSITIONS.get((self._doing, type(event)))
        if allowed is None:
            raise ContractViolation(f"{event} cannot come of {self._doing.value!r}")
        if isinstance(event, NotAtHand):
            self._looks += 1
        landing = self._next(event)
        assert landing in allowed, (self._doing, event, landing)
        self._doing, self._now = landing, later
        return (landing,)

    def next_deadline(self) -> None:
        """How long to wait is for ``seekfs_core.patience`` to say."""

    def _next(self, event: NotOnDisk | Asked | WaitOver | NotAtHand) -> LookupAction:
        match event:
            case NotOnDisk(Knowledge.FAILED):
                return LookupAction.RAISE_FAILURE
            case NotOnDisk(Knowledge.ON_ITS_WAY) | Asked(Knowledge.ON_ITS_WAY):
                return LookupAction.WAIT
            case NotOnDisk(Knowledge.NOTHING):
                return LookupAction.ASK_FOR_WINDOW
            case Asked(Knowledge.NOTHING) if self._doing is LookupAction.ASK_FOR_WINDOW:
                return LookupAction.ASK_FOR_PAGE
            case NotOnDisk() | Asked() | WaitOver():
                return LookupAction.LOOK_AT_HAND
            case NotAtHand():
                return LookupAction.READ_BACK if self._looks < self.looks_max else LookupAction.GIVE_UP
            case _:
                assert_never(event)
