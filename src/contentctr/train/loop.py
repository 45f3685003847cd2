"""The one training loop: any model, one process or many.

All randomness is a function of the seed, the step and the window, so a run that was stopped,
killed or resumed ends with the same bits. What it is trained on is a Task (tasks/).
"""

from __future__ import annotations

import dataclasses
import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, TrainConfig
from contentctr.encode import encoders
from contentctr.errors import InputError, NonFiniteLossError
from contentctr.models.end_to_end import EndToEnd
from contentctr.models.losses import NAMES, loss_counts, loss_sums, total_loss
from contentctr.models.registry import build_model, model_type, require_task
from contentctr.progress import Progress, progress_bar, stop_signals
from contentctr.score import checkpoint as checkpoints
from contentctr.store.opened import Data
from contentctr.train.opened import open_task
from contentctr.train.run_folder import (
    Position,
    RunFolder,
    position_of,
    require_new,
    require_same_data,
    resumable,
)
from contentctr.train.task import Process, Task, Validation
from contentctr.windows.loader import EpochLoader
from contentctr.windows.prefetch import prefetched


@dataclass(kw_only=True)
class Run:
    """What the loop works on."""

    folder: RunFolder
    model: nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    loader: EpochLoader
    validate: Validation
    score: str
    """Of `validate`'s metrics, the one that chooses the best epoch."""
    position: Position

    @property
    def config(self) -> Config:
        """All settings."""
        return self.folder.config


def train_model(
    config: Config,
    data: Data,
    out: Path | str,
    *,
    resume: bool = False,
    show_progress: bool = True,
) -> Path:
    """Train a model and return the folder of its best checkpoint (Section 4.3.2).

    Args:
        config: all settings.
        data: a prepared and encoded folder, of rooms or of personalized highlights, with a
            training split; its validation split chooses the best epoch and may be missing.
        out: the run's folder; must be new, unless `resume`.
        resume: go on from RUN/last with the same settings, to the bit; a run that was killed
            before its first checkpoint begins anew.
        show_progress: show bars.

    Raises:
        InputError: the data, the folder or the settings do not fit.
        NonFiniteLossError: a loss is not finite.
        KeyboardInterrupt: the user or the system asked to stop; `last` holds the state.
    """
    task = open_task(data)
    require_task(config.model.kind, task.name)
    run = _start(config, task, Path(out), resume)
    steps = run.loader.steps
    total = steps * config.train.epochs
    try:
        with (
            stop_signals() as stop,
            progress_bar(
                "train", total, show=show_progress and run.accelerator.is_main_process
            ) as bar,
        ):
            bar.advance(run.position.step)
            while run.position.epoch < config.train.epochs and not run.position.stopped:
                _train_epoch(run, bar, stop)
                _end_epoch(run)
    finally:
        run.folder.close()
    run.accelerator.wait_for_everyone()
    return (run.folder.path / "best").resolve()


def _train_epoch(run: Run, bar: Progress, stop: list[int]) -> None:
    position, every = run.position, run.config.train.save_every
    run.model.train()
    total_steps = run.loader.steps * run.config.train.epochs
    steps = run.loader.epoch(position.epoch, start=position.step_in_epoch)
    with prefetched(steps, run.accelerator.device) as batches:
        for pieces in batches:
            try:
                losses = train_step(
                    run.model,
                    run.optimizer,
                    pieces,
                    run.config,
                    step=position.step,
                    total_steps=total_steps,
                    accelerator=run.accelerator,
                )
            except NonFiniteLossError:
                _save(run, "last")
                raise
            position.step += 1
            position.step_in_epoch += 1
            run.folder.log(position, "train", losses)
            bar.advance(1, note=" ".join(f"{k} {v:.4f}" for k, v in losses.items() if k in NAMES))
            if _any_process(run.accelerator, bool(stop)):
                _save(run, "last")
                raise KeyboardInterrupt(
                    f"stopped at step {position.step}; {run.folder.path / 'last'} holds it"
                )
            if every and position.step % every == 0:
                _save(run, "last")


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pieces: list[Any],
    config: Config,
    *,
    step: int,
    total_steps: int,
    accelerator: Accelerator,
) -> dict[str, float]:
    """One optimiser step on a batch given in pieces; returns the batch's named losses.

    Each loss is a mean over its terms in the whole batch, over all pieces and all processes, so
    the gradient does not depend on how the batch was cut (losses.py).

    Raises:
        NonFiniteLossError: before the optimiser has moved.
    """
    torch.manual_seed(_dropout_seed(config.train.seed, step, accelerator.process_index))
    counts = accelerator.reduce(torch.stack([loss_counts(p) for p in pieces]).sum(0), "sum")
    sums = torch.zeros(len(NAMES), device=accelerator.device)
    optimizer.zero_grad(set_to_none=True)
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        with nullcontext() if last else accelerator.no_sync(model):
            with accelerator.autocast():
                output = model(piece)
            piece_sums = loss_sums(output, piece, config.loss)
            # Gradients are averaged over processes; the counts are already those of all of them.
            loss = total_loss(piece_sums, counts, config.loss) * accelerator.num_processes
            accelerator.backward(loss)
        sums += piece_sums.detach()
    sums = accelerator.reduce(sums, "sum")
    losses = _named(sums, counts, config)
    if not all(math.isfinite(value) for value in losses.values()):
        windows = torch.cat([p.window_B for p in pieces]).tolist()
        raise NonFiniteLossError(
            f"step {step}: a loss is not finite: {losses}; the optimiser has not moved; windows "
            f"of this step: {windows}"
        )
    if config.train.max_grad_norm:
        accelerator.clip_grad_norm_(model.parameters(), config.train.max_grad_norm)
    factor = schedule(config.train, step, total_steps)
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    optimizer.step()
    return {**losses, "learning_rate": optimizer.param_groups[0]["lr"]}


def schedule(config: TrainConfig, step: int, total_steps: int) -> float:
    """Factor on the learning rate at a step: linear warm-up, then constant or a cosine to 0."""
    factor = min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total_steps))))
    return factor


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam, or AdamW with a weight decay; the encoders may have a learning rate of their own."""
    encoder_rate = config.encoder_learning_rate or config.learning_rate
    core: list[nn.Parameter] = []
    encoder: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        of_encoder = isinstance(model, EndToEnd) and not name.startswith("core.")
        (encoder if of_encoder else core).append(parameter)
    groups = [{"params": core, "lr": config.learning_rate, "base_lr": config.learning_rate}]
    if encoder:
        groups.append({"params": encoder, "lr": encoder_rate, "base_lr": encoder_rate})
    if config.weight_decay:
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
    return torch.optim.Adam(groups, fused=True)


def _start(config: Config, task: Task, out: Path, resume: bool) -> Run:
    """Everything in place: data, model, optimiser, and the position of a run that is resumed."""
    begun = (out / "config.json").is_file() and not (out / "last").exists()
    saved = resumable(config, out) if resume and not begun else None
    if not resume:
        require_new(out)
    finetune = config.train.finetune_encoders
    # A piece without any frame, or without any text, leaves an encoder unused.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=finetune)
    accelerator = Accelerator(mixed_precision=config.train.precision, kwargs_handlers=[ddp])
    spec = task.spec(config)
    if saved is not None:
        config, vocabulary = dataclasses.replace(config, model=saved.config.model), saved.vocabulary
    else:
        config, vocabulary = task.vocabulary(config)
    data_hash = task.data_hash()
    if saved is not None:
        require_same_data(saved, spec, data_hash, out)
    model = _model(config, spec, vocabulary, saved)
    optimizer = make_optimizer(model, config.train)
    position = Position()
    if saved is not None:
        checkpoints.load_optimizer(optimizer, saved.folder / "training")
        position = position_of(saved)
        position.stopped = _stopped(position, config.train, task.score)
    process = Process(rank=accelerator.process_index, world=accelerator.num_processes)
    loader, validate = task.load(config, vocabulary, process)
    model, optimizer = accelerator.prepare(model, optimizer)
    folder = RunFolder(
        path=out,
        config=config,
        spec=spec,
        vocabulary=vocabulary,
        steps_per_epoch=loader.steps,
        is_main=accelerator.is_main_process,
        data_hash=data_hash,
    )
    accelerator.wait_for_everyone()  # before the folder is there, which all have looked for
    folder.open(position)
    run = Run(
        folder=folder,
        model=model,
        optimizer=optimizer,
        accelerator=accelerator,
        loader=loader,
        validate=validate,
        score=task.score,
        position=position,
    )
    if saved is None:
        _save(run, "last")  # so that a run killed in its first epoch can be resumed
    return run


def _model(
    config: Config, spec: DataSpec, vocabulary: Vocabulary, saved: checkpoints.Checkpoint | None
) -> nn.Module:
    """The saved model, or a fresh one; with its encoders where they are trained too."""
    finetune = config.train.finetune_encoders
    if finetune and not model_type(config.model.kind).reads_content:
        raise InputError(
            f"train.finetune_encoders must be false with model.kind={config.model.kind}, which "
            "reads no encoder's features"
        )
    if saved is not None:
        return saved.load_end_to_end() if finetune else saved.load_model()
    torch.manual_seed(config.train.seed)
    model = build_model(config, spec, vocabulary)
    return _with_encoders(model, spec) if finetune else model


def _with_encoders(model: nn.Module, spec: DataSpec) -> nn.Module:
    visual = encoders.load_visual(spec.visual_encoder)
    text = encoders.load_text(
        spec.text_encoder, pooling=spec.text_pooling, max_tokens=spec.max_text_tokens
    )
    if not isinstance(visual, nn.Module) or not isinstance(text, nn.Module):
        raise InputError("train.finetune_encoders needs encoders that are torch modules")
    return EndToEnd(model, visual, text)


def _end_epoch(run: Run) -> None:
    """Validate, keep the best, decide whether to stop, and move on to the next epoch."""
    position = run.position
    position.epoch += 1
    position.step_in_epoch = 0
    found = run.validate(run.accelerator.unwrap_model(run.model), run.accelerator.device)
    score = found.get(run.score)
    better = position.best_score is None or (score is not None and score > position.best_score)
    if better:
        position.best_score, position.epochs_without_gain = score, 0
    else:
        position.epochs_without_gain += 1
    position.stopped = _stopped(position, run.config.train, run.score)
    if found:
        run.folder.log(position, "val", found)
    _save(run, *(("best", "last") if better else ("last",)))


def _stopped(position: Position, config: TrainConfig, score: str) -> str:
    """Why the run is over before its last epoch; "" while it is not."""
    if config.patience and position.epochs_without_gain >= config.patience:
        return f"no better validation {score} in {config.patience} epochs"
    return ""


def _save(run: Run, *links: str) -> None:
    model = run.accelerator.unwrap_model(run.model)
    run.folder.save(model, run.optimizer, run.position, links)
    run.accelerator.wait_for_everyone()


def _named(sums: Tensor, counts: Tensor, config: Config) -> dict[str, float]:
    means = (sums.cpu().double() / counts.cpu().clamp(min=1)).tolist()
    return {
        **dict(zip(NAMES, means, strict=True)),
        "total": float(total_loss(sums, counts, config.loss)),
    }


def _dropout_seed(seed: int, step: int, process: int) -> int:
    return int(np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)[0] >> 1)


def _any_process(accelerator: Accelerator, mine: bool) -> bool:
    if accelerator.num_processes == 1:
        return mine
    flag = torch.tensor(float(mine), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum") > 0)
