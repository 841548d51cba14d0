"""seekfs_core.patience: one bound a wait, and one wait too long a read."""

from __future__ import annotations

from seekfs_core.fetch_messages import PageSource
from seekfs_core.pages import file_key
from seekfs_core.patience import (
    DISK_SECONDS_MAX,
    PAGE_SECONDS_MIN,
    Patience,
    disk_seconds,
    overdue_page,
    page_seconds,
)
from tests.core.model_files import NS, blank_file


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
    error = patience.spent("a page")
    assert error.status == 504
    assert "waited 0.5 seconds" in error.detail
    assert "api.request_deadline_sec" in error.detail
    patience.begin(20.0)
    assert patience.seconds_left(20.0) == 0


def test_it_says_what_was_waited_for() -> None:
    error = Patience(2.0).spent("the manifest of 'dev'", ns="dev")
    assert error.detail == "waited 2 seconds for the manifest of 'dev' (api.request_deadline_sec)"
    assert error.context == {"ns": "dev"}


def test_of_a_page_it_says_which() -> None:
    file = blank_file("a", 30, 10)
    key = file_key(NS, "a", file.sha256, file.page_size_bytes, file.crcs)
    error = overdue_page(Patience(2.0), PageSource(NS, 3, file, key), 1)
    assert "for page 1 of 'a' in version 3 of 'dev' (" in error.detail
    assert error.context["key"] == "namespaces/dev/files/a"
    assert [error.context[name] for name in ("ns", "path", "version", "page_id")] == ["dev", "a", 3, 1]


def test_a_page_that_is_late_leaves_time_for_another_try() -> None:
    assert page_seconds(120.0) == 60.0
    assert page_seconds(0.2) == PAGE_SECONDS_MIN


def test_a_disk_that_hangs_leaves_time_for_the_store() -> None:
    assert disk_seconds(8.0) == 2.0
    assert disk_seconds(1e9) == DISK_SECONDS_MAX


def test_until_when_is_now_once_one_wait_was_too_long() -> None:
    patience = Patience(10.0)
    patience.begin(5.0)
    assert patience.until(6.0) == 15.0
    patience.spent("it")
    assert patience.until(6.0) == 6.0
