"""Times as logs write them."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contentctr.rooms.lines import BadLine
from contentctr.rooms.moment_columns import column_seconds
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
        ("2024-05-01 20:00:03.25 +0800", 3.25),
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


TIMES = [
    *("3", "-2.5", "+7", ".5", "1e2", "99999999", "-1:56", "2:03", "1:02:03.25", "0:0:1", "25:61"),
    *("2024-05-01T20:00:01.5+08:00", "2024-05-01 12:00:02 UTC", "2024-05-01T12:00:02Z"),
    *("2024/05/01 20:00:03", "2024-05-01 20:00", "2024-05-01", "20240501T200001", "2024-02-30 1:1"),
    *("2024-05-01T20:00:01,123456789", "2024-05-01T20:00:60", "2024-05-01 24:00:00", "0001-01-01"),
    *("2024-05-01 20:00:03 +0800", "2024-05-01 20:00:03 -08:30", "2024-05-01T20:00:03+08:00:30"),
    *("1714564805", "1714564805000", "1714564805000000", "1714564805000000000", "1714564805.25"),
    *("soon", "1_000", "inf", "", " ", "12.5 ", "2024-05-01T20:00:01+99:00", "9" * 400),
]


@pytest.mark.parametrize("axis", [AXIS, TimeAxis()])
def test_a_column_is_read_as_its_times_one_by_one(axis: TimeAxis) -> None:
    found = column_seconds(axis, pl.Series(TIMES), "t")
    for text, second, reason in zip(TIMES, found.seconds, found.reasons, strict=True):
        try:
            assert second == axis.seconds(text, "t"), text
            assert reason is None
        except BadLine:
            assert second is None, text
            assert reason.startswith("t "), text


def test_columns_of_numbers_and_datetimes() -> None:
    numbers = [3, 1714564805, 1714564805000, 1714564805000000, 1714564805000000000]
    found = column_seconds(AXIS, pl.Series(numbers), "t")
    assert found.seconds.to_list() == [AXIS.seconds(n, "t") for n in numbers]
    plain = datetime(2024, 5, 1, 20, 0, 1, 250000)
    found = column_seconds(AXIS, pl.Series([plain, None]), "t")
    assert (found.seconds.to_list(), found.without_zone) == ([1.25, None], 1)
    assert found.reasons.to_list() == [None, "t is missing"]
    found = column_seconds(AXIS, pl.Series([plain.replace(tzinfo=UTC)]), "t")
    assert (found.seconds.to_list(), found.without_zone) == ([8 * 3600 + 1.25], 0)
    assert column_seconds(TimeAxis(), pl.Series([timedelta(seconds=2.5)]), "t").seconds[0] == 2.5
    words = ["2024-05-01 20:00:01", "2024-05-01 20:00:01Z", "5"]
    assert column_seconds(AXIS, pl.Series(words), "t").without_zone == 1
    assert column_seconds(AXIS, pl.Series(["0,5", "1"]), "t", ";").seconds.to_list() == [0.5, 1.0]
