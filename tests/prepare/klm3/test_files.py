from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.prepare.klm3 import buckets
from contentctr.prepare.klm3.buckets import (
    bucket_of,
    counts_of,
    partition,
    read_bucket,
    read_vectors,
)
from contentctr.prepare.klm3.files import find_tables, scan_file, time_unit
from klm3_data import SHARDS, write_klm3

MOMENT = datetime(2025, 5, 1, 12, 0, 0, 123_000, UTC)
MS = round(MOMENT.timestamp() * 1000)


def likes(path, times, *, ids=(1, 2, 3)):
    frame = pl.DataFrame({"user_id": ids, "live_id": ids, "like_timestamp": times})
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


def read(path, **options):
    scan = scan_file("likes", path, **options)
    return scan.frame.collect(), scan.units["like_timestamp"]


def naive(unit):
    return pl.Series([MOMENT.replace(tzinfo=None)] * 3, dtype=pl.Datetime(unit))


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([MS] * 3, "ms"),
        ([MS * 1000] * 3, "us"),
        ([MS * 10**6 + 999] * 3, "ns"),
        ([MS / 1000] * 3, "s"),
        ([float(MS), None, float(MS)], "ms"),
        ([str(MS)] * 3, "ms"),
        ([f" {MS}.0"] * 3, "ms"),
        ([str(MS * 10**6)] * 3, "ns"),
        (naive("ms"), "datetime"),
        (naive("us"), "datetime"),
        (naive("ns"), "datetime"),
        (naive("us").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Shanghai"), "datetime"),
        (["2025-05-01 12:00:00.123"] * 3, "text"),
        (["2025-05-01T12:00:00.123Z"] * 3, "text"),
        (["2025-05-01T20:00:00.123+08:00", "2025-05-01 20:00:00.123 +0800", ""], "text"),
        (["2025-05-01T12:00:00.123456789"] * 3, "text"),
    ],
)
def test_a_time_is_the_same_however_it_is_stored(tmp_path, times, unit):
    found, told = read(likes(tmp_path / "live_like.parquet", times))
    assert told == unit
    assert set(found["t"].drop_nulls()) == {MS}
    missing = pl.Series(times).is_null() | (pl.Series(times).cast(pl.String) == "")
    assert found["reason"].to_list() == ["like_timestamp" if m else None for m in missing]


def test_csv_is_text_and_ids_may_be_too(tmp_path):
    found, unit = read(likes(tmp_path / "live_like.csv", [MS] * 3, ids=["1", "2.0", " 3"]))
    assert unit == "ms"
    assert found.select("row", "live_id", "user_id", "t").rows() == [
        (0, 1, 1, MS),
        (1, 2, 2, MS),
        (2, 3, 3, MS),
    ]


def test_a_zone_for_times_that_name_none(tmp_path):
    local = (MOMENT.astimezone(timezone(timedelta(hours=8)))).replace(tzinfo=None)
    for times in ([local] * 3, [str(local)] * 3):
        path = likes(tmp_path / "live_like.parquet", times)
        assert read(path, zone="Asia/Shanghai")[0]["t"].to_list() == [MS] * 3
        assert read(path)[0]["t"].to_list() == [MS + 8 * 3_600_000] * 3


def test_what_cannot_be_meant_is_bad(tmp_path):
    found, _ = read(likes(tmp_path / "live_like.csv", [str(MS), "soon", "12"]))
    assert found["reason"].to_list() == [None, "like_timestamp", "like_timestamp"]
    found, _ = read(likes(tmp_path / "live_like.csv", [MS] * 3, ids=["1", "x", "1.5"]))
    assert found["reason"].to_list() == [None, "live_id", "live_id"]
    found, _ = read(likes(tmp_path / "live_like.csv", [MS] * 3, ids=[1, -1, 2**32]))
    assert found["reason"].to_list() == [None, "live_id", "live_id"]
    found, _ = read(likes(tmp_path / "live_like.parquet", [MS] * 3, ids=[1.0, 1.5, None]))
    assert found["reason"].to_list() == [None, "live_id", "live_id"]


def test_units_of_nothing_and_of_mixtures():
    assert time_unit(pl.Series([], dtype=pl.Int64)) == "ms"
    assert time_unit(pl.Series([None, None], dtype=pl.String)) == "text"
    assert time_unit(pl.Series([MS, MS, 0])) == "ms"


def test_wrong_columns_name_the_file(tmp_path):
    path = tmp_path / "live_like.parquet"
    pl.DataFrame({"live_id": [1], "user_id": [1]}).write_parquet(path)
    with pytest.raises(InputError, match=r"live_like.parquet: column like_timestamp is missing"):
        scan_file("likes", path)
    pl.DataFrame({"live_id": [1], "live_stream_id": [1]}).write_parquet(path)
    with pytest.raises(InputError, match="live_id or live_stream_id is there under both names"):
        scan_file("likes", path)
    pl.DataFrame({"live_id": [[1]], "user_id": [1], "like_timestamp": [MS]}).write_parquet(path)
    with pytest.raises(InputError, match="'live_id' must be whole numbers or text, not List"):
        scan_file("likes", path)
    pl.DataFrame({"live_id": [1], "user_id": [1], "like_timestamp": [True]}).write_parquet(path)
    with pytest.raises(InputError, match="'like_timestamp' must be a time"):
        scan_file("likes", path)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"live_like.parquet: cannot be read"):
        scan_file("likes", path)


def test_vectors_of_another_width(tmp_path):
    path = tmp_path / "live_emb_128_ts.parquet"
    rows = {"live_stream_id": ["1"], "timestamp": [MS], "feature_128": [[1.0, 2.0]]}
    pl.DataFrame(rows).write_parquet(path)
    with pytest.raises(InputError, match=r"live_emb_128_ts.parquet: cannot be read"):
        partition(scan_file("vectors", path), tmp_path / "runs", name="vectors", count=2)
    assert not (tmp_path / "runs").exists()
    pl.DataFrame(rows, schema_overrides={"feature_128": pl.Array(pl.Float64, 2)}).write_parquet(
        path
    )
    with pytest.raises(InputError, match="must be lists of 128 numbers, not Array"):
        scan_file("vectors", path)
    pl.DataFrame({**rows, "feature_128": ["a"]}).write_parquet(path)
    with pytest.raises(InputError, match="must be lists of 128 numbers, not String"):
        scan_file("vectors", path)


def test_vectors_are_halved_and_those_that_cannot_be_stop_it(tmp_path):
    path = tmp_path / "live_emb_128_ts.parquet"
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(40, 128)).astype(np.float32)
    wanted[0, :4] = 65_504, -65_519, 1e-8, -0.0
    frame = pl.DataFrame(
        {
            "live_stream_id": [str(n) for n in range(1, 41)],
            "timestamp": MS,
            "feature_128": pl.Series(wanted).arr.to_list(),
        }
    ).with_columns(feature_128=pl.when(pl.int_range(pl.len()) != 3).then("feature_128"))
    wanted[3] = 0
    frame.write_parquet(path)
    partition(scan_file("vectors", path), tmp_path / "runs", name="vectors", count=5)
    parts = [read_vectors([tmp_path / "runs"] * 2, bucket) for bucket in range(5)]
    rows = np.concatenate([part.row_E for part in parts])
    assert sorted(rows) == [*range(40), *(row + (1 << 40) for row in range(40))]
    assert all((np.diff(part.row_E) > 0).all() for part in parts)
    found, has = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("vector_EV", "has_vector_E")
    )
    at = rows % (1 << 40)
    assert found.tobytes() == wanted.astype(np.float16)[at].tobytes()
    assert (has == (at != 3)).all()
    for number in (np.inf, -65_520.0, np.nan):
        wanted[7, 5] = number
        bad = frame.with_columns(feature_128=pl.Series(wanted).arr.to_list())
        bad.write_parquet(path)
        with pytest.raises(InputError, match=r"live_emb_128_ts.parquet: .* within 65504, not"):
            partition(scan_file("vectors", path), tmp_path / "bad", name="vectors", count=5)
        assert not (tmp_path / "bad").exists()


def test_the_published_files_are_found(tmp_path):
    write_klm3(tmp_path, rooms=3, segments=8)
    tables = find_tables(tmp_path)
    assert set(tables) == {"rooms", "sessions", "vectors", "shows", "likes", "comments"}
    numbers = [int(p.stem.rsplit("part", 1)[1]) for p in tables["vectors"]]
    assert numbers == list(range(SHARDS))  # 2 before 10
    (tmp_path / "live_like.csv").unlink()
    assert "likes" not in find_tables(tmp_path)
    (tmp_path / "live_interaction.parquet").touch()
    with pytest.raises(InputError, match="live_interaction is there more than once"):
        find_tables(tmp_path)
    (tmp_path / "live_interaction.parquet").unlink()
    (tmp_path / "live_emb_128_ts_part3.parquet").touch()
    with pytest.raises(InputError, match="live_emb_128_ts_part3.parquet is there more than once"):
        find_tables(tmp_path)
    (tmp_path / "live_emb_128_ts_part3.parquet").unlink()
    (tmp_path / "live_room_meta.parquet").unlink()
    with pytest.raises(InputError, match="live_room_meta is missing"):
        find_tables(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        find_tables(tmp_path / "other")


def test_buckets_hold_every_row_once_and_whole_rooms(tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "_DEFAULT_RUN_ROWS", 100)
    ids = list(range(1, 1001))
    folders = []
    for number in range(2):
        path = likes(tmp_path / f"{number}.csv", [MS + number] * 1000, ids=ids)
        folders.append(tmp_path / f"runs{number}")
        partition(scan_file("likes", path), folders[-1], name="likes", count=7)
    parts = [read_bucket(folders, b) for b in range(7)]
    assert sum(p.height for p in parts) == 2000
    assert all(100 < p.height < 500 for p in parts)  # scattered, though the ids are consecutive
    seen = [set(p["live_id"]) for p in parts]
    assert len(set().union(*seen)) == sum(map(len, seen)) == 1000
    for part in parts:
        assert part["row"].is_sorted()
        assert part["row"].n_unique() == part.height
        assert part["t"].to_list() == sorted(part["t"])  # files in their order
    assert counts_of(folders) == {"rows": 2000, "bad_rows": 0}
    # Plain arithmetic, of no library: work of a killed run must fit whatever runs later.
    some = [1, 2, 6_560_000, 2**40]
    found = pl.DataFrame({"live_id": some}).select(bucket_of(pl.col("live_id"), 512))
    assert found.to_series().to_list() == [
        ((i % 2**32) * 2_654_435_761 % 2**32) * 512 // 2**32 for i in some
    ]


def test_rows_of_rooms_that_are_not_wanted_are_left_out(tmp_path):
    path = likes(tmp_path / "a.csv", [MS] * 3)
    rooms = pl.DataFrame({"live_id": [2, 5]})
    partition(scan_file("likes", path), tmp_path / "runs", name="likes", count=1, rooms=rooms)
    assert read_bucket([tmp_path / "runs"], 0)["live_id"].to_list() == [2]


def test_few_bad_rows_are_counted_and_many_stop(tmp_path):
    ids = list(range(1, 301))
    times = [str(MS)] * 300
    times[10] = times[20] = "never"
    path = likes(tmp_path / "a.csv", times, ids=ids)
    partition(scan_file("likes", path), tmp_path / "runs", name="likes", count=1)
    assert counts_of([tmp_path / "runs"]) == {"rows": 300, "bad_rows": 2}
    assert read_bucket([tmp_path / "runs"], 0).height == 298
    times[5:9] = ["never"] * 4
    path = likes(tmp_path / "a.csv", times, ids=ids)
    with pytest.raises(InputError, match=r"a.csv, row 6: column 'like_timestamp'.* 6 of 300 rows"):
        partition(scan_file("likes", path), tmp_path / "more", name="likes", count=1)
    assert not (tmp_path / "more").exists()


def test_a_damaged_csv_names_the_file(tmp_path):
    path = tmp_path / "live_like.csv"
    path.write_text(f"user_id,live_id,like_timestamp\n1,1,{MS}\n1,1,{MS},7,8\n")
    with pytest.raises(InputError, match=r"live_like.csv: cannot be read"):
        partition(scan_file("likes", path), tmp_path / "runs", name="likes", count=1)
