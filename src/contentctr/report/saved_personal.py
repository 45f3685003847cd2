"""The files of an evaluation of personalized highlights, read and checked.

EVAL/predictions.parquet  one row a frame of a user's target video
EVAL/users.parquet        one row a user, with the user's own metrics
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
    HIGHLIGHTS,
    field,
    read_metrics,
    refuse,
    refuse_null,
    refuse_times,
    require_count,
    require_share,
)
from contentctr.report.log import read_log

PREDICTIONS_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "video_id": pl.String,
    "frame": pl.Int32,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "score": pl.Float64,
    "selected": pl.Boolean,
}
"""Columns of predictions.parquet; none may be null."""
USERS_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "video_id": pl.String,
    "history": pl.Int32,
    "captions": pl.Boolean,
    "frames": pl.Int64,
    "highlight_frames": pl.Int64,
    "ap": pl.Float64,
    "ap_stretches": pl.Float64,
    "ap_top5": pl.Float64,
    "ap_published": pl.Float64,
}
"""Columns of users.parquet; the last four are null for a user who selected nothing."""
METRICS = ("map", "map_published", "map_stretches", "map_top5")
"""Numbers that the block `metrics`, and each reference, of metrics.json has; null where undefined.
"""
USER_COUNTS = ("users", "users_undefined", "users_all_positive")
"""Counts that they have."""
COUNTS = ("users", "videos", "frames", "highlight_frames")
"""Counts that the block `counts` must have; others may follow."""
_FRAME = {"user": "user_id", "frame": "frame"}
_USER = {"user": "user_id"}


@dataclass(frozen=True)
class PersonalEvaluation:
    """What the folder holds."""

    predictions: pl.DataFrame
    """Of PREDICTIONS_SCHEMA, sorted by user_id and frame."""
    users: pl.DataFrame
    """Of USERS_SCHEMA, sorted by user_id; no NaN, null instead."""
    metrics: dict[str, Any]
    """metrics.json, with the fields that this file checks."""
    log: pl.DataFrame | None
    """As read_log gives it; None where no log was kept."""


def read_personal(folder: Path) -> PersonalEvaluation:
    """Read the folder of an evaluation of personalized highlights.

    Raises:
        InputError: a file is missing, has another form, or is of another evaluation than the
            others; names it and the field.
    """
    metrics = _read_metrics(folder / "metrics.json")
    predictions = _read_predictions(folder / "predictions.parquet")
    users = _read_users(folder / "users.parquet", predictions)
    if metrics["counts"]["users"] != users.height:
        raise InputError(
            f"{folder / 'metrics.json'}: counts.users must be the number of rows of users.parquet, "
            f"{users.height}, not {metrics['counts']['users']}"
        )
    return PersonalEvaluation(predictions, users, metrics, read_log(folder / "training_log.jsonl"))


def _read_predictions(path: Path) -> pl.DataFrame:
    table = _read(path, PREDICTIONS_SCHEMA).sort("user_id", "frame")
    refuse_null(path, table, list(PREDICTIONS_SCHEMA), _FRAME)
    refuse(path, table, ~pl.col("score").is_between(0, 1), "score", "in [0, 1]", _FRAME)
    other = pl.col("video_id") != pl.col("video_id").first().over("user_id")
    refuse(path, table, other, "video_id", "the same in all rows of a user", _FRAME)
    repeated = pl.col("frame") == pl.col("frame").shift(1).over("user_id")
    refuse(path, table, repeated, "frame", "once for each user", _FRAME)
    refuse_times(path, table, "user_id", _FRAME)
    return table


def _read_users(path: Path, predictions: pl.DataFrame) -> pl.DataFrame:
    """The users; their ids, videos and counts must be those of the predictions."""
    table = _read(path, USERS_SCHEMA).sort("user_id")
    known = [name for name in USERS_SCHEMA if not name.startswith("ap")]
    refuse_null(path, table, known, _USER)
    repeated = pl.col("user_id") == pl.col("user_id").shift(1)
    refuse(path, table, repeated, "user_id", "once in the table", _USER)
    refuse(path, table, pl.col("history") < 0, "history", "0 or more", _USER)
    for name in USERS_SCHEMA:
        if name.startswith("ap"):
            outside = ~pl.col(name).is_between(0, 1)
            refuse(path, table, outside, name, "in [0, 1] or null", _USER)
    missing = predictions.join(table, on=["user_id", "video_id"], how="anti")
    if missing.height:
        row = missing.row(0, named=True)
        raise InputError(
            f"{path}: must have a row of each user and video of predictions.parquet, and has none "
            f"of user {row['user_id']!r}, video {row['video_id']!r}"
        )
    counted = predictions.group_by("user_id").agg(
        pl.len().cast(pl.Int64).alias("_frames"),
        pl.col("selected").sum().cast(pl.Int64).alias("_highlight_frames"),
    )
    joined = table.join(counted, on="user_id", how="left", maintain_order="left")
    for name, what in (("frames", "rows"), ("highlight_frames", "selected rows")):
        differs = pl.col(name) != pl.col(f"_{name}").fill_null(0)
        rule = f"the number of the user's {what} in predictions.parquet"
        refuse(path, joined, differs, name, rule, _USER)
    wrong = pl.col("ap").is_null() != (pl.col("highlight_frames") == 0)
    refuse(path, table, wrong, "ap", "null where highlight_frames is 0, and only there", _USER)
    return table


def _read(path: Path, schema: dict[str, Any]) -> pl.DataFrame:
    table = read_parquet(path, schema)
    if not table.height:
        raise InputError(f"{path}: must have at least one row, not 0")
    return table.select(*schema).fill_nan(None)


def _read_metrics(path: Path) -> dict[str, Any]:
    found = read_metrics(
        path,
        HIGHLIGHTS,
        {
            "trained_on_simulated": (bool, "true or false"),
            "parameters": (int, "a whole number"),
        },
    )
    require_count(path, "parameters", found["parameters"])
    for name in COUNTS:
        require_count(path, f"counts.{name}", field(path, found["counts"], name, "counts."))
    blocks = {"metrics": found["metrics"]}
    blocks |= {f"references.{name}": block for name, block in found["references"].items()}
    for where, block in blocks.items():
        for name in METRICS:
            value = field(path, block, name, f"{where}.")
            require_share(path, f"{where}.{name}", value, or_null=True)
        for name in USER_COUNTS:
            require_count(path, f"{where}.{name}", field(path, block, name, f"{where}."))
    return found
