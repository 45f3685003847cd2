"""Pre-training of streamers' vectors from watch logs, by a search-based interest model (sim.py).

    OUT/streamers.parquet   the table (store/streamer_table.py), for ContentCTR's E_u
    OUT/model.safetensors   the whole model
    OUT/pretraining.json    settings, counts, and metrics on held-out impressions
    and the other files of a run (train/run_folder.py)

The order of impressions and which streamers are hidden are functions of seed and epoch.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from contentctr.errors import InputError
from contentctr.files import file_sha256, write_json
from contentctr.pretrain.impressions import (
    HIDDEN,
    STEP,
    Impressions,
    epoch_batches,
    load_impressions,
)
from contentctr.pretrain.masked import generator
from contentctr.pretrain.sim import Sim, SimOutput, SimSettings, sim_loss
from contentctr.pretrain.streamer_metrics import click_metrics, popularity, table_purity
from contentctr.pretrain.watch_logs import WatchBatch, read_pairs
from contentctr.rooms.tables import SUFFIXES
from contentctr.score.weights import load_weights, save_weights
from contentctr.store.streamer_table import write_streamer_table
from contentctr.train.loop import run_training
from contentctr.train.run_folder import begin_run, check_run, read_log
from contentctr.train.training import Position
from contentctr.windows.prefetch import moved


def pretrain_streamers(
    logs: Path | str,
    out: Path | str,
    *,
    settings: SimSettings | None = None,
    categories: Path | str | None = None,
    truth: Path | str | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Path:
    """Pre-train streamers' vectors and return the path of the table.

    Args:
        logs: watch logs (`read_watch_logs`), or a folder with watch_logs.parquet or .csv and
            perhaps streamers.parquet or .csv, the categories.
        out: the run's folder; must be new or empty, unless `resume`.
        settings: of the model and its training; None: the defaults.
        categories: a table of `streamer_id` and `category`; needed for the hard search.
        truth: a table of `streamer_id` and `type`, by which the finished table is judged alone.
        resume: go on from OUT/last with the same settings and files, to the bit.
        show_progress: show a bar on a terminal.

    Raises:
        InputError: a file, the folder or a setting does not fit, or there is more than one
            process.
        NonFiniteLossError: a loss is not finite; the optimiser has not moved.
        KeyboardInterrupt: the user or the system asked to stop; OUT/last holds the state.
    """
    settings, out = settings or SimSettings(), Path(out)
    logs, categories = _find_files(Path(logs), categories)
    types = None if truth is None else read_pairs(Path(truth), "type")
    described = {
        "what": "pretrain streamer",
        **dataclasses.asdict(settings),
        **_hashes(logs, categories),
    }
    last = check_run(out, described, resume=resume)
    data = load_impressions(logs, settings, categories)
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise InputError(
            f"pre-training of streamers runs in one process, not {accelerator.num_processes}"
        )
    training = StreamerTraining(data, settings, last)
    with begin_run(out, described, accelerator, last):
        run_training(training, out, last=last, accelerator=accelerator, show_progress=show_progress)
        simulated = (logs.parent / "simulated.json").is_file()
        return _finish(training, out, types, {"run": described, "simulated": simulated})


class StreamerTraining:
    """A search-based interest model and impressions as a Training.

    Args:
        data: of the watch logs.
        settings: of the model and its training.
        last: the checkpoint that a run goes on from; None: new weights.
    """

    what = "pretrain streamer"
    score, higher_is_better, patience = "none", True, 0
    """No epoch is chosen by held-out impressions: those that follow are the measure at the end."""
    max_grad_norm = 0.0

    def __init__(self, data: Impressions, settings: SimSettings, last: Path | None) -> None:
        self.data, self.settings = data, settings
        self.epochs, self.save_every = settings.epochs, settings.save_every
        torch.manual_seed(settings.seed)
        self.model = Sim(settings, len(data.streamers), len(data.categories))
        if last is not None:
            load_weights(self.model, last / "model.safetensors")
        rate = settings.learning_rate
        groups = [{"params": list(self.model.parameters()), "lr": rate, "base_lr": rate}]
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self.steps = math.ceil(len(data.train_rows) / settings.batch_size)

    def epoch(self, epoch: int, start: int) -> Iterator[list[WatchBatch]]:
        """As Training has it."""
        history, settings = self.data.history, self.settings
        draws_I = generator(settings.seed, HIDDEN, epoch).random(len(history.t_I))
        hidden_I = draws_I < settings.hide_streamers
        for rows in epoch_batches(self.data, settings, epoch)[start:]:
            yield [history.batch(rows, max_history=settings.max_history, hidden=hidden_I[rows])]

    def dropout_seed(self, step: int, process: int) -> int:
        """As Objective has it; the model has no dropout yet."""
        return int(generator(self.settings.seed, STEP, step, process).integers(1 << 62))

    def counts(self, piece: WatchBatch) -> Tensor:
        """One term, the batch: it comes in one piece, to one process."""
        return torch.ones(1, dtype=torch.int64, device=piece.clicked_B.device)

    def sums(self, output: SimOutput, piece: WatchBatch) -> Tensor:
        """The batch's mean loss."""
        return sim_loss(output, piece.clicked_B, self.settings)[None]

    def total(self, sums: Tensor, counts: Tensor) -> Tensor:
        """The mean over all terms."""
        return (sums / counts).sum()

    def named(self, sums: Tensor, counts: Tensor) -> dict[str, float]:
        """The one loss."""
        return {"loss": float(self.total(sums, counts))}

    def learning_rate(self, base: float, step: int, total_steps: int) -> float:
        """Constant."""
        return base

    def numbers(self, piece: WatchBatch) -> Tensor:
        """Of the impressions."""
        return piece.number_B

    def validate(self, accelerator: Accelerator) -> dict[str, float]:
        """Nothing."""
        return {}

    def save(self, folder: Path, position: Position) -> None:
        """The model."""
        save_weights(self.model, folder / "model.safetensors")

    def export(self, folder: Path) -> None:
        """Nothing: the table is written when the run is over."""


def _find_files(logs: Path, categories: Path | str | None) -> tuple[Path, Path | None]:
    """The logs' file and the categories' file of a folder, or what was given."""
    given = None if categories is None else Path(categories)
    if not logs.is_dir():
        return logs, given
    found = [logs / f"watch_logs{suffix}" for suffix in SUFFIXES]
    beside = [logs / f"streamers{suffix}" for suffix in SUFFIXES]
    if not any(path.is_file() for path in found):
        raise InputError(
            f"{logs}: must hold watch_logs.parquet, .csv or .tsv (or .csv.gz, .tsv.gz)"
        )
    first = next((path for path in beside if path.is_file()), None)
    return next(path for path in found if path.is_file()), given or first


def _hashes(logs: Path, categories: Path | None) -> dict[str, str]:
    hashes = {}
    for name, path in (("logs", logs), ("categories", categories)):
        if path is not None:
            if not path.is_file():
                raise InputError(f"{path}: no such file")
            hashes[f"{name}_sha256"] = file_sha256(path)
    return hashes


def _finish(
    training: StreamerTraining,
    out: Path,
    types: Mapping[str, str] | None,
    about: Mapping[str, Any],
) -> Path:
    """Measure on what was held out, and write the model, the numbers and, last, the table."""
    data, model = training.data, training.model
    vectors = model.streamers.weight.detach().cpu().float().numpy()[1:]
    save_weights(model, out / "model.safetensors")
    write_json(
        out / "pretraining.json",
        {
            **about,
            "counts": data.counts(),
            "cutoff": data.cutoff if math.isfinite(data.cutoff) else None,
            "losses": _epoch_losses(out / "log.jsonl", training.steps),
            "held_out": _held_out(training),
            "purity": None if types is None else table_purity(data.streamers, vectors, types),
            "categories": data.categories,
            "warnings": data.logs.warnings,
        },
    )
    path = out / "streamers.parquet"
    write_streamer_table(path, data.streamers, vectors)
    return path


def _epoch_losses(log: Path, steps: int) -> list[float]:
    """Mean loss of each epoch's batches."""
    losses = [row["loss"] for row in read_log(log)]
    return [statistics.fmean(losses[at : at + steps]) for at in range(0, len(losses), steps)]


@torch.no_grad()
def _held_out(training: StreamerTraining) -> dict[str, Any] | None:
    """Metrics of the model, and of each streamer's smoothed click rate; None without rows."""
    data, settings, model = training.data, training.settings, training.model.eval()
    history, rows = data.history, data.held_out_rows
    if not len(rows):
        return None
    rows = rows[np.argsort((history.stop_I - history.start_I)[rows], kind="stable")]
    device = model.streamers.weight.device
    scores = []
    for first in range(0, len(rows), settings.batch_size):
        part = rows[first : first + settings.batch_size]
        batch = moved(history.batch(part, max_history=settings.max_history), device)
        scores.append(torch.sigmoid(model(batch).logits_B.double()).cpu().numpy())
    train = data.train_rows
    rate_U = popularity(history.streamer_I[train], history.clicked_I[train], len(data.streamers))
    clicked = history.clicked_I[rows]
    return {
        "model": click_metrics(np.concatenate(scores), clicked),
        "popularity": click_metrics(rate_U[history.streamer_I[rows]], clicked),
    }
