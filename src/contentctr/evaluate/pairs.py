"""Two models on the same segments: how far apart they are, with an interval over rooms."""

from __future__ import annotations

from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.evaluate.comparison import measured, or_none
from contentctr.evaluate.floors import KEYS
from contentctr.metrics.ctr import Floats, log_losses
from contentctr.metrics.intervals import LEAST_ROOMS, RoomDraws, interval


def compare_models(new: pl.DataFrame, old: pl.DataFrame, *, is_label: bool) -> dict[str, Any]:
    """How a model does beside another on the samples that both scored (paired bootstrap).

    Args:
        new: predictions.parquet of the one.
        old: of the other, on the same data.
        is_label: whether average precision, not tau, is what counts most.

    Returns:
        `rooms`, `samples`, `metric` (the one that counts most), by metric `new`, `old`,
        `difference`, its `interval` (None where there are too few rooms), and `verdict`: better,
        worse, not told apart or too few rooms. Worse is a model whose interval lies on the wrong
        side in the metric or in log loss, whatever the other says.

    Raises:
        InputError: there is no sample that both scored.
    """
    pairs = new.filter("is_sample").join(
        old.filter("is_sample").select(*KEYS, old_score="score"), on=KEYS, how="inner"
    )
    if not pairs.height:
        raise InputError("the two models have no sample in common")
    targets, rooms = pairs["target"].to_numpy(), pairs["room_id"].to_numpy()
    draws = RoomDraws(rooms)
    metric = "average_precision" if is_label else "kendall_tau"
    found = {}
    for name in (metric, "log_loss"):
        values = [
            _measured(name, pairs[column].to_numpy(), targets, draws)
            for column in ("score", "old_score")
        ]
        (new_value, new_D), (old_value, old_D) = values
        limits = interval(new_D - old_D) if draws.num_rooms >= LEAST_ROOMS else None
        found[name] = {
            "new": or_none(new_value),
            "old": or_none(old_value),
            "difference": or_none(new_value - old_value),
            "interval": None if limits is None else list(limits),
        }
    return {
        "rooms": draws.num_rooms,
        "samples": pairs.height,
        "metric": metric,
        **found,
        "verdict": _verdict(found[metric]["interval"], found["log_loss"]["interval"]),
    }


def _measured(
    metric: str, scores_M: Floats, targets_M: Floats, draws: RoomDraws
) -> tuple[float, Floats]:
    """As `measured`, of log loss too."""
    if metric != "log_loss":
        return measured(metric, scores_M, targets_M, draws)
    loss_M = log_losses(scores_M, targets_M)
    return float(loss_M.mean()), draws.mean(loss_M)


def _verdict(gain: Any, loss: Any) -> str:
    """Of the intervals of a metric that should rise and of one that should fall."""
    if gain is None and loss is None:
        return "too few rooms"
    if (gain is not None and gain[1] < 0) or (loss is not None and loss[0] > 0):
        return "worse"
    if (gain is not None and gain[0] > 0) or (loss is not None and loss[1] < 0):
        return "better"
    return "not told apart"
