"""Two models on the same segments: how far apart they are, with an interval over rooms."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from contentctr.errors import InputError
from contentctr.metrics.average_precision import average_precision
from contentctr.metrics.ctr import Floats, kendall_tau
from contentctr.metrics.intervals import LEAST_ROOMS, RoomDraws, interval

_KEYS = ["room_id", "segment"]
_TINY = float(np.finfo(np.float64).eps)


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
        old.filter("is_sample").select(*_KEYS, old_score="score"), on=_KEYS, how="inner"
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
            "new": _or_none(new_value),
            "old": _or_none(old_value),
            "difference": _or_none(new_value - old_value),
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
    if metric == "kendall_tau":
        return kendall_tau(scores_M, targets_M), draws.kendall_tau(scores_M, targets_M)
    if metric == "average_precision":
        value = average_precision(targets_M > 0, scores_M)
        return value, draws.average_precision(scores_M, targets_M)
    safe_M = np.clip(scores_M, _TINY, 1 - _TINY)
    loss_M = -(targets_M * np.log(safe_M) + (1 - targets_M) * np.log1p(-safe_M))
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


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
