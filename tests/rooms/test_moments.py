"""Times as logs write them."""

from datetime import UTC, datetime

import pytest

from contentctr.rooms.lines import BadLine
from contentctr.rooms.moments import TimeAxis, parse_started_at

AXIS = TimeAxis(started_at=parse_started_at("2024-05-01T20:00:00+08:00"))


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (3, 3.0),
        (-2.5, -2.5),
        ("12.5", 12.5),
        ("1e2", 100.0),
        ("-1:56", -116.0),
        ("2:03", 123.0),
        ("1:02:03.25", 3723.25),
        ("00:00:00,300", 0.3),
        ("2024-05-01T20:00:01.5+08:00", 1.5),
        ("2024-05-01 12:00:02 UTC", 2.0),
        ("2024-05-01T12:00:02Z", 2.0),
        ("2024/05/01 20:00:03", 3.0),
        (datetime(2024, 5, 1, 12, 0, 4, tzinfo=UTC), 4.0),
        (1714564805, 5.0),
        (1714564805000, 5.0),
        ("1714564805000000", 5.0),
        (1714564805000000000, 5.0),
    ],
)
def test_a_time_is_seconds_from_the_start(given: object, seconds: float) -> None:
    assert AXIS.seconds(given, "t") == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "t is missing"),
        (" ", "t is missing"),
        (True, "t must be a number of seconds, not True"),
        ([1], r"t must be a number of seconds, not \[1\]"),
        ("soon", "t must be a number of seconds or a time, not 'soon'"),
        ("1_000", "t must be a number of seconds or a time"),
        (float("nan"), "t must be finite"),
        (10**400, "t must be finite"),
    ],
)
def test_what_is_no_time_is_said(given: object, words: str) -> None:
    with pytest.raises(BadLine, match=words):
        AXIS.seconds(given, "t")


@pytest.mark.parametrize("given", [1714564805, "2024-05-01 20:00:03", "2024-05-01T20:00:01Z"])
def test_clock_times_need_a_start(given: object) -> None:
    with pytest.raises(BadLine, match="when the room started is not known: give started_at"):
        TimeAxis().seconds(given, "t")
    assert TimeAxis().seconds("0:05", "t") == 5.0


def test_a_time_of_day_goes_on_over_midnight() -> None:
    assert AXIS.time_of_day("20:00:05", "t") == 5.0
    assert AXIS.time_of_day("19:59:58", "t") == -2.0
    assert AXIS.time_of_day("00:00:05", "t", after=14000.0) == 4 * 3600 + 5.0
