"""Training of the package's models on a prepared folder, with or without their encoders."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec, Output, Vocabulary
from contentctr.config import Config, TrainConfig
from contentctr.encode import encoders
from contentctr.errors import InputError
from contentctr.models.contentctr import FeatureFusion
from contentctr.models.end_to_end import EndToEnd
from contentctr.models.losses import NAMES, loss_counts, loss_sums, total_loss
from contentctr.models.registry import build_model, reads_content
from contentctr.score import checkpoint as checkpoints
from contentctr.score.calibration import write_calibration
from contentctr.score.inputs import InputFacts, measure_inputs, write_inputs
from contentctr.train.init_from import InitFrom, take_over
from contentctr.train.task import Process, Task
from contentctr.train.training import Position
from contentctr.train.words import WordsFit
from contentctr.windows.rooms import WindowLoader
from contentctr.windows.segment_data import SegmentData

_STANDARDISED_ROWS = 8192
MAY_CHANGE = (
    "train.epochs",
    "train.patience",
    "train.save_every",
    "train.micro_batch_size",
    # A path or a name on a hub: the revision, which must stay, says more.
    "data_spec.visual_encoder",
    "data_spec.text_encoder",
)
"""What a resumed run may set anew."""


class ModelObjective:
    """The losses of Section 3 with their weights, and the schedule, as an Objective.

    Args:
        config: all settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.max_grad_norm = config.train.max_grad_norm

    def dropout_seed(self, step: int, process: int) -> int:
        """As Objective has it."""
        sequence = np.random.SeedSequence((self.config.train.seed, step, process))
        return int(sequence.generate_state(1, np.uint64)[0] >> 1)

    def counts(self, piece: Batch) -> Tensor:
        """As Objective has it, in the order of losses.NAMES."""
        return loss_counts(piece)

    def sums(self, output: Output, piece: Batch) -> Tensor:
        """As Objective has it, in the order of losses.NAMES."""
        return loss_sums(output, piece, self.config.loss)

    def total(self, sums: Tensor, counts: Tensor) -> Tensor:
        """Eq. 14."""
        return total_loss(sums, counts, self.config.loss)

    def named(self, sums: Tensor, counts: Tensor) -> dict[str, float]:
        """Each loss's mean, and the total."""
        means = (sums.cpu().double() / counts.cpu().clamp(min=1)).tolist()
        return {**dict(zip(NAMES, means, strict=True)), "total": float(self.total(sums, counts))}

    def learning_rate(self, base: float, step: int, total_steps: int) -> float:
        """As Objective has it."""
        return base * schedule(self.config.train, step, total_steps)

    def numbers(self, piece: Batch) -> Tensor:
        """Of the windows."""
        return piece.window_B


class ModelTraining(ModelObjective):
    """A model and a prepared folder as a Training.

    Args:
        config: all settings.
        task: the folder.
        spec: what `task` says of its data.
        last: the checkpoint that a run goes on from; None: new weights.
        process: whose share of each batch is wanted.
        init: the run whose weights new ones start from.
        fit_words: that of other members of the run, if there are any.

    Raises:
        InputError: there is nothing to train on, or a setting does not fit the data.
    """

    what = "train"
    higher_is_better = True

    def __init__(
        self,
        config: Config,
        task: Task,
        spec: DataSpec,
        last: Path | None,
        process: Process,
        init: InitFrom | None = None,
        fit_words: WordsFit | None = None,
    ) -> None:
        saved = None if last is None else checkpoints.load(last)
        if saved is None:
            config, self.vocabulary = task.vocabulary(config)
        else:  # an imported table of streamers is in the checkpoint, its file may be gone
            config = dataclasses.replace(config, model=saved.config.model, loss=saved.config.loss)
            self.vocabulary = saved.vocabulary
        super().__init__(config)
        train = config.train
        self.epochs, self.save_every, self.patience = train.epochs, train.save_every, train.patience
        self.score, self.spec = task.score, spec
        self.model, self.started_from = _model(config, spec, self.vocabulary, saved, init)
        self.optimizer = make_optimizer(self.model, train)
        self._loader, self._validation = task.load(config, self.vocabulary, process)
        self.steps = self._loader.steps
        self._inputs: InputFacts | None = None
        if isinstance(self._loader, WindowLoader):
            self._inputs = measure_inputs(self._loader.data)
            self._loader = (fit_words or WordsFit())(self.model, self._loader)
        if config.model.standardise:
            self._standardise(fit=saved is None)

    def _standardise(self, *, fit: bool) -> None:
        """Fit what standardises features, but for the parts that came with another run's weights.

        Raises:
            InputError: the model has nothing of the kind.
        """
        if not isinstance(getattr(self.model, "fusion", None), FeatureFusion):
            raise InputError(
                f"model.standardise must be false with model.kind={self.config.model.kind}, which "
                "reads no features that it could be done to"
            )
        if fit and isinstance(self._loader, WindowLoader):
            # Weights have learned from numbers on the scale that they came with.
            standardise(self.model, self._loader.data, (self.started_from or {}).get("taken", ()))

    def epoch(self, epoch: int, start: int) -> Iterator[list[Any]]:
        """As Training has it."""
        return self._loader.epoch(epoch, start=start)

    def validate(self, accelerator: Accelerator) -> dict[str, float]:
        """As Training has it; every process measures all of it."""
        return self._validation(self.model, accelerator.device)

    def save(self, folder: Path, position: Position) -> None:
        """A checkpoint that all commands read."""
        checkpoints.write(
            folder,
            self.model,
            config=self.config,
            spec=self.spec,
            vocabulary=self.vocabulary,
            info={
                "position": dataclasses.asdict(position),
                **({"init_from": self.started_from} if self.started_from else {}),
            },
        )
        if self._inputs is not None:
            write_inputs(folder, self._inputs)

    def export(self, folder: Path) -> None:
        """Nothing: the checkpoint itself is used."""

    def measure(self, best: Path, device: torch.device) -> dict[str, float]:
        """As `validate`, of a checkpoint's model."""
        return self._validation(_loaded(best, device), device)

    def calibrate(self, best: Path, device: torch.device) -> str:
        """Fit and store the calibration of a run that has ended.

        Args:
            best: the run's best checkpoint.
            device: where to compute.

        Returns:
            What became of it, in words; "" where the model's scores are not calibrated.
        """
        found = self._validation.calibration(_loaded(best, device), device)
        if found is None:
            return ""
        write_calibration(best, found)
        why = found.why_none
        return f"calibration: none ({why})" if why else f"calibration: {found.method}"


def _loaded(folder: Path, device: torch.device) -> nn.Module:
    """A checkpoint's model, with its encoders where they were trained too."""
    saved = checkpoints.load(folder)
    return saved.load_end_to_end(device) if saved.finetuned else saved.load_model(device)


def standardise(model: nn.Module, data: SegmentData, taken: Collection[str] = ()) -> None:
    """Fit `model.standardise` on the training segments' features, evenly some thousand of them.

    Args:
        model: whose FeatureFusion is fitted.
        data: the training segments.
        taken: names of weights that stay as they are.
    """
    fusion = getattr(model, "fusion", None)
    if not isinstance(fusion, FeatureFusion):
        return
    for part, values_SX, has_S in (
        ("visual", data.visual_SV, data.has_visual_S),
        ("text", data.text_ST, data.has_text_S),
    ):
        rows = torch.nonzero(has_S)[:, 0]
        rows = rows[:: 1 + len(rows) // _STANDARDISED_ROWS]
        if len(rows) and f"fusion.{part}.0.mean_D" not in taken:
            fusion.fit(part, values_SX[rows].float())


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


def _model(
    config: Config,
    spec: DataSpec,
    vocabulary: Vocabulary,
    saved: checkpoints.Checkpoint | None,
    init: InitFrom | None,
) -> tuple[nn.Module, dict[str, Any] | None]:
    """The saved model, or a fresh one; with its encoders where they are trained too.

    Returns:
        The model, and what was taken over from another run, if anything was.
    """
    finetune = config.train.finetune_encoders
    if finetune and not reads_content(config.model):
        raise InputError(
            f"train.finetune_encoders must be false with model.kind={config.model.kind} and "
            f"model.content={str(config.model.content).lower()}, which read no encoder's features"
        )
    if saved is not None:
        model = saved.load_end_to_end() if finetune else saved.load_model()
        return model, saved.info.get("init_from")
    torch.manual_seed(config.train.seed)
    model = build_model(config, spec, vocabulary)
    taken = None if init is None else take_over(model, init, config, spec, vocabulary)
    if not finetune:
        return model, taken
    if init is not None and init.checkpoint.finetuned:
        visual, text = init.checkpoint.load_encoders()
        return EndToEnd(model, visual, text), taken
    return _with_encoders(model, spec), taken


def _with_encoders(model: nn.Module, spec: DataSpec) -> nn.Module:
    visual = encoders.load_visual(spec.visual_encoder)
    text = encoders.load_text(
        spec.text_encoder,
        pooling=spec.text_pooling,
        prefix=spec.text_prefix,
        max_tokens=spec.max_text_tokens,
    )
    if not isinstance(visual, nn.Module) or not isinstance(text, nn.Module):
        raise InputError("train.finetune_encoders needs encoders that are torch modules")
    return EndToEnd(model, visual, text)
