"""Two models on the same samples."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

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
    found = compare_models(good, bad, is_label=False)
    assert found["verdict"] == "better" and (found["rooms"], found["samples"]) == (30, 400)
    rows, others = (table.filter("is_sample") for table in (good, bad))
    tau = [kendalltau(table["score"], table["target"]).statistic for table in (rows, others)]
    assert found["kendall_tau"]["new"] == tau[0] and found["kendall_tau"]["old"] == tau[1]
    assert found["log_loss"]["old"] == pytest.approx(log_loss(others["score"], others["target"]))
    low, high = found["kendall_tau"]["interval"]
    assert 0 < low < found["kendall_tau"]["difference"] < high
    assert compare_models(bad, good, is_label=False)["verdict"] == "worse"
    assert compare_models(good, good, is_label=False)["verdict"] == "not told apart"
    assert compare_models(good, bad, is_label=True)["metric"] == "average_precision"


def test_a_worse_log_loss_alone_is_worse() -> None:
    good = predictions(0.05)
    squeezed = good.with_columns(score=0.9 + 0.05 * pl.col("score"))
    found = compare_models(squeezed, good, is_label=False)
    assert found["kendall_tau"]["difference"] == 0 and found["verdict"] == "worse"


def test_few_rooms_say_nothing() -> None:
    few = predictions(0.05, rooms=3)
    assert compare_models(few, predictions(0.2, rooms=3), is_label=False)["verdict"] == (
        "too few rooms"
    )
    with pytest.raises(InputError, match="no sample in common"):
        compare_models(few, few.with_columns(is_sample=pl.lit(False)), is_label=False)


def test_means_of_draws_are_those_of_the_rooms_drawn() -> None:
    rooms, values = np.repeat([0, 1, 2], [1, 2, 3]), np.arange(6.0)
    draws = RoomDraws(rooms, draws=20)
    sums, counts = np.array([0.0, 3.0, 12.0]), np.array([1.0, 2.0, 3.0])
    order = np.argsort(draws.group_G)
    weights = draws.weight_DG[:, draws.group_G]
    assert len(order) == 3
    np.testing.assert_allclose(draws.mean(values), weights @ sums / (weights @ counts))
