"""Labels onto segments: shares and moments by hand, and against counting millisecond by
millisecond."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contentctr.errors import InputError
from contentctr.prepare.labels import add_labels
from contentctr.rooms.labels import LABELS_SCHEMA, Labels


def segments(rooms: dict[str, list[float]]) -> pl.DataFrame:
    """Segments between the borders of each room."""
    rows = [
        (room, number, start, end)
        for room, borders in rooms.items()
        for number, (start, end) in enumerate(zip(borders, borders[1:], strict=False))
    ]
    return pl.DataFrame(rows, schema=["room_id", "segment", "start_s", "end_s"], orient="row")


def labels(rows: list[tuple[object, ...]], *, spans: bool) -> Labels:
    table = pl.DataFrame(rows, schema=LABELS_SCHEMA, orient="row")
    return Labels(path=Path("labels.csv"), table=table, are_spans=spans, form="")


def moments(*rows: tuple[str, float, str]) -> Labels:
    return labels([(room, t, t, label) for room, t, label in rows], spans=False)


ROOMS = segments({"a": [0, 30, 60, 80], "b": [0, 30], "c": [0, 30, 60]})


def test_moments_by_hand() -> None:
    table = moments(("a", 30.0, "Goal"), ("a", 79.9, "Foul"), ("a", 31, "Goal"), ("b", 0, "Foul"))
    counts: Counter[str] = Counter()
    found, warnings = add_labels(ROOMS, table, "label:GOAL, foul", counts)
    # A room without a row has 0, not null.
    assert found["label"].to_list() == [0, 1, 1, 1, 0, 0]
    assert found["label:Goal"].to_list() == [0, 1, 0, 0, 0, 0]
    assert found["label:Foul"].to_list() == [0, 0, 1, 1, 0, 0]
    assert found["label:GOAL, foul"].to_list() == [0, 1, 1, 1, 0, 0]
    assert counts == {"labels": 4, "rooms_without_labels": 1} | dict.fromkeys(
        ("labels_bad_lines", "labels_of_unknown_rooms", "labels_outside"), 0
    )
    (warning,) = warnings
    assert "1 of 3 rooms have no row; their segments have label 0" in warning


def test_spans_by_hand() -> None:
    table = labels(
        [
            ("a", 20.0, 45.0, "x"),
            ("a", 40.0, 50.0, "y"),  # 5 s of it are covered already
            ("a", -5.0, 3.0, "y"),
            ("a", 70.0, 500.0, "y"),
            ("b", 0.0, 30.0, "x"),
        ],
        spans=True,
    )
    found, warnings = add_labels(ROOMS, table, "label", Counter())
    third = pytest.approx(1 / 3)
    assert found["label"].to_list() == [
        pytest.approx(13 / 30),
        pytest.approx(20 / 30),
        0.5,
        1,
        0,
        0,
    ]
    assert found["label:x"].to_list() == [third, 0.5, 0, 1, 0, 0]
    assert found["label:y"].to_list() == [pytest.approx(0.1), third, 0.5, 0, 0, 0]
    assert len(warnings) == 1


def test_rows_of_nowhere_are_counted_and_said() -> None:
    table = moments(("a", 1, "x"), ("zz", 1, "x"), ("yy", 2, "x"), ("a", 80, "x"), ("b", -1, "x"))
    counts: Counter[str] = Counter()
    found, warnings = add_labels(ROOMS, table, "label", counts)
    assert found["label"].sum() == 1
    assert counts["labels_of_unknown_rooms"] == counts["labels_outside"] == 2
    assert "left out 2 of 5 rows, of rooms that are not here, such as 'zz', 'yy'" in warnings[0]
    assert "left out 2 rows outside their room's segments" in warnings[1]
    with pytest.raises(InputError, match="every row is of rooms that are not here, such as 'zz'"):
        add_labels(ROOMS, moments(("zz", 1, "x")), "label", Counter())


def test_wrong_classes_and_names_that_are_taken() -> None:
    table = moments(("a", 1, "x"), ("a", 1, "y, z"))
    with pytest.raises(InputError, match="has no label 'card'; there is 'x', 'y, z'"):
        add_labels(ROOMS, table, "label:x,card", Counter())
    found, _ = add_labels(ROOMS, table, "label:Y, Z", Counter())
    assert found["label:Y, Z"].sum() == 1
    own = ROOMS.with_columns(pl.lit(1.0).alias("label:x"))
    with pytest.raises(InputError, match="gives the column 'label:x', which a room's columns have"):
        add_labels(own, table, "label", Counter())


def test_of_very_many_classes_only_the_target_has_a_column() -> None:
    table = moments(*(("a", 1.0, f"c{n}") for n in range(70)))
    found, warnings = add_labels(ROOMS, table, "label:c3", Counter())
    assert [name for name in found.columns if name.startswith("label")] == ["label", "label:c3"]
    assert "has 70 classes, and over 64 have no column each" in warnings[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 130), st.integers(1, 60)), min_size=1, max_size=8))
def test_shares_are_those_of_counted_seconds(spans: list[tuple[int, int]]) -> None:
    table = labels([("a", float(s), float(s + n), None) for s, n in spans], spans=True)
    borders = [0.0, 30.0, 60.0, 100.0]
    covered = np.zeros(100, bool)
    for start, length in spans:
        covered[max(start, 0) : max(start + length, 0)] = True
    wanted = [covered[int(a) : int(b)].mean() for a, b in zip(borders, borders[1:], strict=False)]
    rooms = segments({"a": borders, "b": [0.0, 30.0]})
    found, _ = add_labels(rooms, table, "label", Counter())
    assert found["label"].to_list() == pytest.approx([*wanted, 0])
