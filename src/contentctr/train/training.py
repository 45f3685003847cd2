"""What the loop asks of what it trains, and nothing more.

Trained are models on rooms or on users' videos (models.py), and in pretrain/ text encoders,
visual encoders and streamers' vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn


@dataclass
class Position:
    """Where a run is; all of it is in every checkpoint, and the random state follows from it."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimiser steps since the start of the run."""
    step_in_epoch: int = 0
    best_score: float | None = None
    """Best validation score so far (Training.score)."""
    epochs_without_gain: int = 0
    stopped: str = ""
    """Why the run ended before its last epoch; "" while it has not."""


class Objective(Protocol):
    """What one step asks: the losses of a batch, and how far the optimiser goes.

    K losses are each a sum over terms beside the number of terms, not a mean: so that a batch has
    the same mean whether it comes in one piece or in several, to one process or to many.
    """

    max_grad_norm: float
    """Gradients are scaled down to this norm; 0: never."""

    def dropout_seed(self, step: int, process: int) -> int:
        """Of torch's generator in this step: a function of seed, step and process alone."""

    def counts(self, piece: Any) -> Tensor:
        """How many terms each loss has in a piece of a batch, from the data alone: int64 [K]."""

    def sums(self, output: Any, piece: Any) -> Tensor:
        """Each loss's sum over its terms, given the model's output: float32 [K]."""

    def total(self, sums: Tensor, counts: Tensor) -> Tensor:
        """The scalar to minimise; a loss without a term is zero."""

    def named(self, sums: Tensor, counts: Tensor) -> dict[str, float]:
        """The losses as the log shows them; one of them not finite if the total is not."""

    def learning_rate(self, base: float, step: int, total_steps: int) -> float:
        """At a step, of parameters whose rate is `base` without a schedule."""

    def numbers(self, piece: Any) -> Tensor:
        """Which training examples the piece holds, for the message of an error: int64."""


class Training(Objective, Protocol):
    """A model, its data, and what is kept of it."""

    what: str
    """Beside the progress bar."""
    epochs: int
    save_every: int
    """Steps between two saves within an epoch; 0: none."""
    patience: int
    """Epochs without a better score after which the run stops; 0: never."""
    score: str
    """The validation metric that chooses the best epoch."""
    higher_is_better: bool
    steps: int
    """Optimiser steps of an epoch."""

    @property
    def model(self) -> nn.Module:
        """Takes a piece of a batch; has the weights of the last save where a run is resumed."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Of `model`; each of its groups has a `base_lr`."""

    def epoch(self, epoch: int, start: int) -> Iterator[list[Any]]:
        """This process's pieces of each step's batch, from step `start` of the epoch on.

        Pieces are dataclasses of tensors, functions of seed, epoch and step alone. They are made
        in a thread of their own (windows/prefetch.py).
        """

    def validate(self, accelerator: Accelerator) -> dict[str, float]:
        """Metrics by name, `score` among them; empty where there is nothing to measure."""

    def save(self, folder: Path, position: Position) -> None:
        """Write into an empty folder the model, as it is used and as a resumed run reads it."""

    def export(self, folder: Path) -> None:
        """Add to the checkpoint of the best epoch yet what is used of it elsewhere."""
