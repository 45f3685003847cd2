"""The files of an evaluation, read and checked: all that a report is made from.

EVAL/predictions.parquet  one row a scored segment
EVAL/metrics.json         metrics with their counts, references, settings
EVAL/training_log.jsonl   one line a training step or validation round; may be missing
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.files import read_json, read_parquet

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
LOG_NUMBERS = ("total", "point", "pair", "align", "kendall_tau")
"""Numbers that a line of the training log may have."""

_KINDS = {
    "simulated": (bool, "true or false"),
    "split": (str, "text"),
    "target": (str, "text"),
    "horizon": (int, "a whole number"),
    "metrics": (dict, "an object"),
    "references": (dict, "an object"),
    "counts": (dict, "an object"),
    "config": (dict, "an object"),
    "data_spec": (dict, "an object"),
}


@dataclass(frozen=True)
class Evaluation:
    """What the folder holds."""

    predictions: pl.DataFrame
    """Of PREDICTIONS_SCHEMA, sorted by room_id and segment; no NaN, null instead."""
    metrics: dict[str, Any]
    """metrics.json, with the fields that this file checks."""
    log: pl.DataFrame | None
    """step, split and LOG_NUMBERS, by step; None where no log was kept."""


def read_evaluation(folder: Path) -> Evaluation:
    """Read an evaluation's folder.

    Raises:
        InputError: a file is missing or has another form; names it and the field.
    """
    return Evaluation(
        _read_predictions(folder / "predictions.parquet"),
        _read_metrics(folder / "metrics.json"),
        _read_log(folder / "training_log.jsonl"),
    )


def _read_predictions(path: Path) -> pl.DataFrame:
    table = read_parquet(path, PREDICTIONS_SCHEMA)
    if not table.height:
        raise InputError(f"{path}: must have at least one row, not 0")
    table = table.select(*PREDICTIONS_SCHEMA).sort("room_id", "segment").fill_nan(None)
    for name in ("room_id", "streamer_id", "segment", "start_s", "end_s", "is_sample"):
        _refuse(path, table, pl.col(name).is_null(), name, "not null")
    for name in ("target", "score", "truth"):
        outside = ~pl.col(name).is_between(0, 1)
        _refuse(path, table, outside, name, "in [0, 1] or null")
    repeated = pl.col("segment") == pl.col("segment").shift(1).over("room_id")
    _refuse(path, table, repeated, "segment", "once in a room")
    times = ~(pl.col("start_s").is_finite() & pl.col("end_s").is_finite())
    times |= pl.col("end_s") <= pl.col("start_s")
    _refuse(path, table, times, "end_s", "finite and after start_s")
    early = pl.col("start_s") < pl.col("end_s").shift(1).over("room_id") - 1e-6
    _refuse(path, table, early, "start_s", "at or after the end of the segment before")
    return table


def _refuse(path: Path, table: pl.DataFrame, bad: pl.Expr, name: str, rule: str) -> None:
    rows = table.filter(bad)
    if rows.height:
        row = rows.row(0, named=True)
        raise InputError(
            f"{path}: {name} must be {rule}, not {row[name]!r} (room {row['room_id']!r}, segment "
            f"{row['segment']})"
        )


def _read_metrics(path: Path) -> dict[str, Any]:
    found = read_json(path)
    for name, (kind, rule) in _KINDS.items():
        value = _field(path, found, name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InputError(f"{path}: {name} must be {rule}, not {value!r}")
    block = found["metrics"]
    for name in METRICS:
        _require_number(path, f"metrics.{name}", _field(path, block, name, "metrics."))
    _require_share(path, "metrics.top_share", _field(path, block, "top_share", "metrics."))
    counts = _field(path, block, "counts", "metrics.")
    for name in COUNTS:
        value = _field(path, counts, name, "metrics.counts.")
        _require_count(path, f"metrics.counts.{name}", value)
    bins = _field(path, block, "calibration", "metrics.")
    if not isinstance(bins, list):
        raise InputError(f"{path}: metrics.calibration must be a list, not {bins!r}")
    for i, row in enumerate(bins):
        for name in ("mean_score", "mean_target", "count"):
            where = f"metrics.calibration[{i}]"
            check = _require_count if name == "count" else _require_share
            check(path, f"{where}.{name}", _field(path, row, name, f"{where}."))
    for name, reference in found["references"].items():
        where = f"references.{name}"
        value = _field(path, reference, "kendall_tau", f"{where}.")
        _require_number(path, f"{where}.kendall_tau", value)
        for metric in METRICS:
            _require_number(path, f"{where}.{metric}", reference.get(metric))
    return found


def _field(path: Path, block: Any, name: str, where: str = "") -> Any:
    if not isinstance(block, Mapping):
        raise InputError(f"{path}: {where.rstrip('.')} must be an object, not {block!r}")
    if name not in block:
        raise InputError(f"{path}: field {where + name!r} is missing")
    return block[name]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require_number(path: Path, name: str, value: Any) -> None:
    if value is not None and not _is_number(value):
        raise InputError(f"{path}: {name} must be a number or null, not {value!r}")


def _require_share(path: Path, name: str, value: Any) -> None:
    if not (_is_number(value) and 0 <= value <= 1):
        raise InputError(f"{path}: {name} must be a number in [0, 1], not {value!r}")


def _require_count(path: Path, name: str, value: Any) -> None:
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        raise InputError(f"{path}: {name} must be a whole number from 0 on, not {value!r}")


def _read_log(path: Path) -> pl.DataFrame | None:
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text; byte {error.start} is not") from None
    rows = [_log_row(f"{path}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        return None
    schema = {"step": pl.Int64, "split": pl.String, **dict.fromkeys(LOG_NUMBERS, pl.Float64)}
    # A run that was resumed has done the steps after its last save twice: the later line counts.
    table = pl.DataFrame(rows, schema=schema)
    return table.unique(["split", "step"], keep="last", maintain_order=True).sort("step")


def _log_row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object, not {line!r}")
    step, split = row.get("step"), row.get("split")
    if not isinstance(step, int) or isinstance(step, bool):
        raise InputError(f"{where}: step must be a whole number, not {step!r}")
    if split not in ("train", "val"):
        raise InputError(f"{where}: split must be train or val, not {split!r}")
    for name in LOG_NUMBERS:
        if row.get(name) is not None and not _is_number(row[name]):
            raise InputError(f"{where}: {name} must be a finite number, not {row[name]!r}")
    return {"step": step, "split": split} | {name: row.get(name) for name in LOG_NUMBERS}
