"""Two models on the same samples."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from contentctr.errors import InputError
from contentctr.evaluate.pairs import compare_models
from contentctr.metrics.ctr import log_loss
from contentctr.metrics.intervals import RoomDraws


def predictions(noise: float, rooms: int = 30, seed: int = 0, length: int = 20) -> pl.DataFrame:
    """Scores so far from the true probability, of the same rooms and targets for every noise."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.6, rooms * length)
    targets = rng.binomial(50, truth) / 50
    wrong = np.random.default_rng(seed).normal(0, noise, len(truth))
    return pl.DataFrame(
        {
            "room_id": np.repeat([f"r{n:02d}" for n in range(rooms)], length),
            "segment": np.tile(np.arange(length), rooms),
            "score": np.clip(truth + wrong, 0.01, 0.99),
            "target": targets,
            "is_sample": np.arange(len(truth)) % 3 > 0,
        }
    )


def test_what_is_better_and_by_how_much() -> None:
    good, bad = predictions(0.05), predictions(0.2, seed=1)
    found = compare_models(good, bad, metric="kendall_tau", is_label=False)
    assert found["verdict"] == "better" and (found["rooms"], found["samples"]) == (30, 400)
    rows, others = (table.filter("is_sample") for table in (good, bad))
    tau = [kendalltau(table["score"], table["target"]).statistic for table in (rows, others)]
    assert found["kendall_tau"]["new"] == tau[0] and found["kendall_tau"]["old"] == tau[1]
    assert found["log_loss"]["old"] == pytest.approx(log_loss(others["score"], others["target"]))
    low, high = found["kendall_tau"]["interval"]
    assert 0 < low < found["kendall_tau"]["difference"] < high
    assert compare_models(bad, good, metric="kendall_tau", is_label=False)["verdict"] == "worse"
    assert (
        compare_models(good, good, metric="kendall_tau", is_label=False)["verdict"]
        == "not told apart"
    )
    assert found["shown"]["calibration_error"].keys() == {"new", "old"}
    assert found["shown"]["kendall_tau"]["new"] == tau[0] and "roc_auc" not in found["shown"]


def test_of_labels_the_area_under_the_curve_is_shown() -> None:
    good, bad = (
        table.with_columns(target=(pl.col("target") > 0.4).cast(pl.Float64))
        for table in (predictions(0.05), predictions(0.2, seed=1))
    )
    found = compare_models(good, bad, metric="average_precision", is_label=True)
    assert found["metric"] == "average_precision" and found["verdict"] == "better"
    for name, table in (("new", good), ("old", bad)):
        of = table.filter("is_sample")
        area = roc_auc_score(of["target"], of["score"])
        assert found["shown"]["roc_auc"][name] == pytest.approx(area)


def test_of_ranks_inside_rooms_the_order_inside_rooms_counts() -> None:
    """A model that mixes up the segments of a room, and knows which rooms are busy, is worse."""
    good = predictions(0.05).with_columns(
        target=(pl.col("target").rank().over("room_id") - 1) / (pl.len().over("room_id") - 1)
    )
    mixed = good.with_columns(score=pl.col("score").shuffle(seed=1).over("room_id"))
    found = compare_models(mixed, good, metric="kendall_tau_in_rooms", is_label=False)
    assert found["metric"] == "kendall_tau_in_rooms" and found["verdict"] == "worse"
    inside = [
        np.mean(
            [
                kendalltau(room["score"], room["target"]).statistic
                for room in table.filter("is_sample").partition_by("room_id")
            ]
        )
        for table in (mixed, good)
    ]
    block = found["kendall_tau_in_rooms"]
    assert [block["new"], block["old"]] == pytest.approx(inside)


def test_a_worse_log_loss_alone_is_worse() -> None:
    good = predictions(0.05)
    squeezed = good.with_columns(score=0.9 + 0.05 * pl.col("score"))
    found = compare_models(squeezed, good, metric="kendall_tau", is_label=False)
    assert found["kendall_tau"]["difference"] == 0 and found["verdict"] == "worse"


def test_few_rooms_say_nothing() -> None:
    few = predictions(0.05, rooms=3)
    assert compare_models(few, predictions(0.2, rooms=3), metric="kendall_tau", is_label=False)[
        "verdict"
    ] == ("too few rooms")
    with pytest.raises(InputError, match="no sample in common"):
        compare_models(
            few, few.with_columns(is_sample=pl.lit(False)), metric="kendall_tau", is_label=False
        )


def test_means_of_draws_are_those_of_the_rooms_drawn() -> None:
    rooms, values = np.repeat([0, 1, 2], [1, 2, 3]), np.arange(6.0)
    draws = RoomDraws(rooms, draws=20)
    sums, counts = np.array([0.0, 3.0, 12.0]), np.array([1.0, 2.0, 3.0])
    order = np.argsort(draws.group_G)
    weights = draws.weight_DG[:, draws.group_G]
    assert len(order) == 3
    np.testing.assert_allclose(draws.mean(values), weights @ sums / (weights @ counts))
