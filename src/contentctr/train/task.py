"""A prepared folder as something to train models on: rooms, or users and their videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config
from contentctr.score.calibration import Calibration
from contentctr.windows.loader import EpochLoader


class Validation(Protocol):
    """Held-out data that chooses the best epoch."""

    def __call__(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Metrics by name, `Task.score` among them; empty where there is nothing to measure."""

    def calibration(self, model: nn.Module, device: torch.device) -> Calibration | None:
        """What is fitted of the model's scores; None where they are no shares of anything."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """Which of the processes of a run this one is."""

    rank: int = 0
    world: int = 1


class Task(Protocol):
    """What ModelTraining (models.py) asks of a prepared folder, and nothing more."""

    root: Path
    data: Any
    """The folder: a PreparedRooms or a PreparedPersonal."""
    name: str
    """ModelType.task of the models that can be trained on it."""
    score: str
    """The validation metric that chooses the best epoch; higher is better."""

    def spec(self, config: Config) -> DataSpec:
        """What a model must know of the data.

        Raises:
            InputError: it is not encoded, or not as these settings need it.
        """

    def data_hash(self) -> str:
        """Of everything a run depends on, features aside."""

    def vocabulary(self, config: Config) -> tuple[Config, Vocabulary]:
        """Known ids of a new run, and the settings with what the data decides."""

    def load(
        self, config: Config, vocabulary: Vocabulary, process: Process
    ) -> tuple[EpochLoader, Validation]:
        """Training and validation data.

        Raises:
            InputError: there is nothing to train on, or a setting does not fit the data.
        """


def loader_settings(config: Config, process: Process) -> dict[str, Any]:
    """What every EpochLoader takes of a run's settings."""
    return {
        "window_len": config.data.window_len,
        "batch_size": config.train.batch_size,
        "micro_batch_size": config.train.micro_batch_size,
        "seed": config.train.seed,
        "num_negatives": config.loss.num_negatives if config.loss.align_weight else 0,
        "rank": process.rank,
        "world": process.world,
    }
