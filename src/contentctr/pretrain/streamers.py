"""Pre-training of streamers' vectors from watch logs, by a search-based interest model (sim.py).

    OUT/streamers.parquet   the table (streamer_table.py), for ContentCTR's E_u
    OUT/model.safetensors   the whole model
    OUT/pretraining.json    settings, counts, and metrics on held-out impressions
    OUT/config.json         what the run is, so that it is resumed with nothing else
    OUT/last                link to the last save, in OUT/checkpoints/

The order of impressions and which streamers are hidden are functions of seed and epoch, so a run
that was stopped or killed and resumed ends with the same bits.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from contentctr.errors import InputError, NonFiniteLossError
from contentctr.files import atomic, file_sha256, read_json, write_json
from contentctr.pretrain.loop import check_run, generator
from contentctr.pretrain.sim import Sim, SimSettings, sim_loss
from contentctr.pretrain.streamer_metrics import click_metrics, popularity, table_purity
from contentctr.pretrain.watch_logs import (
    History,
    WatchLogs,
    index_history,
    read_pairs,
    read_watch_logs,
)
from contentctr.progress import Progress, progress_bar, stop_signals
from contentctr.rooms.tables import SUFFIXES
from contentctr.score.checkpoint import load_optimizer, load_weights, point_to, save_optimizer
from contentctr.store.streamer_table import write_streamer_table

ORDER, HIDDEN = range(2)
"""What random numbers are for; part of their seed."""
SORTED_BATCHES = 32
"""Impressions of so many batches are put in order of their histories' lengths: less padding."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PretrainData:
    """Impressions, and which of them are trained on: all from before the first one held out."""

    logs: WatchLogs
    history: History
    streamers: list[str]
    """Of the training impressions, sorted; others are unknown."""
    categories: list[str]
    """Of known streamers, sorted."""
    cutoff: float
    """Unix seconds; impressions from here on are held out. Infinite where none are."""

    @property
    def train_rows(self) -> Ints:
        """Impressions before the cutoff."""
        return np.flatnonzero(self.history.t_I < self.cutoff)

    @property
    def held_out_rows(self) -> Ints:
        """Impressions from the cutoff on."""
        return np.flatnonzero(self.history.t_I >= self.cutoff)


@dataclass
class Position:
    """Where a run is; the random state follows from it."""

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    """Of the steps of this epoch."""
    losses: list[float] = field(default_factory=list)
    """Mean loss of each finished epoch."""


@dataclass(kw_only=True)
class _Run:
    data: PretrainData
    settings: SimSettings
    out: Path
    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    position: Position


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
    described = {"what": "streamer", **dataclasses.asdict(settings), **_hashes(logs, categories)}
    last = check_run(out, described, resume=resume)
    data = load_watch_data(logs, settings, categories)
    run = _start(data, settings, out, last)
    write_json(out / "config.json", described)
    total = settings.epochs * _steps(run)
    show = show_progress
    with stop_signals() as stop, progress_bar("pretrain streamer", total, show=show) as bar:
        bar.advance(run.position.step)
        while run.position.epoch < settings.epochs:
            _train_epoch(run, bar, stop)
    return _finish(run, types, described, simulated=(logs.parent / "simulated.json").is_file())


def load_watch_data(
    logs: Path, settings: SimSettings, categories: Path | None = None
) -> PretrainData:
    """Read the logs, split them by time, and index every impression's history.

    Raises:
        InputError: a file is wrong; the training impressions lack clicks or anything else; or
            the hard search has no categories.
    """
    if settings.search == "hard" and categories is None:
        raise InputError("search=hard needs a table of categories (streamer_id, category)")
    found = read_watch_logs(logs)
    category_of = {} if categories is None else read_pairs(categories, "category")
    cutoff = math.inf
    if settings.held_out:
        times = found.table["t"].to_numpy()
        cutoff = float(np.quantile(times, 1 - settings.held_out, method="higher"))
    train = found.table.filter(found.table["t"] < cutoff)
    clicks = int(train["clicked"].sum())
    if not 0 < clicks < train.height:
        raise InputError(
            f"{logs}: training impressions must be clicked in part; {clicks} of {train.height} "
            f"are, before the latest {settings.held_out:.0%}, which are held out"
        )
    streamers = sorted(train["streamer_id"].unique().to_list())
    if categories is not None and not category_of.keys() & set(streamers):
        raise InputError(f"{categories}: must have a category for some streamer of {logs}")
    names = sorted({category_of[name] for name in streamers if name in category_of})
    row_of = {name: row for row, name in enumerate(names, 1)}
    category_U = np.array([0] + [row_of.get(category_of.get(name, ""), 0) for name in streamers])
    return PretrainData(
        logs=found,
        history=index_history(found, streamers, category_U),
        streamers=streamers,
        categories=names,
        cutoff=cutoff,
    )


def epoch_batches(data: PretrainData, settings: SimSettings, epoch: int) -> list[Ints]:
    """The training impressions of each step of an epoch; histories in a batch are alike in length.

    A function of seed and epoch alone.
    """
    rng = generator(settings.seed, ORDER, epoch)
    rows, size = rng.permutation(data.train_rows), settings.batch_size
    length_I = data.history.stop_I - data.history.start_I
    batches = []
    for first in range(0, len(rows), SORTED_BATCHES * size):
        part = rows[first : first + SORTED_BATCHES * size]
        part = part[np.argsort(length_I[part], kind="stable")]
        batches += [part[at : at + size] for at in range(0, len(part), size)]
    return [batches[number] for number in rng.permutation(len(batches))]


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


def _start(data: PretrainData, settings: SimSettings, out: Path, last: Path | None) -> _Run:
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise InputError(
            f"pre-training of streamers runs in one process, not {accelerator.num_processes}"
        )
    torch.manual_seed(settings.seed)
    model: nn.Module = Sim(settings, len(data.streamers), len(data.categories))
    optimizer: torch.optim.Optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, fused=True
    )
    position = Position()
    if last is not None:
        load_weights(model, last / "model.safetensors")
        load_optimizer(optimizer, last / "training")
        position = Position(**read_json(last / "position.json"))
    model, optimizer = accelerator.prepare(model, optimizer)
    return _Run(
        data=data,
        settings=settings,
        out=out,
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        position=position,
    )


def _steps(run: _Run) -> int:
    return math.ceil(len(run.data.train_rows) / run.settings.batch_size)


def _train_epoch(run: _Run, bar: Progress, stop: list[int]) -> None:
    position, settings = run.position, run.settings
    run.model.train()
    batches = epoch_batches(run.data, settings, position.epoch)
    draws_I = generator(settings.seed, HIDDEN, position.epoch).random(len(run.data.history.t_I))
    hidden_I = draws_I < settings.hide_streamers
    while position.step_in_epoch < len(batches):
        rows = batches[position.step_in_epoch]
        try:
            loss = _train_step(run, rows, hidden_I[rows])
        except NonFiniteLossError:
            _save(run)
            raise
        position.step += 1
        position.step_in_epoch += 1
        position.loss_sum += loss
        bar.advance(1, note=f"loss {loss:.4f}")
        if stop:
            _save(run)
            raise KeyboardInterrupt(f"stopped at step {position.step}; {run.out / 'last'} holds it")
        if settings.save_every and position.step % settings.save_every == 0:
            _save(run)
    position.losses.append(position.loss_sum / len(batches))
    position.epoch, position.step_in_epoch, position.loss_sum = position.epoch + 1, 0, 0.0
    _save(run)


def _train_step(run: _Run, rows: Ints, hidden: NDArray[np.bool_]) -> float:
    """One optimiser step; the batch's mean loss.

    Raises:
        NonFiniteLossError: before the optimiser has moved.
    """
    batch = run.data.history.batch(rows, max_history=run.settings.max_history, hidden=hidden)
    batch = batch.to(run.accelerator.device)
    run.optimizer.zero_grad(set_to_none=True)
    loss = sim_loss(run.model(batch), batch.clicked_B, run.settings)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"step {run.position.step}: the loss is {value}; the optimiser has not moved"
        )
    run.accelerator.backward(loss)
    run.optimizer.step()
    return value


def _save(run: _Run) -> None:
    """Write model, optimiser and position, point `last` to them, and remove what was before."""
    position = run.position
    name = f"step-{position.step:08d}-epoch-{position.epoch:04d}"
    folder = run.out / "checkpoints" / name
    if folder.exists():  # a kill between writing and linking left it
        shutil.rmtree(folder)
    with atomic(folder) as temporary:
        temporary.mkdir()
        _save_model(run, temporary / "model.safetensors")
        save_optimizer(run.optimizer, temporary / "training")
        write_json(temporary / "position.json", dataclasses.asdict(position))
    point_to(run.out / "last", folder)
    for other in sorted(folder.parent.iterdir()):
        if other != folder:
            shutil.rmtree(other)


def _save_model(run: _Run, path: Path) -> None:
    state = run.accelerator.unwrap_model(run.model).state_dict()
    with atomic(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, temporary)


def _finish(
    run: _Run, types: Mapping[str, str] | None, described: Mapping[str, Any], *, simulated: bool
) -> Path:
    """Measure on what was held out, and write the model, the numbers and, last, the table."""
    model = run.accelerator.unwrap_model(run.model)
    vectors = model.streamers.weight.detach().cpu().float().numpy()[1:]
    _save_model(run, run.out / "model.safetensors")
    write_json(
        run.out / "pretraining.json",
        {
            "run": dict(described),
            "simulated": simulated,
            "counts": _counts(run.data),
            "cutoff": run.data.cutoff if math.isfinite(run.data.cutoff) else None,
            "losses": run.position.losses,
            "held_out": _held_out(run),
            "purity": None if types is None else table_purity(run.data.streamers, vectors, types),
            "categories": run.data.categories,
            "warnings": run.data.logs.warnings,
        },
    )
    path = run.out / "streamers.parquet"
    write_streamer_table(path, run.data.streamers, vectors)
    return path


def _counts(data: PretrainData) -> dict[str, Any]:
    length_I = data.history.stop_I - data.history.start_I
    held_out = data.held_out_rows
    return {
        "users": data.logs.table["user_id"].n_unique(),
        "streamers": len(data.streamers),
        "impressions": len(length_I),
        "clicks": len(data.history.click_C),
        "duplicates": data.logs.duplicates,
        "held_out_impressions": len(held_out),
        "held_out_clicks": int(data.history.clicked_I[held_out].sum()),
        "held_out_of_unknown_streamers": int((data.history.streamer_I[held_out] == 0).sum()),
        "without_history": int((length_I == 0).sum()),
        "longest_history": int(length_I.max()),
    }


@torch.no_grad()
def _held_out(run: _Run) -> dict[str, Any] | None:
    """Metrics of the model, and of each streamer's smoothed click rate; None without rows."""
    history, rows = run.data.history, run.data.held_out_rows
    if not len(rows):
        return None
    rows = rows[np.argsort((history.stop_I - history.start_I)[rows], kind="stable")]
    run.model.eval()
    scores = []
    for first in range(0, len(rows), run.settings.batch_size):
        part = rows[first : first + run.settings.batch_size]
        batch = history.batch(part, max_history=run.settings.max_history)
        logits_B = run.model(batch.to(run.accelerator.device)).logits_B
        scores.append(torch.sigmoid(logits_B.double()).cpu().numpy())
    train = run.data.train_rows
    rate_U = popularity(
        history.streamer_I[train], history.clicked_I[train], len(run.data.streamers)
    )
    clicked = history.clicked_I[rows]
    return {
        "model": click_metrics(np.concatenate(scores), clicked),
        "popularity": click_metrics(rate_U[history.streamer_I[rows]], clicked),
    }
