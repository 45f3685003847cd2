"""The folder of an evaluation: written by `evaluate`, read by reports, tables and replays.

EVAL/predictions.parquet  one row a scored segment, or a frame of a user's target video
EVAL/users.parquet        of personalized highlights: one row a user, with the user's own metrics
EVAL/training_log.jsonl   a copy of the run's log, where there is one
EVAL/metrics.json         metrics with their counts, references, settings; written last
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import polars as pl

from contentctr.batch import DataSpec
from contentctr.config import to_dict
from contentctr.errors import InputError
from contentctr.files import atomic, read_json, read_parquet, write_json
from contentctr.outputs import output_folder

if TYPE_CHECKING:
    from contentctr.score.checkpoint import Checkpoint

KIND = "an evaluation"
"""What the folder holds, as outputs.py calls it."""
Schema = Mapping[str, Any]
_NUMBER = (int, float, NoneType)
_WORDS: dict[Any, str] = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    dict: "an object",
    _NUMBER: "a number or null",
}
_FIELDS: Schema = {
    "simulated": bool,
    "trained_on_simulated": bool,
    "split": str,
    "target": str,
    "metrics": dict,
    "references": dict,
    "counts": dict,
    "config": dict,
    "data_spec": dict,
}
"""Fields that every metrics.json has, beside `task`."""
LOG_SCHEMA: Schema = {
    "member": pl.Int64,
    "step": pl.Int64,
    "split": pl.String,
    **dict.fromkeys(("total", "point", "pair", "align"), pl.Float64),
    **dict.fromkeys(
        ("kendall_tau", "kendall_tau_in_rooms", "average_precision", "map"), pl.Float64
    ),
}
"""What is read of training_log.jsonl; which of the last four a line has depends on the task, and
only an ensemble has members."""


FLOORS = {
    "segment_before": ("segment before", "the target of the segment before"),
    "exponential_mean": ("exponential mean", "of earlier segments, half-life 3"),
    "streamer_mean": ("streamer mean", "of the training rooms"),
    "trees": ("trees on earlier counts", "gradient boosting, fitted on the training rooms"),
}
"""By their keys in metrics.json, what pages call the rules of thumb, and what each knows."""
METRIC_NAMES = {
    "kendall_tau": "Kendall's tau",
    "kendall_tau_in_rooms": "Kendall's tau inside a room",
    "average_precision": "average precision",
}
"""Metrics that a model and its floors are compared by."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the files of one task's evaluation hold."""

    tables: Mapping[str, Schema]
    """By the name of the Parquet file, its columns; others may follow."""
    order: Mapping[str, tuple[str, ...]]
    """Columns that a table is read in the order of."""
    metrics: tuple[str, ...]
    """Numbers of the block `metrics`, in the order of a page; null where undefined."""
    fields: Schema
    """Further fields of metrics.json."""


FORMS = {
    "rooms": Form(
        tables={
            "predictions": {
                "room_id": pl.String,
                "streamer_id": pl.String,
                "segment": pl.Int32,
                "start_s": pl.Float64,
                "end_s": pl.Float64,
                "target": pl.Float64,
                "score": pl.Float64,
                "viewers": pl.UInt32,
                "is_sample": pl.Boolean,
                "truth": pl.Float64,  # the true click probability of a simulated room
            }
        },
        order={"predictions": ("room_id", "segment")},
        metrics=(
            "kendall_tau",
            "kendall_tau_in_rooms",
            "log_loss",
            "mean_ratio",
            "calibration_error",
            "precision_at_top",
        ),
        fields={"horizon": int, "later_segments": int, "floors": dict},
    ),
    "personal": Form(
        tables={
            "predictions": {
                "user_id": pl.String,
                "video_id": pl.String,
                "frame": pl.Int32,
                "start_s": pl.Float64,
                "end_s": pl.Float64,
                "score": pl.Float64,
                "selected": pl.Boolean,
            },
            "users": {
                "user_id": pl.String,
                "video_id": pl.String,
                "history": pl.Int32,
                "captions": pl.Boolean,
                "frames": pl.Int64,
                "highlight_frames": pl.Int64,
                # Average precisions; null for a user who selected nothing.
                "ap": pl.Float64,
                "ap_stretches": pl.Float64,
                "ap_top5": pl.Float64,
                "ap_published": pl.Float64,
            },
        },
        order={"predictions": ("user_id", "frame"), "users": ("user_id",)},
        metrics=("map", "map_published", "map_stretches", "map_top5"),
        fields={"parameters": int},
    ),
}
"""By a task's name."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the folder holds."""

    metrics: dict[str, Any]
    """metrics.json."""
    tables: Mapping[str, pl.DataFrame]
    """Of the task's Form."""
    log: pl.DataFrame | None
    """Of LOG_SCHEMA, by step; None where no log was kept."""

    @property
    def predictions(self) -> pl.DataFrame:
        """The scores."""
        return self.tables["predictions"]

    @property
    def users(self) -> pl.DataFrame:
        """The users of personalized highlights."""
        return self.tables["users"]


def write_evaluation(
    out: Path,
    tables: Mapping[str, pl.DataFrame],
    metrics: Mapping[str, Any],
    *,
    checkpoint: Checkpoint,
    data: DataSpec,
    split: str,
) -> dict[str, Any]:
    """Write OUT/NAME.parquet of each table, a copy of the run's log, and, last, metrics.json.

    Args:
        out: a new or empty folder, or one of an earlier evaluation, whose files are replaced.
        tables: by name, of the task's Form.
        metrics: the task's own part of metrics.json: JSON-ready, without NaN.
        checkpoint: what was evaluated.
        data: what it was evaluated on.
        split: of it.

    Returns:
        What metrics.json holds.
    """
    found = {
        "task": checkpoint.task,
        "model_id": checkpoint.model_id,
        "simulated": data.simulated,
        "trained_on_simulated": checkpoint.spec.simulated,
        "split": split,
        "target": data.target,
        "config": to_dict(checkpoint.config),
        "data_spec": to_dict(data),
        "checkpoint": dict(checkpoint.info),
        **metrics,
    }
    forms = FORMS[checkpoint.task].tables
    log = checkpoint.folder.parent.parent / "log.jsonl"
    # metrics.json first: without it nothing is reported.
    names = ["metrics.json", *(f"{name}.parquet" for name in forms), "training_log.jsonl"]
    with output_folder(out, KIND, names):
        for name, schema in forms.items():
            assert schema.items() <= dict(tables[name].schema).items(), tables[name].schema
            with atomic(out / f"{name}.parquet") as temporary:
                tables[name].write_parquet(temporary)
        if log.is_file():
            with atomic(out / "training_log.jsonl") as temporary:
                shutil.copyfile(log, temporary)
        write_json(out / "metrics.json", json.loads(json.dumps(found, allow_nan=False)))
    return found


def sample_rule(metrics: Mapping[str, Any]) -> str:
    """Which of the rooms' segments were measured and why no others, to follow their number.

    Args:
        metrics: of metrics.json.

    Returns:
        Such as ", of 804 segments those that ...", or "" where all were measured, or no settings
        tell.
    """
    counts, data = metrics["counts"], metrics["config"].get("data")
    if not data or counts.get("samples") == counts.get("segments"):
        return ""
    rules = [f"end a window of {data['window_len']} segments"]
    rules[0] += " or a shorter room" if data["short_windows"] else ""
    rules += [f"have at least {data['min_viewers']} viewers"] if metrics["target"] == "ctr" else []
    rules += ["have a target"] if counts["segments_with_target"] < counts["segments"] else []
    return f", of {counts['segments']:,} segments those that {' and '.join(rules)}"


def with_interval(of: Mapping[str, Any]) -> str:
    """A metric of the block `floors` in words: its value, and its interval where it has one."""
    if of["value"] is None:
        return "undefined"
    limits = of["interval"]
    return f"{of['value']:.4f}" + (f" ({limits[0]:.4f} to {limits[1]:.4f})" if limits else "")


def read_evaluation(folder: Path, task: str | None = None) -> Evaluation:
    """Read the folder of an evaluation.

    Args:
        folder: where `evaluate` wrote it.
        task: what it must be of; None: of any task.

    Raises:
        InputError: a file is missing, damaged, or not of the task's Form; names it and the field.
    """
    metrics = read_metrics(folder, task)
    form = FORMS[metrics["task"]]
    tables = {
        name: read_parquet(folder / f"{name}.parquet", schema).sort(*form.order[name])
        for name, schema in form.tables.items()
    }
    return Evaluation(metrics=metrics, tables=tables, log=_read_log(folder / "training_log.jsonl"))


def read_metrics(folder: Path, task: str | None = None) -> dict[str, Any]:
    """Read metrics.json alone; arguments and errors as of `read_evaluation`."""
    path = folder / "metrics.json"
    found = read_json(path)
    named = found.get("task")
    wanted = list(FORMS) if task is None else [task]
    if named not in wanted:
        raise InputError(f"{path}: task must be {' or '.join(wanted)}, not {named!r}")
    form = FORMS[named]
    _require(path, found, {**_FIELDS, **form.fields})
    _require(path, found["metrics"], dict.fromkeys(form.metrics, _NUMBER), "metrics.")
    return found


def _require(path: Path, block: Mapping[str, Any], kinds: Schema, where: str = "") -> None:
    """Stop at a field of the block that is missing or of another type."""
    for name, kind in kinds.items():
        if name not in block:
            raise InputError(f"{path}: field {where + name!r} is missing")
        if not isinstance(block[name], kind):
            raise InputError(f"{path}: {where}{name} must be {_WORDS[kind]}, not {block[name]!r}")


def _read_log(path: Path) -> pl.DataFrame | None:
    if not path.is_file():
        return None
    try:
        # As bytes: of a path with [brackets] a pattern would be made.
        table = pl.read_ndjson(path.read_bytes(), schema=LOG_SCHEMA)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a readable log of a run ({error})") from None
    # A run that was resumed has done the steps after its last save twice: the later line counts.
    key = ["member", "split", "step"]
    table = table.unique(key, keep="last", maintain_order=True).sort("member", "step")
    return table if table.height else None
