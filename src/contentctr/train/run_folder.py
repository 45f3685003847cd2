"""A training run's folder: its position, its logs, its checkpoints.

RUN/config.json     settings and what the data looked like
RUN/checkpoints/    step-*, of which those that best or last point to are kept
RUN/best, RUN/last  links into checkpoints/
RUN/log.jsonl       one line a step, one a validation
RUN/tensorboard/    the same, for TensorBoard
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, from_dict, to_dict
from contentctr.errors import InputError
from contentctr.files import write_json, write_text
from contentctr.score import checkpoint as checkpoints

MAY_CHANGE = ("epochs", "patience", "save_every", "micro_batch_size")
"""Settings of `train` that a resumed run may set anew."""


@dataclass
class Position:
    """Where a run is; all of it is in every checkpoint."""

    epoch: int = 0
    step: int = 0
    """Optimiser steps since the start of the run."""
    step_in_epoch: int = 0
    best_score: float | None = None
    """Best validation score so far (Task.score)."""
    epochs_without_gain: int = 0
    stopped: str = ""
    """Why the run ended before its last epoch; "" while it has not."""


def position_of(saved: checkpoints.Checkpoint) -> Position:
    """Where the run of a checkpoint was.

    Raises:
        InputError: its position is not one.
    """
    values = dict(saved.info["position"])
    if "best_tau" in values:  # of a run begun before other tasks had scores of their own
        values["best_score"] = values.pop("best_tau")
    return from_dict(Position, values, where=f"{saved.folder}: position")


@dataclass(kw_only=True)
class RunFolder:
    """The folder, written by the first process alone."""

    path: Path
    config: Config
    spec: DataSpec
    vocabulary: Vocabulary
    steps_per_epoch: int
    data_hash: str = ""
    """Of what it is trained on, so that a run is not resumed on other data."""
    is_main: bool = True
    writer: SummaryWriter | None = None

    def open(self, position: Position) -> None:
        """Make the folder and open its logs; lines after a resumed position are dropped."""
        if not self.is_main:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        settings = {"config": to_dict(self.config), "data_spec": to_dict(self.spec)}
        write_json(self.path / "config.json", settings)
        log = self.path / "log.jsonl"
        if log.exists():
            rows = [row for row in read_log(log) if row["step"] <= position.step]
            write_text(log, "".join(json.dumps(row) + "\n" for row in rows))
        purge = position.step + 1 if position.step else None
        self.writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=purge)

    def close(self) -> None:
        """Flush and close the logs."""
        if self.writer is not None:
            self.writer.close()

    def log(self, position: Position, split: str, values: Mapping[str, float]) -> None:
        """Append one line to log.jsonl, and the values to TensorBoard."""
        if self.writer is None:
            return
        epoch = position.epoch + position.step_in_epoch / self.steps_per_epoch
        row = {"step": position.step, "epoch": round(epoch, 6), "split": split, **values}
        with (self.path / "log.jsonl").open("a") as handle:
            handle.write(json.dumps(row) + "\n")
        for name, value in values.items():
            self.writer.add_scalar(f"{split}/{name}", value, position.step)

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        position: Position,
        links: Sequence[str],
    ) -> None:
        """Write a checkpoint, point `links` to it, and remove those nothing points to."""
        if not self.is_main:
            return
        folder = self.path / "checkpoints" / f"step-{position.step:08d}"
        linked = {(self.path / name).resolve() for name in ("best", "last")}
        if folder.resolve() in linked:
            # Saved at this step before the epoch's end was noted: that one serves until the links
            # have moved.
            folder = folder.with_name(f"{folder.name}-epoch-{position.epoch:04d}")
        if folder.exists():
            shutil.rmtree(folder)
        checkpoints.save(
            folder,
            model,
            config=self.config,
            spec=self.spec,
            vocabulary=self.vocabulary,
            info={"position": vars(position), "data_hash": self.data_hash},
            optimizer=optimizer,
        )
        for name in links:
            checkpoints.point_to(self.path / name, folder)
        checkpoints.prune(self.path)


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log.jsonl; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def resumable(config: Config, path: Path) -> checkpoints.Checkpoint:
    """The run's last checkpoint, if `config` is what it was made with.

    Raises:
        InputError: there is none, or a setting outside MAY_CHANGE differs; names it.
    """
    if not (path / "last").exists():
        raise InputError(f"{path}: nothing to resume (it has no checkpoint 'last')")
    saved = checkpoints.load(path / "last")
    old, new = to_dict(saved.config), to_dict(config)
    for part, block in new.items():
        for name, value in block.items():
            free = part == "train" and name in MAY_CHANGE
            free |= name == "streamer_dim" and bool(config.model.streamer_table)  # the table's own
            if old[part][name] != value and not free:
                raise InputError(
                    f"{path}: a resumed run must keep its settings; {part}.{name} was "
                    f"{old[part][name]!r} and is now {value!r}"
                )
    return saved


def require_new(path: Path) -> None:
    """Stop where a run's folder holds anything.

    Raises:
        InputError: names the folder.
    """
    if path.exists() and any(path.iterdir()):
        raise InputError(f"{path}: the run's folder must be new or empty (or use --resume)")


def require_same_data(
    saved: checkpoints.Checkpoint, data: DataSpec, data_hash: str, path: Path
) -> None:
    """Stop a resumed run whose data is not what it was.

    Raises:
        InputError: names what changed.
    """
    was, now = to_dict(saved.trained_on), to_dict(data)
    for name in was:
        if was[name] != now[name] and name not in ("visual_encoder", "text_encoder"):
            raise InputError(
                f"{path}: a resumed run must keep its data; {name} was {was[name]!r} and is now "
                f"{now[name]!r}"
            )
    if saved.info.get("data_hash", saved.info.get("segments_sha256")) != data_hash:
        raise InputError(f"{path}: a resumed run must keep its data; it has changed since")
