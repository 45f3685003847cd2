"""The files of an evaluation of live rooms, read and checked: all that its report is made from.

EVAL/predictions.parquet  one row a scored segment
EVAL/metrics.json         metrics with their counts, references, settings
EVAL/training_log.jsonl   one line a training step or validation round; may be missing
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.files import read_parquet
from contentctr.report.checks import (
    ROOMS,
    field,
    read_metrics,
    refuse,
    refuse_null,
    refuse_times,
    require_count,
    require_number,
    require_share,
)
from contentctr.report.log import read_log

PREDICTIONS_SCHEMA: dict[str, Any] = {
    "room_id": pl.String,
    "streamer_id": pl.String,
    "segment": pl.Int32,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "target": pl.Float64,
    "score": pl.Float64,
    "viewers": pl.UInt32,
    "is_sample": pl.Boolean,
    "truth": pl.Float64,
}
"""Columns of predictions.parquet. Target, score, viewers and truth may be null; truth is the true
click probability of a simulated room."""
METRICS = (
    "kendall_tau",
    "kendall_tau_in_rooms",
    "log_loss",
    "mean_ratio",
    "calibration_error",
    "precision_at_top",
)
"""Numbers that the block `metrics` of metrics.json has; null where undefined."""
COUNTS = (
    "samples",
    "rooms",
    "samples_with_positive_target",
    "rooms_with_tau",
    "rooms_without_tau",
    "rooms_with_top",
    "rooms_without_top",
)
"""Counts that it has."""
_ROW = {"room": "room_id", "segment": "segment"}


@dataclass(frozen=True)
class Evaluation:
    """What the folder holds."""

    predictions: pl.DataFrame
    """Of PREDICTIONS_SCHEMA, sorted by room_id and segment; no NaN, null instead."""
    metrics: dict[str, Any]
    """metrics.json, with the fields that this file checks."""
    log: pl.DataFrame | None
    """As read_log gives it; None where no log was kept."""


def read_evaluation(folder: Path) -> Evaluation:
    """Read the folder of an evaluation of live rooms.

    Raises:
        InputError: a file is missing or has another form; names it and the field.
    """
    metrics = _read_metrics(folder / "metrics.json")
    predictions = _read_predictions(folder / "predictions.parquet")
    return Evaluation(predictions, metrics, read_log(folder / "training_log.jsonl"))


def _read_predictions(path: Path) -> pl.DataFrame:
    table = read_parquet(path, PREDICTIONS_SCHEMA)
    if not table.height:
        raise InputError(f"{path}: must have at least one row, not 0")
    table = table.select(*PREDICTIONS_SCHEMA).sort("room_id", "segment").fill_nan(None)
    known = ("room_id", "streamer_id", "segment", "start_s", "end_s", "is_sample")
    refuse_null(path, table, known, _ROW)
    for name in ("target", "score", "truth"):
        outside = ~pl.col(name).is_between(0, 1)
        refuse(path, table, outside, name, "in [0, 1] or null", _ROW)
    repeated = pl.col("segment") == pl.col("segment").shift(1).over("room_id")
    refuse(path, table, repeated, "segment", "once in a room", _ROW)
    refuse_times(path, table, "room_id", _ROW)
    return table


def _read_metrics(path: Path) -> dict[str, Any]:
    found = read_metrics(path, ROOMS, {"horizon": (int, "a whole number")})
    block = found["metrics"]
    for name in METRICS:
        require_number(path, f"metrics.{name}", field(path, block, name, "metrics."))
    require_share(path, "metrics.top_share", field(path, block, "top_share", "metrics."))
    counts = field(path, block, "counts", "metrics.")
    for name in COUNTS:
        value = field(path, counts, name, "metrics.counts.")
        require_count(path, f"metrics.counts.{name}", value)
    bins = field(path, block, "calibration", "metrics.")
    if not isinstance(bins, list):
        raise InputError(f"{path}: metrics.calibration must be a list, not {bins!r}")
    for i, row in enumerate(bins):
        for name in ("mean_score", "mean_target", "count"):
            where = f"metrics.calibration[{i}]"
            check = require_count if name == "count" else require_share
            check(path, f"{where}.{name}", field(path, row, name, f"{where}."))
    for name, reference in found["references"].items():
        where = f"references.{name}"
        value = field(path, reference, "kendall_tau", f"{where}.")
        require_number(path, f"{where}.kendall_tau", value)
        for metric in METRICS:
            require_number(path, f"{where}.{metric}", reference.get(metric))
    return found
