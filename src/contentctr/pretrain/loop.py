"""The small training loop that both pre-trainings share: one process or many.

All randomness is a function of the seed, the step and the row, so a run that was stopped, killed
or resumed ends with the same bits.

    OUT/config.json     what is pre-trained, with which settings, on which data
    OUT/checkpoints/    model and optimiser of the last save; encoders of the best epoch
    OUT/last            link to the last save
    OUT/encoder         link to the encoder of least held-out loss, in the form `encode` loads
    OUT/log.jsonl       one line a step, one a held-out loss
"""

from __future__ import annotations

import importlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from contentctr.config import Precision
from contentctr.errors import InputError, NonFiniteLossError
from contentctr.files import atomic, read_json, write_json, write_text
from contentctr.progress import Progress, progress_bar, stop_signals
from contentctr.score.checkpoint import load_optimizer, point_to, save_optimizer
from contentctr.train.run_folder import read_log, require_new

ORDER, DROPOUT, MASK = range(3)
"""What random numbers are for; the first part of their seed after the run's own."""
HELD_OUT = 1 << 32
"""In place of an epoch: held-out rows are masked alike in all epochs."""
_NOT_DECAYED = ("relative_position_bias_table", "position_embeddings", "mask_token")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Settings of the loop; a resumed run must keep all of them but `save_every`."""

    epochs: int = 10
    """Passes over the training rooms; the schedule ends with the last."""
    batch_size: int = 64
    """Examples of an optimiser step, over all processes."""
    learning_rate: float = 1e-4
    """Of AdamW, after the warm-up; falls to 0 in a cosine."""
    warmup: float = 0.1
    """Share of all steps in which the learning rate rises linearly, in [0, 1)."""
    weight_decay: float = 0.05
    """Of weight matrices; biases, norms and position tables have none."""
    max_grad_norm: float = 1.0
    """The gradient is cut to this norm; 0: never."""
    precision: Precision = "no"
    """Mixed precision."""
    save_every: int = 500
    """Steps between saves within an epoch; 0: at its end alone."""
    seed: int = 0
    """Same seed, same run."""

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "warmup": (0 <= self.warmup < 1, "in [0, 1)"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "max_grad_norm": (self.max_grad_norm >= 0, "at least 0"),
            "save_every": (self.save_every >= 0, "at least 0"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (ok, rule) in rules.items():
            if not ok:
                raise InputError(f"{name} must be {rule}, not {getattr(self, name)!r}")


class Task(Protocol):
    """What differs between texts and pictures."""

    model: Any
    """With its head, a torch module of transformers."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Examples of the splits train and val."""

    def batch(self, split: str, rows: NDArray[np.int64], epoch: int) -> tuple[Tensor, ...]:
        """Some examples, masked by (seed, epoch, row) alone."""

    def loss(self, model: nn.Module, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the loss over what is masked, and how many terms it has."""

    def save(self, folder: Path) -> None:
        """Write model and head into a folder that the task can be made from again."""

    def export(self, folder: Path) -> None:
        """Write the encoder without the head, in the form that encoders.py loads."""


@dataclass
class Position:
    """Where a run is; the random state follows from it."""

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    best_loss: float | None = None
    """Least held-out loss so far; None without held-out rooms."""


@dataclass(kw_only=True)
class _Run:
    task: Task
    settings: PretrainConfig
    out: Path
    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    position: Position
    steps: int
    """Optimiser steps of an epoch."""


def check_run(out: Path, described: Mapping[str, Any], *, resume: bool) -> Path | None:
    """See whether a run may begin, or go on, in a folder.

    Args:
        out: the folder; must be new or empty, unless `resume`.
        described: everything that decides what the run computes, JSON-ready.
        resume: go on with what is in `out`.

    Returns:
        The last save's folder; None where the run starts from its first step.

    Raises:
        InputError: the folder holds anything, or nothing to resume, or a setting differs.
    """
    if not resume:
        require_new(out)
        return None
    if not (out / "config.json").is_file():
        raise InputError(f"{out}: nothing to resume (it has no config.json)")
    before, now = read_json(out / "config.json"), json.loads(json.dumps(described))
    for name in sorted((before.keys() | now.keys()) - {"save_every"}):
        if before.get(name) != now.get(name):
            raise InputError(
                f"{out}: a resumed run must keep its settings and data; {name} was "
                f"{before.get(name)!r} and is now {now.get(name)!r}"
            )
    return (out / "last").resolve() if (out / "last").exists() else None


def begin_run(out: Path, described: Mapping[str, Any], settings: PretrainConfig) -> Accelerator:
    """Write what the run is; every process comes here before one of them writes anything."""
    accelerator = Accelerator(mixed_precision=settings.precision)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(out / "config.json", dict(described))
    return accelerator


@contextmanager
def quiet_transformers() -> Iterator[Any]:
    """The module, silent about heads that a base lacks (they are made anew) and without bars."""
    # Imported when used, as in encoders.py: it takes seconds.
    module = importlib.import_module("transformers")
    logging = module.utils.logging
    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield module
    finally:
        logging.set_verbosity(before)


def generator(*parts: int) -> np.random.Generator:
    """Random numbers that depend on the parts alone."""
    return np.random.default_rng(np.random.SeedSequence(parts))


def run_pretraining(
    task: Task,
    settings: PretrainConfig,
    out: Path,
    *,
    last: Path | None,
    accelerator: Accelerator,
    show_progress: bool = True,
) -> Path:
    """Train `task.model` and return the folder of the encoder of least held-out loss.

    Args:
        task: model and data; the model as it was saved, if `last` is given.
        settings: of the loop.
        out: the run's folder.
        last: the last save of a run that is resumed.
        accelerator: what `begin_run` returned.
        show_progress: show a bar on a terminal.

    Raises:
        InputError: fewer training examples, or a smaller batch, than processes.
        NonFiniteLossError: a loss is not finite; the optimiser has not moved.
        KeyboardInterrupt: the user or the system asked to stop; `last` holds the state.
    """
    run = _start(task, settings, out, last, accelerator)
    position, total = run.position, run.steps * settings.epochs
    what = f"pretrain {type(task).__name__.removesuffix('Task').lower()}"
    show = show_progress and run.accelerator.is_main_process
    with stop_signals() as stop, progress_bar(what, total, show=show) as bar:
        bar.advance(position.step)
        while position.epoch < settings.epochs:
            _train_epoch(run, bar, stop)
            _end_epoch(run)
    return out / "encoder"


def learning_rate(settings: PretrainConfig, step: int, total_steps: int) -> float:
    """Learning rate at a step: linear warm-up, then a cosine that ends at 0."""
    warm = round(settings.warmup * total_steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / (warm + 1)
    share = (step - warm) / max(1, total_steps - warm)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(model: nn.Module, settings: PretrainConfig) -> torch.optim.Optimizer:
    """Fused AdamW that decays weight matrices alone."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith(_NOT_DECAYED)
        (decayed if decays else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _start(
    task: Task, settings: PretrainConfig, out: Path, last: Path | None, accelerator: Accelerator
) -> _Run:
    size = settings.batch_size
    if min(size, task.sizes["train"]) < accelerator.num_processes:
        raise InputError(
            f"each of {accelerator.num_processes} processes needs an example of each step; "
            f"batch_size is {size}, and there are {task.sizes['train']} training examples"
        )
    optimizer = make_optimizer(task.model, settings)
    position = Position()
    if last is not None:
        load_optimizer(optimizer, last / "training")
        position = Position(**read_json(last / "position.json"))
    log = out / "log.jsonl"
    if log.exists() and accelerator.is_main_process:
        rows = [row for row in read_log(log) if _is_past(row, position)]
        write_text(log, "".join(json.dumps(row) + "\n" for row in rows))
    model, optimizer = accelerator.prepare(task.model, optimizer)
    return _Run(
        task=task,
        settings=settings,
        out=out,
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        position=position,
        steps=max(1, task.sizes["train"] // size),
    )


def _is_past(row: Mapping[str, Any], position: Position) -> bool:
    if row["split"] == "val":
        return bool(row["epoch"] <= position.epoch)
    return bool(row["step"] <= position.step)


def _train_epoch(run: _Run, bar: Progress, stop: list[int]) -> None:
    position, settings = run.position, run.settings
    run.model.train()
    order = generator(settings.seed, ORDER, position.epoch).permutation(run.task.sizes["train"])
    while position.step_in_epoch < run.steps:
        first = position.step_in_epoch * settings.batch_size
        try:
            values = _train_step(run, order[first : first + settings.batch_size])
        except NonFiniteLossError:
            _save(run)
            raise
        position.step += 1
        position.step_in_epoch += 1
        epoch = position.epoch + position.step_in_epoch / run.steps
        _log(run, {"step": position.step, "epoch": round(epoch, 6), "split": "train", **values})
        bar.advance(1, note=f"loss {values['loss']:.4f}")
        flag = torch.tensor(float(bool(stop)), device=run.accelerator.device)
        if run.accelerator.reduce(flag, "sum") > 0:
            _save(run)
            raise KeyboardInterrupt(f"stopped at step {position.step}; {run.out / 'last'} holds it")
        if settings.save_every and position.step % settings.save_every == 0:
            _save(run)


def _train_step(run: _Run, rows: NDArray[np.int64]) -> dict[str, float]:
    """One optimiser step; the loss is a mean over all processes' masked terms."""
    accelerator, settings, step = run.accelerator, run.settings, run.position.step
    process = accelerator.process_index
    draws = generator(settings.seed, DROPOUT, step, process)
    torch.manual_seed(int(draws.integers(1 << 62)))
    batch = run.task.batch("train", rows[process :: accelerator.num_processes], run.position.epoch)
    run.optimizer.zero_grad(set_to_none=True)
    with accelerator.autocast():
        loss_sum, count = run.task.loss(run.model, *(x.to(accelerator.device) for x in batch))
    count = accelerator.reduce(count, "sum").clamp(min=1)
    loss = float(accelerator.reduce(loss_sum.detach(), "sum") / count)
    if not math.isfinite(loss):
        raise NonFiniteLossError(
            f"step {step}: the loss is {loss}; the optimiser has not moved; rows of this step: "
            f"{rows.tolist()}"
        )
    # Gradients are averaged over processes; the count is already that of all of them.
    accelerator.backward(loss_sum / count * accelerator.num_processes)
    if settings.max_grad_norm:
        accelerator.clip_grad_norm_(run.model.parameters(), settings.max_grad_norm)
    rate = learning_rate(settings, step, run.steps * settings.epochs)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    return {"loss": loss, "learning_rate": rate}


def _end_epoch(run: _Run) -> None:
    """Held-out loss, export the encoder if it is the best yet, save."""
    position = run.position
    position.epoch += 1
    position.step_in_epoch = 0
    loss = _held_out_loss(run)
    best = position.best_loss
    if loss is None or best is None or loss < best:
        position.best_loss = loss
        _export(run)
    if loss is not None:
        row = {"step": position.step, "epoch": position.epoch, "split": "val", "loss": loss}
        _log(run, row)
    _save(run)


def _held_out_loss(run: _Run) -> float | None:
    """Mean loss over the validation rooms' masked terms; None if there are none."""
    accelerator = run.accelerator
    model = accelerator.unwrap_model(run.model).eval()
    total = torch.zeros(2, dtype=torch.float64)
    rows = np.arange(run.task.sizes["val"])[accelerator.process_index :: accelerator.num_processes]
    with torch.inference_mode():
        for first in range(0, len(rows), run.settings.batch_size):
            batch = run.task.batch("val", rows[first : first + run.settings.batch_size], HELD_OUT)
            with accelerator.autocast():
                found = run.task.loss(model, *(x.to(accelerator.device) for x in batch))
            total += torch.stack([x.double().cpu() for x in found])
    loss_sum, count = accelerator.reduce(total.float().to(accelerator.device), "sum").tolist()
    if not count:
        return None
    if not math.isfinite(loss_sum):
        raise NonFiniteLossError(f"the held-out loss of epoch {run.position.epoch} is not finite")
    return float(loss_sum / count)


def _export(run: _Run) -> None:
    folder = run.out / "checkpoints" / f"encoder-{run.position.step:08d}"
    # One that is there already is of a run killed after this step, and so has the same bits.
    if run.accelerator.is_main_process:
        if not folder.exists():
            run.task.export(folder)
        point_to(run.out / "encoder", folder)


def _save(run: _Run) -> None:
    """Write the state and point `last` to it; what nothing points to any more is removed."""
    if run.accelerator.is_main_process:
        position = run.position
        folder = run.out / "checkpoints" / f"step-{position.step:08d}-epoch-{position.epoch:04d}"
        if not folder.exists():
            with atomic(folder) as temporary:
                temporary.mkdir()
                run.task.save(temporary / "model")
                save_optimizer(run.optimizer, temporary / "training")
                write_json(temporary / "position.json", asdict(position))
        point_to(run.out / "last", folder)
        wanted = {(run.out / name).resolve() for name in ("last", "encoder")}
        for other in sorted((run.out / "checkpoints").iterdir()):
            if other.resolve() not in wanted:
                shutil.rmtree(other)
    run.accelerator.wait_for_everyone()


def _log(run: _Run, row: Mapping[str, Any]) -> None:
    if run.accelerator.is_main_process:
        with (run.out / "log.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
