"""seekfs_core.patience: one bound a wait, and one wait too long a read."""

from __future__ import annotations

from seekfs_core.patience import PAGE_SECONDS_MIN, Patience, page_seconds


def test_each_wait_has_the_whole_bound() -> None:
    patience = Patience(5)
    for began in (10.0, 1000.0):
        patience.begin(began)
        assert patience.seconds_left(began) == 5
        assert patience.seconds_left(began + 4) == 1
        assert patience.seconds_left(began + 6) == 0


def test_after_one_wait_that_was_too_long_there_is_none() -> None:
    patience = Patience(0.5)
    patience.begin(10.0)
    error = patience.spent()
    assert error.status == 504
    assert "waited 0.5 seconds" in error.detail
    assert "api.request_deadline_sec" in error.detail
    patience.begin(20.0)
    assert patience.seconds_left(20.0) == 0


def test_it_says_what_was_waited_for() -> None:
    error = Patience(2.0, "the manifest of 'dev'").spent(ns="dev")
    assert error.detail == "waited 2 seconds for the manifest of 'dev' (api.request_deadline_sec)"
    assert error.context == {"ns": "dev"}


def test_a_page_that_is_late_leaves_time_for_another_try() -> None:
    assert page_seconds(120.0) == 60.0
    assert page_seconds(0.2) == PAGE_SECONDS_MIN
