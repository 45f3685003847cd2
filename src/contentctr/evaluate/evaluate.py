"""From a checkpoint and prepared data to predictions.parquet and metrics.json (Section 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from contentctr.devices import find_device
from contentctr.errors import InputError
from contentctr.evaluate.personal import evaluate_personal
from contentctr.evaluate.rooms import evaluate_rooms
from contentctr.outputs import alone, check_output
from contentctr.score.checkpoint import Checkpoint, load_for
from contentctr.score.evaluation import KIND, sample_rule, with_interval
from contentctr.store.opened import Data
from contentctr.train.opened import TASKS, open_task


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """How models of a task are measured, and in which words the result is told."""

    evaluate: Callable[..., dict[str, Any]]
    batch_size: int
    """Windows scored at once, where the user names no number."""
    score: str
    """Of the block `metrics`, the number that is told first."""
    counted: str
    """Of the block `counts`, what that number is taken over."""
    data: str
    """What its data shows, in a word."""


EVALUATORS = {
    "rooms": Evaluator(
        evaluate=evaluate_rooms,
        batch_size=64,
        score=TASKS["rooms"].score,
        counted="samples",
        data="rooms",
    ),
    "personal": Evaluator(
        evaluate=evaluate_personal,
        batch_size=8,
        score=TASKS["personal"].score,
        counted="users",
        data="videos",
    ),
}
"""By a task's name."""


def evaluate_model(
    checkpoint: Checkpoint | Path | str,
    data: Data,
    out: Path | str,
    *,
    split: str = "test",
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    ray: str | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Score a split, and measure the scores on its samples.

    Writes OUT/predictions.parquet (one row a scored segment, or a frame of a user's video),
    OUT/metrics.json, and OUT/training_log.jsonl, a copy of the run's log where there is one.

    Args:
        checkpoint: a checkpoint or run folder.
        data: a prepared folder, of rooms or of personalized highlights as the model is, encoded
            with the encoders the model was trained with.
        out: a new or empty folder, or one of an earlier evaluation, whose files are replaced.
        split: train, val, test or all.
        batch_size: windows at once; no metric depends on it. None: 64, of videos 8.
        device: where to compute, of `find_device`.
        ray: the Ray cluster whose machines score, as `run_over` takes it; None: here. A worker has
            as many threads as this process (sums of floats depend on that), or one GPU. For rooms
            alone.
        show_progress: show a bar.

    Returns:
        What metrics.json holds.

    Raises:
        InputError: the data does not fit the checkpoint, or has no sample in the split; or `out`
            holds files of somebody else, or another process evaluates into it.
    """
    check_output(Path(out), KIND)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    task = open_task(data)
    evaluator = EVALUATORS[task.name]
    with alone(Path(out), "here"):
        return evaluator.evaluate(
            load_for(checkpoint, task.name),
            task.data,
            Path(out),
            split=split,
            batch_size=batch_size or evaluator.batch_size,
            device=find_device(device, elsewhere=ray is not None),
            ray=ray,
            show_progress=show_progress,
        )


def headline(metrics: dict[str, Any]) -> tuple[str, dict[str, object]]:
    """The result in short: over what it is taken, and the score of the model and of others.

    Of rooms the score is what the verdict on the floors is of (`verdict`).

    Args:
        metrics: as `evaluate_model` returns them.
    """
    words = EVALUATORS[metrics["task"]]
    label = f" (simulated {words.data})" if metrics["simulated"] else ""
    if metrics["trained_on_simulated"] and not metrics["simulated"]:
        label = f" (by a model of simulated {words.data})"
    floors = metrics.get("floors")
    score = floors["metric"] if floors else words.score
    rows: dict[str, object] = {score: metrics["metrics"][score]}
    if floors:
        rows[score] = with_interval(floors["model"][score])
        for name, floor in floors["floors"].items():
            rows[f"{score} of {name}"] = with_interval(floor[score])
    if "calibration" in metrics:
        rows |= _calibrated(metrics["calibration"])
    for name, reference in metrics["references"].items():
        if score in reference:
            rows.setdefault(f"{score} of {name}", reference[score])
    if "parameters" in metrics:
        rows["parameters"] = f"{metrics['parameters'] / 1e6:.2f} M"
    counted = metrics["counts"][words.counted]
    why = sample_rule(metrics) if words.counted == "samples" else ""
    return f"{counted} {words.counted} of {metrics['split']}{label}{why}", rows


def _calibrated(block: dict[str, Any]) -> dict[str, object]:
    """What calibration makes of the scores, in rows."""
    before, after = block["before"], block["after"]
    if block["method"] == "none":
        return {"calibration": f"none ({block['why']})", "log_loss": after["log_loss"]}
    return {
        "calibration": block["method"],
        **{
            f"{name}, before and after": f"{before[name]:.4f}, {after[name]:.4f}"
            for name in ("log_loss", "calibration_error")
        },
    }


def verdict(metrics: dict[str, Any]) -> str:
    """How the model stands beside the floors, in a sentence; "" where it has none.

    Args:
        metrics: as `evaluate_model` returns them.
    """
    return str(metrics["floors"]["sentence"]) if "floors" in metrics else ""
