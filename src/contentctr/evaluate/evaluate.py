"""From a checkpoint and prepared data to predictions.parquet and metrics.json (Section 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from contentctr.errors import InputError
from contentctr.evaluate.personal import evaluate_personal
from contentctr.evaluate.rooms import evaluate_rooms
from contentctr.score.checkpoint import Checkpoint, load_for
from contentctr.store.opened import Data, open_data
from contentctr.store.personal import PreparedPersonal


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
        out: folder for the results; files of an earlier evaluation are replaced.
        split: train, val, test or all.
        batch_size: windows at once; no metric depends on it. None: 64, of videos 8.
        device: where to compute.
        ray: the Ray cluster whose machines score, as `run_over` takes it; None: here. A worker has
            as many threads as this process (sums of floats depend on that), or one GPU. For rooms
            alone.
        show_progress: show a bar.

    Returns:
        What metrics.json holds.

    Raises:
        InputError: the data does not fit the checkpoint, or has no sample in the split.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    found, out = open_data(data), Path(out)
    if isinstance(found, PreparedPersonal):
        if ray is not None:
            raise InputError(f"{found.root}: --ray is not for personalized highlights")
        return evaluate_personal(
            load_for(checkpoint, "highlights"),
            found,
            out,
            split=split,
            batch_size=batch_size or 8,
            device=device,
            show_progress=show_progress,
        )
    return evaluate_rooms(
        load_for(checkpoint, "ctr"),
        found,
        out,
        split=split,
        batch_size=batch_size or 64,
        device=device,
        ray=ray,
        show_progress=show_progress,
    )
