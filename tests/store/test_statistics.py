"""Statistics of earlier segments: numbers by hand, and nothing of the segment itself or later."""

import math

import numpy as np
import polars as pl
import pytest

from contentctr.store.statistics import (
    COLUMNS,
    HALF_LIVES,
    LATEST,
    WIDTH,
    add_late,
    advance,
    counts_row,
    first_state,
    known_target,
    skip,
    statistics,
    table_statistics,
)
from make import make_table

COMMENTS = COLUMNS.index("comment_count")
MEANS = 1 + len(HALF_LIVES)


def make_counts(lengths, **columns):
    """A table whose counts are unknown but for `columns`, lists over all rows."""
    table = make_table(lengths)
    nothing = {name: pl.lit(None, table.schema[name]) for name in COLUMNS}
    given = {name: pl.Series(values, dtype=pl.UInt32) for name, values in columns.items()}
    return table.with_columns(**{**nothing, **given})


def found_in(table, horizon=0, target="ctr", scale="none"):
    return table_statistics(table, horizon=horizon, target=target, scale=scale)


def of_column(row_X, column):
    """The segment before's, whether it is missing, the means, and whether they are."""
    before = row_X[: 2 * len(COLUMNS)].reshape(-1, 2)[column]
    means = row_X[2 * len(COLUMNS) : (2 + MEANS) * len(COLUMNS)].reshape(-1, MEANS)[column]
    return *before, means[:-1], means[-1]


def mean_of(counts, half_life):
    weights = [2 ** (-age / half_life) for age in range(len(counts) - 1, -1, -1)]
    known = [(w, c) for w, c in zip(weights, counts, strict=True) if c is not None]
    return sum(w * c for w, c in known) / sum(w for w, _ in known)


def test_where_nothing_is_counted_the_number_is_known():
    table = make_table([4]).with_columns(pl.lit(None, pl.UInt32).alias(name) for name in COLUMNS)
    found = table_statistics(table, horizon=0, target="label", scale="none")
    assert found.has_R.tolist() == [False, True, True, True]
    np.testing.assert_allclose(found.values_RX[1:, -1], np.log1p([1, 2, 3]), rtol=1e-6)


def test_counts_of_the_segment_before_and_their_means_by_hand():
    counts = [4, 0, 9, None, 2, 7]
    found = found_in(make_counts([6], comment_count=counts), horizon=0, target="ctr", scale="none")
    assert found.values_RX.shape == (6, WIDTH) and found.values_RX.dtype == np.float32
    assert found.has_R.tolist() == [False, True, True, True, True, True]
    assert not found.values_RX[0].any()  # the model has a learned token there
    for j in range(1, 6):
        before, missing, means, none = of_column(found.values_RX[j], COMMENTS)
        last = counts[j - 1]
        assert before == pytest.approx(math.log1p(last or 0))
        assert (missing, none) == (float(last is None), 0.0)
        expected = [math.log1p(mean_of(counts[:j], h)) for h in HALF_LIVES]
        assert means == pytest.approx(expected, rel=1e-6)
        assert found.values_RX[j, -1] == pytest.approx(math.log1p(j))
        _, missing, means, none = of_column(found.values_RX[j], COLUMNS.index("likes"))
        assert (missing, none) == (1.0, 1.0) and not means.any()


def test_the_ctr_is_that_of_all_clickers_and_viewers_as_they_weigh():
    viewers, clickers = [20, 0, 30, 10], [5, 0, 3, 9]
    found = found_in(make_counts([4], viewers=viewers, clickers=clickers), horizon=0, target="ctr")
    rates = found.values_RX[:, -2 - MEANS - 1 : -1]
    assert rates[1, :2].tolist() == [0.25, 0.0]
    assert rates[2, :2].tolist() == [0.0, 1.0]  # nobody watched the segment before
    for j in (1, 2, 3):
        for place, h in enumerate(HALF_LIVES):
            mean = mean_of(clickers[:j], h) / mean_of(viewers[:j], h)
            assert rates[j, 2 + place] == pytest.approx(mean, rel=1e-6)
    ranked = found_in(make_counts([4], viewers=viewers, clickers=clickers), scale="rank")
    assert np.array_equal(ranked.values_RX, found.values_RX)
    weights = 2 ** (-np.arange(2, -1, -1) / 3)
    inside, outside = weights @ clickers[:3], weights @ (np.array(viewers) - clickers)[:3]
    assert np.isnan(found.mean_logit_R[0])
    assert found.mean_logit_R[3] == pytest.approx(
        math.log((inside + 0.5) / (outside + 0.5)), rel=1e-6
    )
    now = (inside + 0.5) / (inside + outside + 1)
    ever = (sum(clickers[:3]) + 0.5) / (sum(viewers[:3]) + 1)
    assert ranked.mean_logit_R[3] == pytest.approx(math.log(now / ever), rel=1e-6)


@pytest.mark.parametrize("target", ["comment_rate", "comment_count"])
def test_a_rank_starts_from_the_mean_over_that_of_all_segments_so_far(target):
    counts = [2, 2, 8, 1]
    found = found_in(make_counts([4], comment_count=counts), horizon=0, target=target, scale="rank")
    assert np.isnan(found.mean_logit_R[0]) and found.mean_logit_R[1] == found.mean_logit_R[2] == 0
    expected = math.log((mean_of(counts[:3], 3) + 0.5) / (4 + 0.5))
    assert found.mean_logit_R[3] == pytest.approx(expected, rel=1e-6)


def test_odds_start_from_the_logarithm_of_the_mean():
    counts = [2, 2, 8, 1]
    found = found_in(make_counts([4], comment_count=counts), target="comment_rate", scale="odds")
    assert np.isnan(found.mean_logit_R[0])
    expected = [math.log(mean_of(counts[:j], 3) + 0.5) for j in (1, 2, 3)]
    assert found.mean_logit_R[1:] == pytest.approx(expected, rel=1e-6)


def test_a_target_that_is_known_only_later_has_no_mean():
    table = make_counts([3], comment_count=[1, 2, 3])
    found = found_in(table, target="highlight_score")
    assert np.isnan(found.mean_logit_R).all() and found.has_R.tolist() == [False, True, True]
    assert known_target("ctr") and known_target("likes") and not known_target("highlight_score")


def rooms_with_gaps(seed=0):
    rng = np.random.default_rng(seed)
    table = make_table([7, 1, 12, 5])
    columns = {}
    for name in COLUMNS:
        values = rng.integers(0, 50, table.height).astype(float)
        values[rng.random(table.height) < 0.3] = np.nan
        columns[name] = pl.Series(values).fill_nan(None).cast(pl.UInt32)
    return table.with_columns(**columns)


@pytest.mark.parametrize("horizon", [0, 1])
def test_no_bit_of_a_segment_or_of_what_follows_is_in_its_statistics(horizon):
    table = rooms_with_gaps()
    before = found_in(table, horizon)
    for changed in (0, 4, 7, 8, 13, 19, 24):
        row = table.row(changed, named=True)
        here = (pl.col("room_id") == row["room_id"]) & (pl.col("segment") == row["segment"])
        other = table.with_columns(
            pl.when(here).then(pl.col(n).fill_null(0) + 3).otherwise(pl.col(n)).alias(n)
            for n in COLUMNS
        )
        after = found_in(other, horizon)
        moved = (before.values_RX != after.values_RX).any(1) | (before.has_R != after.has_R)
        moved |= ~np.isclose(
            before.mean_logit_R, after.mean_logit_R, rtol=0, atol=0, equal_nan=True
        )
        room = table["room_id"] == row["room_id"]
        last = int(np.flatnonzero(room.to_numpy())[-1])
        # A row with horizon 1 predicts the next segment, so it may know its own.
        assert np.flatnonzero(moved).tolist() == list(range(changed + 1 - horizon, last + 1))


@pytest.mark.parametrize("horizon", [0, 1])
def test_a_cut_room_has_the_same_statistics(horizon):
    table = rooms_with_gaps()
    whole = found_in(table, horizon)
    cut = table.filter(pl.col("segment") < 4)
    short = found_in(cut, horizon)
    kept = (table["segment"] < 4).to_numpy()
    assert np.array_equal(whole.values_RX[kept], short.values_RX)
    assert np.array_equal(whole.mean_logit_R[kept], short.mean_logit_R, equal_nan=True)


@pytest.mark.parametrize("horizon", [0, 1])
def test_segment_by_segment_is_the_table(horizon):
    table = rooms_with_gaps()
    expected = found_in(table, horizon)
    state_RAC = first_state(1)
    for k, row in enumerate(table.iter_rows(named=True)):
        if row["segment"] == 0:
            state_RAC = first_state(1)
        told = {name: row[name] for name in COLUMNS if row[name] is not None}
        after_RAC = advance(state_RAC, counts_row(told)[None])
        seen_RAC = after_RAC if horizon else state_RAC
        found = statistics(seen_RAC, np.array([row["segment"] + horizon]), "ctr", scale="none")
        assert found.values_RX[0] == pytest.approx(expected.values_RX[k], rel=1e-6)
        assert found.has_R[0] == expected.has_R[k]
        state_RAC = after_RAC


def test_what_is_skipped_is_unknown():
    state_RAC = advance(first_state(1), counts_row({"likes": 5})[None])
    one_by_one = state_RAC
    for _ in range(3):
        one_by_one = advance(one_by_one, counts_row(None)[None])
    assert skip(state_RAC, 3) == pytest.approx(one_by_one, rel=1e-12)
    assert np.array_equal(skip(state_RAC, 0), state_RAC)
    assert np.isfinite(skip(state_RAC, 2**31)).all()


def test_that_a_gift_will_come_is_not_known_before():
    # The column is null where the chat has no gift at all, else 0 up to the first.
    without = make_counts([5], comment_count=[1] * 5)
    gifts = make_counts([5], comment_count=[1] * 5, gifts=[0, 0, 0, 2, 0])
    before, after = (found_in(t) for t in (without, gifts))
    assert np.array_equal(before.values_RX[:4], after.values_RX[:4])
    last, missing, means, none = of_column(after.values_RX[4], COLUMNS.index("gifts"))
    assert (missing, none) == (0.0, 0.0) and last == pytest.approx(math.log1p(2))
    assert means == pytest.approx([math.log1p(2)] * len(HALF_LIVES))


def states_of(rows):
    """The state before each segment, and after the last."""
    found = [first_state(1)]
    for row in rows:
        found.append(advance(found[-1], row[None]))
    return found


@pytest.mark.parametrize("ago", [0, 1, 7, LATEST - 1])
def test_counts_that_come_late_are_as_if_they_had_come_in_time(ago):
    rng = np.random.default_rng(ago)
    rows_SA = rng.integers(1, 1000, (LATEST + 9, len(COLUMNS))).astype(float)
    rows_SA[rng.random(rows_SA.shape) < 0.3] = np.nan
    late = len(rows_SA) - 1 - ago
    rows_SA[:late, COLUMNS.index("gifts")] = 0  # so that the late one may be the first gift
    rows_SA[late:, COLUMNS.index("gifts")] = 2
    in_time = states_of(rows_SA)[-1][0]
    missing_SA = rows_SA.copy()
    first = rng.random(len(COLUMNS)) < 0.5
    missing_SA[late, ~first] = np.nan  # some came in time
    before = states_of(missing_SA)[-1][0]
    found = add_late(before, ago, rows_SA[late])
    np.testing.assert_allclose(found, in_time, rtol=1e-12)
    assert not np.allclose(before, in_time)
    # What is known stays as it was, whatever comes.
    other = np.where(np.isnan(rows_SA[late]), np.nan, 7777.0)
    assert np.array_equal(add_late(found, ago, other), found)


def test_only_the_last_segments_are_remembered_as_known():
    rows_SA = np.ones((LATEST + 5, len(COLUMNS)))
    state_AC = states_of(rows_SA)[-1][0]
    assert (state_AC[:, -1] == 2**LATEST - 1).all()
    gone = skip(state_AC[None], 3)[0]
    assert (gone[:, -1] == 2**LATEST - 8).all()
    assert (skip(state_AC[None], 2**31)[0][:, -1] == 0).all()
    found = add_late(gone, 2, counts_row({"likes": 4}))
    likes = COLUMNS.index("likes")
    assert found[likes, -1] == 2**LATEST - 4 and (found[:likes] == gone[:likes]).all()
    in_time = advance(state_AC[None], counts_row({"likes": 4})[None])
    np.testing.assert_allclose(found[likes], skip(in_time, 2)[0][likes], rtol=1e-12)


def test_a_gift_that_is_told_late_begins_there():
    gifts = COLUMNS.index("gifts")
    state_AC = states_of([counts_row({"gifts": g}) for g in (0, 0, 0)])[-1][0]
    none = add_late(state_AC, 1, counts_row({"gifts": 0}))
    assert np.array_equal(none, state_AC)
    begun = add_late(state_AC, 1, counts_row({"gifts": 3}))
    assert begun[gifts, -1] == 0b10
    assert add_late(begun, 0, counts_row({"gifts": 0}))[gifts, -1] == 0b11
    assert np.array_equal(add_late(begun, 2, counts_row({"gifts": 0})), begun)
