"""What the masked pre-trainings of texts and of pictures share.

    OUT/encoder            the encoder of least held-out loss, in the form `encode` loads
    OUT/best, OUT/last     checkpoints: `model/` a base to go on from, `encoder/` in the best
    and the other files of a run (train/run_folder.py)

All randomness is a function of the seed, the step and the row.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from contentctr.config import Precision
from contentctr.errors import InputError, NonFiniteLossError, require
from contentctr.files import read_json
from contentctr.score.checkpoint import point_to
from contentctr.train.loop import run_training
from contentctr.train.training import Position
from contentctr.windows.prefetch import moved

ORDER, DROPOUT, MASK = range(3)
"""What random numbers are for; the first part of their seed after the run's own."""
HELD_OUT = 1 << 32
"""In place of an epoch: held-out rows are masked alike in all epochs."""
# Tables of learned numbers, not maps: pulling them to zero would pull places together.
_NOT_DECAYED = ("relative_position_bias_table", "position_embeddings", "mask_token")
_require = partial(require, of="pre-training setting")


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
        for name in ("epochs", "batch_size"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("weight_decay", "max_grad_norm", "save_every", "seed"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        _require(self.learning_rate > 0, "learning_rate", "above 0", self.learning_rate)
        _require(0 <= self.warmup < 1, "warmup", "in [0, 1)", self.warmup)


class MaskedTraining(ABC):
    """Examples of which a part is hidden, and one loss on what was hidden, as a Training.

    Args:
        model: takes what `batch` gives.
        sizes: examples of the splits train and val.
        settings: of the loop.
        accelerator: of this process.

    Raises:
        InputError: fewer training examples, or a smaller batch, than processes.
    """

    what: str
    score = "loss"
    higher_is_better = False
    patience = 0

    def __init__(
        self,
        model: nn.Module,
        sizes: Mapping[str, int],
        settings: PretrainConfig,
        accelerator: Accelerator,
    ) -> None:
        self._rank, self._world = accelerator.process_index, accelerator.num_processes
        if min(settings.batch_size, sizes["train"]) < self._world:
            raise InputError(
                f"each of {self._world} processes needs an example of each step; batch_size is "
                f"{settings.batch_size}, and there are {sizes['train']} training examples"
            )
        self.model, self.sizes, self.settings = model, sizes, settings
        self.epochs, self.save_every = settings.epochs, settings.save_every
        self.max_grad_norm = settings.max_grad_norm
        self.optimizer = make_optimizer(model, settings)
        # Rows that fill no batch are left out: another epoch's order brings them in.
        self.steps = max(1, sizes["train"] // settings.batch_size)

    @abstractmethod
    def batch(self, split: str, rows: NDArray[np.int64], epoch: int) -> Any:
        """Some examples, masked by (seed, epoch, row) alone."""

    @abstractmethod
    def counts(self, piece: Any) -> Tensor:
        """How many terms the loss has: int64 [1]."""

    @abstractmethod
    def sums(self, output: Tensor, piece: Any) -> Tensor:
        """Sum of the loss over what is masked: float32 [1]."""

    @abstractmethod
    def save(self, folder: Path, position: Position) -> None:
        """Write `model/`, from which the model can be made again."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write `encoder/`, without the head, in the form that encode/encoders.py loads."""

    def epoch(self, epoch: int, start: int) -> Iterator[list[Any]]:
        """As Training has it; the order is a function of seed and epoch alone."""
        size = self.settings.batch_size
        order = generator(self.settings.seed, ORDER, epoch).permutation(self.sizes["train"])
        for step in range(start, self.steps):
            rows = order[step * size : (step + 1) * size]
            yield [self.batch("train", rows[self._rank :: self._world], epoch)]

    def dropout_seed(self, step: int, process: int) -> int:
        """As Objective has it."""
        return int(generator(self.settings.seed, DROPOUT, step, process).integers(1 << 62))

    def total(self, sums: Tensor, counts: Tensor) -> Tensor:
        """The mean over all terms."""
        return (sums / counts.clamp(min=1).to(sums)).sum()

    def named(self, sums: Tensor, counts: Tensor) -> dict[str, float]:
        """The one loss."""
        return {"loss": float(self.total(sums, counts))}

    def learning_rate(self, base: float, step: int, total_steps: int) -> float:
        """As Objective has it: linear warm-up, then a cosine that ends at 0."""
        return learning_rate(base, self.settings.warmup, step, total_steps)

    def numbers(self, piece: Any) -> Tensor:
        """Of the examples."""
        found: Tensor = piece.rows
        return found

    def validate(self, accelerator: Accelerator) -> dict[str, float]:
        """Mean loss over the validation rooms' masked terms; nothing where there are none.

        Raises:
            NonFiniteLossError: it is not finite.
        """
        model, size = self.model.eval(), self.settings.batch_size
        total = torch.zeros(2, dtype=torch.float64)
        rows = np.arange(self.sizes["val"])[self._rank :: self._world]
        with torch.inference_mode():
            for first in range(0, len(rows), size):
                batch = self.batch("val", rows[first : first + size], HELD_OUT)
                batch = moved(batch, accelerator.device)
                with accelerator.autocast():
                    output = model(batch)
                found = (self.sums(output, batch), self.counts(batch))
                total += torch.cat([x.cpu().double() for x in found])
        loss_sum, count = accelerator.reduce(total.float().to(accelerator.device), "sum").tolist()
        if not count:
            return {}
        if not math.isfinite(loss_sum):
            raise NonFiniteLossError("the held-out loss of the epoch is not finite")
        return {"loss": loss_sum / count}


def run_masked(
    training: MaskedTraining,
    out: Path,
    *,
    last: Path | None,
    accelerator: Accelerator,
    show_progress: bool,
) -> Path:
    """Train, and return OUT/encoder, the encoder of least held-out loss so far."""
    if accelerator.is_main_process:  # leads to nothing until the first epoch has ended
        point_to(out / "encoder", out / "best" / "encoder")
    run_training(training, out, last=last, accelerator=accelerator, show_progress=show_progress)
    return out / "encoder"


def learning_rate(base: float, warmup: float, step: int, total_steps: int) -> float:
    """Linear warm-up over a share of all steps, then a cosine that ends at 0."""
    warm = round(warmup * total_steps)
    if step < warm:
        return base * (step + 1) / (warm + 1)
    share = (step - warm) / max(1, total_steps - warm)
    return base * 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(model: nn.Module, settings: PretrainConfig) -> torch.optim.Optimizer:
    """Fused AdamW that decays weight matrices alone."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith(_NOT_DECAYED)
        (decayed if decays else free).append(parameter)
    rate = {"lr": settings.learning_rate, "base_lr": settings.learning_rate}
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay, **rate},
        {"params": free, "weight_decay": 0.0, **rate},
    ]
    return torch.optim.AdamW(groups, fused=True)


def read_model_config(config: str | None, small: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values that `--config` names: `small`, a JSON file's, or none."""
    if config is None:
        return None
    return dict(small) if config == "small" else read_json(Path(config))


@contextmanager
def quiet_transformers() -> Iterator[Any]:
    """The module, silent about heads that a base lacks (they are made anew) and without bars."""
    # Imported when used, as in encode/encoders.py: it takes seconds.
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
