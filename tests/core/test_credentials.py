"""Which credentials a request is signed with, and when others are looked for."""

from __future__ import annotations

import pytest

from seekfs_core.credentials import CredentialLife, Refused, Use, kind_of_source_answer, not_in_time
from seekfs_core.errors import FailureKind, StoreFailure

NONE = StoreFailure(kind=FailureKind.DENIED, detail="no credentials")


def found(life: CredentialLife, seconds_left: float | None, now: float, *, is_same: bool = False) -> None:
    life.search_begun()
    life.found(seconds_left, now, is_same=is_same)


def test_nothing_is_signed_before_something_is_found() -> None:
    life = CredentialLife()
    assert life.use(0.0) is Use.ONCE_FOUND
    assert not life.is_good(0.0)
    life.search_begun()
    assert life.use(0.0) is Use.ONCE_FOUND
    life.not_found(NONE, 1.0)
    # No pause: somebody waits, and the pauses between its requests are the retry policy's.
    assert life.use(1.0) is Use.ONCE_FOUND
    found(life, None, 2.0)
    assert (life.number, life.use(2.0), life.is_good(2.0)) == (1, Use.AT_HAND, True)


def test_credentials_without_an_end_are_good_for_ever_and_not_looked_for_again() -> None:
    life = CredentialLife()
    found(life, None, 0.0)
    assert life.use(1e12) is Use.AT_HAND


def test_new_ones_are_looked_for_ahead_of_the_end_and_the_old_ones_used_up_to_it() -> None:
    life = CredentialLife()
    found(life, 3600.0, 100.0)
    assert life.use(100.0 + 2699.0) is Use.AT_HAND
    assert life.use(100.0 + 2700.0) is Use.AT_HAND_AND_SEARCH
    assert life.use(100.0 + 3599.0) is Use.AT_HAND_AND_SEARCH
    assert life.use(100.0 + 3600.0) is Use.ONCE_FOUND


def test_short_lived_ones_do_not_make_a_search_of_every_request() -> None:
    life = CredentialLife()
    found(life, 300.0, 0.0)
    assert [life.use(now) for now in (0.0, 59.0, 60.0, 300.0)] == [
        Use.AT_HAND,
        Use.AT_HAND,
        Use.AT_HAND_AND_SEARCH,
        Use.ONCE_FOUND,
    ]


def test_a_renewal_that_fails_is_tried_again_after_a_while() -> None:
    life = CredentialLife()
    found(life, 900.0, 0.0)
    life.search_begun()
    life.not_found(NONE, 100.0)
    assert life.use(159.0) is Use.AT_HAND
    assert life.use(160.0) is Use.AT_HAND_AND_SEARCH
    assert life.use(900.0) is Use.ONCE_FOUND


def test_the_same_ones_found_again_keep_their_number() -> None:
    life = CredentialLife()
    found(life, 900.0, 0.0)
    found(life, 1800.0, 10.0, is_same=True)
    assert (life.number, life.use(1000.0)) == (1, Use.AT_HAND_AND_SEARCH)
    found(life, 1800.0, 20.0)
    assert life.number == 2


def test_refused_ones_are_looked_for_anew_once() -> None:
    life = CredentialLife()
    found(life, None, 0.0)
    life.accepted(1)
    assert life.refused(1, 10.0) is Refused.SEARCH
    life.search_begun()
    # Others that were under way with the same ones wait for the same search.
    assert life.refused(1, 10.1) is Refused.SEARCH
    life.found(None, 11.0, is_same=False)
    assert life.refused(1, 11.1) is Refused.REPLACED
    # The new ones are refused as well: that is the last word, for a while.
    assert life.refused(2, 12.0) is Refused.FINAL
    assert life.refused(2, 69.9) is Refused.FINAL
    assert life.refused(2, 70.0) is Refused.SEARCH


def test_ones_that_were_accepted_in_between_are_looked_for_anew_at_any_time() -> None:
    life = CredentialLife()
    found(life, None, 0.0)
    for number in (1, 2, 3):
        life.accepted(number)
        assert life.refused(number, 1.0) is Refused.SEARCH
        found(life, None, 1.0)
    life.accepted(1)  # An answer that comes late says nothing of the newer ones.
    assert life.refused(4, 1.0) is Refused.FINAL


def test_refused_ones_that_are_found_again_stay_refused() -> None:
    life = CredentialLife()
    found(life, None, 0.0)
    life.accepted(1)
    assert life.refused(1, 1.0) is Refused.SEARCH
    found(life, None, 1.0, is_same=True)
    assert life.refused(1, 2.0) is Refused.FINAL


def test_a_search_that_failed_is_not_held_against_what_is_refused() -> None:
    life = CredentialLife()
    found(life, None, 0.0)
    assert life.refused(1, 1.0) is Refused.SEARCH
    life.search_begun()
    life.not_found(NONE, 2.0)
    assert life.refused(1, 3.0) is Refused.SEARCH


def test_a_search_that_finds_nothing_is_final_only_where_there_never_was_anything() -> None:
    life = CredentialLife()
    life.search_begun()
    assert life.not_found(NONE, 1.0) is NONE
    found(life, 10.0, 2.0)
    life.search_begun()
    away = life.not_found(NONE, 20.0)
    assert (away.kind, away.detail) == (FailureKind.UNREACHABLE, NONE.detail)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "Throttling", FailureKind.UNREACHABLE),
        (400, "RequestLimitExceeded", FailureKind.UNREACHABLE),
        (429, None, FailureKind.UNREACHABLE),
        (500, "InternalFailure", FailureKind.UNREACHABLE),
        (501, None, FailureKind.UNREACHABLE),
        (400, "ValidationError", FailureKind.DENIED),
        (403, "AccessDenied", FailureKind.DENIED),
        (404, None, FailureKind.DENIED),
    ],
)
def test_what_a_source_answers_may_pass_or_is_its_last_word(
    status: int, code: str | None, kind: FailureKind
) -> None:
    assert kind_of_source_answer(status, code) is kind


def test_a_search_that_takes_too_long_may_pass() -> None:
    late = not_in_time(12.0)
    assert late.kind is FailureKind.UNREACHABLE
    assert "12 s" in late.detail
