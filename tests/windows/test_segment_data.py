"""Segments as a model reads them: ids, time, and counts of earlier segments alone."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
import torch

from contentctr.batch import Vocabulary
from contentctr.config import COUNT_COLUMNS, DataConfig, ModelConfig
from contentctr.errors import InputError
from contentctr.files import read_json, write_json
from contentctr.store.rooms import SEGMENTS_SCHEMA, PreparedRooms
from contentctr.windows.rooms import gather, sample_windows
from contentctr.windows.segment_data import known_ids, load_segments, with_extra
from make import make_segments, make_table, write_data


def counted(lengths=(3, 2)):
    """A table whose counts tell room, segment and column."""
    table = make_table(list(lengths), splits=["train"] * len(lengths))
    room = table["room_id"].str.slice(4).cast(pl.Int64)
    return table.with_columns(
        (1000 * (room + 1) + 10 * pl.col("segment") + column)
        .cast(SEGMENTS_SCHEMA[name])
        .alias(name)
        for column, name in enumerate(COUNT_COLUMNS)
    )


@pytest.mark.parametrize("horizon", [0, 1])
def test_counts_are_those_of_the_segment_before_the_predicted_one(horizon):
    data = make_segments([3, 2], table=counted(), horizon=horizon)
    first = data.counts_SA[:, 0].tolist()
    if horizon:
        assert first == [1000, 1010, 1020, 2000, 2010]
    else:
        assert np.isnan(first[0]) and np.isnan(first[3])
        assert [first[i] for i in (1, 2, 4)] == [1000, 1010, 2000]
    assert data.next_position_S.tolist() == [p + horizon for p in (0, 1, 2, 0, 1)]


def test_an_unknown_count_is_nan():
    table = counted().with_columns(gifts=pl.lit(None, SEGMENTS_SCHEMA["gifts"]))
    data = make_segments([3, 2], table=table)
    gifts = COUNT_COLUMNS.index("gifts")
    assert torch.isnan(data.counts_SA[:, gifts]).all()
    assert data.counts_SA[1, gifts - 1] == 1000 + gifts - 1


def test_a_segments_own_actions_are_in_no_batch_of_its_prediction():
    before = make_segments([6], table=counted((6,)))
    changed = counted((6,)).with_columns(
        pl.when(pl.col("segment") == 4).then(pl.col(name) + 7).otherwise(pl.col(name)).alias(name)
        for name in COUNT_COLUMNS
    )
    after = make_segments([6], table=changed)
    windows = sample_windows(before, DataConfig(window_len=3, min_viewers=0), "ctr")
    for which in range(len(windows)):
        rows = slice(windows.first_W[which], windows.last_W[which] + 1)
        one, two = (gather(d, windows, np.array([which]), 3).ids for d in (before, after))
        moved = (torch.nan_to_num(one.counts_BNA) != torch.nan_to_num(two.counts_BNA)).any(-1)[0]
        assert [int(row) for row in np.arange(6)[rows][moved.numpy()]] == (
            [5] if rows.stop > 5 else []
        )


def test_hours_are_of_the_predicted_segments_start(tmp_path):
    data = write_data(tmp_path / "data", rooms=6, length=4)
    loaded = load_segments(data, known_ids(data.segments()), split="all", horizon=0)
    assert loaded.hour_S.tolist() == [1 + room for room in range(6) for _ in range(4)]
    late = datetime(2026, 1, 1, 22, 59, 20, tzinfo=UTC)
    table = make_table([4]).with_columns(started_at=pl.lit(late))
    assert make_segments([4], table=table).hour_S.tolist() == [23, 23, 24, 24]
    assert make_segments([4], table=table, horizon=1).hour_S.tolist() == [23, 24, 24, 24]
    unknown = make_table([2]).with_columns(started_at=pl.lit(None, pl.Datetime("us", "UTC")))
    assert make_segments([2], table=unknown).hour_S.tolist() == [0, 0]
    assert make_segments([2]).hour_S.tolist() == [0, 0]


def test_known_and_unknown_ids(tmp_path):
    data = write_data(tmp_path / "data", rooms=6, length=4)
    known = known_ids(data.segments())
    assert (known.streamers, known.rooms) == (["a", "b"], ["room000", "room001"])
    loaded = load_segments(data, known, split="all", horizon=0)
    assert loaded.known_room_S[::4].tolist() == [1, 2, 0, 0, 0, 0]
    assert loaded.streamer_S[::4].tolist() == [1, 2, 0, 1, 2, 0]
    nobody = load_segments(data, Vocabulary(streamers=[]), split="all", horizon=0)
    assert not nobody.streamer_S.any() and not nobody.known_room_S.any()


def test_look_ahead_shows_no_comments_that_are_kept_from_their_segment(tmp_path):
    """With a lag of 2 the segment after next has the comments of the scored one."""
    data = write_data(tmp_path / "data", rooms=6, length=4)
    for path in (data.root / "manifest.json", data.features_dir / "manifest.json"):
        if "comment_lag" in (values := read_json(path)):
            write_json(path, {**values, "comment_lag": 2})
    data, nobody = PreparedRooms(data.root), Vocabulary(streamers=[])
    for horizon in (1, 0, -1):
        load_segments(data, nobody, split="all", horizon=horizon)
    with pytest.raises(InputError, match="data.horizon must be above -2 .*comment_lag 2.*not -2"):
        load_segments(data, nobody, split="all", horizon=-2)
    load_segments(data, nobody, split="all", horizon=-2, content=False)


def test_without_content_no_feature_is_read(tmp_path):
    data = write_data(tmp_path / "data", rooms=6, length=4)
    whole = load_segments(data, Vocabulary(streamers=[]), split="val", horizon=0)
    for path in data.features_dir.glob("*.safetensors"):
        path.unlink()
    bare = load_segments(data, Vocabulary(streamers=[]), split="val", horizon=0, content=False)
    assert bare.visual_SV.shape == bare.text_ST.shape == (8, 0)
    assert torch.equal(bare.target_S, whole.target_S)


def test_with_look_ahead_a_labels_statistics_hold_the_rows_own_counts_and_no_later_ones():
    table, sizes = counted(), ModelConfig(statistics=True)
    data = make_segments([3, 2], table=table)
    rest = {"model": sizes, "horizon": -1, "scale": "none"}

    def values(table, target="label"):
        return with_extra(data, table, target=target, **rest).extra["statistics"].values_SX

    before = values(table)
    assert torch.isfinite(before).all() and len(before.unique(dim=0)) == len(before)
    changed = table.with_columns(exposures=pl.Series([7, 8, 1, 9, 9], dtype=pl.UInt32))
    changed = changed.with_columns(
        exposures=pl.coalesce(
            pl.when(pl.col("segment") == 2).then(pl.col("exposures")), table["exposures"]
        )
    )
    after = values(changed)
    assert (after == before).all(dim=1).tolist() == [True, True, False, True, True]
    for target in ("ctr", "comment_rate", "likes"):
        with pytest.raises(InputError, match="data.horizon must be 0 or 1 with model.statistics"):
            values(table, target)
