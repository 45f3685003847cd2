"""Watch logs: reading, histories without leakage, and the simulated ones."""

import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.pretrain.watch_logs import (
    NUM_GAPS,
    gap_bucket,
    index_history,
    read_pairs,
    read_watch_logs,
)
from contentctr.simulate import watch_logs as simulated
from contentctr.simulate.mechanism import SimulatorConfig, draw_room, draw_streamer
from contentctr.simulate.tables import TYPES


def write(path, rows, time="t"):
    table = pl.DataFrame(rows, schema=["user_id", "streamer_id", time, "clicked"], orient="row")
    table.write_parquet(path) if path.suffix == ".parquet" else table.write_csv(path)
    return path


def random_log(seed=0, rows=300, users=6, streamers=5, moments=40):
    rng = np.random.default_rng(seed)
    return [
        (
            f"u{rng.integers(users)}",
            f"s{rng.integers(streamers)}",
            int(rng.integers(moments)),
            int(rng.random() < 0.4),
        )
        for _ in range(rows)
    ]


def indexed(path, known):
    logs = read_watch_logs(path)
    return logs.table, index_history(logs, known, np.arange(len(known) + 1) % 3)


def test_history_is_every_earlier_click_and_nothing_else(tmp_path):
    path = write(tmp_path / "l.parquet", random_log())
    known = ["s0", "s1", "s2", "s3"]  # s4 is unknown
    table, history = indexed(path, known)
    rows = list(table.iter_rows(named=True))
    batch = history.batch(np.arange(len(rows)), max_history=1000)
    row_of = {name: i for i, name in enumerate(known, 1)}
    for number, row in enumerate(rows):
        before = sorted(
            (
                r
                for r in rows
                if r["user_id"] == row["user_id"] and r["t"] < row["t"] and r["clicked"]
            ),
            key=lambda r: (r["t"], r["streamer_id"]),
        )
        wanted = [row_of.get(r["streamer_id"], 0) for r in before]
        found = batch.history_BL[number].tolist()
        assert found == wanted + [0] * (len(found) - len(wanted))
        assert batch.valid_BL[number].tolist() == [streamer > 0 for streamer in found]
        assert batch.category_BL[number].tolist() == [streamer % 3 for streamer in found]
        gaps = [int(np.floor(np.log2(row["t"] - r["t"] + 1))) for r in before]
        assert batch.gap_BL[number, : len(before)].tolist() == gaps
        streamer = row_of.get(row["streamer_id"], 0)
        assert batch.streamer_B[number] == streamer and batch.category_B[number] == streamer % 3
        assert bool(batch.clicked_B[number]) == row["clicked"]


def test_what_happens_at_or_after_an_impression_does_not_change_its_history(tmp_path):
    log = random_log(seed=1)
    known = ["s0", "s1", "s2", "s3", "s4"]
    now = 20
    other = [(u, s, t, 1 - c if t >= now else c) for u, s, t, c in log]
    other += [("u0", "s1", now, 1), ("u1", "s2", now + 3, 1)]
    found = []
    for number, rows in enumerate((log, other)):
        table, history = indexed(write(tmp_path / f"{number}.parquet", rows), known)
        at = np.flatnonzero(table["t"].to_numpy() <= now)
        batch = history.batch(at, max_history=1000)
        keys = table[at].select("user_id", "streamer_id", "t").rows()
        rows_of = zip(keys, batch.history_BL.tolist(), batch.gap_BL.tolist(), strict=True)
        found.append({key: [h for h in line if h] for key, line, _ in rows_of})
    assert len(found[0]) > 100
    assert found[0].items() <= found[1].items()


def test_only_the_latest_clicks_of_a_long_history_are_taken(tmp_path):
    rows = [("u", f"s{i % 7}", i, 1) for i in range(5000)] + [("v", "s0", 9, 0)]
    table, history = indexed(write(tmp_path / "l.csv", rows), [f"s{i}" for i in range(7)])
    last = table.height - 2
    batch = history.batch(np.array([last, last + 1]), max_history=3)
    assert batch.history_BL.tolist() == [[i % 7 + 1 for i in (4996, 4997, 4998)], [0, 0, 0]]
    assert batch.valid_BL.tolist() == [[True] * 3, [False] * 3]
    assert sum(x.nbytes for x in vars(history).values()) < 100 * table.height


def test_a_log_without_a_click_has_no_history_and_hidden_streamers_are_unknown(tmp_path):
    _, history = indexed(write(tmp_path / "l.csv", [("u", "a", 1, 0), ("u", "b", 2, 0)]), ["a"])
    batch = history.batch(np.arange(2), max_history=5, hidden=np.array([True, False]))
    assert not batch.valid_BL.any() and batch.valid_BL.shape == (2, 1)
    assert batch.streamer_B.tolist() == [0, 0] and batch.category_B.tolist() == [0, 0]


def test_gaps():
    seconds = np.array([0, 0.9, 1, 2.9, 3, 6.9, 7, 86_400, 1e30])
    assert gap_bucket(seconds).tolist() == [0, 0, 1, 1, 2, 2, 3, 16, NUM_GAPS - 1]


TIMES = {
    "seconds": [1_767_600_000, 1_767_600_001.5],
    "milliseconds": [1_767_600_000_000, 1_767_600_001_500],
    "zone": ["2026-01-05T08:00:00Z", "2026-01-05 16:00:01.5+08:00"],
    "no zone": ["2026-01-05T08:00:00", "2026-01-05 08:00:01.500"],
    "datetime": [datetime(2026, 1, 5, 8), datetime(2026, 1, 5, 8, 0, 1, 500_000)],
    "aware": [datetime(2026, 1, 5, 8, 0, s, us, UTC) for s, us in ((0, 0), (1, 500_000))],
}


def test_flags_and_ids_as_programs_write_them(tmp_path):
    text = (
        "user_id,streamer_id,time,clicked,title\n"
        '7,1.0,2026-01-05 08:00:00 UTC,1.0,"a\nb"\n7,1,1767600001500,0.0,\n'
    )
    (tmp_path / "l.csv").write_text(text)
    found = read_watch_logs(tmp_path / "l.csv").table
    assert found.rows() == [("7", "1", 1_767_600_000.0, True), ("7", "1", 1_767_600_001.5, False)]


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_times(tmp_path, kind, suffix):
    table = pl.DataFrame(
        {
            "user_id": [7, 7],
            "streamer_id": [1, 1],
            "time": pl.Series(TIMES[kind], strict=False),
            "clicked": [True, False],
        }
    )
    path = tmp_path / f"l{suffix}"
    if suffix == ".csv":
        table.write_csv(path)
    else:
        table.write_parquet(path)
    found = read_watch_logs(path).table
    assert found.rows() == [("7", "1", 1_767_600_000.0, True), ("7", "1", 1_767_600_001.5, False)]


def test_repeated_rows_are_one_and_any_click_counts(tmp_path):
    rows = [("u", "a", 1, 0), ("u", "a", 1, 1), ("u", "a", 1, 0), ("u", "b", 1, 0)]
    logs = read_watch_logs(write(tmp_path / "l.csv", rows))
    assert logs.table.rows() == [("u", "a", 1.0, True), ("u", "b", 1.0, False)]
    assert logs.duplicates == 2


HEAD = "user_id,streamer_id,t,clicked\n"
BAD = {
    "user_id,streamer_id,clicked\nu,a,1\n": "must have one column of times, 't' or 'time'",
    "user_id,streamer_id,t,time,clicked\nu,a,1,1,1\n": "must have one column of times",
    "user_id,t,clicked\nu,1,1\n": "column 'streamer_id' is missing",
    HEAD + "u,a,1,2\n": "line 2: clicked must be true/false or 1/0, not '2'",
    HEAD + "u,a,1,\n": "line 2: clicked is missing",
    HEAD + "u,,1,1\n": "line 2: streamer_id is missing",
    HEAD + ",a,1,1\n": "line 2: user_id is missing",
    HEAD + "u,a,,1\n": "line 2: t is missing",
    HEAD + "u,a,noon,1\n": "line 2: t must be Unix time or a date and time .ISO 8601., not 'noon'",
    HEAD + "u,a,1,1\nu,a,inf,1\nu,a,-inf,1\n": "line 3: t must be finite, not inf",
    HEAD + "u,a,1767600000,1\nu,a,1767600000000,0\n": "all in seconds or all in milliseconds",
    HEAD: "at least one impression",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_logs_are_named(tmp_path, text):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(InputError, match=f"l.csv.*{BAD[text]}"):
        read_watch_logs(tmp_path / "l.csv")


def test_few_bad_rows_are_left_out_with_a_warning(tmp_path):
    lines = [f"u,a,{i},0\n" for i in range(200)] + ["u,a,x,0\n"]
    (tmp_path / "l.csv").write_text(HEAD + "".join(lines))
    logs = read_watch_logs(tmp_path / "l.csv")
    assert logs.table.height == 200
    assert "left out 1 of 201 lines: line 202: t must be" in logs.warnings[0]


def test_wrong_types_and_files(tmp_path):
    pl.DataFrame({"user_id": [1.5], "streamer_id": ["a"], "t": [1], "clicked": [1]}).write_parquet(
        tmp_path / "l.parquet"
    )
    with pytest.raises(InputError, match="user_id must be text or a whole number, not 1.5"):
        read_watch_logs(tmp_path / "l.parquet")
    (tmp_path / "l.json").write_text("{}")
    with pytest.raises(InputError, match="l.json: is JSON, and must be a table"):
        read_watch_logs(tmp_path / "l.json")


def test_pairs(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("streamer_id,category\na,x\nb,\nc,y\n")
    assert read_pairs(path, "category") == {"a": "x", "c": "y"}
    path.write_text("streamer_id,category\na,x\nb,y\na,x\n")
    with pytest.raises(InputError, match="line 4: .*'a' is in line 2 too"):
        read_pairs(path, "category")
    path.write_text("streamer_id,category\n,x\n")
    with pytest.raises(InputError, match="line 2: streamer_id is missing"):
        read_pairs(path, "category")
    with pytest.raises(InputError, match="column 'type' is missing"):
        read_pairs(path, "type")


SMALL = simulated.WatchConfig(num_streamers=20, num_users=12, impressions=20, seed=3)


def test_simulated_logs_are_the_same_for_a_seed_and_labelled(tmp_path):
    first = simulated.write_watch_logs(SMALL, tmp_path / "a")
    again = simulated.write_watch_logs(SMALL, tmp_path / "b")
    for name in ("watch_logs.parquet", "streamers.parquet", "truth.parquet"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    label = json.loads((first / "simulated.json").read_text())
    assert label["simulated"] is True and label["config"]["seed"] == 3
    with pytest.raises(InputError, match="new or empty"):
        simulated.write_watch_logs(SMALL, first)
    more = simulated.WatchConfig(num_streamers=20, num_users=15, impressions=20, seed=3)
    wider = read_watch_logs(simulated.write_watch_logs(more, tmp_path / "c") / "watch_logs.parquet")
    table = read_watch_logs(first / "watch_logs.parquet").table
    assert wider.table.filter(pl.col("user_id") < "user000012").equals(table)
    assert wider.table["user_id"].n_unique() == 15


def test_simulated_streamers_are_those_of_the_rooms(tmp_path):
    rooms = SimulatorConfig(num_streamers=20, seed=3)
    before = draw_room(rooms, 0)
    folder = simulated.write_watch_logs(SMALL, tmp_path / "a")
    truth = read_pairs(folder / "truth.parquet", "type")
    assert truth == {
        s.streamer_id: TYPES[s.kind] for s in (draw_streamer(rooms, i) for i in range(20))
    }
    assert np.array_equal(draw_room(rooms, 0).clickers_S, before.clickers_S)


def test_simulated_categories_tell_of_the_type_but_only_partly():
    kind = np.arange(2000) % 5
    category = simulated.draw_categories(simulated.WatchConfig(num_streamers=2000), kind)
    by_type = np.zeros((5, len(simulated.CATEGORIES)))
    np.add.at(by_type, (kind, category), 1)
    share = by_type.max(axis=0).sum() / 2000  # guessing the commonest type of each category
    assert 0.35 < share < 0.65
    assert (by_type > 0).all()


def test_simulated_clicks_follow_loves(tmp_path):
    config = simulated.WatchConfig(num_users=60, mixed_users=0, changing_users=0, seed=1)
    folder = simulated.write_watch_logs(config, tmp_path / "a")
    truth = pl.read_parquet(folder / "truth.parquet")
    rate = (
        pl.read_parquet(folder / "watch_logs.parquet")
        .join(truth, on="streamer_id")
        .group_by("user_id", "type")
        .agg(pl.col("clicked").mean())
        .sort("clicked", descending=True)
        .group_by("user_id", maintain_order=True)
        .agg(pl.col("clicked"))
    )
    first, second = (rate["clicked"].list.get(i).mean() for i in (0, 1))
    assert first > 0.35 and second < 0.2


@pytest.mark.parametrize(
    ("name", "value"), [("num_types", 6), ("num_users", 0), ("misfiled", 1.5), ("noise_sd", -1)]
)
def test_simulator_settings_are_checked(name, value):
    with pytest.raises(InputError, match=f"setting {name} must be .*, not {value}"):
        simulated.WatchConfig(**{name: value})
