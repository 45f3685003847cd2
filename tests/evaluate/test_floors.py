"""Rules of thumb beside a model: what they know, how they are compared, and what is said."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from contentctr.config import COUNT_COLUMNS
from contentctr.evaluate import floors
from contentctr.evaluate.comparison import compare_with_floors
from contentctr.evaluate.floors import Measured, earlier_mean, floor_scores
from contentctr.metrics.ctr import kendall_tau, mean_over_groups
from make import make_table

CTR = Measured(target="ctr", scale="none", is_label=False, min_viewers=1)


def rows(floor, room):
    return floor.filter(pl.col("room_id") == room)["floor"].to_list()


def by_hand():
    """One training room, and one of a known and one of an unknown streamer to be tested."""
    table = make_table([2, 4, 3], splits=["train", "test", "test"], streamers=("a", "a", "new"))
    values = [0.2, 0.4, 0.1, None, 0.7, 0.5, 0.9, 0.8, 0.7]
    series = pl.Series(values, dtype=pl.Float64)
    return table.with_columns(target=series, ctr=series)


def test_floors_worked_by_hand():
    found = floor_scores(by_hand(), CTR)
    assert list(found) == ["segment_before", "exponential_mean", "streamer_mean"]  # no trees of 2
    mean = pytest.approx(0.3)
    assert rows(found["streamer_mean"], "room001") == [mean] * 4
    assert rows(found["streamer_mean"], "room002") == [mean] * 3  # the mean of all
    # Nothing before: the streamer's mean. No target before: the last one there was.
    assert rows(found["segment_before"], "room001") == [mean, 0.1, 0.1, 0.7]
    near, far = 1, 2 ** (-2 / 3)
    third = (0.7 * near + 0.1 * far) / (near + far)
    assert rows(found["exponential_mean"], "room001") == [mean, 0.1, 0.1, pytest.approx(third)]


def test_means_worked_by_hand():
    table = pl.DataFrame(
        {"room_id": ["a"] * 5 + ["b"] * 2, "v": [1.0, None, 3.0, None, 2.0, 7.0, 1.0]}
    )
    found = table.select(earlier_mean(pl.col("v"), 3)).to_series().to_list()
    weight = [2 ** (-k / 3) for k in range(4)]
    after_gap = (3 * weight[0] + 1 * weight[2]) / (weight[0] + weight[2])
    # A segment without a value passes the mean on: all weights have shrunk alike.
    assert found == [None, 1, 1, pytest.approx(after_gap), pytest.approx(after_gap), None, 7]


def many_rooms(rooms=16, length=30, seed=0):
    """Rooms whose CTR wanders: the segment before tells most of what there is to tell."""
    rng = np.random.default_rng(seed)
    half = rooms // 2
    table = make_table([length] * rooms, splits=["train"] * half + ["test"] * (rooms - half))
    steps = rng.normal(0, 0.5, (rooms, length)).cumsum(axis=1) + rng.normal(0, 0.2, (rooms, length))
    target = pl.Series((1 / (1 + np.exp(-steps))).ravel())
    return table.with_columns(target=target, ctr=target)


def test_no_floor_knows_its_segment_or_what_follows():
    table = many_rooms()
    before = floor_scores(table, CTR)
    at = (pl.col("room_id") == "room012") & (pl.col("segment") >= 20)
    changed = table.with_columns(
        pl.when(at).then(1 - pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in ("target", "ctr")
    ).with_columns(
        pl.when(at).then(7).otherwise(pl.col(name)).cast(pl.UInt32).alias(name)
        for name in COUNT_COLUMNS
    )
    after = floor_scores(changed, CTR)
    assert list(before) == ["segment_before", "exponential_mean", "streamer_mean", "trees"]
    for name, floor in before.items():
        moved = np.flatnonzero(
            np.array(rows(floor, "room012")) != np.array(rows(after[name], "room012"))
        )
        if name == "streamer_mean":
            assert not len(moved)
        else:
            assert moved.min() == 21, name


def test_trees_answer_some_rooms_at_a_time_and_only_those_asked_for(monkeypatch):
    """A user's columns may have any name, such as those of ours on the way."""
    table = many_rooms().with_columns(mean=pl.lit(7.0), raw=pl.lit(7.0), before=pl.lit(7.0))
    whole = floor_scores(table, CTR)
    some = floor_scores(table, CTR, pl.Series(["room012", "room012", "room015"]))
    for name, floor in some.items():
        assert floor["room_id"].unique().sort().to_list() == ["room012", "room015"]
        for room in ("room012", "room015"):
            assert rows(floor, room) == rows(whole[name], room)
    raw = table.with_columns(raw=pl.col("ctr"))
    trees = floors.fit_trees(raw.filter(pl.col("split") == "train"), CTR)
    at_once = trees(raw)
    monkeypatch.setattr(floors, "_MOST_ROWS", 70)
    np.testing.assert_array_equal(trees(raw), at_once)
    assert floors.fit_trees(raw.filter(pl.col("split") == "train"), CTR) is not None  # of 60 rows


def test_trees_need_something_to_learn():
    table = many_rooms().filter(pl.col("split") == "train").with_columns(raw=pl.lit(0.5))
    assert floors.fit_trees(table.with_columns(target=pl.lit(0.5)), CTR) is None
    label = Measured(target="goal", scale="none", is_label=True, min_viewers=1)
    share = table.with_columns(target=0.2 + 0.5 * pl.col("target"))  # positive everywhere
    assert floors.fit_trees(share, label) is None


def test_ranks_inside_rooms_are_foretold_from_the_values_before_ranking():
    """A room's ranks are known at its end: a floor of them would know what is to come."""
    table = many_rooms().with_columns(
        comment_count=(pl.col("target") * 1000).cast(pl.UInt32), ctr=pl.lit(None, pl.Float64)
    )
    ranked = pl.col("comment_count").rank("average").over("room_id")
    table = table.with_columns(target=(ranked - 1) / (pl.len().over("room_id") - 1))
    what = Measured(target="comment_rate", scale="rank", is_label=False, min_viewers=1)
    found = floor_scores(table, what)
    rate = table.filter(pl.col("room_id") == "room012")["comment_count"] / 30
    assert rows(found["segment_before"], "room012")[1:] == pytest.approx(rate.to_list()[:-1])
    assert what.metrics[0] == "kendall_tau_in_rooms"
    assert replace(what, scale="minmax").metrics[0] == "kendall_tau_in_rooms"
    assert replace(what, scale="odds").metrics[0] == "kendall_tau"  # alike in every room
    tested = table.filter(pl.col("split") == "test")
    scores = tested.join(found["trees"], on=["room_id", "segment"])
    trees, before = (
        mean_over_groups(kendall_tau, scored["floor"], scored["target"], scored["room_id"]).mean
        for scored in (scores, tested.join(found["segment_before"], on=["room_id", "segment"]))
    )
    assert before > 0.4 and trees > 0.4


def predictions(table, noise, seed=1):
    """Of the test rooms, by a model that knows the target but for a noise in its log-odds."""
    rng = np.random.default_rng(seed)
    rows = table.filter(pl.col("split") == "test")
    target = rows["target"].to_numpy()
    odds = np.log(target / (1 - target)) + rng.normal(0, noise, len(target))
    return rows.with_columns(score=pl.Series(1 / (1 + np.exp(-odds))), is_sample=True)


def test_a_verdict_needs_an_interval_that_leaves_the_best_floor_out():
    table = many_rooms()
    good = compare_with_floors(predictions(table, 0.05), table, CTR)
    best = good["comparisons"]["kendall_tau"]
    taus = {name: of["kendall_tau"]["value"] for name, of in good["floors"].items()}
    assert best["best"] == max(taus, key=lambda name: taus[name])
    assert best["verdict"] == "better" and best["interval"][0] > 0
    low, high = good["model"]["kendall_tau"]["interval"]
    assert low < good["model"]["kendall_tau"]["value"] < high
    assert good["sentence"].startswith("Better than the best floor, the segment before: Kendall's ")
    assert "over 8 rooms" in good["sentence"]

    bad = compare_with_floors(predictions(table, 20.0), table, CTR)
    assert bad["comparisons"]["kendall_tau"]["verdict"] == "worse"
    assert bad["sentence"].startswith("Worse than the best floor, the segment before: ")

    # The floor's own noise: the model is as good as the segment before.
    scores = floor_scores(table, CTR)["segment_before"]
    same = predictions(table, 1.0).drop("score").join(scores, on=["room_id", "segment"])
    even = compare_with_floors(same.rename({"floor": "score"}), table, CTR)
    assert even["comparisons"]["kendall_tau"]["difference"] == 0
    assert even["sentence"].startswith("Not told apart from the best floor")


def test_few_rooms_have_no_interval_and_a_flat_curve_is_said():
    table = many_rooms(rooms=8)
    found = predictions(table, 0.05)
    few = compare_with_floors(found, table, CTR)
    assert few["rooms"] == 4 and few["model"]["kendall_tau"]["interval"] is None
    assert few["comparisons"]["kendall_tau"]["verdict"] == "too few rooms"
    assert few["sentence"].startswith("Too few rooms to say whether it is better than the best")
    assert "an interval needs 5" in few["sentence"] and "flat" not in few["sentence"]
    flat = found.with_columns(score=0.3 + 0.001 * pl.col("score"))
    said = compare_with_floors(flat, table, CTR)
    assert said["flat_rooms"] == 4 and "In 4 of 4 rooms its curve is flat" in said["sentence"]
    constant = compare_with_floors(found.with_columns(score=0.5), table, CTR)
    assert constant["sentence"].startswith("Not compared, since the model's scores")
    assert constant["model"]["kendall_tau"]["value"] is None


def test_labels_are_compared_by_average_precision():
    table = many_rooms().with_columns(goal=(pl.col("target") > 0.9).cast(pl.Float64))
    table = table.with_columns(target=pl.col("goal"))
    what = Measured(target="goal", scale="none", is_label=True, min_viewers=1)
    tested = table.filter(pl.col("split") == "test").with_columns(is_sample=True)
    exact = tested.with_columns(score=0.2 + 0.5 * pl.col("target"))
    found = compare_with_floors(exact, table, what)
    assert found["metric"] == "average_precision"
    assert found["model"]["average_precision"]["value"] == 1
    assert found["comparisons"]["average_precision"]["verdict"] == "better"
    assert 0 < found["floors"]["trees"]["average_precision"]["value"] < 1
    assert "average precision 1.000 against" in found["sentence"]
