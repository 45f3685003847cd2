"""Statistics of earlier segments: by hand, and without a look ahead."""

import numpy as np
import polars as pl
import pytest

from contentctr.config import COUNT_COLUMNS
from contentctr.windows.statistics import HALF_LIVES, earlier_mean, earlier_statistics
from make import make_table


def test_means_worked_by_hand():
    table = pl.DataFrame(
        {"room_id": ["a"] * 5 + ["b"] * 2, "v": [1.0, None, 3.0, None, 2.0, 7.0, 1.0]}
    )
    found = table.select(earlier_mean(pl.col("v"), 3)).to_series().to_list()
    weight = [2 ** (-k / 3) for k in range(4)]
    after_gap = (3 * weight[0] + 1 * weight[2]) / (weight[0] + weight[2])
    # A segment without a value passes the mean on: all weights have shrunk alike.
    assert found == [None, 1, 1, pytest.approx(after_gap), pytest.approx(after_gap), None, 7]


def test_columns_worked_by_hand():
    table = make_table([3, 2]).with_columns(likes=pl.Series([4, None, 9, 2, 1], dtype=pl.UInt32))
    found = earlier_statistics(table, {"mine": pl.col("segment") * 10.0})
    assert found.height == 5 and set(found.dtypes) == {pl.Float64}
    assert found["log_likes"].to_list() == [
        None,
        pytest.approx(np.log(5)),
        None,
        None,
        pytest.approx(np.log(3)),
    ]
    assert found["likes_rate_before"].to_list()[1] == pytest.approx(4 / 30)
    assert found["mine_before"].to_list() == [None, 0, 10, None, 0]
    assert found["mine_mean_1"].to_list()[2] == pytest.approx((10 + 0.5 * 0) / 1.5)
    assert found["position"].to_list() == pytest.approx(np.log1p([0, 1, 2, 0, 1]))
    rates = len(COUNT_COLUMNS) + 2
    assert found.width == 1 + len(COUNT_COLUMNS) + rates * (1 + len(HALF_LIVES))


def test_neither_a_segment_nor_what_follows_it_moves_its_row():
    table = make_table([9, 4], seed=1)
    before = earlier_statistics(table)
    for changed in (0, 4, 8):
        own = (pl.col("room_id") == "room000") & (pl.col("segment") >= changed)
        names = (*COUNT_COLUMNS, "ctr")
        other = table.with_columns(
            pl.when(own)
            .then(pl.col(n) / 2 if n == "ctr" else pl.col(n) * 9)
            .otherwise(pl.col(n))
            .cast(table.schema[n])
            .alias(n)
            for n in names
        )
        after = earlier_statistics(other)
        same = [a == b for a, b in zip(before.rows(), after.rows(), strict=True)]
        assert same == [n <= changed or n >= 9 for n in range(13)]
    # Nor does the room's length.
    short = earlier_statistics(table.filter(pl.col("segment") < 3))
    assert short.rows()[:3] == before.rows()[:3]
