"""Two models on the same segments: how far apart they are, with an interval over rooms."""

from __future__ import annotations

from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.evaluate.comparison import measured, or_none
from contentctr.evaluate.floors import KEYS
from contentctr.metrics.ctr import Floats, log_losses, summary
from contentctr.metrics.intervals import LEAST_ROOMS, RoomDraws, interval
from contentctr.metrics.labels import label_summary
from contentctr.score.evaluation import FORMS

LABEL_METRICS = ("average_precision", "average_precision_in_rooms", "roc_auc")
"""Of `label_summary`, beside the others where the target is a label."""


def compare_models(
    new: pl.DataFrame, old: pl.DataFrame, *, metric: str, is_label: bool
) -> dict[str, Any]:
    """How a model does beside another on the samples that both scored (paired bootstrap).

    Args:
        new: predictions.parquet of the one.
        old: of the other, on the same data.
        metric: what counts most, the first of Measured.metrics.
        is_label: whether the target says yes or no of a segment.

    Returns:
        `rooms`, `samples`, `metric`, by it and by log_loss `new`, `old`, `difference`, its
        `interval` (None where there are too few rooms), `shown`: by metric of an evaluation `new`
        and `old`, and `verdict`: better, worse, not told apart or too few rooms. Worse is a model
        whose interval lies on the wrong side in the metric or in log loss, whatever the other
        says.

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
        "shown": _shown(pairs, is_label),
        "verdict": _verdict(found[metric]["interval"], found["log_loss"]["interval"]),
    }


def _shown(pairs: pl.DataFrame, is_label: bool) -> dict[str, dict[str, float | None]]:
    """Of both models, what an evaluation shows in numbers."""
    new, old = (
        {**summary(*of), **(label_summary(*of) if is_label else {})}
        for of in (
            [pairs[name].to_numpy() for name in (score, "target", "room_id")]
            for score in ("score", "old_score")
        )
    )
    names = [*FORMS["rooms"].metrics, *(LABEL_METRICS if is_label else ())]
    return {name: {"new": new[name], "old": old[name]} for name in names}


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
