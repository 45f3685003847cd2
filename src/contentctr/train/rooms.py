"""CTR of live rooms: windows of segments, validated by Kendall's tau (Sections 4.1.1 and 4.2)."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from contentctr.batch import IN_ROOM_SCALES, DataSpec, Vocabulary
from contentctr.config import Config
from contentctr.errors import InputError
from contentctr.files import file_sha256
from contentctr.metrics.average_precision import average_precision
from contentctr.metrics.ctr import kendall_tau, log_loss, mean_over_groups
from contentctr.models.registry import model_type, reads_content
from contentctr.score.calibration import Calibration, fit_calibration
from contentctr.score.rooms import score_segments
from contentctr.store.rooms import PreparedRooms
from contentctr.store.streamer_table import read_streamer_table
from contentctr.store.vectors import data_spec
from contentctr.train.task import Process, loader_settings
from contentctr.windows.rooms import WindowLoader, is_sample, require_windows, sample_windows
from contentctr.windows.segment_data import SegmentData, known_ids, load_segments


class RoomsTask:
    """Prepared and encoded rooms as a Task.

    Args:
        data: the folder; training rooms must be in it, validation rooms may be missing.
    """

    name = PreparedRooms.task
    score = "kendall_tau"

    def __init__(self, data: PreparedRooms) -> None:
        self.data, self.root = data, data.root
        if data.has_label_target():
            # Of 2 % of positives tau sees little but the order of the others, which is chance.
            self.score = "average_precision"
        elif data.manifest().get("target_scale") in IN_ROOM_SCALES:
            # Ranks inside rooms have no order between rooms; as `evaluate` has it (floors.py).
            self.score = "kendall_tau_in_rooms"

    def spec(self, config: Config) -> DataSpec:
        """As Task has it; fine-tuning needs the encoders' inputs."""
        return data_spec(self.data, inputs=config.train.finetune_encoders)

    def data_hash(self) -> str:
        """Of segments.parquet."""
        return file_sha256(self.root / "segments.parquet")

    def vocabulary(self, config: Config) -> tuple[Config, Vocabulary]:
        """Of the training rooms; an imported table of streamers brings its own, and its width.

        What the settings leave to the data (`model.prior`, `loss.positive_weight`) is decided.

        Raises:
            InputError: the table knows none of the streamers.
        """
        segments = self.data.segments(texts=False)
        vocabulary, config = known_ids(segments), _decided(config, segments)
        table = config.model.streamer_table
        if not (table and model_type(config.model.kind).imports_streamers):
            return config, vocabulary
        return _imported(config, vocabulary, Path(table))

    def load(
        self, config: Config, vocabulary: Vocabulary, process: Process
    ) -> tuple[WindowLoader, Validation]:
        """As Task has it."""
        finetune = config.train.finetune_encoders
        content = reads_content(config.model)
        train_data, held_out = (
            load_segments(
                self.data,
                vocabulary,
                split=split,
                horizon=config.data.horizon,
                inputs=finetune,
                content=content,
                model=config.model,
                same_segment=config.ids.same_segment,
            )
            for split in ("train", "val")
        )
        target = self.data.manifest()["target"]
        windows = sample_windows(train_data, config.data, target)
        require_windows(windows, train_data, config.data, f"{self.root}, split train")
        loader = WindowLoader(
            data=train_data,
            windows=windows,
            hide_streamers=config.train.hide_streamers,
            hide_rooms=config.train.hide_rooms,
            block=config.train.block,
            **loader_settings(config, process),
        )
        return loader, Validation(held_out, config, target, self.score)


@dataclass(frozen=True)
class Validation:
    """Kendall's tau and log loss over the validation samples, and what chooses the best epoch."""

    data: SegmentData
    config: Config
    target: str
    score: str = "kendall_tau"
    """As Task has it."""

    def __call__(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """The metrics; nothing where tau is undefined."""
        if self._samples().sum() < 2:
            return {}
        scores, targets = self._scored(model, device)
        tau = kendall_tau(scores, targets)
        if math.isnan(tau):
            return {}
        found = {"kendall_tau": tau, "point": log_loss(scores, targets)}
        if self.score == "average_precision":
            # Defined where tau is: the targets are not all 0, nor the scores all one.
            found["average_precision"] = average_precision(targets > 0, scores)
        elif self.score == "kendall_tau_in_rooms":
            inside = mean_over_groups(kendall_tau, scores, targets, self._room_of_samples())
            if not inside.defined:
                return {}
            found["kendall_tau_in_rooms"] = inside.mean
        return found

    def calibration(self, model: nn.Module, device: torch.device) -> Calibration:
        """What is fitted on the validation samples, room by room."""
        return fit_calibration(*self._scored(model, device), self._room_of_samples())

    def _room_of_samples(self) -> NDArray[Any]:
        return self.data.table["room_id"].to_numpy()[self._samples()]

    def _samples(self) -> NDArray[np.bool_]:
        return is_sample(self.data, self.config.data, self.target)

    def _scored(
        self, model: nn.Module, device: torch.device
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores and targets of the samples."""
        sample_S, config = self._samples(), self.config
        if not sample_S.any():
            return np.empty(0), np.empty(0)
        scores_S = score_segments(
            model,
            self.data,
            window_len=config.data.window_len,
            batch_size=config.train.batch_size,
            device=device,
        )
        return scores_S[sample_S], self.data.target_S.numpy()[sample_S].astype(np.float64)


def _decided(config: Config, segments: pl.DataFrame) -> Config:
    """The settings with the training segments' mean target where they ask for it."""
    if config.model.prior != 0 and config.loss.positive_weight != 0:
        return config
    known = segments.filter(pl.col("split") == "train")["target"].drop_nulls()
    # Targets that are all alike have no odds; so little of the other kind is not told from none.
    mean = min(max(float(known.to_numpy().mean()) if len(known) else 0.5, 1e-4), 1 - 1e-4)
    model, loss = config.model, config.loss
    if model.prior == 0:
        model = dataclasses.replace(model, prior=mean)
    if loss.positive_weight == 0:
        # Even parts make a handful of segments all that counts, which are learned by heart.
        loss = dataclasses.replace(loss, positive_weight=math.sqrt((1 - mean) / mean))
    return dataclasses.replace(config, model=model, loss=loss)


def _imported(config: Config, known: Vocabulary, table: Path) -> tuple[Config, Vocabulary]:
    """The table's streamers in place of the rooms'."""
    streamers, vectors_UE = read_streamer_table(table)
    missing = sorted(set(known.streamers) - set(streamers))
    if len(missing) == len(known.streamers):
        raise InputError(
            f"{table}: must hold streamers of the training rooms; it has none of the "
            f"{len(missing)}, such as {missing[:1]}"
        )
    if missing:
        warnings.warn(
            f"{table}: {len(missing)} of the {len(known.streamers)} streamers of the training "
            f"rooms are not in it and count as unknown, such as {missing[0]!r}",
            stacklevel=2,
        )
    vocabulary = dataclasses.replace(known, streamers=streamers, vectors_UE=vectors_UE)
    model = dataclasses.replace(config.model, streamer_dim=vectors_UE.shape[1])
    return dataclasses.replace(config, model=model), vocabulary
