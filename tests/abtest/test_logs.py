import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest

from contentctr.abtest.logs import read_logs
from contentctr.errors import InputError


def make_log(users=40, rows=600, seed=0):
    rng = np.random.default_rng(seed)
    user = rng.integers(users, size=rows)
    clicked = rng.random(rows) < 0.3
    days = [date(2026, 1, 5) + timedelta(int(d)) for d in rng.integers(3, size=rows)]
    return pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in user],
            "arm": np.where(user % 2 == 0, "control", "content").tolist(),
            "day": pl.Series(days),
            "room_id": [f"room{n}" for n in rng.integers(9, size=rows)],
            "clicked": clicked,
            "play_s": np.where(clicked, rng.integers(1, 600, rows), 0).astype(float),
        }
    )


def write(path, table):
    getattr(table, f"write_{path.suffix[1:]}")(path)
    return path


def test_sums_are_those_of_a_plain_loop(tmp_path):
    table = make_log()
    log = read_logs(write(tmp_path / "log.parquet", table))
    wanted = defaultdict(lambda: [0, 0, 0.0])
    for row in table.iter_rows(named=True):
        sums = wanted[row["user_id"], row["arm"], str(row["day"])]
        sums[0] += 1
        sums[1] += row["clicked"]
        sums[2] += row["play_s"]
    found = {row[:3]: list(row[3:]) for row in log.user_days.iter_rows()}
    assert found == dict(wanted)
    assert (log.rows, log.users, log.crossed_users) == (600, 40, 0)
    assert log.days == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert not log.simulated
    assert log.warnings == []


def test_csv_and_parquet_and_parts_of_both_read_alike(tmp_path):
    table = make_log()
    whole = read_logs(write(tmp_path / "log.parquet", table))
    as_csv = read_logs(write(tmp_path / "log.csv", table.with_columns(pl.col("clicked").cast(int))))
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "a.csv", table[:200])
    write(tmp_path / "parts" / "b.parquet", table[200:])
    (tmp_path / "parts" / "notes.txt").write_text("no log")
    parts = read_logs(tmp_path / "parts")
    assert whole.user_days.equals(as_csv.user_days)
    assert whole.user_days.equals(parts.user_days)
    assert parts.rows == 600


def test_time_stands_for_its_utc_day(tmp_path):
    east = timezone(timedelta(hours=8))
    times = [datetime(2026, 1, 6, 7, tzinfo=east), datetime(2026, 1, 6, 9, tzinfo=east)] * 2
    table = (
        make_log(rows=4)
        .drop("day")
        .with_columns(arm=pl.Series(["a", "a", "b", "b"]), user_id=pl.Series(["1", "2", "3", "4"]))
    )
    utc = [t.astimezone(UTC) for t in times]
    variants = {
        "zone.parquet": pl.Series(utc).dt.convert_time_zone("Asia/Shanghai"),
        "utc.parquet": pl.Series(utc),
        "text.csv": pl.Series([t.isoformat() for t in times]),
        "plain.csv": pl.Series([t.strftime("%Y-%m-%dT%H:%M:%S") for t in utc]),
    }
    for name, column in variants.items():
        log = read_logs(write(tmp_path / name, table.with_columns(time=column)))
        assert log.days == ["2026-01-05", "2026-01-06"], name


def test_days_may_be_numbers_and_users_too(tmp_path):
    table = make_log(rows=24).with_columns(
        day=pl.Series([2, 10] * 12), user_id=pl.Series(range(24)), arm=pl.Series(["a", "b"] * 12)
    )
    for name in ("log.parquet", "log.csv"):
        log = read_logs(write(tmp_path / name, table))
        assert log.days == ["2", "10"]
        assert log.user_days["user_id"].n_unique() == 24


def test_few_bad_rows_are_left_out_and_named(tmp_path):
    table = make_log().with_columns(play_s=pl.col("play_s").cast(str))
    lines = write(tmp_path / "log.csv", table).read_text().splitlines()
    lines[5] = "u3,content,2026-01-05,room1,maybe,3"
    lines[6] = "u3,content,2026-01-05,room1,true,-3"
    lines[7] = "u3,content,someday,room1,true,3"
    (tmp_path / "log.csv").write_text("\n".join(lines))
    log = read_logs(tmp_path / "log.csv")
    assert log.rows == 597
    (warning,) = log.warnings
    assert "left out 3 of 600" in warning
    assert "line 6: clicked must be true/false or 1/0" in warning
    assert "line 7: play_s must be at least 0, not -3" in warning
    assert "line 8: day must be a date (2024-05-01) or a whole number, not 'someday'" in warning


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("user_id", None, "user_id is missing"),
        ("arm", None, "arm is missing"),
        ("day", None, "day or time is missing"),
        ("clicked", None, "clicked is missing"),
        ("play_s", float("inf"), "play_s must be finite"),
        ("play_s", -1.0, "play_s must be at least 0"),
    ],
)
def test_many_bad_rows_stop(tmp_path, column, value, words):
    bad = pl.when(pl.int_range(pl.len()) < 20).then(pl.lit(value)).otherwise(pl.col(column))
    path = write(tmp_path / "log.parquet", make_log().with_columns(bad.alias(column)))
    with pytest.raises(InputError, match=f"20 of 600 rows are bad.*row 1: {words}"):
        read_logs(path)


def test_users_in_several_arms_are_left_out_and_counted(tmp_path):
    table = pl.concat([make_log(users=400, rows=4000)] * 2)
    row = table.row(0, named=True)
    other = {**row, "arm": "content" if row["arm"] == "control" else "control"}
    table = pl.concat([table, pl.DataFrame([other], schema=table.schema)])
    log = read_logs(write(tmp_path / "log.parquet", table))
    assert log.crossed_users == 1
    assert row["user_id"] not in log.user_days["user_id"]
    assert log.users == table["user_id"].n_unique()
    assert log.user_days["user_id"].n_unique() == log.users - 1
    assert "left out 1 of" in log.warnings[0]


def test_many_users_in_several_arms_stop(tmp_path):
    table = make_log()
    broken = table.with_columns(arm=pl.Series(["control", "content"] * 300))
    with pytest.raises(InputError, match="users are seen in several arms, and at most 1%"):
        read_logs(write(tmp_path / "log.parquet", broken))


@pytest.mark.parametrize("how", ["column", "csv column", "manifest"])
def test_simulated_logs_say_so(tmp_path, how):
    table = make_log()
    if how == "manifest":
        (tmp_path / "manifest.json").write_text(json.dumps({"simulated": True, "seed": 3}))
        log = read_logs(write(tmp_path / "log.parquet", table))
        assert log.manifest["seed"] == 3
    else:
        marked = table.with_columns(simulated=pl.lit(True))
        log = read_logs(write(tmp_path / ("log.csv" if "csv" in how else "log.parquet"), marked))
    assert log.simulated


def test_wrong_files_are_named(tmp_path):
    table = make_log()
    with pytest.raises(InputError, match="no such file or folder"):
        read_logs(tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no exposure log"):
        read_logs(tmp_path / "empty")
    (tmp_path / "log.txt").write_text("")
    with pytest.raises(InputError, match="log.txt"):
        read_logs(tmp_path / "log.txt")
    with pytest.raises(InputError, match="column 'clicked' is missing"):
        read_logs(write(tmp_path / "a.parquet", table.drop("clicked")))
    with pytest.raises(InputError, match="must have a column 'day' or 'time'"):
        read_logs(write(tmp_path / "b.parquet", table.drop("day")))
    with pytest.raises(InputError, match=r"row 1: clicked must be true/false or 1/0, not '0.5'"):
        read_logs(write(tmp_path / "c.parquet", table.with_columns(clicked=pl.lit(0.5))))
    with pytest.raises(InputError, match="must have two arms or more, not"):
        read_logs(write(tmp_path / "d.parquet", table.with_columns(arm=pl.lit("one"))))
    with pytest.raises(InputError, match="at least one row"):
        read_logs(write(tmp_path / "e.parquet", table[:0]))


@pytest.mark.parametrize(
    "words",
    [("1.0", "0.0"), ("True", "False"), ("yes", "no"), (1.0, 0.0), (1, 0), (True, False)],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_flags_as_programs_write_them(tmp_path, words, suffix):
    table = make_log()
    flags = [words[0] if clicked else words[1] for clicked in table["clicked"]]
    whole = read_logs(write(tmp_path / "whole.parquet", table))
    path = write(tmp_path / f"log{suffix}", table.with_columns(clicked=pl.Series(flags)))
    assert read_logs(path).user_days.equals(whole.user_days)


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S.%f+00:00", "%Y/%m/%d %H:%M", "s", "ms", "us"],
)
def test_times_as_programs_write_them(tmp_path, form):
    table = make_log()
    times = [datetime(d.year, d.month, d.day, 23, 30, tzinfo=UTC) for d in table["day"]]
    factor = {"s": 1, "ms": 1000, "us": 10**6}.get(form)
    written = [t.strftime(form) if factor is None else int(t.timestamp() * factor) for t in times]
    whole = read_logs(write(tmp_path / "whole.parquet", table))
    other = table.drop("day").with_columns(time=pl.Series(written))
    for suffix in (".csv", ".parquet"):
        assert read_logs(write(tmp_path / f"log{suffix}", other)).user_days.equals(whole.user_days)


def test_a_number_that_is_no_time_is_told_from_a_day(tmp_path):
    table = make_log().drop("day").with_columns(time=pl.lit(20260105))
    with pytest.raises(InputError, match="time must be a date and time .*column `day`.*'20260105'"):
        read_logs(write(tmp_path / "log.csv", table))


def test_an_empty_play_s_is_0_where_nobody_clicked(tmp_path):
    table = make_log()
    play_s = pl.when(pl.col("clicked")).then(pl.col("play_s"))
    whole = read_logs(write(tmp_path / "whole.parquet", table))
    log = read_logs(write(tmp_path / "log.csv", table.with_columns(play_s=play_s)))
    assert log.user_days.equals(whole.user_days)
    empty = int((~table["clicked"]).sum())
    assert log.warnings == [
        f"{tmp_path}/log.csv: play_s is empty in {empty} rows without a click: taken as 0"
    ]
    none = table.with_columns(play_s=pl.lit(None, pl.Float64))
    with pytest.raises(InputError, match="play_s is missing, where there is a click"):
        read_logs(write(tmp_path / "none.csv", none))


def test_other_files_of_a_folder_are_named(tmp_path):
    table = make_log()
    write(tmp_path / "a.csv", table[:300])
    (tmp_path / "b.tsv").write_text(table[300:].write_csv(separator="\t"))
    (tmp_path / "notes.txt").write_text("")
    log = read_logs(tmp_path)
    assert log.rows == 600
    assert log.warnings == [f"{tmp_path}: did not read notes.txt"]
