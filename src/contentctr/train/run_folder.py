"""A run's folder, the same for training and for every pre-training.

RUN/config.json     everything that decides what the run computes: settings, data
RUN/checkpoints/    step-*, of which those that best or last point to are kept
RUN/best, RUN/last  links into checkpoints/
RUN/log.jsonl       one line a step, one a validation
RUN/tensorboard/    the same, for TensorBoard
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch.utils.tensorboard import SummaryWriter

from contentctr.errors import InputError
from contentctr.files import (
    JsonError,
    append_text,
    atomic,
    naming,
    parse_json,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)
from contentctr.outputs import alone, require_new
from contentctr.score.checkpoint import point_to, prune
from contentctr.score.weights import save_optimizer
from contentctr.train.training import Position

_NEW = ("train.calibrate",)
"""Settings of which no step depends; a config.json from before they came lacks them."""


def check_run(
    out: Path,
    described: Mapping[str, Any],
    *,
    resume: bool,
    may_change: Collection[str] = ("save_every",),
) -> Path | None:
    """See whether a run may begin, or go on, in a folder.

    Args:
        out: the folder; must be new or empty, unless `resume`.
        described: everything that decides what the run computes, JSON-ready.
        resume: go on with what is in `out`.
        may_change: names in `described` (`train.epochs`, where it is nested) that a resumed run
            may set anew.

    Returns:
        The last checkpoint's folder; None where the run starts from its first step: it is new, or
        was killed before its first save.

    Raises:
        InputError: the folder holds anything, or nothing to resume, or the settings or the data
            differ; names the first that does.
    """
    if not resume:
        require_new(out, "a run, or use --resume")
        return None
    if not (out / "config.json").is_file():
        raise InputError(f"{out}: nothing to resume (it has no config.json)")
    for name, old, new in _differences(read_json(out / "config.json"), _as_stored(described)):
        if name not in may_change and not (name in _NEW and old is None):
            raise InputError(
                f"{out}: a resumed run must keep its settings and data; {name} was {old!r} and is "
                f"now {new!r}"
            )
    return (out / "last").resolve() if (out / "last").exists() else None


@contextmanager
def begin_run(
    out: Path, described: Mapping[str, Any], accelerator: Accelerator, last: Path | None
) -> Iterator[None]:
    """Write what the run is, and keep its folder for this run alone while the block trains.

    From here on the folder is the run's own, and can be resumed. The system drops the lock with the
    process, however that ends.

    Args:
        out: the run's folder.
        described: what `check_run` was given.
        accelerator: of the run; its first process writes.
        last: what `check_run` gave.

    Raises:
        InputError: another run is at work in the folder, or has been since `check_run`.
    """
    # Before the folder is there, which every process has looked for in check_run.
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        yield
        return
    with alone(out, "on this run"):
        now = (out / "last").resolve() if (out / "last").exists() else None
        if now != last:
            raise InputError(f"{out}: another run has worked there meanwhile; begin again")
        for folder in (out, out / "checkpoints", out / "frames"):
            remove_leftovers(folder)
        write_json(out / "config.json", dict(described))
        yield


def _as_stored(described: Mapping[str, Any]) -> Any:
    """Through JSON, as the file is: a tuple comes back as a list."""
    return json.loads(json.dumps(described))


def read_position(checkpoint: Path) -> Position:
    """Where the run was when it wrote the checkpoint."""
    return Position(**read_json(checkpoint / "training" / "position.json"))


@dataclass(kw_only=True)
class RunFolder:
    """The folder of a run that has begun, written by the first process alone."""

    path: Path
    steps_per_epoch: int
    is_main: bool = True
    writer: SummaryWriter | None = None
    trackers: Sequence[GeneralTracker] = ()
    """Other places where the same numbers go (track.py)."""

    def open(self, position: Position) -> None:
        """Open the logs; what was noted after a resumed position is dropped."""
        if not self.is_main:
            return
        log = self.path / "log.jsonl"
        if log.exists():
            rows = [row for row in read_log(log) if _is_past(row, position)]
            write_text(log, "".join(json.dumps(row) + "\n" for row in rows))
        place = self.path / "tensorboard"
        with naming(place):
            self.writer = SummaryWriter(str(place), purge_step=position.step + 1)

    def close(self) -> None:
        """Flush and close the logs."""
        if self.writer is not None:
            with naming(self.path / "tensorboard"):
                self.writer.close()
        for tracker in self.trackers:
            tracker.finish()

    def log(self, position: Position, split: str, values: Mapping[str, float]) -> None:
        """Append one line to log.jsonl, and the values to TensorBoard and the trackers."""
        if self.writer is None:
            return
        epoch = position.epoch + position.step_in_epoch / self.steps_per_epoch
        row = {"step": position.step, "epoch": round(epoch, 6), "split": split, **values}
        append_text(self.path / "log.jsonl", json.dumps(row) + "\n")
        with naming(self.path / "tensorboard"):
            for name, value in values.items():
                self.writer.add_scalar(f"{split}/{name}", value, position.step)
        for tracker in self.trackers:
            tracker.log({f"{split}/{name}": v for name, v in values.items()}, step=position.step)

    def save(
        self,
        write: Callable[[Path], None],
        optimizer: torch.optim.Optimizer,
        position: Position,
        links: Sequence[str],
    ) -> None:
        """Write a checkpoint, point `links` to it, and remove those nothing points to.

        Args:
            write: writes the model into an empty folder.
            optimizer: its state is kept too, to resume.
            position: of the run.
            links: "last", and "best" before it: a kill between the two is then made good by the
                resumed run, which comes to this checkpoint again.
        """
        if not self.is_main:
            return
        name = f"step-{position.step:08d}-epoch-{position.epoch:04d}"
        folder = self.path / "checkpoints" / name
        if folder.resolve() != (self.path / "last").resolve():  # else nothing has moved since
            if folder.exists():  # a kill before it was linked left it, perhaps of other settings
                shutil.rmtree(folder)
            with atomic(folder) as temporary:
                temporary.mkdir()
                write(temporary)
                save_optimizer(optimizer, temporary / "training")
                write_json(temporary / "training" / "position.json", asdict(position))
        for link in links:
            point_to(self.path / link, folder)
        prune(self.path)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log.jsonl; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(parse_json(line))
        except JsonError:
            break
    return rows


def _differences(
    was: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Names whose values differ, those of nested objects joined by dots, and both values."""
    for name in {**now, **was}:
        old, new = was.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}", old, new


def _is_past(row: Mapping[str, Any], position: Position) -> bool:
    """Whether a resumed run will not write the row again."""
    # A validation has the step of its epoch's last batch, after which the run may have been saved
    # and killed before it was validated.
    name = "epoch" if row["split"] == "val" else "step"
    return bool(row[name] <= getattr(position, name))
