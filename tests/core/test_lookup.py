"""The order in which a page is looked for, walked through in a world that takes it away again."""

from __future__ import annotations

import itertools
import random

import pytest

from seekfs_core.errors import ContractViolation, retry_after_of
from seekfs_core.lookup import (
    FIRST,
    LOOKS_MAX,
    LOOKUP_TRANSITIONS,
    Asked,
    Knowledge,
    LookupAction,
    NotAtHand,
    NotOnDisk,
    PageLookup,
    WaitOver,
    is_asked_for,
    is_failure_remembered,
    is_lacking,
    left_every_tier,
    looks_on_disk,
)

EVENTS = [
    *(NotOnDisk(known) for known in Knowledge),
    *(Asked(known) for known in Knowledge),
    WaitOver(),
    NotAtHand(),
]

WAY_TO = {
    LookupAction.READ_BACK: (),
    LookupAction.ASK_FOR_WINDOW: (NotOnDisk(Knowledge.NOTHING),),
    LookupAction.ASK_FOR_PAGE: (NotOnDisk(Knowledge.NOTHING), Asked(Knowledge.NOTHING)),
    LookupAction.WAIT: (NotOnDisk(Knowledge.ON_ITS_WAY),),
    LookupAction.LOOK_AT_HAND: (NotOnDisk(Knowledge.CAME),),
    LookupAction.RAISE_FAILURE: (NotOnDisk(Knowledge.FAILED),),
    LookupAction.GIVE_UP: (NotOnDisk(Knowledge.CAME), NotAtHand()) * LOOKS_MAX,
}
"""How each action is come to."""


def lookup_at(action: LookupAction) -> PageLookup:
    lookup = PageLookup()
    doing = FIRST
    for event in WAY_TO[action]:
        (doing,) = lookup.feed(event, 0.0)
    assert doing is action
    return lookup


@pytest.mark.parametrize(("action", "event"), list(itertools.product(LookupAction, EVENTS)))
def test_every_pair_of_action_and_outcome_is_in_the_table_or_refused(
    action: LookupAction, event: NotOnDisk | Asked | WaitOver | NotAtHand
) -> None:
    lookup = lookup_at(action)
    allowed = LOOKUP_TRANSITIONS.get((action, type(event)))
    if allowed is None:
        before = repr(lookup)
        with pytest.raises(ContractViolation):
            lookup.feed(event, 0.0)
        assert repr(lookup) == before
    else:
        assert set(lookup.feed(event, 0.0)) <= allowed


def test_a_page_that_nobody_fetches_is_asked_for_with_its_window_and_waited_for() -> None:
    lookup = PageLookup()
    assert lookup.feed(NotOnDisk(Knowledge.NOTHING), 0.0) == (LookupAction.ASK_FOR_WINDOW,)
    assert lookup.feed(Asked(Knowledge.ON_ITS_WAY), 0.0) == (LookupAction.WAIT,)
    assert lookup.feed(WaitOver(), 0.0) == (LookupAction.LOOK_AT_HAND,)


def test_a_page_of_a_window_that_was_asked_for_before_is_asked_for_by_itself() -> None:
    lookup = PageLookup()
    lookup.feed(NotOnDisk(Knowledge.NOTHING), 0.0)
    assert lookup.feed(Asked(Knowledge.NOTHING), 0.0) == (LookupAction.ASK_FOR_PAGE,)
    # No tier lacked it when that was looked at: so it is there to be found.
    assert lookup.feed(Asked(Knowledge.NOTHING), 0.0) == (LookupAction.LOOK_AT_HAND,)
    assert lookup.feed(NotAtHand(), 0.0) == (LookupAction.READ_BACK,)


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    assert PageLookup().feed(NotOnDisk(Knowledge.ON_ITS_WAY), 0.0) == (LookupAction.WAIT,)


def test_what_failed_is_not_fetched_again_by_the_same_read() -> None:
    assert PageLookup().feed(NotOnDisk(Knowledge.FAILED), 0.0) == (LookupAction.RAISE_FAILURE,)


@pytest.mark.parametrize("seed", range(200))
def test_in_any_world_it_ends_found_failed_or_given_up(seed: int) -> None:
    """The page moves between disk, RAM, the wire and nowhere, by chance, at every step."""
    chance = random.Random(seed)
    lookup = PageLookup()
    doing = FIRST
    looks = 0
    for _ in range(10 * LOOKS_MAX):
        event: NotOnDisk | Asked | WaitOver | NotAtHand
        match doing:
            case LookupAction.READ_BACK:
                event = NotOnDisk(chance.choice([each for each in Knowledge if each is not Knowledge.FAILED]))
            case LookupAction.ASK_FOR_WINDOW | LookupAction.ASK_FOR_PAGE:
                event = Asked(chance.choice(list(Knowledge)))
            case LookupAction.WAIT:
                event = WaitOver()
            case LookupAction.LOOK_AT_HAND:
                looks += 1
                event = NotAtHand()
            case _:
                break
        (doing,) = lookup.feed(event, 0.0)
    assert doing is LookupAction.GIVE_UP
    assert looks == LOOKS_MAX


def test_what_is_known_of_a_page_says_where_it_is_worth_looking() -> None:
    assert {known for known in Knowledge if looks_on_disk(known)} == {Knowledge.NOTHING, Knowledge.CAME}
    assert {known for known in Knowledge if is_asked_for(known)} == {Knowledge.NOTHING, Knowledge.ON_ITS_WAY}


def test_giving_up_says_to_come_back() -> None:
    error = left_every_tier("a", 7)
    assert (error.status, retry_after_of(error)) == (503, 1)
    assert "page 7 of 'a'" in error.detail


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("in_ram", [True, False])
def test_what_is_under_way_or_nowhere_is_asked_for(in_ram: bool, on_disk: bool) -> None:
    assert is_lacking(is_under_way=True, in_ram=in_ram, on_disk=on_disk)
    assert is_lacking(is_under_way=False, in_ram=in_ram, on_disk=on_disk) is (not in_ram and not on_disk)


@pytest.mark.parametrize("is_passing", [False, True])
@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_failure_is_forgotten_where_it_may_pass_and_nobody_waited(
    *, is_passing: bool, is_awaited: bool
) -> None:
    remembered = is_failure_remembered(is_passing=is_passing, is_awaited=is_awaited)
    assert remembered == (not (is_passing and not is_awaited))
