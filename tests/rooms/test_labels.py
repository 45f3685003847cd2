"""Tables of labels: moments and spans, by many names, and what is wrong in them."""

from pathlib import Path

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.rooms.labels import LABELS_SCHEMA, find_labels, read_labels


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_moments(tmp_path: Path) -> None:
    text = "room_id,t,label\n7,61.5,Goal\nb,1:02:03,Kick-off\n7,3,Foul\n"
    found = read_labels(write(tmp_path, text))
    assert dict(found.table.schema) == LABELS_SCHEMA and not found.are_spans
    assert found.table.rows() == [
        ("7", 3.0, 3.0, "Foul"),
        ("7", 61.5, 61.5, "Goal"),
        ("b", 3723.0, 3723.0, "Kick-off"),
    ]
    assert found.classes == ["Foul", "Goal", "Kick-off"]
    assert found.form == "labels, moments: a table with commas"


def test_spans_by_other_names_and_without_a_class(tmp_path: Path) -> None:
    text = "live_id\tstart\tend\nb\t10\t20.5\na\t0\t1\n"
    found = read_labels(write(tmp_path, text, "labels.tsv"))
    assert found.are_spans and found.classes == []
    assert found.table.rows() == [("a", 0.0, 1.0, None), ("b", 10.0, 20.5, None)]
    named = write(tmp_path, "room_id,t,what\na,1,goal\n", "mine.csv")
    assert read_labels(named).classes == []
    assert read_labels(named, {"label": "what"}).classes == ["goal"]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pl.DataFrame({"room_id": [5, 5], "start_s": [1, 2], "end_s": [2.5, 4]}).write_parquet(path)
    assert read_labels(path).table["room_id"].to_list() == ["5", "5"]


def test_bad_rows_are_named_and_too_many_stop(tmp_path: Path) -> None:
    good = "".join(f"a,{n},{n + 1},x\n" for n in range(40))
    head = "room_id,start_s,end_s,label\n"
    found = read_labels(write(tmp_path, f"{head}{good}a,9,9,x\n,1,2,x\na,1,2,\n"))
    assert found.bad_lines == 3 and found.table.height == 40
    (warning,) = found.warnings
    assert "line 42: end_s must be after start_s, 9.0, not 9.0" in warning
    assert "line 43: room_id is missing" in warning and "line 44: label is missing" in warning
    with pytest.raises(InputError, match="4 of 4 lines are bad"):
        read_labels(write(tmp_path, head + "a,2,1,x\n" * 4))


def test_clock_times_have_no_start_to_be_counted_from(tmp_path: Path) -> None:
    text = "room_id,t\n" + "a,1\n" * 9 + "a,2026-01-01T10:00:00Z\n"
    (warning,) = read_labels(write(tmp_path, text)).warnings
    assert "labels have seconds from their room's start" in warning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("room_id,label\na,x\n", "must have the columns start_s and end_s, or t, beside room_id"),
        ("room_id,start_s\na,1\n", "must have the columns start_s and end_s, or t"),
        ("t,label\n1,x\n", "column 'room_id' is missing"),
        ("room_id,t\n", "holds no label"),
    ],
)
def test_what_is_no_table_of_labels(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labels(write(tmp_path, text))
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "none.csv")


def test_the_table_beside_the_rooms_is_found(tmp_path: Path) -> None:
    assert find_labels(tmp_path) is None
    write(tmp_path, "", "highlights.csv")
    assert find_labels(tmp_path) is None
    path = write(tmp_path, "", "labels.csv")
    assert find_labels(tmp_path) == path
    write(tmp_path, "", "labels.parquet")
    with pytest.raises(InputError, match=r"labels.csv and labels.parquet are both labels"):
        find_labels(tmp_path)
