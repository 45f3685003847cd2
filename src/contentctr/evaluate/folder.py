"""The folder of an evaluation, whole or without its metrics.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.batch import DataSpec
from contentctr.config import to_dict
from contentctr.files import atomic, write_json
from contentctr.score.checkpoint import Checkpoint


def said_of(checkpoint: Checkpoint, data: DataSpec, split: str) -> dict[str, Any]:
    """What metrics.json says whatever the task: which model on which data, JSON-ready."""
    return {
        "simulated": data.simulated,
        "trained_on_simulated": checkpoint.spec.simulated,
        "split": split,
        "target": data.target,
        "config": to_dict(checkpoint.config),
        "data_spec": to_dict(data),
        "checkpoint": dict(checkpoint.info),
    }


def write_evaluation(
    out: Path,
    tables: Mapping[str, pl.DataFrame],
    metrics: Mapping[str, Any],
    checkpoint: Checkpoint,
) -> None:
    """Write OUT/NAME.parquet of each table, a copy of the run's log, and, last, metrics.json.

    Args:
        out: the folder; files of an earlier evaluation are replaced.
        tables: by name.
        metrics: JSON-ready, without NaN.
        checkpoint: what was evaluated.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").unlink(missing_ok=True)  # without it nothing is reported
    for name, table in tables.items():
        with atomic(out / f"{name}.parquet") as temporary:
            table.write_parquet(temporary)
    log = checkpoint.folder.parent.parent / "log.jsonl"
    if log.is_file():
        with atomic(out / "training_log.jsonl") as temporary:
            shutil.copyfile(log, temporary)
    else:
        (out / "training_log.jsonl").unlink(missing_ok=True)
    write_json(out / "metrics.json", json.loads(json.dumps(metrics, allow_nan=False)))
