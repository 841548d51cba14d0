"""One scenario through the threads, through asyncio and through the simulator: the same core does the same.

The clock stands still until the scenario moves it, and the store answers when the scenario says so. Whatever
a driver does in between, in whatever order, the scheduler has to come to the same actions.
"""

from __future__ import annotations

import pytest

from tests.io.scripted_drivers import CONTENT, SIZE, Driver, Loop, Record, Simulated, Threads
from tests.sim.options import PAGE

# --- the scenario ---------------------------------------------------------------------------


def play(driver: Driver) -> None:
    """Sharing, a broken connection, a wrong page, a queue behind the ceiling of GETs, and one who leaves."""
    driver.begin("a", [("f", 0, 2 * PAGE)])
    driver.begin("b", [("f", PAGE + 5, 100)])  # Joins the GET of a.
    driver.answer(0, "open", "page")
    assert driver.got["a"] == [CONTENT[:PAGE]]
    assert driver.got["b"] == []
    driver.answer(0, "cut")  # Page 0 stays; page 1 is asked for again, after a backoff.
    driver.take("a")
    driver.advance(2.0)
    driver.begin("c", [("f", 2 * PAGE, 2 * PAGE)])
    driver.begin("d", [("f", 4 * PAGE, SIZE - 4 * PAGE)])  # Waits for its turn: two GETs at once.
    driver.answer(1, "open", "wrong page")  # Asked for once more.
    driver.answer(2, "open", "page")
    driver.leave("c")  # Its other page is nobody's any more.
    driver.advance(1.0)
    for request in (3, 4):
        driver.answer(request, "open", "page")
    driver.answer(2, "page")
    driver.answer(4, "page")
    driver.take("a")
    driver.take("b")
    driver.take("d")
    driver.take("d")


@pytest.fixture(scope="module")
def records() -> dict[str, tuple[Record, dict[str, list[bytes]]]]:
    played = {}
    for kind in (Threads, Loop, Simulated):
        driver: Driver = kind()
        try:
            play(driver)
        finally:
            driver.close()
        played[kind.__name__] = driver.record, driver.got
    return played


@pytest.mark.parametrize("kind", ["Threads", "Loop", "Simulated"])
def test_every_reader_gets_its_bytes(
    records: dict[str, tuple[Record, dict[str, list[bytes]]]], kind: str
) -> None:
    _, got = records[kind]
    assert {reader: b"".join(pieces) for reader, pieces in got.items()} == {
        "a": CONTENT[: 2 * PAGE],
        "b": CONTENT[PAGE + 5 : PAGE + 105],
        "c": CONTENT[2 * PAGE : 3 * PAGE],
        "d": CONTENT[4 * PAGE :],
    }


@pytest.mark.parametrize("kind", ["Loop", "Simulated"])
def test_the_scheduler_does_the_same_whoever_drives_it(
    records: dict[str, tuple[Record, dict[str, list[bytes]]]], kind: str
) -> None:
    threads = records["Threads"][0].actions
    assert records[kind][0].actions == threads
    kinds = [action[0] for action in threads if isinstance(action, tuple)]
    assert {"StartGet", "DeliverPage", "DiscardPage"} <= set(kinds)
    assert kinds.count("StartGet") == 5
