"""The one training loop: models and encoders, streamers' vectors; one process or many.

All randomness is a function of the seed, the epoch, the step and the example, so a run that was
stopped, killed or resumed ends with the same bits. What is trained is a Training (training.py):
the loop never asks which.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import patch_environment
from torch import nn

from contentctr.batch import DataSpec
from contentctr.config import Config, to_dict
from contentctr.devices import find_device
from contentctr.errors import InputError, NonFiniteLossError
from contentctr.files import read_json
from contentctr.models.registry import require_task
from contentctr.printing import say
from contentctr.progress import Progress, progress_bar, stop_signals
from contentctr.score.checkpoint import Checkpoint
from contentctr.score.weights import load_optimizer
from contentctr.store.opened import Data
from contentctr.train.init_from import InitFrom, open_init, told
from contentctr.train.members import (
    join_members,
    run_members,
    withdrawn_if_not_begun,
    write_joined_log,
)
from contentctr.train.models import MAY_CHANGE, ModelTraining
from contentctr.train.opened import open_task
from contentctr.train.run_folder import RunFolder, begin_run, check_run, read_position
from contentctr.train.task import Process, Task
from contentctr.train.track import (
    Tracker,
    beside_tensorboard,
    require_trackers,
    start_trackers,
)
from contentctr.train.training import Objective, Position, Training
from contentctr.train.words import WordsFit
from contentctr.windows.prefetch import prefetched

AfterEpoch = Callable[[int, Mapping[str, float]], None]


def train_model(
    config: Config,
    data: Data,
    out: Path | str,
    *,
    resume: bool = False,
    init_from: Path | str | None = None,
    new_head: bool | None = None,
    track: Sequence[Tracker] = (),
    after_epoch: AfterEpoch | None = None,
    device: str = "auto",
    show_progress: bool = True,
) -> Path:
    """Train a model and return the folder of its best checkpoint (Section 4.3.2).

    With `train.members` above 1 it is an ensemble, whose members are trained one after the other
    (members.py).

    Args:
        config: all settings.
        data: a prepared and encoded folder, of rooms or of personalized highlights, with a
            training split; its validation split chooses the best epoch and may be missing.
        out: the run's folder; must be new, unless `resume`.
        resume: go on from RUN/last with the same settings, to the bit; a run that was killed
            before its first checkpoint begins anew.
        init_from: a run, or a checkpoint, whose weights the new run starts from (`take_over`); a
            resumed run remembers its own.
        new_head: with `init_from`, start with a new output layer; None: where the target is
            another.
        track: where else the numbers of the run go, of `start_trackers`.
        after_epoch: called with the number of finished epochs (of a member) and the validation's
            metrics, once the epoch is saved; what it raises ends the run.
        device: where to train, of `find_device`; auto: where accelerate finds best.
        show_progress: show bars.

    Raises:
        InputError: the data, the folder or the settings do not fit, or there is no such device.
        NonFiniteLossError: a loss is not finite.
        KeyboardInterrupt: the user or the system asked to stop; `last` holds the state.
    """
    require_trackers(track)
    task, out = open_task(data), Path(out)
    require_task(config.model.kind, task.name)
    way = _Way(
        resume=resume,
        init_from=init_from,
        new_head=new_head,
        track=track,
        after_epoch=after_epoch,
        device=device,
        show_progress=show_progress,
    )
    if config.train.members == 1:
        _train_one(config, task, out, way)
    else:
        _train_members(config, task, out, way)
    return (out / "best").resolve()


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How a training comes about, as `train_model` has it."""

    resume: bool
    init_from: Checkpoint | Path | str | None
    new_head: bool | None
    track: Sequence[Tracker]
    after_epoch: AfterEpoch | None
    device: str
    show_progress: bool
    member: int = 0
    """Number of the member, and of how many."""
    members: int = 1
    fit_words: WordsFit = field(default_factory=WordsFit)
    """Of all members."""


def _train_one(config: Config, task: Task, out: Path, way: _Way) -> ModelTraining:
    """Train one model in a run's folder."""
    spec = task.spec(config)
    init, described = _described(config, task, spec, out, way)
    last = check_run(out, described, resume=way.resume, may_change=MAY_CHANGE)
    # A piece without any frame, or without any text, leaves an encoder unused.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=config.train.finetune_encoders)
    accelerator = accelerator_on(
        way.device,
        mixed_precision=config.train.precision,
        kwargs_handlers=[ddp],
        log_with=beside_tensorboard(way.track) or None,
        project_dir=out,
    )
    process = Process(rank=accelerator.process_index, world=accelerator.num_processes)
    training = ModelTraining(config, task, spec, last, process, init, way.fit_words)
    name, told_to = out.resolve().name, way.show_progress and process.rank == 0
    if way.members > 1:
        name = f"{out.resolve().parents[1].name}-member-{way.member}"
        training.what = f"train {way.member + 1}/{way.members}"
    if training.started_from and last is None and told_to:
        say(told(training.started_from))
    with begin_run(out, described, accelerator, last):
        start_trackers(accelerator, name, config)
        run_training(
            training,
            out,
            last=last,
            accelerator=accelerator,
            after_epoch=way.after_epoch,
            show_progress=way.show_progress,
        )
        if config.train.calibrate:
            _calibrate(training, out, accelerator, show=told_to)
    return training


def _train_members(config: Config, task: Task, out: Path, way: _Way) -> None:
    """Train a run's members, each in a folder of its own; then join them.

    Members that were trained are not trained again, and one that was stopped goes on.
    """
    way = dataclasses.replace(way, members=config.train.members)
    init, described = _described(config, task, task.spec(config), out, way)
    last = check_run(out, described, resume=way.resume, may_change=MAY_CHANGE)
    accelerator = accelerator_on(way.device, mixed_precision=config.train.precision)
    members = run_members(config, out)
    with (
        begin_run(out, described, accelerator, last),
        withdrawn_if_not_begun(out, members, new=not way.resume and accelerator.is_main_process),
    ):
        for member in members:
            own = dataclasses.replace(
                way,
                resume=member.begun,
                init_from=None if member.begun or init is None else init.checkpoint,
                new_head=None if init is None else init.new_head,
                member=member.number,
            )
            training = _train_one(member.config, task, member.folder, own)
            if accelerator.is_main_process:
                write_joined_log(out, members[: member.number + 1])
        if accelerator.is_main_process:
            best = join_members(config, out, members)
            write_joined_log(out, members, training.measure(best, accelerator.device))
            if config.train.calibrate:
                _calibrate(training, out, accelerator, show=way.show_progress)
    accelerator.wait_for_everyone()


def _calibrate(training: ModelTraining, out: Path, accelerator: Accelerator, *, show: bool) -> None:
    """Calibrate the run's best checkpoint, and say what came of it."""
    if not accelerator.is_main_process:
        return
    told_of = training.calibrate((out / "best").resolve(), accelerator.device)
    if told_of and show:
        say(told_of)


def _described(
    config: Config, task: Task, spec: DataSpec, out: Path, way: _Way
) -> tuple[InitFrom | None, dict[str, Any]]:
    """The run to start from, and all that decides what a run computes."""
    init, remembered = _init(way, out if way.resume else None, task.name)
    described = {
        **to_dict(config),
        "data_spec": to_dict(spec),
        "data_hash": task.data_hash(),
        **({"init_from": remembered} if remembered else {}),
    }
    return init, described


def accelerator_on(device: str, **options: Any) -> Accelerator:
    """An accelerator that computes where it is told to.

    Args:
        device: of `find_device`; auto: accelerate's own choice, which knows of many processes.
        options: of Accelerator.

    Raises:
        InputError: there is no such device, or this process has begun on another one, which
            accelerate keeps.
    """
    if device == "auto":
        return Accelerator(**options)
    wanted = find_device(device)
    # Accelerate has no argument for a device of a kind, but reads this variable at its first use.
    with patch_environment(accelerate_torch_device=str(wanted)):
        accelerator = Accelerator(**options)
    if accelerator.device != wanted:
        raise InputError(
            f"device must be {str(accelerator.device)!r} in this process, which has trained there "
            f"before or was started there, not {device!r}"
        )
    return accelerator


def _init(
    way: _Way, resumed: Path | None, task: str
) -> tuple[InitFrom | None, dict[str, Any] | None]:
    """The run to start from, and how a run's config.json has it.

    Of a resumed run it is the one that the config.json names; the weights themselves may be gone
    once the run, or each of its members, has a checkpoint of its own.
    """
    init_from, new_head = way.init_from, way.new_head
    if init_from is None and resumed is not None and (resumed / "config.json").is_file():
        remembered = read_json(resumed / "config.json").get("init_from")
        if remembered is None or _all_begun(resumed, way.members):
            return None, remembered
        init_from, new_head = remembered["checkpoint"], remembered["new_head"]
    if init_from is None:
        return None, None
    init = open_init(init_from, task, new_head=new_head, member=way.member, members=way.members)
    return init, init.described()


def _all_begun(run: Path, members: int) -> bool:
    """Whether a run, or each of its members, has a checkpoint of its own."""
    own = [run / "members" / str(k) / "last" for k in range(members)]
    return (run / "last").exists() or all(last.exists() for last in own)


@dataclass(kw_only=True)
class Run:
    """What the loop works on."""

    training: Training
    folder: RunFolder
    accelerator: Accelerator
    model: nn.Module
    """The training's own, as accelerate has it: on its device, its gradients shared."""
    optimizer: torch.optim.Optimizer
    position: Position
    after_epoch: AfterEpoch | None = None

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.training.steps * self.training.epochs


def run_training(
    training: Training,
    out: Path,
    *,
    last: Path | None,
    accelerator: Accelerator,
    after_epoch: AfterEpoch | None = None,
    show_progress: bool = True,
) -> None:
    """Train until the last epoch, or until validation finds no more gain.

    Args:
        training: what is trained; its model as it was saved, if `last` is given.
        out: the run's folder, which `begin_run` has made.
        last: what `check_run` returned: the checkpoint that the run goes on from.
        accelerator: of this process.
        after_epoch: as `train_model` has it.
        show_progress: show a bar on a terminal.

    Raises:
        NonFiniteLossError: a loss is not finite; the optimiser has not moved.
        KeyboardInterrupt: the user or the system asked to stop; `last` holds the state.
    """
    run = _start(training, out, last, accelerator)
    run.after_epoch = after_epoch
    show = show_progress and accelerator.is_main_process
    try:
        with (
            stop_signals() as stop,
            progress_bar(training.what, run.total_steps, show=show) as bar,
        ):
            bar.advance(run.position.step)
            while run.position.epoch < training.epochs and not run.position.stopped:
                _train_epoch(run, bar, stop)
                _end_epoch(run)
    finally:
        run.folder.close()
    accelerator.wait_for_everyone()


def _start(training: Training, out: Path, last: Path | None, accelerator: Accelerator) -> Run:
    """The run at its first step, or where its last checkpoint left it."""
    position = Position()
    if last is not None:
        load_optimizer(training.optimizer, last / "training")
        position = read_position(last)
        position.stopped = _stopped(position, training)  # the patience may be another now
    model, optimizer = accelerator.prepare(training.model, training.optimizer)
    folder = RunFolder(
        path=out,
        steps_per_epoch=training.steps,
        is_main=accelerator.is_main_process,
        trackers=accelerator.trackers,
    )
    folder.open(position)
    return Run(
        training=training,
        folder=folder,
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        position=position,
    )


def _train_epoch(run: Run, bar: Progress, stop: list[int]) -> None:
    """The steps of an epoch that are left; `last` is saved before any exception is raised."""
    training, position, every = run.training, run.position, run.training.save_every
    run.model.train()
    steps = training.epoch(position.epoch, position.step_in_epoch)
    with prefetched(steps, run.accelerator.device) as batches:
        for pieces in batches:
            try:
                losses = train_step(
                    training,
                    run.model,
                    run.optimizer,
                    pieces,
                    step=position.step,
                    total_steps=run.total_steps,
                    accelerator=run.accelerator,
                )
            except NonFiniteLossError:
                _save(run, "last")
                raise
            position.step += 1
            position.step_in_epoch += 1
            rate = run.optimizer.param_groups[0]["lr"]
            run.folder.log(position, "train", {**losses, "learning_rate": rate})
            bar.advance(1, note=" ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
            if _any_process(run.accelerator, bool(stop)):
                _save(run, "last")
                raise KeyboardInterrupt(
                    f"stopped at step {position.step}; {run.folder.path / 'last'} holds it"
                )
            if every and position.step % every == 0:
                _save(run, "last")


def train_step(
    objective: Objective,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pieces: list[Any],
    *,
    step: int,
    total_steps: int,
    accelerator: Accelerator,
) -> dict[str, float]:
    """One optimiser step on a batch given in pieces; returns the batch's named losses.

    Each loss is a mean over its terms in the whole batch, over all pieces and all processes, so
    the gradient does not depend on how the batch was cut.

    Raises:
        NonFiniteLossError: before the optimiser has moved.
    """
    # Anew in each step: a resumed run has no state of a generator to find again.
    torch.manual_seed(objective.dropout_seed(step, accelerator.process_index))
    counts = accelerator.reduce(torch.stack([objective.counts(p) for p in pieces]).sum(0), "sum")
    sums = torch.zeros(len(counts), device=accelerator.device)
    optimizer.zero_grad(set_to_none=True)
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1  # with it, once a step, processes share their gradients
        with nullcontext() if last else accelerator.no_sync(model):
            with accelerator.autocast():
                output = model(piece)
            piece_sums = objective.sums(output, piece)  # not cast: sums of many small terms
            # Gradients are averaged over processes; the counts are already those of all of them.
            loss = objective.total(piece_sums, counts) * accelerator.num_processes
            accelerator.backward(loss)
        sums += piece_sums.detach()
    losses = objective.named(accelerator.reduce(sums, "sum"), counts)
    if not all(math.isfinite(value) for value in losses.values()):
        numbers = torch.cat([objective.numbers(p) for p in pieces]).tolist()
        raise NonFiniteLossError(
            f"step {step}: a loss is not finite: {losses}; the optimiser has not moved; training "
            f"examples of this step: {numbers}"
        )
    if objective.max_grad_norm:
        accelerator.clip_grad_norm_(model.parameters(), objective.max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = objective.learning_rate(group["base_lr"], step, total_steps)
    optimizer.step()
    return losses


def _end_epoch(run: Run) -> None:
    """Validate, keep the best, decide whether to stop, and move on to the next epoch."""
    training, position = run.training, run.position
    position.epoch += 1
    position.step_in_epoch = 0
    found = training.validate(run.accelerator)
    score = found.get(training.score)
    better = _is_better(score, position.best_score, training.higher_is_better)
    if better:
        position.best_score, position.epochs_without_gain = score, 0
    else:
        position.epochs_without_gain += 1
    position.stopped = _stopped(position, training)
    if found:
        run.folder.log(position, "val", found)
    _save(run, *(("best", "last") if better else ("last",)))
    if run.after_epoch is not None:
        run.after_epoch(position.epoch, found)


def _is_better(score: float | None, best: float | None, higher: bool) -> bool:
    """Without any score yet each epoch is the best: a later one has seen more."""
    if best is None or score is None:
        return best is None
    return score > best if higher else score < best


def _stopped(position: Position, training: Training) -> str:
    """Why the run is over before its last epoch; "" while it is not."""
    if training.patience and position.epochs_without_gain >= training.patience:
        return f"no better validation {training.score} in {training.patience} epochs"
    return ""


def _save(run: Run, *links: str) -> None:
    training, position = run.training, run.position

    def write(folder: Path) -> None:
        training.save(folder, position)
        if "best" in links:
            training.export(folder)

    run.folder.save(write, run.optimizer, position, links)
    run.accelerator.wait_for_everyone()


def _any_process(accelerator: Accelerator, mine: bool) -> bool:
    """Whether one process was asked to stop: then all do, at the same step."""
    if accelerator.num_processes == 1:
        return mine
    flag = torch.tensor(float(mine), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum") > 0)
